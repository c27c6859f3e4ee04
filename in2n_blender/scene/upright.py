"""Which way is up in a capture, as its photographers held their cameras."""

from __future__ import annotations

import numpy as np

LEAST_AGREEMENT = 0.3  # length of the mean up direction: below it the photos were held in all ways, or look down
LEAST_TURN = 0.05  # mean square of the sideways spread from which on cameras were turned enough to tell their axis
LEVEL = 0.25  # of that spread: what may remain along the axis, if the cameras were held level
SAME_SIDE = 0.3  # cosine to the mean up direction: from one side and high above it is nearly at right angles to gravity
SNAP_DEGREES = 3.0  # so near to an axis of its own coordinates, the capture was stood upright by whoever made it


def up_direction(poses: np.ndarray) -> np.ndarray | None:
    """Up, against gravity, in a capture's own coordinates.

    Who photographs holds the camera level, however far down it looks: the axis to which the cameras' sideways
    directions are most nearly at right angles is up. Where all cameras look the same way there are many such axes, and
    the mean of their up directions has to do.

    Args:
        poses: (n, 4, 4) camera-to-world, OpenGL axes.

    Returns:
        (3,) of unit length, one of the coordinate axes where it is very near to one; None where the cameras do not
        tell.
    """
    axes = np.asarray(poses, np.float64).reshape(-1, 4, 4)[:, :3, :3]
    if not len(axes):
        return None
    axes = axes / np.linalg.norm(axes, axis=1, keepdims=True)
    sideways, ups = axes[:, :, 0], axes[:, :, 1]
    mean = ups.mean(0)
    agreement = np.linalg.norm(mean)
    if agreement < LEAST_AGREEMENT:
        return None
    up = mean / agreement
    spreads, directions = np.linalg.eigh(sideways.T @ sideways / len(sideways))
    axis = directions[:, 0] * np.sign(directions[:, 0] @ up)
    if spreads[1] > LEAST_TURN and spreads[0] < LEVEL * spreads[1] and axis @ up > SAME_SIDE:
        up = axis
    nearest = np.zeros(3)
    nearest[np.argmax(np.abs(up))] = np.sign(up[np.argmax(np.abs(up))])
    return nearest if nearest @ up > np.cos(np.radians(SNAP_DEGREES)) else up
