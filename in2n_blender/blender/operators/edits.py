"""bpy.ops.in2n: what is done to an edit in the list, and loading what was made of it before."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import bpy
from bpy.props import StringProperty

from ...link.requests import Edit
from ...scene.errors import In2nError
from ...scene.reporting import Reporter
from ...workspace import edits
from ...workspace.layout import ORIGINAL, Workspace
from .. import compare, results, worker, workspaces
from ..properties import active_edit, children, chosen_edit
from .job import JobOperator, poll_capture, poll_engine, poll_idle, poll_reconstruction

EDIT = dict(name="Edit", description="The edit's name; left out: the one selected in the list", options={"SKIP_SAVE"})
RESULT_OF = dict(
    name="Edit",
    description="The edit; left out: the one selected in the list; “original”: the unedited reconstruction",
    options={"SKIP_SAVE"},
)


def poll_edit(cls, context) -> bool:
    """Part of polls: there is an edit to work on."""
    if not poll_capture(cls, context):
        return False
    if active_edit(context.scene) is None:
        cls.poll_message_set("There is no edit yet")
        return False
    return True


def named_edit(scene, argument: str) -> tuple[Workspace, str]:
    """The workspace and the edit that an operator's argument means. Raises In2nError("no_capture", "no_edit")."""
    _capture, workspace = workspaces.require(scene)
    name = argument or active_edit(scene)
    if name is None or name not in workspace.edits():
        raise In2nError("no_edit", f"There is no edit “{name or ''}”.", "Choose one from the list of edits.")
    return workspace, name


class _OnEdit:
    """An operator on one edit that does not take long. What it changes on disk Undo does not take back."""

    @classmethod
    def poll(cls, context):
        return poll_idle(cls) and poll_edit(cls, context)

    def execute(self, context):
        try:
            self.act(context, *named_edit(context.scene, self.edit))
        except In2nError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


def rename_edit(scene, old: str, new: str) -> None:
    """Rename an edit in the workspace, and everything in the .blend that knows it by name. Raises In2nError."""
    capture, workspace = workspaces.require(scene)
    edits.rename(workspace, old, new)
    for mesh in children(capture, "MESH"):
        if mesh.in2n.edit == old:
            mesh.in2n.edit = new
    before = workspace.root / "renders" / old
    for image in bpy.data.images:
        if image.library is None and str(image.get("in2n_frames", "")).startswith(f"{old}/"):
            file = Path(bpy.path.abspath(image.filepath))
            if before in file.parents:
                image["in2n_frames"] = f"{new}/{image['in2n_frames'].partition('/')[2]}"
                image.filepath = str(workspace.root / "renders" / new / file.relative_to(before))
    selected = active_edit(scene)
    workspaces.sync_edits(scene)
    workspaces.select_edit(scene, new if selected == old else selected or "")
    compare.show_chosen(scene, force=True)  # its photos lie elsewhere now


class IN2N_OT_rename_edit(_OnEdit, bpy.types.Operator):
    """Give the edit another name; its folder, its frames and its mesh get it too"""

    bl_idname = "in2n.rename_edit"
    bl_label = "Rename Edit"
    bl_options = {"REGISTER"}

    edit: StringProperty(**EDIT)
    name: StringProperty(
        name="New name", description="Letters, digits, spaces, “-”, “_” and “.”", options={"SKIP_SAVE"}
    )

    def invoke(self, context, event):
        self.edit = self.edit or active_edit(context.scene)
        self.name = self.edit
        return context.window_manager.invoke_props_dialog(self)

    def draw(self, context):
        self.layout.activate_init = True
        self.layout.prop(self, "name", text="")

    def act(self, context, workspace, edit):
        rename_edit(context.scene, edit, self.name.strip())


