"""The grid of guidance previews: each picture a button that shows it large, beside its photo, to be chosen there."""

from __future__ import annotations

from bpy.app.translations import pgettext_iface as iface

from .. import instructions, pictures, preview_cells, workspaces
from .drawing import UNIT, columns_of_pictures

LEAST_HIGH = 100.0  # pixels; a portrait photo is as high as its cell
LARGE = 20.5  # heights of a button: 400 pixels and a margin


def draw_previews(context, layout) -> None:
    """Draw the pictures of the last preview, each over the buttons that take its guidance, or the picture itself.

    Args:
        context: Blender's.
        layout: Where to.
    """
    settings, folder = context.scene.in2n, workspaces.workspace_of(context.scene)
    if folder is None or not settings.preview:
        return
    folder = folder / "previews" / settings.preview
    record = pictures.read(folder / "preview.json")
    cells = preview_cells.cells_of(record)
    if not cells:
        return
    box = layout.box()
    _draw_titles(box, record)
    columns = _columns(context, len({cell["guidance_text"] for cell in cells}), len(cells))
    scale = columns_of_pictures(context, columns)
    rows = box.column(align=True)
    for start in range(0, len(cells), columns):
        row = rows.row(align=True)
        for index in range(start, start + columns):
            column = row.column(align=True)
            if index < len(cells):
                _draw_cell(column, context, folder, index, cells[index], scale)
            else:
                column.label(text="")


def _columns(context, wanted: int, cells: int) -> int:
    """How many pictures stand beside each other: those of one image scale, as far as they fit."""
    fit = int(columns_of_pictures(context, 1) * UNIT // LEAST_HIGH)
    return max(min(wanted, fit), 1) if cells > 1 else 1


def _draw_titles(layout, record: dict) -> None:
    title = layout.column(align=True)
    title.scale_y = 0.8
    title.label(text=f"“{record.get('instruction', '')}”", translate=False)
    row = title.row()
    row.active = False
    row.label(text=iface("On {photo}. Below each: text · image").format(photo=record.get("view", "")), translate=False)
    row = title.row()
    row.active = False
    row.label(text="Click a picture to see it large and take it")


def _draw_cell(column, context, folder, index: int, cell: dict, scale: float) -> None:
    settings, text, image = context.scene.in2n, cell["guidance_text"], cell["guidance_image"]
    if (folder / cell["file"]).is_file() and index < preview_cells.MOST:
        column.template_icon_view(
            context.window_manager.in2n_previews,
            preview_cells.name_of(index),
            show_labels=True,
            scale=scale,
            scale_popup=LARGE,
        )
    else:
        waiting = column.row()
        waiting.alignment, waiting.active, waiting.scale_y = "CENTER", False, scale
        waiting.label(text="", icon="SORTTIME")
    here = {text: settings.guidance_text, image: settings.guidance_image}
    chosen = not settings.use_default_guidance and all(
        abs(value - scale) < 1e-3 for scale, value in here.items() if scale is not None
    )
    row = column.row(align=True)
    words = instructions.scales_in_words(text, image)
    _set_scales(row.operator("in2n.use_guidance", text=words, translate=False, depress=chosen), text, image)
    picked = settings.key_view == f"{folder.name}/{cell['file']}"
    button = row.operator("in2n.use_picture", text="", icon="PINNED" if picked else "UNPINNED", depress=picked)
    button.file = "" if picked else cell["file"]
    _set_scales(button, text, image)


def _set_scales(button, text: float | None, image: float | None) -> None:
    """Hand a button's operator the scales that the model has."""
    for name, scale in (("guidance_text", text), ("guidance_image", image)):
        if scale is not None:
            setattr(button, name, scale)
