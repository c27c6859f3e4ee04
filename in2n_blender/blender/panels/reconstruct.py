"""Reconstruct: its settings, its job, and whether there is a reconstruction."""

from __future__ import annotations

import bpy
from bpy.app.translations import pgettext_iface as iface

from ...workspace.layout import Workspace
from ...workspace.provenance import outdated
from .. import machines, photo_sizes, pictures, workspaces
from ..scene_state import active_capture
from .base import Panel, draw_outdated, is_reconstructed
from .drawing import big, fields, wrapped
from .job import RECONSTRUCT_JOBS, draw_standing, offered, runs


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
        wrapped(layout, photo_sizes.said(context.scene), context)
        column = fields(layout)
        if machines.listed():
            column.prop(settings, "computer")
        column.prop(settings, "device")
        column.prop(settings, "show_when_done")
        self._draw_corrections(layout, context)
        self._draw_start(context)
        folder = workspaces.workspace_of(context.scene)
        state = _state(folder)
        draw_standing(layout, context, RECONSTRUCT_JOBS, _found(state), resume=False)
        if not runs(RECONSTRUCT_JOBS) and state.get("done"):
            draw_outdated(layout, context, Workspace(folder), None)

    def _draw_start(self, context) -> None:
        """The step's one big button, by what there is to be done."""
        layout = self.layout.column()
        layout.enabled = not runs(RECONSTRUCT_JOBS)
        folder = workspaces.workspace_of(context.scene)
        state = _state(folder)
        if offered(context, RECONSTRUCT_JOBS):
            big(layout, "in2n.resume", icon="PLAY")
        elif not state:
            big(layout, "in2n.reconstruct", icon="MESH_ICOSPHERE")
        elif not state.get("done"):
            big(layout, "in2n.reconstruct", text="Continue Reconstruction", icon="PLAY")
        elif outdated(Workspace(folder), None):
            row = layout.row(align=True)
            big(row, "in2n.reconstruct", text="Keep and Reconstruct", icon="ADD")
            self._draw_again(row)
        else:
            self._draw_again(layout)

    @staticmethod
    def _draw_again(layout) -> None:
        layout.operator_context = "INVOKE_DEFAULT"  # asks first
        big(layout, "in2n.reconstruct", text="Reconstruct Again", icon="FILE_REFRESH").restart = True

    def _draw_corrections(self, layout, context) -> None:
        header, body = layout.panel("in2n_corrections", default_closed=True)
        header.label(text="Corrections")
        if body is None:
            return
        column = fields(body)
        column.prop(context.scene.in2n, "appearance")
        column.prop(context.scene.in2n, "refine_cameras")
        column.prop(active_capture(context.scene).in2n, "hold_out_every")


def _found(state: dict) -> str:
    """What the workspace says of a reconstruction that no job of this .blend has told of."""
    if not state.get("done"):
        return iface("Not finished yet.") if state else iface("Not reconstructed yet.")
    psnr = state.get("psnr_db")
    if not isinstance(psnr, (int, float)):
        return iface("Reconstructed.")
    if state.get("color_fit"):
        return iface("Reconstructed: {psnr:.1f} dB on the held-out photos, colours fitted.").format(psnr=psnr)
    return iface("Reconstructed: {psnr:.1f} dB on the held-out photos.").format(psnr=psnr)


def _state(folder) -> dict:
    return pictures.read(Workspace(folder).reconstruction / "state.json") if folder else {}
