"""bpy.ops.in2n.add_region and add_kept_box: where an edit acts, and what of the scene leaves it, as objects."""

from __future__ import annotations

import bpy
from bpy.props import EnumProperty

from .. import regions
from ..scene_state import active_capture
from .polls import poll_capture

SHAPE_ITEMS = (
    (regions.BOX, "Box", "A box, to be moved, turned and scaled"),
    (regions.ELLIPSOID, "Ellipsoid", "A ball, to be moved, turned and scaled"),
)


class _AddsObject:
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        if not poll_capture(cls, context):
            return False
        if context.mode != "OBJECT":
            cls.poll_message_set("Leave Edit Mode first")
            return False
        return True


class IN2N_OT_add_region(_AddsObject, bpy.types.Operator):
    """Add a box within which edits act. Move and scale it in the viewport; any closed mesh can be chosen instead"""

    bl_idname = "in2n.add_region"
    bl_label = "Add Region"

    shape: EnumProperty(name="Shape", description="What the region begins as", items=SHAPE_ITEMS, default=regions.BOX)

    def execute(self, context):
        _select(context, regions.add_region(context.scene, active_capture(context.scene), self.shape))
        return {"FINISHED"}


class IN2N_OT_add_kept_box(_AddsObject, bpy.types.Operator):
    """Add a box that holds the whole capture. What lies outside of it is left out of the mesh and the splats; move and
    scale it in the viewport"""

    bl_idname = "in2n.add_kept_box"
    bl_label = "Add Box"

    def execute(self, context):
        _select(context, regions.add_kept_box(context.scene, active_capture(context.scene)))
        return {"FINISHED"}


def _select(context, made) -> None:
    """Let an object be the only one that is selected, to be moved at once."""
    for other in context.selected_objects:
        other.select_set(False)
    if made.name in context.view_layer.objects:
        made.select_set(True)
        context.view_layer.objects.active = made


CLASSES = (IN2N_OT_add_region, IN2N_OT_add_kept_box)
