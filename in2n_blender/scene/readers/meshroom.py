"""Meshroom's (AliceVision's) .sfm and .json: the output of StructureFromMotion or ConvertSfMFormat.

A pose is a rotation, world-to-camera with OpenCV's axes, written column by column, and a centre. From version 1.2.1 the
principal point is relative to the middle of the photo, from 1.2.2 the focal length is in millimetres
(aliceVision/sfmDataIO/jsonIO.cpp). radialk1, radialk3 and brown are OpenCV's formulas, fisheye4 is its fisheye, and
fisheye1 COLMAP's FOV (aliceVision/camera/Distortion*.hpp). What undistortionType names is `scene.undistortion`; where a
file names both, photos are projected to by the first.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..camera import Intrinsics
from ..capture import Capture
from ..errors import In2nError
from ..lens import Lens
from ..tracks import Tracks
from .checks import finite, photo_size, positive
from .contents import load_json, numbers
from .finding import PhotoSearch, usual_folders
from .listing import ListedPhoto, build_capture
from .masks import MaskFinder
from .poses import from_opencv, pose

# what a camera's distortion is called -> how its parameters become those of `Lens`
NONE = ("", "none", "pinhole")
RADIAL = ("radialk1", "radial1", "radialk3", "radial3", "brown", "fisheye4", "fisheye", "fisheye1")
# what its undistortion is called -> the lens model, and how many coefficients it has
PLATES = {
    "3deanamorphic4": ("3de_anamorphic4", 13),
    "3declassicld": ("3de_classic", 5),
    "3deradial4": ("3de_radial4", 8),
    "radialk3": ("radial_undistortion", 3),
}
ONE_TYPE = (1, 2, 8)  # before this version a camera's type said all, and of PLATES AliceVision kept the first alone


def find(path: Path) -> Path | None:
    """The file of cameras in a path.

    Args:
        path: A file or a folder.

    Returns:
        The .sfm or .json file, None where there is none with views and poses.
    """
    if path.is_file():
        return path if path.suffix.lower() in (".sfm", ".json") and _is_meshrooms(path) else None
    names = ("cameras.sfm", "sfm.sfm", "sfm.json")
    return next(
        (p for p in [path / n for n in names] + sorted(path.glob("*.sfm")) if p.is_file() and _is_meshrooms(p)), None
    )


def read(path: Path) -> Capture:
    """Read the views that have a pose; landmarks become the sparse points.

    Args:
        path: The file.

    Returns:
        The capture, in Meshroom's units.

    Raises:
        In2nError: "bad_json", "bad_capture" and what `build_capture` raises.
    """
    table = load_json(path)
    version = _version(table.get("version"))
    poses = {str(p.get("poseId")): p for p in _objects(table, "poses")}
    intrinsics = {str(i.get("intrinsicId")): i for i in _objects(table, "intrinsics")}
    rigs = {str(r.get("rigId")): r for r in _objects(table, "rigs")}
    search, masks, listed = PhotoSearch(*usual_folders(path.parent)), {}, []
    for view in _objects(table, "views"):
        label = str(view.get("path") or f"view {view.get('viewId')}")
        photo, shown = search.find(label), label.replace("\\", "/").rsplit("/", 1)[-1]
        camera = intrinsics.get(str(view.get("intrinsicId")))
        problem, matrix = None, None
        try:
            if camera is None:
                raise In2nError("bad_capture", f"{shown} has no intrinsics in the file.", "Export the cameras again.")
            matrix = _pose(view, poses, rigs, shown)
        except In2nError as error:
            problem = error
        mask = masks.setdefault(photo.parent, MaskFinder(photo.parent)).find(photo) if photo else None
        listed.append(
            ListedPhoto(
                shown,
                photo,
                matrix,
                lambda camera=camera, label=shown: _size(camera, label),
                lambda w, h, camera=camera, label=shown: _lens(camera, version, w, h, label),
                problem=problem,
                mask=mask,
            )
        )
    views = {str(view.get("viewId")): number for number, view in enumerate(_objects(table, "views"))}
    points, colors, tracks = _points(table, views)
    return build_capture(path, path.parent, listed, points, colors, tracks=tracks)


def _is_meshrooms(path: Path) -> bool:
    try:
        table = load_json(path)
    except In2nError:
        return path.suffix.lower() == ".sfm"  # reading it says what is wrong
    return isinstance(table, dict) and "views" in table and ("poses" in table or path.suffix.lower() == ".sfm")


def _version(value: object) -> tuple[int, ...]:
    try:
        return tuple(int(v) for v in value)
    except (TypeError, ValueError, OverflowError):
        return (1, 0, 0)


def _objects(table: object, key: str) -> list[dict]:
    found = table.get(key) if isinstance(table, dict) else None
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _pose(view: dict, poses: dict, rigs: dict, label: str) -> np.ndarray:
    found = poses.get(str(view.get("poseId")))
    if found is None:
        raise In2nError("bad_capture", "Meshroom found no pose for it.", "Add photos that overlap with it.")
    rotation, centre = _transform(found, label)
    rig = rigs.get(str(view.get("rigId")))
    if rig is not None and str(view.get("isPoseIndependant", "true")).lower() in ("0", "false"):
        sub = _objects(rig, "subPoses")
        number = int(finite(view.get("subPoseId"), "subPoseId", label))
        if not 0 <= number < len(sub):
            raise In2nError("bad_capture", f"The rig of {label} has no such camera.", "Export the cameras again.")
        turn, offset = _transform(sub[number], label)  # of the rig's frame to the camera's
        return from_opencv(pose(rotation @ turn, centre + rotation @ offset))
    return from_opencv(pose(rotation, centre))


def _transform(entry: dict, label: str) -> tuple[np.ndarray, np.ndarray]:
    """(3, 3) camera-to-world, which is how a column by column world-to-camera reads row by row; and the centre."""
    transform = entry.get("pose")
    transform = transform.get("transform", transform) if isinstance(transform, dict) else {}
    transform = transform if isinstance(transform, dict) else {}
    rotation = numbers(transform.get("rotation"), 9, "rotation", label).reshape(3, 3)
    return rotation, numbers(transform.get("center"), 3, "center", label)


def _size(camera: dict, label: str) -> tuple[int, int]:
    return photo_size(camera.get("width"), camera.get("height"), label)


def _lens(camera: dict, version: tuple[int, ...], width: int, height: int, label: str) -> Lens:
    if version >= (1, 2, 2) or "focalLength" in camera:
        fx, fy = _in_pixels(camera, version, width, label)
    else:
        focal = camera.get("pxFocalLength")
        focal = focal if isinstance(focal, list) else [focal, focal]
        fx, fy = (positive(f, "pxFocalLength", label) for f in (focal[0], focal[-1]))
    cx, cy = numbers(camera.get("principalPoint"), 2, "principalPoint", label)
    if version >= (1, 2, 1):
        cx, cy = cx + width / 2, cy + height / 2
    k = Intrinsics(width, height, fx, fy, float(cx), float(cy))
    if str(camera.get("type")).lower().startswith("equidistant"):
        return _equidistant(camera, k, label)
    lens, plate = _bent(camera, k, label), _plate(camera, version)
    return _of_plate(plate, camera, version, k, label) if plate and lens.is_pinhole else lens


def _in_pixels(camera: dict, version: tuple[int, ...], width: int, label: str) -> tuple[float, float]:
    """(fx, fy). Of an anamorphic photo the focal length in millimetres was once that across, and is that down."""
    focal = positive(camera.get("focalLength"), "focalLength", label) * width
    focal /= positive(camera.get("sensorWidth", 36), "sensorWidth", label)
    ratio = positive(camera.get("pixelRatio", 1), "pixelRatio", label)
    if version < (1, 2, 5):
        return focal, focal / ratio
    return (focal, focal * ratio) if version < (1, 2, 11) else (focal / ratio, focal)


def _bent(camera: dict, k: Intrinsics, label: str) -> Lens:
    kind = str(camera.get("distortionType") or camera.get("type") or "").lower()
    d = _coefficients(camera, "distortionParams", label)
    fisheye = kind.startswith("fisheye4") or (kind == "fisheye" and len(d) == 4)
    if kind in NONE or (not any(d) and not fisheye and "equidistant" not in kind):
        return Lens("pinhole", k)
    if kind not in RADIAL or (kind == "fisheye" and not fisheye):
        raise _unknown(kind, label)
    d = [*d, 0.0, 0.0, 0.0, 0.0, 0.0]
    if fisheye:
        return Lens("opencv_fisheye", k, tuple(map(float, d[:4])))
    if kind == "fisheye1":
        return Lens("fov", k, (float(d[0]),))
    if kind == "brown":  # k1, k2, k3, t1, t2
        return Lens("brown", k, tuple(map(float, (d[0], d[1], d[3], d[4], d[2]))))
    return Lens("brown", k, tuple(map(float, (d[0], d[1], 0, 0, d[2]))))


def _equidistant(camera: dict, k: Intrinsics, label: str) -> Lens:
    """Radii are angles in units of half the angle that the sensor's shorter side sees (Equidistant.cpp), bent by a
    polynomial that is 1 at 1 (radialk3pt)."""
    sides = [positive(camera.get(key, usual), key, label) for key, usual in (("sensorWidth", 36), ("sensorHeight", 24))]
    unit = 2 * k.fx * sides[0] / max(k.width, k.height) / min(sides)
    kind = str(camera.get("distortionType") or "").lower()
    d = _coefficients(camera, "distortionParams", label)
    if any(d) and (len(d) != 3 or kind not in ("radialk3pt", "")) or _plate(camera, ONE_TYPE):
        raise _unknown(kind or "equidistant", label)
    d = [*map(float, d), 0.0, 0.0, 0.0][:3]
    scale = unit / positive(1 + sum(d), "What bends the photo", label)
    k = replace(k, fx=k.fx * scale, fy=k.fy * scale)
    return Lens("opencv_fisheye", k, (d[0] * unit**2, d[1] * unit**4, d[2] * unit**6, 0.0))


def _coefficients(camera: dict, key: str, label: str) -> np.ndarray:
    found = camera.get(key) or []
    found = found.split() if isinstance(found, str) else found
    return numbers(found, len(found), key, label) if len(found) else np.zeros(0)


def _unknown(kind: str, label: str) -> In2nError:
    return In2nError(
        "unknown_camera_model",
        f"The camera model “{kind}” of {label} is not known.",
        f"Let Meshroom export undistorted photos, or use one of {', '.join((*RADIAL, *PLATES))}.",
    )


def _plate(camera: dict, version: tuple[int, ...]) -> str:
    """What straightens its photos, as PLATES has it or another name; "" where nothing does."""
    kind = str(camera.get("undistortionType" if version >= ONE_TYPE else "type") or "").lower()
    if version < ONE_TYPE and "undistortionType" not in camera:
        return kind if kind.startswith("3de") else ""
    return "" if kind in NONE else kind


def _of_plate(kind: str, camera: dict, version: tuple[int, ...], k: Intrinsics, label: str) -> Lens:
    coefficients = _coefficients(camera, "undistortionParams", label)
    name, count = PLATES.get(kind, ("", -1))
    if len(coefficients) != count or (version < ONE_TYPE and kind != "3deanamorphic4"):
        raise _unknown(kind, label)
    aspect, desqueezed = 1.0, False
    if version >= (1, 2, 9):
        aspect = positive(camera.get("pixelAspectRatio", 1), "pixelAspectRatio", label)
        desqueezed = str(camera.get("isDesqueezed", "false")).lower() in ("1", "true")
    down = 1.0 if desqueezed else aspect  # a unit of the plate downwards
    half = math.hypot(k.width, k.height / down) / 2
    if version >= (1, 2, 7) and "undistortionDiagonal" in camera:
        half = positive(camera["undistortionDiagonal"], "undistortionDiagonal", label)
    shift = numbers(camera.get("undistortionOffset", [0, 0]), 2, "undistortionOffset", label)
    # AliceVision's middle is a whole pixel
    off = k.cx - k.width // 2 - float(shift[0]), k.cy - k.height // 2 - float(shift[1])
    units = k.fx / half, off[0] / half, k.fy / (half * down), off[1] / (half * down)
    return Lens(name, k, (*units, aspect, *map(float, coefficients)))


def _points(table: dict, views: dict[str, int]) -> tuple[np.ndarray, np.ndarray, Tracks | None]:
    """And which views see them, by their numbers; files without observations do not say."""
    points, colors, seen = [], [], []
    for landmark in _objects(table, "structure"):
        try:
            place, color = (
                [float(v) for v in landmark["X"]],
                [min(max(int(float(v)), 0), 255) for v in landmark["color"]],
            )
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
        if len(place) == 3 and len(color) == 3 and np.isfinite(place).all():
            points.append(place)
            colors.append(color)
            found = (str(one.get("observationId")) for one in _objects(landmark, "observations"))
            seen.append([views[one] for one in found if one in views])
    tracks = Tracks.of(seen) if any(seen) else None
    return np.array(points, np.float64).reshape(-1, 3), np.array(colors, np.uint8).reshape(-1, 3), tracks
