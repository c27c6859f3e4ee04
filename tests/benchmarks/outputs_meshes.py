"""Meshes against Blender's own surfaces, and textured meshes against photos that no training saw.

`mesh_rows` measures a testbed scene's mesh (Chamfer distance and normals against what the cameras see of the scene's
surfaces, `visible_surfaces`), beside the density's isosurface, which meshes were before; `texture_rows` a textured mesh
in the held-out views, where it covers them; `closed_rows` a watertight one; `nose_rows` the fox's.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import trimesh
from scipy.spatial import cKDTree

from in2n_blender.engine.evaluation.geometry import not_hidden
from in2n_blender.engine.nerf.scene import load_scene
from in2n_blender.engine.output.mesh import extract_mesh
from in2n_blender.engine.output.meshing import MeshSettings, mesh_of_scene
from in2n_blender.engine.photos import load_images, opaque
from in2n_blender.link.requests import ExtractMesh
from in2n_blender.scene.reporting import Reporter
from in2n_blender.workspace.layout import Workspace
from tests.benchmarks.bars import Bar
from tests.benchmarks.drawn_mesh import DrawnMesh
from tests.benchmarks.surface_distance import distances

RESOLUTION = 192
SPACING = 0.0015  # of the box's diagonal, between points of the true surfaces
POINTS = 200_000  # on the mesh
SMALLEST_PART = 0.01  # of the faces


def mesh_rows(name: str, workspace: Path, truth: Path, bpy_python: Path, root: Path) -> list[Bar]:
    """The mesh of a reconstructed testbed scene.

    Args:
        name: The scene's.
        workspace: Reconstructed.
        truth: The .npz of `visible_surfaces`; made where it is missing.
        bpy_python: A Python with bpy.
        root: The checkout.
    """
    scene = load_scene(Workspace(workspace), None, "cpu")
    views = [view for view in scene.capture.views]
    size = views[0].camera.intrinsics.width
    if not truth.exists():
        training = len(scene.capture.training_views)
        command = [bpy_python, "-m", "tests.benchmarks.visible_surfaces", "--scene", name, "--size", size]
        command += ["--views", training, "--out", truth]
        subprocess.run([str(part) for part in command], check=True, cwd=root)
    held = np.load(truth)
    bounds = np.asarray(scene.bounds(), np.float64)
    depths = {view.name: held[f"depth_{Path(view.name).stem}"] for view in views}
    cameras = {view.name: view.camera.scaled_to(size, size) for view in views}
    scores = {}
    for quick in (True, False):
        mesh = mesh_of_scene(scene, MeshSettings(RESOLUTION, quick=quick), Reporter()).mesh
        scores[quick] = _against(mesh, held, bounds, depths, cameras)
    (before, turned), (chamfer, normals) = scores[True], scores[False]
    return [
        Bar(f"{name}: Chamfer, share of the isosurface's", chamfer / before, 0.7, chamfer <= 0.7 * before),
        Bar(f"{name}: Chamfer, percent of the box's diagonal", chamfer, before, chamfer <= 0.7 * before),
        Bar(f"{name}: normal consistency, more than the isosurface's", normals, turned, normals > turned),
    ]


def _against(mesh, held, bounds, depths, cameras) -> tuple[float, float]:
    """Chamfer distance in percent of the box's diagonal, and the mean cosine between normals, both ways.

    Distances are to the nearest point of the other surface, not to the nearest one of some points on it: these lie
    farther apart than good surfaces do.
    """
    diagonal, points, normals = np.linalg.norm(bounds[1] - bounds[0]), held["points"], held["normals"]
    inside = ((points >= bounds[0]) & (points <= bounds[1])).all(1)
    points, normals = points[inside].astype(np.float64), normals[inside]
    _, even = np.unique(np.floor(points / (SPACING * diagonal)).astype(np.int64), axis=0, return_index=True)
    points, normals = points[even], normals[even]
    solid = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    made, face = trimesh.sample.sample_surface(solid, POINTS, seed=0)
    turned = solid.face_normals[face]
    shown = not_hidden(made, depths, cameras) & ((made >= bounds[0]) & (made <= bounds[1])).all(1)
    made, turned = made[shown], turned[shown]
    near_made, near_true = cKDTree(made).query(points)[1], cKDTree(points).query(made)[1]
    cosines = (turned[near_made] * normals).sum(1).mean(), (turned * normals[near_true]).sum(1).mean()
    to_made = distances(points, mesh.vertices[mesh.faces])
    to_true = distances(made, held["triangles"])
    return 50 * float(to_made.mean() + to_true.mean()) / diagonal, float(np.mean(cosines))


def texture_rows(name: str, workspace: Path, sheet: dict, least: float | None) -> list[Bar]:
    """A textured mesh in held-out views.

    Args:
        name: The scene's.
        workspace: Reconstructed; a mesh is left there.
        sheet: Given (photo, field, mesh) of one view under the scene's name.
        least: The PSNR it must have, beside that within 2 dB of the field's.
    """
    made = extract_mesh(ExtractMesh(workspace=str(workspace), device="cpu"), Reporter())
    scene, drawn = load_scene(Workspace(workspace), None, "cpu"), DrawnMesh.read(Path(made["glb"]))
    errors, shares = {"mesh": [], "field": []}, []
    for view in scene.capture.held_out_views:
        photo = opaque(load_images(Workspace(workspace), scene.capture, (view,))[0])
        photo = np.asarray(photo, np.float64)
        field = scene.render(view.camera).rgb_srgb.numpy()
        picture, covers = drawn.drawn(view.camera)
        errors["mesh"].append(((picture - photo) ** 2)[covers])
        errors["field"].append(((field - photo) ** 2)[covers])
        shares.append(covers.mean())
        sheet[name] = [photo, field, np.where(covers[..., None], picture, 1.0)]
    mesh, field = (psnr_of(np.concatenate(errors[kind])) for kind in ("mesh", "field"))
    rows = [
        Bar(
            f"{name}: textured mesh, held-out PSNR where it covers ({np.mean(shares):.0%})",
            mesh,
            field - 2,
            mesh >= field - 2,
        )
    ]
    if least is not None:
        rows.append(Bar(f"{name}: textured mesh, held-out PSNR, at least", mesh, least, mesh >= least))
    return rows


def psnr_of(errors: np.ndarray) -> float:
    """dB of squared errors of values in [0, 1]."""
    return float(-10 * np.log10(errors.mean()))


def closed_rows(name: str, workspace: Path) -> list[Bar]:
    """A watertight mesh, read again from its file."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        _copied(workspace, copy)
        request = ExtractMesh(workspace=str(copy), watertight=True, texture=0, collision_faces=3000, device="cpu")
        made = extract_mesh(request, Reporter())
        rows = []
        for kind in ("ply", "collision"):
            solid = trimesh.load(made[kind], force="mesh")
            loose = _open_edges(solid.faces)
            rows += [
                Bar(f"{name}: watertight {kind}, open edges", loose, 0, loose == 0),
                Bar(f"{name}: watertight {kind}, trimesh agrees", float(solid.is_watertight), 1, solid.is_watertight),
            ]
        return rows


