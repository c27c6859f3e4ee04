"""The surface in a scene's density: its triangles, normals and colours, in the capture's coordinates."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch

from ...scene.errors import In2nError
from ...scene.reporting import Reporter, seconds_left

CHUNK = 1 << 17
# A part with less than this share of the faces is a floater.
FLOATER_SHARE = 0.015
# Where the views do not tell how dense a surface is: half of the light is lost over this many voxels.
HALVING_VOXELS = 2.0
SAMPLED_VIEWS, SAMPLED_SIDE = 8, 64


@dataclass(frozen=True)
class Surface:
    """Triangles in capture coordinates.

    Attributes:
        vertices: (v, 3) float32.
        faces: (f, 3) int64, counter-clockwise seen from outside.
        normals: (v, 3) float32, outwards, unit length.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray

    @staticmethod
    def of(vertices: np.ndarray, faces: np.ndarray) -> Surface:
        """With the normals of its faces.

        Args:
            vertices: (v, 3).
            faces: (f, 3).
        """
        return Surface(vertices, faces, vertex_normals(vertices, faces))


@dataclass(frozen=True)
class ColoredMesh(Surface):
    """A surface with colours.

    Attributes:
        colors_srgb: (v, 3) float32 in [0, 1], of the vertices.
    """

    colors_srgb: np.ndarray


@dataclass(frozen=True)
class DensityGrid:
    """Density (nx, ny, nz) float32 per capture unit at origin + index * voxel."""

    density: np.ndarray
    origin: np.ndarray
    voxel: float


def sample_density(scene, resolution: int, report: Reporter, bounds: np.ndarray | None = None) -> DensityGrid:
    """The scene's density on a grid of cubic voxels over its bounds.

    Args:
        scene: A Scene, or anything else with its `bounds` and `density`.
        resolution: Grid points along the longest side of the bounds.
        report: Told how far it is, and asked whether the job was cancelled.
        bounds: (2, 3) other bounds than the scene's, in capture coordinates.

    Returns:
        The grid, at least two points along each axis.

    Raises:
        In2nError: "empty_mesh" where what the capture's points bound has no extent.
        ValueError: For a resolution below 2.
        Cancelled.
    """
    if resolution < 2:
        raise ValueError(f"resolution {resolution}")
    low, high = np.asarray(scene.bounds() if bounds is None else bounds, np.float64)
    if not (np.isfinite(high - low).all() and (high > low).all()):
        raise empty_mesh("The capture's points lie outside of what its photos show.")
    voxel = float((high - low).max() / (resolution - 1))
    axes = [
        low[axis] + voxel * np.arange(max(2, math.floor((high - low)[axis] / voxel + 1e-6) + 1)) for axis in range(3)
    ]
    shape = tuple(len(axis) for axis in axes)
    density = np.empty(shape, np.float32)
    flat, plane = density.reshape(-1), shape[1] * shape[2]
    started = time.monotonic()
    for first in range(0, len(flat), CHUNK):
        report.progress(first, len(flat), "sample", "Sampling the density", seconds_left(started, first, len(flat)))
        index = np.arange(first, min(first + CHUNK, len(flat)))
        x, y, z = index // plane, index // shape[2] % shape[1], index % shape[2]
        points = np.stack([axes[0][x], axes[1][y], axes[2][z]], 1).astype(np.float32)
        flat[index] = np.asarray(scene.density(torch.from_numpy(points)), np.float32).reshape(-1)
    return DensityGrid(density, low, voxel)


