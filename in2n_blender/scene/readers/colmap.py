"""COLMAP sparse models, binary and text (https://colmap.github.io/format.html).

COLMAP stores world-to-camera with OpenCV axes (x right, y down, z forward); its pixels have their origin at the outer
corner of the upper-left pixel, as ours.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..camera import Intrinsics
from ..capture import Capture
from ..errors import In2nError
from ..lens import Lens
from .checks import finite, positive
from .listing import ListedPhoto, build_capture

OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class CameraModel:
    """One of COLMAP's camera models.

    Attributes:
        name: As COLMAP writes it.
        parameters: How many there are.
        focal_lengths: How many of them, at their beginning, are focal lengths; cx and cy follow.
        lens: The model of `lens.Lens` whose distortion the rest is; "" where there is none.
    """

    name: str
    parameters: int
    focal_lengths: int
    lens: str


# the order is COLMAP's model id (colmap/sensor/models.h); lens "": a model without a counterpart here
MODELS = (
    CameraModel("SIMPLE_PINHOLE", 3, 1, "pinhole"),
    CameraModel("PINHOLE", 4, 2, "pinhole"),
    CameraModel("SIMPLE_RADIAL", 4, 1, "opencv"),
    CameraModel("RADIAL", 5, 1, "opencv"),
    CameraModel("OPENCV", 8, 2, "opencv"),
    CameraModel("OPENCV_FISHEYE", 8, 2, "opencv_fisheye"),
    CameraModel("FULL_OPENCV", 12, 2, "opencv"),
    CameraModel("FOV", 5, 2, ""),
    CameraModel("SIMPLE_RADIAL_FISHEYE", 4, 1, "opencv_fisheye"),
    CameraModel("RADIAL_FISHEYE", 5, 1, "opencv_fisheye"),
    CameraModel("THIN_PRISM_FISHEYE", 12, 2, ""),
    CameraModel("RAD_TAN_THIN_PRISM_FISHEYE", 16, 2, ""),
    CameraModel("SIMPLE_DIVISION", 4, 1, ""),
    CameraModel("DIVISION", 5, 2, ""),
    CameraModel("SIMPLE_FISHEYE", 3, 1, "opencv_fisheye"),
    CameraModel("FISHEYE", 4, 2, "opencv_fisheye"),
    CameraModel("EUCM", 6, 2, ""),
    CameraModel("EQUIRECTANGULAR", 2, 0, ""),
)


@dataclass(frozen=True)
class _Camera:
    model: CameraModel
    width: int
    height: int
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class _Image:
    name: str
    camera: int
    quaternion: tuple[float, ...]
    translation: tuple[float, ...]


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
    cameras = _guarded(_file(model, "cameras"), _cameras_binary, _cameras_text)
    images = _guarded(_file(model, "images"), _images_binary, _images_text)
    folder = _photo_folder(model, images)
    listed = []
    for image in images:
        camera = cameras.get(image.camera)
        if camera is None:
            raise _bad(_file(model, "images"), f"{image.name} refers to camera {image.camera}, which is not listed")
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
    positions, colors = _guarded(path, _points_binary, _points_text)
    points = np.array(positions, np.float64).reshape(-1, 3)
    finite_points = np.isfinite(points).all(1)
    return points[finite_points], np.array(colors, np.uint8).reshape(-1, 3)[finite_points]


def _is_model(folder: Path) -> bool:
    return bool(_file(folder, "cameras") and _file(folder, "images"))


def _file(model: Path, stem: str) -> Path | None:
    return next((p for p in (model / f"{stem}.bin", model / f"{stem}.txt") if p.is_file()), None)


def _photo_folder(model: Path, images: list[_Image]) -> Path:
    """Of the usual places, the one where most of the photos are."""
    places = [base / name for base in (model, *model.parents[:3]) for name in ("images", "input", "")]
    return max(places, key=lambda place: sum((place / image.name).is_file() for image in images))


def _camera_to_world(image: _Image) -> np.ndarray:
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


def _lens(camera: _Camera, label: str) -> Lens:
    model = camera.model
    if not model.lens:
        raise _unknown(model.name, f" of {label}")
    focal = [positive(p, "The focal length", label) for p in camera.parameters[: model.focal_lengths]]
    cx, cy, *distortion = (finite(p, "A camera parameter", label) for p in camera.parameters[model.focal_lengths :])
    lens = Lens(model.lens, Intrinsics(camera.width, camera.height, focal[0], focal[-1], cx, cy), tuple(distortion))
    return Lens("pinhole", lens.intrinsics) if lens.is_pinhole else lens


def _guarded(path: Path, binary: Callable, text: Callable):
    """Parse a file by its format; whatever a damaged file does to the parser becomes In2nError("bad_colmap")."""
    try:
        return (
            binary(_Bytes(path.read_bytes()))
            if path.suffix == ".bin"
            else text(path.read_text(encoding="utf-8").splitlines())
        )
    except (struct.error, ValueError, IndexError, OverflowError) as error:
        raise _bad(path, str(error)) from None
    except OSError as error:
        raise _bad(path, error.strerror or str(error)) from None


def _bad(path: Path, reason: str) -> In2nError:
    return In2nError(
        "bad_colmap",
        f"{path} cannot be read as a COLMAP model ({reason}).",
        "The file may be cut short; export the model again.",
    )


class _Bytes:
    """Reads little-endian values one after another."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, layout: str) -> tuple:
        values = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += struct.calcsize("<" + layout)
        return values

    def text(self) -> str:
        end = self.data.index(b"\0", self.at)
        value, self.at = self.data[self.at : end].decode("utf-8"), end + 1
        return value

    def skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self.data):
            raise ValueError("it is cut short")


