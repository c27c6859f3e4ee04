"""Locks on files, which the system lets go when a process ends, however it ends.

Some network shares know no locks. There whoever has one says so in the file itself: which process it is, on which
machine, and when it began, so that one that was killed holds nobody up. Two that ask in the same moment are told apart
less surely than by the system.
"""

from __future__ import annotations

import errno
import os
import sys
import uuid
import weakref
from contextlib import suppress

from ..scene.unfinished import own_prefix, was_left

WINDOWS = sys.platform == "win32"
# what a system says of a lock that another process holds; any other error means that the place knows no locks
_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK, getattr(errno, "EDEADLOCK", errno.EDEADLK)}
_LONGEST = 200  # characters of a file that says who has it

_said: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # open file -> what we wrote into it


def try_lock(handle) -> bool:
    """Lock an open file for this process.

    Args:
        handle: The open file, to be read and written; given to `unlock` afterwards.

    Returns:
        False where another process, or another open file of this one, holds the lock.
    """
    try:
        if WINDOWS:
            import msvcrt  # of this platform only

            handle.seek(0)
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # of these platforms only

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError as error:
        return error.errno not in _HELD and _say_so(handle)


def unlock(handle) -> None:
    """Let go of a file and close it.

    Args:
        handle: The open file, whether it was locked or not.
    """
    with handle:
        if _said.pop(handle, None) is not None:
            with suppress(OSError, ValueError):
                handle.truncate(0)


def keep(handle) -> None:
    """Say that a file is still held, where that is not the system's business; to be called now and then.

    Args:
        handle: The open file.
    """
    if handle in _said:
        with suppress(OSError):
            os.utime(handle.name)


def is_said(handle) -> bool:
    """Whether somebody says in the file that it is held.

    Args:
        handle: The open file.
    """
    try:
        return bool(_first_line(handle))
    except (OSError, ValueError):
        return False


def _say_so(handle) -> bool:
    try:
        found = _first_line(handle)
        if found and not was_left(found, os.fstat(handle.fileno()).st_mtime):
            return False
        ours = own_prefix("") + uuid.uuid4().hex
        handle.truncate(0)
        handle.write(ours + "\n")
        handle.flush()
        if _first_line(handle) != ours:  # another one was a moment earlier
            return False
        _said[handle] = ours
    except (OSError, ValueError):  # it cannot be written either: nobody can hold it
        pass
    return True


def _first_line(handle) -> str:
    handle.seek(0)
    return handle.read(_LONGEST).split("\n")[0].strip()
