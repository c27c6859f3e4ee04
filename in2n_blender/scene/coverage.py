"""From where the photos of a capture look: all around something, from one side, or all around themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .camera import Camera, look_at_point
from .upright import up_direction

INWARD = 0.7  # share of the cameras that must look at one point, for that to be what they were taken of
TOWARDS = 0.5  # cosine to it


@dataclass(frozen=True)
class Coverage:
    """From where photos look.

    Attributes:
        inward: Whether they look at something from around it; else they look around from where they are.
        gap_degrees: The widest angle, as seen from above, from which (or into which) no photo looks.
        gap_between: The names of the photos at its two ends.
        heights_degrees: Between the lowest and the highest, as seen from what they look at; 0 where they look around.
    """

    inward: bool
    gap_degrees: float
    gap_between: tuple[str, str]
    heights_degrees: float

    @property
    def covered_degrees(self) -> float:
        """The angle from which photos look, as seen from above."""
        return 360.0 - self.gap_degrees


def coverage_of(cameras: Sequence[Camera], names: Sequence[str]) -> Coverage:
    """From where cameras look.

    Args:
        cameras: At least one.
        names: Of their photos.

    Returns:
        The coverage.
    """
    poses = np.array([camera.camera_to_world for camera in cameras], np.float64)
    positions, axes = poses[:, :3, 3], -poses[:, :3, 2]
    from_middle = positions - look_at_point(positions, axes)
    distance = np.maximum(np.linalg.norm(from_middle, axis=1, keepdims=True), 1e-12)
    inward = bool((np.einsum("ij,ij->i", axes, -from_middle / distance) > TOWARDS).mean() >= INWARD)
    directions = from_middle / distance if inward else axes
    up, across = _level(poses)
    turns = np.degrees(np.arctan2(*(directions @ across).T[::-1])) % 360
    order = np.argsort(turns, kind="stable")
    gaps = np.diff(turns[order], append=turns[order[0]] + 360)
    widest = int(np.argmax(gaps))
    heights = np.degrees(np.arcsin(np.clip(directions @ up, -1, 1)))
    return Coverage(
        inward,
        round(float(gaps[widest]), 2),
        (names[order[widest]], names[order[(widest + 1) % len(order)]]),
        round(float(np.ptp(np.percentile(heights, (5, 95)))), 2) if inward else 0.0,
    )


def seen_from_above(cameras: Sequence[Camera], points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A map of a capture.

    Args:
        cameras: At least one.
        points: (p, 3) in the cameras' units.

    Returns:
        (n, 2) where the cameras stand, (n, 2) where they look, as long as 1 where they look level, and (p, 2) the
        points; x to the right, y upwards on the map.
    """
    poses = np.array([camera.camera_to_world for camera in cameras], np.float64)
    across = _level(poses)[1]
    return poses[:, :3, 3] @ across, -poses[:, :3, 2] @ across, np.asarray(points, np.float64) @ across


def _level(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Up (3,), and two axes (3, 2) at right angles to it, counter-clockwise as seen from above."""
    up = _up(poses)
    side = np.cross(up, np.eye(3)[np.argmin(np.abs(up))])
    side /= np.linalg.norm(side)
    return up, np.stack([side, np.cross(up, side)], 1)


def _up(poses: np.ndarray) -> np.ndarray:
    """As the cameras were held; where that does not tell, across the plane in which they stand."""
    up = up_direction(poses)
    if up is not None:
        return up
    centred = poses[:, :3, 3] - poses[:, :3, 3].mean(0)
    return np.linalg.eigh(centred.T @ centred)[1][:, 0]
