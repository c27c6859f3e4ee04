"""Starting other programs so that they can be read without blocking and ended for certain. Standard library only."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .lifelines import tie

WINDOWS = sys.platform == "win32"
LOG_LIMIT = 5 * 2**20  # bytes
LONGEST_LINE = 16 * 2**20  # bytes of a line that are kept; nothing that a program here says is near it
MOST_WAITING = 10_000  # lines that are read before somebody asks for them
# Blender sets the first two for its own Python; the others would put the user's packages before the environment's
_FOREIGN = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONUSERBASE", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")


def clean_environment(env: dict | None = None) -> dict[str, str]:
    """The environment variables for another Python: without this one's own, and speaking UTF-8.

    Args:
        env: The variables to begin with; None: this process's.
    """
    base = dict(os.environ if env is None else env)
    for name in _FOREIGN:
        base.pop(name, None)
    return {**base, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}


def spawn(
    command: list[str], env: dict | None = None, cwd=None, stdin: bool = False, merge: bool = True, errors=None
) -> subprocess.Popen:
    """Start a process in a group of its own, without a window; its output is a pipe of bytes.

    Its own group: Ctrl-C in the terminal reaches only us, and the whole tree can be ended at once.

    Args:
        command: The program and its arguments.
        env: All its environment variables; None: this process's.
        cwd: The folder that it starts in; None: this process's.
        stdin: Whether its input is a pipe, else it is empty.
        merge: Whether stderr goes into the same pipe as stdout, else it has one of its own.
        errors: An open file that stderr goes to instead.

    Raises:
        OSError: When the program cannot be started.
    """
    flags = (
        {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
        if WINDOWS
        else {"start_new_session": True}
    )
    process = subprocess.Popen(
        command,
        env=env,
        cwd=cwd,
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors or (subprocess.STDOUT if merge else subprocess.PIPE),
        **flags,
    )
    tie(process)
    return process


def end(process: subprocess.Popen, grace: float = 1.0) -> None:
    """Ask the process and its children to end, then make them.

    Args:
        process: Started by `spawn`.
        grace: Seconds that it gets to end by itself.
    """
    if process.poll() is None:
        _signal(process, hard=False)
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            pass
    if process.poll() is None:
        _signal(process, hard=True)
        with suppress(subprocess.TimeoutExpired):  # it waits for a disk that does not answer: it ends when that does
            process.wait(5)


def _signal(process: subprocess.Popen, hard: bool) -> None:
    try:
        if WINDOWS:
            subprocess.run(
                ["taskkill", "/T", *(["/F"] if hard else []), "/PID", str(process.pid)],
                capture_output=True,
                creationflags=subprocess.CREATE_NO_WINDOW,
            )
            if hard:
                process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL if hard else signal.SIGTERM)
    except (OSError, ProcessLookupError):
        pass


def lines_of(pipe, longest: int = LONGEST_LINE) -> Iterator[bytes]:
    """The lines of a stream of bytes; of one without an end only its beginning, so that it fills no memory.

    Args:
        pipe: The stream.
        longest: Bytes of a line that are kept; the rest of it is read and forgotten.

    Yields:
        Each line, with its end where that was kept.
    """
    while line := pipe.readline(longest):
        yield line
        while line and not line.endswith(b"\n"):
            line = pipe.readline(longest)


class Lines:
    """A pipe's lines, read by a thread, so that whoever asks never waits longer than it wants to.

    A program that says more than anybody takes is held up by its pipe, and fills no memory here.
    """

    def __init__(self, process: subprocess.Popen, pipe=None):
        self.process = process
        self._pipe = pipe or process.stdout
        self._queue: queue.Queue = queue.Queue(MOST_WAITING)
        self.ended = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for raw in lines_of(self._pipe):
                self._queue.put(raw.decode("utf-8", "replace").rstrip("\r\n"))
        except (OSError, ValueError):
            pass
        self._queue.put(None)

    def get(self, timeout: float = 0.0) -> str | None:
        """The next line, without its end.

        Args:
            timeout: Seconds to wait for it; 0: not at all.

        Returns:
            The line, or None: nothing came in that time, or (`ended`) nothing will come any more.
        """
        if self.ended:
            return None
        try:
            line = self._queue.get(timeout=timeout) if timeout else self._queue.get_nowait()
        except queue.Empty:
            return None
        self.ended = line is None
        return line

    def drain(self, timeout: float) -> list[str]:
        """All lines until the pipe ends or the time is over.

        Args:
            timeout: Seconds.
        """
        lines, deadline = [], time.monotonic() + timeout
        while not self.ended and time.monotonic() < deadline:
            line = self.get(0.1)
            if line is not None:
                lines.append(line)
        return lines

    def stop(self, grace: float = 1.0) -> None:
        """End the process if it still runs, and let go of the pipe.

        Args:
            grace: Seconds that it gets to end by itself.
        """
        end(self.process, grace)
        if self.ended:
            self._pipe.close()


class Writer:
    """Writes to a process's input in a thread, so that a process that does not read holds nobody up."""

    def __init__(self, process: subprocess.Popen):
        self._pipe = process.stdin
        self._queue: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=self._write, daemon=True).start()

    def write(self, text: str) -> None:
        """Send a text as soon as the process reads."""
        self._queue.put(text.encode("utf-8"))

    def close(self) -> None:
        """Close the process's input after all that was written."""
        self._queue.put(None)

    def _write(self) -> None:
        with suppress(OSError, ValueError):  # it has ended, which whoever reads its output finds out
            while (data := self._queue.get()) is not None:
                self._pipe.write(data)
                self._pipe.flush()
        with suppress(OSError, ValueError):
            self._pipe.close()


