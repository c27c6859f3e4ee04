"""A capture: photos with cameras and sparse points, as read from the user's files and as kept in a workspace."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .camera import Camera
from .errors import In2nError
from .lens import Lens, pinhole_for
from .names import is_plain

MAXIMUM_POINTS = 50_000
LONGEST_SIDE = 1 << 16  # of a view, in pixels: more is a mistake


@dataclass(frozen=True)
class Frame:
    """One photo of a capture as the user's files describe it, still distorted, at its own size.

    lens: in pixels of the photo after `orientation`, the EXIF orientation (1 to 8), was applied to what is stored.
    """

    name: str
    photo: Path
    lens: Lens
    camera_to_world: np.ndarray
    held_out: bool | None = None  # None: the files do not say
    orientation: int = 1


@dataclass(frozen=True)
class Capture:
    """What a reader returns: every pose is camera-to-world, OpenGL axes, float64 (4, 4).

    points: (P, 3) float32 sparse points in the capture's units; point_colors: (P, 3) uint8.
    missing: names of frames that the files list but whose photo is not there; unreadable: whose photo is there but
    broken.
    """

    name: str
    source: Path
    frames: tuple[Frame, ...]
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.float32))
    point_colors: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.uint8))
    missing: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True)
class View:
    """One normalised photo: undistorted, square pixels. image is relative to the workspace."""

    name: str
    image: str
    camera: Camera
    held_out: bool = False


@dataclass(frozen=True)
class PinholeCapture:
    """The capture as a workspace keeps it (capture.json): pinhole views whose cameras fit the images on disk exactly.

    source: where it was read from; relative to the workspace if it lies inside it, else absolute.
    missing: names of frames without a view, because their photo is not there or cannot be read.
    """

    name: str
    source: str
    preset: str
    views: tuple[View, ...]
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.float32))
    point_colors: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.uint8))
    missing: tuple[str, ...] = ()

    @property
    def training_views(self) -> tuple[View, ...]:
        return tuple(v for v in self.views if not v.held_out)

    @property
    def held_out_views(self) -> tuple[View, ...]:
        return tuple(v for v in self.views if v.held_out)

    def to_json(self) -> dict:
        return {
            "name": self.name,
            "source": self.source,
            "preset": self.preset,
            "missing": list(self.missing),
            "views": [
                {"name": v.name, "image": v.image, "held_out": v.held_out, **v.camera.to_json()} for v in self.views
            ],
            "points": np.round(np.asarray(self.points, np.float64), 6).tolist(),
            "point_colors": np.asarray(self.point_colors).tolist(),
        }

    @staticmethod
    def from_json(data: object, where: str = "capture.json") -> PinholeCapture:
        """What `to_json` wrote, or a stranger: nothing of it is believed.

        Args:
            data: Parsed JSON.
            where: Its file, for messages.

        Raises:
            In2nError: "bad_capture" for names that are not plain or not unique, images outside the workspace, numbers
                that are not finite, sizes that are not positive, poses that are not rigid.
        """
        try:
            return _checked(data)
        except (ValueError, TypeError, OverflowError, KeyError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise In2nError(
                "bad_capture",
                f"{where} cannot be used as a capture: {reason}.",
                "Import the capture again, into a new workspace.",
            ) from None

    @staticmethod
    def load(path: Path) -> PinholeCapture:
        """Read capture.json. Raises In2nError("missing_file") or In2nError("bad_capture")."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise In2nError(
                "missing_file", f"{path} does not exist.", "Import a capture into this workspace first."
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise In2nError(
                "bad_capture",
                f"{path} cannot be read ({reason}).",
                "Import the capture again, into a new workspace.",
            ) from None
        return PinholeCapture.from_json(data, str(path))


def _checked(data: object) -> PinholeCapture:
    """Raises ValueError and the like, with what is wrong."""
    if not isinstance(data, dict):
        raise ValueError("it is not an object")
    for key, kind in (("name", str), ("source", str), ("preset", str), ("views", list), ("missing", list)):
        if not isinstance(data[key], kind):
            raise ValueError(f"its {key} is not a {kind.__name__}")
    if not all(isinstance(name, str) for name in data["missing"]):
        raise ValueError("its missing names are not text")
    views = tuple(_checked_view(number, view) for number, view in enumerate(data["views"], 1))
    if not views:
        raise ValueError("it has no views")
    taken: set[str] = set()
    for view in views:
        if view.name.lower() in taken:
            raise ValueError(f"two of its views are named “{view.name}”")
        taken.add(view.name.lower())
    points, colors = _rows(data["points"], "points"), _rows(data["point_colors"], "point_colors")
    if len(points) != len(colors) or ((colors < 0) | (colors > 255)).any():
        raise ValueError("its points and their colours do not fit")
    return PinholeCapture(
        data["name"],
        data["source"],
        data["preset"],
        views,
        points.astype(np.float32),
        colors.astype(np.uint8),
        tuple(data["missing"]),
    )


