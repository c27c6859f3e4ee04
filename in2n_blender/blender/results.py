"""What the engine made, brought back into the .blend. Doing it again replaces, never duplicates."""

from __future__ import annotations

import functools
from contextlib import suppress
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix

from ..scene.errors import In2nError
from ..workspace.files import read_json
from ..workspace.layout import ORIGINAL, Workspace
from ..workspace.provenance import SCENE, Provenance, result_folder
from . import colour, look, pictures
from .cameras import offset_of, set_offset
from .look import COLOR_ATTRIBUTE
from .scene_state import children


def import_mesh(context, scene, capture, file: Path, edit: str, quick: bool = False):
    """Bring a PLY with vertex colours in as a child of the capture's Empty, so that capture coordinates fit.

    A mesh of the same edit is replaced and keeps its object: name, materials of its own, modifiers, visibility.

    Args:
        context: Blender's, for the importer.
        scene: Where a new object is linked when there is no capture.
        capture: The capture's Empty; None puts the mesh at the world's origin.
        file: The PLY.
        edit: The edit's name, or ORIGINAL.
        quick: Whether it is the mesh that is made unasked, only to look at: it replaces no other, and never renders.

    Returns:
        The object.

    Raises:
        In2nError: "missing_file", "bad_mesh".
    """
    data = _read_ply(context, file)
    offset = _offset_of_mesh(file, capture)
    same = (o for o in children(capture, "MESH") if (o.in2n.edit, o.in2n.quick) == (edit, quick)) if capture else ()
    existing = next(iter(same), None)
    if existing is not None:
        for material in existing.data.materials:
            data.materials.append(material)
        previous, existing.data = existing.data, data
        data.name = previous.name
        if previous.users == 0:
            bpy.data.meshes.remove(previous)
        _place_mesh(existing, offset, capture)
        return existing
    data.name = f"{edit} quick mesh" if quick else f"{edit} mesh"
    data.materials.append(look.vertex_color_material())
    mesh = bpy.data.objects.new(data.name, data)
    mesh.in2n.role, mesh.in2n.edit, mesh.in2n.quick = "MESH", edit, quick
    mesh.hide_render = quick
    collection = next(iter(capture.users_collection), scene.collection) if capture else scene.collection
    collection.objects.link(mesh)
    mesh.parent = capture
    _place_mesh(mesh, offset, capture)
    return mesh


def _place_mesh(mesh, offset: np.ndarray, capture) -> None:
    """Let the vertices, relative to `offset`, lie under the capture's Empty where they belong."""
    set_offset(mesh, offset)
    if capture is not None and mesh.parent == capture:
        mesh.matrix_parent_inverse = Matrix.Translation(offset - offset_of(capture))


def _offset_of_mesh(file: Path, capture) -> np.ndarray:
    """(3,) float64: what the engine noted beside the mesh; the capture's where it noted none."""
    with suppress(In2nError, AttributeError, TypeError, ValueError):
        noted = np.array(read_json(Path(file).with_suffix(".json")).get("offset"), np.float64)
        if noted.shape == (3,) and np.isfinite(noted).all():
            return noted
    return offset_of(capture) if capture else np.zeros(3)


def _read_ply(context, file: Path):
    """The file as a mesh datablock.

    Blender's importer works on the active scene and changes its selection and mode, so it gets a scene of its own.
    """
    if not Path(file).is_file():
        raise In2nError("missing_file", f"{file} does not exist.", "Extract the mesh again.")
    scene = bpy.data.scenes.new("IN2N import")
    try:
        with context.temp_override(scene=scene, view_layer=scene.view_layers[0], collection=scene.collection):
            bpy.ops.wm.ply_import(filepath=str(file), forward_axis="Y", up_axis="Z", import_colors="SRGB")
        imported = next((o for o in scene.objects if o.type == "MESH"), None)
        if imported is None:
            raise In2nError("bad_mesh", f"{file} could not be read as a mesh.", "Extract the mesh again.")
        data = imported.data
        bpy.data.objects.remove(imported)
    finally:
        bpy.data.scenes.remove(scene)
    if COLOR_ATTRIBUTE in data.color_attributes:
        data.color_attributes.active_color = data.color_attributes[COLOR_ATTRIBUTE]
        data.color_attributes.render_color_index = data.color_attributes.active_color_index
    return data


def load_frames(scene, folder: Path, edit: str, path_name: str, numbers: list[int]):
    """Show rendered frames in step with the timeline in front of the scene's cameras.

    The frames become one image sequence; every camera that the scene renders from in those frames shows it. Where a
    number is left out, as with a frame step of 2, the frame before it stays.

    Args:
        scene: Whose cameras show them.
        folder: Where the PNGs are, named by their frame's number in four digits.
        edit: The edit's name, or ORIGINAL.
        path_name: The camera path's.
        numbers: The frames that there are, in ascending order.

    Returns:
        The image.

    Raises:
        In2nError: "missing_file" when the first frame is not there.
    """
    first = Path(folder) / f"{numbers[0]:04d}.png"
    if not first.is_file():
        raise In2nError("missing_file", f"{first} does not exist.", "Render the frames again.")
    key = f"{edit}/{path_name}"
    image = next((i for i in bpy.data.images if i.get("in2n_frames") == key and i.library is None), None)
    if image is None:
        image = bpy.data.images.load(str(first))
        image.name, image["in2n_frames"] = f"{edit} frames", key
    image.filepath = str(first)
    image.source = "SEQUENCE"
    image.reload()
    with suppress(In2nError):  # an OCIO configuration may name its sRGB otherwise
        colour.tell_srgb(image)
    for camera in _cameras_used(scene, numbers):
        _show_sequence(camera.data, image, numbers)
    return image


