"""Equirectangular photos, which show all directions, cut into six pinhole views: the faces of a cube.

The middle of the photo looks along +z of OpenCV's axes, its right half to +x, its upper half to -y; so it is in
COLMAP's EQUIRECTANGULAR, Metashape's spherical cameras and OpenSfM's.
"""

from __future__ import annotations

import math

import numpy as np

from .camera import Intrinsics

MODEL = "equirectangular"
FACES = {
    "front": (0.0, 0.0),
    "right": (90.0, 0.0),
    "back": (180.0, 0.0),
    "left": (-90.0, 0.0),
    "up": (0.0, 90.0),
    "down": (0.0, -90.0),
}
"""Name -> yaw to the right and pitch upwards, in degrees."""


def face_rotation(yaw: float, pitch: float) -> np.ndarray:
    """From a face's axes to the photo's.

    Args:
        yaw: To the right, in degrees.
        pitch: Upwards, in degrees.

    Returns:
        (3, 3), OpenCV's axes in both.
    """
    a, b = math.radians(yaw), math.radians(pitch)
    turned = np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
    raised = np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
    return turned @ raised


def face_camera(photo: Intrinsics) -> Intrinsics:
    """The pinhole camera of a face: a right angle wide and high, with as many pixels as the photo has for it.

    Args:
        photo: Of the size of the photo.

    Returns:
        Intrinsics with square pixels.
    """
    side = max(1, round(photo.width / 4))
    return Intrinsics(side, side, side / 2, side / 2, side / 2, side / 2)


def panorama_pixels(photo: Intrinsics, yaw: float, pitch: float, directions: np.ndarray) -> np.ndarray:
    """The pixels of the photo that see some directions of a face.

    Args:
        photo: Of the size of the photo.
        yaw: The face's, in degrees.
        pitch: The face's, in degrees.
        directions: (..., 2) x and y at depth 1 of the face, OpenCV's axes.

    Returns:
        (..., 2) pixels; those left and right of the seam at the back are in one piece where the face's middle is, so
        that x may be below 0 or above the width.
    """
    local = np.concatenate([directions, np.ones_like(directions[..., :1])], -1)
    x, y, z = np.moveaxis(local @ face_rotation(yaw, pitch).T, -1, 0)
    longitude = np.arctan2(x, z)
    if abs(pitch) < 45:
        middle = math.radians(yaw)
        longitude = middle + (longitude - middle + math.pi) % (2 * math.pi) - math.pi
    latitude = np.arctan2(-y, np.hypot(x, z))
    return np.stack([(longitude / (2 * math.pi) + 0.5) * photo.width, (0.5 - latitude / math.pi) * photo.height], -1)
