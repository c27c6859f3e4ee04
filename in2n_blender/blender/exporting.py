"""Meshes and splats written to files that other programs read, as they lie in the scene, in its units: meshes by
Blender's own exporters, which write no splats.

The Empty's place, turn and scale count, and so does what the artist did to the mesh. Written beside the file first and
then moved, so that a file is whole or not there.
"""

from __future__ import annotations

import filecmp
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import bpy
import numpy as np

from ..scene.errors import In2nError
from ..scene.splats import read_splats, splat_bytes
from ..scene.spz import spz_bytes
from ..scene.unfinished import TEMPORARY, clear_stale, own_prefix
from ..workspace.files import atomic_path, write_error
from . import results
from .cameras import offset_of

FORMATS = (
    ("GLB", "glTF Binary (.glb)", "For game engines, the web, and most programs"),
    ("OBJ", "Wavefront (.obj)", "For programs that read little else"),
    ("PLY", "Stanford (.ply)", "Geometry and colours of vertices, no texture"),
    ("USD", "USD (.usd)", "For Houdini, Unreal, Omniverse and Apple's programs"),
)
SPLAT_FORMATS = (
    ("PLY", "3D Gaussian Splatting (.ply)", "For Blender 5.3, add-ons and viewers; all digits"),
    ("SPZ", "SPZ (.spz)", "A tenth of the size, for the web and telephones"),
)
SUFFIXES = {form: f".{form.lower()}" for form, *_ in FORMATS}


def format_of(path: str | Path, default: str) -> str:
    """The format that a file's name asks for.

    Args:
        path: The file.
        default: What it is where the name says none.
    """
    suffix = Path(path).suffix.lower()
    return {**{suffix: form for form, suffix in SUFFIXES.items()}, ".usdc": "USD", ".usda": "USD"}.get(suffix, default)


