"""Blender's jobs: handed to the one client, followed by one timer, their results brought in when they have ended.

The client's state is the only queue. In a window `poll` runs from a timer for as long as there are jobs; in background
mode `wait` loops over the same `poll`. Nothing of Blender's data is kept while a job runs: the scene and the capture
are looked up again when it has ended, because the user may have undone, renamed or deleted them.
"""

from __future__ import annotations

import atexit
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import bpy

from ..link import events
from ..link.request_fields import Request
from ..link.requests import FindDevices
from ..scene.errors import Cancelled, In2nError
from ..scene.reporting import Artifact, Progress
from ..workspace import journal
from . import engine, machines, settings, underway, workspaces
from .scene_state import active_capture
from .shown_job import ProgressPrinter, ShownJob

TICK_SECONDS = 0.1
REDRAW_SECONDS = 0.25  # between two drawings of a job at work: without a GPU each takes time from the engine
INSTALL_LOG = "install.log"  # in the home folder
QUIET_LABEL = "Show Scene"  # of jobs that follow another one by themselves


@dataclass(frozen=True)
class _Followed:
    """Where a job's result goes.

    Attributes:
        finish: `finish(context, scene, capture, result)`, called in the main thread with what the job returned; it
            returns one sentence about it. The capture is the Empty that the job worked on, or None when there is none
            any more.
        undo_step: Whether finishing changes what Undo is for: objects, not just what mirrors the workspace.
        scene_uid: The scene that the job was started from.
        workspace: Of the capture that it is about; "": of none.
        log_file: Where what it says is kept.
        label: What the interface calls the job.
        in_engine: Whether it begins in the engine.
        after: The job without whose success it is dropped, and whose outcome it leaves to be read; None: of none.
    """

    finish: Callable
    undo_step: bool
    scene_uid: int
    workspace: str
    log_file: Path
    label: str
    in_engine: bool
    after: int | None = None


@dataclass(frozen=True)
class Outcome:
    """How a job ended: one sentence, and whether it came to its end or failed (being cancelled is neither)."""

    sentence: str
    finished: bool
    failed: bool


_followed: dict[int, _Followed] = {}  # jobs whose end has not been told, by id
_shown: ShownJob | None = None
_news, _redrawn = False, 0.0  # whether something was told that is not drawn yet, and when it was last
_awaited: set[int] = set()  # jobs that `wait` waits for
listeners: list[Callable[[], None]] = []  # told, in a window, that something has happened to a job
_outcomes: dict[int, Outcome] = {}  # of those that have ended


def in_window() -> bool:
    """Whether there is a window whose timer follows jobs; in background mode a job is waited for where it is called."""
    return not bpy.app.background


def submit(
    context,
    label: str,
    steps: list,
    finish: Callable,
    undo_step: bool,
    first: bool = False,
    after: int | None = None,
) -> int:
    """Queue a job for the context's scene and its capture.

    Args:
        context: Blender's.
        label: What the interface calls the job.
        steps: Requests and work in threads, as `Client.submit` takes them.
        finish: See `_Followed`.
        undo_step: Whether finishing is a step that Undo takes back.
        first: Whether its turn comes before that of all jobs that wait.
        after: A job that this one follows by itself: it is dropped where that one does not come to its end, and keeps
            silent about its own.

    Returns:
        The job's id.

    Raises:
        In2nError: "busy" in background mode while another job is waited for; "no_engine"; "offline" where the job is
            another machine's and Blender may not use the network; what `Request.check` raises.
    """
    if busy() and not in_window():
        raise In2nError("busy", f"“{current().label}” is still running.", "Wait for it to end or cancel it.")
    python = _engine_for(context.scene, steps)
    if not busy():
        context.scene.in2n.note_read()
    capture = active_capture(context.scene)
    folder = workspaces.resolve(capture) if capture else None
    places = [getattr(step, "workspace", "") for step in steps]
    log = Path(places[-1]) / journal.LOG_NAME if all(places) else settings.home_folder() / _log_name(steps)
    id = engine.client().submit(steps, label, python=python, first=first, after=after)
    _followed[id] = _Followed(
        finish,
        undo_step,
        context.scene.session_uid,
        str(folder or ""),
        log,
        label,
        isinstance(steps[0], Request),
        after,
    )
    running = engine.client().state.running
    if running is not None and running.job.id == id:
        _begin(id, _followed[id])  # so that it is seen at once
    if in_window() and not bpy.app.timers.is_registered(_tick):
        bpy.app.timers.register(_tick, first_interval=TICK_SECONDS, persistent=True)
    return id


