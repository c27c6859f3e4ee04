"""Disks and shares that do not answer for a while: nobody who has something else to do waits for them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PATIENCE = 0.3  # seconds that a disk gets for a few lines
MOST_WAITING = 50  # things to be done on a disk that does not answer; what comes then is left out

_waits: dict[int, tuple[Path, float]] = {}  # thread -> what it waits for, and since when


@contextmanager
def on_the_disk(path: Path) -> Iterator[None]:
    """Around calls that end as soon as a disk has answered.

    Args:
        path: What is written.
    """
    _waits[threading.get_ident()] = path, time.monotonic()
    try:
        yield
    finally:
        _waits.pop(threading.get_ident(), None)


def longest_wait() -> tuple[Path, float] | None:
    """What this process has waited longest for, and for how many seconds; None where it waits for no disk."""
    waits = list(_waits.values())
    if not waits:
        return None
    path, since = min(waits, key=lambda wait: wait[1])
    return path, time.monotonic() - since


class Patient:
    """Does one thing after another in a thread. Usually each is done when `do` returns."""

    def __init__(self):
        self._queue: queue.SimpleQueue[tuple[Callable[[], None], threading.Event] | None] = queue.SimpleQueue()
        self._late: threading.Event | None = None
        threading.Thread(target=self._work, name="journal", daemon=True).start()

    def do(self, work: Callable[[], None], patience: float = PATIENCE, needed: bool = False) -> bool:
        """Do something after all that came before it.

        Args:
            work: What; it must raise nothing but OSError.
            patience: Seconds that are waited for it, unless something before it was waited for in vain.
            needed: Whether it is also done where much waits already.

        Returns:
            Whether it is done.
        """
        if self._queue.qsize() > MOST_WAITING and not needed:
            return False
        done = threading.Event()
        self._queue.put((work, done))
        if self._late is not None and not self._late.is_set():
            return False
        self._late = None if done.wait(patience) else done
        return self._late is None

    def end(self) -> None:
        """Let the thread go after what it has to do."""
        self._queue.put(None)

    def _work(self) -> None:
        while (asked := self._queue.get()) is not None:
            work, done = asked
            with suppress(OSError):
                work()
            done.set()
