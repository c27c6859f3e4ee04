"""The sidebar of the 3D Viewport, tab IN2N: the steps from a capture to its edits, in the order an artist takes them;
and the render engine's panels in the Properties.

Drawing never changes anything. A step that cannot be taken yet is greyed out and says why.
"""

from __future__ import annotations

import bpy

from . import render
from .capture import IN2N_PT_capture
from .edit import IN2N_PT_edit
from .edits import IN2N_MT_edit_specials, IN2N_PT_edits, IN2N_UL_edits
from .menu import IN2N_MT_capture, menu_entry
from .presets import IN2N_MT_instructions, IN2N_PT_edit_presets
from .reconstruct import IN2N_PT_reconstruct
from .results import IN2N_PT_results

CLASSES = (
    IN2N_MT_instructions,
    IN2N_PT_edit_presets,
    IN2N_PT_capture,
    IN2N_PT_reconstruct,
    IN2N_PT_edit,
    IN2N_UL_edits,
    IN2N_MT_edit_specials,
    IN2N_PT_edits,
    IN2N_PT_results,
    IN2N_MT_capture,
    *render.CLASSES,
)


def attach() -> None:
    """Add the menu to the 3D view's Object menu."""
    bpy.types.VIEW3D_MT_object.append(menu_entry)


def detach() -> None:
    """Take the menu out of the Object menu."""
    bpy.types.VIEW3D_MT_object.remove(menu_entry)
