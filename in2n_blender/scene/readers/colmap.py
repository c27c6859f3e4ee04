"""COLMAP sparse models, as captures.

COLMAP stores world-to-camera with OpenCV axes (x right, y down, z forward); its pixels have their origin at the outer
corner of the upper-left pixel, as ours.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..camera import Intrinsics
from ..capture import Capture
from ..lens import Lens
from .checks import finite, positive
from .colmap_files import ListedCamera, ListedImage, bad_model, read_cameras, read_images, read_points3d, unknown_model
from .listing import ListedPhoto, build_capture

OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


def find(path: Path) -> Path | None:
    """The folder of a COLMAP model.

    Args:
        path: A file of the model, its folder, or a project: with sparse/0, sparse, colmap/sparse/0 ….

    Returns:
        The folder, None where there is none; of several numbered models in one sparse folder, the one with the largest
        list of images.
    """
    if path.is_file():
        return path.parent if path.stem in ("cameras", "images", "points3D") and _is_model(path.parent) else None
    for folder in (path, path / "sparse", path / "colmap" / "sparse", path / "colmap"):
        if _is_model(folder):
            return folder
        models = [p for p in sorted(folder.glob("*")) if p.name.isdigit() and _is_model(p)] if folder.is_dir() else []
        if models:
            return max(models, key=lambda p: (_file(p, "images").stat().st_size, -int(p.name)))
    return None


def read(model: Path) -> Capture:
    """Read a COLMAP model and find its photos in the usual folders.

    Args:
        model: The folder, as `find` returns it.

    Returns:
        The capture, in the model's units, OpenGL axes.

    Raises:
        In2nError: "bad_colmap", "unknown_camera_model" and what `build_capture` raises.
    """
    cameras = read_cameras(_file(model, "cameras"))
    images = read_images(_file(model, "images"))
    folder = _photo_folder(model, images)
    listed = []
    for image in images:
        camera = cameras.get(image.camera)
        if camera is None:
            raise bad_model(_file(model, "images"), f"{image.name} is by camera {image.camera}, which is not listed")
        photo = folder / image.name
        listed.append(
            ListedPhoto(
                image.name,
                photo if photo.is_file() else None,
                _camera_to_world(image),
                (camera.width, camera.height),
                lambda width, height, camera=camera, label=image.name: _lens(camera, label),
            )
        )
    project = next(
        (p for p in (model, *model.parents) if p.name not in ("sparse", "colmap") and not p.name.isdigit()), model
    )
    return build_capture(model, project, listed, *read_points(model))


def read_points(model: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the sparse points of a COLMAP model; those with a number that is not finite are left out.

    Args:
        model: The folder, as `find` returns it.

    Returns:
        Positions (P, 3) float64 in the model's units, and colours (P, 3) uint8; none if the model has no points3D.

    Raises:
        In2nError: "bad_colmap".
    """
    path = _file(model, "points3D")
    if path is None:
        return np.zeros((0, 3)), np.zeros((0, 3), np.uint8)
    points, colors = read_points3d(path)
    usable = np.isfinite(points).all(1)
    return points[usable], colors[usable]


def _is_model(folder: Path) -> bool:
    return bool(_file(folder, "cameras") and _file(folder, "images"))


def _file(model: Path, stem: str) -> Path | None:
    return next((p for p in (model / f"{stem}.bin", model / f"{stem}.txt") if p.is_file()), None)


def _photo_folder(model: Path, images: list[ListedImage]) -> Path:
    """Of the usual places, the one where most of the photos are."""
    places = [base / name for base in (model, *model.parents[:3]) for name in ("images", "input", "")]
    return max(places, key=lambda place: sum((place / image.name).is_file() for image in images))


def _camera_to_world(image: ListedImage) -> np.ndarray:
    """(4, 4); NaN where the quaternion has no length, which the check of the pose then reports."""
    quaternion = np.array(image.quaternion)
    length = np.linalg.norm(quaternion)
    w, x, y, z = quaternion / length if length > 0 else quaternion * np.nan
    world_to_camera = np.eye(4)
    world_to_camera[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    world_to_camera[:3, 3] = image.translation
    rotation = world_to_camera[:3, :3].T
    camera_to_world = np.eye(4)
    camera_to_world[:3, :3], camera_to_world[:3, 3] = rotation, -rotation @ world_to_camera[:3, 3]
    return camera_to_world @ OPENGL_FROM_OPENCV


def _lens(camera: ListedCamera, label: str) -> Lens:
    model = camera.model
    if not model.lens:
        raise unknown_model(model.name, f" of {label}")
    focal = [positive(p, "The focal length", label) for p in camera.parameters[: model.focal_lengths]]
    cx, cy, *distortion = (finite(p, "A camera parameter", label) for p in camera.parameters[model.focal_lengths :])
    lens = Lens(model.lens, Intrinsics(camera.width, camera.height, focal[0], focal[-1], cx, cy), tuple(distortion))
    return Lens("pinhole", lens.intrinsics) if lens.is_pinhole else lens
