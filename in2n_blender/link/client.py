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
from . import events
from .messages import HELLO_ID, EngineBug
from .process import Lines, LogCopy, Writer, clean_environment, end, spawn
from .request_fields import Request
from .transitions import transition

WORKER = Path(__file__).resolve().parents[1] / "engine" / "worker.py"
POLL_SECONDS = 0.03
STOP_PATIENCE = 4.0  # seconds that a worker gets to end by itself
LONGEST_LOOK = 2.0  # seconds from one look to the next that count: in a longer time the computer slept
SILENCE_PATIENCE = 5.0  # seconds that a worker which has closed its output gets to be gone
MOST_MESSAGES = 2000  # of the worker that one poll takes in: a window must not wait for one that never stops talking
THREAD_PATIENCE = 1.5  # seconds that work in a thread gets to notice that it was cancelled

# Those whose jobs are noted in the workspace, to be offered again where they do not come to their end.
RESUMABLE = ("reconstruct", "edit", "render", "mesh")

Work = Callable[[Reporter], object]
Step = Request | Work


def without_engine(work: Work) -> Work:
    """Mark work that may only be done while no worker runs, because a worker may have the files open.

    Args:
        work: Called with a Reporter, as a step of `Client.submit`.

    Returns:
        The same work.
    """
    work.without_engine = True
    return work


def local_command(python: str, worker: str) -> list[str]:
    """The command of a worker on this machine.

    Args:
        python: The interpreter of the engine's environment.
        worker: The worker's program.
    """
    return [python, "-I", "-X", "utf8", worker]


