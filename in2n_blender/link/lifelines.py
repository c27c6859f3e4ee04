"""Processes that end when who started them does, however that ended, and whatever they are busy with.

A process notices by itself that its input has ended, but a thread of Python's that waits for it gets its turn only
between two steps of the others: a library that is being loaded on a busy machine, or a long call that keeps Python's
lock, holds it up for seconds. So somebody else looks on: on Windows the system, elsewhere a small process.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress

WINDOWS = sys.platform == "win32"
LOOKED_EVERY = 5.0  # seconds, in case that the system does not tell

# Runs a program until it ends, or until the process that started this one does: its stdin is a pipe into which nothing
# is written. Then all that was started goes with it.
_GUARD = """
import os, signal, subprocess, sys, threading
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
def end_together():
    os.read(0, 1)
    if os.name == "nt":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(os.getpid())], capture_output=True)
    else:
        os.killpg(0, signal.SIGKILL)
threading.Thread(target=end_together, daemon=True).start()
os._exit(child.wait() & 255)
"""


def guarded(command: list[str], python: str = sys.executable) -> list[str]:
    """The command that runs a program which knows nothing of us, and ends it when we end.

    Args:
        command: The program and its arguments.
        python: What runs the guard.

    Returns:
        To be started by `process.spawn` with `stdin=True`, and to be left alone: its input's end is ours.
    """
    return [python, "-I", "-S", "-c", _GUARD, *command]


def end_after_input(patience: float, descriptor: int = 0) -> None:
    """Have this process killed some time after its input has ended, whatever it does then.

    To be called before there are threads. On Windows `tie` does it from the other side, and this does nothing.

    Args:
        patience: Seconds that it gets to end by itself.
        descriptor: Of the input, a pipe.
    """
    if WINDOWS:
        return
    process = os.getpid()
    life, ours = os.pipe()  # ends when this process does
    with suppress(OSError):
        if os.fork() == 0:
            _look_on(process, descriptor, life, patience)
        os.close(life)
        globals()["_life"] = ours  # stays open as long as the process lives


def _look_on(process: int, descriptor: int, life: int, patience: float) -> None:
    """In the small process. Nothing is read: what comes is for the other one."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # they go to the whole group; it ends with the other one
        _close_all_but(descriptor, life)
        looking = select.poll()
        looking.register(descriptor, getattr(select, "POLLRDHUP", 0))  # that of a socket, as sshd may have made it
        looking.register(life, 0)
        while not (ended := {number for number, _ in looking.poll(LOOKED_EVERY * 1000)}):
            if os.getppid() != process:
                return
        if life not in ended:
            last = select.poll()
            last.register(life, 0)
            if not last.poll(patience * 1000) and os.getppid() == process:
                os.kill(process, signal.SIGKILL)
    finally:
        os._exit(0)


def _close_all_but(*kept: int) -> None:
    """The other's output must end with it."""
    last = 0
    for number in sorted(kept):
        os.closerange(last, number)
        last = number + 1
    os.closerange(last, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") < 1 << 16 else 1 << 16)


def tie(process: subprocess.Popen) -> None:
    """Let the system end a process, and what it starts, when this one ends; on Windows, where it knows how to.

    Args:
        process: That has just been started.
    """
    if WINDOWS:
        with suppress(OSError):
            _put_into_job(int(process._handle))


_job = None  # as long as this process holds it open, the processes in it live


def _put_into_job(handle: int) -> None:
    import ctypes  # there is more of it on this platform
    from ctypes import wintypes

    global _job
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.CreateJobObjectW.restype = wintypes.HANDLE
    if _job is None:
        _job = wintypes.HANDLE(kernel.CreateJobObjectW(None, None))
        limits = _limits(ctypes, wintypes)
        extended_limits = 9  # JobObjectExtendedLimitInformation
        kernel.SetInformationJobObject(_job, extended_limits, ctypes.byref(limits), ctypes.sizeof(limits))
    kernel.AssignProcessToJobObject(_job, wintypes.HANDLE(handle))


def _limits(ctypes, wintypes):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION with JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE."""

    class Basic(ctypes.Structure):
        _fields_ = [
            ("PerProcessUserTimeLimit", ctypes.c_int64),
            ("PerJobUserTimeLimit", ctypes.c_int64),
            ("LimitFlags", wintypes.DWORD),
            ("MinimumWorkingSetSize", ctypes.c_size_t),
            ("MaximumWorkingSetSize", ctypes.c_size_t),
            ("ActiveProcessLimit", wintypes.DWORD),
            ("Affinity", ctypes.c_size_t),
            ("PriorityClass", wintypes.DWORD),
            ("SchedulingClass", wintypes.DWORD),
        ]

    class Extended(ctypes.Structure):
        _fields_ = [
            ("Basic", Basic),
            ("IoInfo", ctypes.c_uint64 * 6),
            ("ProcessMemoryLimit", ctypes.c_size_t),
            ("JobMemoryLimit", ctypes.c_size_t),
            ("PeakProcessMemoryUsed", ctypes.c_size_t),
            ("PeakJobMemoryUsed", ctypes.c_size_t),
        ]

    limits = Extended()
    limits.Basic.LimitFlags = 0x2000
    return limits
