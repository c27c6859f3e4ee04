"""Edit: the instruction, the model, guidance with its previews, and the job."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.app.translations import pgettext_iface as iface

from .. import instructions, jobs, key_view, pictures, workspaces
from .base import Panel, draw_photo_chooser
from .drawing import big, columns_of_pictures, fields, wrapped
from .job import EDIT_JOBS
from .presets import IN2N_PT_edit_presets


class IN2N_PT_edit(Panel, bpy.types.Panel):
    bl_idname = "IN2N_PT_edit"
    bl_label = "Edit"

    def draw_header_preset(self, context):
        IN2N_PT_edit_presets.draw_panel_header(self.layout)

    def draw(self, context):
        layout, settings = self.layout, context.scene.in2n
        if self.draw_needs(context):
            big(layout, "in2n.edit", text="Start Edit", icon="BRUSH_DATA")
            return
        row = layout.row(align=True)
        row.prop(settings, "instruction", text="", placeholder=iface("Make it look like autumn"))
        row.menu("IN2N_MT_instructions", text="", icon="DOWNARROW_HLT")
        column = fields(layout)
        column.prop(settings, "editor")
        if settings.editor == "folder":
            column.prop(settings, "editor_folder")
        column.prop(settings, "seed")
        column.prop(settings, "editing_method")
        row = column.row(align=True)
        row.prop(settings, "region", icon="MESH_CUBE")
        row.operator("in2n.add_region", text="", icon="ADD")
        if settings.region is not None:
            column.prop(settings, "soft_edge")
        self._draw_key_view(context, column)
        self._draw_guidance(context, layout)
        layout.separator(factor=0.5)
        if not self.draw_running(context, *EDIT_JOBS):
            self.draw_outcome(context, *EDIT_JOBS)
        if not self.draw_needs(context, reconstruction=True) and not settings.instruction.strip():
            wrapped(layout, iface("Type what to change."), context, "INFO")
        column = layout.column()
        column.enabled = bool(settings.instruction.strip())
        if jobs.running_edit(workspaces.workspace_of(context.scene)):
            column.operator("in2n.apply_from_here", icon="FORWARD")
        big(column, "in2n.edit", text="Edit Next" if jobs.running() else "Start Edit", icon="BRUSH_DATA")

    def _draw_key_view(self, context, layout) -> None:
        picture = key_view.chosen(context.scene)
        if picture is None:
            return
        row = layout.row()
        row.template_icon(pictures.icon(picture), scale=3)
        row.label(text="Begins with this picture")
        row.operator("in2n.use_picture", text="", icon="X").file = ""

    def _draw_guidance(self, context, layout) -> None:
        settings = context.scene.in2n
        header, body = layout.panel("in2n_guidance", default_closed=False)
        header.label(text="Guidance")
        if body is None:
            return
        column = fields(body)
        column.prop(settings, "use_default_guidance")
        scales = column.column(align=True)
        if settings.use_default_guidance:
            text, image = instructions.own_guidance(settings.editor_id())
            scales.active = False
            own = scales.split(factor=0.4)
            own.label(text="")
            own.label(text=iface("Text {text:g} · Image {image:g}").format(text=text, image=image), translate=False)
        else:
            scales.prop(settings, "guidance_text", text="Text")
            scales.prop(settings, "guidance_image", text="Image")
        body.separator(factor=0.5)
        draw_photo_chooser(body, context)
        row = body.row(align=True)
        row.enabled = bool(settings.instruction.strip())
        row.operator("in2n.preview", text="Preview Grid", icon="MESH_GRID").grid = True
        row.operator("in2n.preview", text="Preview One", icon="IMAGE_DATA").grid = False
        draw_previews(context, body)


def draw_previews(context, layout) -> None:
    """Draw the pictures of the last preview, each over a button that takes its guidance over.

    Args:
        context: Blender's.
        layout: Where to.
    """
    settings, folder = context.scene.in2n, workspaces.workspace_of(context.scene)
    if folder is None or not settings.preview:
        return
    folder = folder / "previews" / settings.preview
    record = pictures.read(folder / "preview.json")
    cells = [cell for cell in record.get("pictures", ()) if {"file", "guidance_text", "guidance_image"} <= set(cell)]
    if not cells:
        return
    columns = max(len({cell["guidance_text"] for cell in cells}), 2)
    scale = columns_of_pictures(context, columns)
    box = layout.box()
    _draw_titles(box, record)
    if len(cells) == 1:
        row = box.row(align=True)
        row.template_icon(pictures.icon(folder / "photo.png"), scale=scale)
        _draw_preview(row.column(align=True), settings, folder, cells[0], scale)
        return
    rows = box.column(align=True)
    for start in range(0, len(cells), columns):
        row = rows.row(align=True)
        for cell in cells[start : start + columns]:
            _draw_preview(row.column(align=True), settings, folder, cell, scale)


def _draw_titles(layout, record: dict) -> None:
    title = layout.column(align=True)
    title.scale_y = 0.8
    title.label(text=f"“{record.get('instruction', '')}”", translate=False)
    row = title.row()
    row.active = False
    row.label(text=iface("On {photo}. Below each: text · image").format(photo=record.get("view", "")), translate=False)


def _draw_preview(column, settings, folder: Path, cell: dict, scale: float) -> None:
    text, image = cell["guidance_text"], cell["guidance_image"]
    file = folder / cell["file"]
    if file.is_file():
        column.template_icon(pictures.icon(file), scale=scale)
    else:
        waiting = column.row()
        waiting.alignment, waiting.active, waiting.scale_y = "CENTER", False, scale
        waiting.label(text="", icon="SORTTIME")
    chosen = (
        not settings.use_default_guidance
        and abs(settings.guidance_text - text) < 1e-3
        and abs(settings.guidance_image - image) < 1e-3
    )
    row = column.row(align=True)
    button = row.operator("in2n.use_guidance", text=f"{text:g} · {image:g}", translate=False, depress=chosen)
    button.guidance_text, button.guidance_image = text, image
    picked = settings.key_view == f"{folder.name}/{cell['file']}"
    button = row.operator("in2n.use_picture", text="", icon="PINNED" if picked else "UNPINNED", depress=picked)
    button.guidance_text, button.guidance_image, button.file = text, image, "" if picked else cell["file"]
