"""bpy.ops.in2n.edit: edit the reconstruction by an instruction."""

from __future__ import annotations

import re

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, StringProperty

from ...link.requests import Edit
from ...workspace import edits
from .. import compare, instructions, worker, workspaces
from ..request_properties import DEVICE_ITEMS, PRESET_ITEMS
from .job import JobOperator, edits_to_come, poll_capture, poll_engine, poll_queue, poll_reconstruction


class IN2N_OT_edit(JobOperator, bpy.types.Operator):
    bl_description = (
        "Edit the captured scene by the instruction: photos are edited and the reconstruction trained on "
        "them in turns. An interrupted edit of the same name goes on from its last checkpoint"
    )

    bl_idname = "in2n.edit"
    bl_label = "Edit"
    label = "Edit"
    undo_step = True  # the cameras show the edited photos afterwards

    instruction: StringProperty(
        name="Instruction", description="What to change; left out: the scene's instruction", options={"SKIP_SAVE"}
    )
    name: StringProperty(
        name="Name", description="The edit's name; left out: made from the instruction", options={"SKIP_SAVE"}
    )
    editor: StringProperty(
        name="Editor",
        description=(
            "“miniature”, “timbrooks/instruct-pix2pix” or a folder with such a model; left out: the scene's editor"
        ),
        options={"SKIP_SAVE"},
    )
    guidance_text: FloatProperty(
        name="Text guidance",
        description="How strongly the edit follows the instruction; left out: the scene's, or the editor's default",
        default=7.5,
        options={"SKIP_SAVE"},
    )
    guidance_image: FloatProperty(
        name="Image guidance",
        description="How strongly the edit stays with the photo; left out: the scene's, or the editor's default",
        default=1.5,
        options={"SKIP_SAVE"},
    )
    seed: IntProperty(
        name="Seed",
        description="The seed of everything random; left out: the scene's seed",
        min=0,
        options={"SKIP_SAVE"},
    )
    preset: EnumProperty(
        name="Preset",
        description="How long the edit runs; left out: the scene's preset",
        items=PRESET_ITEMS,
        options={"SKIP_SAVE"},
    )
    device: EnumProperty(
        name="Device",
        description="What the engine computes on; left out: the scene's device",
        items=DEVICE_ITEMS,
        options={"SKIP_SAVE"},
    )
    rounds: IntProperty(
        name="Rounds",
        description="How often every photo is edited; 0: as often as the preset wants",
        default=0,
        min=0,
        options={"SKIP_SAVE"},
    )
    parent: StringProperty(
        name="Build on",
        description="An edit whose scene and photos are edited further; left out: the unedited reconstruction",
        options={"SKIP_SAVE"},
    )
    restart: BoolProperty(
        name="Start over",
        description="Throw an edit of the same name away and begin again",
        default=False,
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context):
        return poll_queue(cls) and poll_capture(cls, context) and poll_engine(cls) and poll_reconstruction(cls, context)

    def prepare(self, context):
        settings = context.scene.in2n
        _capture, workspace = workspaces.require(context.scene)
        instruction = self.chosen_instruction(settings)
        name = self.name or edit_name(instruction, workspace, edits_to_come(workspace.root))

        def guidance(which):
            if settings.use_default_guidance and not self.properties.is_property_set(which):
                return None
            return self.chosen(settings, which)[which]

        request = Edit(
            workspace=str(workspace.root),
            name=name,
            instruction=instruction,
            editor=self.editor or settings.editor_id(),
            guidance_text=guidance("guidance_text"),
            guidance_image=guidance("guidance_image"),
            rounds=self.rounds or None,
            restart=self.restart,
            parent=self.parent or None,
            **self.chosen(settings, "seed", "preset", "device"),
        )

        instructions.remember(instruction)

        def finish(context, scene, capture, result):
            workspaces.sync_edits(scene)
            compare.show_result(scene, name)
            return f"Edited: “{name}” is ready."

        return worker.work([request]), finish


def edit_name(instruction: str, workspace, taken=()) -> str:
    """A folder name made from an instruction: its first words, numbered when that name is taken."""
    words = re.findall(r"[A-Za-z0-9]+", instruction)[:6]
    return edits.free_name(workspace, "-".join(words).lower()[:48].strip("-") or "edit", taken)


CLASSES = (IN2N_OT_edit,)
