"""transforms.json: nerfstudio, instant-ngp and the Blender synthetic sets.

Poses stay as the file gives them: camera-to-world, OpenGL axes, in the coordinates that every program that reads the
file shares. nerfstudio's `applied_transform` is what nerfstudio did to COLMAP's coordinates to get there (it puts z
up), so it has been applied to the poses and to the points of `ply_file_path` already. It is applied here to one thing
only: sparse points that come from a COLMAP model lying beside the file, which are still in COLMAP's coordinates.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ..camera import Intrinsics
from ..capture import Capture, DepthMap, PhotoMask
from ..errors import In2nError
from ..lens import Lens
from ..tracks import LOST, Tracks
from . import colmap, ply
from .checks import finite, photo_size, positive
from .contents import load_json
from .finding import PhotoFinder, is_foreign, normal
from .leave import refuse_outside
from .listing import ListedPhoto, build_capture
from .masks import MaskFinder
from .panoramas import faces

SAME = 1e-4  # of the farthest point: how exactly a .ply holds COLMAP's points
# camera_model -> the lens model of its distortion keys. instant-ngp writes OPENCV, nerfstudio any of them.
CAMERA_MODELS = {
    name: "brown" for name in ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "PERSPECTIVE")
}
CAMERA_MODELS |= {
    name: "opencv_fisheye" for name in ("OPENCV_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "FISHEYE")
}


def find(path: Path) -> Path | None:
    """What to read of a capture with a transforms file.

    Args:
        path: A file or a folder.

    Returns:
        `path` itself if it is a .json or the folder of a synthetic set, transforms.json in the folder, or None.
    """
    if path.is_file():
        return path if path.suffix.lower() == ".json" else None
    if (path / "transforms.json").is_file():
        return path / "transforms.json"
    return path if (path / "transforms_train.json").is_file() else None


def read(path: Path) -> Capture:
    """Read a transforms file, or a folder as the Blender synthetic sets have, whose test photos are the held-out ones.

    Args:
        path: The file, or a folder with transforms_train.json and transforms_test.json (or _val.json).

    Returns:
        The capture, in the file's units.

    Raises:
        In2nError: "missing_file", "bad_json", "bad_capture", "unknown_camera_model", "bad_points" and what
            `build_capture` raises.
    """
    if path.is_file():
        table = _load(path)
        listed = _listed(path, table)
        points, colors, tracks = _points(path, table, listed)
        return build_capture(path, path.parent, listed, points, colors, tracks=tracks)
    listed = _listed(path / "transforms_train.json", _load(path / "transforms_train.json"), held_out=False)
    for other in ("transforms_test.json", "transforms_val.json"):
        if (path / other).is_file():
            listed += _listed(path / other, _load(path / other), held_out=True)
            break
    return build_capture(path, path, listed, *_no_points())


def _load(path: Path) -> dict:
    table = load_json(path)
    if not isinstance(table, dict) or not isinstance(table.get("frames"), list):
        raise In2nError(
            "bad_capture",
            f"{path} has no list of frames.",
            "Choose a transforms.json as nerfstudio, instant-ngp or the Blender synthetic sets have.",
        )
    return table


def _listed(path: Path, table: dict, held_out: bool | None = None) -> list[ListedPhoto]:
    split, finder = _split(path, table), PhotoFinder(path.parent)
    masks = _Masks(path.parent, finder)
    listed = []
    for number, frame in enumerate(table["frames"], 1):
        if not isinstance(frame, dict) or not isinstance(frame.get("file_path"), str) or not frame["file_path"]:
            listed.append(_without(f"frame {number}", f"Frame {number} of {path} has no file_path."))
            continue
        label = normal(frame["file_path"])
        if split and label not in split:
            continue
        photo = finder.find(label)
        if photo and is_foreign(label) and photo.is_relative_to(path.parent):
            shown = photo.relative_to(path.parent).as_posix()
        else:
            shown = label
        if "transform_matrix" not in frame:
            listed.append(_without(shown, f"{shown} has no transform_matrix in {path}."))
            continue
        entry = ListedPhoto(
            shown,
            photo,
            frame["transform_matrix"],
            lambda frame=frame, label=shown: _listed_size(frame, table, label),
            lambda width, height, frame=frame, label=shown: _lens(frame, table, width, height, label),
            split[label] if split else held_out,
            mask=masks(photo, frame) if photo else None,
            depth=_depth(frame, table, finder),
        )
        listed += faces(entry) if _is_panorama(frame, table) else [entry]
    return listed


def _depth(frame: dict, table: dict, finder: PhotoFinder) -> DepthMap | None:
    """nerfstudio's depth_file_path, in thousandths of a unit; instant-ngp's depth_path, in integer_depth_scale."""
    for key, unit in (("depth_file_path", 1e-3), ("depth_path", table.get("integer_depth_scale", 1e-3))):
        listed = frame.get(key)
        if isinstance(listed, str) and listed and isinstance(unit, (int, float)) and 0 < unit < float("inf"):
            found = finder.find(normal(listed))
            return DepthMap(found, float(unit)) if found else None
    return None


def _is_panorama(frame: dict, table: dict) -> bool:
    return str(frame.get("camera_model", table.get("camera_model"))).upper() == "EQUIRECTANGULAR"


class _Masks:
    """The masks that a transforms file lists, or that lie beside its photos."""

    def __init__(self, folder: Path, finder: PhotoFinder):
        self.folder, self.finder, self._beside = folder, finder, {}

    def __call__(self, photo: Path, frame: dict) -> PhotoMask | None:
        listed = frame.get("mask_path")
        if isinstance(listed, str) and listed:
            return PhotoMask(self.finder.find(listed) or self.folder / normal(listed))
        below = photo.relative_to(self.folder).parts if photo.is_relative_to(self.folder) else ()
        folder = self.folder / below[0] if len(below) > 1 else photo.parent
        return self._beside.setdefault(folder, MaskFinder(folder)).find(photo)


def _without(label: str, message: str) -> ListedPhoto:
    return ListedPhoto(
        label, None, None, None, Lens, problem=In2nError("bad_capture", message, "Export the capture again.")
    )


def _split(path: Path, table: dict) -> dict[str, bool]:
    """Photo -> held out, from nerfstudio's lists of file names; empty if there are none.

    As in nerfstudio, a photo that is in no list is not used, and one that is in several is trained on. Where the lists
    name no training photos, all that are not held out are trained on.
    """
    given = {kind: table.get(f"{kind}_filenames") for kind in ("test", "val", "train")}
    lists = {
        kind: [normal(name) for name in names if isinstance(name, str)] if isinstance(names, list) else []
        for kind, names in given.items()
    }
    if not any(lists.values()):
        return {}
    frames = [
        normal(f["file_path"]) for f in table["frames"] if isinstance(f, dict) and isinstance(f.get("file_path"), str)
    ]
    if frames and not {name for names in lists.values() for name in names} & set(frames):
        called = " and ".join(f"{kind}_filenames" for kind in ("train", "val", "test") if lists[kind])
        raise In2nError(
            "bad_capture",
            f"{called} of {path} name none of its frames (they name {next(filter(None, lists.values()))[0]}, the "
            f"frames {frames[0]}).",
            "Take the lists out of the file, or let them name the frames' file_path.",
        )
    split = {} if lists["train"] else dict.fromkeys(frames, False)
    split |= dict.fromkeys(lists["test"] + lists["val"], True)
    split |= dict.fromkeys(lists["train"], False)
    return split


def _camera_model(frame: dict, table: dict, label: str) -> str:
    """The lens model of the distortion keys, for a frame that may override the file's."""
    name = frame.get("camera_model", table.get("camera_model"))
    if name is None:
        fisheye = frame.get("is_fisheye", table.get("is_fisheye", False))  # instant-ngp
        return "opencv_fisheye" if fisheye else "brown"
    model = CAMERA_MODELS.get(str(name).upper())
    if model is None:
        raise In2nError(
            "unknown_camera_model",
            f"The camera model “{name}” of {label} is not known.",
            f"Undistort the photos first, or use one of {', '.join(CAMERA_MODELS)}.",
        )
    return model


