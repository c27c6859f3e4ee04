"""The pictures of the guidance previews as choices that Blender can draw large: a click on one opens it beside its
photo, a click there takes it.

Blender draws no picture that is a plain button; it draws the choices of an enumeration as pictures. So each cell of the
grid is an enumeration of its own, on the window manager, which no .blend keeps.
"""

from __future__ import annotations

import bpy
from bpy.app.translations import pgettext_iface as iface
from bpy.props import EnumProperty, PointerProperty

from ..link.requests import MOST_SCALES
from . import instructions, pictures, workspaces

MOST = MOST_SCALES**2
PHOTO, GUIDANCE, PICTURE = range(3)  # the choices of a cell
PHOTO_FILE = "photo.png"  # in a preview's folder

_kept: dict[tuple, list] = {}  # Blender does not hold the strings of choices that are made up on the spot: none goes


def cells_of(record: dict) -> list[dict]:
    """The pictures that a preview has or will have.

    Args:
        record: Its preview.json.

    Returns:
        {"file", "guidance_text", "guidance_image"} each, None for a scale that the model has not; what lacks one of
        them is left out.
    """
    wanted = {"file", "guidance_text", "guidance_image"}
    return [cell for cell in record.get("pictures", ()) if isinstance(cell, dict) and wanted <= set(cell)]


def name_of(index: int) -> str:
    """The property of a cell.

    Args:
        index: Its place in the preview's list of pictures.
    """
    return f"cell_{index}"


def _cell(scene, index: int):
    """The cell's folder and record; None where the scene shows no such preview any more."""
    folder = workspaces.workspace_of(scene)
    if folder is None or not scene.in2n.preview:
        return None
    folder = folder / "previews" / scene.in2n.preview
    cells = cells_of(pictures.read(folder / "preview.json"))
    return (folder, cells[index]) if index < len(cells) else None


def choices(scene, index: int) -> list[tuple]:
    """What a click on a cell shows: the photo, and its edit to be taken for its guidance, or to begin the edit with.

    Args:
        scene: The capture's.
        index: The cell's place.

    Returns:
        As Blender wants an enumeration's items, with icons.
    """
    found = _cell(scene, index)
    if found is None:
        return [("NONE", "", "", 0, 0)]
    folder, cell = found
    icon = pictures.icon(folder / cell["file"])
    scales = instructions.scales_in_words(cell["guidance_text"], cell["guidance_image"])
    guidance = iface("Use This Guidance: {scales}").format(scales=scales)
    return [
        ("PHOTO", iface("Photo"), iface("The photo as it was taken"), pictures.icon(folder / PHOTO_FILE), PHOTO),
        ("GUIDANCE", guidance, iface("Edit with the guidance of this picture"), icon, GUIDANCE),
        ("PICTURE", iface("Use This Picture"), iface("Begin the edit with this very picture"), icon, PICTURE),
    ]


def take(scene, index: int, choice: int) -> None:
    """Do what a choice of a cell says; the photo is there to look at.

    Args:
        scene: The capture's.
        index: The cell's place.
        choice: GUIDANCE, PICTURE or PHOTO.
    """
    found = _cell(scene, index)
    if found is None or choice == PHOTO:
        return
    _folder, cell = found
    names = ("guidance_text", "guidance_image")
    scales = {name: cell[name] for name in names if cell[name] is not None}
    if choice == GUIDANCE:
        bpy.ops.in2n.use_guidance("EXEC_DEFAULT", True, **scales)
    else:
        bpy.ops.in2n.use_picture("EXEC_DEFAULT", True, file=cell["file"], **scales)


def _property(index: int):
    def items(_self, context):
        made = choices(context.scene, index)
        return _kept.setdefault(tuple(made), made)

    def get(_self) -> int:
        return GUIDANCE if _cell(bpy.context.scene, index) else 0

    def set(_self, choice: int) -> None:
        take(bpy.context.scene, index, choice)

    return EnumProperty(
        name="Preview",
        description="Show this picture large, beside its photo, to take it",
        items=items,
        get=get,
        set=set,
    )


class In2nPreviews(bpy.types.PropertyGroup):
    """A choice for each picture that a preview can have."""

    __annotations__ = {name_of(index): _property(index) for index in range(MOST)}


CLASSES = (In2nPreviews,)


def attach() -> None:
    """Give the window manager the choices."""
    bpy.types.WindowManager.in2n_previews = PointerProperty(type=In2nPreviews)


def detach() -> None:
    """Take them back."""
    del bpy.types.WindowManager.in2n_previews
    _kept.clear()
