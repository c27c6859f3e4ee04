"""The sidebar of the 3D Viewport, tab IN2N: the steps from a capture to its edits, in the order an artist takes them.

Drawing never changes anything. A step that cannot be taken yet is greyed out and says why.
"""

from __future__ import annotations

import functools
from pathlib import Path

import blf
import bpy
from bpy.app.translations import pgettext_iface as iface

from ..workspace.layout import ORIGINAL, Workspace
from . import instructions, pictures, results, tasks, worker, workspaces
from .operators import job as jobs
from .operators.edits import rendered_paths
from .operators.presets import IN2N_PT_edit_presets
from .properties import active_capture, active_edit

# Which panel shows a job, by the job's label; a job that is not listed here shows in the first panel.
RECONSTRUCT_JOBS, EDIT_JOBS, LIST_JOBS, RESULT_JOBS = (
    ("Reconstruct",),
    ("Edit", "Preview"),
    ("Duplicate edit",),
    ("Render frames", "Extract mesh"),
)
ELSEWHERE = ("Import", *RECONSTRUCT_JOBS, *EDIT_JOBS, *LIST_JOBS, *RESULT_JOBS)
UNIT = 20  # pixels of a button's height, before the interface's scale


def draw_job(layout, context=None) -> None:
    """The running job: what it does, how far it is, what it made last (where a context is given), and Cancel."""
    job = tasks.current()
    if job is None or job.done:
        return
    box = layout.box()
    box.label(text=job.doing(), translate=False)
    box.progress(factor=job.factor, text=job.counted())
    if context is not None and job.image:
        _draw_live(box, context, job)
    row = box.row(align=True)
    row.operator("in2n.cancel", icon="X")
    row.operator("in2n.show_log", text="", icon="TEXT")
    for index, label in enumerate(waiting.label for waiting in jobs.waiting()):
        row = box.row(align=True)
        row.label(text=iface("Then: {job}").format(job=iface(label)), icon="SORTTIME", translate=False)
        row.operator("in2n.cancel_waiting", text="", icon="X").index = index


def draw_offer(layout, context, *labels: str) -> bool:
    """The job that did not come to its end, if it was one of these, to be gone on with; whether there is one."""
    left = None if tasks.running() else jobs.offered(context.scene)
    if left is None or left.label not in labels:
        return False
    box = layout.box()
    done = iface("{job}: {percent} % done.").format(job=iface(left.label), percent=int(100 * left.factor))
    told = context.scene.in2n.status and context.scene.in2n.status_of == left.label
    _wrapped(box, done if told else f"{done} {left.why}", context, "RECOVER_LAST")
    row = box.row(align=True)
    row.operator("in2n.resume", icon="PLAY")
    row.operator("in2n.show_log", text="", icon="TEXT")
    row.operator("in2n.dismiss", text="", icon="X")
    return True


def _columns_of_pictures(context, columns: int, most: float = 100.0) -> float:
    """The scale of pictures that fit so many times beside each other into a box of the sidebar."""
    return min(max((context.region.width / context.preferences.system.ui_scale - 62) / UNIT / columns, 2), most)


def _draw_live(layout, context, job) -> None:
    """The picture that the job made last; for an edit the photo and what it became, beside each other."""
    last = Path(job.image)
    edited = pictures.newest(last.parent / "dataset") if job.label == "Edit" else None
    if edited is None:
        layout.template_icon(pictures.icon(last), scale=_columns_of_pictures(context, 1, most=10))
        return
    row = layout.row(align=True)
    photo = last.parents[2] / "images" / edited.name
    for file, title in ((photo, "Photo"), (edited, "Edit")):
        column = row.column(align=True)
        column.template_icon(pictures.icon(file), scale=_columns_of_pictures(context, 2, most=10))
        centered = column.row()
        centered.alignment = "CENTER"
        centered.label(text=title)


