"""One worker at a time writes in a workspace.

Its client holds the workspace's lock. Where the client is killed that lock is free at once, while its worker may still
write for a moment: so a worker has a lock of its own, and the next one waits for it.
"""

from __future__ import annotations

import getpass
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..scene.errors import In2nError
from ..scene.reporting import Reporter
from ..workspace.files import open_own
from ..workspace.hashes import hash_of
from ..workspace.locks import try_lock, unlock

PATIENCE = 8.0  # seconds: a worker whose client has gone is gone sooner
PAUSE = 0.1


@contextmanager
def alone_in(workspace: str, report: Reporter) -> Iterator[None]:
    """Keep other workers of this computer out of a workspace, once an earlier one is gone.

    Args:
        workspace: The folder, there or not; "": none.
        report: Asked whether the job was cancelled.

    Raises:
        In2nError: "workspace_busy" where another worker stays.
        Cancelled.
    """
    handle = _lock_file(workspace) if workspace else None
    if handle is None:
        yield
        return
    try:
        until = time.monotonic() + PATIENCE
        while not try_lock(handle):
            report.check()
            if time.monotonic() > until:
                raise In2nError(
                    "workspace_busy",
                    f"Another engine still works in the workspace {workspace}.",
                    "Wait for it to end, or end it.",
                )
            time.sleep(PAUSE)
        yield
    finally:
        unlock(handle)


def _lock_file(workspace: str):
    """Not in the workspace, which may be on a share that knows no locks: it is about processes of this computer."""
    try:
        mark = hash_of([getpass.getuser(), str(Path(workspace).resolve())])[:20]
        return open_own(Path(tempfile.gettempdir()) / f"in2n-{mark}.lock", "a+")
    except (OSError, KeyError, ImportError, RuntimeError):  # no user's name, or no place to write
        return None
