"""Composite with Scene: the captured field and the scene's CG in one render, each hiding the other by its depth.

A second scene, rendered by IN2N, has the capture and the camera. The scene's compositor reads both; one group of nodes
before its output does the rest, and what the artist made there stays as it is:

    field, its depth ─┐
    shadow layer ─────┤ field < shadow < CG where it is nearer ── the artist's output
    the artist's CG ──┤
    CG's depth ───────┘

The shadow layer, under Cycles and with an extracted mesh, is a view layer in which that mesh catches what the CG casts
and the CG itself is not seen. A mesh of a capture is rough and mostly in its own shade, where few samples make grain of
what the CG casts, so this layer has some more of them and is denoised. Everything made here carries a marker, so that
it is taken apart without a trace.
"""

from __future__ import annotations

import bpy
from bpy.app.handlers import persistent

from ..scene.errors import In2nError
from . import compat, render_settings
from .render_engine import ENGINE
from .scene_state import active_capture, children

MARK = "in2n_composite"  # a custom property of all that is made here
HIDDEN = "in2n_hidden_by_composite"  # of the capture's meshes that are not rendered meanwhile
GROUP = "IN2N Composite"
SHADOW = "IN2N Shadow"
LOOSE = "IN2N CG"  # a collection of the objects that lie in none, for only in a collection are they hidden from a layer
# Rays a pixel of the shadow layer, at least: with a denoiser, and where Blender was built without one.
LEAST_SAMPLES, LEAST_UNDENOISED = 64, 128
CATCHER_GREY = (0.5, 0.5, 0.5, 1.0)


def field_of(scene):
    """The scene of the captured field that was set up for a scene; None where none was.

    Args:
        scene: The one with the CG.
    """
    return next((s for s in bpy.data.scenes if s.get(MARK) and s.in2n.render.settings_of == scene), None)


def set_up(scene) -> str:
    """Let the scene's renders show the captured field and the scene's CG together.

    Args:
        scene: With a capture and a camera. Its film becomes transparent and its compositor is used, until `take_apart`.

    Returns:
        What was done, in a sentence.

    Raises:
        In2nError: "no_capture", "no_camera", "own_engine" where the scene itself is rendered by IN2N, "no_output"
            where the scene's compositor has no output.
    """
    render_settings.chosen(scene)
    if scene.camera is None:
        raise In2nError("no_camera", "The scene has no camera.", "Choose one in Scene Properties.")
    if scene.render.engine == ENGINE:
        raise In2nError(
            "own_engine",
            "The scene itself is rendered by IN2N, which knows no CG.",
            "Choose Cycles or EEVEE for the scene: the captured field is rendered beside it.",
        )
    take_apart(scene)
    made_tree = compat.compositor_tree(scene) is None
    tree = compat.new_compositor_tree(scene) if made_tree else compat.compositor_tree(scene)
    sockets = [node.inputs[0] for node in compat.compositor_outputs(tree)]
    if not sockets:
        raise In2nError("no_output", "The scene's compositor has no output.", "Add one, or stop using nodes.")
    field = _add_field(scene)
    field["in2n_remembered"] = {
        "film_transparent": scene.render.film_transparent,
        "made_tree": made_tree,
        "use_pass_z": [layer.use_pass_z for layer in scene.view_layers],
    }
    scene.render.film_transparent = True
    for layer in scene.view_layers:
        layer.use_pass_z = True
    mesh = _mesh_of(scene)
    has_shadow = scene.render.engine == "CYCLES" and mesh is not None
    if has_shadow:
        _add_shadow_layer(scene, mesh)
    follow(scene)
    _insert_nodes(scene, tree, sockets, field, has_shadow)
    if has_shadow:
        return "The captured field and the scene are rendered together, shadows included."
    lacks = "shadows need an extracted mesh" if scene.render.engine == "CYCLES" else "shadows need Cycles"
    return f"The captured field and the scene are rendered together; {lacks}."


def take_apart(scene) -> bool:
    """Undo `set_up`: only what it made goes, and the artist's compositor is connected as before.

    Args:
        scene: The one with the CG.

    Returns:
        Whether there was something to undo.
    """
    field = field_of(scene)
    if field is None:
        return False
    remembered = field["in2n_remembered"].to_dict()
    tree = compat.compositor_tree(scene)
    if tree is not None:
        _remove_nodes(tree)
    for obj in [o for o in scene.objects if o.get(MARK)]:
        bpy.data.objects.remove(obj)
    for collection in [c for c in scene.collection.children if c.get(MARK)]:
        for obj in [o for o in collection.objects if len(o.users_collection) == 1]:
            scene.collection.objects.link(obj)
        bpy.data.collections.remove(collection)
    for mesh in children(active_capture(scene), "MESH") if active_capture(scene) else ():
        if mesh.get(HIDDEN):
            del mesh[HIDDEN]
            mesh.hide_render = False
    if SHADOW in scene.view_layers and len(scene.view_layers) > 1:
        scene.view_layers.remove(scene.view_layers[SHADOW])
    for layer, asked in zip(scene.view_layers, remembered["use_pass_z"]):
        layer.use_pass_z = bool(asked)
    scene.render.film_transparent = bool(remembered["film_transparent"])
    bpy.data.scenes.remove(field)
    if remembered["made_tree"] and tree is not None:
        compat.remove_compositor(scene, tree)
    return True


