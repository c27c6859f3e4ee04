"""Everything that differs between Blender 4.2 and 5.2, in one place."""

from __future__ import annotations

import bpy


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
