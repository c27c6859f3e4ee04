"""Pinhole cameras: intrinsics and pose, and their conventions.

Image plane: x to the right, y down, (0, 0) the outer corner of the upper-left pixel, so that pixel centres lie at +0.5.
Pose: camera-to-world, OpenGL axes (x right, y up, looks along -z), in the capture's units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SHAPE_TOLERANCE = 0.02  # of the sides: what a mask or depths of another size may differ by


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole lens: image size and focal lengths and principal point in pixels."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    @property
    def square_pixels(self) -> bool:
        """Whether both focal lengths agree to a millionth, which is 0.001 pixels at the border of a photo."""
        return abs(self.fx - self.fy) <= 1e-6 * abs(self.fx)

    def scaled_to(self, width: int, height: int) -> Intrinsics:
        """The same lens for the same photo resampled to another size.

        Args:
            width: Of the resampled photo, in pixels.
            height: Of the resampled photo, in pixels.

        Returns:
            The intrinsics in pixels of the resampled photo.
        """
        sx, sy = width / self.width, height / self.height
        return Intrinsics(width, height, self.fx * sx, self.fy * sy, self.cx * sx, self.cy * sy)

    def has_shape(self, width: int, height: int) -> bool:
        """Whether a picture of any size is of the photo's shape, but for what rounding leaves.

        Args:
            width: Of the picture, in pixels.
            height: Of the picture, in pixels.
        """
        return abs(width * self.height - height * self.width) <= SHAPE_TOLERANCE * height * self.width

    def fitted(self, longest_side: int) -> tuple[Intrinsics, tuple[float, float, float, float]]:
        """The same lens for the photo scaled down, never up, to at most longest_side pixels.

        Pixels keep their shape exactly: the shorter side is rounded down, and what that leaves over, less than one
        pixel of the result, is cut off evenly from its two ends.

        Args:
            longest_side: Pixels.

        Returns:
            The intrinsics, and the part of the photo that is kept as (left, top, right, bottom) in pixels of the photo.
        """
        longest = max(self.width, self.height)
        if longest <= longest_side:
            return self, (0.0, 0.0, float(self.width), float(self.height))
        width, height = (max(1, side * longest_side // longest) for side in (self.width, self.height))
        scale = max(width / self.width, height / self.height)
        left, top = max(0.0, (self.width - width / scale) / 2), max(0.0, (self.height - height / scale) / 2)
        k = Intrinsics(
            width, height, self.fx * scale, self.fy * scale, (self.cx - left) * scale, (self.cy - top) * scale
        )
        return k, (left, top, self.width - left, self.height - top)


@dataclass(frozen=True)
class Camera:
    """Intrinsics and a pose.

    Attributes:
        intrinsics: In pixels.
        camera_to_world: (4, 4) float64, rigid, OpenGL axes, in the capture's units.
    """

    intrinsics: Intrinsics
    camera_to_world: np.ndarray

    @property
    def position(self) -> np.ndarray:
        """(3,) the camera centre in the capture's units."""
        return self.camera_to_world[:3, 3]

    def scaled_to(self, width: int, height: int) -> Camera:
        """The same camera with images of another size.

        Args:
            width: In pixels.
            height: In pixels.

        Returns:
            A camera of its own.
        """
        return Camera(self.intrinsics.scaled_to(width, height), self.camera_to_world)

    def rays(self) -> tuple[np.ndarray, np.ndarray]:
        """Rays through all pixel centres, row by row.

        Returns:
            Origins and directions, (height * width, 3) float32 each. Directions are *not* unit length: their component
            along the optical axis is 1, so a distance along them is depth along the camera's z axis.
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
            "width": k.width,
            "height": k.height,
            "fx": k.fx,
            "fy": k.fy,
            "cx": k.cx,
            "cy": k.cy,
            "camera_to_world": np.asarray(self.camera_to_world, np.float64).tolist(),
        }

    @staticmethod
    def from_json(data: dict) -> Camera:
        """The inverse of `to_json`.

        Args:
            data: width and height in pixels, fx, fy, cx, cy, and camera_to_world as 4 rows of 4 numbers.

        Raises:
            KeyError: For something that is not there.
            ValueError, TypeError, OverflowError: For what is no number, or not 16 of them.
        """
        k = Intrinsics(int(data["width"]), int(data["height"]), *(float(data[n]) for n in ("fx", "fy", "cx", "cy")))
        return Camera(k, np.array(data["camera_to_world"], np.float64).reshape(4, 4))


def look_at_point(positions: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """The point nearest to all optical axes: least squares, sum of (I - d d^T)(x - o) = 0.

    Args:
        positions: (n, 3) camera centres o.
        axes: (n, 3) unit directions d, forwards or backwards.

    Returns:
        (3,), in the units of the positions; of parallel axes, a point near the origin.
    """
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    return np.linalg.lstsq(across.sum(0) + 1e-6 * np.eye(3), (across @ positions[:, :, None]).sum(0)[:, 0], rcond=None)[
        0
    ]
