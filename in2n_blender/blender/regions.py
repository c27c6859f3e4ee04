"""Regions as objects of the scene: made round a capture, and written as the engine takes them."""

from __future__ import annotations

from pathlib import Path

import bmesh
import bpy
import numpy as np
from mathutils import Matrix
from mathutils.kdtree import KDTree

from ..scene.camera import look_at_point
from ..scene.capture import PinholeCapture
from ..scene.errors import In2nError
from ..scene.region import ROUNDNESS, Region
from ..workspace.files import write_json
from ..workspace.layout import Workspace
from .cameras import offset_of
from .scene_state import children

BOX, ELLIPSOID = "BOX", "ELLIPSOID"
PART = 0.5  # of the capture's extent that a new region has
SAME = 1e-4  # of a region's size, how far apart the vertices of one and the same are
EXTENT = (10, 90)  # percentiles of the points between which the capture's extent lies
WHOLE, MARGIN = (1, 99), 0.03  # percentiles between which all of it lies, and what is added, of its longest side
FEWEST_POINTS, INWARDS = 100, 0.8  # as the engine has them: `Scene.bounds`, `SceneTransform.of`


def chosen_region(scene, capture, workspace: Workspace) -> Path | None:
    """The file of the region that the scene's edits are limited to, written anew.

    Args:
        scene: With the region and its soft edge, in scene units, among its settings.
        capture: The capture's Empty.
        workspace: The capture's; the file is made in it.

    Returns:
        The file; None where edits act everywhere.

    Raises:
        In2nError: "no_region" where the object is not in the scene any more, "bad_region" where it is no closed
            surface, "bad_capture", "disk_full", "cannot_write".
    """
    return _written(scene, scene.in2n.region, scene.in2n.soft_edge, capture, workspace)


def kept_region(scene, capture, workspace: Workspace) -> Path | None:
    """The file of the region that the scene's meshes and splats are limited to, written anew.

    Args:
        scene: With the region among its settings.
        capture: The capture's Empty.
        workspace: The capture's; the file is made in it.

    Returns:
        The file; None where the engine is to find the subject itself.

    Raises:
        In2nError: As `chosen_region`.
    """
    return _written(scene, scene.in2n.kept, 0.0, capture, workspace)


def _written(scene, chosen, soft_edge: float, capture, workspace: Workspace) -> Path | None:
    if chosen is None:
        return None
    if scene.objects.get(chosen.name) != chosen:
        raise In2nError(
            "no_region",
            f"The region “{chosen.name}” is not in the scene any more.",
            "Choose another region, or none.",
        )
    region = region_of(chosen, capture, workspace, soft_edge)
    file = workspace.region(region.hash)
    if not file.is_file():
        write_json(file, region.to_json())
    return file


def region_of(chosen, capture, workspace: Workspace, soft_edge: float, depsgraph=None) -> Region:
    """An object's surface as it is shown, modifiers and all, in the coordinates of the workspace's capture.

    Args:
        chosen: A mesh object.
        capture: The capture's Empty, whose place, turn and scale are taken out.
        workspace: The capture's. Its photos may be relative to another offset than the Empty.
        soft_edge: In scene units.
        depsgraph: In which both are evaluated; None: the context's.

    Returns:
        The region, with its soft edge in capture units.

    Raises:
        In2nError: "bad_region", "bad_capture".
    """
    depsgraph = depsgraph or bpy.context.evaluated_depsgraph_get()
    vertices, faces = _surface(chosen, depsgraph)
    to_capture = np.linalg.inv(np.array(capture.evaluated_get(depsgraph).matrix_world, np.float64))
    to_capture[:3, 3] += _shift_to_workspace(capture, workspace)
    return Region.of(vertices, faces, soft_edge).transformed(to_capture)


def _surface(chosen, depsgraph) -> tuple[np.ndarray, np.ndarray]:
    """The vertices (n, 3) in world coordinates and triangles (m, 3) of an object."""
    if chosen.mode == "EDIT":
        chosen.update_from_editmode()
    shown = chosen.evaluated_get(depsgraph)
    mesh = shown.to_mesh()
    try:
        mesh.calc_loop_triangles()
        vertices = np.zeros(3 * len(mesh.vertices), np.float32)
        faces = np.zeros(3 * len(mesh.loop_triangles), np.int32)
        mesh.vertices.foreach_get("co", vertices)
        mesh.loop_triangles.foreach_get("vertices", faces)
    finally:
        shown.to_mesh_clear()
    matrix = np.array(shown.matrix_world, np.float64)
    points = vertices.reshape(-1, 3).astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
    return points, faces.reshape(-1, 3)


def add_region(scene, capture, shape: str):
    """Put a region round the middle of what a capture shows, as an object under its Empty, and let edits act there.

    It is drawn as wires and never rendered.

    Args:
        scene: The capture's.
        capture: The capture's Empty.
        shape: BOX or ELLIPSOID.

    Returns:
        The object.
    """
    mesh = bpy.data.meshes.new("Region")
    surface = bmesh.new()
    if shape == BOX:
        bmesh.ops.create_cube(surface, size=1.0)
    else:
        bmesh.ops.create_icosphere(surface, subdivisions=ROUNDNESS + 1, radius=0.5)
    surface.to_mesh(mesh)
    surface.free()
    made = _placed(scene, capture, mesh)
    center, size = _middle(capture)
    made.matrix_local = Matrix.LocRotScale(center.tolist(), None, size.tolist())
    scene.in2n.region = made
    return made


