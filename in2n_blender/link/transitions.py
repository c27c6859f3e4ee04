"""What follows from an event: the one queue of jobs and the life of the worker process, as a pure function.

`transition(state, event)` returns the next state and the effects to carry out, in order; `client` is the one place that
carries them out. A job is one thing from the button to the worker: the same id, requests and state everywhere. At most
one runs; the others wait in `State.queue`. Its workspace is locked and its journal kept from `Open` to `Close`, and
`Close` follows from the worker's own answer or its end, never from patience, so that nothing is renamed or moved under
a job that is still saving.

A job runs in one of two runners with the same events: the engine (a worker process, for requests) or a thread of this
process (for work that needs no torch, such as installing, moving or copying).
"""

from __future__ import annotations

from dataclasses import replace

from ..scene.errors import Cancelled, In2nError
from ..scene.reporting import Progress
from . import messages
from .events import (
    ENDING,
    OPENING,
    READY,
    STARTING,
    STOPPED,
    WAITING,
    WORKING,
    Cancel,
    CancelThread,
    Close,
    CloseInput,
    Event,
    Exited,
    Failed,
    Finished,
    Job,
    Kill,
    Message,
    Note,
    NotStarted,
    Open,
    Opened,
    Ready,
    Refused,
    Release,
    Reported,
    Running,
    RunThread,
    Send,
    Started,
    StartProcess,
    State,
    Stop,
    Submit,
    Tell,
    ThreadEnded,
    ThreadReported,
    Tick,
)
from .messages import HELLO_ID

CANCEL_GRACE = 5.0  # seconds that a cancelled job may take to stop by itself, and to save
HELLO_PATIENCE = 60.0  # seconds that a worker may take to say hello
NEEDED_FIRST = ("import", "reconstruct")  # what waits in the same workspace cannot do without the results of these


# --- the transition -------------------------------------------------------------------------------------------------


def transition(state: State, event: Event) -> tuple[State, list]:
    """The next state and the effects to carry out, in order.

    Pure: the same arguments always give the same result, and nothing else is read or changed.

    Args:
        state: The queue, the running job and the engine, as `events.State` describes them.
        event: What happened, one of `events`.

    Returns:
        (The next state, the effects, each one of `events`).
    """
    return _HANDLERS[type(event)](state, event)


def _submit(state: State, event: Submit) -> tuple[State, list]:
    job, queue = event.job, list(state.queue)
    ids = [waiting.id for waiting in queue]
    place = 0 if event.first else len(queue)
    if job.after is not None and state.running and state.running.job.id == job.after:
        place = 0
    elif job.after in ids:
        place = ids.index(job.after) + 1
    queue.insert(place, job)
    return _next(replace(state, queue=tuple(queue)))


def _next(state: State) -> tuple[State, list]:
    """Begin with the job that waits longest, if none runs."""
    if state.running or not state.queue:
        return state, []
    job, *rest = state.queue
    state = replace(state, running=Running(job), queue=tuple(rest))
    return (state, [Open(job)]) if job.workspace else _opened(state, Opened(job))


def _opened(state: State, event: Opened) -> tuple[State, list]:
    if not _is_at(state, event.job.id, OPENING):  # it was cancelled meanwhile
        return state, [Close(event.job, Cancelled())] if event.job.workspace else []
    state, effects = _get_runner(replace(state, running=replace(state.running, stage=WAITING)))
    return state, [Tell(Started(event.job.id)), *effects]


def _refused(state: State, event: Refused) -> tuple[State, list]:
    if not _is_at(state, event.job, OPENING):
        return state, []
    return _end(state, event.error, opened=False)


def _get_runner(state: State) -> tuple[State, list]:
    """Give the waiting job's step to its runner, which may first have to start or to end."""
    running = state.running
    if not running or running.stage != WAITING:
        return state, []
    job, request = running.job, running.request
    alone = request is None and job.steps[running.step].without_engine
    unfit = alone or (request is not None and state.python != job.python)
    if unfit and state.engine in (STARTING, READY):
        return replace(state, engine=ENDING, since=None), [CloseInput()]
    if (alone or request is not None) and state.engine == ENDING:
        return state, []
    if request is not None and state.engine == STOPPED:
        state = replace(state, engine=STARTING, python=job.python, since=None)
        return state, [StartProcess(job.python), Send({"id": HELLO_ID, "method": "hello"})]
    if request is not None and state.engine == STARTING:
        return state, []
    begin = (
        RunThread(job, running.step)
        if request is None
        else Send({"id": job.id, "method": request.method, "params": request.to_params()})
    )
    state = replace(state, running=replace(running, stage=WORKING))
    return state, [begin]


