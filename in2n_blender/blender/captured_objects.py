"""A capture as objects of a scene: an Empty, a camera for every photo in a collection of their own, and points."""

from __future__ import annotations

import math
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix

from ..scene.camera import look_at_point
from ..scene.capture import PinholeCapture
from ..scene.errors import In2nError
from ..scene.upright import up_direction
from ..workspace.layout import Workspace
from . import look
from .alignment import UP, rotation_between, turn
from .cameras import set_lens, set_offset, show_photo
from .scene_state import children

NEAR, FAR = 1e-3, 1e3  # of a capture's extent: between these its cameras see
LEAST_POINTS = 20  # from which it can be told which of them lie far off
SAMPLED = 200  # places from which their spacing is told


def add_capture(scene, capture: PinholeCapture, photos: dict[str, Path]) -> bpy.types.Object:
    """Put a capture in the scene: an Empty with a camera for every view and the sparse points under it.

    Makes no use of `bpy.ops`, so the caller's undo step is the only one.

    Args:
        scene: Where to.
        capture: The undistorted capture.
        photos: Files shown behind the cameras, by the view's name.

    Returns:
        The Empty.
    """
    collection = bpy.data.collections.new(capture.name)
    scene.collection.children.link(collection)
    extent = extent_of(capture)
    empty = bpy.data.objects.new(capture.name, None)
    empty.in2n.role = "CAPTURE"
    set_offset(empty, capture.offset)
    empty.empty_display_size = 0.1 * extent
    empty.matrix_basis = Matrix(_upright(capture).tolist())
    collection.objects.link(empty)
    in_collection, holder = _add_cameras_holder(collection, empty)
    positions = np.array([view.camera.position for view in capture.views])
    size = float(np.clip(0.5 * _spacing(positions), 0.01 * extent, 0.04 * extent))
    for view in capture.views:
        camera = _add_camera(in_collection, holder, view, size, photos.get(view.name))
        camera.clip_start, camera.clip_end = NEAR * extent, max(FAR * extent, 2 * _farthest(capture))
    if len(capture.points):
        _add_points(collection, empty, capture, extent)
    return empty


def _upright(capture: PinholeCapture) -> np.ndarray:
    """(4, 4) as `upright`; none for a capture in map coordinates, which is."""
    return np.eye(4) if np.any(capture.offset) else upright([view.camera.camera_to_world for view in capture.views])


def upright(poses) -> np.ndarray:
    """The turn about the origin that stands a capture upright.

    Args:
        poses: (n, 4, 4) camera-to-world.

    Returns:
        (4, 4); the identity where the cameras do not tell what is up.
    """
    up = up_direction(poses)
    return np.eye(4) if up is None else turn(rotation_between(up, UP), np.zeros(3))


def _add_cameras_holder(collection, empty) -> tuple:
    """A collection for the cameras alone, and what they hang on: hidden, so that no lines are drawn from it to them."""
    cameras = bpy.data.collections.new(f"{collection.name} cameras")
    collection.children.link(cameras)
    holder = bpy.data.objects.new(cameras.name, None)
    holder.hide_viewport = holder.hide_render = True
    holder.parent = empty
    cameras.objects.link(holder)
    return cameras, holder


def _add_camera(collection, holder, view, size: float, photo: Path | None):
    """A photo's camera; returns its data."""
    k = view.camera.intrinsics
    data = bpy.data.cameras.new(view.name)
    set_lens(data, k, fit="HORIZONTAL" if k.width >= k.height else "VERTICAL")
    data.display_size = size
    data.show_passepartout = False  # what the photo shows beyond the shot's frame is to be seen too
    camera = bpy.data.objects.new(data.name, data)
    marker = camera.in2n
    marker.role, marker.photo, marker.held_out = "CAMERA", view.name, view.held_out
    marker.image_size, marker.intrinsics = (k.width, k.height), (k.fx, k.fy, k.cx, k.cy)
    camera.parent = holder
    camera.matrix_local = Matrix(np.asarray(view.camera.camera_to_world, np.float64).tolist())
    collection.objects.link(camera)
    if photo is not None:
        show_photo(data, photo)
    return data


def _add_points(collection, empty, capture: PinholeCapture, extent: float) -> None:
    mesh = bpy.data.meshes.new(f"{capture.name} points")
    mesh.vertices.add(len(capture.points))
    mesh.vertices.foreach_set("co", np.ascontiguousarray(capture.points, np.float32).reshape(-1))
    colors = mesh.color_attributes.new("Col", "BYTE_COLOR", "POINT")
    rgba = np.ones((len(capture.points), 4), np.float32)
    rgba[:, :3] = np.asarray(capture.point_colors, np.float32) / 255
    colors.data.foreach_set("color_srgb", rgba.reshape(-1))
    points = bpy.data.objects.new(mesh.name, mesh)
    points.in2n.role, empty.in2n.points_shown = "POINTS", True
    points.parent = empty
    points.hide_render = True
    collection.objects.link(points)
    mesh.color_attributes.active_color = colors
    mesh.materials.append(look.vertex_color_material())
    radius = float(np.clip(0.5 * _spacing(np.asarray(capture.points, np.float64)), 0.002 * extent, 0.012 * extent))
    look.show_as_points(points, radius)


