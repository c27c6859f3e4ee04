"""The terminal: Ctrl-C as a question that jobs ask, and progress as a line that is rewritten."""

from __future__ import annotations

import shutil
import signal
import sys
import time

from ..scene.reporting import Artifact, Progress, spoken_duration


class Interruption:
    """Ctrl-C (and the request to terminate) as a question that jobs ask; the second Ctrl-C does not wait."""

    def __init__(self):
        self.asked = False
        self.asked_by_term = False
        self._before: dict = {}

    def __enter__(self) -> Interruption:
        try:
            self._before = {s: signal.signal(s, self._handle) for s in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not in the main thread: whoever called decides
            pass
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: one that is not Python's, such as Blender's own

    def _handle(self, number, _frame) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self.asked_by_term = number == signal.SIGTERM
        print("\nCancelling…", file=sys.stderr, flush=True)


class ProgressPrinter:
    """Shows events: one line rewritten on a terminal, else a plain line every few seconds and for every new message.

    Args:
        stream: Where to; None: the process's stdout.
        every: Seconds between two plain lines about the same stage.
        clock: Tells the time, in seconds.
    """

    def __init__(self, stream=None, every: float = 5.0, clock=time.monotonic):
        self._stream = stream or sys.stdout
        self._terminal = self._stream.isatty()
        self._every = every
        self._clock = clock
        self._said = float("-inf")
        self._stage: tuple | None = None
        self._open = False  # a line is there to be rewritten

    def __call__(self, event) -> None:
        if isinstance(event, Progress):
            self._progress(event)
        elif not isinstance(event, Artifact):
            self.close()
            self._say(f"{event}\n")

    def _progress(self, event: Progress) -> None:
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            self._say(f"\r{progress_line(event)[:width]:<{width}}")
            self._open = True
            return
        stage = (event.unit, event.total, event.done >= event.total > 0)
        now = self._clock()
        if stage != self._stage or now - self._said >= self._every:
            self._said, self._stage = now, stage
            self._say(progress_line(event) + "\n")

    def close(self) -> None:
        """End a line that was being rewritten."""
        if self._open:
            self._say("\n")
            self._open = False

    def _say(self, text: str) -> None:
        self._stream.write(printable(text))
        self._stream.flush()


def printable(text: str) -> str:
    """A text without what a terminal would obey or cannot show: names in it may be a stranger's.

    Args:
        text: With line ends, carriage returns and tabs, which stay.
    """
    return "".join(letter if letter.isprintable() or letter in "\n\r\t" else "\ufffd" for letter in text)


def progress_line(event: Progress, width: int = 24) -> str:
    """A line such as "[########----] 120/300 steps  training  2 min left".

    Args:
        event: How far the work is; without a total, its message is the line.
        width: Of the bar, in characters.
    """
    if event.total <= 0:
        return event.message
    part = min(max(event.done / event.total, 0.0), 1.0)
    bar = "#" * round(part * width)
    left = f"  {spoken_duration(event.seconds_left)} left" if event.seconds_left is not None else ""
    return f"[{bar:-<{width}}] {event.done}/{event.total} {event.unit}  {event.message}{left}"
