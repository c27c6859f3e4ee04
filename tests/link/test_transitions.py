"""What follows from an event: as data, and that no sequence of events loses a job."""

import dataclasses
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from in2n_blender.link import events as t
from in2n_blender.link import transitions
from in2n_blender.link.messages import HELLO_ID, PROTOCOL, EngineBug
from in2n_blender.link.requests import Edit, ExtractMesh, ImportCapture, Reconstruct
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Artifact, Progress

MESH = ExtractMesh(workspace="w")
EDIT = Edit(workspace="w", name="e", instruction="x")
RECONSTRUCT = Reconstruct(workspace="w")
IMPORT = ImportCapture(workspace="w", source="s")

# ask: no workspace; edit, build (two requests): in a workspace; work, move: in a thread; other: wants another Python;
# install: in a thread first, then a request to the Python that it has made
ask = t.Job(1, "ask", (MESH,), python="py")
edit = t.Job(2, "edit", (EDIT,), "w", True, "py")
build = t.Job(3, "build", (IMPORT, RECONSTRUCT), "w", True, "py")
work = t.Job(4, "work", (t.ThreadStep(),))
move = t.Job(5, "move", (t.ThreadStep(without_engine=True),))
other = t.Job(6, "other", (MESH,), python="another")
copy = t.Job(7, "copy", (t.ThreadStep(),), "w")
elsewhere = t.Job(8, "elsewhere", (EDIT,), "v", True, "py")
install = t.Job(9, "install", (t.ThreadStep(without_engine=True), MESH), python="new")
JOBS = (ask, edit, build, work, move, other, copy, elsewhere, install)

HELLO = t.Message({"id": HELLO_ID, "result": {"protocol": PROTOCOL, "pid": 7}})
OLD_HELLO = t.Message({"id": HELLO_ID, "result": {"protocol": 1}})
BUSY = In2nError("workspace_busy", "Busy.", "Wait.")


def done(job, **result):
    return t.Message({"id": job.id, "result": result})


def failed(job, code="no_gpu"):
    return t.Message({"id": job.id, "error": {"message": "m", "data": {"code": code, "hint": "h"}}})


def progress(job, n=1):
    return t.Message(
        {"method": "progress", "params": {"id": job.id, "done": n, "total": 9, "unit": "u", "message": "m"}}
    )


def submitted(*jobs):
    return [t.Submit(job) for job in jobs]


def working(job):
    """The events that bring a job to its runner."""
    opened = [t.Opened(job)] if job.workspace else []
    return [t.Submit(job), *opened, *([HELLO] if job.begins_in_engine else [])]


def follow(*events, state=t.State()):
    """The state after the events, and the effects of the last one."""
    effects = []
    for event in events:
        state, effects = transitions.transition(state, event)
    return state, effects


def brief_error(error):
    return "ok" if error is None else getattr(error, "code", type(error).__name__.lower())


def brief(effect):
    """An effect in two or three words."""
    if isinstance(effect, t.Tell):
        told = effect.event
        words = ["tell", type(told).__name__.lower(), *([str(told.job)] if hasattr(told, "job") else [])]
        words += [brief_error(told.error)] if isinstance(told, t.Failed) else []
        words += [f"dropped {','.join(told.dropped)}"] if getattr(told, "dropped", ()) else []
        return " ".join(words)
    if isinstance(effect, t.Send):
        message = effect.message
        return f"send {message['method']}" + (f" {message['id']}" if message.get("id") else "")
    if isinstance(effect, t.Close):
        return f"close {effect.job.id} {brief_error(effect.error)}"
    words = [type(effect).__name__.lower()]
    return " ".join(words + [str(getattr(effect, name).id) for name in ("job",) if hasattr(effect, name)])


def shape(state):
    """A state in one line: the engine's phase, the running job with its stage and step, and the queue."""
    running = state.running
    parts = [state.engine]
    if running:
        step = f" step {running.step}" if running.step else ""
        parts.append(f"{running.job.id} {running.stage}{step}{' cancelling' if running.cancelling else ''}")
    if state.queue:
        parts.append(" ".join(str(job.id) for job in state.queue))
    return " | ".join(parts)


