"""The files of COLMAP's sparse models, binary and text (https://colmap.github.io/format.html)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import In2nError
from ..tracks import LOST, Tracks


@dataclass(frozen=True)
class CameraModel:
    """One of COLMAP's camera models.

    Attributes:
        name: As COLMAP writes it.
        parameters: How many there are.
        focal_lengths: How many of them, at their beginning, are focal lengths; cx and cy follow.
        lens: The model of `lens.Lens` whose distortion the rest is.
    """

    name: str
    parameters: int
    focal_lengths: int
    lens: str


# the order is COLMAP's model id (colmap/sensor/models.h)
MODELS = (
    CameraModel("SIMPLE_PINHOLE", 3, 1, "pinhole"),
    CameraModel("PINHOLE", 4, 2, "pinhole"),
    CameraModel("SIMPLE_RADIAL", 4, 1, "opencv"),
    CameraModel("RADIAL", 5, 1, "opencv"),
    CameraModel("OPENCV", 8, 2, "opencv"),
    CameraModel("OPENCV_FISHEYE", 8, 2, "opencv_fisheye"),
    CameraModel("FULL_OPENCV", 12, 2, "opencv"),
    CameraModel("FOV", 5, 2, "fov"),
    CameraModel("SIMPLE_RADIAL_FISHEYE", 4, 1, "opencv_fisheye"),
    CameraModel("RADIAL_FISHEYE", 5, 1, "opencv_fisheye"),
    CameraModel("THIN_PRISM_FISHEYE", 12, 2, "thin_prism_fisheye"),
    CameraModel("RAD_TAN_THIN_PRISM_FISHEYE", 16, 2, "rad_tan_thin_prism_fisheye"),
    CameraModel("SIMPLE_DIVISION", 4, 1, "division"),
    CameraModel("DIVISION", 5, 2, "division"),
    CameraModel("SIMPLE_FISHEYE", 3, 1, "opencv_fisheye"),
    CameraModel("FISHEYE", 4, 2, "opencv_fisheye"),
    CameraModel("EUCM", 6, 2, "eucm"),
    CameraModel("EQUIRECTANGULAR", 2, 0, "equirectangular"),
)


@dataclass(frozen=True)
class ListedCamera:
    """A camera as the model lists it: width and height in pixels, parameters in the order of its model."""

    model: CameraModel
    width: int
    height: int
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class ListedImage:
    """An image as the model lists it: its camera's id, world-to-camera as quaternion (w, x, y, z) and translation; and
    its own id."""

    name: str
    camera: int
    quaternion: tuple[float, ...]
    translation: tuple[float, ...]
    number: int = LOST


def read_cameras(path: Path) -> dict[int, ListedCamera]:
    """Read cameras.bin or cameras.txt.

    Args:
        path: The file; ".bin" is read as binary, anything else as text.

    Returns:
        Camera id -> camera.

    Raises:
        In2nError: "bad_colmap", "unknown_camera_model".
    """
    return _parsed(path, _cameras_binary, _cameras_text)


def read_images(path: Path) -> list[ListedImage]:
    """Read images.bin or images.txt.

    Args:
        path: The file; ".bin" is read as binary, anything else as text.

    Returns:
        The images in the order of the file.

    Raises:
        In2nError: "bad_colmap".
    """
    return _parsed(path, _images_binary, _images_text)


def read_points3d(path: Path) -> tuple[np.ndarray, np.ndarray, Tracks]:
    """Read points3D.bin or points3D.txt.

    Args:
        path: The file; ".bin" is read as binary, anything else as text.

    Returns:
        Positions (P, 3) float64 in the model's units, colours (P, 3) uint8, sRGB, and which images see them, by their
        ids.

    Raises:
        In2nError: "bad_colmap".
    """
    positions, colors, tracks = _parsed(path, _points_binary, _points_text)
    return np.array(positions, np.float64).reshape(-1, 3), np.array(colors, np.uint8).reshape(-1, 3), tracks


def _parsed(path: Path, binary: Callable, text: Callable):
    """Parse a file by its format; whatever a damaged file does to the parser becomes In2nError("bad_colmap")."""
    try:
        return (
            binary(_Bytes(path.read_bytes()))
            if path.suffix == ".bin"
            else text(path.read_bytes().decode("utf-8-sig", "surrogateescape").splitlines())
        )
    except (struct.error, ValueError, IndexError, OverflowError) as error:
        raise bad_model(path, str(error)) from None
    except OSError as error:
        raise bad_model(path, error.strerror or str(error)) from None


def bad_model(path: Path, reason: str) -> In2nError:
    """What to say of a file that is no COLMAP model.

    Args:
        path: The file.
        reason: Why it cannot be read.

    Returns:
        In2nError "bad_colmap", to be raised.
    """
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
        value, self.at = self.data[self.at : end].decode("utf-8", "surrogateescape"), end + 1
        return value

    def skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self.data):
            raise ValueError("it is cut short")


def _camera(model: CameraModel, width: float, height: float, parameters) -> ListedCamera:
    if width < 1 or height < 1 or len(parameters) != model.parameters:
        raise ValueError(f"a {model.name} camera of {width} x {height} pixels with {len(parameters)} parameters")
    return ListedCamera(model, int(width), int(height), tuple(parameters))


def unknown_model(model: object, of: str = "") -> In2nError:
    """What to say of a camera model that cannot be used.

    Args:
        model: Its name, or its id where COLMAP has no such id.
        of: Whose it is, as an addition to the sentence that begins with a space.

    Returns:
        In2nError "unknown_camera_model", to be raised.
    """
    return In2nError(
        "unknown_camera_model",
        f"The COLMAP camera model “{model}”{of} is not known.",
        f"Run COLMAP's image_undistorter first, or use one of {', '.join(m.name for m in MODELS)}.",
    )


def _cameras_binary(data: _Bytes) -> dict[int, ListedCamera]:
    cameras = {}
    for _ in range(data.take("Q")[0]):
        camera, model, width, height = data.take("IiQQ")
        if not 0 <= model < len(MODELS):
            raise unknown_model(model)
        cameras[camera] = _camera(MODELS[model], width, height, data.take(f"{MODELS[model].parameters}d"))
    return cameras


def _cameras_text(lines: list[str]) -> dict[int, ListedCamera]:
    by_name, cameras = {m.name: m for m in MODELS}, {}
    for words in (line.split() for line in lines if line.strip() and not line.startswith("#")):
        if len(words) < 5:
            raise ValueError(f"a camera with {len(words)} values")
        if words[1] not in by_name:
            raise unknown_model(words[1])
        cameras[int(words[0])] = _camera(by_name[words[1]], int(words[2]), int(words[3]), [float(w) for w in words[4:]])
    return cameras


def _images_binary(data: _Bytes) -> list[ListedImage]:
    images = []
    for _ in range(data.take("Q")[0]):
        values = data.take("I7dI")
        name = data.text()
        data.skip(24 * data.take("Q")[0])
        images.append(ListedImage(name, values[8], values[1:5], values[5:8], values[0]))
    return images


def _images_text(lines: list[str]) -> list[ListedImage]:
    """Two lines an image; the second, its 2D points, may be empty, and scripts and editors drop empty lines."""
    images, rest = [], iter([line for line in lines if not line.startswith("#")])
    line = next(rest, None)
    while line is not None:
        if not line.strip():
            line = next(rest, None)
            continue
        words = line.split(maxsplit=9)
        values = [float(w) for w in words[1:8]]
        images.append(ListedImage(words[9].strip(), int(words[8]), tuple(values[:4]), tuple(values[4:]), int(words[0])))
        line = next(rest, None)
        if line is not None and not _is_image(line):
            line = next(rest, None)
    return images


def _is_image(line: str) -> bool:
    """Whether a line that may be 2D points, which are numbers throughout, is an image."""
    words = line.split(maxsplit=9)
    return len(words) == 10 and not _are_numbers(words[9].split())


def _are_numbers(words: list[str]) -> bool:
    try:
        [float(word) for word in words]
    except ValueError:
        return False
    return True


def count_images(path: Path) -> int:
    """How many images a file lists, at little cost.

    Args:
        path: images.bin or images.txt.

    Returns:
        Their number; 0 where the file cannot be read.
    """
    try:
        if path.suffix == ".bin":
            with open(path, "rb") as file:
                return struct.unpack("<Q", file.read(8))[0]
        return len(read_images(path))
    except (OSError, struct.error, In2nError):
        return 0


def _points_binary(data: _Bytes) -> tuple[list, list, Tracks]:
    layout = struct.Struct("<Q3d3BdQ")  # id, position, colour, error, length of the track; there may be millions
    positions, colors, errors, starts, counts = [], [], [], [], []
    for _ in range(data.take("Q")[0]):
        values = layout.unpack_from(data.data, data.at)
        positions.append(values[1:4])
        colors.append(values[4:7])
        errors.append(values[7])
        starts.append(data.at + layout.size)
        counts.append(values[8])
        data.skip(layout.size + 8 * values[8])
    counts = np.array(counts, np.int64)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    at = np.repeat(np.array(starts, np.int64), counts) + 8 * within  # of the image's id; that of its 2D point follows
    ids = np.frombuffer(data.data, np.uint8)[at[:, None] + np.arange(4)].copy().view("<u4").ravel()
    return positions, colors, _tracks(counts, ids, errors)


def _points_text(lines: list[str]) -> tuple[list, list, Tracks]:
    rows = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    if any(len(row) < 7 for row in rows):
        raise ValueError("a point without its position or colour")
    colors = [[int(w) for w in row[4:7]] for row in rows]
    if not all(0 <= value <= 255 for color in colors for value in color):
        raise ValueError("a point with a colour beyond 0 to 255")
    ids = [int(word) for row in rows for word in row[8::2]]
    errors = [float(row[7]) if len(row) > 7 else np.nan for row in rows]
    counts = [len(row[8::2]) for row in rows]
    return [[float(w) for w in row[1:4]] for row in rows], colors, _tracks(counts, ids, errors)


def _tracks(counts, ids, errors) -> Tracks:
    """COLMAP writes an error of -1 where it has measured none."""
    errors = np.array(errors, np.float64)
    errors[~(errors >= 0) | ~np.isfinite(errors)] = np.nan
    with np.errstate(over="ignore"):
        return Tracks(np.array(counts, np.int64), np.array(ids, np.int64), errors.astype(np.float32))
