"""A job's life seen from Blender's main thread, without bpy.

A job is a plain function `work(emit, cancelled) -> result` that never touches Blender: it calls `emit` with Progress,
Artifact and str (a log line), and stops with Cancelled soon after `cancelled()` has become true. In a window it runs in
a thread and the main thread drains its events; in background mode it is called right where it is. At most one job runs
at a time.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable

from ..scene.errors import Cancelled, In2nError
from ..scene.reporting import Artifact, Progress

LOG_LINES = 500

# What to do about an error in Blender's words, in place of a hint that names the command line.
COMMAND_LINE = ("python3 -m", "--", "IN2N_")
HINTS = {
    "worker_not_started": "Verify or repair the engine in Preferences > Add-ons > IN2N.",
    "no_environment": "Install the engine in Preferences > Add-ons > IN2N.",
    "broken_environment": "Repair the engine in Preferences > Add-ons > IN2N.",
    "editor_missing": (
        "Download it in Preferences > Add-ons > IN2N, choose a folder that holds the model, or choose the miniature."
    ),
    "disk_full": "Free some space, then start it again: it goes on from where it stopped.",
    "no_network": (
        "Check the network and the proxy settings, or name a folder with wheels in Preferences > "
        "Add-ons > IN2N. Started again, it goes on."
    ),
    "wrong_python": "",
}

Work = Callable[[Callable[[object], None], Callable[[], bool]], object]


class Job:
    """One running or finished job. Everything but `_run` is for the main thread."""

    def __init__(self, label: str, work: Work):
        self.label = label
        self.progress: Progress | None = None
        self.image: str | None = None  # the last picture that the job wrote
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self.result: object = None
        self.error: BaseException | None = None
        self._work = work
        self._events: deque = deque()
        self._cancel = threading.Event()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Run in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name=f"in2n {self.label}", daemon=True)
        self._thread.start()

    def run_here(self, on_change: Callable[[Job], None] = lambda job: None) -> None:
        """Run to the end in the calling thread; on_change is called after every event. Ctrl+C cancels."""

        def emit(event):
            self._events.append(event)
            self.drain()
            on_change(self)

        try:
            self._run(emit)
        except KeyboardInterrupt:
            self.error = Cancelled()
        self.drain()

    def _run(self, emit: Callable[[object], None] | None = None) -> None:
        try:
            self.result = self._work(emit or self._events.append, self._cancel.is_set)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.error = error
            if not isinstance(error, (In2nError, Cancelled)):
                self._events.append("".join(traceback.format_exception(error)))
        finally:
            self._done.set()

    def drain(self) -> bool:
        """Take in what the job has said since the last call; True when something changed."""
        changed = False
        while self._events:
            event = self._events.popleft()
            changed = True
            if isinstance(event, Progress):
                self.progress = event
            elif isinstance(event, Artifact):
                if event.kind == "image":
                    self.image = event.path
            else:
                self.log.extend(str(event).splitlines())
        return changed

    def cancel(self) -> None:
        self._cancel.set()

    def wait(self, seconds: float) -> bool:
        """Whether the job had ended after at most so many seconds."""
        return self._done.wait(seconds)

    @property
    def cancelling(self) -> bool:
        return self._cancel.is_set() and not self.done

    @property
    def failed(self) -> bool:
        """Whether it ended by an error; being cancelled is none."""
        return self.error is not None and not isinstance(self.error, Cancelled)

    @property
    def done(self) -> bool:
        return self._done.is_set()

    @property
    def factor(self) -> float:
        """Progress in [0, 1]."""
        return min(self.progress.done / self.progress.total, 1.0) if self.progress and self.progress.total > 0 else 0.0

    def counted(self) -> str:
        """How far the job is: "120 / 2000"."""
        p = self.progress
        return f"{p.done} / {p.total}" if p and p.total > 1 else ""

    def doing(self) -> str:
        """What the job does and how long it will take: "Training, 4 min left"."""
        if self.cancelling:
            return "Cancelling…"
        p = self.progress
        if p is None:
            return f"{self.label}: starting the engine…"
        left = f", {spoken_duration(p.seconds_left)} left" if p.seconds_left is not None and p.done < p.total else ""
        return f"{p.message or self.label}{left}"

    def line(self) -> str:
        """Both in one line."""
        return f"{self.doing()} ({self.counted()})" if self.counted() and not self.cancelling else self.doing()

    def outcome(self, finished: str = "") -> str:
        """How the job ended, in one sentence."""
        if self.error is None:
            return finished or f"{self.label}: done."
        if isinstance(self.error, Cancelled):
            return f"{self.label}: cancelled. What was done is kept."
        if isinstance(self.error, In2nError):
            return spoken_error(self.error)
        first_line = next(iter(str(self.error).splitlines()), "")
        return f"{self.label} failed unexpectedly ({type(self.error).__name__}: {first_line}). See the log."


_current: Job | None = None


def current() -> Job | None:
    """The job that runs now or ran last in this Blender."""
    return _current


def running() -> bool:
    return _current is not None and not _current.done


def begin(job: Job) -> Job:
    """Make `job` the current one. Raises In2nError("busy") while another runs."""
    global _current
    if running():
        raise In2nError("busy", f"“{_current.label}” is still running.", "Wait for it to end or cancel it.")
    _current = job
    return job


def shut_down(seconds: float = 1.5) -> None:
    """Cancel the running job and wait for it a little."""
    if running():
        _current.cancel()
        _current.wait(seconds)


def spoken_error(error: In2nError) -> str:
    """One sentence and what to do about it in Blender."""
    hint = HINTS.get(error.code, error.hint) if any(mark in error.hint for mark in COMMAND_LINE) else error.hint
    return f"{error.message} {hint}".rstrip()


def spoken_duration(seconds: float) -> str:
    seconds = int(max(seconds, 0))
    if seconds < 90:
        return f"{seconds} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class ProgressPrinter:
    """Prints a job's progress for background mode: one line rewritten on a terminal, else a line every few seconds."""

    def __init__(self, stream=None, every: float = 5.0):
        self._stream = stream or sys.stdout
        self._every = every if not self._stream.isatty() else 0.1
        self._last = 0.0
        self._message = None

    def __call__(self, job: Job) -> None:
        now = time.monotonic()
        p = job.progress
        if p is None or (now - self._last < self._every and p.message == self._message and p.done < p.total):
            return
        self._last, self._message = now, p.message
        text = f"[{job.factor:4.0%}] {job.line()}"
        if self._stream.isatty():
            self._stream.write(f"\r{text:<100.100}" + ("\n" if p.done >= p.total else ""))
        else:
            self._stream.write(text + "\n")
        self._stream.flush()
