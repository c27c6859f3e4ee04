"""What all long operators share: a queue, attended in a window and blocking in background mode; Cancel, Resume and the
log."""

from __future__ import annotations

import atexit
import functools
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import bpy
from bpy.props import IntProperty

from ...link.requests import ImportCapture
from ...scene.camera_path import CameraPath
from ...scene.errors import In2nError
from ...workspace import journal
from ...workspace.layout import ORIGINAL
from .. import settings, tasks, worker, workspaces
from ..scene_state import active_capture

TICK_SECONDS = 0.1
ATTEND_SECONDS = 20.0  # Blender never autosaves while a modal operator runs, so attending pauses this often
PAUSE_SECONDS = 0.2
LOG_LINES = 2000  # of a log that are shown

# The operator that does what a request asks for; those of other methods are not offered to be gone on with.
RESUMED_BY = {"reconstruct": "reconstruct", "edit": "edit", "render": "render_path", "mesh": "extract_mesh"}
NEEDED_FIRST = ("import", "reconstruct")  # what comes after these in the same workspace cannot do without them


class JobOperator:
    """A long operator. Subclasses give `label` and `prepare`, and `undo_step` where they add objects.

    In a window `execute` starts the job, or lets it wait for its turn, and returns at once; IN2N_OT_attend then drains
    its events, and Esc cancels. In background mode `execute` runs the job to its end and prints its progress. Nothing
    of Blender's data is kept while the job runs: the scene and the capture are looked up again when it has ended,
    because the user may have undone, renamed or deleted them.
    """

    label = ""
    undo_step = False  # whether finishing changes what Undo is for: objects, not just what mirrors the workspace

    def prepare(self, context) -> tuple[tasks.Work, Callable]:
        """Returns the job's work (see `tasks`), which must not touch Blender, and `finish(context, scene, capture,
        result)`.

        finish is called in the main thread with what the work returned and returns one sentence about it; its capture
        is the Empty that the job worked on, or None when there is none any more. It must not refer to the operator,
        which is gone by then. Both may raise In2nError.
        """
        raise NotImplementedError

    def chosen(self, settings, *names: str) -> dict:
        """The operator's own arguments of these names where they were given, else the scene's settings."""
        given = self.properties.is_property_set
        return {name: getattr(self if given(name) else settings, name) for name in names}

    def chosen_instruction(self, settings) -> str:
        """Raises In2nError("empty_instruction")."""
        instruction = self.chosen(settings, "instruction")["instruction"].strip()
        if not instruction:
            raise In2nError(
                "empty_instruction",
                "The instruction is empty.",
                "Type what to change, for example “Make it look like autumn”.",
            )
        return instruction

    def execute(self, context):
        try:
            work, finish = self.prepare(context)
            attended = attended_job(context, self.label, work, finish, self.undo_step)
            waits = attend(attended)
        except In2nError as error:
            self.report({"ERROR"}, tasks.spoken_error(error))
            return {"CANCELLED"}
        if not in_window():
            attended.job.run_here(tasks.ProgressPrinter())
            return attended.conclude(self, context)
        if waits:
            self.report({"INFO"}, f"{self.label}: waits until “{tasks.current().label}” has ended.")
            _redraw(context)
            return {"FINISHED"}
        attended.job.start()
        _follow()
        return {"FINISHED"}


def photos_first(capture, workspace) -> list[ImportCapture]:
    """The request that brings the photos into the workspace, where they are not there yet."""
    if workspaces.has_photos(workspace):
        return []
    return [
        ImportCapture(
            workspace=str(workspace.root), source=bpy.path.abspath(capture.in2n.source), preset=capture.in2n.preset
        )
    ]


def in_window() -> bool:
    """Whether there is a window whose events drive jobs; in background mode a job runs where it is called."""
    return not bpy.app.background


def _follow() -> None:
    bpy.ops.in2n.attend("INVOKE_DEFAULT")


