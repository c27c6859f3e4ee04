"""Placing a capture in the scene by what the user knows of it: which way is up, where the ground is, how long something
is.

Everything acts on the capture's Empty, so that cameras, points and meshes follow. Points are (n, 3) in world
coordinates.
"""

from __future__ import annotations

import numpy as np

from ..scene.errors import In2nError
from .scene_state import children

UP = np.array([0.0, 0.0, 1.0])


def picked_points(context, capture) -> np.ndarray:
    """What the user points at: the selected vertices in Edit Mode, else the origins of the selected objects.

    Args:
        context: Blender's.
        capture: The capture's Empty, which itself does not count.

    Returns:
        (n, 3) points, float64, in world coordinates.
    """
    if context.mode == "EDIT_MESH":
        points = []
        for edited in context.objects_in_mode:
            edited.update_from_editmode()
            vertices = edited.data.vertices
            chosen, places = np.zeros(len(vertices), bool), np.zeros(3 * len(vertices), np.float32)
            vertices.foreach_get("select", chosen)
            vertices.foreach_get("co", places)
            points.append(
                places.reshape(-1, 3)[chosen] @ np.array(edited.matrix_world)[:3, :3].T
                + np.array(edited.matrix_world.translation)
            )
        return np.concatenate(points).astype(np.float64)
    return np.array([o.matrix_world.translation for o in context.selected_objects if o != capture], np.float64).reshape(
        -1, 3
    )


def rotation_between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The smallest rotation that turns one direction into another, by Rodrigues' formula R = I + K + K² / (1 + cos).

    Args:
        start, end: (3,) directions of any length but zero.

    Returns:
        (3, 3) rotation matrix.
    """
    start, end = start / np.linalg.norm(start), end / np.linalg.norm(end)
    axis, cosine = np.cross(start, end), float(start @ end)
    if cosine < -1 + 1e-9:  # opposite: half a turn about any axis across
        across = np.cross(start, [1.0, 0, 0] if abs(start[0]) < 0.9 else [0, 1.0, 0])
        across /= np.linalg.norm(across)
        return 2 * np.outer(across, across) - np.eye(3)
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + k + k @ k / (1 + cosine)


def plane_through(points: np.ndarray, above: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The plane nearest to points, in the sense of least squares.

    Args:
        points: (n, 3), at least three.
        above: (3,) a point that the normal is to point towards.

    Returns:
        (3,) its centre and (3,) its unit normal.

    Raises:
        In2nError: "no_plane" when the points lie on a line.
    """
    center = points.mean(0)
    _u, sizes, axes = np.linalg.svd(points - center)
    if len(points) < 3 or sizes[1] < 1e-6 * max(sizes[0], 1e-12):
        raise In2nError(
            "no_plane", "The chosen points lie on a line.", "Select three or more points that span the ground."
        )
    normal = axes[2]
    return center, normal if normal @ (above - center) >= 0 else -normal


def turn(rotation: np.ndarray, about: np.ndarray) -> np.ndarray:
    """A rotation about a point as a (4, 4) matrix.

    Args:
        rotation: (3, 3).
        about: (3,) the point that stays.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = about - rotation @ about
    return matrix


def camera_directions(capture) -> tuple[np.ndarray, np.ndarray]:
    """Where the capture's cameras are and which way they are held, in world coordinates.

    Args:
        capture: The capture's Empty.

    Returns:
        (3,) mean of the cameras' up directions, (3,) mean of their positions.

    Raises:
        In2nError: "no_up" when there are no cameras, or they agree on no direction.
    """
    matrices = [np.array(camera.matrix_world) for camera in children(capture, "CAMERA")]
    ups = [m[:3, 1] / np.linalg.norm(m[:3, 1]) for m in matrices]
    if not ups or np.linalg.norm(np.mean(ups, 0)) < 0.1:
        raise In2nError(
            "no_up", "The photos do not say which way is up.", "Choose an axis, or set the ground from selected points."
        )
    return np.mean(ups, 0), np.mean([m[:3, 3] for m in matrices], 0)
