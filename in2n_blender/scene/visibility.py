"""Which sparse points a photo sees, which photos see the same ones, and at which angle.

A capture keeps its points without saying who saw them. A point counts as seen where it falls into the photo and no
other point hides it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .camera import Camera, look_at_point

CELLS = 24  # of the longer side: in one of them, what is far behind the nearest point is hidden by it
HIDDEN = 1.15  # times the nearest depth
FEWEST_POINTS = 100  # of a capture: with fewer, an import looks for more, and a report takes stand-ins
RAYS = 5  # a side, of the stand-ins of a camera
NEIGHBOURS = 8  # photos that a photo is compared with
OBSERVERS = 100  # of a point, whose angles are measured
WIDEST = 60.0  # degrees: from further apart, hardly anything is known again


def projected(camera: Camera, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where points appear.

    Args:
        camera: Its intrinsics are in pixels.
        points: (p, 3) in the camera's units.

    Returns:
        (p, 2) pixels and (p,) depths along the optical axis, not positive behind the camera.
    """
    k = camera.intrinsics
    local = (np.asarray(points, np.float64) - camera.position) @ camera.camera_to_world[:3, :3]
    depth = -local[:, 2]
    safe = np.where(depth > 0, depth, 1.0)
    return np.stack([k.cx + k.fx * local[:, 0] / safe, k.cy - k.fy * local[:, 1] / safe], 1), depth


def in_picture(camera: Camera, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The points before a camera that fall into its picture, hidden or not.

    Args:
        camera: Its intrinsics are in pixels.
        points: (p, 3) in the camera's units.

    Returns:
        (n,) their numbers, (n, 2) their pixels and (n,) their depths along the optical axis.
    """
    k = camera.intrinsics
    pixels, depth = projected(camera, points)
    numbers = np.flatnonzero((depth > 0) & (pixels >= 0).all(1) & (pixels < [k.width, k.height]).all(1))
    return numbers, pixels[numbers], depth[numbers]


def seen(camera: Camera, points: np.ndarray, solid: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """The points that a photo sees.

    Args:
        camera: The photo's.
        points: (p, 3) in the camera's units.
        solid: Whether points hide those far behind them.

    Returns:
        (n,) their numbers, and (n, 2) their pixels.
    """
    numbers, pixels, depth = in_picture(camera, points)
    if solid and len(numbers):
        cell = max(camera.intrinsics.width, camera.intrinsics.height) / CELLS
        column, row = (pixels // cell).astype(np.int64).T
        place = row * (CELLS + 1) + column
        nearest = np.full(int(place.max()) + 1, np.inf)
        np.minimum.at(nearest, place, depth)
        open_ = depth <= HIDDEN * nearest[place]
        numbers, pixels = numbers[open_], pixels[open_]
    return numbers, pixels


def stand_ins(cameras: Sequence[Camera]) -> np.ndarray:
    """Points for a capture that has none: on rays of its cameras, as far away as what they look at.

    Args:
        cameras: The capture's.

    Returns:
        (p, 3) in the cameras' units.
    """
    poses = np.array([camera.camera_to_world for camera in cameras])
    positions, axes = poses[:, :3, 3], -poses[:, :3, 2]
    ahead = (look_at_point(positions, axes) - positions) * axes
    spread = float(np.linalg.norm(positions - np.median(positions, 0), axis=1).max()) or 1.0
    distance = float(np.median(ahead.sum(1)))
    if not 0.1 * spread < distance < 10 * spread:  # they look at nothing in common
        distance = spread
    found = []
    for camera, pose in zip(cameras, poses):
        k = camera.intrinsics
        u, v = np.meshgrid(*((np.arange(RAYS) + 0.5) / RAYS * side for side in (k.width, k.height)))
        rays = np.stack([(u - k.cx) / k.fx, -(v - k.cy) / k.fy, -np.ones_like(u)], -1).reshape(-1, 3)
        found.append(pose[:3, 3] + distance * rays @ pose[:3, :3].T)
    return np.concatenate(found)


def overlaps(sees: np.ndarray, cameras: Sequence[Camera], points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much of what each photo sees its neighbours see, too.

    Args:
        sees: (n, p) bool, whether photo n sees point p.
        cameras: The n photos'.
        points: (p, 3) in the cameras' units.

    Returns:
        (n,) the mean share over those half of its neighbours that have the most in common with it; and (n, NEIGHBOURS)
        the numbers of its neighbours, the nearest first, fewer where there are fewer photos.
    """
    poses = np.array([camera.camera_to_world for camera in cameras], np.float64)
    positions, axes = poses[:, :3, 3], -poses[:, :3, 2]
    counted, count = sees.astype(np.float32), min(NEIGHBOURS, len(sees) - 1)
    neighbours, best = np.zeros((len(sees), count), np.int64), np.zeros(len(sees))
    for one, own in enumerate(counted):  # row by row: of thousands of photos all pairs would take gigabytes
        shares = counted @ own / max(float(own.sum()), 1.0)
        apart = np.linalg.norm(positions - positions[one], axis=1) / _distance(sees[one], positions[one], points)
        nearness = (shares + 1e-6) * np.exp(-apart) * np.maximum(axes @ axes[one], 1e-3)
        nearness[one] = -1.0
        near = neighbours[one] = np.argsort(-nearness, kind="stable")[:count]
        if count:
            best[one] = np.sort(shares[near])[-max(count // 2, 1) :].mean()
    return best, neighbours


def _distance(sees: np.ndarray, position: np.ndarray, points: np.ndarray) -> float:
    """From a photo to what it sees; 1 where it sees nothing."""
    if not sees.any():
        return 1.0
    return float(np.median(np.linalg.norm(points[sees] - position, axis=1))) or 1.0


def parallaxes(sees: np.ndarray, positions: np.ndarray, points: np.ndarray) -> np.ndarray:
    """From how different directions others see what a photo sees: without a difference nothing tells its distance.

    Args:
        sees: (n, p) bool.
        positions: (n, 3) camera centres.
        points: (p, 3).

    Returns:
        (n,) degrees: of a photo, the median over its points of the largest angle to the ray of another photo, of those
        up to WIDEST; 0 where it shares none.
    """
    angles: list[list[np.ndarray]] = [[] for _ in positions]
    for point, seen_by in zip(points, sees.T):
        observers = np.flatnonzero(seen_by)
        if len(observers) < 2:
            continue
        rays = point - positions[observers]
        rays /= np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-12)
        others = rays[:: -(-len(observers) // OBSERVERS)]
        apart = np.degrees(np.arccos(np.clip(rays @ others.T, -1, 1)))
        widest = np.where(apart <= WIDEST, apart, 0).max(1)
        for observer, angle in zip(observers, widest):
            angles[observer].append(angle)
    return np.array([np.median(found) if found else 0.0 for found in angles])