@dataclass
class Attended:
    """A job, where its result goes, and where its log is. workspace: "" for a job that is not about a capture."""

    job: tasks.Job
    finish: Callable
    undo_step: bool
    scene_uid: int
    workspace: str
    requests: tuple = ()
    log_file: Path | None = None

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
        if job.error is not None:
            sentence = _drop_what_needed(self, sentence)
        _offered.cache_clear()
        if scene is not None and scene.library is None:
            workspaces.sync_edits(scene)  # an edit that did not come to its end is one too
            scene.in2n.status = sentence
        operator.report({"ERROR"} if job.failed else {"INFO"}, sentence)
        if job.error is None and self.undo_step and in_window():
            bpy.ops.ed.undo_push(message=job.label)
        return {"CANCELLED"} if job.error is not None else {"FINISHED"}

    def _capture(self, scene):
        captures = (o for o in scene.objects if o.in2n.role == "CAPTURE")
        return (
            next((o for o in captures if str(workspaces.resolve(o)) == self.workspace), None)
            if self.workspace
            else None
        )


_attended: Attended | None = None
_waiting: list[Attended] = []
_last: Attended | None = None


def attended_job(context, label: str, work: tasks.Work, finish: Callable, undo_step: bool) -> Attended:
    """A job for the context's scene and its capture; one that works in a workspace keeps a journal there."""
    capture = active_capture(context.scene)
    folder = workspaces.resolve(capture) if capture else None
    requests = getattr(work, "requests", ())
    log_file = settings.home_folder() / ("worker.log" if requests else "install.log")
    if requests and all(getattr(r, "workspace", "") for r in requests):
        place = Path(requests[-1].workspace)
        log_file = place / journal.LOG_NAME
        work = journal.kept(work, place, label, requests, resumable=requests[-1].method in RESUMED_BY)
    return Attended(
        tasks.Job(label, work), finish, undo_step, context.scene.session_uid, str(folder or ""), requests, log_file
    )


def attend(attended: Attended) -> bool:
    """Make the job the current one, or let it wait; returns whether it waits. Raises In2nError("busy") in background
    mode."""
    global _attended, _last
    if busy() and in_window():
        _waiting.append(attended)
        return True
    tasks.begin(attended.job)
    _attended = _last = attended
    return False


def busy() -> bool:
    """Whether a job runs or its result still waits to be brought in."""
    return _attended is not None or tasks.running()


def waiting() -> list[tasks.Job]:
    """The jobs that wait for their turn, the next one first."""
    return [attended.job for attended in _waiting]


def edits_to_come(workspace_root) -> list[str]:
    """Names of the edits that run or wait in a workspace; they may not be on disk yet."""
    underway = [*([_attended] if _attended else []), *_waiting]
    return [
        r.name for a in underway for r in a.requests if r.method == "edit" and Path(r.workspace) == Path(workspace_root)
    ]


def _drop_what_needed(ended: Attended, sentence: str) -> str:
    """Without a reconstruction the edits that wait for it cannot be made: drop them, and say so."""
    if not any(r.method in NEEDED_FIRST for r in ended.requests):
        return sentence
    dropped = [a for a in _waiting if a.workspace == ended.workspace]
    _waiting[:] = [a for a in _waiting if a not in dropped]
    return (
        f"{sentence} What waited for it was dropped: {', '.join(a.job.label for a in dropped)}."
        if dropped
        else sentence
    )


def _start_next() -> bool:
    """Start the job that waits longest, if there is one."""
    if not _waiting:
        return False
    attended = _waiting.pop(0)
    attend(attended)
    attended.job.start()
    return True


def tick(operator, context) -> bool:
    """Take in what the current job has said and, when it has ended, its result; returns whether there still is a
    job."""
    job = _attended.job
    done = job.done  # asked before draining, so that no last event is left behind
    if job.drain() or done:
        _redraw(context)
    if not done:
        return True
    _attended.conclude(operator, context)
    return _start_next()


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
        if not tick(self, context):
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
    """Another file is about to be opened: the job's scene goes, what it saved in the workspace stays and can be
    resumed."""
    _waiting.clear()
    if tasks.running():
        tasks.current().cancel()


@bpy.app.handlers.persistent
def _forget_offers(*_) -> None:
    _offered.cache_clear()


