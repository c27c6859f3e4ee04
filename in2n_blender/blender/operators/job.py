"""What all long operators share, and the operators on jobs: Cancel, taking one out of the queue, and the log."""

from __future__ import annotations

import platform
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import bpy
from bpy.props import IntProperty, StringProperty

from ... import __version__
from ...link.requests import ImportCapture
from ...scene.errors import In2nError
from ...workspace import journal
from .. import engine, jobs, links, quick_look, workspaces
from ..shown_job import spoken_error

LOG_LINES = 2000  # of a log that are shown
REPORTED_LINES = 60  # of a log that a report ends with
REPORTED_SETTINGS = (
    "preset", "device", "seed", "appearance", "refine_cameras", "instruction", "negative_prompt", "editor",
    "use_default_guidance", "guidance_text", "guidance_image", "editing_method", "mesh_resolution",
)  # fmt: skip


class JobOperator:
    """A long operator. Subclasses give `label` and `prepare`, and `undo_step` where they add objects.

    `first` says that its turn comes before that of jobs that wait.

    In a window `execute` queues the job and returns at once; a timer follows it (`jobs`). In background mode `execute`
    waits for its end and prints its progress.
    """

    label = ""
    first = False
    undo_step = False  # whether finishing changes what Undo is for: objects, not just what mirrors the workspace

    def prepare(self, context) -> tuple[list, Callable]:
        """What the job does, and what becomes of its result.

        Args:
            context: Blender's.

        Returns:
            Its steps: requests for the engine, and work for a thread, a callable that takes a Reporter and never
            touches Blender. And `finish(context, scene, capture, result)`, called in the main thread with what the last
            step returned; it returns one sentence. Its capture is the Empty that the job worked on, or None when there
            is none any more. It must not refer to the operator, which is gone by then.

        Raises:
            In2nError: For what is wrong before anything is done.
        """
        raise NotImplementedError

    def chosen(self, settings, *names: str) -> dict:
        """The operator's own arguments where they were given, else the scene's settings.

        Args:
            settings: The scene's.
            *names: Which, by the name that both have.

        Returns:
            Name -> value.
        """
        given = self.properties.is_property_set
        return {name: getattr(self if given(name) else settings, name) for name in names}

    def chosen_instruction(self, settings) -> str:
        """The instruction: the operator's own where it was given, else the scene's.

        Args:
            settings: The scene's.

        Raises:
            In2nError: "empty_instruction".
        """
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
            steps, finish = self.prepare(context)
            before = jobs.current() if jobs.busy() else None
            job = jobs.submit(context, self.label, steps, finish, self.undo_step, self.first)
            quick_look.queue_behind(context, job, steps[-1])
        except In2nError as error:
            self.report({"ERROR"}, spoken_error(error))
            return {"CANCELLED"}
        if not jobs.in_window():
            return self._wait(job)
        if before is not None:
            self.report({"INFO"}, f"{self.label}: waits until “{before.label}” has ended.")
        jobs.redraw()
        return {"FINISHED"}

    def _wait(self, job: int) -> set[str]:
        outcome = jobs.wait(job)
        self.report({"ERROR"} if outcome.failed else {"INFO"}, outcome.sentence)
        return {"FINISHED"} if outcome.finished else {"CANCELLED"}


def photos_first(capture, workspace, split: bool = False) -> list[ImportCapture]:
    """The request that brings the photos into the workspace, where they are not there yet.

    Args:
        capture: The capture's Empty.
        workspace: The capture's.
        split: Whether it also brings them anew where others are to be held out than before.

    Returns:
        One request, or none.
    """
    if workspaces.has_photos(workspace) and not (split and capture.in2n.split_changed):
        return []
    return [
        ImportCapture(
            workspace=str(workspace.root),
            source=bpy.path.abspath(capture.in2n.source),
            preset=capture.in2n.preset,
            hold_out_every=capture.in2n.hold_out_every,
            video_frames=capture.in2n.video_frames,
            outside_photos=capture.in2n.outside_photos,
        )
    ]


class IN2N_OT_cancel(bpy.types.Operator):
    """Stop the running job. What it has saved is kept, and starting it again goes on from there"""

    bl_idname = "in2n.cancel"
    bl_label = "Cancel"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context):
        if not jobs.running():
            cls.poll_message_set("Nothing is running")
            return False
        return True

    def execute(self, context):
        jobs.cancel()
        jobs.redraw()
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
        waiting = jobs.waiting()
        if self.index < len(waiting):
            jobs.cancel(waiting[self.index].id)
        jobs.redraw()
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
        text = _text_called("in2n_log", "IN2N log")
        text.from_string("\n".join([f"# {file}", *lines]))
        text.current_line_index = len(text.lines) - 1
        if jobs.in_window() and not _show_in_new_window(context, text):
            bpy.ops.wm.path_open(filepath=str(file))
        return {"FINISHED"}


