"""A camera path: the frames to render, each with a full camera, and the frame rate."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from .camera import Camera


@dataclass(frozen=True)
class PathFrame:
    """One frame to render. number: the frame number that names the file (Blender's current frame)."""

    number: int
    camera: Camera


@dataclass(frozen=True)
class CameraPath:
    """Frames in order; cameras in the capture's coordinates, OpenGL axes."""

    name: str
    fps: float
    frames: tuple[PathFrame, ...]

    def to_json(self) -> dict:
        return {"name": self.name, "fps": self.fps,
                "frames": [{"number": f.number, **f.camera.to_json()} for f in self.frames]}

    @staticmethod
    def from_json(data: dict) -> "CameraPath":
        return CameraPath(data["name"], float(data["fps"]),
                          tuple(PathFrame(int(f["number"]), Camera.from_json(f)) for f in data["frames"]))

    @staticmethod
    def load(path: Path) -> "CameraPath":
        return CameraPath.from_json(json.loads(Path(path).read_text(encoding="utf-8")))
