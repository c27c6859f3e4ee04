"""A disk or a network share that does not answer is told, while a job waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..workspace.patience import longest_wait

ASKED_EVERY = 1.0  # seconds
TOLD_AFTER = 10.0  # seconds that a disk may take


def tell_of_stalls(tell: Callable[[str], None], ended: threading.Event) -> None:
    """Look on in a thread.

    Args:
        tell: Is given a sentence and a hint, once each time.
        ended: Set when nobody is to be told any more.
    """
    threading.Thread(target=_look_on, args=(tell, ended), name="disks", daemon=True).start()


def _look_on(tell: Callable[[str], None], ended: threading.Event) -> None:
    told = None
    while not ended.wait(ASKED_EVERY):
        wait = longest_wait()
        if wait is None or wait[1] < TOLD_AFTER:
            if told is not None:
                tell(f"The disk of {told} answers again.")
            told = None
        elif told is None:
            told = wait[0]
            tell(
                f"The disk of {told} has not answered for {wait[1]:.0f} seconds. Check the disk, or the network if it "
                "is a share: the job goes on as soon as it answers."
            )
