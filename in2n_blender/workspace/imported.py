"""The capture in a workspace: what import made of it and may replace, exchanged whole, and settled after a kill.

<workspace>/
  capture.json  images/  masks/
  .importing-<id>/  what an import is making, and while it exchanges them, what was there before:
    import.lock     that the folder is ours; locked while its import runs
    images/  masks/  capture.json  replaced/  replaced-masks/
    features/       small pictures in which sparse points are found

The masks are exchanged first: until images/ is in its place, all goes back. An import without masks has an empty
masks/, so that its being gone says that it was exchanged.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..scene.capture import PinholeCapture
from ..scene.errors import In2nError
from .files import rename_path, write_error
from .layout import Workspace
from .locks import try_lock, unlock

MARKER = "import.lock"
SYSTEM_FILES = {".DS_Store", "Thumbs.db", "desktop.ini"}  # which file managers leave and make again


def load_capture(workspace: Workspace) -> PinholeCapture:
    """The workspace's capture; an import that was killed is brought to its end first.

    Raises:
        In2nError: "no_capture", "bad_capture", "cannot_write".
    """
    settle(workspace)
    if not workspace.capture_json.is_file():
        raise In2nError(
            "no_capture", f"There is no capture in {workspace.root}.", "Import a capture into this workspace first."
        )
    return PinholeCapture.load(workspace.capture_json)


def refuse_foreign(workspace: Workspace) -> None:
    """Refuse to import over what no import made: images/ and masks/ hold what capture.json names, and nothing else.

    Raises:
        In2nError: "not_ours", naming the first file that would be lost.
    """
    ours: set[str] = set()
    if os.path.lexists(workspace.capture_json):
        try:
            views = PinholeCapture.load(workspace.capture_json).views
            ours = {view.image for view in views} | {view.mask for view in views}
        except In2nError:
            raise _not_ours(workspace.capture_json, "was not written by an import and would be overwritten") from None
    for folder in (workspace.images, workspace.masks):
        if not os.path.lexists(folder):
            continue
        if folder.is_symlink() or not folder.is_dir():
            raise _not_ours(folder, "was not made by an import and would be replaced")
        with os.scandir(folder) as entries:
            for entry in entries:
                made = f"{folder.name}/{entry.name}" in ours or entry.name in SYSTEM_FILES
                if not made or not entry.is_file(follow_symlinks=False):
                    raise _not_ours(folder / entry.name, "was not made by an import and would be deleted")


def refuse_own_photos(workspace: Workspace, photos: list[Path]) -> None:
    """Refuse to import photos and masks from the very folders that the import would replace.

    Args:
        workspace: Where the capture is to be imported.
        photos: The capture's files.

    Raises:
        In2nError: "not_ours".
    """
    for replaced in (workspace.images, workspace.masks):
        for folder in {photo.parent for photo in photos} if replaced.exists() else ():
            if any(above.exists() and above.samefile(replaced) for above in (folder, *folder.parents)):
                raise _not_ours(replaced, "holds files of the capture itself, and would be replaced")


def _not_ours(path: Path, why: str) -> In2nError:
    return In2nError("not_ours", f"{path} {why}.", "Choose another folder for the workspace, or move it away.")


@contextmanager
def staged_import(workspace: Workspace) -> Iterator[Path]:
    """Yield a folder for images/ and capture.json; both take the place of the workspace's when the block ends well.

    Args:
        workspace: Where the capture is imported.

    Raises:
        In2nError: "not_ours" as `refuse_foreign`; "disk_full", "cannot_write".
    """
    settle(workspace)
    refuse_foreign(workspace)
    new_workspace = not workspace.root.exists()
    staging = workspace.root / f".importing-{uuid.uuid4().hex[:8]}"
    try:
        try:
            staging.mkdir(parents=True)
            (staging / "masks").mkdir()
            lock = open(staging / MARKER, "a+")
        except OSError as error:
            raise write_error(staging, error) from error
        try:
            try_lock(lock)
            yield staging
            refuse_foreign(workspace)
            _exchange(staging, workspace)
        finally:
            unlock(lock)
    finally:
        _discard(staging, workspace)
        if new_workspace:
            with suppress(OSError):  # it is not empty
                workspace.root.rmdir()


def settle(workspace: Workspace) -> None:
    """Bring imports that were killed to an end: the workspace holds the earlier one or the later one, whole.

    Folders that are not ours, and those of an import that runs, stay as they are.

    Raises:
        In2nError: "cannot_write".
    """
    for staging in workspace.root.glob(".importing-*"):
        if staging.is_symlink() or not (staging / MARKER).is_file():
            continue
        try:
            lock = open(staging / MARKER, "a+")
            try:
                ended = try_lock(lock) and _finish_or_undo(staging, workspace)
            finally:
                unlock(lock)
        except OSError as error:
            raise write_error(staging, error) from error
        if ended:
            _discard(staging, workspace)


def _exchange(staging: Path, workspace: Workspace) -> None:
    try:
        if workspace.masks.exists():
            rename_path(workspace.masks, staging / "replaced-masks")
        rename_path(staging / "masks", workspace.masks)
        if workspace.images.exists():
            rename_path(workspace.images, staging / "replaced")
        rename_path(staging / "images", workspace.images)
        (staging / "capture.json").replace(workspace.capture_json)
    except OSError as error:
        _undo(staging, workspace)
        raise write_error(workspace.images, error) from error
    _without_empty_masks(workspace)


def _undo(staging: Path, workspace: Workspace) -> None:
    with suppress(OSError):  # `settle` tries again
        if not (staging / "images").exists():
            rename_path(workspace.images, staging / "images")
        if (staging / "replaced").exists():
            rename_path(staging / "replaced", workspace.images)
        _undo_masks(staging, workspace)


def _undo_masks(staging: Path, workspace: Workspace) -> None:
    if not (staging / "masks").exists() and workspace.masks.exists():
        rename_path(workspace.masks, staging / "masks")
    if (staging / "replaced-masks").exists():
        rename_path(staging / "replaced-masks", workspace.masks)


def _without_empty_masks(workspace: Workspace) -> None:
    with suppress(OSError):  # there are masks
        workspace.masks.rmdir()


def _finish_or_undo(staging: Path, workspace: Workspace) -> bool:
    """Whether that is done; not where somebody made an images/ between the two steps."""
    described, replaced = staging / "capture.json", staging / "replaced"
    if replaced.exists() and not workspace.images.exists():
        described.unlink(missing_ok=True)
        rename_path(replaced, workspace.images)
        _undo_masks(staging, workspace)
    elif (staging / "images").exists():
        _undo_masks(staging, workspace)
    elif described.exists():
        described.replace(workspace.capture_json)
        _without_empty_masks(workspace)
    return not _holds_the_only_copy(staging, workspace)


def _holds_the_only_copy(staging: Path, workspace: Workspace) -> bool:
    """Whether the earlier images or masks are here, and the new ones not in their place."""
    exchanged = workspace.images.exists() and not (staging / "images").exists()
    return not exchanged and any((staging / part).exists() for part in ("replaced", "replaced-masks"))


def _discard(staging: Path, workspace: Workspace) -> None:
    """capture.json first and the marker last, so that a kill in between leaves nothing that looks otherwise; images
    before masks, whose being gone would say that they are in their place."""
    if _holds_the_only_copy(staging, workspace):
        return
    with suppress(OSError):
        (staging / "capture.json").unlink(missing_ok=True)
        for part in ("images", "masks", "replaced", "replaced-masks", "features"):
            shutil.rmtree(staging / part, ignore_errors=True)
        if {path.name for path in staging.iterdir()} <= {MARKER}:
            (staging / MARKER).unlink(missing_ok=True)
            staging.rmdir()
