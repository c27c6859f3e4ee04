"""Cameras between a capture and Blender: photos in, camera paths out.

A capture's coordinates and Blender's differ by one object, the capture's Empty: a camera's matrix relative to the Empty
is its camera-to-world in the capture. Both use OpenGL axes (x right, y up, looks along -z), so no axis is flipped.
What lies far from the origin of its own coordinates comes relative to the capture's offset, which the Empty keeps.
"""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np

from ..scene.blender_lens import BlenderLens, blender_lens, intrinsics_from_blender
from ..scene.camera import Camera, Intrinsics
from ..scene.camera_path import CameraPath, PathFrame
from ..scene.capture import PinholeCapture
from ..scene.errors import In2nError
from ..workspace.layout import Workspace
from . import paths

LENS_PROPERTIES = ("sensor_fit", "sensor_width", "sensor_height", "lens", "shift_x", "shift_y")
SHEAR_TOLERANCE = 1e-4
OFFSET = "in2n_offset"  # a custom property: those are float64, properties of the add-on and matrices only float32


def set_lens(camera_data, k: Intrinsics, fit: str = "AUTO") -> None:
    """Give a camera the lens that sees what a pinhole lens sees, at the latter's resolution and pixel aspect.

    Args:
        camera_data: A `bpy.types.Camera`.
        k: The pinhole lens, in pixels.
        fit: The side of the picture that the lens spans. "HORIZONTAL" and "VERTICAL" span it whatever the shape of the
            scene's renders is, "AUTO" the longer one of these.
    """
    fitted = blender_lens(k, fit=fit)
    camera_data.type = "PERSP"
    camera_data.lens_unit = "MILLIMETERS"
    for name in LENS_PROPERTIES:
        setattr(camera_data, name, getattr(fitted, name))


def intrinsics_of(camera_data, render) -> Intrinsics:
    """What a Blender camera sees, in pixels of the scene's render.

    Args:
        camera_data: A `bpy.types.Camera`, evaluated when it is animated.
        render: `bpy.types.RenderSettings`.

    Raises:
        In2nError: "not_perspective" for orthographic, panoramic and custom cameras.
    """
    if camera_data.type != "PERSP":
        raise In2nError(
            "not_perspective",
            f"The camera “{camera_data.name}” is not a perspective camera.",
            "Set its lens type to Perspective.",
        )
    lens = BlenderLens(**{name: getattr(camera_data, name) for name in LENS_PROPERTIES})
    return intrinsics_from_blender(lens, *render_size(render), render.pixel_aspect_x, render.pixel_aspect_y)


def set_resolution(scene, k: Intrinsics) -> None:
    """Give the scene's render a lens's resolution and pixel aspect.

    Args:
        scene: Whose render is set.
        k: The pinhole lens, in pixels.
    """
    render = scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = k.width, k.height, 100
    fitted = blender_lens(k)
    render.pixel_aspect_x, render.pixel_aspect_y = fitted.pixel_aspect_x, fitted.pixel_aspect_y