def _listed_size(frame: dict, table: dict, label: str) -> tuple[int, int] | None:
    w, h = (frame.get(key, table.get(key)) for key in ("w", "h"))
    if w is None or h is None:
        return None
    return photo_size(w, h, label)


def _lens(frame: dict, table: dict, width: int, height: int, label: str) -> Lens:
    """What stands in the frame goes before what stands in the file; focal lengths go before angles of view."""

    def value(key: str, default: float) -> float:
        return finite(frame.get(key, table.get(key, default)), key, label)

    intrinsics = Intrinsics(
        width,
        height,
        *_focal_lengths(frame, table, width, height, label),
        value("cx", width / 2),
        value("cy", height / 2),
    )
    model = _camera_model(frame, table, label)
    keys = ("k1", "k2", "k3", "k4") if model == "opencv_fisheye" else ("k1", "k2", "p1", "p2", "k3", "k4")
    lens = Lens(model, intrinsics, tuple(value(key, 0.0) for key in keys))
    return Lens("pinhole", intrinsics) if lens.is_pinhole else lens


def _focal_lengths(frame: dict, table: dict, width: int, height: int, label: str) -> tuple[float, float]:
    """(fx, fy) in pixels; where one axis has none, both have the same. x_fov is instant-ngp's, in degrees."""
    for level in (frame, table):
        fx, fy = (None if level.get(key) is None else positive(level[key], key, label) for key in ("fl_x", "fl_y"))
        if fx is None and fy is None:
            fx, fy = (
                _from_angle(level, f"camera_angle_{axis}", extent, label)
                or _from_angle(level, f"{axis}_fov", extent, label, math.radians(1), "degrees")
                for axis, extent in (("x", width), ("y", height))
            )
        if fx or fy:
            return fx or fy, fy or fx
    raise In2nError(
        "bad_intrinsics",
        f"{label} has no focal length: neither fl_x nor camera_angle_x nor x_fov is given.",
        "Export the capture again with its intrinsics.",
    )


