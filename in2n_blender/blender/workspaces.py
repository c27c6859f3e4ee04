"""Where a capture's workspace is: beside the saved .blend, or in a scratch folder while the .blend was never saved."""

from __future__ import annotations

import functools
import os
import time
from contextlib import suppress
from pathlib import Path

import bpy
import numpy as np

from ..scene.capture import PinholeCapture
from ..scene.errors import In2nError
from ..workspace import edits
from ..workspace.files import read_json
from ..workspace.layout import Workspace
from ..workspace.provenance import is_done
from . import compat, paths
from .scene_state import active_capture, active_edit, children
from .settings import home_folder


def new_workspace(capture_name: str, source: str) -> Path:
    """A folder for a capture that has none yet; nothing is created.

    Beside a saved .blend it is `<blend name>.in2n`, and `<blend name>-2.in2n` and so on for further captures; else it
    is in the home folder's scratch/. A folder beside the .blend that already holds this very capture is used again.

    Args:
        capture_name: The capture's.
        source: The file or folder that it was imported from, as in capture.json.
    """
    taken = {folder for s in bpy.data.scenes for o in s.objects if o.in2n.role == "CAPTURE" and (folder := resolve(o))}
    if not bpy.data.filepath:
        stem = "".join(c if c.isalnum() else "-" for c in capture_name) or "capture"
        return home_folder() / "scratch" / f"{time.strftime('%Y%m%d-%H%M%S')}-{stem}.in2n"
    blend = Path(bpy.data.filepath)
    number = 1
    while True:
        folder = blend.with_name(f"{blend.stem}.in2n" if number == 1 else f"{blend.stem}-{number}.in2n")
        if folder not in taken and _is_free_for(folder, source):
            return folder
        number += 1


def _is_free_for(folder: Path, source: str) -> bool:
    capture_json = Workspace(folder).capture_json
    if not capture_json.exists():
        return True
    try:
        return PinholeCapture.load(capture_json).source == source
    except In2nError:
        return False


def remember(capture, folder: Path) -> None:
    """Store the workspace on the capture's Empty, relative to the .blend where that is possible.

    Args:
        capture: The capture's Empty.
        folder: The workspace.
    """
    folder = Path(folder).resolve()
    capture.in2n.workspace_absolute = str(folder)
    beside = bpy.data.filepath and Path(bpy.data.filepath).resolve().parent in folder.parents
    capture.in2n.workspace = bpy.path.relpath(str(folder)) if beside else str(folder)


def resolve(capture) -> Path | None:
    """The workspace of a capture; a copy beside the .blend wins over where the folder was at first, and one of its name
    in $IN2N_WORKSPACE_ROOT over both: a farm's machines may have the share under another root.

    Args:
        capture: The capture's Empty.

    Returns:
        The folder, there or not; None where none was chosen yet.
    """
    stored = capture.in2n.workspace
    if not stored:
        return None
    beside = Path(bpy.path.abspath(stored))
    if root := os.environ.get("IN2N_WORKSPACE_ROOT"):
        elsewhere = Path(root).expanduser().absolute() / Path(capture.in2n.workspace_absolute or beside).name
        if elsewhere.is_dir():
            return elsewhere
    if stored.startswith("//") and (not bpy.data.filepath or not beside.exists()):
        return Path(capture.in2n.workspace_absolute)
    return beside


def follow(source: Path, target: Path) -> None:
    """Let all that shows a file of a workspace know where the workspace has been moved to.

    Args:
        source: Where it was.
        target: Where it is.
    """
    shown = [image for image in bpy.data.images if image.library is None and image.filepath]
    shown += [clip for clip in bpy.data.movieclips if clip.library is None]
    for scene in bpy.data.scenes:
        shown += [strip for strip in compat.strips(scene) if strip.type == "IMAGE" and scene.library is None]
    for owner in shown:
        paths.follow(owner, source, target)


def workspace_of(scene) -> Path | None:
    """The folder of the scene's active capture, or None when there is no capture."""
    capture = active_capture(scene)
    return resolve(capture) if capture else None


def is_missing(scene) -> bool:
    """Whether the active capture's workspace was there once, and is not any more.

    Args:
        scene: The capture's.
    """
    capture = active_capture(scene)
    folder = resolve(capture) if capture else None
    return folder is not None and capture.in2n.workspace_made and not _is_there(folder, int(time.monotonic()))


@functools.lru_cache(maxsize=8)
def _is_there(folder: Path, _second: int) -> bool:
    return folder.is_dir()


def why_not_of(capture, folder: Path) -> str:
    """Why a folder is not the workspace of a capture, in one sentence.

    Args:
        capture: The capture's Empty.
        folder: A folder that may be it.

    Returns:
        "" where it is: it holds a capture of the same photos, taken from the same places.
    """
    try:
        found = PinholeCapture.load(Workspace(folder).capture_json)
    except In2nError:
        return f"“{folder.name}” is no workspace: it holds no capture."
    cameras = {o.in2n.photo: o for o in children(capture, "CAMERA")}
    both = [view for view in found.views if view.name in cameras]
    if len(both) < 0.5 * max(len(found.views), len(cameras), 1):
        return f"“{folder.name}” is the workspace of another capture, “{found.name}”: its photos have other names."
    if cameras and not _same_places(both, cameras):
        return f"“{folder.name}” is the workspace of another capture, “{found.name}”: its cameras stand elsewhere."
    return ""


