"""Before and after: photos behind their cameras, meshes and frames of an edit, or of the capture as it was."""

from __future__ import annotations

from pathlib import Path

from ..scene.capture import PinholeCapture
from ..scene.errors import In2nError
from ..workspace.layout import ORIGINAL, Workspace
from . import cameras, full_photos, photos, plates, results, workspaces
from .scene_state import active_capture, active_edit, children


def show_chosen(scene, force: bool = False) -> None:
    """Show what the scene's settings say: the selected edit, or the unedited capture.

    Args:
        scene: Whose settings are followed.
        force: Whether to show it though it is shown already: its pictures may have changed on disk.
    """
    settings = scene.in2n
    wanted = (active_edit(scene) or "") if settings.shown == "AFTER" else ""
    capture = active_capture(scene)
    if capture is None or (wanted == settings.shown_edit and not force):
        return
    settings.shown_edit = wanted
    folder = workspaces.resolve(capture)
    if folder is not None:
        show(scene, capture, Workspace(folder), wanted or None)


def show_result(scene, edit: str | None, shown_as: str = "") -> None:
    """Switch to what something was just made of, so that it is seen.

    Args:
        scene: Whose settings are set; nothing happens where its list has no such edit.
        edit: The edit's name, or None for the unedited capture.
        shown_as: "MESH" or "SPLATS", whichever of both was just made; "": what was shown stays.
    """
    if edit is not None and edit not in scene.in2n.edits:
        return
    if shown_as:
        scene.in2n.shown_as = shown_as
    if edit is not None:
        workspaces.select_edit(scene, edit)
    scene.in2n.shown = "BEFORE" if edit is None else "AFTER"
    show_chosen(scene, force=True)


def show(scene, capture, workspace: Workspace, edit: str | None) -> None:
    """Show an edit or the unedited capture; meshes, splats and frames of all others are hidden.

    A photo that the edit has no picture of is shown unedited.

    Args:
        scene: The capture's.
        capture: The capture's Empty.
        workspace: The capture's.
        edit: The edit's name, or None for the unedited capture.
    """
    show_photos(capture, workspace, edit)
    full_photos.ask_for(scene)
    name = edit or ORIGINAL
    quick = _shows_quick_mesh(capture, workspace, edit)
    as_splats = scene.in2n.shown_as == "SPLATS" and any(o.in2n.edit == name for o in children(capture, "SPLATS"))
    for mesh in children(capture, "MESH"):
        of_edit = mesh.in2n.edit == name and not as_splats
        shown = of_edit and mesh.in2n.quick == quick and (not quick or scene.in2n.show_quick_mesh)
        _show_object(scene, mesh, shown)
        mesh.hide_render = not of_edit or mesh.in2n.quick
    for collision in children(capture, "COLLISION"):
        _show_object(scene, collision, collision.in2n.edit == name)
    for splats in children(capture, "SPLATS"):
        shown = as_splats and splats.in2n.edit == name
        _show_object(scene, splats, shown)
        splats.hide_render = not shown
    plates.show_edit(scene, name)


def _show_object(scene, made, shown: bool) -> None:
    for layer in scene.view_layers:
        if layer.objects.get(made.name) == made:
            made.hide_set(not shown, view_layer=layer)


def _shows_quick_mesh(capture, workspace: Workspace, edit: str | None) -> bool:
    """Whether the mesh that was made unasked is shown: where the artist extracted none, or from an earlier state."""
    kinds = {mesh.in2n.quick for mesh in children(capture, "MESH") if mesh.in2n.edit == (edit or ORIGINAL)}
    return kinds == {True} or (kinds == {True, False} and results.is_mesh_outdated(workspace, edit))


def show_photos(capture, workspace: Workspace, edit: str | None) -> None:
    """Show an edit's photos behind their cameras, or the capture's own.

    Args:
        capture: The capture's Empty.
        workspace: The capture's.
        edit: The edit's name, or None for the unedited capture.
    """
    found, edited = _photos(workspace, edit)
    for camera in children(capture, "CAMERA"):
        name = camera.in2n.photo
        file = edited.get(name) or photos.best_file(camera, found.get(name))
        if file is not None and camera.data.library is None:
            cameras.show_photo(camera.data, file)
            _read_again(camera.data)


def _read_again(camera_data) -> None:
    """Photos that are in memory may have changed on disk: an edit that was continued writes them anew."""
    for background in camera_data.background_images:
        if background.image is not None and background.image.get("in2n_photo") and background.image.has_data:
            background.image.reload()


def _photos(workspace: Workspace, edit: str | None) -> tuple[dict[str, Path], dict[str, Path]]:
    """The pictures on disk by the photo's name: the capture's undistorted ones, and the edited ones."""
    try:
        views = PinholeCapture.load(workspace.capture_json).views if workspace.capture_json.is_file() else ()
        found = {view.name: workspace.photo(view.image) for view in views}
    except In2nError:
        return {}, {}
    edited = {name: workspace.edit(edit) / "dataset" / f"{name}.png" for name in found} if edit is not None else {}
    return tuple({name: file for name, file in files.items() if file.is_file()} for files in (found, edited))
