"""How a step stands, in the sidebar: the job that runs, the one to be gone on with, or how the last one ended.

It takes two rows whatever there is to say, so that nothing below it moves when a job begins or ends.
"""

from __future__ import annotations

from bpy.app.translations import pgettext_iface as iface

from .. import jobs, pictures, settings, underway
from .drawing import columns_of_pictures, lines_of

# Which panel shows a job, by the job's label; a job that is not listed here shows in the first panel.
RECONSTRUCT_JOBS, EDIT_JOBS, RESULT_JOBS = (
    ("Reconstruct",),
    ("Edit", "Preview", "Duplicate Edit", "Rename Edit"),
    ("Render Frames", "Extract Mesh", "Make Splats", "Export Dataset", jobs.QUIET_LABEL),
)
ELSEWHERE = (*RECONSTRUCT_JOBS, *EDIT_JOBS, *RESULT_JOBS)
ROWS = 2


def runs(labels: tuple[str, ...]) -> bool:
    """Whether a job runs that a step shows.

    Args:
        labels: The step's jobs.
    """
    return jobs.running() and jobs.current().label in labels


def draw_standing(layout, context, labels: tuple[str, ...], hint: str = "", resume: bool = True) -> None:
    """Draw how a step stands: two rows, and one more for every job that waits while this step's runs.

    Args:
        layout: Where to.
        context: Blender's.
        labels: The step's jobs.
        hint: What to say where there is nothing else.
        resume: Whether the button that goes on with the step's unfinished job is drawn here.
    """
    column = layout.column(align=True)
    if runs(labels):
        _draw_running(column, context, jobs.current())
    elif offered(context, labels):
        _draw_offer(column, context, resume)
    else:
        told = context.scene.in2n.told_of(labels)
        _draw_told(column, context, labels, told, hint)


def offered(context, labels: tuple[str, ...]) -> bool:
    """Whether a step's job did not come to its end and can be gone on with.

    Args:
        context: Blender's.
        labels: The step's jobs.
    """
    left = None if jobs.running() else underway.offered(context.scene)
    return left is not None and left.label in labels


def _draw_running(column, context, job) -> None:
    row = column.row(align=True)
    row.progress(factor=job.factor, text=job.count())
    narrow = row.row(align=True)
    narrow.ui_units_x = 3.2
    narrow.operator("in2n.cancel")
    row.operator("in2n.show_log", text="", icon="TEXT")
    if settings.preferences() is not None:
        row.prop(settings.preferences(), "live_picture", text="", icon="IMAGE_PLANE")
    _draw_lines(column, lines_of(job.activity(), context, 1, "NONE"), "NONE")
    for index, label in enumerate(waiting.label for waiting in jobs.waiting()):
        if label == jobs.QUIET_LABEL:
            continue  # nobody asked for it, and a row for it would come and go
        row = column.row(align=True)
        row.label(text=iface("Then: {job}").format(job=iface(label)), icon="SORTTIME", translate=False)
        row.operator("in2n.cancel_waiting", text="", icon="X").index = index
    if job.image and not settings.live_picture():
        column.template_icon(pictures.icon(job.picture()), scale=columns_of_pictures(context, 1))
        _draw_lines(column, [job.view], "CAMERA_DATA")


def _draw_offer(column, context, resume: bool) -> None:
    left = underway.offered(context.scene)
    row = column.row(align=True)
    done = iface("{job}: {percent} % done.").format(job=iface(left.label), percent=int(100 * left.factor))
    row.label(text=done, icon="RECOVER_LAST", translate=False)
    if resume:
        narrow = row.row(align=True)
        narrow.ui_units_x = 3.6  # with an icon the word would be cut off
        narrow.operator("in2n.resume")
    row.operator("in2n.show_log", text="", icon="TEXT")
    row.operator("in2n.dismiss", text="", icon="X")
    told = context.scene.in2n.told_of((left.label,))
    row = column.row(align=True)
    sentence = told[-1].sentence if told else left.why
    _draw_lines(row, lines_of(sentence, context, 1, "BLANK1"), "BLANK1")
    row.operator("in2n.show_told", text="", icon="DOWNARROW_HLT").about = left.label


def _draw_told(column, context, labels, told, hint: str) -> None:
    if len(told) > 1:
        lines = [line for entry in told[-ROWS:] for line in lines_of(entry.sentence, context, 1)]
        icons = ["ERROR" if entry.failed else "INFO" for entry in told[-ROWS:]]
    else:
        said = told[0].sentence if told else hint
        lines = lines_of(said, context, ROWS)
        icons = ["ERROR" if told and told[0].failed else "INFO" if said else "NONE"]
    rows = [column.row(align=True) for _ in range(ROWS)]
    for index, row in enumerate(rows):
        text = lines[index] if index < len(lines) else ""
        icon = icons[index] if index < len(icons) else "BLANK1"
        row.label(text=text, icon=icon, translate=False)
    if any(entry.failed for entry in told):
        rows[0].operator("in2n.copy_report", text="", icon="COPYDOWN")
        rows[0].operator("in2n.show_log", text="", icon="TEXT")
    if any(line.endswith("…") for line in lines) or len(told) > 1:
        rows[-1].operator("in2n.show_told", text="", icon="DOWNARROW_HLT").about = "|".join(labels)


def _draw_lines(layout, lines: list[str], icon: str) -> None:
    for line in lines or [""]:
        layout.label(text=line, icon=icon, translate=False)
