"""A scene's geometry against Blender's own: its depths in held-out views, and its mesh against the visible surfaces.

Blender's depths are (height, width) along the camera's axis in scene units, and 0 where there is the sky.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from ...scene.camera import Camera
from ...scene.errors import In2nError
from ...scene.reporting import Reporter
from ..output.surface import marching_cubes, sample_density, surface_threshold, without_floaters
from .metrics import project

# A depth is right within this factor (Eigen et al. 2014, "Depth map prediction from a single image").
FACTOR = 1.25
# Where an edit changes the depth by more than this share, the surface has moved.
MOVED = 0.01
# Farther behind what a camera sees than this share of its depth, a point is hidden from it.
BEHIND = 0.02
# Of a surface, for its distance to another.
POINTS = 20_000
RESOLUTION = 96
SMALLEST_SHARE = 0.002


@dataclass(frozen=True)
class Geometry:
    """How far an edited scene's surfaces are from where they should be. None: not measured.

    Attributes:
        depth_error: |depth - truth| / truth, mean over the pixels of the held-out views that see no sky ("AbsRel").
        depth_within: The share of these pixels whose depth is right within FACTOR.
        depth_error_moved: `depth_error` where the edit moves the surface.
        chamfer_percent: The mean of the mean distances from the mesh to the visible surfaces and back, in percent of
            the diagonal of the scene's bounds.
    """

    depth_error: float | None = None
    depth_within: float | None = None
    depth_error_moved: float | None = None
    chamfer_percent: float | None = None


def read_depths(folder: Path, views: Sequence[str]) -> dict[str, np.ndarray]:
    """What the testbed's renderer noted of a scene.

    Args:
        folder: Of .npy files by the views' names.
        views: Names; those without a file are left out.

    Returns:
        View -> (height, width) float32.
    """
    files = {view: folder / f"{Path(view).stem}.npy" for view in views}
    return {view: np.load(file, allow_pickle=False) for view, file in files.items() if file.is_file()}


def depth_scores(
    depths: Sequence[np.ndarray], truths: Sequence[np.ndarray], befores: Sequence[np.ndarray]
) -> tuple[float | None, float | None, float | None]:
    """Compare depths in views.

    Args:
        depths: (height, width) a view, along the camera's axis.
        truths: Blender's of the edited scene, of the same sizes.
        befores: Blender's of the scene as it was.

    Returns:
        depth_error, depth_within and depth_error_moved of `Geometry`: means over the views that have such pixels.
    """
    errors, within, moved = [], [], []
    for depth, truth, before in zip(depths, truths, befores, strict=True):
        depth, seen = np.asarray(depth, np.float64), truth > 0
        if not seen.any():
            continue
        error = np.abs(depth - truth)[seen] / truth[seen]
        ratio = np.maximum(depth, 1e-9)[seen] / truth[seen]
        errors.append(error.mean())
        within.append((np.maximum(ratio, 1 / ratio) < FACTOR).mean())
        elsewhere = (np.abs(truth - before) > MOVED * truth)[seen]
        if elsewhere.mean() >= SMALLEST_SHARE:
            moved.append(error[elsewhere].mean())
    return _mean(errors), _mean(within), _mean(moved)


def chamfer_percent(scene, depths: dict[str, np.ndarray], cameras: dict[str, Camera], report: Reporter) -> float | None:
    """The Chamfer distance between a scene's mesh and the surfaces that cameras see.

    What is hidden from all cameras is left out of the mesh: nobody can tell how it should be.

    Args:
        scene: A `nerf.scene.Scene`, of which the mesh is extracted.
        depths: Blender's, by view.
        cameras: Of the views, and of others.
        report: Told how far it is, and asked whether the job was cancelled.

    Returns:
        In percent of the diagonal of the scene's bounds; None where there is no mesh or nothing is seen of it.

    Raises:
        Cancelled.
    """
    bounds = np.asarray(scene.bounds(), np.float64)
    seen = np.concatenate([visible_points(depth, cameras[view]) for view, depth in depths.items()])
    seen = _some(seen[((seen >= bounds[0]) & (seen <= bounds[1])).all(1)])
    try:
        grid = sample_density(scene, RESOLUTION, report)
        mesh = without_floaters(*marching_cubes(grid, surface_threshold(scene, grid, report)))
    except In2nError:
        return None
    report.check()
    meshed = points_on(*mesh, 2 * POINTS)
    meshed = _some(meshed[not_hidden(meshed, depths, cameras)])
    if not len(seen) or not len(meshed):
        return None
    return 100 * chamfer(seen, meshed) / float(np.linalg.norm(bounds[1] - bounds[0]))


def chamfer(first: np.ndarray, second: np.ndarray) -> float:
    """The mean of two mean distances: from each point to the nearest one of the other set.

    Args:
        first: (n, 3).
        second: (m, 3).

    Returns:
        In the points' unit.
    """
    return float(np.mean([cKDTree(there).query(here)[0].mean() for here, there in ((first, second), (second, first))]))


def visible_points(depth: np.ndarray, camera: Camera) -> np.ndarray:
    """What a camera sees, as points.

    Args:
        depth: (height, width) along the camera's axis; 0: the sky.
        camera: Of the same size.

    Returns:
        (n, 3) in capture coordinates, one for each pixel that sees no sky.
    """
    origins, directions = camera.rays()
    along = np.asarray(depth, np.float64).reshape(-1, 1)
    return (origins + directions * along)[along[:, 0] > 0]


def not_hidden(points: np.ndarray, depths: dict[str, np.ndarray], cameras: dict[str, Camera]) -> np.ndarray:
    """Which points lie on or before what some camera sees.

    Args:
        points: (n, 3) in capture coordinates.
        depths: (height, width) by view; 0: the sky.
        cameras: Of the views, and of others.

    Returns:
        (n,) False for what lies behind, or outside of all views.
    """
    shown = np.zeros(len(points), bool)
    for view, depth in depths.items():
        x, y, z = project(points, cameras[view])
        height, width = depth.shape
        inside = (z > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
        there = depth[y[inside].astype(int), x[inside].astype(int)]
        shown[inside] |= (there == 0) | (z[inside] <= there * (1 + BEHIND))
    return shown


def points_on(vertices: np.ndarray, faces: np.ndarray, count: int) -> np.ndarray:
    """Random points on a mesh, evenly by area.

    Args:
        vertices: (v, 3).
        faces: (f, 3).
        count: How many.

    Returns:
        (count, 3), the same every time.
    """
    random = np.random.default_rng(0)
    a, b, c = (np.asarray(vertices, np.float64)[faces[:, corner]] for corner in range(3))
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    chosen = random.choice(len(faces), count, p=areas / areas.sum())
    root, along = np.sqrt(random.random((count, 1))), random.random((count, 1))
    return (1 - root) * a[chosen] + root * (1 - along) * b[chosen] + root * along * c[chosen]


def _some(points: np.ndarray) -> np.ndarray:
    """At most POINTS of them, always the same ones."""
    return np.random.default_rng(0).permutation(points)[:POINTS]


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