def _same_places(views, cameras) -> bool:
    """Whether most cameras are, relative to their middle, where the views are; some may have been moved by hand."""
    theirs = np.array([view.camera.position for view in views], np.float64)
    ours = np.array([cameras[view.name].matrix_local.translation for view in views], np.float64)
    theirs, ours = theirs - np.median(theirs, 0), ours - np.median(ours, 0)
    extent = max(float(np.linalg.norm(theirs, axis=1).max()), 1e-9)
    return float(np.median(np.linalg.norm(theirs - ours, axis=1))) < 0.02 * extent


def is_scratch(folder: Path) -> bool:
    """Whether the folder is one that was made for a .blend that had not been saved."""
    return home_folder() / "scratch" in folder.parents


def require(scene) -> tuple[object, Workspace]:
    """The active capture's Empty and its workspace.

    Raises:
        In2nError: "no_capture".
    """
    capture = active_capture(scene)
    folder = resolve(capture) if capture else None
    if folder is None:
        raise In2nError(
            "no_capture", "The scene has no capture.", "Import one first: File > Import > Capture for Editing (IN2N)."
        )
    return capture, Workspace(folder)


def has_photos(workspace: Workspace) -> bool:
    """Whether the photos were already normalised into the workspace."""
    return workspace.capture_json.exists() and any(workspace.images.glob("*"))


def has_reconstruction(workspace: Workspace) -> bool:
    """Whether the capture was reconstructed to the end; a reconstruction cancelled on its way does not count."""
    return (workspace.reconstruction / "checkpoint.safetensors").exists() and is_done(workspace, None)


def reconstruction_step(folder: Path | None) -> str:
    """What is to be done before the workspace has a reconstruction, as a poll says it; "" where it has one.

    Args:
        folder: The workspace; None where there is no capture.
    """
    if folder is None or not (Workspace(folder).reconstruction / "checkpoint.safetensors").exists():
        return "Reconstruct the capture first"
    return "" if has_reconstruction(Workspace(folder)) else "Finish the reconstruction first"


def sync_edits(scene) -> None:
    """Make the scene's list of edits what its workspace holds, keeping the selection.

    Nothing is changed where it is so already.

    Args:
        scene: The capture's.
    """
    folder = workspace_of(scene)
    settings = scene.in2n
    if folder is not None and not _note_made(scene, folder):
        return  # the list is all that there is to see of them until the workspace is found again
    if folder:
        with suppress(In2nError):  # the list shows what is there
            edits.settle(Workspace(folder))
    found = [(name, _instruction(Workspace(folder), name)) for name in Workspace(folder).edits()] if folder else []
    if found == [(edit.name, edit.instruction) for edit in settings.edits]:
        return
    selected = active_edit(scene) or ""
    settings.edits.clear()
    for name, instruction in found:
        item = settings.edits.add()
        item.name, item.instruction = name, instruction
    select_edit(scene, selected)


def _note_made(scene, folder: Path) -> bool:
    """Remember that the workspace was made, if it was; whether there is reason to look into it."""
    capture = active_capture(scene)
    there = folder.is_dir()
    if (there or len(scene.in2n.edits)) and not capture.in2n.workspace_made and capture.library is None:
        capture.in2n.workspace_made = True
    return there or not capture.in2n.workspace_made


def _instruction(workspace: Workspace, edit: str) -> str:
    try:
        return str(read_json(workspace.edit(edit) / "edit.json").get("instruction", ""))
    except In2nError:
        return ""  # a damaged edit is still listed, so that it can be seen and removed


@bpy.app.handlers.persistent
def _sync_all(*_) -> None:
    for scene in bpy.data.scenes:
        if scene.library is None:
            sync_edits(scene)


def attach() -> None:
    """Keep the lists of edits true after Undo, Redo and opening a file.

    Edits live in the workspace, not in the .blend.
    """
    for handlers in _handlers():
        handlers.append(_sync_all)


def detach() -> None:
    """Keep them no more."""
    for handlers in _handlers():
        if _sync_all in handlers:
            handlers.remove(_sync_all)


def _handlers():
    return bpy.app.handlers.load_post, bpy.app.handlers.undo_post, bpy.app.handlers.redo_post


def select_edit(scene, name: str) -> None:
    """Make an edit the active one; the newest when there is none of that name.

    Args:
        scene: The capture's.
        name: The edit's name.
    """
    names = [edit.name for edit in scene.in2n.edits]
    scene.in2n.active_edit = names.index(name) if name in names else max(len(names) - 1, 0)
