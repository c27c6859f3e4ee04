"""The other side of the worker: start it, give it jobs, watch them, cancel, stop.

`transition` is pure: (state, what happened) -> (state, what to do). `Client` is the one place that does it: it starts
the process, reads its pipes in threads and never blocks in `poll`, so that Blender can call that from a timer.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..environment import home_folder
from ..scene.errors import Cancelled, In2nError
from ..scene.reporting import Artifact, Progress
from .process import Lines, clean_environment, end, spawn

WORKER = Path(__file__).resolve().parents[1] / "engine" / "worker.py"
STOPPED, STARTING, IDLE, RUNNING, CANCELLING, CRASHED = (
    "stopped",
    "starting",
    "idle",
    "running",
    "cancelling",
    "crashed",
)
CANCEL_PATIENCE = 0.7  # seconds after which a cancelled job counts as cancelled, whether or not it has stopped yet
CANCEL_GRACE = 5.0  # seconds that a job may take to stop by itself, and to save; the next job waits for it
HELLO_ID = 0
LOG_LIMIT = 5 * 2**20  # bytes; a longer log is begun anew when a worker starts


# --- what the user of a Client is told ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ready:
    """The worker answered. info: process id, versions."""

    info: dict


@dataclass(frozen=True)
class Started:
    """A job's turn has come."""

    job: int
    method: str


@dataclass(frozen=True)
class Reported:
    """event: Progress, Artifact or str (a log line)."""

    job: int
    event: object


@dataclass(frozen=True)
class Finished:
    job: int
    result: dict


@dataclass(frozen=True)
class Failed:
    """error: In2nError (a user can mend it), Cancelled, or EngineBug."""

    job: int
    error: Exception


class EngineBug(Exception):
    """A mistake in the engine. traceback: the worker's."""

    def __init__(self, message: str, traceback: str = ""):
        super().__init__(message)
        self.traceback = traceback

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.traceback}".rstrip()


# --- the state machine ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class QueuedJob:
    id: int
    method: str
    params: dict


@dataclass(frozen=True)
class State:
    """phase: one of the six above. running: the job the worker has. queue: those that wait here for their turn."""

    phase: str = STOPPED
    running: QueuedJob | None = None
    queue: tuple[QueuedJob, ...] = ()
    cancelled_at: float | None = None
    given_up: bool = False  # the running job was said to be cancelled before it had stopped


@dataclass(frozen=True)
class Submit:
    job: QueuedJob


@dataclass(frozen=True)
class Cancel:
    """job None: whatever runs and all that waits."""

    job: int | None
    now: float


@dataclass(frozen=True)
class Message:
    """A line of the worker's."""

    message: dict


@dataclass(frozen=True)
class Exited:
    """The process ended. last_line: what it wrote last to stderr."""

    code: int
    last_line: str


@dataclass(frozen=True)
class Tick:
    now: float


@dataclass(frozen=True)
class Stop:
    pass


Event = Submit | Cancel | Message | Exited | Tick | Stop


@dataclass(frozen=True)
class StartProcess:
    pass


@dataclass(frozen=True)
class Send:
    message: dict


@dataclass(frozen=True)
class Kill:
    pass


@dataclass(frozen=True)
class CloseInput:
    """The worker ends by itself when its stdin ends."""


@dataclass(frozen=True)
class Tell:
    """Hand an event to whoever polls."""

    event: object


def transition(state: State, event: Event) -> tuple[State, list]:
    """What follows from an event: the next state and the effects to carry out, in order. Pure."""
    if isinstance(event, Submit):
        state = replace(state, queue=(*state.queue, event.job))
        if state.phase in (STOPPED, CRASHED):
            return replace(state, phase=STARTING), [StartProcess(), Send({"id": HELLO_ID, "method": "hello"})]
        return _next(state)
    if isinstance(event, Cancel):
        return _cancel(state, event)
    if isinstance(event, Message):
        return _message(state, event.message)
    if isinstance(event, Exited):
        return _exited(state, event)
    if isinstance(event, Tick):
        return _tick(state, event.now)
    if isinstance(event, Stop):
        dropped = _owed(state)
        return State(), [
            *([CloseInput()] if state.phase not in (STOPPED, CRASHED) else []),
            *(Tell(Failed(j.id, Cancelled())) for j in dropped),
        ]
    raise TypeError(event)


def _tick(state: State, now: float) -> tuple[State, list]:
    if state.phase != CANCELLING:
        return state, []
    effects = [Kill()] if now - state.cancelled_at > CANCEL_GRACE else []
    if not state.given_up and now - state.cancelled_at > CANCEL_PATIENCE:
        return replace(state, given_up=True), [*effects, Tell(Failed(state.running.id, Cancelled()))]
    return state, effects