class Client:
    """One queue of jobs and the worker process that they need. Methods may be called from any thread.

    Args:
        python: The interpreter of the engine's environment, for jobs that name no other.
        log: The file that takes what the worker writes to stderr.
        worker: The worker's program, for tests.
        command: Says how a worker is started, by the interpreter's name and the worker's program.
    """

    def __init__(
        self,
        python: Path | str | None,
        log: Path | str,
        worker: Path | str = WORKER,
        command: Callable[[str, str], list[str]] = local_command,
    ):
        self.state = events.State()
        self.python = str(python) if python else ""
        self.info: dict = {}
        self.log = Path(log)
        self.variables: dict[str, str] = {}  # environment variables of the next worker, besides this process's own
        self._worker, self._command = str(worker), command
        self._ids = itertools.count(HELLO_ID + 1)
        self._lock = threading.RLock()
        self._clock = _AwakeClock()
        self._told: list = []
        self._events: deque = deque()
        self._handling = False
        self._process: _Process | None = None
        self._threads: dict[int, list[_Thread | None]] = {}  # job -> its steps' threads
        self._journals: dict[int, Journal] = {}

    # -- what others ask

    def submit(
        self,
        steps: Step | Sequence[Step],
        label: str = "",
        workspace: Path | str = "",
        python: Path | str = "",
        first: bool = False,
        after: int | None = None,
    ) -> int:
        """Queue a job; its steps are done one after another, and the last one's result is the job's.

        Args:
            steps: Requests of `link.requests`, for the engine, and callables for work that needs no torch: each is
                called in a thread with a Reporter, reports to it, and stops soon after Cancelled. A callable with a
                true attribute `without_engine` (see `without_engine`) is called while no worker runs.
            label: What the interface calls the job.
            workspace: The folder to lock, and to keep a journal in, while it runs; "": the requests' own where all
                steps are requests that name one, else none.
            python: Another interpreter than the client's.
            first: Whether its turn comes before that of all jobs that wait.
            after: A job that it follows: its turn comes right behind that one's, it is dropped where that one does not
                come to its end, and it is not offered to be gone on with.

        Returns:
            The job's id.

        Raises:
            In2nError: What `Request.check` raises; a job that cannot be started ends with `Failed` instead.
        """
        steps = tuple(steps) if isinstance(steps, Sequence) else (steps,)
        requests = [step for step in steps if isinstance(step, Request)]
        for request in requests:
            request.check()
        named = [getattr(step, "workspace", "") if getattr(step, "locks_workspace", True) else "" for step in steps]
        place = str(workspace) or (named[-1] if all(named) else "")
        resumable = bool(place and requests) and requests[-1].method in RESUMABLE and after is None
        kinds = (
            step if isinstance(step, Request) else events.ThreadStep(bool(getattr(step, "without_engine", False)))
            for step in steps
        )
        with self._lock:
            self._pump()  # a worker that ended since the last job is started anew, not blamed on this one
            job = events.Job(
                next(self._ids),
                label or (requests[-1].method if requests else "work"),
                tuple(kinds),
                place,
                resumable,
                str(python) or self.python,
                after,
            )
            self._threads[job.id] = [None if isinstance(step, Request) else _Thread(step) for step in steps]
            self._happen(events.Submit(job, first))
            return job.id

    def cancel(self, job: int | None = None) -> None:
        """Cancel a job, or all; its Failed(Cancelled) follows when it has stopped.

        Args:
            job: The id that `submit` returned; None: all jobs.
        """
        self._happen(events.Cancel(job, self._clock()))

    def release(self) -> None:
        """End the worker, and free its memory, if no job uses it."""
        self._happen(events.Release())

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
        """Cancel all jobs and end the worker; return when it is gone.

        The jobs' ends are told by the next `poll`.

        Args:
            patience: Seconds that the worker gets to end by itself.
        """
        self._happen(events.Stop(self._clock()))
        deadline = time.monotonic() + patience
        while self._process and time.monotonic() < deadline:
            with self._lock:
                self._pump()
            time.sleep(POLL_SECONDS)
        if self._process:
            self._process.kill()
        deadline = time.monotonic() + THREAD_PATIENCE
        while (self._process or self.state.running) and time.monotonic() < deadline:
            with self._lock:
                self._pump()
            time.sleep(POLL_SECONDS)

    def run(
        self,
        steps: Step | Sequence[Step],
        on_event: Callable[[object], None] = lambda event: None,
        cancelled: Callable[[], bool] = lambda: False,
        label: str = "",
    ) -> dict:
        """Do one job and return its result.

        Not to be mixed with `poll` elsewhere at the same time: events are told once.

        Args:
            steps: As for `submit`.
            on_event: Receives Progress, Artifact and str (a line of the log).
            cancelled: Asked between two polls whether the job is to be cancelled.
            label: What the interface calls the job.

        Returns:
            The last step's result.

        Raises:
            In2nError: "workspace_busy" where another process works in the workspace, and whatever the job raises.
            EngineBug: For a mistake in the program.
            Cancelled: When `cancelled()` became true, or another thread cancelled the job.
        """
        return self.wait(self.submit(steps, label), on_event, cancelled)

    def wait(
        self,
        job: int,
        on_event: Callable[[object], None] = lambda event: None,
        cancelled: Callable[[], bool] = lambda: False,
    ):
        """Poll until a job has ended.

        Args:
            job: The id that `submit` returned.
            on_event: Receives Progress, Artifact and str (a line of the log).
            cancelled: Asked between two polls whether the job is to be cancelled.

        Returns:
            The last step's result.

        Raises:
            In2nError: "workspace_busy" and whatever the job raises, as `run`.
            EngineBug: For a mistake in the program.
            Cancelled: When `cancelled()` became true, or another thread cancelled the job.
        """
        asked = False
        while True:
            if not asked and cancelled():
                asked = True
                self.cancel(job)
            for event in self.poll():
                if getattr(event, "job", None) != job:
                    continue
                if isinstance(event, events.Reported):
                    on_event(event.event)
                elif isinstance(event, events.Finished):
                    return event.result
                elif isinstance(event, events.Failed):
                    raise event.error
            time.sleep(POLL_SECONDS)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    # -- events in, effects out

    def _happen(self, event) -> None:
        """Take an event in. What its effects cause comes after them, in the order in which it is caused."""
        with self._lock:
            self._events.append(event)
            if self._handling:
                return
            self._handling = True
            try:
                while self._events:
                    self.state, effects = transition(self.state, self._events.popleft())
                    for effect in effects:
                        self._do(effect)
            finally:
                self._handling = False

    def _do(self, effect) -> None:
        if isinstance(effect, events.Tell):
            self._tell(effect.event)
        elif isinstance(effect, events.StartProcess):
            self._start(effect.python)
        elif isinstance(effect, events.Send) and self._process:
            self._process.send(effect.message)
        elif isinstance(effect, events.CloseInput) and self._process:
            self._process.close_input()
        elif isinstance(effect, events.Kill) and self._process:
            self._process.kill()
        elif isinstance(effect, events.Open):
            self._open(effect.job)
        elif isinstance(effect, events.Note):
            if journal := self._journals.get(effect.job.id):
                journal.note(effect.event)
        elif isinstance(effect, events.Close):
            if journal := self._journals.pop(effect.job.id, None):
                journal.close(effect.error)
        elif isinstance(effect, events.RunThread):
            self._threads[effect.job.id][effect.step].start()
        elif isinstance(effect, events.CancelThread):
            self._threads[effect.job.id][effect.step].cancelled.set()

    def _tell(self, event) -> None:
        if isinstance(event, events.Ready):
            self.info = event.info
        if isinstance(event, (events.Finished, events.Failed)):
            self._threads.pop(event.job, None)
        self._told.append(event)

    def _start(self, python: str) -> None:
        try:
            self._process = _Process(self._command(python, self._worker), self.log, self.variables)
        except (OSError, ValueError) as error:
            self._happen(events.NotStarted(getattr(error, "strerror", None) or str(error)))

    def _open(self, job: events.Job) -> None:
        requests = [(request.method, request.to_params()) for request in job.requests] if job.resumable else None
        try:
            self._journals[job.id] = Journal(job.workspace, job.label, requests)
        except In2nError as error:
            self._happen(events.Refused(job.id, error))
        except OSError as error:
            self._happen(
                events.Refused(
                    job.id,
                    In2nError(
                        "cannot_write",
                        f"{job.workspace} cannot be written to ({error.strerror}).",
                        "Choose another folder for the workspace.",
                    ),
                )
            )
        else:
            self._happen(events.Opened(job))

    def _pump(self) -> None:
        """Take in what the worker and the threads have said, and the time."""
        for id, threads in list(self._threads.items()):
            for thread in filter(None, threads):
                for event in thread.drain(id):
                    self._happen(event)
        if process := self._process:
            for message in process.drain():
                self._happen(events.Message(message))
            if process.code is not None:
                self._process = None
                self._happen(events.Exited(process.code, process.last_line()))
        self._happen(events.Tick(self._clock()))