def _engine_for(scene, steps: list) -> str:
    """What does a job's requests: another machine where the scene names one, else the engine of this computer."""
    requests = [step for step in steps if isinstance(step, Request)]
    if not requests:
        return ""
    machine = machines.chosen(scene)
    if len(requests) < len(steps):  # a step before them may be what makes the engine
        return str(engine.future_python())
    if machine is None or any(isinstance(request, FindDevices) for request in requests):
        return str(engine.required_python())
    machines.require_leave()
    return machine.address


def _log_name(steps: list) -> str:
    return engine.LOG_FILE if all(isinstance(step, Request) for step in steps) else INSTALL_LOG


def wait(id: int) -> Outcome:
    """Follow a job to its end where it is called, printing its progress; Ctrl+C cancels it.

    Args:
        id: The job's, as `submit` returned it.
    """
    printer = ProgressPrinter()
    _awaited.add(id)
    while id not in _outcomes:
        try:
            poll(printer)
            time.sleep(0.02)
        except KeyboardInterrupt:
            cancel()
    _awaited.discard(id)
    return _outcomes.pop(id)


def _tick() -> float | None:
    """The timer of a window."""
    global _news, _redrawn
    windows = bpy.context.window_manager.windows
    if windows:  # there is none between two files
        with bpy.context.temp_override(window=windows[0]):
            _news = poll() or _news
            if _news and (not running() or time.monotonic() - _redrawn >= REDRAW_SECONDS):
                _news, _redrawn = False, time.monotonic()
                redraw()
                for listener in listeners:
                    listener()
    return TICK_SECONDS if busy() else None


def poll(on_change: Callable[[ShownJob], None] = lambda job: None) -> bool:
    """Take in what has happened since the last call, and bring results in.

    Args:
        on_change: Told of the shown job after each of its reports.

    Returns:
        Whether something has happened.
    """
    told = engine.client().poll()
    for event in told:
        if isinstance(event, events.Started):
            _begin(event.job, _followed[event.job])
        elif isinstance(event, events.Reported):
            _report(event)
            on_change(_shown)
        elif isinstance(event, (events.Finished, events.Failed)):
            _end(event)
    return bool(told)


def _begin(id: int, followed: _Followed) -> None:
    """A job's turn has come: it is the one that is shown."""
    global _shown
    if _shown is None or _shown.id != id:
        _shown = ShownJob(id, followed.label, followed.in_engine, followed.log_file)


def _report(event: events.Reported) -> None:
    if isinstance(event.event, Progress):
        _shown.progress = event.event
    elif isinstance(event.event, Artifact) and event.event.kind == "image":
        _shown.image, _shown.view = event.event.path, event.event.view
    elif isinstance(event.event, Artifact) and event.event.kind == "cameras":
        _shown.cameras = event.event.path


def _end(event: events.Finished | events.Failed) -> None:
    """A job has ended: bring its result in and say how it went."""
    followed = _followed.pop(event.job, None)
    error = getattr(event, "error", None)
    began = _shown is not None and _shown.id == event.job
    if followed is None or (not began and isinstance(error, Cancelled) and event.job not in _awaited):
        return  # taken out of the queue before its turn came
    if followed.after is not None and not began:
        return  # what it follows could not begin either, and says why
    if not began:  # its workspace is busy, or the engine did not start
        _begin(event.job, followed)
    _shown.ended, _shown.error, _shown.result = True, error, getattr(event, "result", None)
    outcome = _conclude(_shown, followed, getattr(event, "dropped", ()))
    if event.job in _awaited:
        _outcomes[event.job] = outcome
    elif outcome.failed and followed.after is None:
        _show_failure(outcome.sentence)


