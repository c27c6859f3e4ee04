"""A mesh of the density with colours from the field, in the capture's coordinates."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...link.requests import ExtractMesh
from ...scene.camera import Camera
from ...scene.errors import In2nError
from ...scene.reporting import Reporter
from ...workspace.files import atomic_path, read_json, write_json
from ...workspace.layout import ORIGINAL, Workspace
from ...workspace.provenance import PHOTOS, SCENE, Provenance, is_done, photos_hash, result_folder, scene_hash
from ..device import describe_device
from ..nerf.scene import Scene, load_scene
from ..pictures import to_bytes
from .glb import glb_bytes

CHUNK = 1 << 17
MOST_FACES = 300_000
# A component with less than this share of the largest one's faces is a floater.
FLOATER_SHARE = 0.02
# Where the views do not tell how dense a surface is: half of the light is lost over this many voxels.
HALVING_VOXELS = 2.0
SAMPLED_VIEWS, SAMPLED_SIDE = 8, 64


@dataclass(frozen=True)
class ColoredMesh:
    """vertices (v, 3) float32 in capture coordinates, faces (f, 3) int, outwards counter-clockwise;
    normals (v, 3) outwards, unit; colors_srgb (v, 3) float32 in [0, 1]."""

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    colors_srgb: np.ndarray


@dataclass(frozen=True)
class DensityGrid:
    """Density (nx, ny, nz) float32 per capture unit at origin + index * voxel."""

    density: np.ndarray
    origin: np.ndarray
    voxel: float


def extract_mesh(request: ExtractMesh, report: Reporter) -> dict:
    """Marching cubes of an edit's or the reconstruction's density, to meshes/<edit>.ply and .glb.

    A mesh of the same scene and resolution that is there is not made again.

    Args:
        request: Which edit (None: the reconstruction), and the grid's resolution.
        report: Told how far it is, and asked whether the job was cancelled.

    Returns:
        {"ply", "glb", "vertices", "faces", "threshold", "seconds", "device", "finished", "offset"}, finished: whether
        the scene was computed to its end, offset: what the vertices are relative to, in the capture's own coordinates.
        The same, with what it was made from, is in meshes/<edit>.json.

    Raises:
        In2nError: "empty_mesh" where nothing is dense, "not_ours" where a mesh that no job of ours made has its name.
        Cancelled: An earlier mesh is as it was.
    """
    started = time.monotonic()
    workspace = Workspace(request.workspace)
    files = {kind: workspace.mesh(request.edit, f".{kind}") for kind in ("ply", "glb")}
    record_file = workspace.mesh(request.edit, ".json")
    made_from = _provenance(workspace, request)
    record = _record(record_file)
    paths = {kind: str(path) for kind, path in files.items()}
    if record.get("provenance") == made_from.to_json() and all(path.is_file() for path in files.values()):
        done = {key: value for key, value in record.items() if key not in ("provenance", "resolution")}
        return {**paths, **done, "finished": is_done(workspace, request.edit)}
    _refuse_foreign(record_file, list(files.values()))
    scene = load_scene(workspace, request.edit, request.device)
    mesh, threshold = mesh_of_scene(scene, request.resolution, report)
    write_json(record_file, {"resolution": request.resolution})  # of no scene, until both files are
    write_ply(files["ply"], mesh)
    write_glb(files["glb"], mesh, request.edit or ORIGINAL)
    result = {
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
        "threshold": threshold,
        "seconds": round(time.monotonic() - started, 3),
        "device": describe_device(scene.device),
        "finished": is_done(workspace, request.edit),
        "offset": scene.capture.offset.tolist(),
    }
    write_json(record_file, {"resolution": request.resolution, **result, "provenance": made_from.to_json()})
    for path in files.values():
        report.artifact("mesh", path)
    return {**paths, **result}


def is_of_scene(workspace: Workspace, edit: str | None) -> bool:
    """Whether the mesh of an edit, or of the reconstruction for None, is there and of its scene as it now is."""
    made = Provenance.from_json(_record(workspace.mesh(edit, ".json")).get("provenance"))
    there = workspace.mesh(edit, ".glb").is_file()
    return there and made is not None and made.inputs.get(SCENE) == scene_hash(result_folder(workspace, edit))


def _provenance(workspace: Workspace, request: ExtractMesh) -> Provenance:
    """The photos' cameras and points bound the grid and find its threshold."""
    inputs = {SCENE: scene_hash(result_folder(workspace, request.edit)), PHOTOS: photos_hash(workspace)}
    return Provenance("mesh", {"resolution": request.resolution}, inputs)


