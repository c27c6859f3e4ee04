"""Sparse points from depth that came with a capture: what a phone's LiDAR measured, or what was rendered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..scene.capture import MAXIMUM_POINTS, DepthMap, Frame, PinholeCapture, View
from ..scene.lens import EQUIRECTANGULAR, directions_of
from ..scene.reporting import Reporter
from ..scene.tracks import Tracks
from ..scene.visibility import in_picture
from .depth_files import one_channel
from .pictures import BROKEN, opened

MOST_PHOTOS = 500  # evenly chosen from more
LEAST_A_PHOTO = 50
# Beside an edge a phone measures something between what is before it and what is behind: where depth changes by more
# than this share from a pixel to the next, it is not believed.
STEEPEST = 0.05


def has_depth(frames: tuple[Frame, ...]) -> bool:
    """Whether any photo came with its depth.

    Args:
        frames: As their reader returned them.
    """
    return any(_usable(frame) for frame in frames)


def _usable(frame: Frame) -> bool:
    return frame.depth is not None and frame.orientation == 1 and frame.lens.model != EQUIRECTANGULAR


def with_measured_points(
    capture: PinholeCapture, frames: tuple[Frame, ...], folder: Path, report: Reporter
) -> PinholeCapture:
    """The capture with points that the depths of its training photos say, beside those that it has.

    Args:
        capture: With the views that could be imported.
        frames: As their reader returned them.
        folder: Where the views' images are.
        report: Told of every photo, and which depths cannot be used.

    Returns:
        The very same capture where no photo has depth.

    Raises:
        Cancelled: Between two photos.
    """
    by_name = {frame.name: frame for frame in frames if _usable(frame)}
    views = [view for view in capture.training_views if view.name in by_name]
    views = views[:: -(-len(views) // MOST_PHOTOS)] if views else []
    room = MAXIMUM_POINTS - len(capture.points)
    if not views or room < LEAST_A_PHOTO:
        return capture
    found, seen_in, unreadable, random = [], [], [], np.random.default_rng(0)
    for number, view in enumerate(views):
        report.progress(number, len(views), "photos", "Reading depths")
        try:
            found.append(_points_of(by_name[view.name], view, folder, room // len(views), random))
            seen_in.append(view.name)
        except BROKEN as error:
            unreadable.append(f"{by_name[view.name].depth.path.name} ({error})")
    if unreadable:
        report.log(f"{len(unreadable)} depths cannot be read, for instance {unreadable[0]}.")
    points, colors = (np.concatenate(values) for values in zip(*found)) if found else (np.zeros((0, 3)),) * 2
    if not len(points):
        return capture
    photos = "1 photo" if len(found) == 1 else f"{len(found)} photos"
    report.log(f"{len(points)} points come from the depth that was measured with {photos}.")
    return replace(
        capture,
        points=np.concatenate([capture.points, points.astype(np.float32)]),
        point_colors=np.concatenate([capture.point_colors, colors.astype(np.uint8)]),
        tracks=_tracks(capture, [len(values) for values, _ in found], seen_in),
    )


def _tracks(capture: PinholeCapture, counts: list[int], seen_in: list[str]) -> Tracks | None:
    """Each of the measured points is seen by the photo that it was measured with; None where it is not known which see
    those that were there before."""
    if len(capture.points) and capture.tracks is None:
        return None
    numbers = {view.name: number for number, view in enumerate(capture.views)}
    photos = np.repeat([numbers[name] for name in seen_in], counts)
    measured = Tracks(np.ones(len(photos), np.int64), photos, np.full(len(photos), np.nan, np.float32))
    return (capture.tracks or Tracks()).followed_by(measured)


def _points_of(
    frame: Frame, view: View, folder: Path, most: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3) relative to the capture's offset, and (n, 3) colours, of pixels whose depth is believed."""
    depth = believed_depth(frame.depth)
    height, width = depth.shape
    lens = frame.lens
    if not lens.intrinsics.has_shape(width, height):
        raise ValueError(f"{width} x {height} pixels are of another shape than the photo")
    row, column = np.nonzero(depth > 0)
    chosen = random.permutation(len(row))[: max(most, LEAST_A_PHOTO)]
    row, column = row[chosen], column[chosen]
    directions = directions_of(lens.scaled_to(width, height), np.stack([column + 0.5, row + 0.5], 1))
    local = np.concatenate([directions * [1, -1], -np.ones((len(row), 1))], 1) * depth[row, column][:, None]
    pose = view.camera.camera_to_world
    points = local @ pose[:3, :3].T + pose[:3, 3]
    inside, pixels, _ = in_picture(view.camera, points)
    with opened(folder / view.image) as picture:
        image = np.asarray(picture.convert("RGB"))
    at = pixels.astype(np.int64)
    return points[inside], image[at[:, 1], at[:, 0]]


def believed_depth(depth: DepthMap) -> np.ndarray:
    """Depth in the capture's units, 0 where nothing was measured or it is not believed.

    Args:
        depth: Its files.

    Returns:
        (height, width) float64.

    Raises:
        OSError, ValueError, SyntaxError and others of `pictures.BROKEN`: A file is broken, or no picture of one
            channel, or the confidence is of another size.
    """
    values = one_channel(depth.path, depth.shape) * depth.unit
    values[~np.isfinite(values) | (values < 0)] = 0
    if depth.confidence is not None:
        sure = one_channel(depth.confidence, depth.shape)
        if sure.shape != values.shape:
            raise ValueError("depth and confidence are of different sizes")
        values[sure < depth.least_confidence] = 0
    steep = np.zeros(values.shape, bool)
    for axis in (0, 1):
        before, after = ((slice(None),) * axis + (part,) for part in (slice(None, -1), slice(1, None)))
        one, next_ = values[before], values[after]
        step = np.abs(next_ - one) > STEEPEST * np.minimum(one, next_)
        steep[before] |= step
        steep[after] |= step
    values[steep] = 0
    return values