def surface_threshold(scene, grid: DensityGrid, report: Reporter) -> float:
    """The density of the mesh's surface: half of the median density where the training views see surfaces.

    How dense a NeRF's surfaces are depends on how it was trained, not on the grid. Where the views see next to nothing
    in the grid, it is the density at which HALVING_VOXELS voxels hide half of what is behind them, exp(-sigma * length)
    = 1/2, and at most half of what the densest thousandth of the voxels reach.

    Args:
        scene: In capture coordinates.
        grid: Of its density.
        report: Asked whether the job was cancelled.

    Returns:
        A density per capture unit.

    Raises:
        In2nError: "empty_mesh" where nothing is dense.
        Cancelled.
    """
    seen = _seen_densities(scene, grid, report)
    if len(seen) >= 100 and np.median(seen) > 0:
        return float(np.median(seen) / 2)
    dense = float(np.quantile(grid.density, 0.999))
    if not math.isfinite(dense) or dense <= 0:
        raise empty_mesh("Nothing in the capture's region is dense enough for a mesh.")
    return min(math.log(2) / (HALVING_VOXELS * grid.voxel), dense / 2)


def empty_mesh(message: str) -> In2nError:
    """What to say where there is no surface: "empty_mesh", to be raised, with `message` as its sentence."""
    return In2nError(
        "empty_mesh", message, "Reconstruct longer, or check that the photos show something from several sides."
    )


