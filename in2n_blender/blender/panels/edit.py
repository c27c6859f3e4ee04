"""Edit: the instruction, the model, guidance with its previews, and the job."""

from __future__ import annotations

import bpy
from bpy.app.translations import pgettext_iface as iface

from .. import instructions, jobs, key_view, model_memory, objections, pictures, underway, workspaces
from .base import Panel, draw_photo_chooser, what_is_missing
from .drawing import BIG, big, fields, lines_of
from .job import EDIT_JOBS, draw_standing
from .presets import IN2N_PT_edit_presets
from .previews import draw_previews


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
        possible = self._draw_objection(context, layout)
        self._draw_start(context, layout, possible)
        draw_standing(layout, context, EDIT_JOBS, "" if len(settings.edits) else iface("Nothing edited yet."))
        self._draw_key_view(context, layout)
        self._draw_settings(layout, settings)
        self._draw_guidance(context, layout, possible)

    def _draw_objection(self, context, layout) -> bool:
        """What an edit would be refused for, in one line that is there in any case; whether there is nothing."""
        settings = context.scene.in2n
        objection = objections.of_edit(settings.editor_id(), settings.instruction)
        missing = what_is_missing(context, reconstruction=True)
        row = layout.row(align=True)
        if objection is not None and (objection.wrong or not missing):
            row.alert = objection.wrong
            text = lines_of(iface(objection.sentence), context, 1)[0]
            row.label(text=text, icon="ERROR" if objection.wrong else "INFO", translate=False)
            row.operator("in2n.explain_objection", text="", icon="QUESTION")
        elif missing:
            row.label(text=iface(missing), icon="INFO", translate=False)
        else:
            listed = bool(instructions.known(settings.editor_id()))
            row.label(text="This model knows that." if listed else "This model takes any text.", icon="CHECKMARK")
        return objection is None

    def _draw_start(self, context, layout, possible: bool) -> None:
        row = layout.row(align=True)
        row.enabled = possible
        row.scale_y = BIG
        at_work = underway.running_edit(workspaces.workspace_of(context.scene))
        row.operator("in2n.edit", text="Edit Next" if jobs.running() else "Start Edit", icon="BRUSH_DATA")
        if at_work:
            row.operator("in2n.apply_from_here", icon="FORWARD")

    def _draw_settings(self, layout, settings) -> None:
        column = fields(layout)
        self._draw_memory(column, settings)
        if instructions.takes_negative_prompt(settings.editor_id()):
            column.prop(settings, "negative_prompt")
        column.prop(settings, "seed")
        column.prop(settings, "editing_method")
        row = column.row(align=True)
        row.prop(settings, "region", icon="MESH_CUBE")
        row.operator("in2n.add_region", text="", icon="ADD")
        if settings.region is not None:
            column.prop(settings, "soft_edge")

    def _draw_memory(self, column, settings) -> None:
        """How the model is kept in the GPU's memory, in words, where there is a GPU that it counts for."""
        words = model_memory.plan_in_words(settings.editor_id(), settings.memory_plan)
        if not words:
            return
        column.prop(settings, "memory_plan")
        row = column.row()  # all of the width: it is a sentence
        row.active, row.alignment = False, "RIGHT"
        row.label(text=words, translate=False)

    def _draw_key_view(self, context, layout) -> None:
        picture = key_view.chosen(context.scene)
        if picture is None:
            return
        row = layout.row()
        row.template_icon(pictures.icon(picture), scale=3)
        row.label(text="Begins with this picture")
        row.operator("in2n.use_picture", text="", icon="X").file = ""

    def _draw_guidance(self, context, layout, possible: bool) -> None:
        settings = context.scene.in2n
        header, body = layout.panel("in2n_guidance", default_closed=False)
        header.label(text="Guidance")
        if body is None:
            return
        self._draw_scales(fields(body), settings)
        body.separator(factor=0.5)
        draw_photo_chooser(body, context)
        row = body.row(align=True)
        row.enabled = possible
        row.operator("in2n.preview", text="Preview Grid", icon="MESH_GRID").grid = True
        row.operator("in2n.preview", text="Preview One", icon="IMAGE_DATA").grid = False
        draw_previews(context, body)

    def _draw_scales(self, column, settings) -> None:
        """Those that the model has."""
        text, image = instructions.own_guidance(settings.editor_id())
        if text is None and image is None:
            column.active = False
            column.label(text=instructions.guidance_in_words(text, image), icon="CHECKMARK", translate=False)
            return
        column.prop(settings, "use_default_guidance")
        scales = column.column(align=True)
        if settings.use_default_guidance:
            scales.active = False
            own = scales.split(factor=0.4)
            own.label(text="")
            own.label(text=instructions.guidance_in_words(text, image), translate=False)
            return
        for name, own in (("guidance_text", text), ("guidance_image", image)):
            if own is not None:
                scales.prop(settings, name, text="Text" if name == "guidance_text" else "Image")
