"""capture-report.html: one file with its pictures in it, to be looked at and sent to whoever took the photos."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from html import escape

import numpy as np
from PIL import Image

from ..scene.capture import PinholeCapture
from ..scene.coverage import seen_from_above
from ..scene.improvements import blurred, improvements, loose, uneven
from ..scene.photo_report import CaptureReport, PhotoReport
from ..scene.reporting import Reporter
from ..workspace.layout import Workspace
from .photos import UnreadablePhoto, decode

GENERATOR = '<meta name="generator" content="in2n_blender capture report">'
SIDE = 220  # pixels of a picture's longer side
MOST_SHOWN = 120  # photos; of more, those that stand out, and others evenly chosen
MAP_SIDE = 420
FAULTS: tuple[tuple[str, Callable[[PhotoReport], bool]], ...] = (
    ("blurred", blurred), ("exposed differently", uneven), ("hardly overlaps", loose),
)  # fmt: skip

STYLE = """
:root { color-scheme: light dark; --ink: #1d2126; --quiet: #68707a; --paper: #f6f6f4; --card: #fff; --line: #dcdcd8;
  --bad: #c2410c; --good: #2f6f4f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e3; --quiet: #9aa2ab; --paper: #1b1d20; --card: #26292d;
  --line: #3a3e44; --bad: #fb923c; --good: #7fc8a0; } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 1180px; padding: 32px 24px 64px; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 26px; margin: 0 0 4px } h2 { font-size: 18px; margin: 40px 0 12px }
p.quiet { color: var(--quiet); margin: 0 }
ol { padding: 16px 16px 16px 40px; background: var(--card); border: 1px solid var(--line); border-radius: 8px }
ol li + li { margin-top: 6px }
.two { display: flex; flex-wrap: wrap; gap: 32px; align-items: flex-start }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; flex: 1 1 380px }
td { padding: 5px 12px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top } td + td { text-align: right }
svg { background: var(--card); border: 1px solid var(--line); border-radius: 8px; max-width: 100% }
svg .point { fill: var(--quiet); opacity: .45 } svg .even { fill: var(--good) } svg .odd { fill: var(--bad) }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(170px, 1fr)); gap: 14px }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px; overflow: hidden }
figure.bad { border-color: var(--bad) }
img { display: block; width: 100%; height: 130px; object-fit: contain; background: #0002 }
figcaption { padding: 6px 9px 8px; font-size: 12.5px; line-height: 1.4; color: var(--quiet); overflow-wrap: anywhere }
figcaption b { color: var(--ink); font-weight: 600 } figcaption em { color: var(--bad); font-style: normal }
"""


def page(workspace: Workspace, capture: PinholeCapture, found: CaptureReport, report: Reporter) -> str:
    """The report as a page of HTML.

    Args:
        workspace: Where the capture is.
        capture: As it is there.
        found: Its report.
        report: Told of every picture, and asked whether the job was cancelled.

    Returns:
        The text of the file, which needs no other.

    Raises:
        In2nError: "bad_capture" for an image that lies outside the workspace.
        Cancelled: Between two pictures.
    """
    title = escape(f"Capture “{capture.name}”")
    lines = "".join(f"<li>{escape(line)}</li>" for line in improvements(found))
    facts = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in facts_of(found, capture)
    )
    shown = chosen(found)
    pictures = []
    for number, name in enumerate(shown):
        report.progress(number, len(shown), "photos", "Writing the capture's report")
        view = next(view for view in capture.views if view.name == name)
        pictures.append(_figure(name, found.photos[name], _picture(workspace.photo(view.image))))
    all_of = "" if len(shown) == len(found.photos) else f" ({len(shown)} of {len(found.photos)})"
    left_out = "".join(f"<li>{escape(name)}</li>" for name in found.left_out[:MOST_SHOWN])
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">{GENERATOR}'
        f'<meta name="viewport" content="width=device-width"><title>{title}</title><style>{STYLE}</style></head><body>'
        f'<h1>{title}</h1><p class="quiet">{escape(capture.source)}</p>'
        f"<h2>What would improve it</h2><ol>{lines}</ol>"
        f'<h2>In numbers</h2><div class="two"><table>{facts}</table>{_map(capture, found)}</div>'
        f'<h2>Photos{all_of}</h2><div class="grid">{"".join(pictures)}</div>'
        + (f"<h2>Not used</h2><ul>{left_out}</ul>" if left_out else "")
        + "</body></html>\n"
    )


def facts_of(found: CaptureReport, capture: PinholeCapture) -> list[tuple[str, str]]:
    """What is known of a capture.

    Args:
        found: Its report.
        capture: The capture.

    Returns:
        Names and values, as text.
    """
    photos, coverage = found.photos.values(), found.coverage
    spread = found.exposure_spread
    facts = [
        ("Photos used", f"{len(photos)}"),
        ("Left out", f"{len(found.left_out)}"),
        ("Sparse points", f"{len(capture.points):,}" if found.has_points else "none: by the cameras alone"),
        ("Overlap with the nearest photos", f"{found.median('overlap'):.0%}"),
        ("Parallax", f"{found.median('parallax_degrees'):.1f}°"),
        ("Covered, as seen from above", f"{coverage.covered_degrees:.0f}°"),
    ]
    if coverage.inward:
        facts.append(("Between the lowest and the highest", f"{coverage.heights_degrees:.0f}°"))
    facts.append(("Exposure spread", "not known" if spread is None else f"{spread:.2f} stops"))
    if any(photo.sharpness is not None for photo in photos):
        facts.append(("Blurred photos", f"{sum(map(blurred, photos))}"))
    return facts


def chosen(found: CaptureReport) -> list[str]:
    """The photos that are shown: those that stand out first.

    Args:
        found: The capture's report.

    Returns:
        At most MOST_SHOWN names.
    """
    odd = [name for name, photo in found.photos.items() if faults(photo)]
    even = [name for name in found.photos if name not in set(odd)]
    left = max(MOST_SHOWN - len(odd), 0)
    if len(even) > left:
        even = [even[i * len(even) // left] for i in range(left)]
    return (odd + even)[:MOST_SHOWN]


def faults(photo: PhotoReport) -> list[str]:
    """What is wrong with a photo, a word or two each."""
    return [called for called, is_so in FAULTS if is_so(photo)]


def _figure(name: str, photo: PhotoReport, picture: str) -> str:
    wrong = faults(photo)
    numbers = [f"overlap {photo.overlap:.0%}", f"parallax {photo.parallax_degrees:.0f}°"]
    if photo.sharpness is not None:
        numbers.append(f"sharpness {photo.sharpness:.2f}")
    if photo.exposure_ev is not None:
        numbers.append(f"{photo.exposure_ev:+.2f} stops")
    marks = f"<br><em>{escape(', '.join(wrong))}</em>" if wrong else ""
    return (
        f'<figure{" class=bad" if wrong else ""}><img alt="" src="{picture}">'
        f"<figcaption><b>{escape(name)}</b><br>{escape(' · '.join(numbers))}{marks}</figcaption></figure>"
    )


def _picture(file) -> str:
    """A photo as the address of a small JPEG; an empty one where it cannot be read."""
    try:
        image = decode(file)
    except UnreadablePhoto:
        return "data:,"
    if image.shape[2] == 4:
        alpha = image[..., 3:].astype(np.float32) / 255
        image = np.round(image[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    small = Image.fromarray(image)
    small.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    data = io.BytesIO()
    small.save(data, "JPEG", quality=72)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode("ascii")


def _map(capture: PinholeCapture, found: CaptureReport) -> str:
    """Cameras and points from above, as SVG."""
    cameras = [view.camera for view in capture.views]
    points = capture.points[:: max(1, len(capture.points) // 1500)]
    positions, axes, dots = seen_from_above(cameras, points)
    middle = np.median(positions, 0)
    reach = 1.25 * float(np.percentile(np.abs(positions - middle).max(1), 98)) or 1.0
    scale = MAP_SIDE / 2 / reach

    def place(at: np.ndarray) -> np.ndarray:
        return np.clip((at - middle) * [scale, -scale] + MAP_SIDE / 2, -9, MAP_SIDE + 9)

    parts = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1" class="point"/>' for x, y in place(dots).tolist()]
    for view, (x, y), (dx, dy) in zip(capture.views, place(positions).tolist(), axes.tolist()):
        kind = "odd" if faults(found.photos[view.name]) else "even"
        left = (x + 13 * dx - 5 * dy, y - 13 * dy - 5 * dx)
        right = (x + 13 * dx + 5 * dy, y - 13 * dy + 5 * dx)
        parts.append(
            f'<path d="M{x:.1f} {y:.1f}L{left[0]:.1f} {left[1]:.1f}L{right[0]:.1f} {right[1]:.1f}Z" class="{kind}">'
            f"<title>{escape(view.name)}</title></path>"
        )
    return (
        f'<svg width="{MAP_SIDE}" height="{MAP_SIDE}" viewBox="0 0 {MAP_SIDE} {MAP_SIDE}" role="img" '
        f'aria-label="The cameras from above">{"".join(parts)}</svg>'
    )
