"""bpy.ops.in2n.resume and dismiss: the job of a workspace that was not done to its end."""

from __future__ import annotations

from pathlib import Path

import bpy

from ...scene.camera_path import CameraPath
from ...scene.errors import In2nError
from ...workspace import journal
from ...workspace.layout import ORIGINAL, Workspace
from .. import jobs, underway, workspaces
from .polls import poll_capture, poll_engine, poll_idle

# The operator that does what a request asks for; those of other methods are not offered to be gone on with.
RESUMED_BY = {"reconstruct": "reconstruct", "edit": "edit", "render": "render_path", "mesh": "extract_mesh"}


def arguments_again(request, properties, workspace: Workspace) -> dict:
    """The operator's arguments that make the request once more, but without starting over what is saved.

    Args:
        request: The unfinished job's.
        properties: Names of the operator's arguments.
        workspace: Where the job's is now; it may have been moved.

    Returns:
        Argument -> value.

    Raises:
        In2nError: "missing_file", "bad_camera_path" for a camera path that is not there any more, or damaged;
            "bad_name".
    """
    given = {
        name: getattr(request, name)
        for name in properties
        if name != "restart" and getattr(request, name, None) is not None
    }
    if request.method == "edit" and request.region and not Path(request.region).is_file():
        given["region"] = str(workspace.region(Path(request.region).stem))
    if request.method in ("render", "mesh"):
        given["edit"] = request.edit or ORIGINAL
    if request.method == "render":
        path = CameraPath.load(workspace.camera_path(Path(request.camera_path).stem))
        numbers = [frame.number for frame in path.frames]
        step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
        given.update(name=path.name, frame_start=numbers[0], frame_end=numbers[-1], frame_step=step)
    return given


class IN2N_OT_resume(bpy.types.Operator):
    bl_description = (
        "Go on with the job that was cancelled, or that stopped when the engine or Blender ended, from "
        "what it saved last"
    )

    bl_idname = "in2n.resume"
    bl_label = "Resume"

    @classmethod
    def poll(cls, context):
        if not (poll_idle(cls) and poll_capture(cls, context) and poll_engine(cls)):
            return False
        if underway.offered(context.scene) is None:
            cls.poll_message_set("There is no job to go on with")
            return False
        return True

    def execute(self, context):
        settings = context.scene.in2n
        request = underway.offered(context.scene).request
        operator = getattr(bpy.ops.in2n, RESUMED_BY[request.method])
        default_guidance, region = settings.use_default_guidance, settings.region
        try:
            workspace = workspaces.require(context.scene)[1]
            arguments = arguments_again(request, {p.identifier for p in operator.get_rna_type().properties}, workspace)
            if request.method == "edit":
                settings.use_default_guidance = True  # a guidance that is not given is the editor's own
                settings.region = None  # and without a region it acts everywhere
                if (
                    request.name in workspace.edits()
                ):  # its settings are on disk, those that the operator does not have too
                    operator, arguments = bpy.ops.in2n.continue_edit, {"edit": request.name}
            return operator("EXEC_DEFAULT", **arguments)
        except In2nError as error:
            self.report({"ERROR"}, str(error))
        except RuntimeError as error:  # what the operator reported
            self.report({"ERROR"}, str(error).removeprefix("Error: ").strip())
        finally:
            settings.use_default_guidance, settings.region = default_guidance, region
        return {"CANCELLED"}


class IN2N_OT_dismiss(bpy.types.Operator):
    """Do not offer the unfinished job any more. What it saved stays"""

    bl_idname = "in2n.dismiss"
    bl_label = "Dismiss"

    @classmethod
    def poll(cls, context):
        return underway.offered(context.scene) is not None

    def execute(self, context):
        journal.forget(workspaces.workspace_of(context.scene))
        underway.forget_offers()
        jobs.redraw()
        return {"FINISHED"}


CLASSES = (IN2N_OT_resume, IN2N_OT_dismiss)
