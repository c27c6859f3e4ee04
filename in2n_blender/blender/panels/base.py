"""What the sidebar's panels share: what is missing before a step, what is outdated, and the photo looked through."""

from __future__ import annotations

from bpy.app.translations import pgettext_iface as iface

from ...workspace.layout import Workspace
from ...workspace.provenance import outdated
from .. import engine, full_photos, photos, underway, workspaces
from ..scene_state import active_capture
from .drawing import wrapped


class Panel:
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "IN2N"

    def draw_needs(self, context, reconstruction: bool = False) -> bool:
        """Draw what is missing before this step can be taken, in one line.

        Args:
            context: Blender's.
            reconstruction: Whether the step needs one.

        Returns:
            Whether something is missing.
        """
        reason = what_is_missing(context, reconstruction)
        if reason:
            column = self.layout.column()
            column.active = False
            wrapped(column, iface(reason), context, "INFO")
        return bool(reason)


def what_is_missing(context, reconstruction: bool, here: bool = False) -> str:
    """The step that has to be taken first, or "".

    Args:
        context: Blender's.
        reconstruction: Whether a reconstruction is needed, beside a capture and the engine.
        here: Whether it has to be the engine of this computer.
    """
    if active_capture(context.scene) is None:
        return "Import a capture first."
    if workspaces.is_missing(context.scene):
        return "The workspace is missing: see Capture."
    if engine.engine_python() is None and (here or not engine.is_at_hand(context.scene)):
        return "Install the engine first."
    folder = workspaces.workspace_of(context.scene)
    step = workspaces.reconstruction_step(folder) if reconstruction else ""
    return f"{step}." if step and not underway.reconstruction_to_come(folder) else ""


def draw_outdated(layout, context, workspace: Workspace, edit: str | None) -> bool:
    """Draw why a result is not what would be made now, in one line.

    Args:
        layout: Where to.
        context: Blender's.
        workspace: Whose result it is.
        edit: The edit's name, or None for the reconstruction.

    Returns:
        Whether there is a reason.
    """
    reason = outdated(workspace, edit)
    if reason:
        wrapped(layout, iface(reason), context, "ERROR")
    return bool(reason)


def is_reconstructed(scene) -> bool:
    """Whether the scene's capture was reconstructed to the end.

    Args:
        scene: The capture's.
    """
    folder = workspaces.workspace_of(scene)
    return folder is not None and workspaces.has_reconstruction(Workspace(folder))


def draw_photo_chooser(layout, context) -> None:
    """Draw the photo looked through, with buttons for the one before and after it.

    Args:
        layout: Where to.
        context: Blender's, whose 3D view looks through it.
    """
    camera = photos.looked_through(context)
    shown = camera.in2n.photo if camera is not None else ""
    row = layout.row(align=True)
    row.operator("in2n.look_through", text="", icon="TRIA_LEFT").direction = "PREVIOUS"
    current = row.operator(
        "in2n.look_through",
        text=shown or "Look Through Photos",
        translate=not shown,
        icon="SORTTIME" if full_photos.is_asked_for(camera) else "NONE",  # it comes at its full size in a moment
    )
    current.direction = "CURRENT"
    row.operator("in2n.look_through", text="", icon="TRIA_RIGHT").direction = "NEXT"


def draw_way_back(layout, context) -> None:
    """Draw the way back to the shot's camera where a photo is looked through, or rendered from.

    Args:
        layout: Where to.
        context: Blender's.
    """
    renders_photo = photos.is_photo(context.scene.camera)
    if renders_photo:
        said = iface(photos.RENDERS_A_PHOTO).format(camera=context.scene.camera.name)
        wrapped(layout, said, context, "ERROR")
    if renders_photo or photos.looked_through(context) is not None:
        layout.operator("in2n.back_to_shot", icon="CAMERA_DATA")