def _cancel(state: State, event: Cancel) -> tuple[State, list]:
    waiting = [job for job in state.queue if event.job in (None, job.id)]
    gone = {job.id for job in waiting}
    waiting += [job for job in state.queue if job.after in gone and job.id not in gone]
    effects = [Tell(Failed(job.id, Cancelled())) for job in waiting]
    state = replace(state, queue=tuple(job for job in state.queue if job not in waiting))
    running = state.running
    if not running or event.job not in (None, running.job.id) or running.cancelling:
        return state, effects
    if running.stage != WORKING:
        state, more = _end(state, Cancelled(), opened=running.stage == WAITING)
        return state, [*effects, *more]
    stop = CancelThread(running.job, running.step)
    if running.request is not None:
        stop = Send({"method": "cancel", "params": {"id": running.job.id}})
    return replace(state, running=replace(running, cancelled_at=event.now)), [*effects, stop]


def _message(state: State, event: Message) -> tuple[State, list]:
    message = messages.understand(event.message)
    if isinstance(message, messages.Hello):
        return _hello(state, message)
    if message is None or not _has_worker(state) or message.job != state.running.job.id:
        return state, []  # of no job that the worker has
    if isinstance(message, messages.Report):
        return _reported(state, message.event)
    if isinstance(message, messages.Failure):
        return _end(state, message.error)
    return _step_done(state, message.result)


def _step_done(state: State, result: object) -> tuple[State, list]:
    running = state.running
    if running.step + 1 == len(running.job.steps):
        return _end(state, None, result)
    if running.cancelling:
        return _end(state, Cancelled())
    return _get_runner(replace(state, running=Running(running.job, WAITING, running.step + 1)))


def _hello(state: State, hello: messages.Hello) -> tuple[State, list]:
    if state.engine != STARTING:
        return state, []
    if not hello.fits:
        state, effects = _engine_jobs_fail(
            replace(state, engine=ENDING, since=None),
            In2nError(
                "worker_not_started",
                "The engine that answered is of another version than this add-on.",
                "Restart Blender; if that does not help, repair the engine.",
            ),
        )
        return state, [Kill(), *effects]
    state, effects = _get_runner(replace(state, engine=READY))
    return state, [Tell(Ready(hello.info)), *effects]


def _reported(state: State, event: object) -> tuple[State, list]:
    running = state.running
    if isinstance(event, Progress):
        running = replace(running, progress=event)
    elif getattr(event, "kind", "") == "image":
        running = replace(running, image=event.path)
    return replace(state, running=running), [Note(running.job, event), Tell(Reported(running.job.id, event))]


def _thread_reported(state: State, event: ThreadReported) -> tuple[State, list]:
    return _reported(state, event.event) if _is_at(state, event.job, WORKING) else (state, [])


def _thread_ended(state: State, event: ThreadEnded) -> tuple[State, list]:
    if not _is_at(state, event.job, WORKING) or state.running.request is not None:
        return state, []
    return _end(state, event.error) if event.error is not None else _step_done(state, event.result)


def _not_started(state: State, event: NotStarted) -> tuple[State, list]:
    error = In2nError(
        "worker_not_started",
        f"The engine did not start: {event.reason}.",
        "Install or repair the engine's environment: python3 -m in2n_blender install.",
    )
    return _engine_jobs_fail(replace(state, engine=STOPPED, python=""), error)


def _exited(state: State, event: Exited) -> tuple[State, list]:
    was, state = state.engine, replace(state, engine=STOPPED, python="", since=None)
    if was == STOPPED:
        return state, []
    said = f": {event.last_line}" if event.last_line else f" (exit code {event.code})"
    if was == STARTING:
        error = In2nError(
            "worker_not_started",
            f"The engine did not start{said}.",
            "Verify or repair the engine's environment: python3 -m in2n_blender install --repair.",
        )
        return _engine_jobs_fail(state, error)
    if not _has_worker(state):
        return _get_runner(state)  # it was ended for the sake of the job that waits, or because it was idle
    if state.running.cancelling:
        return _end(state, Cancelled())
    killed = " It may have run out of memory." if event.code in (-9, 137) else ""
    return _end(
        state,
        In2nError(
            "worker_crashed",
            f"The engine stopped unexpectedly{said}.{killed}",
            "Run it again: it goes on from the last checkpoint.",
        ),
    )