def note_import(empty, workspace: Workspace) -> None:
    """Take over what only the engine's import knows: which photos were held out, how many are masked, for a PNG's alpha
    may be a mask, and points that were found in photos that came without any.

    Args:
        empty: The capture's Empty.
        workspace: The capture's, into which its photos were just brought.
    """
    empty.in2n.split_changed = False
    try:
        capture = PinholeCapture.load(workspace.capture_json)
    except In2nError:
        return
    held_out = {view.name: view.held_out for view in capture.views}
    empty.in2n.masks = sum(bool(view.mask) for view in capture.views)
    for camera in children(empty, "CAMERA"):
        camera.in2n.held_out = held_out.get(camera.in2n.photo, camera.in2n.held_out)
    # Once: points that the user deleted stay deleted.
    if len(capture.points) and not empty.in2n.points_shown and not children(empty, "POINTS") and empty.users_collection:
        _add_points(empty.users_collection[0], empty, capture, extent_of(capture))


def follow_scale(empty, factor: float) -> float:
    """Let the cameras be drawn, and see near and far, as before when the capture was scaled: Blender scales neither.

    Args:
        empty: The capture's Empty, scaled already.
        factor: By how much.

    Returns:
        The capture's extent in scene units, as far as its cameras tell.
    """
    found = [camera for camera in children(empty, "CAMERA") if camera.data.library is None]
    for data in {camera.data for camera in found}:
        for name in ("display_size", "clip_start", "clip_end"):
            setattr(data, name, factor * getattr(data, name))
    positions = np.array([camera.matrix_world.translation for camera in found]).reshape(-1, 3)
    return float(np.linalg.norm(positions - positions.mean(0), axis=1).max()) if len(found) > 1 else 1.0


def extent_of(capture: PinholeCapture) -> float:
    """How large a capture is: the distance from its middle within which most of its cameras and points lie.

    Args:
        capture: Any.

    Returns:
        Capture units, positive and finite whatever the capture is.
    """
    positions = np.array([view.camera.position for view in capture.views])
    middle = np.median(positions, 0)
    found = [np.percentile(np.linalg.norm(at - middle, axis=1), 90) for at in (positions, capture.points) if len(at)]
    extent = float(max(found))
    return extent if math.isfinite(extent) and extent > 0 else 1.0


def places(empty, capture: PinholeCapture) -> tuple[np.ndarray, np.ndarray]:
    """What is to be seen of a capture, and from where it was photographed, in world coordinates.

    Args:
        empty: The capture's Empty.
        capture: The capture.

    Returns:
        (n, 3) its points, without those that lie far off; where it has none, what all cameras look at. And (m, 3) the
        cameras' positions.
    """
    poses = np.array([view.camera.camera_to_world for view in capture.views])
    points, positions = np.asarray(capture.points, np.float64), poses[:, :3, 3]
    points = without_outliers(points)
    if not len(points):
        points = look_at_point(positions, -poses[:, :3, 2])[None]
        away = np.linalg.norm(points - positions.mean(0))
        if not np.isfinite(away) or away > 3 * extent_of(capture):  # they look side by side: no point before them all
            points = positions
    world = np.array(empty.matrix_world, np.float64)
    return tuple(at @ world[:3, :3].T + world[:3, 3] for at in (points, positions))


def without_outliers(points: np.ndarray) -> np.ndarray:
    """Points without those that lie far off.

    Args:
        points: (n, 3).

    Returns:
        (m, 3) those between the percentiles 5 and 95 along every axis; all of them where they are few.
    """
    if len(points) < LEAST_POINTS:
        return points
    low, high = np.percentile(points, (5, 95), axis=0)
    return points[((points >= low) & (points <= high)).all(1)]


def _farthest(capture: PinholeCapture) -> float:
    """The distance of the farthest point from the farthest camera, at most."""
    if not len(capture.points):
        return 0.0
    positions = np.array([view.camera.position for view in capture.views])
    middle = positions.mean(0)
    return float(sum(np.linalg.norm(at - middle, axis=1).max() for at in (positions, capture.points)))


def _spacing(places: np.ndarray) -> float:
    """The median distance from a place to the one next to it, found from some of them."""
    if len(places) < 2:
        return 0.0
    some = np.linspace(0, len(places) - 1, min(len(places), SAMPLED)).astype(int)
    nearest = [np.partition(np.linalg.norm(places - places[index], axis=1), 1)[1] for index in some]
    return float(np.median(nearest))
