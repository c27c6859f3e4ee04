"""The one place that carries out what `transitions` decides: it starts the worker, reads and writes its pipes, locks
workspaces, keeps their journals and runs work in threads.

Nothing in `submit`, `cancel`, `release` or `poll` waits, so that Blender can call them from its main thread; a window
polls from one timer, and `run` loops over the same `poll`.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from ..scene.errors import Cancelled, In2nError
from ..scene.reporting import Reporter
from ..workspace.journal import Journal
from . import transitions as t
from .messages import HELLO_ID, EngineBug
from .process import Lines, LogCopy, Writer, clean_environment, end, spawn
from .requests import Request

WORKER = Path(__file__).resolve().parents[1] / "engine" / "worker.py"
POLL_SECONDS = 0.03
STOP_PATIENCE = 4.0  # seconds that a worker gets to end by itself
THREAD_PATIENCE = 1.5  # seconds that work in a thread gets to notice that it was cancelled

# Those whose jobs are noted in the workspace, to be offered again where they do not come to their end.
RESUMABLE = ("reconstruct", "edit", "render", "mesh")

Work = Callable[[Reporter], object]


class Client:
    """One queue of jobs and the worker process that they need. Methods may be called from any thread.

    Args:
        python: The interpreter of the engine's environment, for jobs that name no other.
        log: The file that takes what the worker writes to stderr.
        worker: The worker's program, for tests.
    """

    def __init__(self, python: Path | str | None, log: Path | str, worker: Path | str = WORKER):
        self.state = t.State()
        self.python = str(python) if python else ""
        self.info: dict = {}
        self.log = Path(log)
        self._worker = str(worker)
        self._ids = itertools.count(HELLO_ID + 1)
        self._lock = threading.RLock()
        self._told: list = []
        self._events: deque = deque()
        self._handling = False
        self._process: _Process | None = None
        self._threads: dict[int, _Thread] = {}
        self._journals: dict[int, Journal] = {}

    # -- what others ask

    def submit(
        self,
        requests: Request | Sequence[Request],
        label: str = "",
        workspace: Path | str = "",
        python: Path | str = "",
    ) -> int:
        """Queue requests as one job, done one after another; the last one's result is the job's.

        Args:
            requests: Of `link.requests`.
            label: What the interface calls the job.
            workspace: The folder to lock, and to keep a journal in, while it runs; "": the requests' own where all name
                one, else none.
            python: Another interpreter than the client's.

        Returns:
            The job's id.

        Raises:
            In2nError: What `Request.check` raises; a job that cannot be started ends with `Failed` instead.
        """
        requests = (requests,) if isinstance(requests, Request) else tuple(requests)
        for request in requests:
            request.check()
        named = [getattr(request, "workspace", "") for request in requests]
        place = str(workspace) or (named[-1] if all(named) else "")
        resumable = bool(place) and requests[-1].method in RESUMABLE
        return self._submit(
            label=label or requests[-1].method,
            requests=requests,
            workspace=place,
            resumable=resumable,
            python=str(python) or self.python,
        )

    def submit_work(self, work: Work, label: str, workspace: Path | str = "", without_engine: bool = False) -> int:
        """Queue work that needs no torch; it runs in a thread, reports to its Reporter and stops soon after Cancelled.

        Args:
            work: Called with a Reporter; what it returns is the job's result.
            label: What the interface calls the job.
            workspace: The folder to lock while it runs.
            without_engine: Whether a worker that runs has to end first, because it may have the files open.
        """
        return self._submit(work, label=label, workspace=str(workspace), without_engine=without_engine)

    def cancel(self, job: int | None = None) -> None:
        """Cancel a job, or all; its Failed(Cancelled) follows when it has stopped."""
        self._happen(t.Cancel(job, time.monotonic()))

    def release(self) -> None:
        """End the worker, and free its memory, if no job uses it."""
        self._happen(t.Release())

    def poll(self) -> list:
        """Everything that happened since the last call: Ready, Started, Reported, Finished, Failed."""
        with self._lock:
            self._pump()
            told, self._told = self._told, []
            return told

    @property
    def is_running(self) -> bool:
        """Whether there is a worker process."""
        process = self._process
        return process is not None and process.alive

    def stop(self, patience: float = STOP_PATIENCE) -> None:
        """Cancel all jobs and end the worker; return when it is gone. The jobs' ends are told by the next `poll`."""
        self._happen(t.Stop(time.monotonic()))
        deadline = time.monotonic() + patience
        while self._process and time.monotonic() < deadline:
            with self._lock:
                self._pump()
            time.sleep(POLL_SECONDS)
        if self._process:
            self._process.kill()
        deadline = time.monotonic() + THREAD_PATIENCE
        while (self._process or self._threads) and time.monotonic() < deadline:
            with self._lock:
                self._pump()
            time.sleep(POLL_SECONDS)

    def run(
        self,
        requests: Request | Sequence[Request],
        on_event: Callable[[object], None] = lambda event: None,
        cancelled: Callable[[], bool] = lambda: False,
        label: str = "",
    ) -> dict:
        """Do one job and return its result. on_event receives Progress, Artifact and str.

        Not to be mixed with `poll` elsewhere at the same time: events are told once.

        Raises:
            In2nError: "workspace_busy" where another process works in the workspace, and whatever the job raises.
            EngineBug: For a mistake in the program.
            Cancelled: When `cancelled()` became true, or another thread cancelled the job.
        """
        return self.wait(self.submit(requests, label), on_event, cancelled)

    def wait(
        self,
        job: int,
        on_event: Callable[[object], None] = lambda event: None,
        cancelled: Callable[[], bool] = lambda: False,
    ):
        """Poll until a job has ended; returns its result and raises as `run`."""
        asked = False
        while True:
            if not asked and cancelled():
                asked = True
                self.cancel(job)
            for event in self.poll():
                if getattr(event, "job", None) != job:
                    continue
                if isinstance(event, t.Reported):
                    on_event(event.event)
                elif isinstance(event, t.Finished):
                    return event.result
                elif isinstance(event, t.Failed):
                    raise event.error
            time.sleep(POLL_SECONDS)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    # -- events in, effects out

    def _submit(self, work: Work | None = None, **fields) -> int:
        with self._lock:
            self._pump()  # a worker that ended since the last job is started anew, not blamed on this one
            job = t.Job(next(self._ids), **fields)
            if work is not None:
                self._threads[job.id] = _Thread(work)
            self._happen(t.Submit(job))
            return job.id

    def _happen(self, event) -> None:
        """Take an event in. What its effects cause comes after them, in the order in which it is caused."""
        with self._lock:
            self._events.append(event)
            if self._handling:
                return
            self._handling = True
            try:
                while self._events:
                    self.state, effects = t.transition(self.state, self._events.popleft())
                    for effect in effects:
                        self._do(effect)
            finally:
                self._handling = False

    def _do(self, effect) -> None:
        if isinstance(effect, t.Tell):
            self._tell(effect.event)
        elif isinstance(effect, t.StartProcess):
            self._start(effect.python)
        elif isinstance(effect, t.Send) and self._process:
            self._process.send(effect.message)
        elif isinstance(effect, t.CloseInput) and self._process:
            self._process.close_input()
        elif isinstance(effect, t.Kill) and self._process:
            self._process.kill()
        elif isinstance(effect, t.Open):
            self._open(effect.job)
        elif isinstance(effect, t.Note):
            if journal := self._journals.get(effect.job.id):
                journal.note(effect.event)
        elif isinstance(effect, t.Close):
            if journal := self._journals.pop(effect.job.id, None):
                journal.close(effect.error)
        elif isinstance(effect, t.RunThread):
            self._threads[effect.job.id].start()
        elif isinstance(effect, t.CancelThread):
            self._threads[effect.job.id].cancelled.set()

    def _tell(self, event) -> None:
        if isinstance(event, t.Ready):
            self.info = event.info
        if isinstance(event, (t.Finished, t.Failed)):
            self._threads.pop(event.job, None)
        self._told.append(event)

    def _start(self, python: str) -> None:
        try:
            self._process = _Process([python, "-I", "-X", "utf8", self._worker], self.log)
        except (OSError, ValueError) as error:
            self._happen(t.NotStarted(getattr(error, "strerror", None) or str(error)))

    def _open(self, job: t.Job) -> None:
        requests = [(request.method, request.to_params()) for request in job.requests] if job.resumable else None
        try:
            self._journals[job.id] = Journal(job.workspace, job.label, requests)
        except In2nError as error:
            self._happen(t.Refused(job.id, error))
        except OSError as error:
            self._happen(
                t.Refused(
                    job.id,
                    In2nError(
                        "cannot_write",
                        f"{job.workspace} cannot be written to ({error.strerror}).",
                        "Choose another folder for the workspace.",
                    ),
                )
            )
        else:
            self._happen(t.Opened(job))

    def _pump(self) -> None:
        """Take in what the worker and the threads have said, and the time."""
        for id, thread in list(self._threads.items()):
            for event in thread.drain(id):
                self._happen(event)
        if process := self._process:
            for message in process.drain():
                self._happen(t.Message(message))
            if process.code is not None:
                self._process = None
                self._happen(t.Exited(process.code, process.last_line()))
        self._happen(t.Tick(time.monotonic()))


