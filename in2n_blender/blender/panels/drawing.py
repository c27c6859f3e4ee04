"""How the sidebar draws: text that wraps, large buttons, pictures beside each other."""

from __future__ import annotations

import blf
import bpy
from bpy.app.translations import pgettext_iface as iface

from .. import colour

BIG = 1.4  # the height of the button that a step is about
UNIT = 20  # pixels of a button's height, before the interface's scale


def wrapped(layout, text: str, context, icon: str = "NONE") -> None:
    """Draw a text over as many lines as it needs; Blender's labels do not wrap.

    Args:
        layout: Where to.
        text: One paragraph.
        context: Blender's, for the region's width.
        icon: Before the first line.
    """
    column = layout.column(align=True)
    column.scale_y = 0.8
    for index, part in enumerate(lines_of(text, context, icon=icon)):
        column.label(text=part, icon=icon if index == 0 else ("BLANK1" if icon != "NONE" else "NONE"), translate=False)


def lines_of(text: str, context, most: int | None = None, icon: str = "INFO") -> list[str]:
    """A text broken into lines that fit into the sidebar.

    Args:
        text: One paragraph.
        context: Blender's, for the region's width.
        most: How many lines there may be; the last ends in “…” where there are more.
        icon: Whether there will be one before the lines.

    Returns:
        At least one line, empty where the text is.
    """
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
    lines.append(line)
    if most is None or len(lines) <= most:
        return lines
    last = lines[most - 1]
    while last and blf.dimensions(0, f"{last}…")[0] > width:
        last = last[:-1]
    return [*lines[: most - 1], f"{last.rstrip(' .,:;')}…"]


def columns_of_pictures(context, columns: int, most: float = 100.0) -> float:
    """The scale of pictures that fit beside each other into a box of the sidebar.

    Args:
        context: Blender's, for the region's width.
        columns: How many pictures.
        most: The largest scale.

    Returns:
        The scale for `template_icon`, in heights of a button.
    """
    return min(max((context.region.width / context.preferences.system.ui_scale - 62) / UNIT / columns, 2), most)


def big(layout, operator: str, **arguments):
    """Draw an operator's button, higher than others.

    Args:
        layout: Where to.
        operator: The operator's bl_idname.
        **arguments: Those of `layout.operator`.

    Returns:
        The operator's properties.
    """
    row = layout.row()
    row.scale_y = BIG
    return row.operator(operator, **arguments)


def fields(layout):
    """A column for settings: labels at the left, values at the right."""
    column = layout.column()
    column.use_property_split = True
    column.use_property_decorate = False
    return column


def draw_colour_note(layout, context) -> None:
    """Draw, in one line, that the scene's view transform changes the photos' colours, and the button that mends it.

    Args:
        layout: Where to; nothing is drawn where it does not.
        context: Blender's.
    """
    if not colour.changes_colours(context.scene):
        return
    column = layout.column(align=True)
    view = context.scene.view_settings.view_transform
    column.label(text=iface("{view} changes the photos' colors.").format(view=view), icon="COLOR", translate=False)
    column.operator("in2n.use_standard")