def _owed(state: State) -> list[QueuedJob]:
    """The jobs whose end has not been told yet."""
    running = [state.running] if state.running and not state.given_up else []
    return [*running, *state.queue]


def _next(state: State) -> tuple[State, list]:
    if state.phase != IDLE or not state.queue:
        return state, []
    job, *rest = state.queue
    return (
        State(RUNNING, job, tuple(rest)),
        [Send({"id": job.id, "method": job.method, "params": job.params}), Tell(Started(job.id, job.method))],
    )


def _cancel(state: State, event: Cancel) -> tuple[State, list]:
    waiting = [j for j in state.queue if event.job in (None, j.id)]
    effects = [Tell(Failed(j.id, Cancelled())) for j in waiting]
    state = replace(state, queue=tuple(j for j in state.queue if j not in waiting))
    if state.phase == RUNNING and event.job in (None, state.running.id):
        return (
            replace(state, phase=CANCELLING, cancelled_at=event.now),
            [*effects, Send({"method": "cancel", "params": {"id": state.running.id}})],
        )
    return state, effects


def _message(state: State, message: dict) -> tuple[State, list]:
    if message.get("id") == HELLO_ID and "result" in message:
        if state.phase != STARTING:
            return state, []
        state, effects = _next(replace(state, phase=IDLE))
        return state, [Tell(Ready(message["result"])), *effects]
    params = message.get("params") or {}
    id = message.get("id", params.get("id"))
    if not state.running or id != state.running.id:
        return state, []  # of a job that was given up
    if "method" in message:
        return state, [] if state.given_up else [Tell(Reported(id, _reported(message["method"], params)))]
    outcome = Finished(id, message["result"]) if "result" in message else Failed(id, _error(message["error"]))
    given_up = state.given_up
    state, effects = _next(State(IDLE, None, state.queue))
    return state, [*([] if given_up else [Tell(outcome)]), *effects]


def _reported(method: str, params: dict):
    values = {k: v for k, v in params.items() if k != "id"}
    return (
        Progress(**values)
        if method == "progress"
        else Artifact(**values)
        if method == "artifact"
        else values.get("text", "")
    )


def _error(error: dict) -> Exception:
    data = error.get("data") or {}
    if data.get("code") == "cancelled":
        return Cancelled()
    if data.get("code", "bug") == "bug":
        return EngineBug(error["message"], data.get("traceback", ""))
    return In2nError(data["code"], error["message"], data.get("hint", ""))


def _exited(state: State, event: Exited) -> tuple[State, list]:
    if state.phase in (STOPPED, CRASHED):
        return state, []
    if state.phase == CANCELLING:
        # ended because we ended it, or while it was stopping anyway: the job is cancelled; those that wait get a new
        # worker
        effects = [] if state.given_up else [Tell(Failed(state.running.id, Cancelled()))]
        if state.queue:
            return State(STARTING, None, state.queue), [
                *effects,
                StartProcess(),
                Send({"id": HELLO_ID, "method": "hello"}),
            ]
        return State(), effects
    said = f": {event.last_line}" if event.last_line else f" (exit code {event.code})"
    if state.phase == STARTING:
        error = In2nError(
            "worker_not_started",
            f"The engine did not start{said}.",
            "Verify or repair the engine's environment: python3 -m in2n_blender install --repair.",
        )
    else:
        killed = " It may have run out of memory." if event.code in (-9, 137) else ""
        error = In2nError(
            "worker_crashed",
            f"The engine stopped unexpectedly{said}.{killed}",
            "Run it again: it goes on from the last checkpoint.",
        )
    return State(CRASHED), [Tell(Failed(j.id, error)) for j in _owed(state)]


# --- the one place that does I/O ------------------------------------------------------------------------------------


