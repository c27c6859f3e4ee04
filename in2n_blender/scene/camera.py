"""Pinhole cameras: intrinsics and pose, and their conventions.

Image plane: x to the right, y down, (0, 0) the outer corner of the upper-left pixel, so that pixel centres lie at +0.5.
Pose: camera-to-world, OpenGL axes (x right, y up, looks along -z), in the capture's units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole lens: image size and focal lengths and principal point in pixels."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def scaled_to(self, width: int, height: int) -> "Intrinsics":
        """The same lens for the same photo resampled to width x height pixels."""
        sx, sy = width / self.width, height / self.height
        return Intrinsics(width, height, self.fx * sx, self.fy * sy, self.cx * sx, self.cy * sy)


@dataclass(frozen=True)
class Camera:
    """Intrinsics and a pose.

    camera_to_world: (4, 4) float64, rigid, OpenGL axes.
    """

    intrinsics: Intrinsics
    camera_to_world: np.ndarray

    @property
    def position(self) -> np.ndarray:
        """(3,) the camera centre in the capture's units."""
        return self.camera_to_world[:3, 3]

    def rays(self) -> tuple[np.ndarray, np.ndarray]:
        """Origins and directions through all pixel centres, row by row.

        Returns (height * width, 3) float32 twice. Directions are *not* unit length: their component along the
        optical axis is 1, so a distance along them is depth along the camera's z axis.
        """
        k = self.intrinsics
        x = (np.arange(k.width) + 0.5 - k.cx) / k.fx
        y = -(np.arange(k.height) + 0.5 - k.cy) / k.fy
        xx, yy = np.meshgrid(x, y)
        directions = np.stack([xx, yy, -np.ones_like(xx)], -1).reshape(-1, 3) @ self.camera_to_world[:3, :3].T
        origins = np.broadcast_to(self.position, directions.shape)
        return origins.astype(np.float32), directions.astype(np.float32)

    def to_json(self) -> dict:
        k = self.intrinsics
        return {
            "width": k.width, "height": k.height, "fx": k.fx, "fy": k.fy, "cx": k.cx, "cy": k.cy,
            "camera_to_world": np.asarray(self.camera_to_world, np.float64).tolist(),
        }

    @staticmethod
    def from_json(data: dict) -> "Camera":
        k = Intrinsics(int(data["width"]), int(data["height"]), *(float(data[n]) for n in ("fx", "fy", "cx", "cy")))
        return Camera(k, np.array(data["camera_to_world"], np.float64).reshape(4, 4))
