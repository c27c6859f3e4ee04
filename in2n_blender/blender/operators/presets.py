"""Choosing an instruction, and presets of edit settings."""

from __future__ import annotations

from pathlib import Path

import bpy
from bl_operators.presets import AddPresetBase

from ...link.requests import Edit
from .. import instructions
from ..request_properties import argument

PRESET_SUBDIR = "in2n/edit"
SHIPPED = str(Path(__file__).resolve().parents[1])  # holds the folder "presets"
PRESET_VALUES = (
    "editor", "editor_folder", "negative_prompt", "use_default_guidance", "guidance_text", "guidance_image", "seed",
    "preset",
)  # fmt: skip


class IN2N_OT_set_instruction(bpy.types.Operator):
    """Put this instruction into the field above"""

    bl_idname = "in2n.set_instruction"
    bl_label = "Set Instruction"
    bl_options = {"REGISTER", "UNDO", "INTERNAL"}

    instruction: argument(Edit, "instruction")

    def execute(self, context):
        context.scene.in2n.instruction = self.instruction
        return {"FINISHED"}


class IN2N_OT_clear_history(bpy.types.Operator):
    """Forget the instructions that were used before, in all files"""

    bl_idname = "in2n.clear_history"
    bl_label = "Clear History"

    @classmethod
    def poll(cls, context):
        if not instructions.history():
            cls.poll_message_set("No instruction was used yet")
            return False
        return True

    def execute(self, context):
        instructions.forget()
        return {"FINISHED"}


class IN2N_OT_add_edit_preset(AddPresetBase, bpy.types.Operator):
    """Add or remove a preset of the edit's settings: model, negative prompt, guidance, seed and size"""

    bl_idname = "in2n.add_edit_preset"
    bl_label = "Add Edit Preset"
    preset_menu = "IN2N_PT_edit_presets"
    preset_defines = ["settings = bpy.context.scene.in2n"]
    preset_values = [f"settings.{name}" for name in PRESET_VALUES]
    preset_subdir = PRESET_SUBDIR


CLASSES = (
    IN2N_OT_set_instruction,
    IN2N_OT_clear_history,
    IN2N_OT_add_edit_preset,
)


def attach() -> None:
    """Let Blender find the presets that come with the add-on."""
    bpy.utils.register_preset_path(SHIPPED)


def detach() -> None:
    """Let Blender find them no more."""
    bpy.utils.unregister_preset_path(SHIPPED)
