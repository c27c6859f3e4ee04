"""Everything that differs between Blender 4.2 and 5.2, in one place."""

from __future__ import annotations

import bpy


def material_nodes(material):
    """The material's node tree. From 5.0 on a material always has one, and `use_nodes` is deprecated."""
    if bpy.app.version < (5, 0, 0):
        material.use_nodes = True
    return material.node_tree


def fcurves(animated) -> list:
    """The F-curves of an object's or datablock's own action. From 4.4 on they are in layers; `action.fcurves` went in 5.0."""
    action = animated.animation_data.action
    if bpy.app.version < (4, 4, 0):
        return list(action.fcurves)
    return [curve for layer in action.layers for strip in layer.strips for bag in strip.channelbags for curve in bag.fcurves]


def fcurves(animated):
    """The F-curves of an object or datablock that has an action. From 5.0 on they are found through the action's slot."""
    data = animated.animation_data
    if bpy.app.version < (5, 0, 0):
        return data.action.fcurves
    from bpy_extras import anim_utils

    return anim_utils.action_get_channelbag_for_slot(data.action, data.action_slot).fcurves
