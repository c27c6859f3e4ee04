"""bpy.ops.in2n: what is done to an edit in the list."""

from __future__ import annotations

import dataclasses

import bpy
from bpy.app.translations import pgettext_iface as iface
from bpy.props import BoolProperty, StringProperty

from ...link.requests import METHODS, ONCE_THE_ONLY_METHOD, Edit
from ...models import catalogue
from ...scene.errors import In2nError
from ...scene.readers.regions import read_region
from ...workspace import edits
from ...workspace.layout import KEY_VIEW, REGION_FILE, Workspace
from ...workspace.provenance import is_done
from .. import compare, edit_list, instructions, jobs, regions, underway, workspaces
from ..request_properties import argument
from ..scene_state import active_capture, active_edit
from .job import JobOperator
from .polls import poll_capture, poll_engine, poll_idle, poll_queue, poll_reconstruction

EDIT = dict(name="Edit", description="The edit's name; left out: the one selected in the list", options={"SKIP_SAVE"})


def poll_edit(cls, context) -> bool:
    """Part of polls: there is an edit to work on."""
    if not poll_capture(cls, context):
        return False
    if active_edit(context.scene) is None:
        cls.poll_message_set("There is no edit yet")
        return False
    return True


def named_edit(scene, argument: str) -> tuple[Workspace, str]:
    """The workspace and the edit that an operator's argument means.

    Args:
        scene: The capture's.
        argument: The edit's name; "": the one selected in the list.

    Returns:
        (The workspace, the edit's name).

    Raises:
        In2nError: "no_capture", "no_edit".
    """
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


class IN2N_OT_rename_edit(_OnEdit, bpy.types.Operator):
    """Give the edit another name; its folder, its frames and its mesh get it too"""

    bl_idname = "in2n.rename_edit"
    bl_label = "Rename Edit"
    bl_options = {"REGISTER"}

    edit: StringProperty(**EDIT)
    name: StringProperty(
        name="New Name", description="Letters, digits, spaces, “-”, “_” and “.”", options={"SKIP_SAVE"}
    )

    def invoke(self, context, event):
        self.edit = self.edit or active_edit(context.scene)
        self.name = self.edit
        return context.window_manager.invoke_props_dialog(self)

    def draw(self, context):
        self.layout.activate_init = True
        self.layout.prop(self, "name", text="")

    def act(self, context, workspace, edit):
        edit_list.rename(context.scene, edit, self.name.strip())


class IN2N_OT_duplicate_edit(JobOperator, bpy.types.Operator):
    """Copy the edit, to take one of the two further. Frames and meshes are not copied"""

    bl_idname = "in2n.duplicate_edit"
    bl_label = "Duplicate Edit"
    label = "Duplicate Edit"

    edit: StringProperty(**EDIT)
    name: StringProperty(
        name="New Name", description="The copy's name; left out: the edit's with a number", options={"SKIP_SAVE"}
    )

    @classmethod
    def poll(cls, context):
        return poll_idle(cls) and poll_edit(cls, context)

    def prepare(self, context):
        workspace, edit = named_edit(context.scene, self.edit)
        copy = self.name.strip() or edits.free_name(workspace, edit)

        def work(report):
            edits.duplicate(workspace, edit, copy, report)

        def finish(context, scene, capture, result):
            workspaces.sync_edits(scene)
            workspaces.select_edit(scene, copy)
            return f"“{copy}” is a copy of “{edit}”."

        return [work], finish


class IN2N_OT_remove_edit(_OnEdit, bpy.types.Operator):
    """Remove the edit with its frames and its mesh from the disk, for good"""

    bl_idname = "in2n.remove_edit"
    bl_label = "Remove Edit"
    bl_options = {"REGISTER"}

    edit: StringProperty(**EDIT)

    def invoke(self, context, event):
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
        edit_list.remove(context.scene, edit)


class IN2N_OT_use_edit_settings(_OnEdit, bpy.types.Operator):
    """Take the edit's instruction, model, guidance, seed and region over into the settings above"""

    bl_idname = "in2n.use_edit_settings"
    bl_label = "Use Its Settings"
    bl_options = {"REGISTER", "UNDO"}

    edit: StringProperty(**EDIT)

    def act(self, context, workspace, edit):
        scene, record = context.scene, edits.read_edit(workspace, edit)
        region = read_region(workspace.edit(edit) / REGION_FILE) if record.get("region") else None
        try:
            _take_over(record, scene.in2n)
        except (TypeError, ValueError, OverflowError):
            raise _damaged(edit) from None
        if region is None:
            scene.in2n.region = None
        else:
            regions.bring_back(scene, active_capture(scene), workspace, region)


def _take_over(record: dict, settings) -> None:
    settings.instruction = str(record.get("instruction", settings.instruction))
    settings.negative_prompt = str(record.get("negative_prompt", ""))
    settings.seed = int(record.get("seed", settings.seed))
    if record.get("method") in METHODS:
        settings.editing_method = record["method"]
    if "guidance_text" in record and "guidance_image" in record:
        settings.use_default_guidance = False
        for name in ("guidance_text", "guidance_image"):
            if record[name] is not None:  # else the model has no such scale
                setattr(settings, name, record[name])
    if "editor" in record:
        settings.set_editor(str(record["editor"]))
    if record.get("preset") in settings.bl_rna.properties["preset"].enum_items:
        settings.preset = record["preset"]


def _damaged(edit: str) -> In2nError:
    return In2nError("damaged_edit", f"The settings of “{edit}” cannot be read.", "Remove it and edit again.")


