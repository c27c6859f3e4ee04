"""Popups that say what does not fit into a line of the sidebar, and bpy.ops.in2n.show_told and explain_objection."""

from __future__ import annotations

import textwrap

import bpy
from bpy.app.translations import pgettext_iface as iface
from bpy.props import StringProperty

from .. import instructions, objections

WIDTH = 80  # letters in a line of a popup


def explain(context, title: str, text: str, operator: str = "", icon: str = "ERROR") -> set[str]:
    """Say something in a popup, with a button for what to do about it; in background mode nothing is shown.

    Args:
        context: Blender's.
        title: Of the popup.
        text: One or more paragraphs.
        operator: The button's bl_idname; "": without one.
        icon: Beside the title.

    Returns:
        What an operator returns that did no more than this.
    """

    def draw(popup, _context):
        draw_text(popup.layout, text)
        if operator:
            popup.layout.operator(operator)

    if not bpy.app.background:
        context.window_manager.popup_menu(draw, title=title, icon=icon)
    return {"CANCELLED"}


def draw_text(layout, text: str) -> None:
    """Draw paragraphs in lines of at most WIDTH letters.

    Args:
        layout: A popup's.
        text: The paragraphs.
    """
    column = layout.column(align=True)
    for paragraph in text.splitlines():
        for line in textwrap.wrap(paragraph, WIDTH) or [""]:
            column.label(text=line, translate=False)


class IN2N_OT_show_told(bpy.types.Operator):
    """Show in full how this step's jobs ended"""

    bl_idname = "in2n.show_told"
    bl_label = "Show Messages"
    bl_options = {"INTERNAL"}

    about: StringProperty(
        name="About", description="The labels of the step's jobs, with a bar between two", options={"SKIP_SAVE"}
    )

    def _sentences(self, context) -> list[str]:
        return [entry.sentence for entry in context.scene.in2n.told_of(tuple(self.about.split("|")))]

    @classmethod
    def description(cls, context, properties):
        told = context.scene.in2n.told_of(tuple(properties.about.split("|")))
        return "\n".join(entry.sentence for entry in told)

    def execute(self, context):
        sentences = self._sentences(context)
        context.scene.in2n.note_read()
        for sentence in sentences:
            self.report({"INFO"}, sentence)
        explain(context, "IN2N", "\n".join(sentences), icon="INFO")
        return {"FINISHED"}


class IN2N_OT_explain_objection(bpy.types.Operator):
    """Say what is in the way of this edit, and what to choose instead"""

    bl_idname = "in2n.explain_objection"
    bl_label = "Why Not"
    bl_options = {"INTERNAL"}

    @classmethod
    def description(cls, context, properties):
        settings = context.scene.in2n
        found = objections.of_edit(settings.editor_id(), settings.instruction)
        return found.explained if found else ""

    def execute(self, context):
        settings = context.scene.in2n
        found = objections.of_edit(settings.editor_id(), settings.instruction)
        if found is None:
            return {"FINISHED"}
        self.report({"INFO"}, found.explained)
        known = instructions.suggestions(settings.editor_id())

        def draw(popup, _context):
            draw_text(popup.layout, found.explained)
            for text in known:
                popup.layout.operator("in2n.set_instruction", text=text, translate=False).instruction = text
            popup.layout.operator("in2n.open_preferences", icon="PREFERENCES")

        if not bpy.app.background:
            context.window_manager.popup_menu(draw, title=iface(found.sentence), icon="QUESTION")
        return {"FINISHED"}


CLASSES = (IN2N_OT_show_told, IN2N_OT_explain_objection)
