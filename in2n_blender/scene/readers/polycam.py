"""Polycam's raw data: keyframes/ with images and cameras, as ARKit tracked them or corrected.

A camera's file holds fx, fy, cx, cy, width, height and the rows t_00 … t_23 of camera-to-world with OpenGL's axes, in a
world with y up (github.com/PolyCam/polyform; nerfstudio's process_data/polycam_utils.py). Here z is up.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..camera import Intrinsics
from ..capture import Capture, DepthMap
from ..errors import In2nError
from ..lens import Lens
from .checks import finite, photo_size, positive
from .contents import bad_file, load_json
from .finding import PhotoFinder
from .listing import ListedPhoto, build_capture
from .masks import MaskFinder

KINDS = (("corrected_cameras", "corrected_images"), ("cameras", "images"))
Z_UP = np.array([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])  # from y up


def find(path: Path) -> Path | None:
    """The keyframes folder in a path.

    Args:
        path: A file or a folder.

    Returns:
        The folder with cameras/ and images/, None where there is none.
    """
    if path.is_file():
        of_a_camera = path.suffix.lower() == ".json" and path.parent.name in [cameras for cameras, _ in KINDS]
        places = [path.parent.parent] if of_a_camera else []
    else:
        places = [path, path / "keyframes"]
    has = lambda place: any(_first(place / cameras) and (place / images).is_dir() for cameras, images in KINDS)
    return next((place for place in places if has(place)), None)


def read(path: Path) -> Capture:
    """Read the keyframes; corrected cameras go before those that were tracked.

    Args:
        path: The folder, as `find` returns it.

    Returns:
        The capture in metres, z up.

    Raises:
        In2nError: "bad_json", "bad_capture" and what `build_capture` raises.
    """
    cameras, images = next((path / c, path / i) for c, i in KINDS if _first(path / c) and (path / i).is_dir())
    finder, masks, listed = PhotoFinder(images), MaskFinder(images), []
    for file in sorted(cameras.glob("*.json")):
        photo, problem, table = finder.find(file.stem), None, {}
        try:
            table = load_json(file)
            if not isinstance(table, dict):
                raise bad_file(file, "it is not an object")
        except In2nError as error:
            problem, table = error, {}
        listed.append(
            ListedPhoto(
                photo.name if photo else file.stem,
                photo,
                _pose(table),
                lambda table=table, label=file.stem: _size(table, label),
                lambda width, height, table=table, label=file.stem: _lens(table, width, height, label),
                problem=problem,
                mask=masks.find(photo) if photo else None,
                depth=arkit_depth(path, file.stem, 255),  # its confidence is 0, 54 or 255
            )
        )
    project = path.parent if path.name == "keyframes" else path
    return build_capture(path, project, listed, np.zeros((0, 3)), np.zeros((0, 3), np.uint8))


def arkit_depth(folder: Path, stem: str, least_confidence: float) -> DepthMap:
    """What ARKit measured with a photo, in millimetres, as programs write it: depth/ and, where it is there,
    confidence/.

    Args:
        folder: In which both lie.
        stem: Of their pictures' names.
        least_confidence: ARKit's highest, as the program writes it.
    """
    confidence = folder / "confidence" / f"{stem}.png"
    return DepthMap(
        folder / "depth" / f"{stem}.png", 1e-3, confidence if confidence.is_file() else None, least_confidence
    )


def _first(folder: Path) -> Path | None:
    return next(folder.glob("*.json"), None) if folder.is_dir() else None


def _pose(table: dict) -> object:
    rows = [[table.get(f"t_{row}{column}") for column in range(4)] for row in range(3)]
    try:
        return Z_UP @ np.vstack([np.array(rows, np.float64), [0, 0, 0, 1]])
    except (TypeError, ValueError, OverflowError):
        return rows


def _size(table: dict, label: str) -> tuple[int, int]:
    return photo_size(table.get("width"), table.get("height"), label)


def _lens(table: dict, width: int, height: int, label: str) -> Lens:
    focal = (positive(table.get(key), key, label) for key in ("fx", "fy"))
    centre = (finite(table.get(key), key, label) for key in ("cx", "cy"))
    return Lens("pinhole", Intrinsics(width, height, *focal, *centre))
