"""Reconstruct: its settings, its job, and whether there is a reconstruction."""

from __future__ import annotations

import bpy

from ...workspace.layout import Workspace
from .. import pictures, workspaces
from .base import Panel, draw_outdated, is_reconstructed
from .drawing import big, fields
from .job import RECONSTRUCT_JOBS


class IN2N_PT_reconstruct(Panel, bpy.types.Panel):
    bl_idname = "IN2N_PT_reconstruct"
    bl_label = "Reconstruct"

    def draw_header_preset(self, context):
        if is_reconstructed(context.scene):
            self.layout.label(text="", icon="CHECKMARK")

    def draw(self, context):
        layout, settings = self.layout, context.scene.in2n
        if self.draw_needs(context):
            big(layout, "in2n.reconstruct", icon="MESH_ICOSPHERE")
            return
        column = fields(layout)
        column.prop(settings, "preset")
        column.prop(settings, "device")
        column.prop(settings, "show_when_done")
        self._draw_corrections(layout, settings)
        if self.draw_running(context, *RECONSTRUCT_JOBS):
            return
        if self.draw_outcome(context, *RECONSTRUCT_JOBS):
            return
        folder = workspaces.workspace_of(context.scene)
        state = pictures.read(Workspace(folder).reconstruction / "state.json") if folder else {}
        if not state:
            big(layout, "in2n.reconstruct", icon="MESH_ICOSPHERE")
        elif state.get("done"):
            if draw_outdated(layout, context, Workspace(folder), None):
                layout.operator("in2n.reconstruct", text="Keep and Reconstruct", icon="ADD")
            layout.operator_context = "INVOKE_DEFAULT"  # asks first
            layout.operator("in2n.reconstruct", text="Reconstruct Again", icon="FILE_REFRESH").restart = True
        else:
            big(layout, "in2n.reconstruct", text="Continue Reconstruction", icon="PLAY")

    def _draw_corrections(self, layout, settings) -> None:
        header, body = layout.panel("in2n_corrections", default_closed=True)
        header.label(text="Corrections")
        if body is None:
            return
        column = fields(body)
        column.prop(settings, "appearance")
        column.prop(settings, "refine_cameras")
