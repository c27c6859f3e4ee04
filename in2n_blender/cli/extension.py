"""Building the extension: one zip a platform, made and checked by Blender's own tool, and the index that makes a folder
of them a repository.

The tool is `blender_ext.py`, a plain program inside the bpy wheel. It wants the manifest beside `__init__.py`, so the
package is copied into a folder of its own first, together with uv's wheels, whose names and hashes are locked in
`environment/engine_versions.json`. Fetched wheels are kept in the checkout's `wheels/` and checked again at every
build.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import tomllib
from pathlib import Path

from ..environment import uv_wheels
from ..scene.errors import In2nError
from ..scene.reporting import Reporter
from ..workspace.files import read_json, write_error
from .programs import Work
from .wheels import fetch_wheel

PACKAGE = Path(__file__).resolve().parents[1]
CHECKOUT = PACKAGE.parent
MANIFEST = "blender_manifest.toml"
ONLY_IN_CHECKOUT = {"testbed"}  # it makes truth to measure by, which an artist's Blender has no use for
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", ".*", "*~", "*.orig", "*.rej", "*.blend[1-9]")


def platforms() -> tuple[str, ...]:
    """The platforms that zips can be built for, as Blender's manifest names them."""
    return tuple(uv_wheels())


def build(
    out: Path | str, python: Path | str, report: Reporter | None = None, chosen=None, checkout: Path = CHECKOUT
) -> list[Path]:
    """Build one zip a platform, and the index that makes their folder a repository.

    Args:
        out: The folder. What an earlier build left there is replaced, once every new zip is built and valid.
        python: An interpreter with the bpy wheel.
        report: Told of progress in steps.
        chosen: The platforms; all unless given.
        checkout: The project's folder.

    Returns:
        The zips.

    Raises:
        In2nError: "no_checkout", "not_ours", "no_blender_tool", "refused", and what `fetch_wheel` raises.
        Cancelled: What an earlier build left is as before.
    """
    check_checkout(checkout)
    report, chosen, out = report or Reporter(), tuple(chosen or platforms()), Path(out)
    refuse_other_index(out / "index.json")
    work = Work(report, steps=3 * len(chosen) + 3)
    program = find_tool(python, work)
    # The tags that extensions.blender.org knows.
    tags = ["--valid-tags", str(program.parents[3] / "modules" / "_bpy_internal" / "extensions" / "tags.py")]
    tool = [str(python), "-I", str(program)]
    wheels = {platform: fetch_wheel(platform, checkout / "wheels", python, work) for platform in chosen}
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".build-") as folder:
            staged, built = Path(folder, "staged"), Path(folder, "built")
            work.step("staging the package")
            stage(checkout, staged, wheels)
            built.mkdir()
            folders = ["--source-dir", str(staged), "--output-dir", str(built)]
            _blender_tool(
                work,
                [*tool, "build", "--split-platforms", *tags, *folders],
                lambda line: "building" in line and work.step(line),
            )
            zips = sorted(built.glob("*.zip"))
            for file in zips:
                work.step(f"validating {file.name}")
                _blender_tool(work, [*tool, "validate", *tags, str(file)])
            name = tomllib.loads((staged / MANIFEST).read_text(encoding="utf-8"))["id"]
            for old in out.glob(f"{name}-*.zip"):
                old.unlink()
            zips = [file.replace(out / file.name) for file in zips]
    except OSError as error:
        raise write_error(out, error) from error
    work.step("writing index.json")
    _blender_tool(work, [*tool, "server-generate", "--repo-dir", str(out)])
    work.step("done")
    return zips


def refuse_other_index(file: Path) -> None:
    """Refuse to overwrite an index.json that is no repository's of extensions.

    Args:
        file: The index; need not exist.

    Raises:
        In2nError: "not_ours".
    """
    if not os.path.lexists(file):
        return
    try:
        found = read_json(file)
    except (In2nError, OSError):
        found = None
    if not isinstance(found, dict) or not {"version", "blocklist", "data"} <= set(found):
        raise In2nError(
            "not_ours",
            f"{file} is not the index of a repository of extensions and would be overwritten.",
            "Choose another folder with --out, or move that file away.",
        )


def check_checkout(checkout: Path = CHECKOUT) -> None:
    """Check that the project is there as a checkout, not installed in Blender.

    Args:
        checkout: The project's folder.

    Raises:
        In2nError: "no_checkout".
    """
    if not (checkout / MANIFEST).exists():
        raise In2nError(
            "no_checkout",
            f"There is no {MANIFEST} in {checkout}.",
            "The extension is built from a checkout of the project.",
        )


def find_tool(python: Path | str, work: Work) -> Path:
    """Blender's tool inside an interpreter's bpy wheel; bpy itself is not imported.

    Args:
        python: The interpreter.
        work: Runs it, and is not told a step.

    Returns:
        The tool's program, blender_ext.py.

    Raises:
        In2nError: "no_blender_tool".
        Cancelled: Within a second of being cancelled.
    """
    script = (
        "import importlib.util as u; s = u.find_spec('bpy'); print(*(s.submodule_search_locations or [] if s else []))"
    )
    ended = work.run([str(python), "-I", "-c", script])
    tools = (
        sorted(Path(ended.lines[-1]).glob("*/scripts/addons_core/bl_pkg/cli/blender_ext.py"))
        if ended.ok and ended.lines
        else []
    )
    if not tools:
        raise In2nError(
            "no_blender_tool",
            f"{python} has no bpy wheel, which brings Blender's tool for building extensions.",
            "Install it: python3 -m in2n_blender install --groups blender",
        )
    return tools[-1]


def stage(checkout: Path, folder: Path, wheels: dict[str, Path]) -> None:
    """Lay out the extension as Blender wants it.

    Args:
        checkout: The project's folder.
        folder: Made, with the extension in it.
        wheels: Platform -> uv's wheel for it.
    """
    shutil.copytree(checkout / PACKAGE.name, folder, ignore=_left_out)
    for name in ("LICENSE", "README.md"):  # the second is the documentation where the manifest names no website
        if (checkout / name).is_file():
            shutil.copy2(checkout / name, folder)
    (folder / "wheels").mkdir()
    for wheel in wheels.values():
        shutil.copy2(wheel, folder / "wheels")
    manifest = (checkout / MANIFEST).read_text(encoding="utf-8")
    # before the first table, so that the keys are the manifest's own; platforms and file names hold no quotes
    generated = (
        f"platforms = {_toml_list(wheels)}\nwheels = "
        f"{_toml_list(f'./wheels/{wheel.name}' for wheel in wheels.values())}\n"
    )
    (folder / MANIFEST).write_text(generated + manifest, encoding="utf-8")


def _left_out(folder: str, names: list[str]) -> set[str]:
    top = ONLY_IN_CHECKOUT & set(names) if Path(folder).name == PACKAGE.name else set()
    return LEFT_OUT(folder, names) | top


def _toml_list(texts) -> str:
    return "[" + ", ".join(f'"{text}"' for text in texts) + "]"


def _blender_tool(work: Work, command: list[str], on_line=lambda line: None) -> None:
    """Run Blender's tool. Raises In2nError("refused") with what it said, warnings included: a build that warns is not
    for others."""
    ended = work.run(command, on_line)
    complaints = [line for line in ended.lines if line.startswith(("WARN", "ERROR", "FATAL_ERROR"))] or (
        [] if ended.ok else ended.lines[-5:]
    )
    if complaints:
        raise In2nError(
            "refused",
            f"Blender's tool refuses the extension: {' '.join(complaints)}",
            f"Mend {MANIFEST} or what it names.",
        )