ROWS = [
    # submitting
    (
        "the first job starts the worker",
        [],
        t.Submit(ask),
        ["tell started 1", "startprocess", "send hello"],
        "starting | 1 waiting",
    ),
    ("a workspace is locked first", [], t.Submit(edit), ["open 2"], "stopped | 2 opening"),
    ("work starts in its thread", [], t.Submit(work), ["tell started 4", "runthread 4"], "stopped | 4 working"),
    (
        "work without the engine, none runs",
        [],
        t.Submit(move),
        ["tell started 5", "runthread 5"],
        "stopped | 5 working",
    ),
    ("work in a workspace locks it", [], t.Submit(copy), ["open 7"], "stopped | 7 opening"),
    ("a second job waits", working(ask), t.Submit(edit), [], "ready | 1 working | 2"),
    ("a third job waits behind it", [*working(ask), *submitted(edit)], t.Submit(work), [], "ready | 1 working | 2 4"),
    (
        "a job that comes first waits before them",
        [*working(ask), *submitted(edit)],
        t.Submit(work, first=True),
        [],
        "ready | 1 working | 4 2",
    ),
    ("a job waits while the worker starts", submitted(ask), t.Submit(other), [], "starting | 1 waiting | 6"),
    ("work waits for its turn too", working(ask), t.Submit(work), [], "ready | 1 working | 4"),
    # opening
    (
        "locked, the worker starts",
        submitted(edit),
        t.Opened(edit),
        ["tell started 2", "startprocess", "send hello"],
        "starting | 2 waiting",
    ),
    ("locked, work starts", submitted(copy), t.Opened(copy), ["tell started 7", "runthread 7"], "stopped | 7 working"),
    ("a busy workspace ends the job", submitted(edit), t.Refused(2, BUSY), ["tell failed 2 workspace_busy"], "stopped"),
    (
        "after a busy workspace comes the next job",
        submitted(edit, ask),
        t.Refused(2, BUSY),
        ["tell failed 2 workspace_busy", "tell started 1", "startprocess", "send hello"],
        "starting | 1 waiting",
    ),
    ("a lock that came too late is given back", [], t.Opened(edit), ["close 2 cancelled"], "stopped"),
    ("a late refusal says nothing", [], t.Refused(2, BUSY), [], "stopped"),
    # the worker's hello
    (
        "an answer: the job is sent",
        submitted(ask),
        HELLO,
        ["tell ready", "send mesh 1"],
        "ready | 1 working",
    ),
    (
        "a job with two requests sends its first",
        [t.Submit(build), t.Opened(build)],
        HELLO,
        ["tell ready", "send import 3"],
        "ready | 3 working",
    ),
    ("a second hello says nothing", working(ask), HELLO, [], "ready | 1 working"),
    ("a hello of nobody", [], HELLO, [], "stopped"),
    ("another protocol", submitted(ask), OLD_HELLO, ["kill", "tell failed 1 worker_not_started"], "ending"),
    (
        "another protocol ends all that want the engine, and no other",
        submitted(ask, other, work),
        OLD_HELLO,
        [
            "kill",
            "tell failed 1 worker_not_started",
            "tell started 4",
            "runthread 4",
            "tell failed 6 worker_not_started",
        ],
        "ending | 4 working",
    ),
    (
        "a hello without an object",
        submitted(ask),
        t.Message({"id": 0, "result": 3}),
        ["kill", "tell failed 1 worker_not_started"],
        "ending",
    ),
    # what a running job says
    ("progress", working(ask), progress(ask), ["note 1", "tell reported 1"], "ready | 1 working"),
    ("progress of another job", working(ask), progress(edit), [], "ready | 1 working"),
    (
        "progress of a thread",
        working(work),
        t.ThreadReported(4, "line"),
        ["note 4", "tell reported 4"],
        "stopped | 4 working",
    ),
    ("a thread that is not the job", working(ask), t.ThreadReported(4, "line"), [], "ready | 1 working"),
    ("a message for a thread's job", working(work), done(work), [], "stopped | 4 working"),
    # ends
    ("done", working(ask), done(ask), ["tell finished 1"], "ready"),
    ("done in a workspace: unlocked, then told", working(edit), done(edit), ["close 2 ok", "tell finished 2"], "ready"),
    ("the first of two requests", working(build), done(build), ["send reconstruct 3"], "ready | 3 working step 1"),
    (
        "the second of two requests",
        [*working(build), done(build)],
        done(build),
        ["close 3 ok", "tell finished 3"],
        "ready",
    ),
    ("failed", working(ask), failed(ask), ["tell failed 1 no_gpu"], "ready"),
    ("a bug", working(ask), failed(ask, "bug"), ["tell failed 1 enginebug"], "ready"),
    ("cancelled by the worker", working(ask), failed(ask, "cancelled"), ["tell failed 1 cancelled"], "ready"),
    ("an answer without a result", working(ask), t.Message({"id": 1}), ["tell failed 1 enginebug"], "ready"),
    ("an answer to a job that is over", [*working(ask), done(ask)], done(ask), [], "ready"),
    ("a line that is no object", working(ask), t.Message([1]), [], "ready | 1 working"),
    (
        "an error that is no object",
        working(ask),
        t.Message({"id": 1, "error": []}),
        ["tell failed 1 enginebug"],
        "ready",
    ),
    (
        "done: the next is sent",
        [*working(ask), *submitted(edit)],
        done(ask),
        ["tell finished 1", "open 2"],
        "ready | 2 opening",
    ),
    (
        "done: the next needs no lock",
        [*working(edit), *submitted(ask)],
        done(edit),
        ["close 2 ok", "tell finished 2", "tell started 1", "send mesh 1"],
        "ready | 1 working",
    ),
    (
        "failed: what needed it is dropped, what lies elsewhere is not",
        [*working(build), *submitted(edit, elsewhere)],
        failed(build),
        ["close 3 no_gpu", "tell failed 3 no_gpu dropped edit", "tell failed 2 cancelled", "open 8"],
        "ready | 8 opening",
    ),
    (
        "an edit that failed drops nothing",
        [*working(edit), *submitted(t.Job(10, "mesh", (MESH,), "w", True, "py"))],
        failed(edit),
        ["close 2 no_gpu", "tell failed 2 no_gpu", "open 10"],
        "ready | 10 opening",
    ),
    (
        "what follows a job comes right behind it",
        [*working(edit), *submitted(elsewhere, t.Job(10, "show", (MESH,), "w", False, "py", 2))],
        done(edit),
        ["close 2 ok", "tell finished 2", "open 10"],
        "ready | 10 opening | 8",
    ),
    (
        "what follows a job that waits comes right behind it",
        [*working(ask), *submitted(edit, elsewhere, t.Job(10, "show", (MESH,), "w", False, "py", 2))],
        t.Tick(0.0),
        [],
        "ready | 1 working | 2 10 8",
    ),
    (
        "what follows a job is dropped with it, and not spoken of",
        [*working(edit), *submitted(elsewhere, t.Job(10, "show", (MESH,), "w", False, "py", 2))],
        failed(edit),
        ["close 2 no_gpu", "tell failed 2 no_gpu", "tell failed 10 cancelled", "open 8"],
        "ready | 8 opening",
    ),
    (
        "what follows a dropped job is dropped too",
        [*working(build), *submitted(edit, t.Job(10, "show", (MESH,), "v", False, "py", 2))],
        failed(build),
        ["close 3 no_gpu", "tell failed 3 no_gpu dropped edit", "tell failed 2 cancelled", "tell failed 10 cancelled"],
        "ready",
    ),
    (
        "what follows a job goes out of the queue with it",
        [*working(ask), *submitted(edit, t.Job(10, "show", (MESH,), "w", False, "py", 2))],
        t.Cancel(2, 0.0),
        ["tell failed 2 cancelled", "tell failed 10 cancelled"],
        "ready | 1 working",
    ),
    ("a thread is done", working(work), t.ThreadEnded(4, 5), ["tell finished 4"], "stopped"),
    ("a thread failed", working(work), t.ThreadEnded(4, error=ValueError()), ["tell failed 4 valueerror"], "stopped"),
    ("a thread in a workspace is done", working(copy), t.ThreadEnded(7), ["close 7 ok", "tell finished 7"], "stopped"),
    ("a thread of the past", working(ask), t.ThreadEnded(4), [], "ready | 1 working"),
    # cancelling
    ("cancel what runs", working(ask), t.Cancel(1, 0.0), ["send cancel"], "ready | 1 working cancelling"),
    ("cancel it twice", [*working(ask), t.Cancel(1, 0.0)], t.Cancel(1, 1.0), [], "ready | 1 working cancelling"),
    ("cancel what is not there", working(ask), t.Cancel(99, 0.0), [], "ready | 1 working"),
    (
        "cancel what waits",
        [*working(ask), *submitted(edit)],
        t.Cancel(2, 0.0),
        ["tell failed 2 cancelled"],
        "ready | 1 working",
    ),
    (
        "cancel all",
        [*working(ask), *submitted(edit, work)],
        t.Cancel(None, 0.0),
        ["tell failed 2 cancelled", "tell failed 4 cancelled", "send cancel"],
        "ready | 1 working cancelling",
    ),
    ("cancel what waits for the worker", submitted(ask), t.Cancel(1, 0.0), ["tell failed 1 cancelled"], "starting"),
    (
        "cancel what is locked and waits for the worker",
        [t.Submit(edit), t.Opened(edit)],
        t.Cancel(2, 0.0),
        ["close 2 cancelled", "tell failed 2 cancelled"],
        "starting",
    ),
    ("cancel a thread", working(work), t.Cancel(4, 0.0), ["cancelthread 4"], "stopped | 4 working cancelling"),
    ("cancelling, it is done all the same", [*working(ask), t.Cancel(1, 0.0)], done(ask), ["tell finished 1"], "ready"),
    (
        "cancelling, no second request is sent",
        [*working(build), t.Cancel(3, 0.0)],
        done(build),
        ["close 3 cancelled", "tell failed 3 cancelled"],
        "ready",
    ),
    (
        "cancelling, it still reports",
        [*working(ask), t.Cancel(1, 0.0)],
        progress(ask),
        ["note 1", "tell reported 1"],
        "ready | 1 working cancelling",
    ),
    (
        "within the grace it may save",
        [*working(edit), t.Cancel(2, 0.0)],
        t.Tick(transitions.CANCEL_GRACE - 0.1),
        [],
        "ready | 2 working cancelling",
    ),
    (
        "after the grace it is killed",
        [*working(edit), t.Cancel(2, 0.0)],
        t.Tick(transitions.CANCEL_GRACE + 0.1),
        ["kill"],
        "ready | 2 working cancelling",
    ),
    (
        "it is killed once",
        [*working(edit), t.Cancel(2, 0.0), t.Tick(9.0)],
        t.Tick(10.0),
        [],
        "ready | 2 working cancelling",
    ),
    (
        "killed, it is unlocked",
        [*working(edit), t.Cancel(2, 0.0), t.Tick(9.0)],
        t.Exited(-9),
        ["close 2 cancelled", "tell failed 2 cancelled"],
        "stopped",
    ),
    ("no thread is killed", [*working(work), t.Cancel(4, 0.0)], t.Tick(60.0), [], "stopped | 4 working cancelling"),
    # the worker ends
    (
        "a crash",
        working(edit),
        t.Exited(3, "no memory"),
        ["close 2 worker_crashed", "tell failed 2 worker_crashed"],
        "stopped",
    ),
    (
        "after a crash the next job gets a new worker",
        [*working(ask), *submitted(other)],
        t.Exited(3),
        ["tell failed 1 worker_crashed", "tell started 6", "startprocess", "send hello"],
        "starting | 6 waiting",
    ),
    (
        "a worker that does not start ends all that want it",
        [t.Submit(edit), t.Opened(edit), *submitted(ask, work)],
        t.Exited(1, "ImportError"),
        [
            "close 2 worker_not_started",
            "tell failed 2 worker_not_started",
            "tell started 4",
            "runthread 4",
            "tell failed 1 worker_not_started",
        ],
        "stopped | 4 working",
    ),
    (
        "a program that is not there ends all that want it",
        submitted(ask, edit, work),
        t.NotStarted("no such file"),
        ["tell failed 1 worker_not_started", "tell started 4", "runthread 4", "tell failed 2 worker_not_started"],
        "stopped | 4 working",
    ),
    ("an idle worker ends", [*working(ask), done(ask)], t.Exited(0), [], "stopped"),
    ("an exit of nobody", [], t.Exited(0), [], "stopped"),
    (
        "the worker ends while a thread works",
        [*working(ask), done(ask), t.Submit(work)],
        t.Exited(1),
        [],
        "stopped | 4 working",
    ),
    # another Python, no Python
    (
        "another Python: the worker ends first",
        [*working(ask), done(ask)],
        t.Submit(other),
        ["tell started 6", "closeinput"],
        "ending | 6 waiting",
    ),
    (
        "it has ended: the other starts",
        [*working(ask), done(ask), t.Submit(other)],
        t.Exited(0),
        ["startprocess", "send hello"],
        "starting | 6 waiting",
    ),
    (
        "moving: the worker ends first",
        [*working(ask), done(ask)],
        t.Submit(move),
        ["tell started 5", "closeinput"],
        "ending | 5 waiting",
    ),
    (
        "it has ended: moving starts",
        [*working(ask), done(ask), t.Submit(move)],
        t.Exited(0),
        ["runthread 5"],
        "stopped | 5 working",
    ),
    (
        "work beside an idle worker",
        [*working(ask), done(ask)],
        t.Submit(work),
        ["tell started 4", "runthread 4"],
        "ready | 4 working",
    ),
    # first in a thread, then in the engine
    (
        "its thread first",
        working(ask) + [done(ask)],
        t.Submit(install),
        ["tell started 9", "closeinput"],
        "ending | 9 waiting",
    ),
    (
        "the worker is gone",
        working(ask) + [done(ask), t.Submit(install)],
        t.Exited(0),
        ["runthread 9"],
        "stopped | 9 working",
    ),
    (
        "its request then",
        [t.Submit(install)],
        t.ThreadEnded(9),
        ["startprocess", "send hello"],
        "starting | 9 waiting step 1",
    ),
    (
        "the answer to its request",
        [t.Submit(install), t.ThreadEnded(9), HELLO],
        done(install),
        ["tell finished 9"],
        "ready",
    ),
    (
        "its thread failed: no request",
        [t.Submit(install)],
        t.ThreadEnded(9, error=ValueError()),
        ["tell failed 9 valueerror"],
        "stopped",
    ),
    (
        "what mends the engine is not lost with it",
        submitted(ask, install),
        t.NotStarted("no such file"),
        ["tell failed 1 worker_not_started", "tell started 9", "runthread 9"],
        "stopped | 9 working",
    ),
    # time
    ("a starting worker's time begins", submitted(ask), t.Tick(5.0), [], "starting | 1 waiting"),
    (
        "it has time",
        [*submitted(ask), t.Tick(5.0)],
        t.Tick(5.0 + transitions.HELLO_PATIENCE - 1),
        [],
        "starting | 1 waiting",
    ),
    (
        "it has no more time",
        [*submitted(ask), t.Tick(5.0)],
        t.Tick(6.0 + transitions.HELLO_PATIENCE),
        ["kill", "tell failed 1 worker_not_started"],
        "ending",
    ),
    (
        "an ending worker is killed in the end",
        [*working(ask), done(ask), t.Release(), t.Tick(0.0)],
        t.Tick(1.0 + transitions.CANCEL_GRACE),
        ["kill"],
        "ending",
    ),
    ("time alone changes nothing", working(ask), t.Tick(1e6), [], "ready | 1 working"),
    # letting go
    ("release an idle worker", [*working(ask), done(ask)], t.Release(), ["closeinput"], "ending"),
    ("release none", [], t.Release(), [], "stopped"),
    ("release one at work", working(ask), t.Release(), [], "ready | 1 working"),
    (
        "release beside a thread",
        [*working(ask), done(ask), t.Submit(work)],
        t.Release(),
        ["closeinput"],
        "ending | 4 working",
    ),
    (
        "a job while it ends waits",
        [*working(ask), done(ask), t.Release()],
        t.Submit(other),
        ["tell started 6"],
        "ending | 6 waiting",
    ),
    (
        "stop everything",
        [*working(edit), *submitted(ask)],
        t.Stop(0.0),
        ["tell failed 1 cancelled", "send cancel", "closeinput"],
        "ending | 2 working cancelling",
    ),
    (
        "stopped, it has ended",
        [*working(edit), t.Stop(0.0)],
        t.Exited(0),
        ["close 2 cancelled", "tell failed 2 cancelled"],
        "stopped",
    ),
    (
        "stopped, it answers first",
        [*working(edit), t.Stop(0.0)],
        failed(edit, "cancelled"),
        ["close 2 cancelled", "tell failed 2 cancelled"],
        "ending",
    ),
    ("stop nothing", [], t.Stop(0.0), [], "stopped"),
    ("stop while it starts", submitted(ask), t.Stop(0.0), ["tell failed 1 cancelled", "closeinput"], "ending"),
    (
        "a job after the stop waits for the end",
        [*working(ask), done(ask), t.Stop(0.0)],
        t.Submit(edit),
        ["open 2"],
        "ending | 2 opening",
    ),
]


