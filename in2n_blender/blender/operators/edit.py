"""bpy.ops.in2n.edit: edit the reconstruction by an instruction."""

from __future__ import annotations

import re

import bpy

from ...link.requests import CARRYING, Edit
from ...models.catalogue import INSTRUCT_PIX2PIX
from ...workspace import edits
from .. import instructions, key_view, regions, underway, workspaces
from ..request_properties import argument
from .edits import shows_edit
from .job import JobOperator
from .polls import poll_capture, poll_engine, poll_queue, poll_reconstruction


class IN2N_OT_edit(JobOperator, bpy.types.Operator):
    bl_description = (
        "Edit the captured scene by the instruction: photos are edited and the reconstruction trained on "
        "them in turns. An interrupted edit of the same name goes on from its last checkpoint"
    )

    bl_idname = "in2n.edit"
    bl_label = "Edit"
    label = "Edit"
    undo_step = True  # the cameras show the edited photos afterwards

    instruction: argument(Edit, "instruction", left_out="the scene's instruction")
    name: argument(Edit, "name")
    negative_prompt: argument(Edit, "negative_prompt", left_out="the scene's, where the model takes one")
    editor: argument(Edit, "editor", left_out="the scene's model", default="")
    guidance_text: argument(
        Edit, "guidance_text", left_out="the scene's, or the model's default", default=INSTRUCT_PIX2PIX.guidance_text
    )
    guidance_image: argument(
        Edit, "guidance_image", left_out="the scene's, or the model's default", default=INSTRUCT_PIX2PIX.guidance_image
    )
    seed: argument(Edit, "seed", left_out="the scene's seed")
    preset: argument(Edit, "preset", left_out="the scene's preset")
    device: argument(Edit, "device", left_out="the scene's device")
    memory_plan: argument(Edit, "memory_plan", left_out="the scene's")
    editing_method: argument(Edit, "editing_method", left_out="the scene's method")
    region: argument(Edit, "region", left_out="the scene's region")
    soft_edge: argument(Edit, "soft_edge", left_out="what the file says")
    key_view: argument(Edit, "key_view", left_out="the preview that was chosen")
    rounds: argument(Edit, "rounds")
    parent: argument(Edit, "parent")
    restart: argument(Edit, "restart")

    @classmethod
    def poll(cls, context):
        return poll_queue(cls) and poll_capture(cls, context) and poll_engine(cls) and poll_reconstruction(cls, context)

    def prepare(self, context):
        settings = context.scene.in2n
        capture, workspace = workspaces.require(context.scene)
        instruction = self.chosen_instruction(settings)
        name = self.name or edit_name(instruction, workspace, underway.edits_to_come(workspace.root))

        editor = self.editor or settings.editor_id()
        text, image = (
            getattr(self, name) if self.properties.is_property_set(name) else scale
            for name, scale in zip(("guidance_text", "guidance_image"), instructions.set_guidance(settings, editor))
        )

        method = self.chosen(settings, "editing_method")["editing_method"]
        preview = key_view.chosen(context.scene) if method == CARRYING and not self.instruction else None
        request = Edit(
            workspace=str(workspace.root),
            name=name,
            instruction=instruction,
            negative_prompt=self.negative_prompt or instructions.negative_prompt(settings, editor),
            editor=editor,
            guidance_text=text,
            guidance_image=image,
            rounds=self.rounds or None,
            **self._region(context.scene, capture, workspace),
            restart=self.restart,
            parent=self.parent or None,
            key_view=self.key_view or (str(preview) if preview else None),
            **self.chosen(settings, "seed", "preset", "device", "memory_plan", "editing_method"),
        )

        instructions.remember(instruction)

        return [request], shows_edit(name)

    def _region(self, scene, capture, workspace) -> dict:
        """The fields that limit the edit: a file that was given, else the scene's region."""
        given = self.properties.is_property_set
        if given("region"):
            return {"region": self.region or None, "soft_edge": self.soft_edge if given("soft_edge") else None}
        file = regions.chosen_region(scene, capture, workspace)
        return {"region": None if file is None else str(file)}


def edit_name(instruction: str, workspace, taken=()) -> str:
    """A folder name made from an instruction: its first words, numbered when that name is taken.

    Args:
        instruction: What to change.
        workspace: Where the edit will lie.
        taken: Names of edits that are about to be made.
    """
    words = re.findall(r"[A-Za-z0-9]+", instruction)[:6]
    return edits.free_name(workspace, "-".join(words).lower()[:48].strip("-") or "edit", taken)


CLASSES = (IN2N_OT_edit,)
