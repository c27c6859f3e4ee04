"""A job in words: what the sidebar, the terminal and the status say of one that runs or has ended. Without bpy."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from ..scene.errors import Cancelled, In2nError
from ..scene.reporting import Progress, spoken_duration

# What to do about an error in Blender's words, in place of a hint that names the command line.
COMMAND_LINE = ("python3 -m", "python -m", "--", "IN2N_")
HINTS = {
    "worker_not_started": "Verify or repair the engine in Preferences > Add-ons > IN2N.",
    "no_environment": "Install the engine in Preferences > Add-ons > IN2N.",
    "broken_environment": "Repair the engine in Preferences > Add-ons > IN2N.",
    "editor_missing": (
        "Download it in Preferences > Add-ons > IN2N, choose a folder that holds the model, or choose the miniature."
    ),
    "disk_full": "Free some space, then start it again: it goes on from where it stopped.",
    "no_network": (
        "Check the network and the proxy settings, or name a folder with wheels in Preferences > Add-ons > "
        "IN2N. Started again, it goes on."
    ),
    "wrong_python": "",
}


@dataclass
class ShownJob:
    """A job that runs or ran last.

    Attributes:
        id: The client's.
        label: What the interface calls it.
        in_engine: Whether it begins in the engine, which may first have to start.
        log_file: Where what it says is kept.
        progress: What it told last of how far it is.
        image: The picture that it wrote last.
        view: The photo that the picture is of; "": of none.
        cameras: The file of the cameras that it has found so far.
        asked_to_stop: Whether it was cancelled.
        ended: Whether its end has been told.
        result: What it returned.
        error: Why it did not come to its end; None: it did.
    """

    id: int
    label: str
    in_engine: bool = True
    log_file: Path | None = None
    progress: Progress | None = None
    image: str | None = None
    view: str = ""
    cameras: str | None = None
    asked_to_stop: bool = False
    ended: bool = False
    result: object = None
    error: BaseException | None = None

    @property
    def cancelling(self) -> bool:
        return self.asked_to_stop and not self.ended

    @property
    def failed(self) -> bool:
        """Whether it ended by an error; being cancelled is none."""
        return self.error is not None and not isinstance(self.error, Cancelled)

    @property
    def factor(self) -> float:
        """Progress in [0, 1]."""
        p = self.progress
        return min(max(p.done / p.total, 0.0), 1.0) if p and p.total > 0 else 0.0

    def picture(self) -> Path | None:
        """The picture to be looked at, of an edit the edited photo itself where it is; None while there is none."""
        if not self.image:
            return None
        last = Path(self.image)
        edited = last.parent / "dataset" / f"{self.view}.png"
        return edited if self.label == "Edit" and edited.is_file() else last

    def count(self) -> str:
        """How far it is: "120 / 2000"."""
        p = self.progress
        return f"{p.done} / {p.total}" if p and p.total > 1 else ""

    def activity(self) -> str:
        """What it does and how long it will take: "Training, 4 min left"."""
        if self.cancelling:
            return "Cancelling…"
        p = self.progress
        if p is None:
            return f"{self.label}: starting the engine…" if self.in_engine else f"{self.label}…"
        left = f", {spoken_duration(p.seconds_left)} left" if p.seconds_left is not None and p.done < p.total else ""
        return f"{p.message or self.label}{left}"

    def line(self) -> str:
        """Both in one line."""
        return f"{self.activity()} ({self.count()})" if self.count() and not self.cancelling else self.activity()

    def outcome(self, finished: str = "") -> str:
        """How the job ended, in one sentence.

        Args:
            finished: The sentence for a job that came to its end; "": one made from its label.
        """
        if self.error is None:
            return finished or f"{self.label}: done."
        if isinstance(self.error, Cancelled):
            return f"{self.label}: cancelled. What was done is kept."
        if isinstance(self.error, In2nError):
            return spoken_error(self.error)
        first_line = next(iter(str(self.error).splitlines()), "")
        return f"{self.label} failed unexpectedly ({type(self.error).__name__}: {first_line}). See the log."


def spoken_error(error: In2nError) -> str:
    """One sentence and what to do about it in Blender."""
    hint = HINTS.get(error.code, error.hint) if any(mark in error.hint for mark in COMMAND_LINE) else error.hint
    return f"{error.message} {hint}".rstrip()


class ProgressPrinter:
    """Prints a job's progress for background mode: one line rewritten on a terminal, else a line every few seconds."""

    def __init__(self, stream=None, every: float = 5.0):
        self._stream = stream or sys.stdout
        self._every = every if not self._stream.isatty() else 0.1
        self._last = 0.0
        self._message = None

    def __call__(self, job: ShownJob) -> None:
        """Print how far the job is, if it is time to."""
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
