"""Sparse points for captures that came with cameras but without points: matched features, seen from known cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
from PIL import Image

from ...scene.camera import Intrinsics
from ...scene.capture import MAXIMUM_POINTS, Frame, PinholeCapture
from ...scene.lens import directions_of, pinhole_for
from ...scene.readers.poses import OPENGL_FROM_OPENCV
from ...scene.reporting import Reporter
from ...scene.tracks import Tracks
from ..known_photos import KnownPhoto
from .colmap import extract_features, match_pairs, opened_database, run_colmap, tracks_of

MOST_FEATURES = 3000
NEIGHBOURS = 10  # photos that each is compared with
WIDEST_ANGLE = 75.0  # degrees between the directions of photos that are compared
MOST_ERROR = 2.0  # pixels
LEAST_VIEWS = 3  # that see a point
NOTHING = np.zeros((0, 3)), np.zeros((0, 3), np.uint8), Tracks()


def with_points(
    capture: PinholeCapture, frames: tuple[Frame, ...], small: dict[str, Path], reporter: Reporter
) -> PinholeCapture:
    """The capture with points found in its photos.

    Args:
        capture: With the views that could be imported.
        frames: As its reader returned them.
        small: Of `small_pictures`; in its folder are only these.
        reporter: Told of every photo and pair, and asked whether the job was cancelled.

    Returns:
        The very same capture where it has points, or not more are found than it has.

    Raises:
        In2nError: As `opened_database`.
        Cancelled.
    """
    lenses = {frame.name: frame.lens for frame in frames}
    views = [view for view in capture.training_views if view.name in small and small[view.name].is_file()]
    names = [view.name for view in views]
    known = [KnownPhoto(small[view.name], lenses[view.name], view.camera.camera_to_world) for view in views]
    if len(known) < 3:
        return capture
    points, colors, tracks = triangulate(known, known[0].picture.parent, reporter)
    if len(points) <= len(capture.points):
        return capture
    numbers = {view.name: number for number, view in enumerate(capture.views)}
    tracks = tracks.with_photos(np.array([numbers[name] for name in names], np.int64))
    chosen = np.sort(np.random.default_rng(0).permutation(len(points))[:MAXIMUM_POINTS])
    reporter.log(f"The capture came without points: {len(chosen)} were found in its photos.")
    points = points[chosen].astype(np.float32)
    return replace(capture, points=points, point_colors=colors[chosen], tracks=tracks.of_points(chosen))


def triangulate(photos: Sequence[KnownPhoto], folder: Path, report: Reporter) -> tuple[np.ndarray, np.ndarray, Tracks]:
    """Points that at least three photos see.

    Args:
        photos: At least two.
        folder: Empty, for what is only needed in between; the pictures lie in it.
        report: Told of every photo and pair, and asked whether the job was cancelled.

    Returns:
        (p, 3) float64 in the coordinates of the cameras, (p, 3) uint8 colours, and which photos see them, by their
        numbers in `photos`.

    Raises:
        In2nError: As `opened_database`.
        Cancelled.
    """
    database = folder / "database.db"
    cameras = [_small_pinhole(photo) for photo in photos]
    with opened_database(database) as opened:
        for number, k in enumerate(cameras, 1):
            opened.write_camera(_colmap_camera(number, k), True)
    _find_features(photos, database, folder, report)
    images = _undistort_features(photos, cameras, database)
    if len(images) < LEAST_VIEWS:
        return NOTHING
    name = lambda number: photos[number].picture.name
    pairs = [(name(i), name(j)) for i, j in _pairs(photos, sorted(images))]
    match_pairs(database, pairs, folder, report)
    model = pycolmap.Reconstruction()
    for number, k in enumerate(cameras, 1):
        model.add_camera_with_trivial_rig(_colmap_camera(number, k))
    for number, image in images.items():
        world_to_camera = np.linalg.inv(photos[number].camera_to_world @ OPENGL_FROM_OPENCV)
        known = pycolmap.Image(name=photos[number].picture.name, camera_id=number + 1, image_id=image)
        model.add_image_with_trivial_frame(known, pycolmap.Rigid3d(world_to_camera[:3]))
    found: list = []
    run_colmap(
        lambda token: found.append(
            pycolmap.triangulate_points(model, database, folder, folder, cancellation_token=token)
        ),
        report,
    )
    kept = [p for p in found[0].points3D.values() if p.track.length() >= LEAST_VIEWS and p.error <= MOST_ERROR]
    if not kept:
        return NOTHING
    tracks = tracks_of(kept, {image: number for number, image in images.items()})
    return np.array([p.xyz for p in kept]), np.array([p.color for p in kept], np.uint8), tracks


def _small_pinhole(photo: KnownPhoto) -> Intrinsics:
    k = pinhole_for(photo.lens)
    with Image.open(photo.picture) as picture:
        return k.scaled_to(*picture.size)


def _colmap_camera(number: int, k: Intrinsics) -> pycolmap.Camera:
    parameters = [k.fx, k.fy, k.cx, k.cy]
    return pycolmap.Camera(model="PINHOLE", width=k.width, height=k.height, params=parameters, camera_id=number)


def _find_features(photos: Sequence[KnownPhoto], database: Path, folder: Path, report: Reporter) -> None:
    for number, photo in enumerate(photos, 1):
        report.progress(number - 1, len(photos), "photos", "Looking for features")
        extract_features(database, folder, [photo.picture.name], number, MOST_FEATURES, report)


def _undistort_features(photos: Sequence[KnownPhoto], cameras: list[Intrinsics], database: Path) -> dict[int, int]:
    """Features move to where the pinhole camera of their photo would see them.

    Returns:
        COLMAP's number of every photo that has features.
    """
    images = {}
    with opened_database(database) as opened:
        numbers = {image.name: image.image_id for image in opened.read_all_images()}
        for number, (photo, k) in enumerate(zip(photos, cameras)):
            image = numbers.get(photo.picture.name)
            if image is None or not opened.num_keypoints_for_image(image):
                continue
            images[number] = image
            if photo.lens.is_square_pinhole:
                continue
            features = np.array(opened.read_keypoints(image))
            lens = photo.lens.scaled_to(k.width, k.height)
            moved = directions_of(lens, features[:, :2]) * [k.fx, k.fy] + [k.cx, k.cy]
            # No place is far outside of every picture: what is there matches nothing.
            features[:, :2] = np.where(np.isfinite(moved), moved, -1e4)
            opened.update_keypoints(image, features)
    return images


def _pairs(photos: Sequence[KnownPhoto], numbers: list[int]) -> list[tuple[int, int]]:
    """Each photo with those that look about the same way from near it."""
    position = np.array([photos[i].camera_to_world[:3, 3] for i in numbers])
    forward = np.array([-photos[i].camera_to_world[:3, 2] for i in numbers])
    apart = np.linalg.norm(position[:, None] - position, axis=-1)
    apart /= max(float(apart.max(initial=0)), 1e-12)
    cosine = forward @ forward.T
    unlike = apart + (1 - cosine)
    unlike[(cosine < np.cos(np.radians(WIDEST_ANGLE))) | np.eye(len(numbers), dtype=bool)] = np.inf
    pairs = set()
    for i, row in enumerate(unlike):
        for j in np.argsort(row, kind="stable")[:NEIGHBOURS]:
            if np.isfinite(row[j]):
                pairs.add((numbers[min(i, j)], numbers[max(i, j)]))
    return sorted(pairs)
