"""What is being done in a workspace, on disk, so that a job outlives its Blender: it can be offered to be gone on with.

<workspace>/
  job.json     the job that runs, or that ended otherwise than by being done: its requests, how far it was, and why it
  ended job.lock     locked while it runs; the system lets it go when the process ends, however it ends
  engine.log   what jobs said, with times
"""

from __future__ import annotations

import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..scene.errors import Cancelled, In2nError
from ..scene.reporting import Progress
from .files import open_own, read_json, write_error, write_json
from .layout import refuse_links_out
from .locks import is_said, keep, try_lock, unlock
from .patience import Patient

JOB_NAME, LOCK_NAME = "job.json", "job.lock"
LOG_NAME = "engine.log"  # the engine writes its tracebacks to the same file
LOG_LIMIT = 2 * 2**20  # bytes; a longer log is begun anew
NOTE_SECONDS = 3.0  # between two writings of how far a job is
CLOSING_PATIENCE = 2.0  # seconds that a disk gets before somebody is told that a job has ended
LOGGED_SECONDS = 20.0  # between two lines about the same stage
MOST_UNITS = 2**53  # of a job, so that a float holds them
RUNNING, CANCELLED, FAILED = "running", "cancelled", "failed"


@dataclass(frozen=True)
class Unfinished:
    """A job that was not done to its end.

    Attributes:
        label: What the interface called it.
        requests: (method, params) of each of its requests, unchecked.
        state: RUNNING (its process ended), CANCELLED or FAILED.
        why: One sentence.
        done, total: How far it was.
    """

    label: str
    requests: tuple[tuple[str, dict], ...]
    state: str
    why: str
    done: int
    total: int

    @property
    def factor(self) -> float:
        return min(self.done / self.total, 1.0) if self.total > 0 else 0.0


def unfinished(folder: Path | str) -> Unfinished | None:
    """The workspace's job that can be gone on with.

    Args:
        folder: The workspace.

    Returns:
        The job, or None where there is none, or where one runs, here or in another Blender.
    """
    folder = Path(folder)
    try:
        if not (folder / JOB_NAME).exists() or is_locked(folder):
            return None
        record = read_json(folder / JOB_NAME)
        requests = tuple((str(request["method"]), dict(request["params"])) for request in record["requests"])
        why = str(record["why"]) or "Blender was closed while it ran."
        state = str(record["state"])
        done, total = (max(0, min(int(record[key]), MOST_UNITS)) for key in ("done", "total"))
        return Unfinished(str(record["label"]), requests, state, why, done, total)
    except (In2nError, OSError, KeyError, TypeError, ValueError, OverflowError):  # damaged, or of another version
        return None


def forget(folder: Path | str) -> None:
    """Offer the workspace's unfinished job no more; what it saved stays."""
    with suppress(OSError):
        (Path(folder) / JOB_NAME).unlink(missing_ok=True)


def is_locked(folder: Path | str) -> bool:
    """Whether a job runs in the workspace."""
    file = Path(folder) / LOCK_NAME
    try:
        if not file.exists():
            return False
        handle = open_own(file, "a+")
        try:
            return not try_lock(handle)
        finally:
            unlock(handle)
    except OSError:
        return False