def _record(file: Path) -> dict:
    try:
        found = read_json(file)
    except In2nError:
        return {}
    return found if isinstance(found, dict) else {}


def _refuse_foreign(record_file: Path, files: list[Path]) -> None:
    """Raises In2nError("not_ours") for a mesh without the record that every mesh of ours has."""
    found = next((file for file in files if file.exists()), None)
    if found is not None and not record_file.exists():
        raise In2nError(
            "not_ours",
            f"{found} was not made by this program and would be overwritten.",
            "Move it away, then extract the mesh again.",
        )


def mesh_of_scene(scene: Scene, resolution: int, report: Reporter) -> tuple[ColoredMesh, float]:
    """The mesh of a trained scene, and its density threshold.

    resolution: grid points along the longest side of the bounds.
    """
    grid = sample_density(scene, resolution, report)
    threshold = surface_threshold(scene, grid, report)
    vertices, faces = marching_cubes(grid, threshold)
    report.check()
    vertices, faces = without_floaters(vertices, faces)
    report.check()
    vertices, faces = simplify(vertices, faces)
    report.check()
    normals = vertex_normals(vertices, faces)
    colors = surface_colors(scene, vertices, normals, grid.voxel, report)
    report.progress(1, 1, "mesh", f"Mesh of {len(vertices)} vertices", 0.0)
    return ColoredMesh(vertices, faces, normals, colors), threshold


def sample_density(scene, resolution: int, report: Reporter) -> DensityGrid:
    """The scene's density on a grid over its bounds, cubic voxels.

    Raises:
        In2nError: "empty_mesh" where what the capture's points bound has no extent.
        ValueError: For a resolution below 2.
    """
    if resolution < 2:
        raise ValueError(f"resolution {resolution}")
    low, high = np.asarray(scene.bounds(), np.float64)
    if not (np.isfinite(high - low).all() and (high > low).all()):
        raise _empty("The capture's points lie outside of what its photos show.")
    voxel = float((high - low).max() / (resolution - 1))
    axes = [
        low[axis] + voxel * np.arange(max(2, math.floor((high - low)[axis] / voxel + 1e-6) + 1)) for axis in range(3)
    ]
    shape = tuple(len(axis) for axis in axes)
    density = np.empty(shape, np.float32)
    flat, plane = density.reshape(-1), shape[1] * shape[2]
    started = time.monotonic()
    for first in range(0, len(flat), CHUNK):
        report.progress(first, len(flat), "sample", "Sampling the density", _left(started, first, len(flat)))
        index = np.arange(first, min(first + CHUNK, len(flat)))
        x, y, z = index // plane, index // shape[2] % shape[1], index % shape[2]
        points = np.stack([axes[0][x], axes[1][y], axes[2][z]], 1).astype(np.float32)
        flat[index] = np.asarray(scene.density(torch.from_numpy(points)), np.float32).reshape(-1)
    return DensityGrid(density, low, voxel)


def surface_threshold(scene, grid: DensityGrid, report: Reporter) -> float:
    """The density of the mesh's surface: half of the median density where the training views see surfaces.

    How dense a NeRF's surfaces are depends on how it was trained, not on the grid. Where the views see next to nothing
    in the grid, it is the density at which HALVING_VOXELS voxels hide half of what is behind them, exp(-sigma * length)
    = 1/2, and at most half of what the densest thousandth of the voxels reach. Raises In2nError("empty_mesh").
    """
    seen = _seen_densities(scene, grid, report)
    if len(seen) >= 100 and np.median(seen) > 0:
        return float(np.median(seen) / 2)
    dense = float(np.quantile(grid.density, 0.999))
    if not math.isfinite(dense) or dense <= 0:
        raise _empty("Nothing in the capture's region is dense enough for a mesh.")
    return min(math.log(2) / (HALVING_VOXELS * grid.voxel), dense / 2)


