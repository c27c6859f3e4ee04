"""Files that are written whole or not at all, and JSON."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..scene.errors import Cancelled, In2nError
from ..scene.text import text_of
from ..scene.unfinished import TEMPORARY, clear_stale, own_prefix
from .patience import on_the_disk

WINDOWS = sys.platform == "win32"
UMASK = os.umask(0)
os.umask(UMASK)

LOOKED_EVERY = 600.0  # seconds, into the same folder for what killed processes left
# Windows replaces no file that another program has open, as a panel has a picture for a moment.
REPLACE_PATIENCE = 2.5  # seconds
REPLACE_PAUSE = 0.05
USER_MAPPED_FILE = 1224  # Windows' number of an error that Python has no kind of its own for

FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_MISPLACED = {errno.ENOTDIR, errno.EEXIST, errno.EISDIR}
_UNUSABLE = {errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.ENOENT}
_GONE = {
    errno.EIO,
    errno.ENXIO,
    errno.ENODEV,
    getattr(errno, "ESTALE", errno.EIO),
    getattr(errno, "ENOTCONN", errno.EIO),
}
# What a disk says of the user's own files and folders.
OF_THE_DISK = {*FULL, *_FORBIDDEN, *_MISPLACED, *_UNUSABLE, *_GONE, errno.EFBIG}
_TOLD_BY_TEXT = {*FULL, errno.EROFS, errno.EACCES, errno.EFBIG, errno.EIO}  # whose words mean nothing else


_must_stay: list[Path] = []  # folders that are not made again below which something is to be written


@contextmanager
def must_stay(root: Path | str) -> Iterator[None]:
    """Let nothing be written below a folder that is there now and gone later: who moved it would find half of a result
    where it was.

    Args:
        root: The folder, such as the workspace of a job; "": none. One that is not there yet may be made.
    """
    if not root or not os.path.isdir(root):
        yield
        return
    _must_stay.append(Path(root))
    try:
        yield
    finally:
        _must_stay.pop()


def _refuse_gone(path: Path) -> None:
    for root in _must_stay:
        if path.is_relative_to(root) and not os.path.isdir(root):
            raise In2nError(
                "workspace_gone",
                f"{root} is gone: it was moved or removed while a job worked in it.",
                "Put it back, or choose it where it is now, then run again: it goes on from what was saved.",
            )


@contextmanager
def atomic_path(path: Path | str, durable: bool = True, alone: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path` with the same suffix, and rename it over `path` when all went well.

    Args:
        path: The file to write; its folder is made where it is missing.
        durable: Whether the file has to survive a power cut right afterwards: it is then synced to disk before it takes
            the place of the old one.
        alone: Whether the temporary path lies in a folder of its own: for libraries that themselves write to a file of
            another name first, such as safetensors. Its name is theirs, and nobody would know it after a kill.

    Raises:
        In2nError: "disk_full", "workspace_gone" (see `must_stay`), and "cannot_write" where the place cannot be written
            to. Whatever is raised, the old file is as it was and the temporary one is gone.
    """
    path = Path(path)
    _refuse_gone(path)
    temporary = folder = None
    try:
        with on_the_disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _clear_now_and_then(path.parent)
            if alone:
                folder = tempfile.mkdtemp(prefix=own_prefix(TEMPORARY), dir=path.parent)
                temporary = os.path.join(folder, path.name)
            else:
                handle, temporary = tempfile.mkstemp(prefix=own_prefix(TEMPORARY), suffix=path.suffix, dir=path.parent)
                os.close(handle)
        yield Path(temporary)
        with on_the_disk(path):
            os.chmod(temporary, 0o666 & ~UMASK)  # mkstemp's files are for their owner alone
            if durable:
                _sync(temporary)
            _replace(temporary, path)
            if durable and not WINDOWS:
                _sync(path.parent)
    except Exception as error:
        _refuse_gone(path)
        said = disk_error_in(error)
        if said is None:
            raise
        raise write_error(path, said) from error
    finally:
        if temporary and os.path.exists(temporary):
            with suppress(OSError):
                os.unlink(temporary)
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


_cleared: dict[str, float] = {}  # when this process has looked, folder by folder, for what others left


def _clear_now_and_then(folder: Path) -> None:
    now = time.monotonic()
    if now - _cleared.get(str(folder), float("-inf")) > LOOKED_EVERY:
        _cleared[str(folder)] = now
        clear_stale(folder, TEMPORARY)


def _replace(temporary: str, path: Path) -> None:
    _patiently(os.replace, temporary, path)


def rename_path(source: Path | str, target: Path | str) -> None:
    """Rename a file or a folder, on Windows as soon as nobody has anything in it open.

    Args:
        source: What is there.
        target: What is not, on the same disk.

    Raises:
        OSError: As `os.rename`; on Windows after REPLACE_PATIENCE seconds.
    """
    _patiently(os.rename, source, target)


def _patiently(move: Callable, source: Path | str, target: Path | str) -> None:
    deadline = time.monotonic() + REPLACE_PATIENCE
    while True:
        try:
            move(source, target)
            return
        except OSError as error:
            if not WINDOWS or not _is_open_elsewhere(error) or time.monotonic() > deadline:
                raise
        time.sleep(REPLACE_PAUSE)


