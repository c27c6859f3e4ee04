"""Edits: the list, what can be done with the selected one, and before and after."""

from __future__ import annotations

import bpy
from bpy.app.translations import pgettext_iface as iface

from ...workspace.edits import CHANGEABLE, segments_in
from ...workspace.layout import Workspace
from ...workspace.provenance import is_done, outdated
from .. import instructions, jobs, pictures, underway, workspaces
from ..scene_state import active_edit
from .base import Panel, draw_outdated
from .drawing import wrapped


class IN2N_UL_edits(bpy.types.UIList):
    """The edits of the workspace."""

    def draw_item(self, context, layout, data, item, icon, active_data, active_property, index=0, flt_flag=0):
        folder = workspaces.workspace_of(context.scene)
        workspace = Workspace(folder) if folder else None
        finished = workspace is not None and is_done(workspace, item.name)
        row = layout.row()
        row.prop(item, "title", text="", emboss=False, icon=_icon(folder, item.name, finished))
        if finished and outdated(workspace, item.name):
            row.label(text="", icon="ERROR")


class IN2N_MT_edit_specials(bpy.types.Menu):
    """What else can be done with the selected edit."""

    bl_idname = "IN2N_MT_edit_specials"
    bl_label = "Edit Specials"

    def draw(self, context):
        layout = self.layout
        layout.operator_context = "INVOKE_DEFAULT"
        layout.operator("in2n.rename_edit", text="Rename…", icon="SORTALPHA")
        layout.operator("in2n.use_edit_settings", icon="SETTINGS")
        folder, edit = workspaces.workspace_of(context.scene), active_edit(context.scene)
        if folder is not None and edit is not None:
            layout.operator("wm.path_open", text="Open Folder", icon="FILEBROWSER").filepath = str(
                folder / "edits" / edit
            )
        layout.separator()
        layout.operator("in2n.compare", icon="ARROW_LEFTRIGHT")


class IN2N_PT_edits(Panel, bpy.types.Panel):
    bl_idname = "IN2N_PT_edits"
    bl_label = "Edits"

    def draw(self, context):
        layout, settings = self.layout, context.scene.in2n
        if not len(settings.edits):
            if not self.draw_needs(context, reconstruction=True):
                wrapped(layout, iface("No edit yet: type an instruction above."), context, "INFO")
            return
        row = layout.row()
        row.template_list("IN2N_UL_edits", "", settings, "edits", settings, "active_edit", rows=4)
        side = row.column(align=True)
        side.operator_context = "INVOKE_DEFAULT"
        side.operator("in2n.duplicate_edit", text="", icon="DUPLICATE")
        side.operator("in2n.remove_edit", text="", icon="REMOVE")
        side.separator()
        side.menu("IN2N_MT_edit_specials", text="", icon="DOWNARROW_HLT")
        layout.row(align=True).prop(settings, "shown", expand=True)
        self._draw_selected(context)

    def _draw_selected(self, context) -> None:
        folder, edit = workspaces.workspace_of(context.scene), active_edit(context.scene)
        if folder is None or edit is None:
            return
        recorded = pictures.read(folder / "edits" / edit / "edit.json")
        box = self.layout.box()
        segments = segments_in(recorded)
        wrapped(box, f"“{segments[0]['instruction'] or edit}”", context)
        for before, segment in zip(segments, segments[1:]):
            wrapped(box, _change(before, segment), context)
        if {"guidance_text", "guidance_image", "seed"} <= set(recorded):
            guidance = instructions.guidance_in_words(recorded["guidance_text"], recorded["guidance_image"])
            text = iface("{guidance} · Seed {seed}").format(guidance=guidance, seed=recorded["seed"])
            row = box.row()
            row.active = False
            row.label(text=text, translate=False)
        if recorded.get("region"):
            row = box.row()
            row.active = False
            row.label(text="Within a Region", icon="MESH_CUBE")
        if not is_done(Workspace(folder), edit):
            if not jobs.running():
                if not _is_offered(context.scene, edit):  # then Resume, above, does the same
                    self.layout.operator("in2n.continue_edit", icon="PLAY")
                self.layout.operator("in2n.apply_from_here", icon="FORWARD").edit = edit
            return
        if draw_outdated(self.layout, context, Workspace(folder), edit):
            row = self.layout.row(align=True)
            row.operator_context = "INVOKE_DEFAULT"  # asks first
            row.operator("in2n.continue_edit", text="Make Again", icon="FILE_REFRESH").restart = True
            row.operator("in2n.continue_edit", text="Make Beside", icon="ADD").beside = True
        if context.scene.in2n.instruction.strip():
            self.layout.operator("in2n.edit", text="Build on This Edit", icon="ADD").parent = edit


def _change(before: dict, segment: dict) -> str:
    """What a segment of an edit changed, in a line."""
    number, changed = segment["from_edit"] + 1, {key for key in CHANGEABLE if segment[key] != before[key]}
    if "instruction" in changed:
        text = iface("From edit {number}: “{instruction}”")
        return text.format(number=number, instruction=segment["instruction"])
    if "region" in changed:
        return iface("From edit {number}: another region").format(number=number)
    guidance = instructions.guidance_in_words(segment["guidance_text"], segment["guidance_image"])
    return iface("From edit {number}: {guidance}").format(number=number, guidance=guidance)


def _icon(folder, edit: str, finished: bool) -> str:
    """What stands before an edit in the list: made, at work, waiting for its turn, or stopped on its way."""
    if folder is not None and edit == underway.edit_at_work(folder):
        return "PLAY"
    if folder is not None and edit in underway.edits_to_come(folder):
        return "SORTTIME"
    return "BRUSH_DATA" if finished else "PAUSE"


def _is_offered(scene, edit: str) -> bool:
    left = underway.offered(scene)
    return left is not None and left.request.method == "edit" and left.request.name == edit
