"""What `gpu` measured, as a table to be read, and what it is held to."""

from __future__ import annotations

# (what, where in the result's parts, its target, whether more is better); of an H100 where the target is a speed
TARGETS = (
    ("demo, dB after 10 s", ("training", "psnr_after_10_s", "db"), 31.0, True),
    ("a capture, dB after 15 s", ("capture", "psnr_after_15_s", "db"), 28.0, True),
    ("training rays a second", ("training", "rays_a_second"), 2e6, True),
    ("frames of 960 x 540 a second", ("rendering", "frames_a_second"), 60.0, True),
    ("InstructPix2Pix beside a reconstruction, MB", ("pix2pix", "beside_a_reconstruction_mb"), 8192, False),
    ("FLUX.2 klein offloaded, MB", ("klein", "offloaded", "edit_mb"), 12288, False),
    ("tests that failed", ("tests", "failed_tests"), 0, False),
)


def at(parts: dict, keys: tuple[str, ...]) -> float | None:
    """A number of a result.

    Args:
        parts: by name.
        keys: one after another.

    Returns:
        None where it was not measured.
    """
    found = parts
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, int | float) and not isinstance(found, bool) else None


def table(result: dict) -> str:
    """Markdown: the targets, then every number of every part.

    Args:
        result: as result.json holds it.

    Returns:
        The text; "not measured" where a number is missing.
    """
    parts = result["parts"]
    name = parts.get("machine", {}).get("name", result["device"])
    lines = [f"# {name}, {result.get('seconds', 0):.0f} s{' (tiny: the sizes mean nothing)' if result['tiny'] else ''}"]
    if "skipped" in result:
        return "\n".join([*lines, "", f"Skipped: {result['skipped']}.", ""])
    lines += ["", "| target | bar | value | |", "|---|--:|--:|---|"]
    for what, keys, target, more in TARGETS:
        value = at(parts, keys)
        held = (
            "not measured" if value is None else "holds" if (value >= target if more else value <= target) else "missed"
        )
        shown = "" if value is None else f"{value:,.6g}"
        lines.append(f"| {what} | {'≥' if more else '≤'} {target:,.6g} | {shown} | {held} |")
    for part, found in parts.items():
        lines += ["", f"## {part}", "", *_numbers(found)]
    return "\n".join([*lines, ""])


def _numbers(found: dict, before: str = "") -> list[str]:
    lines = []
    for key, value in found.items():
        if isinstance(value, dict):
            lines += _numbers(value, f"{before}{key}: ")
        else:
            lines.append(f"- {before}{key}: {value}")
    return lines
