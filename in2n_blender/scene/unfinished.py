"""Files and folders that are not whole yet: whose they are, and that those of killed processes are cleared.

Their names say which process makes them and when that process began, for systems give numbers out again: some after
minutes, and a thread has one, too.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

TEMPORARY = ".writing-"  # how the names of files begin that are not whole yet
STALE_SECONDS = 86_400.0  # what nobody has written to for so long is nobody's any more
_MOST_DIGITS = 20  # of a process's number


def _machine() -> str:
    """Folders may be shared between machines, and between containers on one, whose processes have the same numbers."""
    space = ""
    with suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return hashlib.blake2b(f"{platform.node()} {space}".encode(), digest_size=3).hexdigest()


MACHINE = _machine()


def own_prefix(kind: str) -> str:
    """How the names of this process's unfinished files or folders of a kind begin.

    Args:
        kind: How those of all processes begin, such as TEMPORARY.
    """
    return f"{kind}{os.getpid()}-{MACHINE}-{_own_birth(os.getpid())}-"


@lru_cache(1)
def _own_birth(process: int) -> str:
    return birth_of(process) or "x"


def clear_stale(folder: Path | str, kind: str) -> None:
    """Remove the unfinished files and folders that killed processes left in a folder.

    Those of this machine's processes that have ended go; those of its processes that run stay, however long a computer
    sleeps; and of others those go that nobody has written to for STALE_SECONDS.

    Args:
        folder: Where they lie; need not exist.
        kind: How their names begin; see `own_prefix`.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        stale = [entry.path for entry in entries if entry.name.startswith(kind) and _is_stale(entry, kind)]
        for path in stale:
            with suppress(OSError):
                shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


def _is_stale(entry: os.DirEntry, kind: str) -> bool:
    try:
        return was_left(entry.name.removeprefix(kind), entry.stat(follow_symlinks=False).st_mtime)
    except OSError:
        return False


def was_left(owner: str, written: float) -> bool:
    """Whether nobody goes on with something any more.

    Args:
        owner: Begins as `own_prefix("")` does in the process that made it.
        written: When it was last written to, in seconds of the clock.

    Returns:
        Whether that process has ended, where it was one of this machine; else whether STALE_SECONDS have passed.
    """
    process, machine, began, *_ = [*owner.split("-"), "", ""]
    if machine == MACHINE and process.isdecimal() and len(process) < _MOST_DIGITS:
        birth = birth_of(int(process))
        if birth is None:
            return True
        if birth and began.isdecimal():
            return birth != began
    return time.time() - written > STALE_SECONDS


def birth_of(process: int) -> str | None:
    """When a process began, which tells it from one that gets its number later.

    Args:
        process: Its number on this machine.

    Returns:
        Decimal digits, in a unit of the system's; "" where the system does not tell; None where no such process runs.
    """
    if sys.platform == "win32":
        return _birth_on_windows(process)
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except OSError:  # somebody else's
        pass
    return _birth_on_linux(process) if sys.platform == "linux" else _birth_by_ps(process)


def _birth_on_linux(process: int) -> str | None:
    """In ticks from the start of the system, by proc(5). One that has ended and is not waited for holds no file."""
    try:
        state, *numbers = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
        return None if state in (b"Z", b"X") else numbers[18].decode()
    except (OSError, ValueError, IndexError):  # it is not shown
        return ""


def _birth_by_ps(process: int) -> str:
    """To the second, by ps(1)."""
    try:
        shown = subprocess.run(
            ["ps", "-o", "lstart=", "-p", str(process)],
            env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
            capture_output=True,
            timeout=5,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    words = b" ".join(shown.split())
    return str(int.from_bytes(hashlib.blake2b(words, digest_size=5).digest(), "big")) if words else ""


def _birth_on_windows(process: int) -> str | None:
    """In 100 ns since 1601, by GetProcessTimes."""
    import ctypes  # there is more of it on this platform
    from ctypes import wintypes

    invalid_parameter, still_active, query = 87, 259, 0x1000
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.OpenProcess.restype = wintypes.HANDLE
    handle = kernel.OpenProcess(query, False, wintypes.DWORD(process))
    if not handle:
        return None if ctypes.get_last_error() == invalid_parameter else ""
    handle = wintypes.HANDLE(handle)
    try:
        code, times = wintypes.DWORD(), [wintypes.FILETIME() for _ in range(4)]
        if kernel.GetExitCodeProcess(handle, ctypes.byref(code)) and code.value != still_active:
            return None
        if not kernel.GetProcessTimes(handle, *map(ctypes.byref, times)):
            return ""
        return str(times[0].dwHighDateTime << 32 | times[0].dwLowDateTime)
    finally:
        kernel.CloseHandle(handle)