def _from_angle(
    level: dict, key: str, extent: int, label: str, unit: float = 1.0, called: str = "radians"
) -> float | None:
    """The focal length that sees `extent` pixels in an angle; `unit` is the angle's in radians."""
    if level.get(key) is None:
        return None
    angle = positive(level[key], key, label) * unit
    if angle >= math.pi:
        raise In2nError(
            "bad_intrinsics",
            f"{key} of {label} is {angle / unit:g}, which must be an angle in {called} below {math.pi / unit:.4g}.",
            "Check the camera's intrinsics in the capture.",
        )
    return 0.5 * extent / math.tan(0.5 * angle)


def _points(source: Path, table: dict, listed: list[ListedPhoto]) -> tuple[np.ndarray, np.ndarray, Tracks | None]:
    folder = source.parent
    named = table.get("ply_file_path")
    if isinstance(named, str) and (folder / normal(named)).is_file():
        refuse_outside(source, folder, [(folder / normal(named), True)])
        points, colors = ply.read_points(folder / normal(named))
        return points, colors, _tracks_of_ply(folder, table, points, listed)
    if "applied_transform" not in table:
        return *_no_points(), None
    model = colmap.find(folder)
    if not model:
        return *_no_points(), None
    applied = _applied(table)
    if applied is None:
        raise In2nError(
            "bad_matrix",
            "applied_transform is not a 3 x 4 matrix of numbers.",
            "Export the capture again, or take applied_transform out.",
        )
    points, colors, tracks = colmap.read_points(model)
    return points @ applied[:, :3].T + applied[:, 3], colors, _of_photos(tracks, model, listed)


def _applied(table: dict) -> np.ndarray | None:
    try:
        applied = np.array(table.get("applied_transform", np.eye(4)), np.float64)[:3].reshape(3, 4)
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
    return applied if np.isfinite(applied).all() else None


def _tracks_of_ply(folder: Path, table: dict, points: np.ndarray, listed: list[ListedPhoto]) -> Tracks | None:
    """nerfstudio writes COLMAP's points into its .ply in their order, without saying what sees them; the model that it
    had them from lies beside it."""
    model, applied = colmap.find(folder), _applied(table)
    if not model or applied is None or not len(points):
        return None
    try:
        before, _, tracks = colmap.read_points(model)
        if len(before) != len(points):
            return None
        moved = before @ applied[:, :3].T + applied[:, 3]
        same = np.abs(moved - points).max() <= SAME * max(float(np.abs(points).max()), 1e-12)
        return _of_photos(tracks, model, listed) if same else None
    except In2nError:
        return None


def _of_photos(tracks: Tracks | None, model: Path, listed: list[ListedPhoto]) -> Tracks | None:
    """COLMAP's tracks by the numbers of photos, which go by the same names in both."""
    by_name: dict[str, int] = {}
    for number, entry in enumerate(listed):
        name = entry.label.rsplit("/", 1)[-1]
        by_name[name] = LOST if name in by_name else number
    numbers = {
        number: by_name.get(normal(name).rsplit("/", 1)[-1], LOST) for number, name in colmap.names(model).items()
    }
    found = colmap.renumbered(tracks, numbers)
    return found if found is not None and len(found.photos) else None


def _no_points() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((0, 3)), np.zeros((0, 3), np.uint8)