def follow(scene) -> None:
    """Bring what was set up up to date with the scene: its cameras, its new collections, the capture's meshes.

    Args:
        scene: The one with the CG; nothing happens where nothing was set up.
    """
    field = field_of(scene)
    capture = active_capture(scene)
    if field is None or capture is None:
        return
    cameras = {scene.camera, *(marker.camera for marker in scene.timeline_markers)}
    missing = [o for o in (capture, *filter(None, cameras)) if field.collection.objects.get(o.name) != o]
    for obj in missing:
        field.collection.objects.link(obj)
    if field.camera != scene.camera:
        field.camera = scene.camera
        missing.append(scene.camera)
    if missing:  # a render that begins now must not find the field's view layer as it was: 5.2 dies of it
        field.view_layers[0].update()
    for mesh in children(capture, "MESH"):  # the field is there itself
        if not mesh.hide_render:
            mesh.hide_render, mesh[HIDDEN] = True, True
    if SHADOW in scene.view_layers:
        layer = scene.view_layers[SHADOW]
        _hide_cg(scene, layer)
        least = LEAST_SAMPLES if compat.has_denoiser() else LEAST_UNDENOISED
        samples = 0 if scene.cycles.samples >= least else least  # 0: as many as the scene has
        if layer.samples != samples:
            layer.samples = samples


# --- scenes and objects


def _add_field(scene):
    field = bpy.data.scenes.new(f"{scene.name} Field")
    field[MARK] = True
    field.in2n.render.settings_of = scene
    field.render.engine = ENGINE
    field.render.film_transparent = False  # what lies behind the captured scene belongs to it; Subject Only is a matte
    field.view_layers[0].use_pass_z = True
    return field


def _mesh_of(scene):
    """The extracted mesh of what is rendered, else any that there is."""
    chosen = render_settings.chosen(scene)
    meshes = children(chosen.capture, "MESH")
    return next((mesh for mesh in meshes if mesh.in2n.edit == chosen.name), meshes[0] if meshes else None)


def _add_shadow_layer(scene, mesh) -> None:
    """A view layer that shows the CG's shadows alone, on a copy of the mesh that shares its data."""
    collection, loose = (bpy.data.collections.new(name) for name in (SHADOW, LOOSE))
    catcher = bpy.data.objects.new(SHADOW, mesh.data)
    catcher.parent, catcher.matrix_parent_inverse = mesh.parent, mesh.matrix_parent_inverse
    catcher.matrix_basis = mesh.matrix_basis
    collection.objects.link(catcher)
    catcher.is_shadow_catcher, catcher.hide_select = True, True
    catcher.display_type = "BOUNDS"
    if catcher.material_slots:  # the mesh's own shines, and nothing casts a shadow on what shines
        catcher.material_slots[0].link = "OBJECT"
        catcher.material_slots[0].material = _catcher_material()
    collection[MARK], loose[MARK], catcher[MARK] = SHADOW, LOOSE, True
    for made in (collection, loose):
        scene.collection.children.link(made)
        for layer in scene.view_layers:
            layer.layer_collection.children[made.name].exclude = True
    scene.view_layers.new(SHADOW).use_pass_z = False


def _hide_cg(scene, layer) -> None:
    """In the layer of the shadows the CG casts them and is not seen itself."""
    for part in layer.layer_collection.children:
        if part.collection.get(MARK) in (None, LOOSE) and not part.indirect_only:
            part.indirect_only = True
    loose = next((c for c in scene.collection.children if c.get(MARK) == LOOSE), None)
    new = [o for o in scene.collection.objects if loose is not None and loose.objects.get(o.name) != o]
    for obj in new:
        loose.objects.link(obj)
    if new:
        layer.update()


def _catcher_material():
    material = next((m for m in bpy.data.materials if m.get(MARK) and m.library is None), None)
    if material is None:
        material = bpy.data.materials.new(SHADOW)
        material[MARK] = True
        tree = compat.material_nodes(material)
        tree.nodes.clear()
        diffuse, output = tree.nodes.new("ShaderNodeBsdfDiffuse"), tree.nodes.new("ShaderNodeOutputMaterial")
        diffuse.inputs["Color"].default_value = CATCHER_GREY
        tree.links.new(diffuse.outputs[0], output.inputs["Surface"])
    return material


# --- nodes


