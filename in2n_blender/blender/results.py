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
from . import look, mesh_files, pictures
from .cameras import offset_of, set_offset
from .scene_state import children

READ = "in2n_read"  # on what was imported, when its file was written


def import_mesh(context, scene, capture, file: Path, edit: str, quick: bool = False):
    """Bring a mesh with vertex colours or a texture in as a child of the capture's Empty: capture coordinates fit.

    A mesh of the same edit is replaced and keeps its object: name, materials of its own, modifiers, visibility.

    Args:
        context: Blender's, for the importer.
        scene: Where a new object is linked when there is no capture.
        capture: The capture's Empty; None puts the mesh at the world's origin.
        file: The .ply or .glb.
        edit: The edit's name, or ORIGINAL.
        quick: Whether it is the mesh that is made unasked, only to look at: it replaces no other, and never renders.

    Returns:
        The object. The capture's points step back for its first mesh.

    Raises:
        In2nError: "missing_file", "bad_mesh".
    """
    data = mesh_files.read_mesh(context, file)
    offset = noted_offset(file, capture)
    same = (o for o in children(capture, "MESH") if (o.in2n.edit, o.in2n.quick) == (edit, quick)) if capture else ()
    existing = next(iter(same), None)
    if existing is not None:
        _take_place(existing, data)
        place(existing, offset, capture)
        note_read(existing, file)
        return existing
    if capture is not None and not children(capture, "MESH"):
        _hide_points(capture)  # once: afterwards she has looked, and hidden or shown what she likes
    data.name = f"{edit} quick mesh" if quick else f"{edit} mesh"
    mesh = bpy.data.objects.new(data.name, data)
    mesh.in2n.role, mesh.in2n.edit, mesh.in2n.quick = "MESH", edit, quick
    mesh.hide_render = quick
    collection = next(iter(capture.users_collection), scene.collection) if capture else scene.collection
    collection.objects.link(mesh)
    mesh.parent = capture
    note_read(mesh, file)
    place(mesh, offset, capture)
    return mesh


def import_collision_mesh(context, scene, capture, file: Path, edit: str):
    """Bring in the closed mesh of few faces that things of a game collide with: drawn as wires, never rendered.

    Args:
        context: Blender's, for the importer.
        scene: Where a new object is linked when there is no capture.
        capture: The capture's Empty; None puts the mesh at the world's origin.
        file: The .glb.
        edit: The edit's name, or ORIGINAL.

    Returns:
        The object, the one that was there of this edit with other data.

    Raises:
        In2nError: "missing_file", "bad_mesh".
    """
    data = mesh_files.read_mesh(context, file)
    made = next((o for o in children(capture, "COLLISION") if o.in2n.edit == edit), None) if capture else None
    if made is not None:
        _take_place(made, data)
    else:
        data.name = f"{edit} collision"
        made = bpy.data.objects.new(data.name, data)
        made.in2n.role, made.in2n.edit = "COLLISION", edit
        made.display_type, made.hide_render = "WIRE", True
        collection = next(iter(capture.users_collection), scene.collection) if capture else scene.collection
        collection.objects.link(made)
        made.parent = capture
    note_read(made, file)
    place(made, noted_offset(file.parents[1] / file.name, capture), capture)  # as of the mesh beside it
    return made


def _take_place(existing, data) -> None:
    """Let an object show other data, in materials of the artist's own where it has some."""
    chosen, came = list(existing.data.materials), list(data.materials)
    if not chosen or not all(look.is_ours(material) for material in chosen):
        data.materials.clear()
        for material in chosen:
            data.materials.append(material)
    previous, existing.data = existing.data, data
    data.name = previous.name
    if previous.users == 0:
        bpy.data.meshes.remove(previous)
    for material in {*chosen, *came}:
        if look.is_texture(material):
            look.forget_texture(material)


def note_read(made, file: Path) -> None:
    """Note on an object which state of a file it was read from.

    Args:
        made: The object.
        file: The mesh's or the splats'.
    """
    made[READ] = _time_of(file)


def is_as_on_disk(mesh, file: Path) -> bool:
    """Whether an imported mesh was read from a file as that now is.

    Args:
        mesh: The object.
        file: There or not.
    """
    return mesh.get(READ) == _time_of(file)


def _time_of(file: Path) -> str:
    """When a file was written, as text: Blender's integers are too short for it. "" where it is not there."""
    try:
        return str(Path(file).stat().st_mtime_ns)
    except OSError:
        return ""


def _hide_points(capture) -> None:
    """The capture's points would be spots on the mesh, on an edit's in the colours of before."""
    for points in children(capture, "POINTS"):
        for scene in points.users_scene:
            for layer in scene.view_layers:
                if layer.objects.get(points.name) == points:
                    points.hide_set(True, view_layer=layer)


def place(made, offset: np.ndarray, capture) -> None:
    """Let what lies relative to an offset lie under the capture's Empty where it belongs.

    Args:
        made: An object; a mesh or splats.
        offset: (3,) in the capture's own coordinates.
        capture: The capture's Empty; None: the object stays where it is.
    """
    set_offset(made, offset)
    if capture is not None and made.parent == capture:
        made.matrix_parent_inverse = Matrix.Translation(offset - offset_of(capture))


def noted_offset(file: Path, capture) -> np.ndarray:
    """What the engine noted beside a file that its places are relative to.

    Args:
        file: Of a mesh or splats.
        capture: The capture's Empty, or None.

    Returns:
        (3,) float64; the capture's where the engine noted none.
    """
    with suppress(In2nError, AttributeError, TypeError, ValueError):
        noted = np.array(read_json(Path(file).with_suffix(".json")).get("offset"), np.float64)
        if noted.shape == (3,) and np.isfinite(noted).all():
            return noted
    return offset_of(capture) if capture else np.zeros(3)


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
    return is_of_another_scene(workspace, edit, record.get("scene"))


def is_mesh_outdated(workspace: Workspace, edit: str | None) -> bool:
    """Whether the mesh was made from another state of the scene than its checkpoint's; False where nobody knows.

    Args:
        workspace: Whose mesh it is.
        edit: The edit's name, or None for the reconstruction.
    """
    made = Provenance.from_json(pictures.read(workspace.mesh(edit, ".json")).get("provenance"))
    return made is not None and is_of_another_scene(workspace, edit, made.inputs.get(SCENE))


def is_of_another_scene(workspace: Workspace, edit: str | None, weights: object) -> bool:
    """Whether something was made from another state of the scene than its checkpoint's; False where nobody knows.

    Args:
        workspace: Whose scene it is.
        edit: The edit's name, or None for the reconstruction.
        weights: The content hash of the scene that it was made from.
    """
    now = pictures.read(result_folder(workspace, edit) / "state.json").get("weights")
    return bool(weights and now and weights != now)


@functools.lru_cache(maxsize=64)
def _frame_numbers(folder: Path, _changed: int) -> list[int]:
    """Looked up again only when files have come or gone: panels ask at every redraw."""
    return sorted(int(p.stem) for p in folder.glob("[0-9]*.png") if p.stem.isdigit())
