"""bpy.ops.in2n.render_path: render an edit along the scene's animated camera."""

from __future__ import annotations

import bpy
from bpy.props import IntProperty, StringProperty

from ...link.requests import RenderPath
from ...workspace.files import write_json
from ...workspace.layout import ORIGINAL
from .. import cameras, compare, plates, workspaces
from ..request_properties import SELECTED, argument
from ..scene_state import chosen_edit
from .job import JobOperator
from .polls import poll_capture, poll_engine, poll_queue, poll_reconstruction


class IN2N_OT_render_path(JobOperator, bpy.types.Operator):
    bl_description = (
        "Render the edited scene along the scene's camera, frame by frame: PNG for looking at, EXR with "
        "linear colour, depth and alpha. The frames are loaded behind the camera"
    )

    bl_idname = "in2n.render_path"
    bl_label = "Render Frames"
    label = "Render Frames"
    undo_step = True

    edit: argument(RenderPath, "edit", left_out=SELECTED)
    name: StringProperty(
        name="Path Name",
        description="The name of the camera path and of the folder of its frames; left out: the scene's name",
        options={"SKIP_SAVE"},
    )
    frame_start: IntProperty(name="First Frame", description="Left out: the scene's first frame", options={"SKIP_SAVE"})
    frame_end: IntProperty(name="Last Frame", description="Left out: the scene's last frame", options={"SKIP_SAVE"})
    frame_step: IntProperty(
        name="Frame Step", description="Left out: the scene's frame step", default=1, min=1, options={"SKIP_SAVE"}
    )
    device: argument(RenderPath, "device", left_out="the scene's device")

    @classmethod
    def poll(cls, context):
        if not (
            poll_queue(cls) and poll_capture(cls, context) and poll_engine(cls) and poll_reconstruction(cls, context)
        ):
            return False
        if context.scene.camera is None:
            cls.poll_message_set("The scene has no camera to render from")
            return False
        return True

    def prepare(self, context):
        scene = context.scene
        capture, workspace = workspaces.require(scene)
        edit = chosen_edit(scene, self.edit)
        name = self.name or cameras.path_name(scene)
        frames = self.chosen(scene, "frame_start", "frame_end", "frame_step")
        path = cameras.camera_path_from_scene(scene, capture, name, *frames.values())
        path = cameras.relative_to_workspace(path, capture, workspace)
        file = workspace.camera_path(name)
        write_json(file, path.to_json())
        numbers = [frame.number for frame in path.frames]
        folder = workspace.renders(edit, name)

        def finish(context, scene, capture, result):
            plates.load(scene, "IMAGES", folder, edit or ORIGINAL, name, numbers)
            compare.show_result(scene, edit)
            return f"Rendered {len(numbers)} frames of “{edit or ORIGINAL}” to {folder.relative_to(workspace.root)}."

        return [
            RenderPath(
                workspace=str(workspace.root), camera_path=str(file), edit=edit, **self.chosen(scene.in2n, "device")
            )
        ], finish


CLASSES = (IN2N_OT_render_path,)
