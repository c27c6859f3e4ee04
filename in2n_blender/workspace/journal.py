"""What is being done in a workspace, on disk, so that a job outlives its Blender: it can be offered to be gone on with.

<workspace>/
  job.json     the job that runs, or that ended otherwise than by being done: its requests, how far it was, and why it
  ended job.lock     locked while it runs; the system lets it go when the process ends, however it ends
  engine.log   what jobs said, with times
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..link.requests import from_params
from ..scene.errors import Cancelled, In2nError
from ..scene.reporting import Progress
from .files import read_json, try_lock, write_json
from .layout import Workspace

LOG_NAME = "engine.log"  # the engine writes its tracebacks to the same file
LOG_LIMIT = 2 * 2**20  # bytes; a longer log is begun anew
NOTE_SECONDS = 3.0  # between two writings of how far a job is
LOGGED_SECONDS = 20.0  # between two lines about the same stage
RUNNING, CANCELLED, FAILED = "running", "cancelled", "failed"


@dataclass(frozen=True)
class Unfinished:
    """A job that was not done to its end. why: one sentence. done, total: how far it was."""

    label: str
    requests: tuple
    state: str
    why: str
    done: int
    total: int

    @property
    def factor(self) -> float:
        return min(self.done / self.total, 1.0) if self.total > 0 else 0.0


def unfinished(folder: Path | str) -> Unfinished | None:
    """The workspace's job that can be gone on with; None when there is none or when it runs, here or in another
    Blender."""
    folder = Path(folder)
    file = folder / "job.json"
    if not file.exists() or is_locked(folder):
        return None
    try:
        noted = read_json(file)
        requests = tuple(from_params(r["method"], r["params"]) for r in noted["requests"])
        why = noted["why"] or "Blender was closed while it ran."
        return Unfinished(noted["label"], requests, noted["state"], why, int(noted["done"]), int(noted["total"]))
    except (In2nError, OSError, KeyError, TypeError, ValueError):  # damaged, or of another version of the add-on
        return None


def forget(folder: Path | str) -> None:
    """Offer the workspace's unfinished job no more; what it saved stays."""
    with suppress(OSError):
        (Path(folder) / "job.json").unlink(missing_ok=True)


def is_locked(folder: Path | str) -> bool:
    """Whether a job runs in the workspace."""
    file = Path(folder) / "job.lock"
    if not file.exists():
        return False
    try:
        with open(file, "a+") as handle:
            return not try_lock(handle)
    except OSError:
        return False


def kept(work: Callable, folder: Path | str, label: str, requests, resumable: bool = True) -> Callable:
    """The work (see `blender.tasks`), with a journal and a log kept of it in the workspace.

    resumable: whether it can be gone on with when it does not come to its end. Called, it raises what the work raises,
    and In2nError("workspace_busy") when another process works in the workspace.
    """

    def run(emit, cancelled):
        with _locked(Workspace(folder).root) as root:
            journal = _Journal(root, label, requests if resumable else None)

            def told(event):
                journal.note(event)
                emit(event)

            try:
                result = work(told, cancelled)
            except BaseException as error:
                journal.ended(error)
                raise
            journal.ended(None)
            return result

    return run


@contextmanager
def _locked(root: Path):
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = open(root / "job.lock", "a+")
    except OSError as error:
        raise In2nError(
            "cannot_write",
            f"{root} cannot be written to ({error.strerror}).",
            "Choose another folder for the workspace.",
        ) from error
    with handle:
        for _ in range(5):  # who asks `is_locked` holds it for a moment
            if try_lock(handle):
                break
            time.sleep(0.05)
        else:
            raise In2nError(
                "workspace_busy", "Another Blender works in this workspace.", "Wait for it to end, or cancel it there."
            )
        yield root


class _Journal:
    """Writes job.json (unless requests is None) and engine.log while a job runs."""

    def __init__(self, root: Path, label: str, requests, clock=time.monotonic):
        self._file = root / "job.json"
        self._log = root / LOG_NAME
        self._clock = clock
        self._noted = self._logged = float("-inf")
        self._stage: tuple | None = None
        self._job = None
        if requests is not None:
            self._job = {
                "label": label,
                "requests": [{"method": r.method, "params": r.to_params()} for r in requests],
                "state": RUNNING,
                "why": "",
                "done": 0,
                "total": 0,
            }
        self._label = label
        self._say(f"--- {label}", new=True)
        self._write()

    def note(self, event) -> None:
        """Take an event of the job's in: Progress, Artifact or a line of its log."""
        if isinstance(event, str):
            self._say(event)
        if not isinstance(event, Progress):
            return
        if self._job is not None:
            self._job.update(done=event.done, total=event.total)
        now, stage = self._clock(), (event.unit, event.total)
        if stage != self._stage or now - self._logged >= LOGGED_SECONDS:
            self._stage, self._logged = stage, now
            self._say(f"{event.message} ({event.done} / {event.total} {event.unit})" if event.total else event.message)
        if self._job is not None and now - self._noted >= NOTE_SECONDS:
            self._noted = now
            self._write()

    def ended(self, error: BaseException | None) -> None:
        if error is None:
            self._say(f"{self._label}: done")
            if self._job is not None:
                self._file.unlink(missing_ok=True)
            return
        cancelled = isinstance(error, Cancelled)
        why = (
            "It was cancelled."
            if cancelled
            else error.message
            if isinstance(error, In2nError)
            else f"{type(error).__name__}: {error}"
        )
        why = next(iter(why.splitlines()), "")
        self._say(f"{self._label}: {why}")
        if not cancelled and not isinstance(error, In2nError):
            self._say("".join(traceback.format_exception(error)).rstrip())
        if self._job is not None:
            self._job.update(state=CANCELLED if cancelled else FAILED, why=why)
            self._write()

    def _write(self) -> None:
        if self._job is not None:
            with suppress(In2nError, OSError):  # the disk may be full; the job itself will say so
                write_json(self._file, self._job)

    def _say(self, text: str, new: bool = False) -> None:
        with suppress(OSError):
            begin_anew = new and self._log.exists() and self._log.stat().st_size > LOG_LIMIT
            with open(self._log, "w" if begin_anew else "a", encoding="utf-8") as log:
                log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