class Client:
    """One worker process and its queue of jobs.

    python: the interpreter of the engine's environment (`environment.install` returns it). log: where the worker's
    stderr goes, `worker.log` in the home folder unless given. worker: the program, for tests. Methods may be called
    from any thread.
    """

    def __init__(self, python: Path | str, log: Path | str | None = None, worker: Path | str = WORKER):
        self.state = State()
        self.python = Path(python)
        self.info: dict = {}
        self.log = Path(log) if log else home_folder() / "worker.log"
        self._command = [str(python), "-I", "-X", "utf8", str(worker)]
        self._ids = itertools.count(HELLO_ID + 1)
        self._lock = threading.RLock()
        self._told: list = []
        self._process = None
        self._lines: Lines | None = None
        self._errors: _Tail | None = None

    def submit(self, request) -> int:
        """Queue a request (of `link.requests`), starting the worker if need be; returns the job's id. Raises
        In2nError."""
        request.check()
        with self._lock:
            self._pump()  # a worker that ended since the last job is started anew, not blamed on this one
            job = QueuedJob(next(self._ids), request.method, request.to_params())
            self._happen(Submit(job))
            return job.id

    def cancel(self, job: int | None = None) -> None:
        """Cancel a job, or all; its Failed(Cancelled) follows."""
        with self._lock:
            self._happen(Cancel(job, time.monotonic()))

    def poll(self) -> list:
        """Everything that happened since the last call, without waiting: Ready, Started, Reported, Finished, Failed."""
        with self._lock:
            self._pump()
            told, self._told = self._told, []
            return told

    @property
    def is_running(self) -> bool:
        """Whether there is a worker process."""
        process = self._process
        return process is not None and process.poll() is None

    def stop(self, wait: float = 4.0) -> None:
        """End the worker; a running job is cancelled. Returns when it is gone."""
        with self._lock:
            process, lines = self._process, self._lines
            self._happen(Stop())
        if process:
            try:
                process.wait(wait)
            except Exception:
                pass
            end(process)
            lines.drain(1.0)

    def run(
        self,
        request,
        on_event: Callable[[object], None] = lambda event: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> dict:
        """Do one job and return its result. on_event receives Progress, Artifact and str.

        Raises In2nError, EngineBug, and Cancelled when `cancelled()` became true or another thread cancelled the job.
        Not to be mixed with `poll` elsewhere at the same time: events are told once.
        """
        job = self.submit(request)
        asked = False
        while True:
            if not asked and cancelled():
                asked = True
                self.cancel(job)
            for event in self.poll():
                if getattr(event, "job", None) != job:
                    continue
                if isinstance(event, Reported):
                    on_event(event.event)
                elif isinstance(event, Finished):
                    return event.result
                elif isinstance(event, Failed):
                    raise event.error
            time.sleep(0.03)

    def settle(self) -> None:
        """Wait until a cancelled job has stopped, at the latest when its grace is over. Nothing is told; `poll` tells
        it."""
        while self.state.phase == CANCELLING:
            with self._lock:
                self._pump()
            time.sleep(0.1)

    close = stop

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    # -- doing

    def _happen(self, event: Event) -> None:
        self.state, effects = transition(self.state, event)
        for effect in effects:
            self._do(effect)

    def _do(self, effect) -> None:
        if isinstance(effect, Tell):
            if isinstance(effect.event, Ready):
                self.info = effect.event.info
            self._told.append(effect.event)
        elif isinstance(effect, StartProcess):
            self._start()
        elif isinstance(effect, Send):
            self._write(json.dumps({"jsonrpc": "2.0", **effect.message}) + "\n")
        elif isinstance(effect, Kill):
            end(self._process, grace=0.0)
        elif isinstance(effect, CloseInput):
            self._close_input()
            self._process = None

    def _start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._process = spawn(self._command, env=clean_environment(), stdin=True, merge=False)
        except OSError as error:
            self.state = State(CRASHED)
            raise In2nError(
                "worker_not_started",
                f"The engine did not start: {error.strerror}.",
                "Install or repair the engine's environment: python3 -m in2n_blender install.",
            ) from error
        self._lines = Lines(self._process)
        self._errors = _Tail(self._process.stderr, self.log)

    def _write(self, text: str) -> None:
        try:
            self._process.stdin.write(text.encode("utf-8"))
            self._process.stdin.flush()
        except (OSError, ValueError):
            pass  # it has ended; _pump will find that out

    def _close_input(self) -> None:
        try:
            self._process.stdin.close()
        except OSError:
            pass

    def _pump(self) -> None:
        if not self._process:
            return
        while (line := self._lines.get()) is not None:
            try:
                message = json.loads(line)
            except ValueError:
                continue  # a library that found its way to the real stdout
            if isinstance(message, dict):
                self._happen(Message(message))
        if self._lines.ended and self._process and self._process.poll() is not None:
            process, self._process = self._process, None
            self._happen(Exited(process.returncode, self._errors.last_line()))
            return
        self._happen(Tick(time.monotonic()))


class _Tail:
    """Copies a pipe to a log file and remembers its last line."""

    def __init__(self, pipe, log: Path):
        self._last = ""
        self._thread = threading.Thread(target=self._read, args=(pipe, log), daemon=True)
        self._thread.start()

    def _read(self, pipe, log: Path) -> None:
        with open(log, "wb" if log.exists() and log.stat().st_size > LOG_LIMIT else "ab") as file:
            for raw in pipe:
                file.write(raw)
                file.flush()
                self._last = raw.decode("utf-8", "replace").strip() or self._last

    def last_line(self) -> str:
        self._thread.join(1.0)
        return self._last[:300]
