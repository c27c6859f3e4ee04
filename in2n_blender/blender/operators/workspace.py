"""bpy.ops.in2n.move_workspace, locate_workspace and begin_anew: where a capture's workspace is."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.app.translations import pgettext_iface as iface
from bpy.props import BoolProperty, StringProperty

from ...link.client import without_engine
from ...scene.errors import In2nError
from ...workspace.moving import move_workspace
from .. import compare, underway, workspaces
from ..scene_state import active_capture
from .job import JobOperator
from .polls import poll_capture, poll_idle


class IN2N_OT_move_workspace(JobOperator, bpy.types.Operator):
    bl_description = (
        "Move the capture's workspace, with its reconstruction and edits, beside the saved .blend file or "
        "to another folder, and save the .blend, which otherwise would look for it at the old place"
    )

    bl_idname = "in2n.move_workspace"
    bl_label = "Move Workspace"
    label = "Move Workspace"
    undo_step = True  # Undo would otherwise take back where the folder is, but not the moving

    directory: StringProperty(
        name="Folder",
        description="The new folder, which must not be there yet; left out: beside the .blend file",
        subtype="DIR_PATH",
        options={"SKIP_SAVE"},
    )
    save: BoolProperty(
        name="Save File",
        description="Save the file afterwards, so that it finds the workspace when it is opened again",
        default=True,
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

    def invoke(self, context, event):
        return context.window_manager.invoke_confirm(
            self,
            event,
            title=iface("Move the workspace?"),
            message=iface("The .blend is saved afterwards, so that it finds the workspace again."),
            confirm_text=iface("Move and Save"),
        )

    def prepare(self, context):
        capture, workspace = workspaces.require(context.scene)
        source, save = workspace.root, self.save
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
            saved = save and capture is not None and _save()
            more = "the .blend is saved." if saved else "save the .blend, so that it is found again."
            return f"The workspace is now {target}; {more}"

        return [work], finish


def _save() -> bool:
    """Save the .blend where it is; whether that worked."""
    try:
        return bpy.ops.wm.save_mainfile("EXEC_DEFAULT") == {"FINISHED"}
    except RuntimeError:  # a folder that may not be written to
        return False


class IN2N_OT_locate_workspace(bpy.types.Operator):
    """Show where the capture's workspace is now. It is known by the photos and cameras in it"""

    bl_idname = "in2n.locate_workspace"
    bl_label = "Locate Workspace"
    bl_options = {"REGISTER", "UNDO"}

    directory: StringProperty(
        name="Folder", description="The workspace, or a folder that holds it", subtype="DIR_PATH", options={"SKIP_SAVE"}
    )
    filter_folder: BoolProperty(
        name="Folders", description="Show folders in the file browser", default=True, options={"HIDDEN"}
    )

    @classmethod
    def poll(cls, context):
        return poll_idle(cls) and poll_capture(cls, context)

    def invoke(self, context, event):
        folder = workspaces.resolve(active_capture(context.scene))
        near = next((parent for parent in folder.parents if parent.is_dir()), Path.home())
        self.directory = f"{near}/"
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context):
        scene, capture = context.scene, active_capture(context.scene)
        chosen = Path(bpy.path.abspath(self.directory)).resolve()
        folder, reason = _find_in(capture, chosen)
        if reason:
            self.report({"ERROR"}, reason)
            return {"CANCELLED"}
        before = workspaces.resolve(capture)
        workspaces.remember(capture, folder)
        if before is not None:
            workspaces.follow(before, folder)
        workspaces.sync_edits(scene)
        compare.show_chosen(scene, force=True)
        underway.forget_offers()
        self.report({"INFO"}, f"The workspace is {folder}. Save the .blend to keep it so.")
        return {"FINISHED"}


def _find_in(capture, chosen: Path) -> tuple[Path, str]:
    """The workspace in a chosen folder: the folder itself or one in it; and why there is none, else ""."""
    reason = workspaces.why_not_of(capture, chosen)
    if not reason:
        return chosen, ""
    named = [folder for folder in sorted(chosen.glob("*.in2n")) if not workspaces.why_not_of(capture, folder)]
    return (named[0], "") if named else (chosen, reason)


class IN2N_OT_begin_anew(bpy.types.Operator):
    """Give the missing workspace up and begin with an empty one. Nothing on the disk is removed"""

    bl_idname = "in2n.begin_anew"
    bl_label = "Begin Anew"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        if not (poll_idle(cls) and poll_capture(cls, context)):
            return False
        if not workspaces.is_missing(context.scene):
            cls.poll_message_set("The workspace is there")
            return False
        return True

    def invoke(self, context, event):
        return context.window_manager.invoke_confirm(self, event)

    def execute(self, context):
        scene, capture = context.scene, active_capture(context.scene)
        capture.in2n.workspace_made = False
        workspaces.remember(capture, workspaces.new_workspace(capture.name, capture.in2n.source))
        scene.in2n.edits.clear()
        workspaces.sync_edits(scene)
        return {"FINISHED"}


CLASSES = (IN2N_OT_move_workspace, IN2N_OT_locate_workspace, IN2N_OT_begin_anew)
