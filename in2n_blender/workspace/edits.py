"""What is done to an edit as a whole: looked up, renamed, duplicated, removed.

An edit is its folder; its frames, meshes, splats and datasets lie beside it under the same name and follow it. Each of
these either happens or does not: folders are moved, never changed piece by piece.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ..scene.errors import In2nError
from ..scene.reporting import Reporter
from ..scene.unfinished import TEMPORARY, clear_stale, own_prefix
from .files import atomic_path, read_json, rename_path, write_error, write_json
from .layout import ORIGINAL, Workspace, safe_name
from .moving import copy_files
from .provenance import is_done
from .successor import making_folder, replaced_folder

RENAMING = ".renaming.json"  # {"old", "new"}: that an edit gets another name
SETTLED_AFTER = 5.0  # seconds: much longer than it takes
COPYING, REMOVING = ".copying-", ".removing-"  # how folders begin in the workspace while that is done
CHANGEABLE = ("instruction", "guidance_text", "guidance_image", "region")  # while an edit is on its way


def read_edit(workspace: Workspace, name: str) -> dict:
    """What an edit's record says, and whether the edit ran to its end.

    Args:
        workspace: Where the edit lies.
        name: The edit's name.

    Returns:
        edit.json (empty where it is missing or damaged), and "finished": bool.

    Raises:
        In2nError: "bad_name".
    """
    return {**_read(workspace.edit(name) / "edit.json"), "finished": is_done(workspace, name)}


def segment_of(record: dict, from_edit: int = 0) -> dict:
    """What an edit's record says of the settings that can be changed while it is on its way.

    Args:
        record: As edit.json has it.
        from_edit: How many views were edited before these settings.

    Returns:
        A segment, as the record's "segments" hold it.
    """
    return {"from_edit": from_edit, **{key: record.get(key) for key in CHANGEABLE}}


def segments_in(record: dict) -> list[dict]:
    """The segments of an edit: one, and another for every change of its settings on the way.

    Args:
        record: As edit.json or a checkpoint's state has it. One without segments, as of the last version, has one: of
            what it says itself.

    Returns:
        At least one segment, in the order in which they were made.
    """
    found = record.get("segments")
    keys = {"from_edit", *CHANGEABLE}
    whole = isinstance(found, list) and all(isinstance(part, dict) and keys <= set(part) for part in found)
    return found if found and whole else [segment_of(record)]


def free_name(workspace: Workspace, name: str, also_taken=()) -> str:
    """The name itself where it is free, else with the first free number at its end.

    Args:
        workspace: Whose edits have their names already.
        name: The name wished for; of a longer one the first 72 characters stand before the number.
        also_taken: Names of edits that are about to be made.

    Returns:
        A name that differs from all of these in more than case.
    """
    stem, number = name[:72], 2
    taken = {found.lower() for found in [*workspace.edits(), *also_taken, ORIGINAL]}
    while name.lower() in taken:
        name, number = f"{stem}-{number}", number + 1
    return name


def rename(workspace: Workspace, old: str, new: str) -> None:
    """Give an edit another name, and its frames and meshes with it.

    Edits that were built upon it and the job that can be gone on with know its new name afterwards.

    Args:
        workspace: Where the edit lies.
        old: The edit's name.
        new: The name that it gets.

    Raises:
        In2nError: "bad_name", "no_edit", "edit_exists", "cannot_write", "disk_full"; everything is as before then.
    """
    settle(workspace)
    if old == new:
        return
    _require_free(workspace, new, but=old)
    folder = _existing(workspace, old)
    note = workspace.root / RENAMING
    write_json(note, {"old": old, "new": new})
    try:
        with _all_or_nothing(folder) as undo:
            _rename(workspace, old, new, undo)
    finally:  # it is done, or undone
        with suppress(OSError):
            note.unlink(missing_ok=True)


def settle(workspace: Workspace) -> None:
    """Bring a renaming that was killed to its end, so that no edit has two names.

    Args:
        workspace: Where it may have been.

    Raises:
        In2nError: "cannot_write", "disk_full"; it is tried again next time.
    """
    note = workspace.root / RENAMING
    try:
        if time.time() - note.stat().st_mtime < SETTLED_AFTER:  # it may be under way
            return
    except OSError:
        return
    found = _read(note)
    names = [name for name in (found.get("old"), found.get("new")) if isinstance(name, str) and _is_safe(name)]
    if len(names) == 2:  # else it is no note of ours
        with _all_or_nothing(workspace.root) as undo:
            _rename(workspace, *names, undo)
    with suppress(OSError):
        note.unlink(missing_ok=True)


def _is_safe(name: str) -> bool:
    try:
        return bool(safe_name(name))
    except In2nError:
        return False


def _rename(workspace: Workspace, old: str, new: str, undo: ExitStack) -> None:
    """What of it is not done yet."""
    folder = workspace.edit(old if workspace.edit(old).is_dir() else new)
    rewritten = {
        folder / "edit.json": lambda record: {**record, "name": new},
        workspace.root / "job.json": lambda job: _renamed_job(job, old, new),
    }
    for name in workspace.edits():
        if name != old and _read(workspace.edit(name) / "edit.json").get("parent") == old:
            rewritten[workspace.edit(name) / "edit.json"] = lambda record: {**record, "parent": new}
    moves = [(folder, workspace.edit(new))] if folder != workspace.edit(new) else []
    for path, change in rewritten.items():
        _rewrite(path, change, undo)
    for source, target in [*moves, *_results(workspace, old, new)]:
        _move(source, target, undo)


def duplicate(workspace: Workspace, name: str, copy: str, report: Reporter | None = None) -> None:
    """Copy an edit, without its frames and meshes, so that one of the two can be taken further.

    Args:
        workspace: Where the edit lies.
        name: The edit's name.
        copy: The name of the copy.
        report: Told of the progress in MB, and asked whether the job was cancelled.

    Raises:
        In2nError: "bad_name", "no_edit", "edit_exists", "disk_full", "cannot_write"; nothing is left then.
        Cancelled: Nothing is left then.
    """
    settle(workspace)
    _require_free(workspace, copy)
    folder = _existing(workspace, name)
    whole = lambda path: not any(part.startswith(TEMPORARY) for part in path.relative_to(folder).parts)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and whole(path))
    clear_stale(workspace.root, COPYING)
    try:
        with tempfile.TemporaryDirectory(
            prefix=own_prefix(COPYING), dir=workspace.root, ignore_cleanup_errors=True
        ) as temporary:
            target = Path(temporary) / copy
            copy_files(folder, files, target, report or Reporter(), f"Copying “{name}”")
            write_json(target / "edit.json", {**_read(target / "edit.json"), "name": copy})
            rename_path(target, workspace.edit(copy))
    except OSError as error:
        raise write_error(workspace.edit(copy), error) from error


def remove(workspace: Workspace, name: str) -> None:
    """Remove an edit with its frames and meshes, for good.

    Args:
        workspace: Where the edit lies.
        name: The edit's name.

    Raises:
        In2nError: "bad_name", "no_edit", "has_children", "cannot_write"; everything is as before then.
    """
    settle(workspace)
    folder = _existing(workspace, name)
    children = [
        other for other in workspace.edits() if _read(workspace.edit(other) / "edit.json").get("parent") == name
    ]
    if children:
        raise In2nError("has_children", f"“{children[0]}” was built upon “{name}”.", "Remove the later edit first.")
    with _all_or_nothing(folder) as undo:
        # Moved out of the way first, so that an edit is never listed half removed.
        clear_stale(workspace.root, REMOVING)
        trash = Path(tempfile.mkdtemp(prefix=own_prefix(REMOVING), dir=workspace.root))
        undo.callback(shutil.rmtree, trash, ignore_errors=True)
        for number, path in enumerate([folder, *(source for source, _ in _results(workspace, name, name))]):
            _move(path, trash / str(number), undo)
    shutil.rmtree(trash, ignore_errors=True)


def _results(workspace: Workspace, old: str, new: str) -> list[tuple[Path, Path]]:
    """What lies beside an edit under its name, and where it goes under another."""
    folders = [workspace.root / kind / safe_name(old) for kind in ("renders", "datasets")]
    found = [(folder, folder.with_name(safe_name(new))) for folder in folders if folder.is_dir()]
    for suffix, quick in itertools.product((".ply", ".glb", ".json", ".png"), (False, True)):
        if workspace.mesh(old, suffix, quick).is_file():
            found.append((workspace.mesh(old, suffix, quick), workspace.mesh(new, suffix, quick)))
    if workspace.collision_mesh(old).is_file():
        found.append((workspace.collision_mesh(old), workspace.collision_mesh(new)))
    for suffix in (".ply", ".spz", ".json", ".png"):
        if workspace.splats(old, suffix).is_file():
            found.append((workspace.splats(old, suffix), workspace.splats(new, suffix)))
    for folder_of in (making_folder, replaced_folder):
        if folder_of(workspace, workspace.edit(old)).is_dir():
            found.append((folder_of(workspace, workspace.edit(old)), folder_of(workspace, workspace.edit(new))))
    return found


def _existing(workspace: Workspace, name: str) -> Path:
    folder = workspace.edit(name)
    if not (folder / "edit.json").is_file():
        raise In2nError("no_edit", f"There is no edit “{name}” in this workspace.", "Choose one from the list.")
    return folder


def _require_free(workspace: Workspace, name: str, but: str | None = None) -> None:
    """Names that differ in nothing but case are one name on many disks."""
    safe_name(name)
    if name.lower() in {other.lower() for other in [*workspace.edits(), ORIGINAL] if other != but}:
        raise In2nError("edit_exists", f"The name “{name}” is taken.", "Choose another name.")


def _read(path: Path) -> dict:
    try:
        found = read_json(path)
    except In2nError:
        return {}  # a damaged edit can still be seen, renamed and removed
    return found if isinstance(found, dict) else {}


@contextmanager
def _all_or_nothing(folder: Path) -> Iterator[ExitStack]:
    """An ExitStack whose callbacks undo what is done in the block; they are called where it does not end well."""
    with ExitStack() as undo:
        try:
            yield undo
        except OSError as error:
            raise write_error(folder, error) from error
        undo.pop_all()


def _move(source: Path, target: Path, undo: ExitStack) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    rename_path(source, target)
    undo.callback(rename_path, target, source)


def _rewrite(path: Path, change: Callable[[dict], dict], undo: ExitStack) -> None:
    """Change a file's entries and keep its time, by which edits are listed. A damaged one is left as it is."""
    record = _read(path)
    if not record or change(record) == record:
        return
    then, before = path.stat(), path.read_bytes()

    def restore() -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(before)
        os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns))

    undo.callback(restore)
    write_json(path, change(record))
    os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns))


def _renamed_job(job: dict, old: str, new: str) -> dict:
    """job.json with an edit's new name in its requests."""

    def renamed(request: dict) -> dict:
        params = request["params"]
        keys = ("name", "parent", "edit") if request["method"] == "edit" else ("parent", "edit")
        return {**request, "params": {**params, **{key: new for key in keys if params.get(key) == old}}}

    try:
        return {**job, "requests": [renamed(request) for request in job["requests"]]}
    except (KeyError, TypeError, AttributeError):  # damaged, or of another version: nobody goes on with it
        return job
