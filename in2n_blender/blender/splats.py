"""Gaussian splats brought into the scene: from Blender 5.3 on as splats, before as small coloured discs.

A disc lies across a splat's thinnest axis, as wide as the splat is, in its colour from all sides; its material fades
towards the rim as the splat does. They are a mesh, since that is what shows its colours in Solid shading, too.
"""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np

from ..scene.errors import In2nError
from ..scene.splats import Splats, read_splats
from . import compat, results
from .look import COLOR_ATTRIBUTE
from .scene_state import children

REACH = 2.0  # standard deviations from a disc's middle to its edge
MOST_SHOWN = 1_000_000  # discs; of more splats so many are chosen
CORNERS = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], np.float32)


def import_splats(context, scene, capture, file: Path, edit: str):
    """Bring a .ply of splats in as a child of the capture's Empty, so that capture coordinates fit.

    Splats of the same edit are replaced and keep their object.

    Args:
        context: Blender's, for the importer.
        scene: Where a new object is linked when there is no capture.
        capture: The capture's Empty; None puts the splats at the world's origin.
        file: The .ply.
        edit: The edit's name, or ORIGINAL.

    Returns:
        The object: of a point cloud from 5.3 on, of a mesh before.

    Raises:
        In2nError: "missing_file", "bad_splats", "bad_points".
    """
    if not Path(file).is_file():
        raise In2nError("missing_file", f"{file} does not exist.", "Make the splats again.")
    name = f"{edit} splats"
    data = _by_blender(context, file) or _discs(read_splats(file), name)
    data.name = name
    existing = next((o for o in children(capture, "SPLATS") if o.in2n.edit == edit), None) if capture else None
    if existing is not None and type(existing.data) is type(data):
        previous, existing.data = existing.data, data
        if previous.users == 0:
            bpy.data.batch_remove([previous])
        data.name = name
        results.place(existing, results.noted_offset(file, capture), capture)
        results.note_read(existing, file)
        return existing
    if existing is not None:  # of another Blender
        bpy.data.objects.remove(existing)
    made = bpy.data.objects.new(name, data)
    made.in2n.role, made.in2n.edit = "SPLATS", edit
    collection = next(iter(capture.users_collection), scene.collection) if capture else scene.collection
    collection.objects.link(made)
    made.parent = capture
    results.place(made, results.noted_offset(file, capture), capture)
    results.note_read(made, file)
    return made


def _by_blender(context, file: Path):
    scene = bpy.data.scenes.new("IN2N import")
    try:
        with context.temp_override(scene=scene, view_layer=scene.view_layers[0], collection=scene.collection):
            return compat.splats_by_blender(str(file))
    finally:
        bpy.data.scenes.remove(scene)


def _discs(splats: Splats, name: str):
    """A mesh of one square for each splat, with its colour, its opacity as the colour's alpha, and a UV map."""
    if len(splats) > MOST_SHOWN:
        splats = splats.chosen(np.sort(np.random.default_rng(0).choice(len(splats), MOST_SHOWN, replace=False)))
    count, scales, axes = len(splats), splats.scales, splats.axes
    order = np.argsort(-scales, axis=1)[:, :2]  # its two widest axes
    rows = np.arange(count)[:, None]
    widest = np.swapaxes(axes, 1, 2)[rows, order] * (REACH * scales[rows, order])[..., None]
    corners = splats.means[:, None] + np.einsum("ck,nkx->ncx", CORNERS, widest)
    mesh = bpy.data.meshes.new(name)
    mesh.vertices.add(4 * count)
    mesh.loops.add(4 * count)
    mesh.polygons.add(count)
    mesh.vertices.foreach_set("co", corners.astype(np.float32).ravel())
    mesh.loops.foreach_set("vertex_index", np.arange(4 * count, dtype=np.int32))
    mesh.polygons.foreach_set("loop_start", np.arange(0, 4 * count, 4, dtype=np.int32))
    colors = np.column_stack([splats.colors_srgb, splats.opacities]).astype(np.float32)
    attribute = mesh.color_attributes.new(COLOR_ATTRIBUTE, "BYTE_COLOR", "POINT")
    attribute.data.foreach_set("color_srgb", np.repeat(colors, 4, axis=0).ravel())
    mesh.color_attributes.active_color = attribute
    mesh.color_attributes.render_color_index = mesh.color_attributes.active_color_index
    places = mesh.uv_layers.new(name="Disc")
    places.data.foreach_set("uv", np.tile((CORNERS + 1) / 2, (count, 1)).ravel())
    mesh.update(calc_edges=True)
    mesh.materials.append(_disc_material())
    return mesh


def _disc_material():
    """The material that shines in a disc's colour and fades with the distance from its middle as a Gaussian."""
    material = next((m for m in bpy.data.materials if m.get("in2n_splats") and m.library is None), None)
    if material is not None:
        return material
    material = bpy.data.materials.new("IN2N Splats")
    material["in2n_splats"] = True
    tree = compat.material_nodes(material)
    tree.nodes.clear()
    new = lambda kind, x, y: _node(tree, kind, x, y)
    place, color = new("ShaderNodeUVMap", -1200, 100), new("ShaderNodeVertexColor", -600, -200)
    place.uv_map, color.layer_name = "Disc", COLOR_ATTRIBUTE
    middle, squared = new("ShaderNodeVectorMath", -1000, 100), new("ShaderNodeVectorMath", -800, 100)
    middle.operation, squared.operation = "SUBTRACT", "DOT_PRODUCT"
    middle.inputs[1].default_value = (0.5, 0.5, 0.0)
    halved, faded, seen = (new("ShaderNodeMath", x, 100) for x in (-600, -400, -200))
    halved.operation, faded.operation, seen.operation = "MULTIPLY", "EXPONENT", "MULTIPLY"
    halved.inputs[1].default_value = -0.5 * (2 * REACH) ** 2
    clear, shining = new("ShaderNodeBsdfTransparent", 0, 0), new("ShaderNodeEmission", 0, -100)
    mixed, output = new("ShaderNodeMixShader", 200, 0), new("ShaderNodeOutputMaterial", 400, 0)
    for source, target in (
        (place.outputs[0], middle.inputs[0]),
        (middle.outputs["Vector"], squared.inputs[0]),
        (middle.outputs["Vector"], squared.inputs[1]),
        (squared.outputs["Value"], halved.inputs[0]),
        (halved.outputs[0], faded.inputs[0]),
        (faded.outputs[0], seen.inputs[0]),
        (color.outputs["Alpha"], seen.inputs[1]),
        (seen.outputs[0], mixed.inputs[0]),
        (clear.outputs[0], mixed.inputs[1]),
        (color.outputs["Color"], shining.inputs["Color"]),
        (shining.outputs[0], mixed.inputs[2]),
        (mixed.outputs[0], output.inputs["Surface"]),
    ):
        tree.links.new(source, target)
    return material


def _node(tree, kind: str, x: float, y: float):
    made = tree.nodes.new(kind)
    made.location = (x, y)
    return made
