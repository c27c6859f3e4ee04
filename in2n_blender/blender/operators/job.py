"""What all long operators share: attended in a window, blocking in background mode; Cancel and the log."""

from __future__ import annotations

import atexit
import time
import traceback
from dataclasses import dataclass
from typing import Callable

import bpy

from ...scene.errors import In2nError
from .. import tasks, worker, workspaces
from ..properties import active_capture

TICK_SECONDS = 0.1
ATTEND_SECONDS = 20.0  # Blender never autosaves while a modal operator runs, so attending pauses this often
PAUSE_SECONDS = 0.2


class JobOperator:
    """A long operator. Subclasses give `label` and `prepare`, and `undo_step` where they add objects.

    In a window `execute` starts the job and returns at once; IN2N_OT_attend then drains its events, and Esc cancels.
    In background mode `execute` runs the job to its end and prints its progress. Nothing of Blender's data is kept while
    the job runs: the scene and the capture are looked up again when it has ended, because the user may have undone,
    renamed or deleted them.
    """

    label = ""
    undo_step = False  # whether finishing changes what Undo is for: objects, not just what mirrors the workspace

    def prepare(self, context) -> tuple[tasks.Work, Callable]:
        """Returns the job's work (see `tasks`), which must not touch Blender, and `finish(context, scene, capture, result)`.

        finish is called in the main thread with what the work returned and returns one sentence about it; its capture is
        the Empty that the job worked on, or None when there is none any more. It must not refer to the operator, which
        is gone by then. Both may raise In2nError.
        """
        raise NotImplementedError

    def execute(self, context):
        try:
            work, finish = self.prepare(context)
            attended = attend(context, tasks.Job(self.label, work), finish, self.undo_step)
        except In2nError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        if bpy.app.background:
            attended.job.run_here(tasks.ProgressPrinter())
            return attended.conclude(self, context)
        attended.job.start()
        bpy.ops.in2n.attend("INVOKE_DEFAULT")
        return {"FINISHED"}


@dataclass
class Attended:
    """A job and where its result goes."""

    job: tasks.Job
    finish: Callable
    undo_step: bool
    scene_uid: int
    workspace: str

    def conclude(self, operator, context) -> set[str]:
        """Bring the ended job's result in and let `operator` report how it went; returns the operator's outcome."""
        global _attended
        _attended = None
        job, finished = self.job, ""
        scene = next((s for s in bpy.data.scenes if s.session_uid == self.scene_uid), None)
        if job.error is None and scene is not None:
            try:
                finished = self.finish(context, scene, self._capture(scene), job.result)
            except In2nError as error:
                job.error = error
            except Exception as error:
                job.error = error
                job.log.extend(traceback.format_exc().splitlines())
        sentence = job.outcome(finished)
        if job.failed and job.log and not isinstance(job.error, In2nError):
            print("\n".join(job.log))
        if scene is not None:
            scene.in2n.status = sentence
        operator.report({"ERROR"} if job.failed else {"INFO"}, sentence)
        if job.error is None and self.undo_step and not bpy.app.background:
            bpy.ops.ed.undo_push(message=job.label)
        return {"CANCELLED"} if job.error is not None else {"FINISHED"}

    def _capture(self, scene):
        captures = (o for o in scene.objects if o.in2n.role == "CAPTURE")
        return next((o for o in captures if str(workspaces.resolve(o)) == self.workspace), None) if self.workspace else None


_attended: Attended | None = None


def attend(context, job: tasks.Job, finish: Callable, undo_step: bool) -> Attended:
    """Make the job the current one, for the context's scene and its capture. Raises In2nError("busy")."""
    global _attended
    if busy():
        raise In2nError("busy", f"“{tasks.current().label}” is still running.", "Wait for it to end or cancel it.")
    capture = active_capture(context.scene)
    folder = workspaces.resolve(capture) if capture else None
    _attended = Attended(tasks.begin(job), finish, undo_step, context.scene.session_uid, str(folder or ""))
    return _attended


def busy() -> bool:
    """Whether a job runs or its result still waits to be brought in."""
    return _attended is not None or tasks.running()