def _wrapped(layout, text: str, context, icon: str = "NONE") -> None:
    """A text over as many lines as it needs; Blender's labels do not wrap."""
    scale = context.preferences.system.ui_scale
    width = max(context.region.width - (80 if icon != "NONE" else 60) * scale, 100 * scale)
    blf.size(0, bpy.context.preferences.ui_styles[0].widget.points * scale)
    line, lines = "", []
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and blf.dimensions(0, longer)[0] > width:
            lines.append(line)
            longer = word
        line = longer
    column = layout.column(align=True)
    column.scale_y = 0.8
    for index, part in enumerate([*lines, line]):
        column.label(text=part, icon=icon if index == 0 else ("BLANK1" if icon != "NONE" else "NONE"), translate=False)


class _Panel:
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "IN2N"

    @staticmethod
    def fields(layout):
        """A column for settings: labels at the left, values at the right."""
        column = layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        return column

    def draw_running(self, context, *labels: str) -> bool:
        """The running job if it is one of these; whether it is."""
        job = tasks.current()
        if not tasks.running() or job.label not in labels:
            return False
        draw_job(self.layout, context if job.label != "Preview" else None)  # previews are in the grid
        return True

    def draw_outcome(self, context, *labels: str) -> bool:
        """How the last job ended, if it was one of these; whether it is offered to be gone on with."""
        settings, job = context.scene.in2n, tasks.current()
        if settings.status and settings.status_of in labels and not tasks.running():
            failed = job is not None and job.failed
            _wrapped(self.layout, settings.status, context, "ERROR" if failed else "INFO")
            if failed and jobs.offered(context.scene) is None:
                self.layout.operator("in2n.show_log", icon="TEXT")
        return draw_offer(self.layout, context, *labels)

    def draw_needs(self, context, reconstruction: bool = False) -> bool:
        """What is missing before this step can be taken, in one line; whether something is."""
        reason = what_is_missing(context, reconstruction)
        if reason:
            column = self.layout.column()
            column.active = False
            _wrapped(column, iface(reason), context, "INFO")
        return bool(reason)


def what_is_missing(context, reconstruction: bool) -> str:
    """The step that has to be taken first, or ""."""
    if active_capture(context.scene) is None:
        return "Import a capture first."
    if worker.engine_python() is None:
        return "Install the engine first."
    if (
        reconstruction
        and not _is_reconstructed(context.scene)
        and not jobs.reconstruction_to_come(workspaces.workspace_of(context.scene))
    ):
        return "Reconstruct the capture first."
    return ""


def _is_reconstructed(scene) -> bool:
    folder = workspaces.workspace_of(scene)
    return folder is not None and workspaces.has_reconstruction(Workspace(folder))


def _big(layout, operator: str, **arguments):
    row = layout.row()
    row.scale_y = 1.4
    return row.operator(operator, **arguments)