def _tick(state: State, event: Tick) -> tuple[State, list]:
    if state.engine in (STARTING, ENDING):
        if state.since is None:
            return replace(state, since=event.now), []
        if state.engine == STARTING and event.now - state.since > HELLO_PATIENCE:
            state, effects = _engine_jobs_fail(
                replace(state, engine=ENDING, since=None),
                In2nError(
                    "worker_not_started",
                    f"The engine has not answered for {HELLO_PATIENCE:.0f} seconds.",
                    "Verify or repair the engine's environment: python3 -m in2n_blender install --repair.",
                ),
            )
            return state, [Kill(), *effects]
        if state.engine == ENDING and event.now - state.since > CANCEL_GRACE:
            return replace(state, since=None), [Kill()]
    running = state.running
    overdue = running and running.cancelling and not running.killed and event.now - running.cancelled_at > CANCEL_GRACE
    if overdue and _has_worker(state):
        return replace(state, running=replace(running, killed=True)), [Kill()]
    return state, []


def _release(state: State, event: Release) -> tuple[State, list]:
    if _has_worker(state) or state.engine not in (STARTING, READY):
        return state, []
    return replace(state, engine=ENDING, since=None), [CloseInput()]


def _stop(state: State, event: Stop) -> tuple[State, list]:
    state, effects = _cancel(state, Cancel(None, event.now))
    if state.engine in (STARTING, READY):  # a job that the worker has ends with its answer or its exit
        state, effects = replace(state, engine=ENDING, since=None), [*effects, CloseInput()]
    return state, effects


def _engine_jobs_fail(state: State, error: In2nError) -> tuple[State, list]:
    """End all jobs that want the engine, which cannot be had."""
    lost = [job for job in state.queue if job.begins_in_engine]
    state = replace(state, queue=tuple(job for job in state.queue if not job.begins_in_engine))
    effects: list = []
    running = state.running
    if running and running.stage != OPENING and running.request is not None:
        state, effects = _end(state, error)
    else:
        state, effects = _get_runner(state)
    return state, [*effects, *(Tell(Failed(job.id, error)) for job in lost)]


def _end(state: State, error: BaseException | None, result: object = None, opened: bool = True) -> tuple[State, list]:
    """The running job is over: tell so, drop what cannot be done without it, go on with the next."""
    job = state.running.job
    state = replace(state, running=None)
    close = [Close(job, error)] if job.workspace and opened else []
    if error is None:
        state, effects = _next(state)
        return state, [*close, Tell(Finished(job.id, result)), *effects]
    dropped = _needing(state.queue, job)
    state = replace(state, queue=tuple(waiting for waiting in state.queue if waiting not in dropped))
    labels = tuple(waiting.label for waiting in dropped if waiting.after is None)
    told = [Tell(Failed(job.id, error, labels))]
    told += [Tell(Failed(waiting.id, Cancelled())) for waiting in dropped]
    state, effects = _next(state)
    return state, [*close, *told, *effects]


def _needing(queue: tuple[Job, ...], job: Job) -> list[Job]:
    """The jobs that need what this one should have made in their workspace, and those that follow one of them."""
    needs = bool(job.workspace) and any(request.method in NEEDED_FIRST for request in job.requests)
    here = [waiting for waiting in queue if needs and waiting.workspace == job.workspace and waiting.requests]
    gone = {job.id, *(waiting.id for waiting in here)}
    return [waiting for waiting in queue if waiting in here or waiting.after in gone]


def _has_worker(state: State) -> bool:
    """Whether the worker has a request of the running job."""
    return state.running is not None and state.running.stage == WORKING and state.running.request is not None


def _is_at(state: State, job: int, stage: str) -> bool:
    return state.running is not None and state.running.job.id == job and state.running.stage == stage


_HANDLERS = {
    Submit: _submit,
    Cancel: _cancel,
    Opened: _opened,
    Refused: _refused,
    Message: _message,
    NotStarted: _not_started,
    Exited: _exited,
    ThreadReported: _thread_reported,
    ThreadEnded: _thread_ended,
    Tick: _tick,
    Release: _release,
    Stop: _stop,
}
