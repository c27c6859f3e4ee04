"""Moving a workspace as a whole, over to another disk too. It is at the one place or at the other, never half at
both."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from ..scene.errors import In2nError
from ..scene.reporting import Reporter
from ..scene.unfinished import clear_stale, own_prefix
from .files import rename_path, write_error
from .journal import JOB_NAME, LOCK_NAME, LOG_NAME, is_locked

MOVING = ".moving-"  # how the folder begins, beside the target, while it is filled
MOVED = ".moved-"  # and beside the source, while that is removed
COPY_BYTES = 8 * 2**20  # copied between two looks at whether the job was cancelled


def move_workspace(source: Path, target: Path, report: Reporter) -> None:
    """Move a workspace: a rename on one disk, a copy from one to another.

    Args:
        source: The folder; nothing is done where it is not there.
        target: Where it goes; must not exist yet, and its parent is made where it is missing.
        report: Told of a copy's progress in MB, and asked whether the job was cancelled.

    Raises:
        In2nError: "workspace_busy", "folder_exists", "disk_full", "cannot_write"; the source is whole then.
        Cancelled: The source is whole then.
    """
    clear_stale(source.parent, MOVED)
    clear_stale(target.parent, MOVING)
    if not source.exists():
        return
    if is_locked(source):
        raise In2nError("workspace_busy", "A job runs in this workspace.", "Wait for it to end or cancel it.")
    if target.exists() and _is_whole_copy(source, target):  # a move was killed before it removed the source
        _remove(source)
        return
    if target.exists():
        raise In2nError("folder_exists", f"{target} is there already.", "Move or remove that folder first.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        rename_path(source, target)
    except OSError as error:
        if not _other_disk(source, target):
            raise write_error(target, error) from error
        _move_by_copying(source, target, report)


def _other_disk(source: Path, target: Path) -> bool:
    try:
        return os.stat(source).st_dev != os.stat(target.parent).st_dev
    except OSError:
        return False


def _move_by_copying(source: Path, target: Path, report: Reporter) -> None:
    copy = Path(tempfile.mkdtemp(prefix=own_prefix(MOVING), dir=target.parent))
    try:
        copy_files(source, [f for f in sorted(source.rglob("*")) if f.is_file()], copy, report, f"Moving {source.name}")
        rename_path(copy, target)
    except OSError as error:
        raise write_error(target, error) from error
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    _remove(source)


def _is_whole_copy(source: Path, target: Path) -> bool:
    """Whether every file is at both places, of the same size and time, whatever else was logged since."""

    def listed(folder: Path) -> dict[Path, tuple[int, int]]:
        of_jobs = {folder / name for name in (JOB_NAME, LOCK_NAME, LOG_NAME)}
        files = [path for path in folder.rglob("*") if path.is_file() and path not in of_jobs]
        return {path.relative_to(folder): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}

    try:
        found = listed(source)
        return bool(found) and not source.samefile(target) and found == listed(target)
    except OSError:
        return False


def _remove(source: Path) -> None:
    """Moved out of the way first, so that it is never there by half."""
    with suppress(OSError):  # its folder may not be written to
        trash = Path(tempfile.mkdtemp(prefix=own_prefix(MOVED), dir=source.parent))
        try:
            rename_path(source, trash / source.name)
        finally:
            shutil.rmtree(trash, ignore_errors=True)
    shutil.rmtree(source, ignore_errors=True)


def copy_files(folder: Path, files: list[Path], target: Path, report: Reporter, message: str) -> None:
    """Copy files to the same places in another folder, their times with them.

    Args:
        folder: Where the files lie.
        files: Files below `folder`, as paths that begin with it.
        target: Where they go; folders are made where they are missing.
        report: Told of the progress in MB, and asked whether the job was cancelled.
        message: What the progress says.

    Raises:
        OSError: A file that cannot be read or written.
        Cancelled: Between two blocks; what was copied stays.
    """
    total, done = sum(file.stat().st_size for file in files), 0
    for file in files:
        to = target / file.relative_to(folder)
        to.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "rb") as source, open(to, "wb") as sink:
            while chunk := source.read(COPY_BYTES):
                report.progress(done // 2**20, max(total // 2**20, 1), "MB", message)
                sink.write(chunk)
                done += len(chunk)
        shutil.copystat(file, to)  # edits are listed by their age
