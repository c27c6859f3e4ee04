"""bpy.ops.in2n.add_region: where an edit acts, as an object."""

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


class IN2N_OT_add_region(bpy.types.Operator):
    """Add a box within which edits act. Move and scale it in the viewport; any closed mesh can be chosen instead"""

    bl_idname = "in2n.add_region"
    bl_label = "Add Region"
    bl_options = {"REGISTER", "UNDO"}

    shape: EnumProperty(name="Shape", description="What the region begins as", items=SHAPE_ITEMS, default=regions.BOX)

    @classmethod
    def poll(cls, context):
        if not poll_capture(cls, context):
            return False
        if context.mode != "OBJECT":
            cls.poll_message_set("Leave Edit Mode first")
            return False
        return True

    def execute(self, context):
        made = regions.add_region(context.scene, active_capture(context.scene), self.shape)
        for other in context.selected_objects:
            other.select_set(False)
        if made.name in context.view_layer.objects:
            made.select_set(True)
            context.view_layer.objects.active = made
        return {"FINISHED"}


CLASSES = (IN2N_OT_add_region,)