def _redraw(context) -> None:
    """Draw the sidebars and the preferences again; not the 3D views themselves, which may take long to draw."""
    for window in context.window_manager.windows:
        for area in window.screen.areas:
            wanted = {"VIEW_3D": "UI", "PREFERENCES": "WINDOW"}.get(area.type)
            for region in area.regions:
                if region.type == wanted:
                    region.tag_redraw()


# --- polls
# --------------------------------------------------------------------------------------------------------------


def poll_nothing_runs(cls) -> bool:
    """Part of polls: no job is running."""
    if busy():
        cls.poll_message_set(f"“{tasks.current().label}” is running")
        return False
    return True


poll_idle = poll_nothing_runs


def poll_queue(cls) -> bool:
    """Part of the polls of jobs that can wait for their turn: only a job on the engine itself is in the way."""
    if not in_window() or any(not a.requests for a in [*([_attended] if _attended else []), *_waiting]):
        return poll_nothing_runs(cls)
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
    """Part of every poll: the capture has been reconstructed, or will have been when a job's turn comes."""
    folder = workspaces.workspace_of(context.scene)
    step = workspaces.reconstruction_step(folder)
    if step and not (folder and reconstruction_to_come(folder)):
        cls.poll_message_set(step)
        return False
    return True


def reconstruction_to_come(folder: Path) -> bool:
    """Whether a reconstruction of the workspace runs or waits."""
    underway = [*([_attended] if _attended else []), *_waiting]
    return any(r.method == "reconstruct" and Path(r.workspace) == folder for a in underway for r in a.requests)


# --- resuming
# -----------------------------------------------------------------------------------------------------------


def offered(scene) -> journal.Unfinished | None:
    """The job of the scene's workspace that was not done to its end, for the panel to offer; looked up once a second at
    most."""
    folder = workspaces.workspace_of(scene)
    if folder is None:
        return None
    return _offered(folder, int(time.monotonic()))


@functools.lru_cache(maxsize=4)
def _offered(folder: Path, _second: int) -> journal.Unfinished | None:
    return journal.unfinished(folder)


def arguments_again(request, properties, workspace: workspaces.Workspace) -> dict:
    """The operator's arguments that make the request once more, but without starting over what is saved.

    properties: names of the operator's arguments. workspace: where the job's is now; it may have been moved.
    Raises In2nError when a camera path is not there any more.
    """
    given = {
        name: getattr(request, name)
        for name in properties
        if name != "restart" and getattr(request, name, None) is not None
    }
    if request.method in ("render", "mesh"):
        given["edit"] = request.edit or ORIGINAL
    if request.method == "render":
        path = CameraPath.load(workspace.camera_path(Path(request.camera_path).stem))
        numbers = [frame.number for frame in path.frames]
        step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
        given.update(name=path.name, frame_start=numbers[0], frame_end=numbers[-1], frame_step=step)
    return given


class IN2N_OT_resume(bpy.types.Operator):
    bl_description = (
        "Go on with the job that was cancelled, or that stopped when the engine or Blender ended, from "
        "what it saved last"
    )

    bl_idname = "in2n.resume"
    bl_label = "Resume"

    @classmethod
    def poll(cls, context):
        if not (poll_nothing_runs(cls) and poll_capture(cls, context) and poll_engine(cls)):
            return False
        if offered(context.scene) is None:
            cls.poll_message_set("There is no job to go on with")
            return False
        return True

    def execute(self, context):
        settings = context.scene.in2n
        request = offered(context.scene).requests[-1]
        operator = getattr(bpy.ops.in2n, RESUMED_BY[request.method])
        default_guidance = settings.use_default_guidance
        try:
            workspace = workspaces.require(context.scene)[1]
            arguments = arguments_again(request, {p.identifier for p in operator.get_rna_type().properties}, workspace)
            if request.method == "edit":
                settings.use_default_guidance = True  # a guidance that is not given is the editor's own
                if (
                    request.name in workspace.edits()
                ):  # its settings are on disk, those that the operator does not have too
                    operator, arguments = bpy.ops.in2n.continue_edit, {"edit": request.name}
            return operator("EXEC_DEFAULT", **arguments)
        except In2nError as error:
            self.report({"ERROR"}, str(error))
        except RuntimeError as error:  # what the operator reported
            self.report({"ERROR"}, str(error).removeprefix("Error: ").strip())
        finally:
            settings.use_default_guidance = default_guidance
        return {"CANCELLED"}