class IN2N_OT_attend(bpy.types.Operator):
    """Follow the running job: show its progress, take its result in, and cancel it on Esc"""

    bl_idname = "in2n.attend"
    bl_label = "Follow Job"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context):
        return _attended is not None

    def invoke(self, context, event):
        self._until = time.monotonic() + ATTEND_SECONDS
        self._timer = context.window_manager.event_timer_add(TICK_SECONDS, window=context.window)
        context.window_manager.modal_handler_add(self)
        _redraw(context)
        return {"RUNNING_MODAL"}

    def modal(self, context, event):
        if _attended is None:
            return self._leave(context)
        job = _attended.job
        if event.type == "ESC" and event.value == "PRESS" and not job.cancelling:
            job.cancel()
            _redraw(context)
            return {"RUNNING_MODAL"}
        if event.type != "TIMER":
            return {"PASS_THROUGH"}
        done = job.done  # asked before draining, so that no last event is left behind
        if job.drain() or done:
            _redraw(context)
        if done:
            _attended.conclude(self, context)
            return self._leave(context)
        if time.monotonic() > self._until:
            _attend_later()
            return self._leave(context)
        return {"PASS_THROUGH"}

    def cancel(self, context):
        """Blender calls this when the window is closed or another file is loaded: another window goes on."""
        _attend_later()

    def _leave(self, context):
        context.window_manager.event_timer_remove(self._timer)
        return {"FINISHED"}


def _attend_later() -> None:
    if not bpy.app.timers.is_registered(_attend_again):
        bpy.app.timers.register(_attend_again, first_interval=PAUSE_SECONDS, persistent=True)


def _attend_again() -> float | None:
    windows = bpy.context.window_manager.windows
    if _attended is None:
        return None
    if not windows:  # between two files
        return PAUSE_SECONDS
    with bpy.context.temp_override(window=windows[0]):
        bpy.ops.in2n.attend("INVOKE_DEFAULT")
    return None


@bpy.app.handlers.persistent
def _cancel_before_load(*_) -> None:
    """Another file is about to be opened: the job's scene goes, what it saved in the workspace stays."""
    if tasks.running():
        tasks.current().cancel()


def _redraw(context) -> None:
    for window in context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in {"VIEW_3D", "PREFERENCES"}:
                area.tag_redraw()


def poll_idle(cls) -> bool:
    """Part of every poll: no other job is running."""
    if busy():
        cls.poll_message_set(f"“{tasks.current().label}” is running")
        return False
    return True


def poll_capture(cls, context) -> bool:
    """Part of every poll: the scene has a capture."""
    if active_capture(context.scene) is None:
        cls.poll_message_set("Import a capture first")
        return False
    return True


def poll_engine(cls) -> bool:
    """Part of every poll: the engine is installed."""
    if worker.engine_python() is None:
        cls.poll_message_set("Install the engine first: Preferences > Add-ons > IN2N")
        return False
    return True


def poll_reconstruction(cls, context) -> bool:
    """Part of every poll: the capture has been reconstructed."""
    folder = workspaces.workspace_of(context.scene)
    if folder is None or not workspaces.has_reconstruction(workspaces.Workspace(folder)):
        cls.poll_message_set("Reconstruct the capture first")
        return False
    return True


class IN2N_OT_cancel(bpy.types.Operator):
    """Stop the running job. What it has saved is kept, and starting it again goes on from there"""

    bl_idname = "in2n.cancel"
    bl_label = "Cancel"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context):
        if not tasks.running():
            cls.poll_message_set("Nothing is running")
            return False
        return True

    def execute(self, context):
        tasks.current().cancel()
        _redraw(context)
        return {"FINISHED"}


class IN2N_OT_show_log(bpy.types.Operator):
    """Show what the last job wrote to its log, as a text in the Text Editor"""

    bl_idname = "in2n.show_log"
    bl_label = "Show Log"

    @classmethod
    def poll(cls, context):
        if tasks.current() is None:
            cls.poll_message_set("No job has run yet")
            return False
        return True

    def execute(self, context):
        text = next((t for t in bpy.data.texts if t.get("in2n_log")), None) or bpy.data.texts.new("IN2N log")
        text["in2n_log"] = True
        job = tasks.current()
        text.from_string("\n".join([job.label, *job.log, job.line() if not job.done else job.outcome()]))
        if not bpy.app.background:
            bpy.ops.screen.area_dupli("INVOKE_DEFAULT")
            area = context.window_manager.windows[-1].screen.areas[0]
            area.type = "TEXT_EDITOR"
            area.spaces.active.text = text
        return {"FINISHED"}


CLASSES = (IN2N_OT_attend, IN2N_OT_cancel, IN2N_OT_show_log)


def attach() -> None:
    bpy.app.handlers.load_pre.append(_cancel_before_load)


def detach() -> None:
    global _attended
    _attended = None
    if bpy.app.timers.is_registered(_attend_again):
        bpy.app.timers.unregister(_attend_again)
    bpy.app.handlers.load_pre.remove(_cancel_before_load)


def shut_down() -> None:
    """Stop the running job and the worker process; on unregister and when Blender quits."""
    tasks.shut_down()
    worker.stop()


atexit.register(shut_down)