class IN2N_OT_duplicate_edit(JobOperator, bpy.types.Operator):
    """Copy the edit, to take one of the two further. Frames and meshes are not copied"""

    bl_idname = "in2n.duplicate_edit"
    bl_label = "Duplicate Edit"
    label = "Duplicate edit"

    edit: StringProperty(**EDIT)
    name: StringProperty(
        name="New name", description="The copy's name; left out: the edit's with a number", options={"SKIP_SAVE"}
    )

    @classmethod
    def poll(cls, context):
        return poll_idle(cls) and poll_edit(cls, context)

    def prepare(self, context):
        workspace, edit = named_edit(context.scene, self.edit)
        copy = self.name.strip() or edits.free_name(workspace, edit)

        def work(emit, cancelled):
            edits.duplicate(workspace, edit, copy, Reporter(emit, cancelled))

        def finish(context, scene, capture, result):
            workspaces.sync_edits(scene)
            workspaces.select_edit(scene, copy)
            return f"“{copy}” is a copy of “{edit}”."

        return work, finish


class IN2N_OT_remove_edit(_OnEdit, bpy.types.Operator):
    """Remove the edit with its frames and its mesh from the disk, for good"""

    bl_idname = "in2n.remove_edit"
    bl_label = "Remove Edit"
    bl_options = {"REGISTER"}

    edit: StringProperty(**EDIT)

    def invoke(self, context, event):
        from bpy.app.translations import pgettext_iface as iface

        name = self.edit or active_edit(context.scene)
        return context.window_manager.invoke_confirm(
            self,
            event,
            title=iface("Remove “{name}”?").format(name=name),
            message=iface("Its frames and its mesh are removed from the disk too. This cannot be undone."),
            confirm_text=iface("Remove"),
            icon="WARNING",
        )

    def act(self, context, workspace, edit):
        scene = context.scene
        position = scene.in2n.active_edit
        edits.remove(workspace, edit)
        capture, _workspace = workspaces.require(scene)
        for mesh in children(capture, "MESH"):
            if mesh.in2n.edit == edit and mesh.library is None:
                bpy.data.objects.remove(mesh)
        for image in [
            i for i in bpy.data.images if i.library is None and str(i.get("in2n_frames", "")).startswith(f"{edit}/")
        ]:
            if workspace.root / "renders" / edit in Path(bpy.path.abspath(image.filepath)).parents:
                bpy.data.images.remove(image)
        workspaces.sync_edits(scene)
        scene.in2n.active_edit = max(min(position, len(scene.in2n.edits) - 1), 0)
        compare.show_chosen(scene, force=True)


class IN2N_OT_use_edit_settings(_OnEdit, bpy.types.Operator):
    """Take the edit's instruction, editor, guidance and seed over into the settings above"""

    bl_idname = "in2n.use_edit_settings"
    bl_label = "Use Its Settings"
    bl_options = {"REGISTER", "UNDO"}

    edit: StringProperty(**EDIT)

    def act(self, context, workspace, edit):
        facts = edits.facts(workspace, edit)
        settings = context.scene.in2n
        settings.instruction = str(facts.get("instruction", settings.instruction))
        settings.seed = int(facts.get("seed", settings.seed))
        if "guidance_text" in facts and "guidance_image" in facts:
            settings.use_default_guidance = False
            settings.guidance_text, settings.guidance_image = facts["guidance_text"], facts["guidance_image"]
        if "editor" in facts:
            settings.set_editor(str(facts["editor"]))
        if facts.get("preset") in settings.bl_rna.properties["preset"].enum_items:
            settings.preset = facts["preset"]


class IN2N_OT_continue_edit(JobOperator, bpy.types.Operator):
    """Go on with an edit that was interrupted, from where it stopped, with its own settings"""

    bl_idname = "in2n.continue_edit"
    bl_label = "Continue Edit"
    label = "Edit"
    undo_step = True  # the cameras show the edited photos afterwards

    edit: StringProperty(**EDIT)

    @classmethod
    def poll(cls, context):
        return poll_idle(cls) and poll_edit(cls, context) and poll_engine(cls) and poll_reconstruction(cls, context)

    def prepare(self, context):
        workspace, name = named_edit(context.scene, self.edit)
        facts = edits.facts(workspace, name)
        if not facts.get("instruction"):
            raise In2nError("damaged_edit", f"The settings of “{name}” cannot be read.", "Remove it and edit again.")
        known = {field.name for field in dataclasses.fields(Edit)} - {"workspace", "name", "restart", "device"}
        recorded = {key: value for key, value in facts.items() if key in known}
        request = Edit(workspace=str(workspace.root), name=name, device=context.scene.in2n.device, **recorded)

        def finish(context, scene, capture, result):
            workspaces.sync_edits(scene)
            compare.show_result(scene, name)
            return f"Edited: “{name}” is ready."

        return worker.work([request]), finish