class IN2N_OT_dismiss(bpy.types.Operator):
    """Do not offer the unfinished job any more. What it saved stays"""

    bl_idname = "in2n.dismiss"
    bl_label = "Dismiss"

    @classmethod
    def poll(cls, context):
        return offered(context.scene) is not None

    def execute(self, context):
        journal.forget(workspaces.workspace_of(context.scene))
        _offered.cache_clear()
        _redraw(context)
        return {"FINISHED"}


# --- cancelling and the log
# ---------------------------------------------------------------------------------------------


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


class IN2N_OT_cancel_waiting(bpy.types.Operator):
    """Take a job that waits for its turn out of the queue"""

    bl_idname = "in2n.cancel_waiting"
    bl_label = "Take Out of Queue"
    bl_options = {"INTERNAL"}

    index: IntProperty(
        name="Place",
        description="The job's place in the queue; 0 is the next one",
        default=0,
        min=0,
        options={"SKIP_SAVE"},
    )

    def execute(self, context):
        if self.index < len(_waiting):
            del _waiting[self.index]
        _redraw(context)
        return {"FINISHED"}


class IN2N_OT_show_log(bpy.types.Operator):
    """Show the log of the last job, as a text in the Text Editor"""

    bl_idname = "in2n.show_log"
    bl_label = "Show Log"

    @classmethod
    def poll(cls, context):
        if _log_file(context) is None:
            cls.poll_message_set("No job has run yet")
            return False
        return True

    def execute(self, context):
        file = _log_file(context)
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
        text = next((t for t in bpy.data.texts if t.get("in2n_log") and t.library is None), None) or bpy.data.texts.new(
            "IN2N log"
        )
        text["in2n_log"] = True
        text.from_string("\n".join([f"# {file}", *lines]))
        text.current_line_index = len(text.lines) - 1
        if in_window() and not _show_in_new_window(context, text):
            bpy.ops.wm.path_open(filepath=str(file))
        return {"FINISHED"}


def _show_in_new_window(context, text) -> bool:
    """Open a Text Editor in a window of its own; False where the system gives none."""
    before = set(context.window_manager.windows)
    with suppress(RuntimeError):
        bpy.ops.screen.area_dupli("INVOKE_DEFAULT")
    window = next((w for w in context.window_manager.windows if w not in before), None)
    if window is None:
        return False
    area = window.screen.areas[0]
    area.type = "TEXT_EDITOR"
    area.spaces.active.text = text
    area.spaces.active.top = max(len(text.lines) - 20, 0)
    return True


def _log_file(context) -> Path | None:
    """The log of the last job in this Blender, else that of the scene's workspace; None where there is none."""
    folder = workspaces.workspace_of(context.scene)
    candidates = (_last.log_file if _last else None, folder / journal.LOG_NAME if folder else None)
    return next((file for file in candidates if file is not None and file.is_file()), None)


CLASSES = (IN2N_OT_attend, IN2N_OT_resume, IN2N_OT_dismiss, IN2N_OT_cancel, IN2N_OT_cancel_waiting, IN2N_OT_show_log)


def attach() -> None:
    bpy.app.handlers.load_pre.append(_cancel_before_load)
    bpy.app.handlers.load_post.append(_forget_offers)


def detach() -> None:
    global _attended, _last
    _attended = _last = None
    _waiting.clear()
    _offered.cache_clear()
    if bpy.app.timers.is_registered(_attend_again):
        bpy.app.timers.unregister(_attend_again)
    bpy.app.handlers.load_pre.remove(_cancel_before_load)
    bpy.app.handlers.load_post.remove(_forget_offers)


def shut_down() -> None:
    """Stop the running job and the worker process; on unregister and when Blender quits."""
    _waiting.clear()
    tasks.shut_down()
    worker.stop()


atexit.register(shut_down)