class _AwakeClock:
    """Seconds in which somebody looked: while a computer sleeps its worker sleeps, too, and has not failed to answer.
    On some systems the clock goes on in the meantime."""

    def __init__(self):
        self._last, self._seconds = time.monotonic(), 0.0

    def __call__(self) -> float:
        now = time.monotonic()
        self._seconds += min(now - self._last, LONGEST_LOOK)
        self._last = now
        return self._seconds


class _Process:
    """The worker process and its three pipes. Raises OSError where it cannot be started."""

    def __init__(self, command: list[str], log: Path, variables: dict[str, str]):
        self._process = spawn(command, env={**clean_environment(), **variables}, stdin=True, merge=False)
        self._input = Writer(self._process)
        self._output = Lines(self._process)
        self._silent_since: float | None = None
        self._errors = LogCopy(self._process.stderr, log)

    def send(self, message: dict) -> None:
        self._input.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")

    def close_input(self) -> None:
        self._input.close()

    def kill(self) -> None:
        end(self._process, grace=0.0)

    def drain(self):
        """The objects that have come since the last call, MOST_MESSAGES at most; what is no JSON is a library's that
        found the real stdout."""
        for _ in range(MOST_MESSAGES):
            if (line := self._output.get()) is None:
                return
            try:
                message = json.loads(line)
            except (ValueError, RecursionError, MemoryError):
                continue
            yield message

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def code(self) -> int | None:
        """How it exited; None while it runs or has not been read to its end. One that has closed its output, and will
        never answer, is ended."""
        if not self._output.ended:
            return None
        self._silent_since = self._silent_since or time.monotonic()
        if self.alive and time.monotonic() - self._silent_since > SILENCE_PATIENCE:
            self.kill()
        return self._process.poll()

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
                yield events.ThreadReported(job, value)
            else:
                yield events.ThreadEnded(job, *value)

    def _run(self) -> None:
        report = Reporter(lambda event: self._events.append(("reported", event)), self.cancelled.is_set)
        try:
            ended = (self._work(report), None)
        except BaseException as error:
            ended = (None, error)
        self._events.append(("ended", ended))


__all__ = ["Cancelled", "Client", "EngineBug"]
