"""bpy.ops.in2n.move_workspace: a capture's workspace beside the .blend that was saved after the capture had been
imported."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import StringProperty

from ...link.client import without_engine
from ...scene.errors import In2nError
from ...workspace.moving import move_workspace
from .. import workspaces
from .job import JobOperator
from .polls import poll_capture, poll_idle


class IN2N_OT_move_workspace(JobOperator, bpy.types.Operator):
    bl_description = (
        "Move the capture's workspace, with its reconstruction and edits, beside the saved .blend file or "
        "to another folder"
    )

    bl_idname = "in2n.move_workspace"
    bl_label = "Move Workspace"
    label = "Move workspace"
    undo_step = True  # Undo would otherwise take back where the folder is, but not the moving

    directory: StringProperty(
        name="Folder",
        description="The new folder, which must not be there yet; left out: beside the .blend file",
        subtype="DIR_PATH",
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context):
        if not (poll_idle(cls) and poll_capture(cls, context)):
            return False
        if not bpy.data.filepath:
            cls.poll_message_set("Save the .blend first")
            return False
        return True

    def prepare(self, context):
        capture, workspace = workspaces.require(context.scene)
        source = workspace.root
        target = (
            Path(bpy.path.abspath(self.directory)).resolve()
            if self.directory
            else workspaces.new_workspace(capture.name, capture.in2n.source)
        )
        if source == target:
            raise In2nError("same_folder", "The workspace is there already.", "Name another folder.")

        @without_engine
        def work(report):
            move_workspace(source, target, report)

        def finish(context, scene, capture, result):
            if capture is not None:
                workspaces.remember(capture, target)
            workspaces.follow(source, target)
            return f"The workspace is now {target}."

        return [work], finish


CLASSES = (IN2N_OT_move_workspace,)