class IN2N_OT_continue_edit(JobOperator, bpy.types.Operator):
    bl_description = (
        "Go on with an edit that was interrupted, from where it stopped, or make it again, with its own settings"
    )

    bl_idname = "in2n.continue_edit"
    bl_label = "Continue Edit"
    label = "Edit"
    undo_step = True  # the cameras show the edited photos afterwards

    edit: StringProperty(**EDIT)
    restart: argument(Edit, "restart")
    beside: BoolProperty(
        name="Beside",
        description="Make it again under a name of its own, beside the edit that is there",
        default=False,
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context):
        return poll_idle(cls) and poll_edit(cls, context) and poll_engine(cls) and poll_reconstruction(cls, context)

    def invoke(self, context, event):
        if not self.restart:
            return self.execute(context)
        return context.window_manager.invoke_confirm(
            self,
            event,
            title=iface("Make “{name}” again?").format(name=self.edit or active_edit(context.scene)),
            message=iface("It is replaced when the new one is done.") + self._of_segments(context),
            confirm_text=iface("Make Again"),
        )

    def _of_segments(self, context) -> str:
        """What is said of an edit whose settings were changed on its way: another sentence, or nothing."""
        workspace, name = named_edit(context.scene, self.edit)
        if len(edits.segments_in(edits.read_edit(workspace, name))) == 1:
            return ""
        return " " + iface("It is made with its last instruction and guidance throughout.")

    def prepare(self, context):
        workspace, name = named_edit(context.scene, self.edit)
        request = request_again(context.scene, workspace, name)
        if self.beside:
            name = edits.free_name(workspace, name, underway.edits_to_come(workspace.root))
        request = dataclasses.replace(request, name=name, restart=self.restart and not self.beside)
        return [request], shows_edit(name)


def request_again(scene, workspace: Workspace, name: str) -> Edit:
    """The request that goes on with an edit, from what its record says.

    Args:
        scene: Says which device.
        workspace: Where the edit is.
        name: The edit's.

    Raises:
        In2nError: "damaged_edit".
    """
    record = edits.read_edit(workspace, name)
    if not record.get("instruction"):
        raise _damaged(name)
    unrecorded = {"workspace", "name", "restart", "apply_from_here", "device"}
    known = {field.name for field in dataclasses.fields(Edit)} - unrecorded
    recorded = {key: value for key, value in record.items() if key in known}
    recorded["editing_method"] = record.get("method", ONCE_THE_ONLY_METHOD)
    if record.get("region"):
        recorded["region"] = str(workspace.edit(name) / REGION_FILE)
    if "key_view" in recorded:
        recorded["key_view"] = str(workspace.edit(name) / KEY_VIEW)
    return Edit(workspace=str(workspace.root), name=name, device=scene.in2n.device, **recorded)


def shows_edit(name: str):
    """What is done when an edit is ready, as `JobOperator.prepare` returns it.

    Args:
        name: The edit's.
    """

    def finish(context, scene, capture, result):
        workspaces.sync_edits(scene)
        compare.show_result(scene, name)
        return f"Edited: “{name}” is ready."

    return finish


class IN2N_OT_apply_from_here(JobOperator, bpy.types.Operator):
    bl_description = (
        "Go on with the edit that is being made, or was interrupted, with the instruction, guidance and region above: "
        "from its next photo on. What was edited so far stays until its turn comes again"
    )

    bl_idname = "in2n.apply_from_here"
    bl_label = "Apply From Here"
    label = "Edit"
    first = True
    undo_step = True  # the cameras show the edited photos afterwards

    edit: StringProperty(**EDIT)

    @classmethod
    def poll(cls, context):
        if not (poll_queue(cls) and poll_capture(cls, context) and poll_engine(cls)):
            return False
        folder = workspaces.workspace_of(context.scene)
        if underway.running_edit(folder) is None and (jobs.busy() or not poll_edit(cls, context)):
            return False
        if not context.scene.in2n.instruction.strip():
            cls.poll_message_set("Type what to change")
            return False
        return True

    def execute(self, context):
        running = underway.running_edit(workspaces.workspace_of(context.scene))
        done = super().execute(context)
        if done == {"FINISHED"} and running is not None:
            jobs.cancel(running[0])  # it saves, and the job that was just queued goes on with it
        return done

    def prepare(self, context):
        settings, (capture, workspace) = context.scene.in2n, workspaces.require(context.scene)
        running = underway.running_edit(workspace.root)
        if running is not None:
            request = running[1]
        else:
            request = request_again(context.scene, *named_edit(context.scene, self.edit))
            if is_done(workspace, request.name):
                raise In2nError(
                    "edit_done",
                    f"“{request.name}” is finished.",
                    "Build on it instead: “Build on This Edit”.",
                )
        instruction = settings.instruction.strip()
        catalogue.find(request.editor).check_instruction(instruction)  # before anything is stopped for it
        region = regions.chosen_region(context.scene, capture, workspace)
        text, image = instructions.set_guidance(settings, request.editor)
        request = dataclasses.replace(
            request,
            instruction=instruction,
            region=None if region is None else str(region),
            soft_edge=None,
            guidance_text=text,
            guidance_image=image,
            restart=False,
            apply_from_here=True,
        )
        instructions.remember(instruction)
        return [request], shows_edit(request.name)


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


CLASSES = (
    IN2N_OT_rename_edit,
    IN2N_OT_duplicate_edit,
    IN2N_OT_remove_edit,
    IN2N_OT_use_edit_settings,
    IN2N_OT_continue_edit,
    IN2N_OT_apply_from_here,
    IN2N_OT_compare,
)