class LogCopy:
    """Copies a pipe to a log file, begun anew when it becomes too long, and remembers the last line.

    The pipe is read to its end whatever becomes of the file: a process whose output nobody reads stops at its next
    line.
    """

    def __init__(self, pipe, log: Path):
        self._last = ""
        self._thread = threading.Thread(target=self._read, args=(pipe, log), daemon=True)
        self._thread.start()

    def last_line(self) -> str:
        """What was written last, once the pipe has ended or a second later."""
        self._thread.join(1.0)
        return self._last[:300]

    def _read(self, pipe, log: Path) -> None:
        file = self._open(log)
        with suppress(OSError, ValueError):
            for line in lines_of(pipe, LOG_LIMIT // 4):
                self._last = line.decode("utf-8", "replace").strip() or self._last
                if file is not None:
                    with suppress(OSError):  # the disk may be full
                        if file.tell() > LOG_LIMIT:
                            file.truncate(0)
                        file.write(line)
        if file is not None:
            with suppress(OSError):
                file.close()

    def _open(self, log: Path):
        with suppress(OSError):
            log.parent.mkdir(parents=True, exist_ok=True)
            begin_anew = log.exists() and log.stat().st_size > LOG_LIMIT
            return open(log, "wb" if begin_anew else "ab", buffering=0)
        return None


# --- Python in Blender ----------------------------------------------------------------------------------------------

PACKAGE_PARENT = Path(__file__).resolve().parents[2]


def blender_command(python: str, module: str, arguments: list[str]) -> list[str]:
    """The command that runs a module of this package where bpy can be imported; to be started in PACKAGE_PARENT.

    Args:
        python: Blender's program, or a Python that has bpy.
        module: The module's full name.
        arguments: Its command line.
    """
    if not Path(python).stem.lower().startswith("blender"):
        return [python, "-m", module, *arguments]
    run = (
        f"import sys, runpy; sys.path.insert(0, {str(PACKAGE_PARENT)!r}); runpy.run_module({module!r}, "
        "run_name='__main__')"
    )
    return [
        python,
        "--background",
        "--factory-startup",
        "--python-exit-code",
        "1",
        "--python-expr",
        run,
        "--",
        *arguments,
    ]
