"""bpy.ops.in2n.make_splats: Gaussian splats of an edit, brought into the scene."""

from __future__ import annotations

import bpy

from ...link.requests import MakeSplats
from ...workspace.layout import ORIGINAL
from .. import compare, outputs, regions, splats, workspaces
from ..request_properties import SELECTED, argument
from ..scene_state import chosen_edit
from .job import JobOperator
from .polls import poll_capture, poll_engine, poll_queue, poll_reconstruction


class IN2N_OT_make_splats(JobOperator, bpy.types.Operator):
    bl_description = (
        "Make Gaussian splats of the edited scene, as Blender 5.3, game engines and viewers draw them, and bring them "
        "in under the capture. Splats of the same edit are replaced"
    )

    bl_idname = "in2n.make_splats"
    bl_label = "Make Splats"
    label = "Make Splats"
    undo_step = True

    edit: argument(MakeSplats, "edit", left_out=SELECTED)
    splats: argument(MakeSplats, "splats", left_out="the scene's")
    background: argument(MakeSplats, "background", left_out="the scene's")
    device: argument(MakeSplats, "device", left_out="the scene's device")

    @classmethod
    def poll(cls, context):
        return poll_queue(cls) and poll_capture(cls, context) and poll_engine(cls) and poll_reconstruction(cls, context)

    def prepare(self, context):
        settings, given = context.scene.in2n, self.properties.is_property_set
        capture, workspace = workspaces.require(context.scene)
        edit = chosen_edit(context.scene, self.edit)
        keep = regions.kept_region(context.scene, capture, workspace)
        request = MakeSplats(
            workspace=str(workspace.root),
            edit=edit,
            splats=self.splats if given("splats") else settings.most_splats,
            background=self.background if given("background") else settings.splats_background,
            keep=str(keep) if keep else None,
            **self.chosen(settings, "device"),
        )
        file = workspace.splats(edit, ".ply")

        def finish(context, scene, capture, result):
            splats.import_splats(context, scene, capture, file, edit or ORIGINAL)
            compare.show_result(scene, edit, outputs.SPLATS)
            return f"Splats of “{edit or ORIGINAL}”: {result['splats']:,}."

        return [request], finish


CLASSES = (IN2N_OT_make_splats,)
