"""The rows of what was made of an edit: what it is, how large, its picture, and what can be done with it."""

from __future__ import annotations

from bpy.app.translations import pgettext_iface as iface

from ...workspace.layout import Workspace
from .. import outputs, pictures
from .drawing import wrapped

PICTURE = 2.6  # heights of a button
ICONS = {kind: icon for kind, _label, _help, icon, _number in outputs.ITEMS}


def draw_outputs(layout, context, workspace: Workspace, edit: str | None) -> None:
    """Draw a row for each thing that was made of an edit.

    Args:
        layout: Where to.
        context: Blender's.
        workspace: Where they lie.
        edit: The edit's name; None: the reconstruction.
    """
    for output in outputs.of_edit(workspace, edit):
        _draw_output(layout.box(), context, output)


def _draw_output(box, context, output: outputs.Output) -> None:
    row = box.row()
    if output.picture is not None:
        row.template_icon(pictures.icon(output.picture), scale=PICTURE)
    column = row.column(align=True)
    column.label(text=output.described(), icon=ICONS[output.kind], translate=False)
    buttons = column.row(align=True)
    name = outputs.name_of(output.edit)
    shown = buttons.operator("in2n.show_output", text="Show")
    shown.kind, shown.edit = output.kind, name
    if output.kind == outputs.DATASET:
        elsewhere = buttons.operator("in2n.export_dataset", text="Export…")
        elsewhere.edit, elsewhere.choose_folder = name, True
    else:
        written = buttons.operator("in2n.export_output", text="Export…")
        written.kind, written.edit = output.kind, name
        marked = buttons.operator("in2n.mark_output", text="", icon="ASSET_MANAGER")
        marked.kind, marked.edit = output.kind, name
    buttons.operator("wm.path_open", text="", icon="FILEBROWSER").filepath = str(output.folder)
    if output.outdated:
        wrapped(box, iface("Made from an earlier state of the scene."), context, "ERROR")