def _insert_nodes(scene, tree, sockets: list, field, has_shadow: bool) -> None:
    """Put the group before the output's input, with the layers that it needs."""
    drawn = next((s.links[0].from_socket for s in sockets if s.links), None)
    anchor = sockets[0].node.location
    layer = next(layer for layer in scene.view_layers if layer.name != SHADOW)
    cg = _layer_node(tree, scene, layer.name, "CG", (anchor[0] - 700, anchor[1] - 250))
    captured = _layer_node(tree, field, field.view_layers[0].name, "Captured Field", (anchor[0] - 700, anchor[1] - 600))
    group = tree.nodes.new("CompositorNodeGroup")
    group.node_tree, group.label, group[MARK] = _group(has_shadow), GROUP, True
    group.location = (anchor[0] - 250, anchor[1] - 250)
    wire = lambda name, socket: tree.links.new(socket, group.inputs[name])
    wire("CG", drawn or cg.outputs["Image"])
    wire("CG Depth", cg.outputs["Depth"])
    wire("Field", captured.outputs["Image"])
    wire("Field Depth", captured.outputs["Depth"])
    if has_shadow:
        shadow = _layer_node(tree, scene, SHADOW, SHADOW, (anchor[0] - 700, anchor[1] - 950))
        wire("Shadow", shadow.outputs["Image"])
    for socket in sockets:
        tree.links.new(group.outputs[0], socket)


def _layer_node(tree, scene, layer: str, label: str, place: tuple[float, float]):
    node = tree.nodes.new("CompositorNodeRLayers")
    node.scene, node.layer, node.label, node.location = scene, layer, label, place
    node[MARK] = True
    return node


def _remove_nodes(tree) -> None:
    for group in [node for node in tree.nodes if node.get(MARK) and node.bl_idname == "CompositorNodeGroup"]:
        before = group.inputs["CG"].links[0].from_socket if group.inputs["CG"].links else None
        after = [link.to_socket for link in group.outputs[0].links]
        if before is not None and not before.node.get(MARK):
            for socket in after:
                tree.links.new(before, socket)
    for node in [node for node in tree.nodes if node.get(MARK)]:
        tree.nodes.remove(node)
    for group in [group for group in bpy.data.node_groups if group.get(MARK) and not group.users]:
        bpy.data.node_groups.remove(group)


def _group(has_shadow: bool):
    """The group of nodes: field, then shadow over it, then the CG over both where it is nearer."""
    group = bpy.data.node_groups.new(GROUP, "CompositorNodeTree")
    group[MARK] = True
    for name, kind in (("CG", "Color"), ("CG Depth", "Float"), ("Field", "Color"), ("Field Depth", "Float"),
                       ("Shadow", "Color")):  # fmt: skip
        socket = group.interface.new_socket(name, in_out="INPUT", socket_type=f"NodeSocket{kind}")
        if kind == "Color":
            socket.default_value = (0, 0, 0, 0)
    group.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
    names = "NodeGroupInput", compat.compositor_math(), "CompositorNodeAntiAliasing", "CompositorNodeAlphaOver", \
        "CompositorNodeAlphaOver", "NodeGroupOutput"  # fmt: skip
    given, nearer, smooth, shadowed, over, out = (group.nodes.new(name) for name in names)
    for index, node in enumerate((given, nearer, smooth, shadowed, over, out)):
        node.location = (220 * index, 0)
    nearer.operation = "LESS_THAN"
    wire = group.links.new
    wire(given.outputs["CG Depth"], nearer.inputs[0])
    wire(given.outputs["Field Depth"], nearer.inputs[1])
    wire(nearer.outputs[0], smooth.inputs[0])
    shadow = _denoised(group, given.outputs["Shadow"]) if has_shadow else given.outputs["Shadow"]
    _over(group, shadowed, given.outputs["Field"], shadow)
    _over(group, over, shadowed.outputs[0], given.outputs["CG"], smooth.outputs[0])
    wire(over.outputs[0], out.inputs[0])
    return group


def _denoised(group, layer):
    """Black, as opaque as the layer is, without the grain of few samples."""
    names = "CompositorNodeSeparateColor", "CompositorNodeDenoise", "CompositorNodeSetAlpha"
    parts, denoise, black = (group.nodes.new(name) for name in names)
    for index, node in enumerate((parts, denoise, black)):
        node.location = (220 * index + 220, -300)
    compat.set_denoise_hdr(denoise, False)
    black.inputs["Image"].default_value = (0, 0, 0, 1)
    group.links.new(layer, parts.inputs[0])
    group.links.new(parts.outputs["Alpha"], denoise.inputs["Image"])
    group.links.new(denoise.outputs[0], black.inputs["Alpha"])
    return black.outputs[0]


def _over(group, node, below, above, factor=None) -> None:
    """Connect an Alpha Over, whose sockets have had several names."""
    pictures = [socket for socket in node.inputs if socket.type == "RGBA"]
    amount = next(socket for socket in node.inputs if socket.type == "VALUE")
    amount.default_value = 1.0
    group.links.new(below, pictures[0])
    group.links.new(above, pictures[1])
    if factor is not None:
        group.links.new(factor, amount)


@persistent
def _changed(scene, *_) -> None:
    """Here, and not when a render begins: then Blender does not expect a scene to get another object, and 5.2 dies."""
    follow(scene)


def attach() -> None:
    """Keep what is set up in step with its scene."""
    bpy.app.handlers.depsgraph_update_post.append(_changed)


def detach() -> None:
    """Do so no more; what is set up stays."""
    if _changed in bpy.app.handlers.depsgraph_update_post:
        bpy.app.handlers.depsgraph_update_post.remove(_changed)
