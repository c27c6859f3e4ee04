"""OpenSfM's reconstruction.json, which OpenDroneMap leaves in opensfm/.

A shot's pose is world-to-camera with OpenCV's axes, the rotation as an axis whose length is the angle. Focal lengths
and centres are parts of the photo's longer side, centres relative to the middle of the photo
(opensfm.org/docs/geometry.html, opensfm/io.py).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..camera import Intrinsics
from ..capture import Capture
from ..errors import In2nError
from ..lens import Lens
from .checks import finite, photo_size, positive
from .contents import bad_file, load_json, numbers
from .finding import PhotoSearch, usual_folders
from .listing import ListedPhoto, build_capture
from .masks import MaskFinder
from .panoramas import faces
from .poses import from_world_to_camera, rotation_about

SPHERICAL = ("spherical", "equirectangular")


def find(path: Path) -> Path | None:
    """reconstruction.json in a path.

    Args:
        path: A file or a folder, also that of an OpenDroneMap project.

    Returns:
        The file, None where there is none with cameras and shots.
    """
    if path.is_file():
        return path if path.suffix.lower() == ".json" and _is_opensfms(path) else None
    places = (path / "reconstruction.json", path / "opensfm" / "reconstruction.json")
    return next((p for p in places if p.is_file() and _is_opensfms(p)), None)


def read(path: Path) -> Capture:
    """Read the largest reconstruction of the file.

    Args:
        path: The file.

    Returns:
        The capture in metres where the photos had GPS, z up.

    Raises:
        In2nError: "bad_json", "bad_capture" and what `build_capture` raises.
    """
    found = _reconstructions(load_json(path))
    if not found:
        raise bad_file(path, "it holds no reconstruction")
    largest = max(found, key=lambda one: len(one["shots"]))
    counts = ", ".join(str(len(one["shots"])) for one in found if one is not largest)
    notes = (
        (f"{len(found) - 1} other reconstructions of {path.name} ({counts} photos) were not used.",) if counts else ()
    )
    project = path.parent.parent if path.parent.name == "opensfm" else path.parent
    search = PhotoSearch(*usual_folders(project), *usual_folders(path.parent))
    masks, listed = {}, []
    for label, shot in largest["shots"].items():
        photo = search.find(label)
        camera = largest["cameras"].get(str(shot.get("camera"))) if isinstance(shot, dict) else None
        problem, pose = None, None
        try:
            if not isinstance(camera, dict):
                raise In2nError("bad_capture", f"The camera of {label} is not listed.", "Export it again.")
            pose = from_world_to_camera(
                rotation_about(numbers(shot.get("rotation"), 3, "rotation", label)),
                numbers(shot.get("translation"), 3, "translation", label),
            )
        except In2nError as error:
            problem = error
        entry = ListedPhoto(
            label,
            photo,
            pose,
            lambda camera=camera, label=label: _size(camera, label),
            lambda w, h, camera=camera, label=label: _lens(camera, w, h, label),
            problem=problem,
            mask=masks.setdefault(photo.parent, MaskFinder(photo.parent)).find(photo) if photo else None,
        )
        round_about = not problem and str(camera.get("projection_type")) in SPHERICAL
        listed += faces(entry) if round_about else [entry]
    return build_capture(path, project, listed, *_points(largest), notes)


def _is_opensfms(path: Path) -> bool:
    try:
        return bool(_reconstructions(load_json(path)))
    except In2nError:
        return path.name == "reconstruction.json"  # reading it says what is wrong


def _reconstructions(data: object) -> list[dict]:
    return [
        one
        for one in (data if isinstance(data, list) else [])
        if isinstance(one, dict) and isinstance(one.get("shots"), dict) and isinstance(one.get("cameras"), dict)
    ]


def _size(camera: dict, label: str) -> tuple[int, int]:
    return photo_size(camera.get("width"), camera.get("height"), label)


def _lens(camera: dict, width: int, height: int, label: str) -> Lens:
    longer, kind = max(width, height), camera.get("projection_type", "perspective")
    value = lambda key: finite(camera.get(key, 0), key, label)
    if "focal_x" in camera:
        fx, fy = (positive(camera.get(key), key, label) * longer for key in ("focal_x", "focal_y"))
    else:
        fx = fy = positive(camera.get("focal"), "focal", label) * longer
    k = Intrinsics(width, height, fx, fy, width / 2 + value("c_x") * longer, height / 2 + value("c_y") * longer)
    k1, k2, k3, k4, p1, p2 = (value(key) for key in ("k1", "k2", "k3", "k4", "p1", "p2"))
    if kind in ("perspective", "brown", "radial", "simple_radial"):
        lens = Lens("brown", k, (k1, k2, p1, p2, k3))
        return Lens("pinhole", k) if lens.is_pinhole else lens
    if kind in ("fisheye", "fisheye_opencv"):
        return Lens("opencv_fisheye", k, (k1, k2, k3, k4))
    if kind in ("fisheye62", "fisheye624"):
        k5, k6, *prism = (value(key) for key in ("k5", "k6", "s0", "s1", "s2", "s3"))
        return Lens("fisheye624", k, (k1, k2, k3, k4, k5, k6, p1, p2, *prism))
    raise In2nError(
        "unknown_camera_model",
        f"The camera model “{kind}” of {label} is not known.",
        "Use OpenSfM's undistorted photos and their reconstruction.json.",
    )


def _points(reconstruction: dict) -> tuple[np.ndarray, np.ndarray]:
    places, colors = [], []
    found = reconstruction.get("points")
    for point in found.values() if isinstance(found, dict) else ():
        try:
            place = [float(v) for v in point["coordinates"]]
            color = [min(max(int(float(v)), 0), 255) for v in point.get("color", (128, 128, 128))]
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
            continue
        if len(place) == 3 and len(color) == 3 and np.isfinite(place).all():
            places.append(place)
            colors.append(color)
    return np.array(places, np.float64).reshape(-1, 3), np.array(colors, np.uint8).reshape(-1, 3)
