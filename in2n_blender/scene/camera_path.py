"""A camera path: the frames to render, each with a full camera, and the frame rate; and one made from a capture
alone."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .camera import Camera, Intrinsics, look_at_point
from .capture import PinholeCapture, View
from .errors import In2nError, what_is_wrong
from .text import text_of

LONGEST_SIDE = 1 << 16  # of a frame, in pixels, as in Blender
MOST_FRAMES = 1 << 20  # Blender's last frame
NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.\- ]{0,78}[A-Za-z0-9_\-])?")


@dataclass(frozen=True)
class PathFrame:
    """One frame to render. number: the frame number that names the file (Blender's current frame)."""

    number: int
    camera: Camera


@dataclass(frozen=True)
class CameraPath:
    """Frames in order.

    Attributes:
        name: A plain file name; the frames' folder is called so.
        fps: Frames a second.
        frames: Cameras in the capture's coordinates, OpenGL axes.
        unit_scale: Scene units per capture unit: the scale of the capture's Empty. Depth is written in scene units.
    """

    name: str
    fps: float
    frames: tuple[PathFrame, ...]
    unit_scale: float = 1.0

    def to_json(self) -> dict:
        return {
            "name": self.name,
            "fps": self.fps,
            "unit_scale": self.unit_scale,
            "frames": [{"number": f.number, **f.camera.to_json()} for f in self.frames],
        }

    @staticmethod
    def from_json(data: object, where: str = "The camera path") -> CameraPath:
        """What `to_json` wrote, or a stranger.

        Args:
            data: Parsed JSON; without unit_scale, as the last version wrote it, this is 1.
            where: Its file, for messages.

        Raises:
            In2nError: "bad_camera_path" for anything else, and for numbers, sizes or names that cannot be.
        """
        try:
            return _checked(data)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reason = what_is_wrong(error)
            raise In2nError(
                "bad_camera_path", f"{where} cannot be used: {reason}.", "Export the camera path again."
            ) from None

    @staticmethod
    def load(path: Path) -> CameraPath:
        """Read a camera path's file.

        Args:
            path: The file.

        Raises:
            In2nError: "missing_file", "bad_camera_path".
        """
        try:
            data = json.loads(text_of(path))
        except FileNotFoundError:
            raise In2nError(
                "missing_file", f"{path} does not exist.", "Check the path, or export the camera path again."
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise In2nError(
                "bad_camera_path", f"{path} cannot be read ({reason}).", "Export the camera path again."
            ) from None
        return CameraPath.from_json(data, str(path))


def _checked(data: object) -> CameraPath:
    """Raises ValueError and the like, with what is wrong."""
    if not isinstance(data, dict) or not isinstance(data["frames"], list):
        raise ValueError("it is not an object with a list of frames")
    if not isinstance(data["name"], str) or not NAME.fullmatch(data["name"]):
        raise ValueError(f"its name {data['name']!r:.100} is not a plain file name")
    if not 0 < len(data["frames"]) <= MOST_FRAMES:
        raise ValueError(f"it has {len(data['frames']) or 'no'} frames")
    frames = tuple(_checked_frame(frame) for frame in data["frames"])
    if len({frame.number for frame in frames}) < len(frames):
        raise ValueError("two of its frames have one number")
    return CameraPath(
        data["name"], _positive(data["fps"], "fps"), frames, _positive(data.get("unit_scale", 1.0), "unit_scale")
    )


def _checked_frame(data: object) -> PathFrame:
    if not isinstance(data, dict) or type(data["number"]) is not int or abs(data["number"]) > MOST_FRAMES:
        raise ValueError("a frame has no number")
    number = data["number"]
    for key in ("width", "height"):
        if type(data[key]) is not int or not 1 <= data[key] <= LONGEST_SIDE:
            raise ValueError(f"the {key} of frame {number} is {data[key]!r:.40}")
    camera = Camera.from_json(data)
    k, pose = camera.intrinsics, camera.camera_to_world
    if not np.isfinite([k.fx, k.fy, k.cx, k.cy]).all() or min(k.fx, k.fy) <= 0:
        raise ValueError(f"the lens of frame {number} is not one")
    rotation = pose[:3, :3]
    if not np.isfinite(pose).all() or not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3):
        raise ValueError(f"the pose of frame {number} is not a rotation and a position")
    return PathFrame(number, camera)


def _positive(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"its {what} is {value!r:.40}")
    return float(value)


CLOSED_GAP = np.radians(75.0)
"""An orbit is closed if no part of the circle wider than this has no photo."""

_STEPS = 1024  # of the dense path from which frames at an even pace are taken


def through_views(
    capture: PinholeCapture,
    frame_count: int,
    fps: float = 24.0,
    width: int | None = None,
    height: int | None = None,
    name: str = "through-views",
) -> CameraPath:
    """A smooth path near the training cameras, at an even pace, with their median lens.

    Where the cameras look at something in their midst it is an orbit around that: closed if they stand all around it
    (the last frame is then one step before the first), else from one end of their arc to the other. Elsewhere it goes
    along the photos in their order, or from neighbour to neighbour where that is much shorter. Positions and directions
    are averages of the nearby photos' (Gaussian kernel), so that the shake of a hand does not show.

    Args:
        capture: Its training views are followed, all views where there are none.
        frame_count: Frames, numbered from 1.
        fps: Frames a second.
        width: Of a frame, in pixels; None: as the most frequent size of the views.
        height: Likewise.
        name: The path's.
    """
    views = capture.training_views or capture.views
    poses = np.stack([v.camera.camera_to_world for v in views])
    positions, forward, up, closed = _orbit(poses) or _walk(poses)
    forward, up = _unit(forward), _unit(up)
    extent = float(np.linalg.norm(poses[:, :3, 3] - poses[:, :3, 3].mean(0), axis=1).mean())
    moved = np.linalg.norm(np.diff(positions, axis=0), axis=1) + 0.5 * max(extent, 1e-9) * np.linalg.norm(
        np.diff(forward, axis=0), axis=1
    )
    distance = np.r_[0, np.cumsum(moved)]
    at = np.linspace(0, distance[-1], frame_count, endpoint=not closed) if frame_count > 1 else distance[-1:] / 2
    if distance[-1] <= 0:  # all photos from one place in one direction
        distance = np.linspace(0, 1, len(positions))
    along = lambda values: np.stack([np.interp(at, distance, values[:, i]) for i in range(3)], -1)
    intrinsics = _median_lens(views, width, height)
    frames = tuple(
        PathFrame(i + 1, Camera(intrinsics, _look(*pose)))
        for i, pose in enumerate(zip(along(positions), along(forward), along(up)))
    )
    return CameraPath(name, float(fps), frames)


def _orbit(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool] | None:
    """Dense positions, view and up directions (_STEPS + 1, 3) around what the cameras look at; None if they do not
    surround it.

    Averages are taken in cylindrical coordinates around the vertical through the centre: there the average of cameras
    stays outside among them, while a plain average of positions would cut corners.
    """
    positions, backward, up = poses[:, :3, 3], poses[:, :3, 2], poses[:, :3, 1]
    center = look_at_point(positions, backward)
    away = positions - center
    reach = np.linalg.norm(away, axis=1)
    if len(poses) < 3 or np.median(np.einsum("ij,ij->i", away, backward) / np.maximum(reach, 1e-9)) < 0.7:
        return None
    vertical = _vertical(poses)
    east = _unit(np.cross(vertical, np.eye(3)[np.argmin(np.abs(vertical))]))
    axes = np.stack([east, np.cross(vertical, east), vertical])
    x, y, z = axes @ away.T
    azimuth, radius = np.arctan2(y, x), np.hypot(x, y)
    order = np.argsort(azimuth)
    gaps = np.diff(np.r_[azimuth[order], azimuth[order[0]] + 2 * np.pi])
    closed = bool(gaps.max() < CLOSED_GAP)
    start = azimuth[order[(np.argmax(gaps) + 1) % len(order)]]
    span = 2 * np.pi if closed else 2 * np.pi - gaps.max()
    if span * np.median(radius) < 0.1 * np.median(reach):
        return None
    azimuth = start + (azimuth - start) % (2 * np.pi)

    def rotation(angle: np.ndarray) -> np.ndarray:
        """(n, 3, 3): rows are outwards, sideways and up at each azimuth."""
        c, s, o = np.cos(angle), np.sin(angle), np.zeros_like(angle)
        return np.stack([c, s, o, -s, c, o, o, o, o + 1], -1).reshape(-1, 3, 3) @ axes

    local = rotation(azimuth)
    values = np.c_[radius, z, (local @ -backward[:, :, None])[..., 0], (local @ up[:, :, None])[..., 0]]
    angles = np.linspace(start, start + span, _STEPS + 1)
    difference = angles[:, None] - azimuth
    if closed:
        difference = (difference + np.pi) % (2 * np.pi) - np.pi
    # a camera high above the centre says little about any one azimuth
    mean = _kernel_average(difference, span / 10, values, radius / reach)
    world = np.swapaxes(rotation(angles), 1, 2)
    position = np.stack([mean[:, 0], np.zeros(len(mean)), mean[:, 1]], -1)
    to_world = lambda v: (world @ v[:, :, None])[..., 0]
    return center + to_world(position), to_world(mean[:, 2:5]), to_world(mean[:, 5:8]), closed


def _walk(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """Dense positions, view and up directions along the cameras' order."""
    positions = poses[:, :3, 3]
    size = max(float(np.linalg.norm(positions - positions.mean(0), axis=1).max()), 1e-9)
    features = np.c_[positions / size, 0.5 * poses[:, :3, 2]]
    order = np.arange(len(poses))
    neighbours = nearest_neighbour_order(features)
    if _length(features[neighbours]) < 0.6 * _length(features[order]):
        order = neighbours
    steps = np.linalg.norm(np.diff(features[order], axis=0), axis=1)
    along = np.r_[0, np.cumsum(steps + 1e-9)]
    parameter = np.linspace(0, along[-1], _STEPS + 1)
    values = np.c_[positions, -poses[:, :3, 2], poses[:, :3, 1]][order]
    mean = _kernel_average(parameter[:, None] - along, max(along[-1] / 24, 1e-9), values, np.ones(len(order)))
    return mean[:, :3], mean[:, 3:6], mean[:, 6:9], False


def _kernel_average(difference: np.ndarray, sigma: float, values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Averages (n, v) of values (m, v) with Gaussian weights of the differences (n, m); far from all, the nearest
    one's."""
    exponent = -0.5 * (difference / sigma) ** 2 + np.log(np.maximum(weight, 1e-6))
    weights = np.exp(exponent - exponent.max(1, keepdims=True))
    return weights @ values / weights.sum(1, keepdims=True)


def _vertical(poses: np.ndarray) -> np.ndarray:
    """The direction to which the cameras' horizontal axes are perpendicular, on the side of their mean up."""
    right, mean_up = poses[:, :3, 0], _unit(poses[:, :3, 1].mean(0))
    tilt = right.T @ right / len(poses) + 0.02 * (np.eye(3) - np.outer(mean_up, mean_up))
    vertical = np.linalg.eigh(tilt)[1][:, 0]
    return vertical * (np.sign(vertical @ mean_up) or 1.0)


def nearest_neighbour_order(features: np.ndarray) -> np.ndarray:
    """A short tour: from the point farthest from the mean, always on to the nearest that is left.

    Args:
        features: (n, d) points.

    Returns:
        (n,) their indices in order.
    """
    current = int(np.argmax(np.linalg.norm(features - features.mean(0), axis=1)))
    left = np.ones(len(features), bool)
    order = []
    while True:
        order.append(current)
        left[current] = False
        if not left.any():
            return np.array(order)
        distance = np.where(left, np.linalg.norm(features - features[current], axis=1), np.inf)
        current = int(np.argmin(distance))


def _median_lens(views: tuple[View, ...], width: int | None, height: int | None) -> Intrinsics:
    """The median lens of the views of the most frequent size; at another size, the same view, cut to fill it."""
    lenses = [v.camera.intrinsics for v in views]
    sizes = [(k.width, k.height) for k in lenses]
    size = max(dict.fromkeys(sizes), key=sizes.count)
    fx, fy, cx, cy = np.median(
        [(k.fx, k.fy, k.cx, k.cy) for k in lenses if (k.width, k.height) == size], axis=0
    ).tolist()
    width, height = width or size[0], height or size[1]
    scale = max(width / size[0], height / size[1])
    return Intrinsics(
        width,
        height,
        fx * scale,
        fy * scale,
        width / 2 + (cx - size[0] / 2) * scale,
        height / 2 + (cy - size[1] / 2) * scale,
    )


def _look(position: np.ndarray, forward: np.ndarray, up: np.ndarray) -> np.ndarray:
    """(4, 4) camera-to-world, OpenGL axes."""
    backward = -_unit(forward)
    right = _unit(np.cross(up, backward))
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = right, np.cross(backward, right), backward, position
    return pose


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12)


def _length(points: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
