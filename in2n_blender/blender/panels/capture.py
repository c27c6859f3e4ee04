"""Capture: import, the photos, placing, and the workspace."""

from __future__ import annotations

import functools

import bpy
from bpy.app.translations import pgettext_iface as iface

from .. import engine, jobs, workspaces
from ..scene_state import active_capture
from .base import Panel, draw_photo_chooser, draw_way_back
from .drawing import big, fields, wrapped
from .job import ELSEWHERE, draw_job


class IN2N_PT_capture(Panel, bpy.types.Panel):
    bl_idname = "IN2N_PT_capture"
    bl_label = "Capture"

    def draw_header_preset(self, context):
        if active_capture(context.scene):
            self.layout.label(text="", icon="CHECKMARK")

    def draw(self, context):
        layout = self.layout
        settings = context.scene.in2n
        capture = active_capture(context.scene)
        if jobs.running() and jobs.current().label not in ELSEWHERE:
            draw_job(layout)
        elif engine.engine_python() is None:
            box = layout.box()
            wrapped(box, iface("The engine is not installed yet. It reconstructs and edits."), context, "INFO")
            box.operator("in2n.install_engine", icon="IMPORT")
        if settings.status and settings.status_of not in ELSEWHERE and not jobs.running():
            wrapped(layout, settings.status, context, "INFO")
        if capture is None:
            big(layout, "in2n.import_capture", text="Import Capture…", icon="IMPORT")
            wrapped(layout, iface("Or drop a transforms.json or a COLMAP file into the viewport."), context)
            return
        self._draw_capture(context, capture)
        self._draw_placing(layout)
        self._draw_workspace(context, capture)
        layout.operator("in2n.import_capture", text="Import Another…", icon="IMPORT")

    def _draw_capture(self, context, capture) -> None:
        scene, layout = context.scene, self.layout
        captures, photos, points = _counts(scene.session_uid, capture.session_uid, len(bpy.data.objects))
        if captures > 1:
            fields(layout).prop(scene.in2n, "capture")
        counts = iface("{count} photos").format(count=photos)
        if points:
            counts += " · " + iface("{count} points").format(count=f"{points:,}")
        row = layout.row()
        row.label(text=counts, icon="CAMERA_DATA", translate=False)
        if capture.in2n.missing:
            row.operator(
                "in2n.show_missing",
                text=iface("{count} missing").format(count=capture.in2n.missing),
                icon="ERROR",
                translate=False,
            )
        draw_photo_chooser(layout, context)
        draw_way_back(layout, context)

    def _draw_placing(self, layout) -> None:
        header, body = layout.panel("in2n_placing", default_closed=True)
        header.label(text="Place in Scene")
        if body is None:
            return
        column = body.column(align=True)
        column.operator_menu_enum("in2n.set_up", "axis", text="Set Up Axis", icon="EMPTY_SINGLE_ARROW")
        column.operator("in2n.set_ground", text="Ground from Selection", icon="MESH_GRID")
        column.operator_context = "INVOKE_DEFAULT"
        column.operator("in2n.set_scale", text="Scale by Distance…", icon="DRIVER_DISTANCE")

    def _draw_workspace(self, context, capture) -> None:
        folder = workspaces.resolve(capture)
        if folder is None:
            return
        row = self.layout.row(align=True)
        row.label(text=folder.name, icon="FILE_CACHE", translate=False)
        if folder.is_dir():
            row.operator("wm.path_open", text="", icon="FILEBROWSER").filepath = str(folder)
        if workspaces.is_scratch(folder):
            wrapped(
                self.layout,
                iface("A scratch folder: the .blend had not been saved when the capture was imported."),
                context,
                "INFO",
            )
            if bpy.data.filepath:
                self.layout.operator("in2n.move_workspace", text="Move Beside the .blend", icon="FILE_FOLDER")


@functools.lru_cache(maxsize=8)
def _counts(scene_uid: int, capture_uid: int, _objects: int) -> tuple[int, int, int]:
    """The scene's captures, and the capture's photos and points: counted again only when there are more or fewer
    objects.

    Counting looks at all objects, which panels are too often drawn for.
    """
    scene = next(s for s in bpy.data.scenes if s.session_uid == scene_uid)
    parts = next(o for o in scene.objects if o.session_uid == capture_uid).children_recursive
    photos = sum(o.in2n.role == "CAMERA" for o in parts)
    return (
        sum(o.in2n.role == "CAPTURE" for o in scene.objects),
        photos,
        sum(len(o.data.vertices) for o in parts if o.in2n.role == "POINTS"),
    )
