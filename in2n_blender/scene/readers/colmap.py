"""COLMAP sparse models, as captures.

COLMAP stores world-to-camera with OpenCV axes (x right, y down, z forward); its pixels have their origin at the outer
corner of the upper-left pixel, as ours.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..camera import Intrinsics
from ..capture import Capture
from ..lens import EQUIRECTANGULAR, Lens
from ..tracks import LOST, Tracks
from .checks import finite, positive
from .colmap_files import (
    ListedCamera,
    ListedImage,
    bad_model,
    count_images,
    read_cameras,
    read_images,
    read_points3d,
)
from .colmap_folders import photo_folder
from .finding import in_their_code_page, normal
from .listing import ListedPhoto, build_capture
from .masks import MaskFinder
from .panoramas import faces
from .poses import from_world_to_camera, rotation_of

# where tools leave their models: COLMAP's own projects, nerfstudio's, instant-ngp's, automatic_reconstructor's, and
# what gaussian-splatting's convert.py calls distorted
PLACES = (
    "",
    "sparse",
    "colmap/sparse",
    "colmap",
    "colmap_sparse",
    "colmap_text",
    "dense/0/sparse",
    "dense/sparse",
    "undistorted/sparse",
    "distorted/sparse",
)


def find(path: Path) -> Path | None:
    """The folder of a COLMAP model.

    Args:
        path: A file of the model, its folder, or a project: with sparse/0, colmap/sparse/0 and others of PLACES.

    Returns:
        The folder, None where there is none; of several numbered models in one sparse folder, the one with the most
        images.
    """
    if path.is_file():
        return path.parent if path.stem in ("cameras", "images", "points3D") and _is_model(path.parent) else None
    for folder in (path / place for place in PLACES):
        if _is_model(folder):
            return folder
        models = _numbered(folder)
        if models:
            return max(models, key=lambda p: (count_images(_file(p, "images")), -int(p.name)))
    return None


def _numbered(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if p.name.isdigit() and _is_model(p)), key=lambda p: int(p.name))


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
    folder, notes = photo_folder(model, _photos(images, cameras))
    names = in_their_code_page([image.name for image in images], lambda name: folder.find(name) is not None)
    masks, held_out, listed, numbers = MaskFinder(folder.folder), _held_out(model), [], {}
    for image, name in zip(images, map(normal, names), strict=True):
        camera = cameras.get(image.camera)
        missing, photo = f"{name} is by camera {image.camera}, which is not listed", folder.find(name)
        entry = ListedPhoto(
            name,
            photo,
            _camera_to_world(image),
            (camera.width, camera.height) if camera else None,
            lambda width, height, camera=camera, label=name: _lens(camera, label),
            held_out=name in held_out if held_out else None,
            problem=None if camera else bad_model(_file(model, "images"), missing),
            mask=masks.find(photo) if photo else None,
        )
        panorama = camera and camera.model.lens == EQUIRECTANGULAR
        if not panorama:  # which of its faces sees a point is not said
            numbers[image.number] = len(listed)
        listed += faces(entry) if panorama else [entry]
    project = next((p for p in (model, *model.parents) if p.name not in PARTS and not p.name.isdigit()), model)
    points, colors, tracks = read_points(model)
    notes = (*notes, *_other_models(model))
    return build_capture(model, project, listed, points, colors, notes, renumbered(tracks, numbers))


def names(model: Path) -> dict[int, str]:
    """The images of a model.

    Args:
        model: The folder, as `find` returns it.

    Returns:
        Id -> name.

    Raises:
        In2nError: "bad_colmap".
    """
    return {image.number: image.name for image in read_images(_file(model, "images"))}


def renumbered(tracks: Tracks | None, numbers: dict[int, int]) -> Tracks | None:
    """Tracks by other numbers than the images' ids, which may be any.

    Args:
        tracks: By the images' ids.
        numbers: Id -> number, of those that the capture has.
    """
    if tracks is None or not len(tracks.photos):
        return None
    ids, compact = np.unique(tracks.photos, return_inverse=True)
    new = np.array([numbers.get(int(number), LOST) for number in ids], np.int64)
    return replace(tracks, photos=compact.reshape(-1)).with_photos(new)


TEST_LIST = "test.txt"
PARTS = ("sparse", "colmap", "colmap_sparse", "colmap_text", "dense", "distorted", "undistorted")


def _held_out(model: Path) -> set[str]:
    """Names of photos that test.txt keeps from training, as gaussian-splatting does; none where it names none."""
    try:
        lines = (model / TEST_LIST).read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    except OSError:
        return set()
    return {normal(line.strip()) for line in lines if line.strip()}


def _photos(images: list[ListedImage], cameras: dict[int, ListedCamera]) -> list[tuple[str, ListedCamera | None]]:
    return [(image.name, cameras.get(image.camera)) for image in images]


def _other_models(model: Path) -> list[str]:
    """What is left aside: the mapper breaks photos that do not hang together into several models."""
    others = [other for other in _numbered(model.parent) if other != model] if model.name.isdigit() else []
    if not others:
        return []
    this, folder = f"{model.parent.name}/{model.name}", model.parent.name
    called = ", ".join(f"{folder}/{other.name} ({count_images(_file(other, 'images'))} photos)" for other in others)
    return [f"Other models, which do not hang together with {this}, were not used: {called}."]


def read_points(model: Path) -> tuple[np.ndarray, np.ndarray, Tracks | None]:
    """Read the sparse points of a COLMAP model; those with a number that is not finite are left out.

    Args:
        model: The folder, as `find` returns it.

    Returns:
        Positions (P, 3) float64 in the model's units, colours (P, 3) uint8, and which images see them, by their ids;
        none if the model has no points3D.

    Raises:
        In2nError: "bad_colmap".
    """
    path = _file(model, "points3D")
    if path is None:
        return np.zeros((0, 3)), np.zeros((0, 3), np.uint8), None
    points, colors, tracks = read_points3d(path)
    usable = np.isfinite(points).all(1)
    return points[usable], colors[usable], tracks.of_points(usable)


def _is_model(folder: Path) -> bool:
    return bool(_file(folder, "cameras") and _file(folder, "images"))


def _file(model: Path, stem: str) -> Path | None:
    return next((p for p in (model / f"{stem}.bin", model / f"{stem}.txt") if p.is_file()), None)


def _camera_to_world(image: ListedImage) -> np.ndarray:
    return from_world_to_camera(rotation_of(image.quaternion), image.translation)


def _lens(camera: ListedCamera, label: str) -> Lens:
    model = camera.model
    focal = [positive(p, "The focal length", label) for p in camera.parameters[: model.focal_lengths]]
    cx, cy, *distortion = (finite(p, "A camera parameter", label) for p in camera.parameters[model.focal_lengths :])
    lens = Lens(model.lens, Intrinsics(camera.width, camera.height, focal[0], focal[-1], cx, cy), tuple(distortion))
    return Lens("pinhole", lens.intrinsics) if lens.is_pinhole else lens
