"""Photos that differ by how they were taken, as the capture's report measured it: brighter ones, and blurred ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...scene.capture import PinholeCapture, View
from ...scene.photo_report import CaptureReport, PhotoReport
from ...scene.photo_signals import PhotoSignals
from ...scene.reporting import Reporter
from ...workspace.layout import Workspace
from ...workspace.reported import capture_report
from ..capture_report import measure_again

# Stops between the darkest and the brightest photos, from which on they are made even. Where photos were all taken
# alike up to 0.18 was measured, since surfaces look brighter from some sides.
UNEVEN_STOPS = 0.4
# Of the differences at the same points, how much may be left for exposure to be what they come from. Where light falls
# on surfaces unevenly or they shine, more is left, and the field learns that by itself.
LEFT = 0.6
BLURRED = 0.75  # sharpness, below which a photo counts less
LEAST_IMPORTANCE = 0.05


def measured_light(workspace: Workspace, capture: PinholeCapture, report: Reporter) -> dict[str, tuple[float, ...]]:
    """How much brighter each photo is than the others, if they differ enough for it to be seen.

    Args:
        workspace: With the capture's report.
        capture: As it is there.
        report: Told that photos are made even.

    Returns:
        By a view's name, stops of red, green and blue, as `photos.evened` takes them; none where all are alike, where
        exposure is not what they differ by, or nothing was measured.

    Raises:
        In2nError: "missing_file", "bad_image", "bad_capture".
        Cancelled: Between two photos.
    """
    found = capture_report(workspace)
    spread = _spread(found) if found else 0.0
    if spread < UNEVEN_STOPS:
        return {}
    measured = {view.name: _stops(found.photos[view.name]) for view in capture.views if view.name in found.photos}
    light = {name: stops for name, stops in measured.items() if stops is not None}
    signals = measure_again(workspace, capture, report).of(capture)
    if disagreement(signals, [light.get(view.name) for view in capture.views]) > LEFT * disagreement(signals):
        return {}
    report.log(f"The photos differ by {spread:.1f} stops in brightness or colour, which is evened out.")
    return light


def disagreement(signals: Sequence[PhotoSignals], light: Sequence[Sequence[float] | None] | None = None) -> float:
    """How differently bright photos show the same points.

    Args:
        signals: What was measured in each photo.
        light: The stops of red, green and blue that are taken from each photo's; None: nothing is.

    Returns:
        The median over all sightings of the stops between a point in a photo and its median over all photos.
    """
    count = 1 + max((int(one.points.max()) for one in signals if len(one.points)), default=0)
    seen = np.full((len(signals), count), np.nan, np.float32)
    for row, one, stops in zip(seen, signals, light or [None] * len(signals)):
        row[one.points] = (one.light - (np.zeros(3) if stops is None else np.array(stops))).mean(1)
    seen = seen[:, np.isfinite(seen).sum(0) > 1]
    return float(np.nanmedian(np.abs(seen - np.nanmedian(seen, 0)))) if seen.size else 0.0


def _spread(found: CaptureReport) -> float:
    """Of brightness or of a colour against green, whichever is larger."""
    known = np.array([stops for photo in found.photos.values() if (stops := _stops(photo)) is not None])
    return float(np.ptp(np.percentile(known, (5, 95), axis=0), axis=0).max()) if len(known) > 1 else 0.0


def _stops(photo: PhotoReport) -> tuple[float, float, float] | None:
    """Of red, green and blue, whose mean is the photo's exposure."""
    if photo.exposure_ev is None or photo.balance_ev is None:
        return None
    red, blue = photo.balance_ev
    green = photo.exposure_ev - (red + blue) / 3
    return green + red, green, green + blue


def importance_of(workspace: Workspace, views: Sequence[View], report: Reporter) -> np.ndarray | None:
    """How much each photo's pixels count: a blurred one tells less of what is where, and would blur the others.

    Args:
        workspace: With the capture's report.
        views: Some of its capture's.
        report: Told which photos count less.

    Returns:
        (views,) float32 in (0, 1], the square of the sharpness where that is below BLURRED; None where all count alike.
    """
    found = capture_report(workspace)
    sharpness = np.array([_sharpness(found, view) for view in views], np.float32)
    blurred = sharpness < BLURRED
    if not blurred.any() or blurred.mean() > 0.5:  # if most are, they are what there is
        return None
    count = int(blurred.sum())
    which = (
        "1 photo, more blurred than the others, counts"
        if count == 1
        else (f"{count} photos, more blurred than the others, count")
    )
    report.log(f"{which} less.")
    return np.where(blurred, np.maximum(sharpness**2, LEAST_IMPORTANCE), 1.0).astype(np.float32)


def _sharpness(found: CaptureReport | None, view: View) -> float:
    photo = found.photos.get(view.name) if found else None
    return 1.0 if photo is None or photo.sharpness is None else photo.sharpness
