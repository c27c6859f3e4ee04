"""The mesh of a trained scene: a quick one of its density alone, or the surface that its views agree on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ...scene.region import Region
from ...scene.reporting import Reporter
from ..nerf.regions import InsideTest
from ..nerf.scene import Scene
from .fusion import TRUNCATION, DepthView, FusedDepths, VoxelGrid, depth_views, fuse
from .manifold import with_edges_of_two_faces
from .surface import (
    ColoredMesh,
    DensityGrid,
    empty_mesh,
    large_parts,
    marching_cubes,
    neighbours,
    sample_density,
    simplify,
    surface_colors,
    surface_threshold,
    vertex_normals,
    without_floaters,
)

MOST_FACES = 300_000
# A surface is about where the density is: so many voxels away it is as high as a surface's.
NEAR_DENSE = 2
ENCLOSED = 0.8  # of a patch's edge: so much belongs to what is kept where it is a hole in that
LARGEST_HOLE = 0.002  # of the faces that are kept
# Gaps between what was seen and what was closed are rounded by so many voxels.
ROUNDED = 0.8
BORDER = 3  # voxels round the grid, in which a closed surface ends
SMOOTHINGS = 10  # of the mesh: normals come nearer to the truth, and so does the surface
POINTS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class MeshSettings:
    """How a mesh is made.

    Attributes:
        resolution: Grid points along the longest side of what is kept.
        most_faces: About how many it has at most.
        watertight: Whether it is closed: by what the seen surfaces enclose, and where it is cut.
        keep: What of the scene is kept, in capture coordinates; None: its bounds.
        quick: Whether the density alone will do, which takes a few seconds.
        collision_faces: About how many a closed mesh for collisions has at most; 0: there is none.
    """

    resolution: int
    most_faces: int = MOST_FACES
    watertight: bool = False
    keep: Region | None = None
    quick: bool = False
    collision_faces: int = 0


@dataclass(frozen=True)
class MeshOfScene:
    """A mesh, and what it was made with.

    Attributes:
        mesh: In capture coordinates.
        threshold: The density of its surface, per capture unit.
        voxel: The grid's spacing in capture units.
        views: What the scene's views see of it; empty for a quick one.
        collision: A closed mesh of few faces, where that was wanted.
    """

    mesh: ColoredMesh
    threshold: float
    voxel: float
    views: list[DepthView]
    collision: ColoredMesh | None = None


def mesh_of_scene(scene: Scene, settings: MeshSettings, report: Reporter) -> MeshOfScene:
    """The mesh of a trained scene.

    Args:
        scene: In capture coordinates.
        settings: How it is made.
        report: Told how far it is, and asked whether the job was cancelled.

    Returns:
        The mesh in capture coordinates; open where it meets the border of what is kept, unless it is watertight.

    Raises:
        In2nError: "empty_mesh".
        Cancelled.
    """
    bounds = None if settings.keep is None else settings.keep.bounds
    density = sample_density(scene, settings.resolution, report, bounds)
    threshold = surface_threshold(scene, density, report)
    if settings.quick:
        vertices, faces = without_floaters(*marching_cubes(density, threshold))
        mesh = _colored(scene, vertices, faces, settings.most_faces, False, density.voxel, report)
        return MeshOfScene(mesh, threshold, density.voxel, [])
    views = depth_views(scene, report)
    agreed = _agreed(scene, density, threshold, views, settings.keep, report)

    def made(surface: Callable, most_faces: int) -> ColoredMesh:
        vertices, faces = without_floaters(*surface(*agreed))
        report.check()
        is_closed = surface is closed_surface
        return _colored(scene, smoothed(vertices, faces), faces, most_faces, is_closed, density.voxel, report)

    mesh = made(closed_surface if settings.watertight else open_surface, settings.most_faces)
    collision = made(closed_surface, settings.collision_faces) if settings.collision_faces else None
    report.progress(1, 1, "mesh", f"Mesh of {len(mesh.vertices)} vertices", 0.0)
    return MeshOfScene(mesh, threshold, density.voxel, views, collision)


def smoothed(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The vertices of a surface without the noise of its depths, which keeps its size.

    Taubin 1995, "A signal processing approach to fair surface design".

    Args:
        vertices: (v, 3) float32.
        faces: (f, 3) int64.

    Returns:
        (v, 3) float32.
    """
    import trimesh

    surface = trimesh.Trimesh(vertices, faces, process=False)
    trimesh.smoothing.filter_taubin(surface, lamb=0.5, nu=0.53, iterations=SMOOTHINGS)
    return np.asarray(surface.vertices, np.float32)