class IN2N_OT_compare(bpy.types.Operator):
    """Switch between before and after: photos behind their cameras, meshes and frames change all together"""

    bl_idname = "in2n.compare"
    bl_label = "Toggle Before/After"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        return poll_edit(cls, context)

    def execute(self, context):
        settings = context.scene.in2n
        settings.shown = "BEFORE" if settings.shown == "AFTER" else "AFTER"
        return {"FINISHED"}


class _Load:
    """Brings in what was made earlier; no engine is needed."""

    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        return poll_idle(cls) and poll_capture(cls, context)

    def execute(self, context):
        try:
            capture, workspace = workspaces.require(context.scene)
            self.report({"INFO"}, self.load(context, capture, workspace, chosen_edit(context.scene, self.edit)))
        except In2nError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class IN2N_OT_load_frames(_Load, bpy.types.Operator):
    """Show frames that were rendered before, in step with the timeline, in front of the scene's camera"""

    bl_idname = "in2n.load_frames"
    bl_label = "Load Frames"

    edit: StringProperty(**RESULT_OF)
    name: StringProperty(
        name="Path name", description="The camera path's name; left out: the path rendered last", options={"SKIP_SAVE"}
    )

    @classmethod
    def poll(cls, context):
        if not super().poll(context):
            return False
        if context.scene.camera is None or context.scene.camera.type != "CAMERA":
            cls.poll_message_set("The scene has no camera to show frames in")
            return False
        return True

    def load(self, context, capture, workspace, edit):
        paths = rendered_paths(workspace, edit)
        if not paths or (self.name and self.name not in paths):
            raise In2nError("no_frames", f"No frames of “{edit or ORIGINAL}” were rendered yet.", "Render them first.")
        name = self.name or list(paths)[-1]
        results.load_frames(context.scene, workspace.renders(edit, name), edit or ORIGINAL, name, paths[name])
        compare.show_result(context.scene, edit)
        return f"{len(paths[name])} frames of “{edit or ORIGINAL}” are in front of the camera."


def rendered_paths(workspace: Workspace, edit: str | None) -> dict[str, list[int]]:
    """Frame numbers of the camera paths that an edit was rendered along, by the path's name; the last rendered last."""
    folders = [f for f in (workspace.root / "renders" / (edit or ORIGINAL)).glob("*") if f.is_dir()]
    found = {f.name: _frame_numbers(f, f.stat().st_mtime_ns) for f in sorted(folders, key=lambda f: f.stat().st_mtime)}
    return {name: numbers for name, numbers in found.items() if numbers}


@functools.lru_cache(maxsize=64)
def _frame_numbers(folder: Path, _changed: int) -> list[int]:
    """Looked up again only when files have come or gone: panels ask at every redraw."""
    return sorted(int(p.stem) for p in folder.glob("[0-9]*.png") if p.stem.isdigit())


class IN2N_OT_load_mesh(_Load, bpy.types.Operator):
    """Bring in the mesh that was made of the edit before, under the capture"""

    bl_idname = "in2n.load_mesh"
    bl_label = "Load Mesh"

    edit: StringProperty(**RESULT_OF)

    def load(self, context, capture, workspace, edit):
        file = workspace.mesh(edit, ".ply")
        if not file.is_file():
            raise In2nError("no_mesh", f"No mesh of “{edit or ORIGINAL}” was made yet.", "Extract it first.")
        mesh = results.import_mesh(context, context.scene, capture, file, edit or ORIGINAL)
        compare.show_result(context.scene, edit)
        return f"Mesh of “{edit or ORIGINAL}”: {len(mesh.data.vertices):,} vertices."


CLASSES = (
    IN2N_OT_rename_edit,
    IN2N_OT_duplicate_edit,
    IN2N_OT_remove_edit,
    IN2N_OT_use_edit_settings,
    IN2N_OT_continue_edit,
    IN2N_OT_compare,
    IN2N_OT_load_frames,
    IN2N_OT_load_mesh,
)