class IN2N_OT_show_documentation(bpy.types.Operator):
    """Show the documentation that came with the extension, as a text in the Text Editor"""

    bl_idname = "in2n.show_documentation"
    bl_label = "Documentation"

    @classmethod
    def poll(cls, context):
        if links.readme() is None:
            cls.poll_message_set("The file that came with the extension is gone")
            return False
        return True

    part: StringProperty(
        name="Part", description="The heading to begin at; left out: the beginning", options={"SKIP_SAVE", "HIDDEN"}
    )

    def execute(self, context):
        text = _text_called("in2n_documentation", "IN2N documentation")
        content = links.readme().read_text(encoding="utf-8")
        text.from_string(content)
        headings = [line.lstrip("# ") if line.startswith("#") else None for line in content.splitlines()]
        text.current_line_index = headings.index(self.part) if self.part in headings else 0
        if jobs.in_window() and not _show_in_new_window(context, text):
            bpy.ops.wm.path_open(filepath=str(links.readme()))
        return {"FINISHED"}


class IN2N_OT_copy_report(bpy.types.Operator):
    """Copy what whoever helps needs to know: versions, the system, the settings, and the end of the last job's log.
    Then show where to paste it"""

    bl_idname = "in2n.copy_report"
    bl_label = "Copy Report"

    def execute(self, context):
        context.window_manager.clipboard = report_text(context)
        self.report({"INFO"}, "The report is in the clipboard: paste it where you ask for help.")
        if jobs.in_window() and links.issues():
            bpy.ops.wm.url_open(url=links.issues())
        elif jobs.in_window() and links.readme():
            bpy.ops.in2n.show_documentation(part=links.REPORTING)
        return {"FINISHED"}


def report_text(context) -> str:
    """What a report of a problem says; the user's home folder in it is "~".

    Args:
        context: Blender's.
    """
    python, shown, file = engine.engine_python(), jobs.current(), _log_file(context)
    lines = [
        f"in2n_blender {__version__}, Blender {bpy.app.version_string}, {platform.platform()}",
        f"Engine: {python or 'not installed'}",
        *(f"Device: {device}" for device in engine.known_devices()),
        "Settings: " + ", ".join(f"{name} {_setting(context.scene, name)}" for name in REPORTED_SETTINGS),
        *(f"{entry.about}: {entry.sentence}" for entry in context.scene.in2n.told),
    ]
    if shown is not None and shown.error is not None:
        trace = getattr(shown.error, "traceback", "")
        lines += ["", f"{shown.label}: {shown.error}", *([trace] if trace else [])]
    if file is not None:
        last = file.read_text(encoding="utf-8", errors="replace").splitlines()[-REPORTED_LINES:]
        lines += ["", f"The end of {file}:", *last]
    return "\n".join(lines).replace(str(Path.home()), "~")


def _setting(scene, name: str) -> str:
    value = getattr(scene.in2n, name)
    return f"{value:g}" if isinstance(value, float) else repr(value) if isinstance(value, str) else str(value)


def _text_called(mark: str, name: str):
    """The text that bears our mark, the same one again and again."""
    text = next((t for t in bpy.data.texts if t.get(mark) and t.library is None), None) or bpy.data.texts.new(name)
    text[mark] = True
    return text


def _show_in_new_window(context, text) -> bool:
    """Open a Text Editor at the text's current line, in a window of its own; False where the system gives none."""
    before = set(context.window_manager.windows)
    # Not the context's area: a script has none, and a window of preferences cannot be had twice.
    source = next(window for window in before if window.parent is None)
    largest = max(source.screen.areas, key=lambda area: area.width * area.height)
    with suppress(RuntimeError), context.temp_override(window=source, area=largest):
        bpy.ops.screen.area_dupli("INVOKE_DEFAULT")
    window = next((w for w in context.window_manager.windows if w not in before), None)
    if window is None:
        return False
    area = window.screen.areas[0]
    area.type = "TEXT_EDITOR"
    area.spaces.active.text = text
    area.spaces.active.show_word_wrap, area.spaces.active.show_syntax_highlight = True, False
    area.spaces.active.top = max(text.current_line_index - 20, 0)
    return True


def _log_file(context) -> Path | None:
    """The log of the last job in this Blender, else that of the scene's workspace; None where there is none."""
    folder = workspaces.workspace_of(context.scene)
    shown = jobs.current()
    candidates = (shown.log_file if shown else None, folder / journal.LOG_NAME if folder else None)
    return next((file for file in candidates if file is not None and file.is_file()), None)


CLASSES = (
    IN2N_OT_cancel,
    IN2N_OT_cancel_waiting,
    IN2N_OT_show_log,
    IN2N_OT_show_documentation,
    IN2N_OT_copy_report,
)