def fewer_faces(vertices: np.ndarray, faces: np.ndarray, most: int, closed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Fewer faces, closed where they were.

    Args:
        vertices: (v, 3) float32.
        faces: (f, 3) int64.
        most: About how many are left at most.
        closed: Whether the surface is, and is to stay so.

    Returns:
        Vertices and faces of the same types.
    """
    if not closed:
        return simplify(vertices, faces, most)
    try:
        return with_edges_of_two_faces(*simplify(vertices, faces, most))
    except ValueError:  # merging faces tore it open
        return with_edges_of_two_faces(vertices, faces)


def _colored(
    scene: Scene, vertices: np.ndarray, faces: np.ndarray, most: int, closed: bool, voxel: float, report: Reporter
) -> ColoredMesh:
    report.check()
    vertices, faces = fewer_faces(vertices, faces, most, closed)
    report.check()
    normals = vertex_normals(vertices, faces)
    return ColoredMesh(vertices, faces, normals, surface_colors(scene, vertices, normals, voxel, report))


def _agreed(
    scene: Scene, density: DensityGrid, threshold: float, views: list[DepthView], keep: Region | None, report: Reporter
) -> tuple[FusedDepths, np.ndarray, np.ndarray | None]:
    """The depths of the views fused; where they agree and the field is dense; and how far outside of what is kept."""
    from scipy.ndimage import maximum_filter

    grid = VoxelGrid(density.origin, density.voxel, density.density.shape)
    fused = fuse(views, grid, scene.device, report)
    dense = maximum_filter(density.density, 2 * NEAR_DENSE + 1) >= threshold
    report.check()
    outside = None if keep is None else _outside(keep, grid, scene.device, report)
    return fused, dense & fused.is_surface(len(views)), outside


def _outside(region: Region, grid: VoxelGrid, device: torch.device, report: Reporter) -> np.ndarray:
    """How far outside of a region the grid's points are, in voxels: `grid.shape` float32, negative within."""
    test = InsideTest(region, device)
    distance = np.empty(int(np.prod(grid.shape)), np.float32)
    for first in range(0, len(distance), POINTS_AT_ONCE):
        report.check()
        numbers = np.arange(first, min(first + POINTS_AT_ONCE, len(distance)))
        places = grid.places(np.stack(np.unravel_index(numbers, grid.shape), 1))
        distance[numbers] = test.signed_distance(torch.from_numpy(places).to(device)).cpu().numpy()
    return (distance / np.float32(grid.voxel)).reshape(grid.shape)


def open_surface(fused: FusedDepths, surface: np.ndarray, outside: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """What the views see of the surface, open where nothing was seen and where it is cut.

    Args:
        fused: The distances.
        surface: Where there may be a surface; of the grid's shape, bool.
        outside: How far outside of what is kept the grid's points are; None: all are within.

    Returns:
        Vertices (v, 3) float32 in capture coordinates, faces (f, 3) int64, counter-clockwise seen from outside.

    Raises:
        In2nError: "empty_mesh" where nothing is seen.
    """
    known = fused.seen if outside is None else fused.seen & (outside <= 0)
    cells = np.zeros_like(known)
    corners = [known[_part(x), _part(y), _part(z)] for x, y, z in np.ndindex(2, 2, 2)]
    cells[1:, 1:, 1:] = np.logical_and.reduce(corners)  # a cell goes by its last corner
    vertices, faces = _zero_level(fused.distance, cells)
    at = tuple(np.round(vertices).astype(np.int64).T)
    agreed = surface[at][faces].all(1)
    agreed[agreed] = large_parts(faces[agreed])  # before holes are filled, that would tie floaters to the rest
    faces = faces[agreed | are_holes(faces, agreed)]
    if not len(faces):
        raise empty_mesh("The views agree on no surface in what is kept.")
    return fused.grid.places(vertices), faces


def are_holes(faces: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Which faces lie in small patches that are not kept, but are enclosed by what is.

    Rags and sky that hangs somewhere have edges of their own, or are large; a window that mirrors the sky is neither.

    Args:
        faces: (f, 3).
        kept: (f,) bool.

    Returns:
        (f,) bool, none of them kept.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    one, other = neighbours(faces)
    inner = ~kept[one] & ~kept[other]
    links = coo_array((np.ones(inner.sum(), np.int8), (one[inner], other[inner])), shape=(len(faces),) * 2)
    count, label = connected_components(links, directed=False)
    rim = kept[one] != kept[other]
    enclosed = np.bincount(label[np.where(kept[one], other, one)[rim]], minlength=count)
    sides = np.bincount(label, weights=np.full(len(faces), 3.0), minlength=count)
    sides -= 2 * np.bincount(label[one[inner]], minlength=count)  # of a patch: those that no other of its faces has
    small = np.bincount(label, minlength=count) <= LARGEST_HOLE * kept.sum()
    return ~kept & (small & (enclosed >= ENCLOSED * sides))[label]


def closed_surface(
    fused: FusedDepths, surface: np.ndarray, outside: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """A closed surface round what is solid.

    Args:
        fused: The distances.
        surface: Where there may be a surface; of the grid's shape, bool.
        outside: How far outside of what is kept the grid's points are; None: all are within.

    Returns:
        As `open_surface`; every edge belongs to two faces.

    Raises:
        In2nError: "empty_mesh" where nothing is solid.
    """
    from scipy.ndimage import gaussian_filter

    # What is seen but no surface, such as sky that hangs somewhere, is as unknown as what nobody sees.
    known = fused.seen & (surface | (fused.distance >= 1 - 1e-3))
    solid = is_solid(fused.distance < 0, known)
    volume = np.where(known, fused.distance, np.where(solid, -1.0, 1.0)).astype(np.float32)
    if outside is not None:
        volume = np.maximum(volume, outside / TRUNCATION)
    volume = np.maximum(np.pad(volume, BORDER, mode="edge"), _beyond(fused.grid.shape) / TRUNCATION)
    vertices, faces = _zero_level(gaussian_filter(volume, ROUNDED), None)
    return fused.grid.places(vertices - BORDER), faces


def _beyond(shape: tuple[int, int, int]) -> np.ndarray:
    """How many voxels the points of a grid with BORDER more on each side lie beyond it; negative within."""
    steps = [np.arange(-BORDER, length + BORDER) for length in shape]
    along = [np.maximum(-step, step - (length - 1)) for step, length in zip(steps, shape)]
    return np.maximum(np.maximum(along[0][:, None, None], along[1][:, None]), along[2]).astype(np.float32)


def is_solid(inside: np.ndarray, known: np.ndarray) -> np.ndarray:
    """What the known points enclose.

    An unknown point is solid where, in most of the six directions along the axes in which it meets a known point at
    all, the first one is inside of a surface.

    Args:
        inside: (nx, ny, nz) bool, of known points: whether they are inside.
        known: (nx, ny, nz) bool.

    Returns:
        (nx, ny, nz) bool; of known points what `inside` says.
    """
    votes = np.zeros(known.shape, np.int8)
    for axis in range(3):
        for flip in (False, True):
            turned, here = (np.flip(a, axis) if flip else a for a in (inside, known))
            number = np.arange(here.shape[axis], dtype=np.int32).reshape([-1 if i == axis else 1 for i in range(3)])
            last = np.maximum.accumulate(np.where(here, number, np.int32(-1)), axis)
            says = np.take_along_axis(turned, np.maximum(last, 0), axis)
            vote = np.where(last < 0, 0, np.where(says, 1, -1)).astype(np.int8)
            votes += np.flip(vote, axis) if flip else vote
    return np.where(known, inside, votes > 0)


def _zero_level(distance: np.ndarray, cells: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Vertices in grid steps and faces where the distance, positive outside, is zero. Raises "empty_mesh"."""
    from skimage import measure

    if not distance.min() < 0 < distance.max() or (cells is not None and not cells.any()):
        raise empty_mesh("The views agree on no surface in what is kept.")
    try:
        vertices, faces, _, _ = measure.marching_cubes(
            distance, 0.0, gradient_direction="descent", allow_degenerate=False, mask=cells
        )
    except (RuntimeError, ValueError):  # no cell of the mask meets the level
        raise empty_mesh("The views agree on no surface in what is kept.") from None
    return vertices, faces.astype(np.int64)


def _part(corner: int) -> slice:
    """All but the last, or all but the first."""
    return slice(1, None) if corner else slice(None, -1)
