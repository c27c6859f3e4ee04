"""Everything that differs between Blender 4.2 and 5.2, in one place."""

from __future__ import annotations

import bpy

COMPOSITOR_OUTPUT = "CompositorNodeComposite" if bpy.app.version < (5, 0, 0) else "NodeGroupOutput"


def material_nodes(material):
    """The material's node tree. From 5.0 on a material always has one, and `use_nodes` is deprecated."""
    if bpy.app.version < (5, 0, 0):
        material.use_nodes = True
    return material.node_tree


def fcurves(animated) -> list:
    """The F-curves of an object's or datablock's own action.

    From 4.4 on they are in layers; `action.fcurves` went in 5.0.

    Args:
        animated: Anything with `animation_data` and an action.
    """
    action = animated.animation_data.action
    if bpy.app.version < (4, 4, 0):
        return list(action.fcurves)
    return [
        curve for layer in action.layers for strip in layer.strips for bag in strip.channelbags for curve in bag.fcurves
    ]


def multilayer_exr(image_settings) -> None:
    """Let renders be written as multilayer EXR. From 5.0 on the kind of medium comes before the format.

    Args:
        image_settings: `bpy.types.ImageFormatSettings`.
    """
    if hasattr(image_settings, "media_type"):
        image_settings.media_type = "MULTI_LAYER_IMAGE"
    image_settings.file_format = "OPEN_EXR_MULTILAYER"


def strips(scene):
    """The strips of a scene's sequencer, to which new ones can be added; none where it has no sequencer.

    They were called sequences before 4.5.

    Args:
        scene: Whose.
    """
    editor = scene.sequence_editor
    if editor is None:
        return ()
    return editor.strips if hasattr(editor, "strips") else editor.sequences


def show_in_sequencers(scene) -> None:
    """Let sequencers that show no scene yet show this one. From 5.0 on they do not go by the window's scene.

    Args:
        scene: The one with strips.
    """
    for workspace in bpy.data.workspaces:
        if hasattr(workspace, "sequencer_scene") and workspace.sequencer_scene is None:
            workspace.sequencer_scene = scene


def compositor_tree(scene):
    """The nodes that a scene is composited by, or None. From 5.0 on they are a node group that scenes can share.

    Args:
        scene: Whose.
    """
    if bpy.app.version < (5, 0, 0):
        return scene.node_tree if scene.use_nodes else None
    return scene.compositing_node_group


def new_compositor_tree(scene):
    """Let a scene that has none be composited by nodes: the render goes into the output.

    Args:
        scene: Whose.

    Returns:
        The node tree.
    """
    if bpy.app.version < (5, 0, 0):
        scene.use_nodes = True  # Blender makes the two nodes
        return scene.node_tree
    tree = bpy.data.node_groups.new(f"{scene.name} compositor", "CompositorNodeTree")
    tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
    layers, output = tree.nodes.new("CompositorNodeRLayers"), tree.nodes.new("NodeGroupOutput")
    layers.scene, layers.location, output.location = scene, (-300, 0), (300, 0)
    tree.links.new(layers.outputs["Image"], output.inputs["Image"])
    scene.compositing_node_group = tree
    return tree


def is_default_compositor(tree) -> bool:
    """Whether nothing but the render goes into the output: nobody has worked on these nodes.

    Args:
        tree: A compositor's.
    """
    kinds = {"CompositorNodeRLayers", "CompositorNodeViewer", "NodeReroute", COMPOSITOR_OUTPUT}
    outputs = [node for node in tree.nodes if node.bl_idname == COMPOSITOR_OUTPUT]
    linked = len(outputs) == 1 and outputs[0].inputs[0].is_linked
    return linked and all(node.bl_idname in kinds for node in tree.nodes)


def composite_over(tree, plate) -> None:
    """Put the picture of a node behind all that goes into a compositor's output.

    Args:
        tree: The compositor's, whose output has an input that is linked.
        plate: The node; its first output is the picture.
    """
    output = next(node for node in tree.nodes if node.bl_idname == COMPOSITOR_OUTPUT)
    render = output.inputs[0].links[0].from_socket
    over = tree.nodes.new("CompositorNodeAlphaOver")
    over.location = (output.location.x - 100, output.location.y - 200)
    # Before 5.0 the factor is the first input, and both pictures have the same name.
    back, front = (over.inputs[1], over.inputs[2]) if bpy.app.version < (5, 0, 0) else (over.inputs[0], over.inputs[1])
    tree.links.new(plate.outputs[0], back)
    tree.links.new(render, front)
    tree.links.new(over.outputs[0], output.inputs[0])


def remove_compositor(scene, tree) -> None:
    """Undo `new_compositor_tree`, unless somebody has worked on the nodes since.

    Args:
        scene: A `bpy.types.Scene`.
        tree: Its compositing nodes.
    """
    if not is_default_compositor(tree):
        return
    if hasattr(scene, "compositing_node_group"):
        scene.compositing_node_group = None
        if not tree.users:
            bpy.data.node_groups.remove(tree)
    else:
        scene.use_nodes = False


def compositor_outputs(tree) -> list:
    """The nodes whose first input is what a render shows: Composite nodes, from 5.0 on the group's output.

    Args:
        tree: A scene's compositing nodes.
    """
    return [node for node in tree.nodes if node.bl_idname == COMPOSITOR_OUTPUT]


def compositor_math() -> str:
    """The type of the compositor's Math node. From 5.0 on it is the one of shaders."""
    return "CompositorNodeMath" if bpy.app.version < (5, 0, 0) else "ShaderNodeMath"


def has_denoiser() -> bool:
    """Whether Blender was built with OpenImageDenoise; some Linux distributions leave it out."""
    try:
        import _cycles
    except ImportError:
        return False
    return bool(getattr(_cycles, "with_openimagedenoise", False))


def set_denoise_hdr(node, is_hdr: bool) -> None:
    """Tell the compositor's Denoise node whether values beyond 1 are to be expected. From 5.0 on it is an input.

    Args:
        node: the Denoise node.
        is_hdr: whether they are.
    """
    if "HDR" in node.inputs:
        node.inputs["HDR"].default_value = is_hdr
    else:
        node.use_hdr = is_hdr


def splats_by_blender(file: str):
    """Let Blender's own importer make splats of a file, in the context's scene.

    Args:
        file: A .ply of Gaussian splats.

    Returns:
        The point cloud's data; None before 5.3, which takes such a file for plain points.
    """
    if bpy.app.version < (5, 3, 0):
        return None
    before = set(bpy.data.objects)
    bpy.ops.wm.ply_import(filepath=file, forward_axis="Y", up_axis="Z")
    made = [found for found in bpy.data.objects if found not in before]
    data = next((found.data for found in made if found.type == "POINTCLOUD"), None)
    for found in made:
        bpy.data.objects.remove(found)
    return data
