"""How long work reports: progress, the files that it wrote, lines of a log; and how it notices that it was
cancelled."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from .errors import Cancelled


@dataclass(frozen=True)
class Progress:
    done: int
    total: int
    unit: str
    message: str
    seconds_left: float | None = None


@dataclass(frozen=True)
class Artifact:
    """A file that a job has just written: kind is "image", "frame", "mesh", "splats", "dataset", "cameras",
    "checkpoint" or "report".

    view: The photo that an image is of; "": of none.
    """

    kind: str
    path: str
    view: str = ""


def seconds_left(started: float, done: int, total: int) -> float | None:
    """How long a job that goes on as before still takes.

    Args:
        started: When it began, by `time.monotonic`.
        done: How much is done.
        total: Of how much.

    Returns:
        None while nothing is done.
    """
    return (time.monotonic() - started) / done * (total - done) if done else None


class Reporter:
    """What a running job calls; `progress` and `check` also are where it notices that it was cancelled.

    Args:
        emit: Receives Progress, Artifact and str (a line of the log).
        cancelled: Asked at every call of `progress` and `check`, which raise Cancelled where it says yes.
    """

    def __init__(
        self, emit: Callable[[object], None] = lambda event: None, cancelled: Callable[[], bool] = lambda: False
    ):
        self._emit = emit
        self._cancelled = cancelled

    def progress(self, done: int, total: int, unit: str, message: str, seconds_left: float | None = None) -> None:
        """Tell how far the work is.

        Args:
            done: Units that are done.
            total: Units in all; 0 where that is not known.
            unit: What is counted, such as "step", "photos" or "MB".
            message: What is being done.
            seconds_left: An estimate, None where there is none.

        Raises:
            Cancelled: Where the job was cancelled.
        """
        self.check()
        self._emit(Progress(done, total, unit, message, seconds_left))

    def check(self) -> None:
        """Notice that the job was cancelled.

        Raises:
            Cancelled: Where it was.
        """
        if self._cancelled():
            raise Cancelled()

    def is_cancelled(self) -> bool:
        return self._cancelled()

    def artifact(self, kind: str, path, view: str = "") -> None:
        """Tell of a file that was just written.

        Args:
            kind: As `Artifact.kind`.
            path: The file.
            view: As `Artifact.view`.
        """
        self._emit(Artifact(kind, str(path), view))

    def log(self, text: str) -> None:
        """Add a line to the job's log."""
        self._emit(str(text))


def spoken_duration(seconds: float) -> str:
    """A duration in words: "40 s", "3 min", "1.5 h".

    Args:
        seconds: The duration; less than 0 counts as 0.
    """
    seconds = int(max(seconds, 0))
    if seconds < 90:
        return f"{seconds} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