def _cameras_used(scene, numbers: list[int]) -> list:
    """The cameras that the scene's markers switch to within the frames, and its own camera."""
    bound = sorted((m for m in scene.timeline_markers if m.camera), key=lambda m: m.frame)
    used = [
        m.camera
        for i, m in enumerate(bound)
        if m.frame <= numbers[-1] and (i + 1 == len(bound) or bound[i + 1].frame > numbers[0])
    ]
    cameras = used or [scene.camera]
    return list({c.data.name_full: c for c in cameras if c is not None and c.type == "CAMERA"}.values())


def _show_sequence(camera_data, image, numbers: list[int]) -> None:
    """Show the image in front of the camera and hide the frames of other edits."""
    shown = (
        next((b for b in frame_backgrounds(camera_data) if b.image == image), None)
        or camera_data.background_images.new()
    )
    shown.image = image
    shown.alpha = 1.0
    shown.display_depth = "FRONT"
    shown.frame_method = "STRETCH"
    user = shown.image_user
    # Blender shows file number frame_current - frame_start + 1 + frame_offset; the files are numbered by frame.
    user.frame_start, user.frame_offset = numbers[0], numbers[0] - 1
    user.frame_duration = numbers[-1] - numbers[0] + 1
    user.use_auto_refresh = True
    _hold_between(user, numbers)
    for background in frame_backgrounds(camera_data):
        background.show_background_image = background.image == image
    camera_data.show_background_images = True


def _hold_between(user, numbers: list[int]) -> None:
    """Let the last frame that there is be shown where numbers are left out: an image sequence has no such setting, so
    its offset is driven by the scene's frame."""
    user.driver_remove("frame_offset")
    every = range(numbers[0], numbers[-1] + 1)
    if len(every) == len(numbers):
        return
    there, shown, keys = set(numbers), numbers[0], []
    for number in every:
        shown = number if number in there else shown
        keys += (number, numbers[0] - 1 + shown - number)
    curve = user.driver_add("frame_offset")
    curve.driver.type, curve.driver.expression = "SCRIPTED", "frame"  # so simple that it runs without scripts allowed
    while curve.keyframe_points:
        curve.keyframe_points.remove(curve.keyframe_points[0])
    curve.keyframe_points.add(len(every))
    curve.keyframe_points.foreach_set("co", keys)
    for key in curve.keyframe_points:
        key.interpolation = "CONSTANT"
    curve.extrapolation = "CONSTANT"
    curve.update()


def frame_backgrounds(camera_data) -> list:
    """The backgrounds of a camera that are rendered frames.

    Args:
        camera_data: A `bpy.types.Camera`.
    """
    return [b for b in camera_data.background_images if b.image is not None and b.image.get("in2n_frames")]


def rendered_paths(workspace: Workspace, edit: str | None) -> dict[str, list[int]]:
    """The camera paths that an edit was rendered along, the last rendered last.

    Args:
        workspace: Whose frames they are.
        edit: The edit's name, or None for the reconstruction.

    Returns:
        The path's name -> the numbers of its frames.
    """
    folders = [f for f in (workspace.root / "renders" / (edit or ORIGINAL)).glob("*") if f.is_dir()]
    found = {f.name: _frame_numbers(f, f.stat().st_mtime_ns) for f in sorted(folders, key=lambda f: f.stat().st_mtime)}
    return {name: numbers for name, numbers in found.items() if numbers}


def are_frames_outdated(workspace: Workspace, edit: str | None, path_name: str) -> bool:
    """Whether frames were rendered from another state of the scene than its checkpoint's; False where nobody knows.

    Args:
        workspace: Whose frames they are.
        edit: The edit's name, or None for the reconstruction.
        path_name: The camera path's name.
    """
    record = pictures.read(workspace.renders(edit, path_name) / "render.json")
    return _is_of_another_scene(workspace, edit, record.get("scene"))


def is_mesh_outdated(workspace: Workspace, edit: str | None) -> bool:
    """Whether the mesh was made from another state of the scene than its checkpoint's; False where nobody knows.

    Args:
        workspace: Whose mesh it is.
        edit: The edit's name, or None for the reconstruction.
    """
    made = Provenance.from_json(pictures.read(workspace.mesh(edit, ".json")).get("provenance"))
    return made is not None and _is_of_another_scene(workspace, edit, made.inputs.get(SCENE))


def _is_of_another_scene(workspace: Workspace, edit: str | None, weights: object) -> bool:
    now = pictures.read(result_folder(workspace, edit) / "state.json").get("weights")
    return bool(weights and now and weights != now)


@functools.lru_cache(maxsize=64)
def _frame_numbers(folder: Path, _changed: int) -> list[int]:
    """Looked up again only when files have come or gone: panels ask at every redraw."""
    return sorted(int(p.stem) for p in folder.glob("[0-9]*.png") if p.stem.isdigit())
