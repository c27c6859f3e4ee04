"""What all long operators share: modal in a window, blocking in background mode; and Cancel."""

from __future__ import annotations

import atexit
import traceback

import bpy

from ...scene.errors import In2nError
from .. import tasks, worker, workspaces
from ..properties import active_capture

TICK_SECONDS = 0.1


class JobOperator:
    """A long operator. Subclasses give `label`, `prepare` and `finish`, and `undo_step` where they add objects.

    In a window `execute` and `invoke` start the job and return at once; a timer then drains its events, and Esc cancels.
    In background mode `execute` runs the job to its end and prints its progress. Nothing of Blender's data is kept while
    the job runs: the scene and the capture are looked up again when it has ended, because the user may have undone,
    renamed or deleted them.
    """

    label = ""
    undo_step = False  # whether `finish` changes what Undo is for: objects, not just what mirrors the workspace

    def prepare(self, context):
        """Called in the main thread; returns the job's work (see `tasks`), which must not touch Blender. Raises In2nError."""
        raise NotImplementedError

    def finish(self, context, scene, capture, result) -> str:
        """Called in the main thread with what `work` returned; returns one sentence about it. Raises In2nError.

        capture: the Empty of the capture that the job worked on, or None when there is none any more.
        """
        return ""

    def execute(self, context):
        try:
            self._scene_uid = context.scene.session_uid
            capture = active_capture(context.scene)
            folder = workspaces.resolve(capture) if capture else None
            self._workspace = str(folder) if folder else ""
            work = self.prepare(context)
            self._job = tasks.begin(tasks.Job(self.label, work))
        except In2nError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        if bpy.app.background:
            self._job.run_here(tasks.ProgressPrinter())
            return self._conclude(context)
        self._job.start()
        window_manager = context.window_manager
        self._timer = window_manager.event_timer_add(TICK_SECONDS, window=context.window)
        window_manager.modal_handler_add(self)
        _redraw(context)
        return {"RUNNING_MODAL"}

    def modal(self, context, event):
        if event.type == "ESC" and event.value == "PRESS" and not self._job.cancelling:
            self._job.cancel()
            _redraw(context)
            return {"RUNNING_MODAL"}
        if event.type != "TIMER":
            return {"PASS_THROUGH"}
        done = self._job.done  # asked before draining, so that no last event is left behind
        if self._job.drain():
            _redraw(context)
        if not done:
            return {"PASS_THROUGH"}
        context.window_manager.event_timer_remove(self._timer)
        outcome = self._conclude(context)
        _redraw(context)
        return outcome

    def cancel(self, context):
        """Blender calls this when the window is closed or another file is loaded."""
        self._job.cancel()

    def _conclude(self, context):
        job, finished = self._job, ""
        scene = next((s for s in bpy.data.scenes if s.session_uid == self._scene_uid), None)
        if job.error is None:
            try:
                finished = self.finish(context, scene, self._find_capture(scene), job.result) if scene else ""
            except In2nError as error:
                job.error = error
            except Exception as error:
                job.error = error
                job.log.extend(traceback.format_exc().splitlines())
        sentence = job.outcome(finished)
        if job.error is not None and job.log and not isinstance(job.error, In2nError):
            print("\n".join(job.log))
        if scene is not None:
            scene.in2n.status = sentence
        failed = job.error is not None and not isinstance(job.error, tasks.Cancelled)
        self.report({"ERROR"} if failed else {"INFO"}, sentence)
        if job.error is not None:
            return {"CANCELLED"}
        if self.undo_step and not bpy.app.background:
            bpy.ops.ed.undo_push(message=self.label)
        return {"FINISHED"}

    def _find_capture(self, scene):
        if scene is None or not self._workspace:
            return None
        captures = (o for o in scene.objects if o.in2n.role == "CAPTURE")
        return next((o for o in captures if str(workspaces.resolve(o)) == self._workspace), None)


def _redraw(context) -> None:
    for window in context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in {"VIEW_3D", "PREFERENCES"}:
                area.tag_redraw()


def poll_idle(cls) -> bool:
    """Part of every poll: no other job is running."""
    if tasks.running():
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


CLASSES = (IN2N_OT_cancel, IN2N_OT_show_log)


def shut_down() -> None:
    """Stop the running job and the worker process; on unregister and when Blender quits."""
    tasks.shut_down()
    worker.stop()


atexit.register(shut_down)
