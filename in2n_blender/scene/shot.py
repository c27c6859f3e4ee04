"""A shot: one picture to render, of any lens that Blender has rays for, with its depth of field and motion blur.

Pixels, poses and units are those of `camera`. Tested against Cycles, ray by ray.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from .camera import Camera
from .camera_path import LONGEST_SIDE
from .errors import In2nError, what_is_wrong

PERSPECTIVE, ORTHOGRAPHIC, PANORAMA = LENSES = ("perspective", "orthographic", "panorama")
WHOLE_SPHERE = (-math.pi, math.pi, -math.pi / 2, math.pi / 2)
MOST_MOMENTS = 64


@dataclass(frozen=True)
class ShotRays:
    """Rays in the capture's coordinates.

    Attributes:
        origins: (n, 3) float64.
        directions: (n, 3) float64 of unit length.
        cosines: (n,) float64: a distance along the ray times this is what Blender calls its depth, along the camera's
            axis; in a panorama the distance itself.
    """

    origins: np.ndarray
    directions: np.ndarray
    cosines: np.ndarray


@dataclass(frozen=True)
class Shot:
    """One picture to render.

    Attributes:
        cameras: The camera at even moments from the shutter's opening to its closing; one where nothing blurs. All are
            of one size. Their focal lengths are pixels; orthographic, pixels for a unit of the capture; a panorama
            uses none.
        lens: One of LENSES.
        span: Of a panorama (equirectangular): its lowest and highest longitude, then latitude, in radians.
        border: The part that is rendered, (left, top, right, bottom) in pixels; None: all.
        aperture: Radius of the lens in units of the capture; 0: everything is sharp.
        focus: From the camera to what is sharp, along its axis, in units of the capture.
    """

    cameras: tuple[Camera, ...]
    lens: str = PERSPECTIVE
    span: tuple[float, float, float, float] = WHOLE_SPHERE
    border: tuple[int, int, int, int] | None = None
    aperture: float = 0.0
    focus: float = 1.0

    @property
    def box(self) -> tuple[int, int, int, int]:
        """What is rendered: (left, top, right, bottom) in pixels."""
        k = self.cameras[0].intrinsics
        return self.border or (0, 0, k.width, k.height)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what is rendered, in pixels."""
        left, top, right, bottom = self.box
        return right - left, bottom - top

    @property
    def is_blurred(self) -> bool:
        """Whether one ray does not show what a pixel does: there is depth of field or motion blur."""
        return self.aperture > 0 or len(self.cameras) > 1

    def scaled(self, width: int, height: int) -> Shot:
        """The same shot in another size, as a whole.

        Args:
            width: Of the whole picture in pixels.
            height: Likewise.

        Returns:
            Without a border.
        """
        return replace(self, cameras=tuple(c.scaled_to(width, height) for c in self.cameras), border=None)

    def rays(
        self, x: np.ndarray, y: np.ndarray, time: np.ndarray | None = None, on_lens: np.ndarray | None = None
    ) -> ShotRays:
        """Rays through points of the picture.

        Args:
            x: (n,) from the left of the whole picture, in pixels; centres of pixels lie at 1/2.
            y: (n,) from its top.
            time: (n,) from 0, where the shutter opens, to 1; None: its middle.
            on_lens: (n, 2) points of the unit disc; None: its middle.

        Returns:
            A ray for each point.
        """
        lens, poses = self._at(np.full(len(x), 0.5) if time is None else time)
        inwards, directions = self._pinhole(lens, np.asarray(x, np.float64), np.asarray(y, np.float64))
        cosines = np.ones(len(directions)) if self.lens == PANORAMA else -directions[:, 2]
        if self.aperture > 0 and on_lens is not None:
            inwards, directions = self._through_lens(inwards, directions, np.asarray(on_lens, np.float64))
            cosines = cosines if self.lens == PANORAMA else -directions[:, 2]
        turn, place = poses[:, :, :3], poses[:, :, 3]
        return ShotRays(
            (turn @ inwards[:, :, None])[..., 0] + place, _unit((turn @ directions[:, :, None])[..., 0]), cosines
        )

    def _at(self, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lenses fx, fy, cx, cy (n or 1, 4) and poses (n or 1, 3, 4) at moments, even between two cameras."""
        lenses = np.array([[k.fx, k.fy, k.cx, k.cy] for k in (c.intrinsics for c in self.cameras)])
        poses = np.stack([np.asarray(c.camera_to_world, np.float64)[:3] for c in self.cameras])
        if len(self.cameras) == 1:
            return lenses, poses
        along = np.clip(time, 0, 1) * (len(self.cameras) - 1)
        first = np.minimum(along.astype(int), len(self.cameras) - 2)
        share = along - first
        mix = lambda values, s: values[first] * (1 - s) + values[first + 1] * s
        return mix(lenses, share[:, None]), mix(poses, share[:, None, None])

    def _pinhole(self, lens: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Origins and unit directions (n, 3) of rays in the camera's own coordinates."""
        k, nothing = self.cameras[0].intrinsics, np.zeros(len(x))
        if self.lens == PANORAMA:
            west, east, south, north = self.span
            longitude, latitude = west + (east - west) * x / k.width, north + (south - north) * y / k.height
            flat = np.cos(latitude)
            directions = [flat * np.sin(longitude), np.sin(latitude), -flat * np.cos(longitude)]
            return np.zeros((len(x), 3)), np.stack(directions, -1)
        right, up = (x - lens[:, 2]) / lens[:, 0], -(y - lens[:, 3]) / lens[:, 1]
        if self.lens == ORTHOGRAPHIC:
            return np.stack([right, up, nothing], -1), np.stack([nothing, nothing, nothing - 1], -1)
        return np.zeros((len(x), 3)), _unit(np.stack([right, up, nothing - 1], -1))

    def _through_lens(
        self, origins: np.ndarray, directions: np.ndarray, on_lens: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The rays through other points of the lens that meet the same points at the focus."""
        distance = self.focus if self.lens == PANORAMA else self.focus / -directions[:, 2:]
        sharp = origins + directions * distance
        right, up = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
        if self.lens == PANORAMA:  # the lens faces wherever its ray goes
            right = np.cross(directions, up)
            poles = np.linalg.norm(right, axis=-1) < 1e-6
            right[poles] = [1, 0, 0]
            right = _unit(right)
            up = np.cross(right, directions)
        origins = origins + self.aperture * (on_lens[:, :1] * right + on_lens[:, 1:] * up)
        return origins, _unit(sharp - origins)

    def to_json(self) -> dict:
        """The shot as JSON knows it."""
        return {
            "cameras": [camera.to_json() for camera in self.cameras],
            "lens": self.lens,
            "span": list(self.span),
            "border": list(self.border) if self.border else None,
            "aperture": self.aperture,
            "focus": self.focus,
        }

    @staticmethod
    def from_json(data: object) -> Shot:
        """What `to_json` gave, checked.

        Args:
            data: Parsed JSON, or a stranger.

        Raises:
            In2nError: "bad_shot".
        """
        try:
            return _checked(data)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reason = what_is_wrong(error)
            raise In2nError(
                "bad_shot", f"The shot cannot be rendered: {reason}.", "Check the camera and the render settings."
            ) from None


def _checked(data: object) -> Shot:
    """Raises ValueError and the like, with what is wrong."""
    if not isinstance(data, dict) or not isinstance(data["cameras"], list):
        raise ValueError("it is not an object with cameras")
    if not 1 <= len(data["cameras"]) <= MOST_MOMENTS:
        raise ValueError(f"it has {len(data['cameras']) or 'no'} cameras")
    if data["lens"] not in LENSES:
        raise ValueError(f"there is no lens {data['lens']!r:.40}")
    cameras = tuple(_checked_camera(camera) for camera in data["cameras"])
    width, height = cameras[0].intrinsics.width, cameras[0].intrinsics.height
    if any((c.intrinsics.width, c.intrinsics.height) != (width, height) for c in cameras):
        raise ValueError("its cameras are of several sizes")
    west, east, south, north = (float(angle) for angle in data["span"])
    if not (abs(west) <= 7 and abs(east) <= 7 and abs(south) <= 2 and abs(north) <= 2):
        raise ValueError("its panorama spans more than there is")
    border = data["border"] and tuple(int(side) for side in data["border"])
    if border:
        left, top, right, bottom = border
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise ValueError("its border is not in the picture")
    aperture, focus = float(data["aperture"]), float(data["focus"])
    if not (0 <= aperture < math.inf and 0 < focus < math.inf):
        raise ValueError("its focus is not one")
    return Shot(cameras, data["lens"], (west, east, south, north), border or None, aperture, focus)


def _checked_camera(data: object) -> Camera:
    camera = Camera.from_json(data)
    k, pose = camera.intrinsics, camera.camera_to_world
    if not (1 <= k.width <= LONGEST_SIDE and 1 <= k.height <= LONGEST_SIDE):
        raise ValueError(f"its size is {k.width} x {k.height}")
    if not np.isfinite([k.fx, k.fy, k.cx, k.cy]).all() or min(k.fx, k.fy) <= 0:
        raise ValueError("its lens is not one")
    rotation = pose[:3, :3]
    if not np.isfinite(pose).all() or not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3):
        raise ValueError("its pose is not a rotation and a position")
    return camera


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-300)