class _Process:
    """The worker process and its three pipes. Raises OSError where it cannot be started."""

    def __init__(self, command: list[str], log: Path):
        self._process = spawn(command, env=clean_environment(), stdin=True, merge=False)
        self._input = Writer(self._process)
        self._output = Lines(self._process)
        self._errors = LogCopy(self._process.stderr, log)

    def send(self, message: dict) -> None:
        self._input.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")

    def close_input(self) -> None:
        self._input.close()

    def kill(self) -> None:
        end(self._process, grace=0.0)

    def drain(self):
        """The objects that have come since the last call; what is no JSON is a library's that found the real stdout."""
        while (line := self._output.get()) is not None:
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                continue
            yield message

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def code(self) -> int | None:
        """How it exited; None while it runs or has not been read to its end."""
        return self._process.poll() if self._output.ended else None

    def last_line(self) -> str:
        return self._errors.last_line()


class _Thread:
    """Work in a thread of this process."""

    def __init__(self, work: Work):
        self.cancelled = threading.Event()
        self._work = work
        self._events: deque = deque()

    def start(self) -> None:
        threading.Thread(target=self._run, name="in2n work", daemon=True).start()

    def drain(self, job: int):
        """What it said since the last call, as events of that job."""
        while self._events:
            kind, value = self._events.popleft()
            if kind == "reported":
                yield t.ThreadReported(job, value)
            else:
                yield t.ThreadEnded(job, *value)

    def _run(self) -> None:
        report = Reporter(lambda event: self._events.append(("reported", event)), self.cancelled.is_set)
        try:
            ended = (self._work(report), None)
        except BaseException as error:
            ended = (None, error)
        self._events.append(("ended", ended))


__all__ = ["Cancelled", "Client", "EngineBug"]
