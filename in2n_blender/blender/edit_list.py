"""Renaming and removing an edit, in its workspace and in all of the .blend that knows it by name."""

from __future__ import annotations

import bpy

from ..scene.errors import In2nError
from ..workspace import edits, journal
from ..workspace.layout import Workspace
from . import compare, paths, plates, workspaces
from .scene_state import active_edit, children


def rename(scene, old: str, new: str) -> None:
    """Rename an edit in the workspace, and everything in the .blend that knows it by name.

    Args:
        scene: The capture's.
        old: The edit's name.
        new: The name that it gets.

    Raises:
        In2nError: "no_capture", "workspace_busy", "bad_name", "no_edit", "edit_exists", "cannot_write", "disk_full";
            all is as before then.
    """
    capture, workspace = _require_idle(scene)
    edits.rename(workspace, old, new)
    for mesh in children(capture, "MESH"):
        if mesh.in2n.edit == old:
            mesh.in2n.edit = new
    before, after = workspace.root / "renders" / old, workspace.root / "renders" / new
    for plate in plates.marked(old):
        if paths.follow(plate, before, after):
            plate[plates.MARK] = f"{new}/{plate[plates.MARK].partition('/')[2]}"
    selected = active_edit(scene)
    workspaces.sync_edits(scene)
    workspaces.select_edit(scene, new if selected == old else selected or "")
    compare.show_chosen(scene, force=True)  # its photos lie elsewhere now


def remove(scene, edit: str) -> None:
    """Remove an edit from the workspace, its meshes and frames from the .blend.

    Args:
        scene: The capture's.
        edit: The edit's name.

    Raises:
        In2nError: "no_capture", "workspace_busy", "bad_name", "no_edit", "has_children", "cannot_write"; all is as
            before then.
    """
    capture, workspace = _require_idle(scene)
    position = scene.in2n.active_edit
    edits.remove(workspace, edit)
    for mesh in children(capture, "MESH"):
        if mesh.in2n.edit == edit and mesh.library is None:
            bpy.data.objects.remove(mesh)
    for plate in plates.marked(edit):
        if paths.lies_in(plate, workspace.root / "renders" / edit):
            plates.remove(plate)
    workspaces.sync_edits(scene)
    scene.in2n.active_edit = max(min(position, len(scene.in2n.edits) - 1), 0)
    compare.show_chosen(scene, force=True)


def _require_idle(scene) -> tuple[object, Workspace]:
    """The capture and its workspace, in which no job runs or still saves.

    Raises:
        In2nError: "no_capture", "workspace_busy".
    """
    capture, workspace = workspaces.require(scene)
    if journal.is_locked(workspace.root):
        raise In2nError(
            "workspace_busy",
            "A job runs in the workspace, here or in another Blender.",
            "Wait for it to end.",
        )
    return capture, workspace