def nose_rows(workspace: Path) -> list[Bar]:
    """The fox: its nose points away from the wall, along the capture's x axis; no loose crumbs."""
    made = extract_mesh(ExtractMesh(workspace=str(workspace), device="cpu"), Reporter())
    solid = trimesh.load(made["ply"], process=False)
    far = load_scene(Workspace(workspace), None, "cpu").bounds()[1][0]
    edges = np.sort(solid.edges, 1)
    _, first, count = np.unique(edges, axis=0, return_index=True, return_counts=True)
    rim = np.unique(edges[first[count == 1]])
    voxel = np.ptp(solid.bounds, axis=0).max() / RESOLUTION
    cut = int((solid.vertices[rim][:, 0] > far - 2 * voxel).sum())
    parts = trimesh.graph.connected_components(solid.face_adjacency, nodes=np.arange(len(solid.faces)))
    smallest = min(len(part) for part in parts) / len(solid.faces)
    return [
        Bar("fox: open vertices where the box ends before the nose", cut, 0, cut == 0),
        Bar("fox: the smallest part, share of the faces", smallest, SMALLEST_PART, smallest >= SMALLEST_PART),
    ]


def _open_edges(faces: np.ndarray) -> int:
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), 1)
    return int((np.unique(edges, axis=0, return_counts=True)[1] == 1).sum())


def _copied(workspace: Path, to: Path) -> None:
    import shutil

    shutil.copytree(workspace, to, ignore=shutil.ignore_patterns("edits", "renders", "meshes", "splats", "datasets"))
