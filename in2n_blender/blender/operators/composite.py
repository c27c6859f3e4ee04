"""bpy.ops.in2n.composite and in2n.remove_composite: the captured field and the scene's CG in one render."""

from __future__ import annotations

import bpy

from ...scene.errors import In2nError
from .. import compositing
from .polls import poll_capture


class IN2N_OT_composite(bpy.types.Operator):
    bl_description = (
        "Render the captured field together with the scene's objects, each hiding the other rightly: sets up a scene "
        "of the field and nodes before the compositor's output. Your own nodes stay as they are"
    )

    bl_idname = "in2n.composite"
    bl_label = "Composite with Scene"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        return poll_capture(cls, context)

    def execute(self, context):
        try:
            self.report({"INFO"}, compositing.set_up(context.scene))
        except In2nError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class IN2N_OT_remove_composite(bpy.types.Operator):
    """Take apart what Composite with Scene has set up; your own nodes are connected as before"""

    bl_idname = "in2n.remove_composite"
    bl_label = "Remove Composite"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        if compositing.field_of(context.scene) is None:
            cls.poll_message_set("The scene is not composited with a capture")
            return False
        return True

    def execute(self, context):
        compositing.take_apart(context.scene)
        return {"FINISHED"}


CLASSES = (IN2N_OT_composite, IN2N_OT_remove_composite)