def _empty(message: str) -> In2nError:
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
        camera = Camera(
            k.scaled_to(max(1, round(k.width * scale)), max(1, round(k.height * scale))), view.camera.camera_to_world
        )
        rendered = scene.render(camera, report=report)
        origins, directions = camera.rays()
        seen = origins + directions * np.asarray(rendered.depth).reshape(-1, 1)
        inside = ((seen >= low) & (seen <= high)).all(1) & (np.asarray(rendered.alpha).reshape(-1) > 0.5)
        points.append(seen[inside].astype(np.float32))
    points = np.concatenate(points) if points else np.zeros((0, 3), np.float32)
    return np.asarray(scene.density(torch.from_numpy(points))).reshape(-1) if len(points) else np.zeros(0)


def marching_cubes(grid: DensityGrid, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (v, 3) float32 in capture coordinates and faces (f, 3) of the density's isosurface (Lewiner et al.
    2003).

    The surface is open where it meets the border of the grid. Raises In2nError("empty_mesh") when there is none.
    """
    from skimage import measure

    if not grid.density.min() < threshold < grid.density.max():
        raise _empty("The density has no surface in the capture's region.")
    # The logarithm makes the density change evenly from voxel to voxel, so that vertices are interpolated where they
    # are.
    volume = np.log(np.maximum(grid.density, threshold * 1e-3))
    vertices, faces, _, _ = measure.marching_cubes(volume, math.log(threshold), gradient_direction="ascent")
    return (grid.origin + vertices * grid.voxel).astype(np.float32), faces.astype(np.int64)


def without_floaters(
    vertices: np.ndarray, faces: np.ndarray, share: float = FLOATER_SHARE
) -> tuple[np.ndarray, np.ndarray]:
    """Only the connected components with at least `share` of the largest one's faces."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = faces[:, [0, 1, 1, 2]].reshape(-1, 2)
    links = coo_array((np.ones(len(edges), np.int8), edges.T), shape=(len(vertices),) * 2)
    _, label = connected_components(links, directed=False)
    sizes = np.bincount(label[faces[:, 0]])
    kept = faces[sizes[label[faces[:, 0]]] >= share * sizes.max()]
    used = np.zeros(len(vertices), bool)
    used[kept] = True
    return vertices[used], (used.cumsum() - 1)[kept]


def simplify(vertices: np.ndarray, faces: np.ndarray, most_faces: int = MOST_FACES) -> tuple[np.ndarray, np.ndarray]:
    """Quadric decimation (Garland and Heckbert 1997) to at most about `most_faces`."""
    if len(faces) <= most_faces:
        return vertices, faces
    import fast_simplification

    vertices, faces = fast_simplification.simplify(vertices, faces, target_count=most_faces)
    return np.asarray(vertices, np.float32), np.asarray(faces, np.int64)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted means of the faces' normals, unit length, (v, 3) float32."""
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    face_normals = np.cross(b - a, c - a)
    normals = np.zeros((len(vertices), 3))
    for corner in range(3):
        np.add.at(normals, faces[:, corner], face_normals)
    return (normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)).astype(np.float32)


def surface_colors(scene, vertices: np.ndarray, normals: np.ndarray, voxel: float, report: Reporter) -> np.ndarray:
    """(v, 3) sRGB seen when looking at every vertex along its inward normal: a short volume rendering through the
    surface.

    From one voxel outside to three inside, because a NeRF's colour is right where its weight is, not on one isosurface.
    """
    offsets = torch.arange(-1.0, 3.01, 0.5) * voxel
    colors = np.empty((len(vertices), 3), np.float32)
    chunk, started = CHUNK // len(offsets), time.monotonic()
    for first in range(0, len(vertices), chunk):
        report.progress(first, len(vertices), "vertex", "Colouring the mesh", _left(started, first, len(vertices)))
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


def write_ply(path: Path, mesh: ColoredMesh) -> None:
    """Binary PLY with normals and 8-bit sRGB vertex colours. Raises In2nError when it cannot be written."""
    import trimesh

    colors = np.column_stack([to_bytes(mesh.colors_srgb), np.full(len(mesh.vertices), 255, np.uint8)])
    solid = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_normals=mesh.normals, vertex_colors=colors, process=False)
    with atomic_path(path) as temporary:
        temporary.write_bytes(solid.export(file_type="ply", vertex_normal=True))


def write_glb(path: Path, mesh: ColoredMesh, name: str) -> None:
    """Binary glTF with vertex colours; y up in the file, the capture's z up again in Blender."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(glb_bytes(mesh.vertices, mesh.normals, mesh.colors_srgb, mesh.faces, name))


def _left(started: float, done: int, total: int) -> float | None:
    return (time.monotonic() - started) / done * (total - done) if done else None
