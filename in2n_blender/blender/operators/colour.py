"""bpy.ops.in2n.use_standard: a view transform that leaves the photos' colours alone."""

from __future__ import annotations

import bpy

from ...scene.errors import In2nError
from .. import colour


class IN2N_OT_use_standard(bpy.types.Operator):
    """Show and render this scene without a film's tone curve, so that captures look as they were photographed"""

    bl_idname = "in2n.use_standard"
    bl_label = "Use Standard for This Scene"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        if not colour.changes_colours(context.scene):
            cls.poll_message_set("The scene shows colors as they are already")
            return False
        return True

    def execute(self, context):
        try:
            colour.show_plainly(context.scene)
        except In2nError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


CLASSES = (IN2N_OT_use_standard,)