def _is_open_elsewhere(error: OSError) -> bool:
    """Whether Windows refuses for a moment: another program has the file open, or has it in its memory (a scanner)."""
    return isinstance(error, PermissionError) or getattr(error, "winerror", None) == USER_MAPPED_FILE


def _sync(path: Path | str) -> None:
    """Wait until what was written is on the disk; a place that cannot tell is taken at its word."""
    handle = os.open(path, os.O_RDONLY if not WINDOWS else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno in FULL or error.errno == errno.EIO:
            raise
    finally:
        os.close(handle)


def disk_error_in(error: Exception) -> OSError | None:
    """What the disk said, where an exception is of that: libraries in other languages tell it in their text alone.

    Args:
        error: What was raised on the way of writing a file.

    Returns:
        The OSError itself, or one with the number that the text names; None for any other exception.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error
    if not isinstance(error, (In2nError, Cancelled)):
        text = str(error).lower()
        if (number := next((n for n in _TOLD_BY_TEXT if os.strerror(n).lower() in text), None)) is not None:
            return OSError(number, os.strerror(number))
        if found := re.search(r"\(os error (\d+)\)", text):  # as Rust has it, on Windows by its own numbers
            number = int(found[1])
            known = OSError(0, "", None, number) if WINDOWS else OSError(number, os.strerror(number))
            return known if known.errno in OF_THE_DISK else None
    return error if isinstance(error, OSError) else None


def write_error(path: Path, error: OSError) -> Exception:
    """The In2nError for a failed write that a user can mend; any other error as it is.

    Args:
        path: What could not be written, for the message.
        error: What the system said.

    Returns:
        In2nError "disk_full" or "cannot_write", else `error` itself; to be raised.
    """
    if error.errno in FULL:
        return In2nError(
            "disk_full",
            f"The disk is full: {path} could not be written.",
            "Free some space or choose another workspace folder, then run again: it goes on from where it stopped.",
        )
    if error.errno in _FORBIDDEN:
        return In2nError(
            "cannot_write",
            f"{path} could not be written: no permission.",
            "Choose a workspace folder you may write to, and close what has the file open.",
        )
    if error.errno in _MISPLACED:
        return In2nError(
            "cannot_write",
            f"{path} could not be written: a file is where a folder should be, or a folder where a file should be.",
            "Choose another folder.",
        )
    if error.errno in _UNUSABLE:
        return In2nError(
            "cannot_write",
            f"{path} could not be written ({error.strerror}).",
            "Choose another folder or a shorter name.",
        )
    if error.errno in _GONE:
        return In2nError(
            "cannot_write",
            f"{path} could not be written: its disk does not answer ({error.strerror}).",
            "Connect the disk or share again, or choose another workspace folder, then run again.",
        )
    if error.errno == errno.EFBIG:
        return In2nError(
            "cannot_write",
            f"{path} could not be written: its disk takes no file that large.",
            "Choose a workspace folder on another disk: FAT32 takes at most 4 GB a file.",
        )
    return error


def write_json(path: Path | str, data: object, durable: bool = True) -> None:
    """Write JSON, whole or not at all.

    Args:
        path: The file to write; its folder is made where it is missing.
        data: What JSON can hold.
        durable: As `atomic_path`.

    Raises:
        In2nError: "disk_full", "cannot_write"; the old file is as it was then.
        ValueError: For a number that JSON does not know (NaN, infinity).
    """
    text = json.dumps(data, indent=1, allow_nan=False)
    with atomic_path(path, durable) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path | str) -> dict:
    """What a JSON file holds.

    Raises:
        In2nError: "missing_file", "bad_json", and "cannot_read" where the system does not let it be read.
    """
    path = Path(path)
    try:
        return json.loads(text_of(path))
    except FileNotFoundError:
        raise In2nError(
            "missing_file", f"{path} does not exist.", "Check the path, or run the earlier step first."
        ) from None
    except (ValueError, RecursionError) as error:  # of text that is no UTF-8 or no JSON, or nested without end
        raise In2nError(
            "bad_json",
            f"{path} is not valid JSON ({error}).",
            "The file may be cut short or not what its name says; get it again.",
        ) from None
    except OSError as error:
        raise In2nError(
            "cannot_read", f"{path} cannot be read ({error.strerror}).", "Check the file and its permissions."
        ) from None


def open_own(path: Path | str, mode: str):
    """Open a file of a workspace to be added to or locked, which a link must not lead elsewhere.

    Args:
        path: The file; made where it is missing.
        mode: "a", "w" or "a+"; its text is UTF-8, and what is no text is replaced.

    Raises:
        OSError: It cannot be opened, or is a link, a pipe or a device.
    """

    def opener(file: str, flags: int) -> int:
        handle = os.open(file, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise OSError(errno.EINVAL, "it is no file", file)
        return handle

    return open(path, mode, encoding="utf-8", errors="replace", opener=opener)
