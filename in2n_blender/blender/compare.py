"""Before and after: photos behind their cameras, meshes and frames of an edit, or of the capture as it was."""

from __future__ import annotations

from pathlib import Path

from ..jobs.workspace import ORIGINAL, Workspace
from ..scene.capture import PinholeCapture
from ..scene.errors import In2nError
from . import cameras, results, workspaces
from .properties import active_capture, active_edit, children


def show_chosen(scene, force: bool = False) -> None:
    """Show what the scene's settings say: the selected edit, or the unedited capture.

    Nothing happens when that is shown already, unless `force`: the edit's pictures may have changed on disk.
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


def show(scene, capture, workspace: Workspace, edit: str | None) -> None:
    """Show an edit, or for None the unedited capture. What an edit has no picture, mesh or frames of stays as it is."""
    photos = _photos(workspace, edit)
    for camera in children(capture, "CAMERA"):
        file = photos.get(camera.in2n.photo)
        if file is not None and camera.data.library is None:
            cameras.show_photo(camera.data, file)
    name = edit or ORIGINAL
    meshes = children(capture, "MESH")
    if any(mesh.in2n.edit == name for mesh in meshes):
        for mesh in meshes:
            mesh.hide_set(mesh.in2n.edit != name)
            mesh.hide_render = mesh.in2n.edit != name
    if scene.camera is not None and scene.camera.type == "CAMERA":
        frames = results.frame_backgrounds(scene.camera.data)
        if any(_edit_of(background) == name for background in frames):
            for background in frames:
                background.show_background_image = _edit_of(background) == name


def _edit_of(background) -> str:
    return str(background.image["in2n_frames"]).partition("/")[0]


def _photos(workspace: Workspace, edit: str | None) -> dict[str, Path]:
    """The pictures on disk by the photo's name: the edited ones where there are some, else the capture's own."""
    try:
        views = PinholeCapture.load(workspace.capture_json).views if workspace.capture_json.is_file() else ()
    except (In2nError, KeyError, TypeError, ValueError):
        return {}
    found = {view.name: workspace.root / view.image for view in views}
    if edit is not None:
        edited = {name: workspace.edit(edit) / "dataset" / f"{name}.png" for name in found}
        found |= {name: file for name, file in edited.items() if file.is_file()}
    return {name: file for name, file in found.items() if file.is_file()}