def test_there_are_rows_for_everything_that_can_happen():
    assert len(ROWS) >= 60 and len({row[0] for row in ROWS}) == len(ROWS)
    assert {type(row[2]) for row in ROWS} == set(transitions._HANDLERS)


@pytest.mark.parametrize("before, event, effects, after", [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_transition(before, event, effects, after):
    state, _ = follow(*before)
    state, caused = transitions.transition(state, event)
    assert ([brief(effect) for effect in caused], shape(state)) == (effects, after)


def test_what_a_job_says_is_kept_with_it():
    picture = t.Message({"method": "artifact", "params": {"id": 1, "kind": "image", "path": "p.png", "view": "003"}})
    state, effects = follow(*working(ask), progress(ask, 4), picture)
    assert state.running.progress == Progress(4, 9, "u", "m") and state.running.image == "p.png"
    assert effects[-1] == t.Tell(t.Reported(1, Artifact("image", "p.png", "003")))
    state, _ = follow(*working(build), progress(build, 9), done(build))
    assert state.running.progress is None, "the next request begins anew"


def test_errors_become_what_they_were():
    def error(code):
        (told,) = [effect.event for effect in follow(*working(ask), failed(ask, code))[1]]
        return told.error

    assert isinstance(error("cancelled"), Cancelled) and isinstance(error("bug"), EngineBug)
    assert (error("no_gpu").code, error("no_gpu").message, error("no_gpu").hint) == ("no_gpu", "m", "h")


def test_why_the_engine_is_gone_is_said():
    (told,) = [e.event.error for e in follow(*working(ask), t.Exited(-9, "Killed"))[1] if isinstance(e, t.Tell)]
    assert "Killed" in told.message and "memory" in told.message
    (told,) = [e.event.error for e in follow(*submitted(ask), t.Exited(1, "ImportError: torch"))[1]]
    assert "did not start: ImportError: torch" in told.message


# --- any sequence of events -----------------------------------------------------------------------------------------


class World:
    """Carries effects out as the real world would, and keeps account of what must never go wrong."""

    def __init__(self):
        self.state, self.now = t.State(), 0.0
        self.submitted, self.ended, self.locked = [], [], set()
        self.process = None  # "starting", "up": what the worker is
        self.worker_job = None  # which job the worker has
        self.threads = set()

    def happen(self, event):
        events = [event]
        while events:
            self.state, effects = transitions.transition(self.state, events.pop(0))
            for effect in effects:
                events += self.do(effect)
        self.check()

    def do(self, effect):
        if isinstance(effect, t.StartProcess):
            assert self.process is None, "one worker at a time"
            self.process, self.worker_job = "starting", None
        elif isinstance(effect, (t.CloseInput, t.Kill)):
            self.process = self.process and "ending"
        elif isinstance(effect, t.Send) and effect.message["method"] not in ("hello", "cancel"):
            assert self.process == "up" and self.worker_job is None, "it has one job at a time"
            self.worker_job = effect.message["id"]
        elif isinstance(effect, t.Open):
            assert effect.job.workspace not in self.locked
            self.locked.add(effect.job.workspace)
            return [t.Opened(effect.job)]
        elif isinstance(effect, t.Close):
            self.locked.remove(effect.job.workspace)
        elif isinstance(effect, t.RunThread):
            assert not self.threads
            assert not (effect.job.steps[effect.step].without_engine and self.process), "no worker may run beside it"
            self.threads.add((effect.job.id, effect.step))
        elif isinstance(effect, t.Tell) and isinstance(effect.event, (t.Finished, t.Failed)):
            job = next(job for job in self.submitted if job.id == effect.event.job)
            assert not (job.workspace in self.locked and self.state.running and self.state.running.job == job)
            assert self.worker_job != job.id, "an end is told when it has ended"
            self.ended.append(job.id)
        return []

    def check(self):
        assert len(self.ended) == len(set(self.ended)), "an end is told once"
        open_jobs = [job.id for job in self.state.jobs]
        assert sorted(open_jobs + self.ended) == sorted(job.id for job in self.submitted), "no job is lost"
        running = self.state.running
        held = {running.job.workspace} - {""} if running and running.stage != t.OPENING else set()
        assert self.locked == held, "locked are the running job's workspaces, and no others"

    # what can happen

    def submit(self, template):
        job = replace(template, id=len(self.submitted) + 1)
        self.submitted.append(job)
        self.happen(t.Submit(job))

    def cancel(self, number):
        self.now += 0.1
        self.happen(t.Cancel(None if number == 0 else number, self.now))

    def hello(self, fits=True):
        if self.process == "starting":
            self.process = "up"
            self.happen(HELLO if fits else OLD_HELLO)

    def answer(self, how):
        if self.process in ("up", "ending") and self.worker_job is not None:
            id, self.worker_job = self.worker_job, None
            self.happen(t.Message({"id": id, **how}))

    def report(self):
        if self.worker_job is not None:
            self.happen(progress(t.Job(self.worker_job)))

    def exit(self, code):
        if self.process:
            self.process, self.worker_job = None, None
            self.happen(t.Exited(code))

    def end_thread(self, error):
        if self.threads:
            self.happen(t.ThreadEnded(self.threads.pop()[0], None, error))

    def pass_time(self, seconds):
        self.now += seconds
        self.happen(t.Tick(self.now))

    def nonsense(self, message):
        self.happen(t.Message(message))

    def settle(self):
        """The worker and the threads answer what they owe."""
        for _ in range(10 * len(self.submitted) + 10):
            if not self.state.busy:
                return
            if self.process == "ending":
                self.exit(0)
            self.hello()
            self.answer({"result": {}})
            self.end_thread(None)
            self.pass_time(1.0)
        raise AssertionError(f"a job never ends: {shape(self.state)}")


ANSWERS = st.sampled_from(
    [
        {"result": {}},
        {"error": {"message": "m", "data": {"code": "no_gpu"}}},
        {"error": {"data": {"code": "cancelled"}}},
        {},
    ]
)
NONSENSE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "method", "params", "error", "data", "code", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)
MOVES = st.one_of(
    st.tuples(st.just("submit"), st.sampled_from(JOBS)),
    st.tuples(st.just("cancel"), st.integers(0, 6)),
    st.tuples(st.just("hello"), st.sampled_from([True, True, True, False])),
    st.tuples(st.just("answer"), ANSWERS),
    st.tuples(st.just("report")),
    st.tuples(st.just("exit"), st.sampled_from([0, 1, -9])),
    st.tuples(st.just("end_thread"), st.sampled_from([None, Cancelled(), ValueError("x")])),
    st.tuples(st.just("pass_time"), st.sampled_from([0.1, 6.0, 100.0])),
    st.tuples(st.just("happen"), st.sampled_from([t.Release(), t.Stop(0.0)])),
    st.tuples(st.just("nonsense"), NONSENSE.filter(lambda m: not (isinstance(m, dict) and _names_a_job(m)))),
)


def _names_a_job(message):
    """Whether the nonsense could be taken for an answer, which the world would have to know of."""
    id = message.get("id")
    return isinstance(id, (int, float)) and not isinstance(id, bool)


@settings(max_examples=300, deadline=None)
@given(st.lists(MOVES, max_size=40))
def test_no_sequence_of_events_loses_a_job_or_a_lock(moves):
    world = World()
    for name, *arguments in moves:
        getattr(world, name)(*arguments)
    world.settle()
    assert len(world.ended) == len(world.submitted) and not world.locked
    assert all(dataclasses.is_dataclass(job) for job in world.submitted)