class IN2N_PT_capture(_Panel, bpy.types.Panel):
    bl_idname = "IN2N_PT_capture"
    bl_label = "Capture"

    def draw_header_preset(self, context):
        if active_capture(context.scene):
            self.layout.label(text="", icon="CHECKMARK")

    def draw(self, context):
        layout = self.layout
        settings = context.scene.in2n
        capture = active_capture(context.scene)
        if tasks.running() and tasks.current().label not in ELSEWHERE:
            draw_job(layout)
        elif worker.engine_python() is None:
            box = layout.box()
            _wrapped(box, iface("The engine is not installed yet. It reconstructs and edits."), context, "INFO")
            box.operator("in2n.install_engine", icon="IMPORT")
        if settings.status and settings.status_of not in ELSEWHERE and not tasks.running():
            _wrapped(layout, settings.status, context, "INFO")
        if capture is None:
            _big(layout, "in2n.import_capture", text="Import Capture…", icon="IMPORT")
            _wrapped(layout, iface("Or drop a transforms.json or a COLMAP file into the viewport."), context)
            return
        self._draw_capture(context, capture)
        self._draw_placing(layout)
        self._draw_workspace(context, capture)
        layout.operator("in2n.import_capture", text="Import Another…", icon="IMPORT")

    def _draw_capture(self, context, capture) -> None:
        scene, layout = context.scene, self.layout
        captures, photos, points = _counts(scene.session_uid, capture.session_uid, len(bpy.data.objects))
        if captures > 1:
            self.fields(layout).prop(scene.in2n, "capture")
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
        draw_photo_chooser(layout, scene)

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
            _wrapped(
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


@functools.lru_cache(maxsize=8)
def _has_mesh(scene_uid: int, _objects: int) -> bool:
    return any(o.in2n.role == "MESH" for s in bpy.data.scenes if s.session_uid == scene_uid for o in s.objects)


def draw_photo_chooser(layout, scene) -> None:
    """The photo looked through, with buttons for the one before and after it."""
    row = layout.row(align=True)
    row.operator("in2n.look_through", text="", icon="TRIA_LEFT").direction = "PREVIOUS"
    shown = scene.camera.in2n.photo if scene.camera and scene.camera.in2n.role == "CAMERA" else ""
    row.operator("in2n.look_through", text=shown or "Look Through Photos", translate=not shown).direction = "CURRENT"
    row.operator("in2n.look_through", text="", icon="TRIA_RIGHT").direction = "NEXT"


class IN2N_PT_reconstruct(_Panel, bpy.types.Panel):
    bl_idname = "IN2N_PT_reconstruct"
    bl_label = "Reconstruct"

    def draw_header_preset(self, context):
        if _is_reconstructed(context.scene):
            self.layout.label(text="", icon="CHECKMARK")

    def draw(self, context):
        layout, settings = self.layout, context.scene.in2n
        if self.draw_needs(context):
            _big(layout, "in2n.reconstruct", icon="MESH_ICOSPHERE")
            return
        column = self.fields(layout)
        column.prop(settings, "preset")
        column.prop(settings, "device")
        self._draw_corrections(layout, settings)
        if self.draw_running(context, *RECONSTRUCT_JOBS):
            return
        if self.draw_outcome(context, *RECONSTRUCT_JOBS):
            return
        folder = workspaces.workspace_of(context.scene)
        state = pictures.read(Workspace(folder).reconstruction / "state.json") if folder else {}
        if not state:
            _big(layout, "in2n.reconstruct", icon="MESH_ICOSPHERE")
        elif state.get("done"):
            layout.operator_context = "INVOKE_DEFAULT"  # asks first
            layout.operator("in2n.reconstruct", text="Reconstruct Again", icon="FILE_REFRESH").restart = True
        else:
            _big(layout, "in2n.reconstruct", text="Continue Reconstruction", icon="PLAY")

    def _draw_corrections(self, layout, settings) -> None:
        header, body = layout.panel("in2n_corrections", default_closed=True)
        header.label(text="Corrections")
        if body is None:
            return
        column = self.fields(body)
        column.prop(settings, "appearance")
        column.prop(settings, "refine_cameras")


class IN2N_PT_edit(_Panel, bpy.types.Panel):
    bl_idname = "IN2N_PT_edit"
    bl_label = "Edit"

    def draw_header_preset(self, context):
        IN2N_PT_edit_presets.draw_panel_header(self.layout)

    def draw(self, context):
        layout, settings = self.layout, context.scene.in2n
        if self.draw_needs(context):
            _big(layout, "in2n.edit", text="Start Edit", icon="BRUSH_DATA")
            return
        row = layout.row(align=True)
        row.prop(settings, "instruction", text="", placeholder=iface("Make it look like autumn"))
        row.menu("IN2N_MT_instructions", text="", icon="DOWNARROW_HLT")
        column = self.fields(layout)
        column.prop(settings, "editor")
        if settings.editor == "folder":
            column.prop(settings, "editor_folder")
        column.prop(settings, "seed")
        self._draw_guidance(context, layout)
        layout.separator(factor=0.5)
        if not self.draw_running(context, *EDIT_JOBS):
            self.draw_outcome(context, *EDIT_JOBS)
        if not self.draw_needs(context, reconstruction=True) and not settings.instruction.strip():
            _wrapped(layout, iface("Type what to change."), context, "INFO")
        column = layout.column()
        column.enabled = bool(settings.instruction.strip())
        _big(column, "in2n.edit", text="Edit Next" if tasks.running() else "Start Edit", icon="BRUSH_DATA")

    def _draw_guidance(self, context, layout) -> None:
        settings = context.scene.in2n
        header, body = layout.panel("in2n_guidance", default_closed=False)
        header.label(text="Guidance")
        if body is None:
            return
        column = self.fields(body)
        column.prop(settings, "use_default_guidance", text="Editor's Own")
        scales = column.column(align=True)
        if settings.use_default_guidance:
            text, image = instructions.own_guidance(settings.editor_id())
            scales.active = False
            own = scales.split(factor=0.4)
            own.label(text="")
            own.label(text=iface("Text {text:g} · Image {image:g}").format(text=text, image=image), translate=False)
        else:
            scales.prop(settings, "guidance_text")
            scales.prop(settings, "guidance_image")
        body.separator(factor=0.5)
        draw_photo_chooser(body, context.scene)
        row = body.row(align=True)
        row.enabled = bool(settings.instruction.strip())
        row.operator("in2n.preview", text="Preview Grid", icon="MESH_GRID").grid = True
        row.operator("in2n.preview", text="Preview One", icon="IMAGE_DATA").grid = False
        draw_previews(context, body)


def draw_previews(context, layout) -> None:
    """The pictures of the last preview, each over a button that takes its guidance over."""
    settings, folder = context.scene.in2n, workspaces.workspace_of(context.scene)
    if folder is None or not settings.preview:
        return
    folder = folder / "previews" / settings.preview
    record = pictures.read(folder / "preview.json")
    cells = [cell for cell in record.get("pictures", ()) if {"file", "guidance_text", "guidance_image"} <= set(cell)]
    if not cells:
        return
    columns = max(len({cell["guidance_text"] for cell in cells}), 2)
    scale = _columns_of_pictures(context, columns)
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
    button = column.operator("in2n.use_guidance", text=f"{text:g} · {image:g}", translate=False, depress=chosen)
    button.guidance_text, button.guidance_image = text, image


class IN2N_UL_edits(bpy.types.UIList):
    """The edits of the workspace."""

    def draw_item(self, context, layout, data, item, icon, active_data, active_property, index=0, flt_flag=0):
        folder = workspaces.workspace_of(context.scene)
        finished = folder is not None and pictures.read(folder / "edits" / item.name / "state.json").get("done")
        layout.prop(item, "title", text="", emboss=False, icon="BRUSH_DATA" if finished else "PAUSE")


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


class IN2N_PT_edits(_Panel, bpy.types.Panel):
    bl_idname = "IN2N_PT_edits"
    bl_label = "Edits"

    def draw(self, context):
        layout, settings = self.layout, context.scene.in2n
        if not len(settings.edits):
            if not self.draw_needs(context, reconstruction=True):
                _wrapped(layout, iface("No edit yet: type an instruction above."), context, "INFO")
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
        if self.draw_running(context, *LIST_JOBS):
            return
        self.draw_outcome(context, *LIST_JOBS)
        self._draw_selected(context)

    def _draw_selected(self, context) -> None:
        folder, edit = workspaces.workspace_of(context.scene), active_edit(context.scene)
        if folder is None or edit is None:
            return
        facts = pictures.read(folder / "edits" / edit / "edit.json")
        box = self.layout.box()
        _wrapped(box, f"“{facts.get('instruction', edit)}”", context)
        if {"guidance_text", "guidance_image", "seed"} <= set(facts):
            text = iface("Text {text:g} · Image {image:g} · Seed {seed}").format(
                text=facts["guidance_text"], image=facts["guidance_image"], seed=facts["seed"]
            )
            row = box.row()
            row.active = False
            row.label(text=text, translate=False)
        if not pictures.read(folder / "edits" / edit / "state.json").get("done"):
            if not tasks.running():
                self.layout.operator("in2n.continue_edit", icon="PLAY")
        elif context.scene.in2n.instruction.strip():
            self.layout.operator("in2n.edit", text="Build on This Edit", icon="ADD").parent = edit


class IN2N_PT_results(_Panel, bpy.types.Panel):
    bl_idname = "IN2N_PT_results"
    bl_label = "Results"

    def draw(self, context):
        layout, scene = self.layout, context.scene
        settings = scene.in2n
        if self.draw_needs(context, reconstruction=True) and not _is_reconstructed(scene):
            return
        running = self.draw_running(context, *RESULT_JOBS)
        if not running:
            self.draw_outcome(context, *RESULT_JOBS)
        edit = active_edit(scene) if settings.shown == "AFTER" else None
        row = layout.row()
        row.label(
            text=iface("Of “{name}”").format(name=edit) if edit else iface("Of the unedited capture"),
            icon="BRUSH_DATA" if edit else "CAMERA_DATA",
            translate=False,
        )
        self._draw_frames(context, edit)
        self._draw_mesh(context, edit)

    def _draw_frames(self, context, edit: str | None) -> None:
        scene, workspace = context.scene, Workspace(workspaces.workspace_of(context.scene))
        box = self.layout.box()
        box.label(
            text=iface("Frames {first}–{last}, {camera}").format(
                first=scene.frame_start,
                last=scene.frame_end,
                camera=scene.camera.name if scene.camera else iface("no camera"),
            ),
            icon="RENDER_ANIMATION",
            translate=False,
        )
        row = box.row(align=True)
        row.operator("in2n.render_path", text="Render Frames", icon="RENDER_ANIMATION").edit = edit or ORIGINAL
        for name, numbers in rendered_paths(workspace, edit).items():
            loaded = box.row(align=True)
            loaded.label(text=f"{name} · {len(numbers)}", icon="FILE_MOVIE", translate=False)
            load = loaded.operator("in2n.load_frames", text="Load")
            load.edit, load.name = edit or ORIGINAL, name
            loaded.operator("wm.path_open", text="", icon="FILEBROWSER").filepath = str(workspace.renders(edit, name))
        if scene.camera is not None and scene.camera.type == "CAMERA":
            for background in results.frame_backgrounds(scene.camera.data):
                box.prop(background, "show_background_image", text=background.image.name, translate=False)

    def _draw_mesh(self, context, edit: str | None) -> None:
        workspace = Workspace(workspaces.workspace_of(context.scene))
        box = self.layout.box()
        self.fields(box).prop(context.scene.in2n, "mesh_resolution", text="Mesh Grid")
        row = box.row(align=True)
        row.operator("in2n.extract_mesh", text="Extract Mesh", icon="MESH_DATA").edit = edit or ORIGINAL
        if workspace.mesh(edit, ".ply").is_file():
            row.operator("in2n.load_mesh", text="Load").edit = edit or ORIGINAL
        shading = context.space_data.shading
        if (
            shading.type == "SOLID"
            and shading.color_type != "VERTEX"
            and _has_mesh(context.scene.session_uid, len(bpy.data.objects))
        ):
            box.operator("in2n.show_colors", icon="COLOR")


class IN2N_MT_capture(bpy.types.Menu):
    """All steps in one menu, so that they are found by Blender's menu search."""

    bl_idname = "IN2N_MT_capture"
    bl_label = "Capture (IN2N)"

    def draw(self, context):
        layout = self.layout
        layout.operator_context = "INVOKE_DEFAULT"
        for operators in (
            ("import_capture", "look_through"),
            ("set_up", "set_ground", "set_scale"),
            ("reconstruct", "preview", "edit"),
            ("compare", "continue_edit", "rename_edit", "duplicate_edit", "remove_edit", "use_edit_settings"),
            ("render_path", "load_frames", "extract_mesh", "load_mesh"),
            ("cancel", "show_log"),
        ):
            for name in operators:
                layout.operator(f"in2n.{name}")
            layout.separator()


def _menu_entry(self, context):
    self.layout.separator()
    self.layout.menu("IN2N_MT_capture")


CLASSES = (
    IN2N_PT_capture,
    IN2N_PT_reconstruct,
    IN2N_PT_edit,
    IN2N_UL_edits,
    IN2N_MT_edit_specials,
    IN2N_PT_edits,
    IN2N_PT_results,
    IN2N_MT_capture,
)


def attach() -> None:
    bpy.types.VIEW3D_MT_object.append(_menu_entry)


def detach() -> None:
    bpy.types.VIEW3D_MT_object.remove(_menu_entry)
