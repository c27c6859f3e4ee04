"""Capture: import, the photos, placing, and the workspace."""

from __future__ import annotations

import functools

import bpy
from bpy.app.translations import pgettext_iface as iface

from ...workspace.layout import Workspace
from .. import advice, engine, jobs, machines, workspaces
from ..scene_state import active_capture
from .base import Panel, draw_photo_chooser, draw_way_back
from .drawing import big, fields, wrapped
from .job import ELSEWHERE, draw_standing


class IN2N_PT_capture(Panel, bpy.types.Panel):
    bl_idname = "IN2N_PT_capture"
    bl_label = "Capture"

    def draw_header_preset(self, context):
        if active_capture(context.scene) and not workspaces.is_missing(context.scene):
            self.layout.label(text="", icon="CHECKMARK")

    def draw(self, context):
        layout = self.layout
        capture = active_capture(context.scene)
        if not engine.is_at_hand(context.scene) and not jobs.works_on_the_engine():
            self._draw_no_engine(context)
        if machines.listed() and capture is None:
            fields(layout).prop(context.scene.in2n, "computer")
        if capture is None:
            big(layout, "in2n.import_capture", text="Import Capture…", icon="IMPORT")
            layout.operator("in2n.import_photos", text="Import Photos or Video…", icon="CAMERA_DATA")
            wrapped(
                layout,
                iface("Or drop the file that lists its cameras, a .zip, a video or photos into the viewport."),
                context,
            )
        elif workspaces.is_missing(context.scene):
            self._draw_missing(context, capture)
        else:
            self._draw_capture(context, capture)
            self._draw_report(context, capture)
            self._draw_placing(layout)
            self._draw_workspace(context, capture)
        if capture is not None:
            layout.operator("in2n.import_capture", text="Import Another…", icon="IMPORT")
        draw_standing(layout, context, self._labels(context))

    @staticmethod
    def _labels(context) -> tuple[str, ...]:
        """All jobs that have no other panel: those known from what they have told, and the one that runs."""
        known = {entry.about for entry in context.scene.in2n.told}
        if jobs.current() is not None:
            known.add(jobs.current().label)
        return tuple(sorted(known.difference(ELSEWHERE)))

    def _draw_no_engine(self, context) -> None:
        box = self.layout.box()
        reason = engine.why_no_engine()
        wrapped(
            box, iface(reason or "The engine is not installed yet. It reconstructs and edits."), context,
            "ERROR" if reason else "INFO",
        )  # fmt: skip
        if reason:
            box.operator("in2n.open_preferences", icon="PREFERENCES")
        else:
            box.operator("in2n.install_engine", icon="IMPORT")

    def _draw_missing(self, context, capture) -> None:
        box = self.layout.box()
        folder = workspaces.resolve(capture)
        wrapped(box, iface("Workspace “{name}” is missing.").format(name=folder.name), context, "ERROR")
        row = box.row(align=True)
        row.operator_context = "INVOKE_DEFAULT"
        row.operator("in2n.locate_workspace", text="Locate…", icon="FILE_FOLDER")
        row.operator("in2n.begin_anew", text="Begin Anew", icon="FILE_NEW")

    def _draw_capture(self, context, capture) -> None:
        scene, layout = context.scene, self.layout
        captures, photos, undistorted, points = _counts(scene.session_uid, capture.session_uid, len(bpy.data.objects))
        if captures > 1:
            fields(layout).prop(scene.in2n, "capture")
        counts = iface("{count} photos").format(count=photos)
        if points:
            counts += " · " + iface("{count} points").format(count=f"{points:,}")
        if capture.in2n.masks:
            counts += " · " + iface("{count} masks").format(count=capture.in2n.masks)
        row = layout.row()
        row.label(text=counts, icon="CAMERA_DATA", translate=False)
        if capture.in2n.missing:
            row.operator(
                "in2n.show_missing",
                text=iface("{count} missing").format(count=capture.in2n.missing),
                icon="ERROR",
                translate=False,
            )
        if undistorted and Workspace(workspaces.resolve(capture)).originals.is_file():
            text = iface("Behind the cameras {count} photos are undistorted: at full size when looked through.")
            wrapped(layout, text.format(count=undistorted), context, "INFO")
        for note in filter(None, capture.in2n.notes.split("\n")):
            wrapped(layout, note, context, "ERROR")
        draw_photo_chooser(layout, context)
        draw_way_back(layout, context)

    def _draw_report(self, context, capture) -> None:
        lines = advice.lines(capture)
        # Closed, so that the steps below stay in sight; what matters most is said in its one line.
        header, body = self.layout.panel("in2n_report", default_closed=True)
        header.label(text=": ".join([iface("Report"), *lines[:1]]), translate=False)
        if body is None:
            return
        for line in lines:
            wrapped(body, line, context, "DOT")
        body.operator("in2n.open_report", icon="URL")

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
        earlier = Workspace(folder).earlier
        if earlier.is_dir():  # what was made anew with other settings
            self.layout.operator("wm.path_open", text="Earlier Results", icon="RECOVER_LAST").filepath = str(earlier)
        if workspaces.is_scratch(folder):
            wrapped(
                self.layout,
                iface("A scratch folder: the .blend had not been saved when the capture was imported."),
                context,
                "INFO",
            )
            if bpy.data.filepath:
                row = self.layout.row()
                row.operator_context = "INVOKE_DEFAULT"  # asks first, since the file is saved
                row.operator("in2n.move_workspace", text="Move Beside the .blend", icon="FILE_FOLDER")


@functools.lru_cache(maxsize=8)
def _counts(scene_uid: int, capture_uid: int, _objects: int) -> tuple[int, int, int, int]:
    """The scene's captures, and the capture's photos, those of them that are shown undistorted, and points: counted
    again only when there are more or fewer objects.

    Counting looks at all objects, which panels are too often drawn for.
    """
    scene = next(s for s in bpy.data.scenes if s.session_uid == scene_uid)
    parts = next(o for o in scene.objects if o.session_uid == capture_uid).children_recursive
    photos = [o for o in parts if o.in2n.role == "CAMERA"]
    return (
        sum(o.in2n.role == "CAPTURE" for o in scene.objects),
        len(photos),
        sum(not o.in2n.original for o in photos),
        sum(len(o.data.vertices) for o in parts if o.in2n.role == "POINTS"),
    )