class Journal:
    """Holds a workspace's lock, and writes its job.json (unless `requests` is None) and engine.log while a job runs.

    Args:
        folder: The workspace, made where it is missing.
        label: What the interface calls the job.
        requests: (method, params) of each request of a job that can be gone on with; None: it is not noted.

    Raises:
        In2nError: "workspace_busy" where another process works in the workspace; "leads_out" where a folder of it is a
            link out of it; "cannot_write", "disk_full".
    """

    def __init__(self, folder: Path | str, label: str, requests=None, clock=time.monotonic):
        root = Path(folder)
        self._made = not root.exists()
        self._unused = not any((root / name).exists() for name in (LOCK_NAME, LOG_NAME, JOB_NAME))
        refuse_links_out(root)
        self._lock = _take_lock(root)
        self._file = root / JOB_NAME
        self._log = root / LOG_NAME
        self._clock = clock
        self._written = self._logged = float("-inf")
        self._stage: tuple | None = None
        self._label = label
        self._record = None
        if requests is not None:
            listed = [{"method": method, "params": params} for method, params in requests]
            self._record = {"label": label, "requests": listed, "state": RUNNING, "why": "", "done": 0, "total": 0}
        self._disk = Patient()
        self._say(f"--- {label}")
        self._write()

    def note(self, event: object) -> None:
        """Take in what the job reported, for the log and for how far the job is.

        Args:
            event: Progress, Artifact or a line of the job's log.
        """
        if isinstance(event, str):
            self._say(event)
        if not isinstance(event, Progress):
            return
        if self._record is not None:
            self._record.update(done=event.done, total=event.total)
        now, stage = self._clock(), (event.unit, event.total)
        if stage != self._stage or now - self._logged >= LOGGED_SECONDS:
            self._stage, self._logged = stage, now
            self._say(f"{event.message} ({event.done} / {event.total} {event.unit})" if event.total else event.message)
        if self._record is not None and now - self._written >= NOTE_SECONDS:
            self._written = now
            self._write()

    def close(self, error: BaseException | None) -> None:
        """Write how the job ended, and let go of the lock.

        Args:
            error: What ended it, or None where it was done.
        """
        try:
            self._end(error)
        finally:
            self._disk.do(lambda: unlock(self._lock), CLOSING_PATIENCE, needed=True)
            self._disk.end()
        refused = isinstance(error, In2nError) and self._record is None
        if refused and self._unused:  # it may be a folder of the user's that a job refused to work in
            self._vanish()

    def _vanish(self) -> None:
        """Leave nothing of ours in a folder in which nothing was done."""
        with suppress(OSError):
            for name in (LOG_NAME, LOCK_NAME):
                (self._file.parent / name).unlink(missing_ok=True)
            if self._made:
                self._file.parent.rmdir()

    def _end(self, error: BaseException | None) -> None:
        if error is None:
            self._say(f"{self._label}: done")
            if self._record is not None:
                self._disk.do(lambda: self._file.unlink(missing_ok=True), needed=True)
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
            self._say(getattr(error, "traceback", "") or "".join(traceback.format_exception(error)).rstrip())
        if self._record is not None:
            self._record.update(state=CANCELLED if cancelled else FAILED, why=why)
            self._write(needed=True)

    def _write(self, needed: bool = False) -> None:
        record = self._record and dict(self._record)
        self._disk.do(lambda: self._write_now(record), needed=needed)

    def _write_now(self, record: dict | None) -> None:
        keep(self._lock)
        if record is not None and self._file.parent.is_dir():  # it may have been moved
            with suppress(In2nError, OSError, ValueError):  # the disk may be full; the job itself will say so
                write_json(self._file, record, durable=False)

    def _say(self, text: str) -> None:
        said = time.strftime("%Y-%m-%d %H:%M:%S")
        self._disk.do(lambda: self._say_now(f"{said} {text}"))

    def _say_now(self, line: str) -> None:
        with suppress(OSError):
            begin_anew = self._log.exists() and self._log.stat().st_size > LOG_LIMIT
            with open_own(self._log, "w" if begin_anew else "a") as log:
                log.write(line + "\n")


def _take_lock(root: Path):
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = open_own(root / LOCK_NAME, "a+")
    except OSError as error:
        raise write_error(root, error) from error
    for attempt in range(5):  # who asks `is_locked` holds it for a moment
        if try_lock(handle):
            return handle
        if attempt < 4:
            time.sleep(0.02)
    said = is_said(handle)
    unlock(handle)
    gone = f" If it was on another computer and is no more, remove {LOCK_NAME} from that folder." if said else ""
    raise In2nError(
        "workspace_busy",
        f"Another program works in the workspace {root}.",
        f"Wait for it to end, or cancel it there.{gone}",
    )