def export_mesh(context, mesh, path: Path, form: str) -> None:
    """Write a mesh as it lies in the scene, modifiers and all.

    Args:
        context: Blender's.
        mesh: The object.
        path: The file; what is there is replaced. What comes beside it, such as materials and textures, replaces
            nothing.
        form: Of FORMATS.

    Raises:
        In2nError: "cannot_export" where Blender's exporter fails, "not_ours" where another file has the name of one
            that comes beside it, "disk_full", "cannot_write".
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_stale(path.parent, TEMPORARY)
        with tempfile.TemporaryDirectory(prefix=own_prefix(TEMPORARY), dir=path.parent) as folder:
            file = Path(folder) / path.name
            with _alone(context, mesh, form) as copy, _unpacked(copy, file, wanted=form == "OBJ"):
                _call(_WRITERS[form], str(file))
            _take_over(Path(folder), path)
    except OSError as error:
        raise write_error(path, error) from error


def export_splats(context, capture, file: Path, path: Path) -> None:
    """Write splats as they lie in the scene, their colours from each side turned with them.

    Args:
        context: Blender's.
        capture: The capture's Empty.
        file: The .ply that the engine made, in the capture's coordinates.
        path: The .ply or .spz to write; what is there is replaced.

    Raises:
        In2nError: "not_alike" for a capture that is scaled differently along its axes, "bad_splats", "bad_points",
            "disk_full", "cannot_write".
    """
    matrix = np.array(capture.evaluated_get(context.evaluated_depsgraph_get()).matrix_world, np.float64)
    moved = np.eye(4)
    moved[:3, 3] = results.noted_offset(file, capture) - offset_of(capture)
    write = spz_bytes if path.suffix.lower() == ".spz" else splat_bytes
    content = write(read_splats(file).transformed(matrix @ moved))
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def _alone(context, mesh, form: str) -> Iterator:
    """A scene of its own, in which a copy of the object lies where the object lies, with materials for the format."""
    depsgraph = context.evaluated_depsgraph_get()
    matrix = mesh.evaluated_get(depsgraph).matrix_world.copy()
    scene, copy = bpy.data.scenes.new("IN2N export"), mesh.copy()
    copy.data = mesh.data.copy()
    changed = _with_portable_materials(copy, unlit=form == "GLB")
    try:
        scene.unit_settings.system, scene.unit_settings.scale_length = "METRIC", 1.0
        copy.parent, copy.matrix_world = None, matrix
        copy.hide_render = copy.hide_viewport = False
        scene.collection.objects.link(copy)
        layer = scene.view_layers[0]
        layer.objects.active = copy
        copy.select_set(True, view_layer=layer)
        with context.temp_override(
            scene=scene, view_layer=layer, collection=scene.collection, active_object=copy, selected_objects=[copy]
        ):
            yield copy
    finally:
        data = copy.data
        bpy.data.objects.remove(copy)
        bpy.data.meshes.remove(data)
        for material in changed:
            bpy.data.materials.remove(material)
        bpy.data.scenes.remove(scene)


@contextmanager
def _unpacked(copy, file: Path, wanted: bool) -> Iterator[None]:
    """Let textures that are packed into the .blend lie beside a file, named after it: OBJ's exporter leaves out those
    that have no file."""
    materials = [slot.material for slot in copy.material_slots if wanted and slot.material is not None]
    nodes = [node for material in materials for node in material.node_tree.nodes if node.type == "TEX_IMAGE"]
    changed = [(node, node.image) for node in nodes if node.image is not None and node.image.packed_file is not None]
    loaded = []
    try:
        for number, (node, image) in enumerate(changed):
            suffix = ".jpg" if image.file_format == "JPEG" else f".{image.file_format.lower()}"
            beside = file.with_name(f"{file.stem}{f'-{number}' if number else ''}{suffix}")
            beside.write_bytes(image.packed_file.data)
            loaded.append(bpy.data.images.load(str(beside)))
            node.image = loaded[-1]
        yield
    finally:
        for node, image in changed:
            node.image = image
        bpy.data.batch_remove(loaded)


def _with_portable_materials(copy, unlit: bool) -> list:
    """Give an object, in place of materials that shine in a colour, such that exporters understand.

    glTF's knows a colour that goes straight into the output as unlit; all others know a Principled BSDF.

    Returns:
        The materials that were made.
    """
    made = []
    for slot in copy.material_slots:
        if slot.material is None or _shining_colour(slot.material) is None:
            continue
        made.append(slot.material.copy())
        slot.material = made[-1]
        tree, color = made[-1].node_tree, _shining_colour(made[-1])
        surface = tree.get_output_node("ALL").inputs["Surface"]
        if unlit:
            tree.links.new(color, surface)
            continue
        plain = tree.nodes.new("ShaderNodeBsdfPrincipled")
        plain.inputs["Roughness"].default_value = 1.0
        tree.links.new(color, plain.inputs["Base Color"])
        tree.links.new(plain.outputs["BSDF"], surface)
    return made


def _shining_colour(material):
    """The socket of the colour that an Emission node, which the output shows, shines in; None where there is none."""
    tree = material.node_tree
    output = tree.get_output_node("ALL") if tree is not None else None
    waiting, seen = [output] if output is not None else [], set()
    while waiting:
        node = waiting.pop(0)
        if node in seen:
            continue
        seen.add(node)
        if node.type == "EMISSION" and node.inputs["Color"].is_linked:
            return node.inputs["Color"].links[0].from_socket
        waiting += [link.from_node for socket in node.inputs if socket.type == "SHADER" for link in socket.links]
    return None


def _call(write: Callable[[str], set], path: str) -> None:
    try:
        done = write(path)
    except RuntimeError as error:  # what an operator reports as an error
        raise _cannot_export(str(error).strip().splitlines()[-1]) from None
    if "FINISHED" not in done or not Path(path).is_file():
        raise _cannot_export("it wrote nothing")


def _cannot_export(reason: str) -> In2nError:
    return In2nError("cannot_export", f"Blender's exporter failed ({reason}).", "Choose another format or folder.")


def _take_over(made: Path, path: Path) -> None:
    """Move what was written into its place; the chosen file comes last, so that what it names is there."""
    files = [file for file in sorted(made.rglob("*")) if file.is_file()]
    beside = [file for file in files if file != made / path.name]
    for file in beside:
        target = path.parent / file.relative_to(made)
        own = file.stem == path.stem and file.parent == made  # such as the .mtl of an .obj that is replaced
        if target.exists() and not own and not filecmp.cmp(file, target, shallow=False):
            raise In2nError(
                "not_ours",
                f"{target} would be overwritten by what comes with {path.name}.",
                "Choose another folder, or another name.",
            )
    for file in (*beside, made / path.name):
        target = path.parent / file.relative_to(made)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, target)


def _glb(path: str) -> set:
    return bpy.ops.export_scene.gltf(
        filepath=path,
        export_format="GLB",
        use_active_scene=True,
        export_apply=True,
        export_animations=False,
        export_vertex_color="ACTIVE",  # whatever the material does with them
    )


def _obj(path: str) -> set:
    return bpy.ops.wm.obj_export(
        filepath=path, export_selected_objects=True, export_colors=True, path_mode="COPY", forward_axis="NEGATIVE_Z",
        up_axis="Y",
    )  # fmt: skip


def _ply(path: str) -> set:
    return bpy.ops.wm.ply_export(
        filepath=path, export_selected_objects=True, export_colors="SRGB", export_normals=True, forward_axis="Y",
        up_axis="Z",
    )  # fmt: skip


def _usd(path: str) -> set:
    return bpy.ops.wm.usd_export(filepath=path, selected_objects_only=True, export_animation=False)


_WRITERS = {"GLB": _glb, "OBJ": _obj, "PLY": _ply, "USD": _usd}