def render_size(render) -> tuple[int, int]:
    """Width and height of the scene's renders in pixels, as Blender rounds them.

    Args:
        render: `bpy.types.RenderSettings`.
    """
    return tuple(
        max(side * render.resolution_percentage // 100, 1) for side in (render.resolution_x, render.resolution_y)
    )


def relative_pose(camera_world: np.ndarray, capture_world: np.ndarray) -> np.ndarray:
    """The camera-to-world in the capture's coordinates of a camera placed in Blender's.

    Args:
        camera_world: (4, 4) the camera's matrix. Its scale is dropped, as Blender drops it when rendering.
        capture_world: (4, 4) the matrix of the capture's Empty, which may be moved, rotated and scaled evenly.

    Returns:
        (4, 4) float64, rigid.

    Raises:
        In2nError: "uneven_scale" when the Empty is stretched or mirrored: then no pinhole camera in the capture sees
            what the Blender camera sees.
    """
    axes = np.asarray(capture_world, np.float64)[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    if (
        lengths.min() < 1e-12
        or np.abs((axes / lengths).T @ (axes / lengths) - np.eye(3)).max() > SHEAR_TOLERANCE
        or lengths.max() / lengths.min() > 1 + SHEAR_TOLERANCE
        or np.linalg.det(axes) < 0
    ):
        raise In2nError(
            "uneven_scale",
            "The capture's Empty is scaled unevenly or mirrored.",
            "Give it the same positive scale on all three axes.",
        )
    relative = np.linalg.inv(np.asarray(capture_world, np.float64)) @ np.asarray(camera_world, np.float64)
    pose = np.eye(4)
    u, _, vt = np.linalg.svd(relative[:3, :3] / np.linalg.norm(relative[:3, :3], axis=0))
    pose[:3, :3] = u @ vt
    pose[:3, 3] = relative[:3, 3]
    return pose


def camera_path_from_scene(
    scene, capture_empty, name: str, frame_start: int, frame_end: int, step: int = 1
) -> CameraPath:
    """The scene's camera at every frame, in the capture's coordinates, as Blender itself would render it.

    Animation, drivers, constraints, parents and cameras bound to markers count; the current frame is restored.

    Args:
        scene: Whose camera is followed.
        capture_empty: The capture's Empty, which may be animated too.
        name: The path's.
        frame_start, frame_end, step: Its frames, both ends included.

    Raises:
        In2nError: "no_frames", "no_camera", "not_perspective", "uneven_scale".
    """
    frames = range(frame_start, frame_end + 1, step)
    if not frames:
        raise In2nError(
            "no_frames",
            f"There is no frame from {frame_start} to {frame_end}.",
            "Let the last frame come after the first.",
        )
    before = scene.frame_current, scene.frame_subframe
    try:
        with bpy.context.temp_override(scene=scene, view_layer=scene.view_layers[0]):
            path = tuple(PathFrame(number, _camera_at(scene, capture_empty, number)) for number in frames)
            empty = capture_empty.evaluated_get(bpy.context.evaluated_depsgraph_get())
            unit_scale = float(np.linalg.norm(np.array(empty.matrix_world)[:3, 0]))
    finally:
        scene.frame_set(before[0], subframe=before[1])
    return CameraPath(name, scene.render.fps / scene.render.fps_base, path, unit_scale)


def relative_to_workspace(path: CameraPath, capture_empty, workspace: Workspace) -> CameraPath:
    """A camera path from under the Empty, for the engine.

    The photos in the workspace may be relative to another offset than the Empty: some were missing when either was
    imported, or an earlier version, which had no offsets, imported one of them.

    Args:
        path: In the capture's units, relative to the Empty's offset.
        capture_empty: The capture's Empty.
        workspace: The capture's.

    Returns:
        The path relative to the offset of the workspace's capture; unchanged where there is none.

    Raises:
        In2nError: "bad_capture".
    """
    shift = workspace_shift(capture_empty, workspace)
    if not shift.any():
        return path
    moved = np.eye(4)
    moved[:3, 3] = shift
    cameras = (Camera(f.camera.intrinsics, moved @ f.camera.camera_to_world) for f in path.frames)
    return replace(path, frames=tuple(replace(f, camera=camera) for f, camera in zip(path.frames, cameras)))


def workspace_shift(capture_empty, workspace: Workspace) -> np.ndarray:
    """What has to be added to places under the Empty for the engine, as `relative_to_workspace` tells why.

    Args:
        capture_empty: The capture's Empty.
        workspace: The capture's.

    Returns:
        (3,) float64, in the capture's units; 0 where nothing was imported yet.

    Raises:
        In2nError: "bad_capture".
    """
    file = workspace.capture_json
    return offset_of(capture_empty) - _offset_in(file, file.stat().st_mtime_ns) if file.is_file() else np.zeros(3)


@functools.lru_cache(maxsize=8)
def _offset_in(capture_json: Path, _changed: int) -> np.ndarray:
    return PinholeCapture.load(capture_json).offset


def _camera_at(scene, capture_empty, number: int) -> Camera:
    scene.frame_set(number)
    if scene.camera is None:
        raise In2nError(
            "no_camera", f"The scene has no camera at frame {number}.", "Choose one in the scene's properties."
        )
    depsgraph = bpy.context.evaluated_depsgraph_get()
    camera = scene.camera.evaluated_get(depsgraph)
    if camera.type != "CAMERA":
        raise In2nError(
            "not_perspective",
            f"The scene renders from “{scene.camera.name}”, which is not a camera.",
            "Choose a camera in the scene's properties.",
        )
    empty = capture_empty.evaluated_get(depsgraph)
    return Camera(
        intrinsics_of(camera.data, scene.render),
        relative_pose(np.array(camera.matrix_world), np.array(empty.matrix_world)),
    )


def path_name(scene) -> str:
    """A camera path's name made from the scene's."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", scene.name).strip("-.")[:64] or "path"


def set_offset(obj, offset) -> None:
    """Note on an object where its origin lies in the capture's own coordinates.

    Args:
        obj: A `bpy.types.Object`: the capture's Empty, or a mesh under it.
        offset: (3,) float64, in the capture's units.
    """
    obj[OFFSET] = [float(value) for value in offset]


def offset_of(obj) -> np.ndarray:
    """What `set_offset` noted on an object; zero where nothing did.

    Args:
        obj: A `bpy.types.Object`.

    Returns:
        (3,) float64, in the capture's units.
    """
    return np.array(obj.get(OFFSET, (0.0, 0.0, 0.0)), np.float64)


def show_photo(camera_data, file: Path) -> None:
    """Show an image file behind a camera, in place of the photo that was shown there before.

    Args:
        camera_data: A `bpy.types.Camera`.
        file: The image.
    """
    image = bpy.data.images.load(str(file), check_existing=True)
    photos = (b for b in camera_data.background_images if b.image is not None and b.image.get("in2n_photo"))
    background = next(photos, None)
    if background is None:
        background = camera_data.background_images.new()
        # Fits shots that are wider than the photo; `photos.look_through` sees to all others.
        background.frame_method = "CROP" if camera_data.sensor_fit == "HORIZONTAL" else "FIT"
    image["in2n_photo"] = True
    image.filepath = paths.stored(file)
    background.image = image
    background.alpha = 1.0
    camera_data.show_background_images = True
