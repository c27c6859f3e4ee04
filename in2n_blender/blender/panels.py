"""The sidebar of the 3D Viewport, tab IN2N. Drawing never changes anything."""

from __future__ import annotations

import bpy

from ..jobs.workspace import ORIGINAL, Workspace
from . import results, tasks, worker, workspaces
from .properties import active_capture, active_edit, children


class _Panel:
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "IN2N"

    @property
    def fields(self):
        """The layout for settings: labels at the left, values at the right."""
        column = self.layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        return column


def draw_job(layout) -> None:
    """The running job: what it does, how far it is, and Cancel."""
    job = tasks.current()
    if job is None or job.done:
        return
    box = layout.box()
    box.label(text=job.doing())
    box.progress(factor=job.factor, text=job.counted())
    row = box.row(align=True)
    row.operator("in2n.cancel", icon="X")
    row.operator("in2n.show_log", text="", icon="TEXT")


def _wrapped(layout, text: str, width: int, icon: str = "NONE") -> None:
    """A text over as many lines as it needs; Blender's labels do not wrap."""
    line = ""
    lines = []
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    column = layout.column(align=True)
    column.scale_y = 0.8
    for index, part in enumerate([*lines, line]):
        column.label(text=part, icon=icon if index == 0 else ("BLANK1" if icon != "NONE" else "NONE"))


def _characters(context) -> int:
    """About how many characters fit beside each other in the sidebar."""
    scale = context.preferences.system.ui_scale
    return max(int((context.region.width / scale - 60) / 6.2), 16)


class IN2N_PT_capture(_Panel, bpy.types.Panel):
    bl_idname = "IN2N_PT_capture"
    bl_label = "Capture"

    def draw(self, context):
        layout = self.layout
        scene = context.scene
        settings = scene.in2n
        draw_job(layout)
        job = tasks.current()
        if settings.status and not tasks.running():
            failed = job is not None and job.failed and settings.status == job.outcome()
            _wrapped(layout, settings.status, _characters(context), "ERROR" if failed else "INFO")
        capture = active_capture(scene)
        if worker.engine_python() is None:
            _wrapped(layout, "Install the engine to reconstruct and edit.", _characters(context), "INFO")
            layout.operator("in2n.install_engine", icon="IMPORT")
        layout.operator("in2n.import_capture", text="Import Capture…", icon="FILE_FOLDER")
        if capture is None:
            return
        fields = self.fields
        fields.prop(settings, "capture")
        cameras = children(capture, "CAMERA")
        points = children(capture, "POINTS")
        counts = f"{len(cameras)} photos"
        if capture.in2n.missing:
            counts += f", {capture.in2n.missing} missing"
        if points:
            counts += f", {sum(len(o.data.vertices) for o in points):,} points"
        layout.label(text=counts, icon="CAMERA_DATA")
        row = layout.row(align=True)
        row.operator("in2n.look_through", text="", icon="TRIA_LEFT").direction = "PREVIOUS"
        shown = scene.camera.in2n.photo if scene.camera and scene.camera in cameras else ""
        row.operator("in2n.look_through", text=shown or "Look Through Photos", translate=not shown).direction = "CURRENT"
        row.operator("in2n.look_through", text="", icon="TRIA_RIGHT").direction = "NEXT"
        self._draw_workspace(context, capture)

    def _draw_workspace(self, context, capture) -> None:
        folder = workspaces.resolve(capture)
        if folder is None:
            return
        row = self.layout.row(align=True)
        row.label(text=folder.name, icon="FILE_CACHE")
        row.operator("wm.path_open", text="", icon="FILEBROWSER").filepath = str(folder)
        if workspaces.is_scratch(folder):
            _wrapped(self.layout, "A scratch folder: the .blend had not been saved when the capture was imported.", _characters(context), "INFO")


class IN2N_PT_reconstruct(_Panel, bpy.types.Panel):
    bl_idname = "IN2N_PT_reconstruct"
    bl_label = "Reconstruct"

    def draw(self, context):
        settings = context.scene.in2n
        fields = self.fields
        fields.prop(settings, "preset")
        fields.prop(settings, "device")
        folder = workspaces.workspace_of(context.scene)
        done = folder is not None and workspaces.has_reconstruction(Workspace(folder))
        self.layout.operator("in2n.reconstruct", text="Continue Reconstruction" if done else "Reconstruct", icon="MESH_ICOSPHERE")


class IN2N_PT_edit(_Panel, bpy.types.Panel):
    bl_idname = "IN2N_PT_edit"
    bl_label = "Edit"

    def draw(self, context):
        layout = self.layout
        settings = context.scene.in2n
        layout.prop(settings, "instruction", text="", placeholder="Make it look like autumn")
        fields = self.fields
        fields.prop(settings, "editor")
        if settings.editor == "folder":
            fields.prop(settings, "editor_folder")
        fields.column(heading="Guidance").prop(settings, "use_default_guidance", text="Default")
        guidance = fields.column(align=True)
        guidance.active = not settings.use_default_guidance
        guidance.prop(settings, "guidance_text")
        guidance.prop(settings, "guidance_image")
        fields.prop(settings, "seed")
        row = layout.row()
        row.scale_y = 1.4
        row.enabled = bool(settings.instruction.strip())
        row.operator("in2n.edit", text="Edit" if row.enabled else "Type an Instruction First", icon="BRUSH_DATA")


class IN2N_UL_edits(bpy.types.UIList):
    """The edits of the workspace."""

    def draw_item(self, context, layout, data, item, icon, active_data, active_property, index=0, flt_flag=0):
        layout.label(text=item.name, icon="BRUSH_DATA", translate=False)


class IN2N_PT_results(_Panel, bpy.types.Panel):
    bl_idname = "IN2N_PT_results"
    bl_label = "Results"

    def draw(self, context):
        layout = self.layout
        scene = context.scene
        settings = scene.in2n
        if len(settings.edits):
            layout.template_list("IN2N_UL_edits", "", settings, "edits", settings, "active_edit", rows=3)
            instruction = settings.edits[min(settings.active_edit, len(settings.edits) - 1)].instruction
            if instruction:
                _wrapped(layout, f"“{instruction}”", _characters(context))
        edit = active_edit(scene)
        layout.label(text=f"Frames {scene.frame_start}–{scene.frame_end}, {scene.camera.name if scene.camera else 'no camera'}", icon="RENDER_ANIMATION")
        self._draw_buttons("in2n.render_path", "Render Frames", edit)
        if scene.camera is not None and scene.camera.type == "CAMERA":
            shown = layout.column(align=True)
            for background in results.frame_backgrounds(scene.camera.data):
                shown.prop(background, "show_background_image", text=background.image.name, translate=False)
        self.fields.prop(settings, "mesh_resolution", text="Mesh Grid")
        self._draw_buttons("in2n.extract_mesh", "Extract Mesh", edit)

    def _draw_buttons(self, operator: str, text: str, edit: str | None) -> None:
        """One button for the selected edit and one for the unedited reconstruction."""
        row = self.layout.row(align=True)
        if edit is not None:
            row.operator(operator, text=text).edit = edit
        row.operator(operator, text="Unedited" if edit is not None else text).edit = ORIGINAL


CLASSES = (IN2N_PT_capture, IN2N_PT_reconstruct, IN2N_PT_edit, IN2N_UL_edits, IN2N_PT_results)
