"""A capture: photos with cameras and sparse points, as read from the user's files and as kept in a workspace."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .camera import Camera
from .lens import Lens


@dataclass(frozen=True)
class Frame:
    """One photo of a capture as the user's files describe it, still distorted, at its own size."""

    name: str
    photo: Path
    lens: Lens
    camera_to_world: np.ndarray
    held_out: bool | None = None  # None: the files do not say


@dataclass(frozen=True)
class Capture:
    """What a reader returns: every pose is camera-to-world, OpenGL axes, float64 (4, 4).

    points: (P, 3) float32 sparse points in the capture's units; point_colors: (P, 3) uint8.
    missing: names of frames that the files list but whose photo is not there.
    """

    name: str
    source: Path
    frames: tuple[Frame, ...]
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.float32))
    point_colors: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.uint8))
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class View:
    """One normalised photo: undistorted, square pixels. image is relative to the workspace."""

    name: str
    image: str
    camera: Camera
    held_out: bool = False


@dataclass(frozen=True)
class PinholeCapture:
    """The capture as a workspace keeps it (capture.json): pinhole views whose cameras fit the images on disk exactly."""

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
            "name": self.name, "source": self.source, "preset": self.preset, "missing": list(self.missing),
            "views": [{"name": v.name, "image": v.image, "held_out": v.held_out, **v.camera.to_json()} for v in self.views],
            "points": np.round(np.asarray(self.points, np.float64), 6).tolist(),
            "point_colors": np.asarray(self.point_colors).tolist(),
        }

    @staticmethod
    def from_json(data: dict) -> "PinholeCapture":
        return PinholeCapture(
            data["name"], data["source"], data["preset"],
            tuple(View(v["name"], v["image"], Camera.from_json(v), bool(v["held_out"])) for v in data["views"]),
            np.array(data["points"], np.float32).reshape(-1, 3), np.array(data["point_colors"], np.uint8).reshape(-1, 3),
            tuple(data["missing"]),
        )

    @staticmethod
    def load(path: Path) -> "PinholeCapture":
        return PinholeCapture.from_json(json.loads(Path(path).read_text(encoding="utf-8")))


def load_capture(path: Path | str) -> Capture:
    """Choose a reader for a folder or file and read it. Raises In2nError."""
    from .readers import read

    return read(Path(path))