def add_kept_box(scene, capture):
    """Put a box round all that the capture's points show, as an object under its Empty, and keep what lies in it.

    It is drawn as wires and never rendered.

    Args:
        scene: The capture's.
        capture: The capture's Empty.

    Returns:
        The object.
    """
    mesh = bpy.data.meshes.new("Kept")
    surface = bmesh.new()
    bmesh.ops.create_cube(surface, size=1.0)
    surface.to_mesh(mesh)
    surface.free()
    made = _placed(scene, capture, mesh)
    made.show_name = True
    low, high = _whole(capture)
    made.matrix_local = Matrix.LocRotScale(((low + high) / 2).tolist(), None, (high - low).tolist())
    scene.in2n.kept = made
    return made


def bring_back(scene, capture, workspace: Workspace, region: Region) -> None:
    """Let edits act in a region that an edit acted in: the chosen object where it is that region, else a new one.

    Args:
        scene: The capture's.
        capture: The capture's Empty.
        workspace: The capture's, in whose coordinates the region lies.
        region: As the edit has it.

    Raises:
        In2nError: "bad_capture".
    """
    settings = scene.in2n
    scale = abs(capture.matrix_world.determinant()) ** (1 / 3)
    if settings.region is None or not _is_region(settings.region, capture, workspace, region):
        mesh = bpy.data.meshes.new("Region")
        vertices = region.vertices - _shift_to_workspace(capture, workspace)
        mesh.from_pydata(vertices.tolist(), [], region.faces.tolist())
        settings.region = _placed(scene, capture, mesh)
    settings.soft_edge = region.soft_edge * scale


def _is_region(chosen, capture, workspace: Workspace, region: Region) -> bool:
    """Whether an object's surface is a region's, to the accuracy of Blender's numbers."""
    try:
        own = region_of(chosen, capture, workspace, 0.0)
    except In2nError:
        return False
    if own.vertices.shape != region.vertices.shape or own.faces.shape != region.faces.shape:
        return False
    tolerance = SAME * np.ptp(region.vertices, axis=0).max()
    tree = KDTree(len(own.vertices))
    for number, vertex in enumerate(own.vertices):
        tree.insert(vertex, number)
    tree.balance()
    return all(tree.find(vertex)[2] <= tolerance for vertex in region.vertices)


def _placed(scene, capture, mesh):
    """A region's object under a capture's Empty, drawn as wires and never rendered."""
    made = bpy.data.objects.new(mesh.name, mesh)
    made.display_type, made.hide_render = "WIRE", True
    next(iter(capture.users_collection), scene.collection).objects.link(made)
    made.parent = capture
    return made


def _shift_to_workspace(capture, workspace: Workspace) -> np.ndarray:
    """(3,) what is added to coordinates under the Empty to get those of the workspace's photos."""
    if not workspace.capture_json.is_file():
        return np.zeros(3)
    return offset_of(capture) - PinholeCapture.load(workspace.capture_json).offset


def _middle(capture) -> tuple[np.ndarray, np.ndarray]:
    """(3,) the middle of what the capture shows and (3,) the size of a part of it, under the Empty."""
    low, high = np.percentile(_places(capture), EXTENT, axis=0)
    extent = high - low
    return (low + high) / 2, PART * np.maximum(extent, 0.1 * max(extent.max(), 1e-6))


def _whole(capture) -> tuple[np.ndarray, np.ndarray]:
    """(3,) the lowest and (3,) the highest corner, under the Empty, of the box that the engine takes where it is told
    of none: round the points, no farther from what the cameras look at than they are."""
    poses = np.array([camera.matrix_local for camera in children(capture, "CAMERA")], np.float64).reshape(-1, 4, 4)
    positions, forward = poses[:, :3, 3], -poses[:, :3, 2]
    if not len(poses):
        return _places(capture).min(0), _places(capture).max(0)
    center = look_at_point(positions, forward / np.linalg.norm(forward, axis=1, keepdims=True))
    if (((center - positions) * forward).sum(1) > 0).mean() < INWARDS:
        center = positions.mean(0)
    reach = max(float(np.linalg.norm(positions - center, axis=1).max()), 1e-6)
    points = _points(capture)
    if len(points) < FEWEST_POINTS:
        return center - reach, center + reach
    low, high = np.percentile(points, WHOLE, axis=0)
    margin = MARGIN * (high - low).max()
    return np.maximum(low - margin, center - reach), np.minimum(high + margin, center + reach)


def _places(capture) -> np.ndarray:
    """(n, 3) where something is, under the Empty: the capture's points, or its cameras where it has none."""
    points = _points(capture)
    if len(points) < 10:  # no sparse points: the middle of the cameras
        points = np.array([camera.matrix_local.translation for camera in children(capture, "CAMERA")]).reshape(-1, 3)
    return points if len(points) >= 2 else np.array([(-1.0, -1.0, -1.0), (1.0, 1.0, 1.0)])


def _points(capture) -> np.ndarray:
    """(n, 3) the capture's points under the Empty."""
    points = [np.zeros((0, 3), np.float32)]
    for found in children(capture, "POINTS"):
        places = np.zeros(3 * len(found.data.vertices), np.float32)
        found.data.vertices.foreach_get("co", places)
        points.append(places.reshape(-1, 3))
    return np.concatenate(points)
