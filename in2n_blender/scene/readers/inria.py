"""cameras.json, which gaussian-splatting (Inria) writes into its output folder.

For each photo img_name, width, height, fx, fy, position and rotation, camera-to-world with OpenCV's axes (its
utils/camera_utils.py, camera_to_JSON). The photos are those that it was trained on, undistorted, in the folder that
cfg_args beside it names.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..camera import Intrinsics
from ..capture import Capture
from ..errors import In2nError
from ..lens import Lens
from .checks import photo_size, positive
from .contents import bad_file, load_json, numbers, read_text
from .finding import PhotoSearch, usual_folders
from .listing import ListedPhoto, build_capture
from .masks import MaskFinder
from .poses import from_opencv, pose

NAME = "cameras.json"


def find(path: Path) -> Path | None:
    """cameras.json in a path.

    Args:
        path: A file or a folder.

    Returns:
        The file, None where there is none that lists cameras.
    """
    if path.is_file():
        return path if path.suffix.lower() == ".json" and _is_inrias(path) else None
    return path / NAME if (path / NAME).is_file() and _is_inrias(path / NAME) else None


def read(path: Path) -> Capture:
    """Read cameras.json.

    Args:
        path: The file.

    Returns:
        The capture, in the units of the model that it was trained on.

    Raises:
        In2nError: "bad_json", "bad_capture" and what `build_capture` raises.
    """
    table = load_json(path)
    if not isinstance(table, list):
        raise bad_file(path, "it is not a list of cameras")
    search, masks, listed = PhotoSearch(*usual_folders(path.parent), *_trained_on(path)), {}, []
    for number, camera in enumerate(table, 1):
        camera = camera if isinstance(camera, dict) else {}
        label = str(camera.get("img_name") or f"camera {number}")
        photo, problem, matrix = search.find(label), None, None
        try:
            rotation = numbers(camera.get("rotation"), 9, "rotation", label).reshape(3, 3)
            matrix = from_opencv(pose(rotation, numbers(camera.get("position"), 3, "position", label)))
        except In2nError as error:
            problem = error
        listed.append(
            ListedPhoto(
                label,
                photo,
                matrix,
                lambda c=camera, label=label: photo_size(c.get("width"), c.get("height"), label),
                lambda w, h, c=camera, label=label: _lens(c, w, h, label),
                problem=problem,
                mask=masks.setdefault(photo.parent, MaskFinder(photo.parent)).find(photo) if photo else None,
            )
        )
    return build_capture(path, path.parent, listed, np.zeros((0, 3)), np.zeros((0, 3), np.uint8))


def _is_inrias(path: Path) -> bool:
    try:
        table = load_json(path)
    except In2nError:
        return path.name == NAME
    return isinstance(table, list) and any(isinstance(one, dict) and "img_name" in one for one in table)


def _trained_on(path: Path) -> tuple[Path, ...]:
    """The photo folders of the capture that cfg_args names, where it is here."""
    file = path.with_name("cfg_args")
    if not file.is_file():
        return ()
    found = {key: re.search(rf"{key}='([^']*)'", read_text(file)) for key in ("source_path", "images")}
    if not found["source_path"]:
        return ()
    source = Path(found["source_path"].group(1))
    return (source / (found["images"].group(1) if found["images"] else "images"), *usual_folders(source))


def _lens(camera: dict, width: int, height: int, label: str) -> Lens:
    focal = (positive(camera.get(key), key, label) for key in ("fx", "fy"))
    return Lens("pinhole", Intrinsics(width, height, *focal, width / 2, height / 2))
