"""The menus beside an edit's settings: instructions to choose from, and presets."""

from __future__ import annotations

import bpy
from bl_ui.utils import PresetPanel

from .. import instructions
from ..operators.presets import PRESET_SUBDIR


class IN2N_MT_instructions(bpy.types.Menu):
    """Instructions used before, and those that the chosen model is good at."""

    bl_idname = "IN2N_MT_instructions"
    bl_label = "Instructions"

    def draw(self, context):
        layout = self.layout
        used = instructions.history()[:10]
        if used:
            layout.label(text="Used Before", icon="TIME")
            self._draw(layout, used)
            layout.operator("in2n.clear_history", icon="TRASH")
            layout.separator()
        editor = context.scene.in2n.editor_id()
        layout.label(text="This Model Knows" if instructions.known(editor) else "Suggestions", icon="OUTLINER_OB_LIGHT")
        self._draw(layout, instructions.suggestions(editor))

    @staticmethod
    def _draw(layout, texts):
        for text in texts:
            layout.operator("in2n.set_instruction", text=text, translate=False).instruction = text


class IN2N_PT_edit_presets(PresetPanel, bpy.types.Panel):
    """Presets of model, guidance, seed and size."""

    bl_label = "Edit Presets"
    preset_subdir = PRESET_SUBDIR
    preset_operator = "script.execute_preset"
    preset_add_operator = "in2n.add_edit_preset"
