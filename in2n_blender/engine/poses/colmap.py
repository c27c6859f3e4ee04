"""COLMAP as the searches call it: quiet, on a few threads, and ended early when the job is cancelled."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pycolmap

from ...scene.errors import Cancelled
from ...scene.reporting import Reporter

THREADS = min(os.cpu_count() or 1, 8)
ASKED_EVERY = 0.1  # seconds, whether the job was cancelled
pycolmap.logging.minloglevel = pycolmap.logging.ERROR.value


def run_colmap(call: Callable[[object], None], report: Reporter) -> None:
    """A long call of COLMAP's in a thread, which ends early when the job is cancelled.

    Args:
        call: Takes a cancellation token of COLMAP's; what it raises is raised here.
        report: Asked ten times a second whether the job was cancelled.

    Raises:
        Cancelled.
    """
    token, errors = pycolmap.CancellationToken(), []

    def work() -> None:
        try:
            call(token)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="colmap", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(ASKED_EVERY)
        if report.is_cancelled():
            token.cancel()
            thread.join()
            raise Cancelled()
    if errors:
        raise errors[0]
