"""Files that are written whole or not at all, JSON, and locks that the system lets go when a process ends."""

from __future__ import annotations

import errno
import json
import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from ..scene.errors import In2nError

WINDOWS = sys.platform == "win32"
UMASK = os.umask(0)
os.umask(UMASK)


@contextmanager
def atomic_path(path: Path | str):
    """Yields a temporary path beside `path` with the same suffix; renames it over `path` on success, removes it on
    failure.

    Raises In2nError("disk_full") when the disk is full and In2nError("cannot_write") when the place is not writable.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".writing-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        yield Path(temporary)
        os.chmod(temporary, 0o666 & ~UMASK)  # mkstemp's files are for their owner alone
        os.replace(temporary, path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def write_error(path: Path, error: OSError) -> Exception:
    """The In2nError for a failed write that a user can mend; any other error as it is."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT) if hasattr(errno, "EDQUOT") else error.errno == errno.ENOSPC:
        return In2nError(
            "disk_full",
            f"The disk is full: {path} could not be written.",
            "Free some space or choose another workspace folder, then run again: it goes on from where it stopped.",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return In2nError(
            "cannot_write",
            f"{path} could not be written: no permission.",
            "Choose a workspace folder you may write to.",
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return In2nError(
            "cannot_write",
            f"{path} could not be written: a file is where a folder should be.",
            "Choose another folder.",
        )
    if error.errno in (errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOENT):
        return In2nError(
            "cannot_write",
            f"{path} could not be written ({error.strerror}).",
            "Choose another folder or a shorter name.",
        )
    return error


def write_json(path: Path | str, data) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1), encoding="utf-8")


def read_json(path: Path | str) -> dict:
    """Raises In2nError("missing_file"), In2nError("cannot_read") or In2nError("bad_json")."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise In2nError(
            "missing_file", f"{path} does not exist.", "Check the path, or run the earlier step first."
        ) from None
    except OSError as error:
        raise In2nError(
            "cannot_read", f"{path} could not be read ({error.strerror}).", "Check the path and its permissions."
        ) from None
    except (ValueError, RecursionError) as error:  # JSON's own errors, no UTF-8, numbers without end
        raise In2nError(
            "bad_json",
            f"{path} is not valid JSON ({error}).",
            "The file may be cut short or not what its name says; get it again.",
        ) from None


def try_lock(handle) -> bool:
    """Lock an open file for this process, or say that another one holds it. The system lets it go when the process
    ends."""
    try:
        if WINDOWS:
            import msvcrt

            handle.seek(0)
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
