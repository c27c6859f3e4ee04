"""Object > Capture (IN2N): all steps, so that Blender's menu search finds them."""

from __future__ import annotations

import bpy


class IN2N_MT_capture(bpy.types.Menu):
    """All steps in one menu, so that they are found by Blender's menu search."""

    bl_idname = "IN2N_MT_capture"
    bl_label = "Capture (IN2N)"

    def draw(self, context):
        layout = self.layout
        layout.operator_context = "INVOKE_DEFAULT"
        for operators in (
            ("import_capture", "look_through", "back_to_shot"),
            ("set_up", "set_ground", "set_scale"),
            ("reconstruct", "preview", "edit"),
            (
                "compare",
                "continue_edit",
                "apply_from_here",
                "rename_edit",
                "duplicate_edit",
                "remove_edit",
                "use_edit_settings",
            ),
            ("render_path", "load_frames", "extract_mesh", "load_mesh"),
            ("cancel", "show_log", "show_documentation"),
        ):
            for name in operators:
                layout.operator(f"in2n.{name}")
            layout.separator()


def menu_entry(self, context):
    """Draw the menu's entry in another menu."""
    self.layout.separator()
    self.layout.menu("IN2N_MT_capture")