def _checked_view(number: int, data: object) -> View:
    if not isinstance(data, dict):
        raise ValueError(f"view {number} is not an object")
    name, image = data["name"], data["image"]
    if not is_plain(name):
        raise ValueError(f"view {number} is named {name!r}, which is not a plain file name")
    if not _stays_inside(image):
        raise ValueError(f"the image of {name} is {image!r}, which is not a path inside the workspace")
    if not isinstance(data["held_out"], bool):
        raise ValueError(f"held_out of {name} is neither true nor false")
    for key in ("width", "height"):
        if type(data[key]) is not int or not 1 <= data[key] <= LONGEST_SIDE:
            raise ValueError(f"the {key} of {name} is {data[key]!r:.40}")
    try:
        camera = Camera.from_json(data)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"the camera of {name} is not made of numbers") from None
    k = camera.intrinsics
    if not np.isfinite([k.fx, k.fy, k.cx, k.cy]).all() or min(k.fx, k.fy) <= 0:
        raise ValueError(
            f"the lens of {name} has the focal lengths {k.fx:g}, {k.fy:g} and the centre {k.cx:g}, {k.cy:g}"
        )
    if not _is_rigid(camera.camera_to_world):
        raise ValueError(f"the pose of {name} is not a rotation and a position")
    return View(name, image, camera, data["held_out"])


def _stays_inside(image: object) -> bool:
    """Whether an image is a relative path that leads nowhere but down, on every platform."""
    if not isinstance(image, str) or {"\\", ":", "\0"} & set(image):
        return False
    return all(part not in ("", ".", "..") for part in image.split("/"))


def _is_rigid(pose: np.ndarray) -> bool:
    rotation = pose[:3, :3]
    return bool(
        np.isfinite(pose).all()
        and np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-4)
        and np.linalg.det(rotation) > 0
        and (pose[3] == [0, 0, 0, 1]).all()
    )


def _rows(rows: object, what: str) -> np.ndarray:
    """(n, 3) float64, finite."""
    try:
        array = np.array(rows, np.float64).reshape(-1, 3)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"its {what} are not rows of three numbers") from None
    if not np.isfinite(array).all():
        raise ValueError(f"its {what} have a number that is not finite")
    return array


def pinhole_capture(capture: Capture, longest_side: int, hold_out_every: int = 8, preset: str = "") -> PinholeCapture:
    """The normalised capture that `capture` becomes: needs numpy only and reads no photo.

    Photos are scaled down, never up, to at most longest_side pixels. Held out are the views that the files say; where
    they say nothing, every hold_out_every-th (0: none), starting in the middle of the first such run of views.
    Sparse points: at most MAXIMUM_POINTS, chosen with a fixed seed.
    Raises In2nError: "bad_setting", "bad_intrinsics", "too_few_photos".
    """
    if longest_side < 1 or hold_out_every < 0 or hold_out_every == 1:
        raise In2nError(
            "bad_setting",
            f"Photos of {longest_side} pixels with every {hold_out_every}th view held out cannot be made.",
            "Hold out every second view at most, or 0 for none.",
        )
    held_out = _held_out(capture.frames, hold_out_every)
    if len(held_out) - sum(held_out) < 3:
        raise In2nError(
            "too_few_photos",
            (
                f"Only {len(held_out) - sum(held_out)} photos of {capture.source} are left to train on; the others are "
                "held out."
            ),
            "Hold out fewer views.",
        )
    pinholes = {frame.lens: None for frame in capture.frames}
    pinholes = {lens: pinhole_for(lens).fitted(longest_side)[0] for lens in pinholes}
    views = tuple(
        View(f.name, f"images/{f.name}.png", Camera(pinholes[f.lens], f.camera_to_world), out)
        for f, out in zip(capture.frames, held_out)
    )
    points, colors = capture.points, capture.point_colors
    if len(points) > MAXIMUM_POINTS:
        chosen = np.sort(np.random.default_rng(0).choice(len(points), MAXIMUM_POINTS, replace=False))
        points, colors = points[chosen], colors[chosen]
    source = Path(capture.source).expanduser().resolve().as_posix()
    return PinholeCapture(capture.name, source, preset, views, points, colors, capture.missing + capture.unreadable)


def _held_out(frames: tuple[Frame, ...], every: int) -> list[bool]:
    if any(f.held_out is not None for f in frames):
        return [bool(f.held_out) for f in frames]
    return [every > 0 and i % every == every // 2 for i in range(len(frames))]