def _camera(model: CameraModel, width: float, height: float, parameters) -> _Camera:
    if width < 1 or height < 1 or len(parameters) != model.parameters:
        raise ValueError(f"a {model.name} camera of {width} x {height} pixels with {len(parameters)} parameters")
    return _Camera(model, int(width), int(height), tuple(parameters))


def _unknown(model: object, of: str = "") -> In2nError:
    return In2nError(
        "unknown_camera_model",
        f"The COLMAP camera model “{model}”{of} is not known.",
        f"Run COLMAP's image_undistorter first, or use one of {', '.join(m.name for m in MODELS if m.lens)}.",
    )


def _cameras_binary(data: _Bytes) -> dict[int, _Camera]:
    cameras = {}
    for _ in range(data.take("Q")[0]):
        camera, model, width, height = data.take("IiQQ")
        if not 0 <= model < len(MODELS):
            raise _unknown(model)
        cameras[camera] = _camera(MODELS[model], width, height, data.take(f"{MODELS[model].parameters}d"))
    return cameras


def _cameras_text(lines: list[str]) -> dict[int, _Camera]:
    by_name, cameras = {m.name: m for m in MODELS}, {}
    for words in (line.split() for line in lines if line.strip() and not line.startswith("#")):
        if len(words) < 5:
            raise ValueError(f"a camera with {len(words)} values")
        if words[1] not in by_name:
            raise _unknown(words[1])
        cameras[int(words[0])] = _camera(by_name[words[1]], int(words[2]), int(words[3]), [float(w) for w in words[4:]])
    return cameras


def _images_binary(data: _Bytes) -> list[_Image]:
    images = []
    for _ in range(data.take("Q")[0]):
        values = data.take("I7dI")
        name = data.text()
        data.skip(24 * data.take("Q")[0])
        images.append(_Image(name, values[8], values[1:5], values[5:8]))
    return images


def _images_text(lines: list[str]) -> list[_Image]:
    """Two lines an image; the second, its 2D points, may be empty, so blank lines count."""
    lines = [line for line in lines if not line.startswith("#")]
    while lines and not lines[0].strip():
        lines.pop(0)
    images = []
    for line in lines[::2]:
        if not line.strip():
            continue
        words = line.split(maxsplit=9)
        values = [float(w) for w in words[1:8]]
        images.append(_Image(words[9].strip(), int(words[8]), tuple(values[:4]), tuple(values[4:])))
    return images


def _points_binary(data: _Bytes) -> tuple[list, list]:
    layout = struct.Struct("<Q3d3BdQ")  # id, position, colour, error, length of the track; there may be millions
    positions, colors = [], []
    for _ in range(data.take("Q")[0]):
        values = layout.unpack_from(data.data, data.at)
        positions.append(values[1:4])
        colors.append(values[4:7])
        data.skip(layout.size + 8 * values[8])
    return positions, colors


def _points_text(lines: list[str]) -> tuple[list, list]:
    rows = [line.split(maxsplit=7) for line in lines if line.strip() and not line.startswith("#")]
    if any(len(row) < 7 for row in rows):
        raise ValueError("a point without its position or colour")
    return [[float(w) for w in row[1:4]] for row in rows], [[int(w) for w in row[4:7]] for row in rows]