def _seen_densities(scene, grid: DensityGrid, report: Reporter) -> np.ndarray:
    """Densities (n,) at the rendered depth of coarse pixels of some training views, where that lies in the grid."""
    low, high = grid.origin, grid.origin + grid.voxel * (np.array(grid.density.shape) - 1)
    views, points = scene.capture.training_views, []
    for view in views[:: max(1, len(views) // SAMPLED_VIEWS)]:
        k = view.camera.intrinsics
        scale = min(1.0, SAMPLED_SIDE / max(k.width, k.height))
        camera = view.camera.scaled_to(max(1, round(k.width * scale)), max(1, round(k.height * scale)))
        rendered = scene.render(camera, report=report)
        origins, directions = camera.rays()
        seen = origins + directions * np.asarray(rendered.depth).reshape(-1, 1)
        inside = ((seen >= low) & (seen <= high)).all(1) & (np.asarray(rendered.alpha).reshape(-1) > 0.5)
        points.append(seen[inside].astype(np.float32))
    points = np.concatenate(points) if points else np.zeros((0, 3), np.float32)
    return np.asarray(scene.density(torch.from_numpy(points))).reshape(-1) if len(points) else np.zeros(0)


def marching_cubes(grid: DensityGrid, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """The density's isosurface; open where it meets the border of the grid.

    Lewiner et al. 2003, "Efficient implementation of marching cubes' cases with topological guarantees".

    Args:
        grid: The density.
        threshold: Its value at the surface, per capture unit.

    Returns:
        Vertices (v, 3) float32 in capture coordinates, faces (f, 3) int64.

    Raises:
        In2nError: "empty_mesh" where there is no surface.
    """
    from skimage import measure

    if not grid.density.min() < threshold < grid.density.max():
        raise empty_mesh("The density has no surface in the capture's region.")
    # The logarithm makes the density change evenly from voxel to voxel, so that vertices are interpolated where they
    # are.
    volume = np.log(np.maximum(grid.density, threshold * 1e-3))
    vertices, faces, _, _ = measure.marching_cubes(volume, math.log(threshold), gradient_direction="ascent")
    return (grid.origin + vertices * grid.voxel).astype(np.float32), faces.astype(np.int64)


def large_parts(faces: np.ndarray, share: float = FLOATER_SHARE) -> np.ndarray:
    """Which faces belong to parts that are no floaters; a part is what hangs together by edges.

    Args:
        faces: (f, 3).
        share: Of the faces, that a part has at least, in [0, 1]; the largest part is kept at any.

    Returns:
        (f,) bool.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    one, other = neighbours(faces)
    links = coo_array((np.ones(len(one), np.int8), (one, other)), shape=(len(faces),) * 2)
    _, label = connected_components(links, directed=False)
    sizes = np.bincount(label)
    return sizes[label] >= min(share * len(faces), sizes.max(initial=0))


def neighbours(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of faces that have an edge in common.

    Args:
        faces: (f, 3).

    Returns:
        (n,) and (n,) the faces' numbers.
    """
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    order = np.lexsort(edges.T)
    same = (edges[order[1:]] == edges[order[:-1]]).all(1)
    return order[:-1][same] // 3, order[1:][same] // 3


def without_floaters(
    vertices: np.ndarray, faces: np.ndarray, share: float = FLOATER_SHARE
) -> tuple[np.ndarray, np.ndarray]:
    """Only the parts that `large_parts` finds.

    Args:
        vertices: (v, 3).
        faces: (f, 3).
        share: As `large_parts` takes it.

    Returns:
        The vertices that are still used, and the faces with their new indices.
    """
    kept = faces[large_parts(faces, share)]
    used = np.zeros(len(vertices), bool)
    used[kept] = True
    return vertices[used], (used.cumsum() - 1)[kept]


def simplify(vertices: np.ndarray, faces: np.ndarray, most_faces: int) -> tuple[np.ndarray, np.ndarray]:
    """Quadric decimation (Garland and Heckbert 1997, "Surface simplification using quadric error metrics").

    Args:
        vertices: (v, 3) float32.
        faces: (f, 3) int64.
        most_faces: About how many are left at most.

    Returns:
        Vertices and faces of the same types.
    """
    if len(faces) <= most_faces:
        return vertices, faces
    import fast_simplification

    vertices, faces = fast_simplification.simplify(vertices, faces, target_count=most_faces)
    return np.asarray(vertices, np.float32), np.asarray(faces, np.int64)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Normals of vertices: means of the normals of the faces around, weighted by the faces' areas.

    Args:
        vertices: (v, 3).
        faces: (f, 3), counter-clockwise seen from outside.

    Returns:
        (v, 3) float32, outwards, of unit length; zero for a vertex of no face.
    """
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    face_normals = np.cross(b - a, c - a)
    normals = np.zeros((len(vertices), 3))
    for corner in range(3):
        np.add.at(normals, faces[:, corner], face_normals)
    return (normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)).astype(np.float32)


def surface_colors(scene, vertices: np.ndarray, normals: np.ndarray, voxel: float, report: Reporter) -> np.ndarray:
    """What is seen when looking at every vertex along its inward normal: a short volume rendering through the surface.

    From one voxel outside to three inside, because a NeRF's colour is right where its weight is, not on one isosurface.

    Args:
        scene: Its density and colours.
        vertices: (v, 3) float32 in capture coordinates.
        normals: (v, 3) float32, outwards, unit length.
        voxel: The grid's spacing in capture units.
        report: Told how far it is, and asked whether the job was cancelled.

    Returns:
        (v, 3) float32 sRGB in [0, 1].
    """
    offsets = torch.arange(-1.0, 3.01, 0.5) * voxel
    colors = np.empty((len(vertices), 3), np.float32)
    chunk, started = CHUNK // len(offsets), time.monotonic()
    for first in range(0, len(vertices), chunk):
        report.progress(
            first, len(vertices), "vertex", "Colouring the mesh", seconds_left(started, first, len(vertices))
        )
        inward = -torch.from_numpy(normals[first : first + chunk])
        points = torch.from_numpy(vertices[first : first + chunk])[:, None] + offsets[:, None] * inward[:, None]
        directions = inward[:, None].expand_as(points).reshape(-1, 3)
        points = points.reshape(-1, 3)
        density = torch.as_tensor(scene.density(points)).reshape(-1, len(offsets))
        color = torch.as_tensor(scene.color(points, directions)).reshape(-1, len(offsets), 3)
        depth = density * 0.5 * voxel
        weight = torch.exp(-(depth.cumsum(1) - depth)) * (1 - torch.exp(-depth)) + 1e-8
        colors[first : first + chunk] = ((weight[..., None] * color).sum(1) / weight.sum(1, keepdim=True)).numpy()
    return np.clip(colors, 0, 1)
