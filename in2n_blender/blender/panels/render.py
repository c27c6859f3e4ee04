"""Render Properties and View Layer of the render engine IN2N."""

from __future__ import annotations

import bpy
from bpy.app.translations import pgettext_iface as iface

from ...scene.errors import In2nError
from .. import render_settings
from ..render_engine import ENGINE
from .base import what_is_missing
from .drawing import draw_colour_note, wrapped


class _EnginePanel:
    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "render"
    COMPAT_ENGINES = {ENGINE}

    @classmethod
    def poll(cls, context):
        return context.engine in cls.COMPAT_ENGINES


class IN2N_PT_render(_EnginePanel, bpy.types.Panel):
    bl_idname = "IN2N_PT_render"
    bl_label = "Captured Scene"

    def draw(self, context):
        layout, scene = self.layout, context.scene
        layout.use_property_split, layout.use_property_decorate = True, False
        source = scene.in2n.render.settings_of
        if source is not None:
            wrapped(layout, iface("As the scene “{name}” says.").format(name=source.name), context, "INFO")
            return
        missing = what_is_missing(context, True, here=True)
        if missing:
            wrapped(layout, iface(missing), context, "ERROR")
        settings = scene.in2n.render
        layout.prop(settings, "what")
        try:
            layout.label(text=render_settings.chosen(scene).name, icon="RENDER_STILL", translate=False)
        except In2nError as error:
            if not missing:
                wrapped(layout, str(error), context, "ERROR")
        column = layout.column(heading="Matte")
        column.prop(settings, "subject_only")
        if settings.subject_only:
            column.prop(scene.in2n, "region")
        column = layout.column(align=True)
        column.prop(settings, "samples")
        column.prop(settings, "blur_samples", text="Blur")
        layout.prop(scene.in2n, "device")
        draw_colour_note(layout, context)


class IN2N_PT_render_film(_EnginePanel, bpy.types.Panel):
    bl_idname = "IN2N_PT_render_film"
    bl_label = "Film"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context):
        layout = self.layout
        layout.use_property_split, layout.use_property_decorate = True, False
        layout.prop(context.scene.render, "film_transparent", text="Transparent")


class IN2N_PT_render_motion_blur(_EnginePanel, bpy.types.Panel):
    bl_idname = "IN2N_PT_render_motion_blur"
    bl_label = "Motion Blur"
    bl_options = {"DEFAULT_CLOSED"}

    def draw_header(self, context):
        self.layout.prop(context.scene.render, "use_motion_blur", text="")

    def draw(self, context):
        layout, render = self.layout, context.scene.render
        layout.use_property_split, layout.use_property_decorate = True, False
        layout.active = render.use_motion_blur
        layout.prop(render, "motion_blur_position", text="Position")
        layout.prop(render, "motion_blur_shutter")


class IN2N_PT_render_passes(_EnginePanel, bpy.types.Panel):
    bl_idname = "IN2N_PT_render_passes"
    bl_label = "Passes"
    bl_context = "view_layer"

    def draw(self, context):
        layout, layer = self.layout, context.view_layer
        layout.use_property_split, layout.use_property_decorate = True, False
        column = layout.column(heading="Data")
        column.prop(layer, "use_pass_z")
        column.prop(layer, "use_pass_position")
        column.prop(layer, "use_pass_normal")


CLASSES = (IN2N_PT_render, IN2N_PT_render_film, IN2N_PT_render_motion_blur, IN2N_PT_render_passes)
