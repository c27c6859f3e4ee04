"""From how programs write poses to ours: camera-to-world with OpenGL's axes."""

from __future__ import annotations

import numpy as np

OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


def pose(rotation: np.ndarray, position: np.ndarray) -> np.ndarray:
    """A camera-to-world matrix.

    Args:
        rotation: (3, 3) from the camera's axes to the world's.
        position: (3,) the camera's centre.

    Returns:
        (4, 4) float64.
    """
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, position
    return matrix


def from_opencv(camera_to_world: np.ndarray) -> np.ndarray:
    """A pose whose camera looks along +z with y down, as ours.

    Args:
        camera_to_world: (4, 4).

    Returns:
        (4, 4), OpenGL's axes.
    """
    return np.asarray(camera_to_world, np.float64) @ OPENGL_FROM_OPENCV


def from_world_to_camera(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """A pose that is written as world-to-camera with OpenCV's axes, as ours.

    Args:
        rotation: (3, 3).
        translation: (3,).

    Returns:
        (4, 4), OpenGL's axes.
    """
    rotation = np.asarray(rotation, np.float64)
    return from_opencv(pose(rotation.T, -rotation.T @ np.asarray(translation, np.float64)))


def rotation_of(quaternion) -> np.ndarray:
    """The rotation matrix of a quaternion of any length.

    Args:
        quaternion: (w, x, y, z).

    Returns:
        (3, 3); NaN where the quaternion has no length, which the check of the pose then reports.
    """
    quaternion = np.array(quaternion, np.float64)
    length = np.linalg.norm(quaternion)
    w, x, y, z = quaternion / length if length > 0 else quaternion * np.nan
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def rotation_about(axis_angle) -> np.ndarray:
    """The rotation matrix of an axis whose length is the angle in radians (Rodrigues' formula).

    Args:
        axis_angle: (3,).

    Returns:
        (3, 3).
    """
    axis_angle = np.array(axis_angle, np.float64)
    angle = np.linalg.norm(axis_angle)
    half = 0.5 * angle
    return rotation_of([np.cos(half), *(axis_angle * (0.5 if angle < 1e-12 else np.sin(half) / angle))])