def _conclude(shown: ShownJob, followed: _Followed, dropped: tuple[str, ...]) -> Outcome:
    scene = next((s for s in bpy.data.scenes if s.session_uid == followed.scene_uid), None)
    finished = ""
    if shown.error is None and scene is not None:
        try:
            finished = followed.finish(bpy.context, scene, _capture(scene, followed.workspace), shown.result)
        except Exception as error:
            shown.error = error
    sentence = shown.outcome(finished)
    if dropped:
        sentence = f"{sentence} What waited for it was dropped: {', '.join(dropped)}."
    if shown.failed and not isinstance(shown.error, In2nError):
        print(getattr(shown.error, "traceback", "") or "".join(traceback.format_exception(shown.error)))
    underway.forget_offers()
    if scene is not None and scene.library is None:
        workspaces.sync_edits(scene)  # an edit that did not come to its end is one too
        if followed.after is None:
            scene.in2n.tell(sentence, shown.label, shown.failed)
    if shown.error is None and followed.undo_step and in_window():
        bpy.ops.ed.undo_push(message=shown.label)
    return Outcome(sentence, shown.error is None, shown.failed)


def _capture(scene, workspace: str):
    captures = (o for o in scene.objects if o.in2n.role == "CAPTURE")
    return next((o for o in captures if str(workspaces.resolve(o)) == workspace), None) if workspace else None


def _show_failure(sentence: str) -> None:
    """Where the user looks, also with the sidebar closed."""

    def draw(popup, _context):
        popup.layout.label(text=sentence, translate=False)

    bpy.context.window_manager.popup_menu(draw, title="IN2N", icon="ERROR")


# --- what panels and polls ask --------------------------------------------------------------------------------------


def current() -> ShownJob | None:
    """The job that runs now or ran last in this Blender."""
    return _shown


def busy() -> bool:
    """Whether a job runs or waits, or its result still waits to be brought in."""
    return bool(_followed)


def running() -> bool:
    """Whether a job is at work."""
    return _shown is not None and not _shown.ended


def waiting() -> tuple[events.Job, ...]:
    """The jobs that wait for their turn, the next one first."""
    return engine.client().state.queue


def works_on_the_engine() -> bool:
    """Whether a job installs, moves or copies: no other can be planned behind it."""
    return any(isinstance(step, events.ThreadStep) for job in engine.client().state.jobs for step in job.steps)


def cancel(job: int | None = None) -> None:
    """Cancel a job; what it has saved is kept.

    Args:
        job: The id of one that runs or waits; None: the one that runs.
    """
    running = engine.client().state.running
    if job is None and running is not None:
        job = running.job.id
    if job is None:
        return
    if _shown is not None and _shown.id == job:
        _shown.asked_to_stop = True
    engine.client().cancel(job)


def redraw() -> None:
    """Draw the sidebars and the preferences again; not the 3D views themselves, which may take long to draw."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            wanted = {"VIEW_3D": "UI", "PREFERENCES": "WINDOW"}.get(area.type)
            for region in area.regions:
                if region.type == wanted:
                    region.tag_redraw()


# --- coming and going -------------------------------------------------------------------------------------------------


@bpy.app.handlers.persistent
def _cancel_before_load(*_) -> None:
    """Another file is about to be opened: the jobs' scene goes, what they saved stays and can be resumed."""
    engine.client().cancel()


@bpy.app.handlers.persistent
def _forget_after_load(*_) -> None:
    underway.forget_offers()


def attach() -> None:
    """Cancel jobs before another file is opened, and look for unfinished ones afterwards."""
    bpy.app.handlers.load_pre.append(_cancel_before_load)
    bpy.app.handlers.load_post.append(_forget_after_load)


def detach() -> None:
    """Undo `attach`, and forget all jobs."""
    global _shown
    _shown = None
    _followed.clear()
    underway.forget_offers()
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    bpy.app.handlers.load_pre.remove(_cancel_before_load)
    bpy.app.handlers.load_post.remove(_forget_after_load)


def shut_down() -> None:
    """Stop all jobs and the engine's process; on unregister and when Blender quits."""
    engine.stop()


atexit.register(shut_down)
