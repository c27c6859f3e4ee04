"""A job in the sidebar: the one that runs, those that wait, and the one to be gone on with."""

from __future__ import annotations

from pathlib import Path

from bpy.app.translations import pgettext_iface as iface

from .. import jobs, pictures
from .drawing import columns_of_pictures, wrapped

# Which panel shows a job, by the job's label; a job that is not listed here shows in the first panel.
RECONSTRUCT_JOBS, EDIT_JOBS, LIST_JOBS, RESULT_JOBS = (
    ("Reconstruct",),
    ("Edit", "Preview"),
    ("Duplicate edit",),
    ("Render frames", "Extract mesh", jobs.QUIET_LABEL),
)
ELSEWHERE = ("Import", *RECONSTRUCT_JOBS, *EDIT_JOBS, *LIST_JOBS, *RESULT_JOBS)


def draw_job(layout, context=None) -> None:
    """Draw the running job: what it does, how far it is, what it made last, and Cancel.

    Args:
        layout: Where to.
        context: Blender's; None: without what it made last.
    """
    job = jobs.current()
    if job is None or job.ended:
        return
    box = layout.box()
    box.label(text=job.activity(), translate=False)
    box.progress(factor=job.factor, text=job.count())
    if context is not None and job.image:
        _draw_live(box, context, job)
    row = box.row(align=True)
    row.operator("in2n.cancel", icon="X")
    row.operator("in2n.show_log", text="", icon="TEXT")
    for index, label in enumerate(waiting.label for waiting in jobs.waiting()):
        row = box.row(align=True)
        row.label(text=iface("Then: {job}").format(job=iface(label)), icon="SORTTIME", translate=False)
        row.operator("in2n.cancel_waiting", text="", icon="X").index = index


def draw_offer(layout, context, *labels: str) -> bool:
    """Draw the job that did not come to its end, if it was one of these, to be gone on with.

    Args:
        layout: Where to.
        context: Blender's.
        *labels: What the interface calls them.

    Returns:
        Whether there is one.
    """
    left = None if jobs.running() else jobs.offered(context.scene)
    if left is None or left.label not in labels:
        return False
    box = layout.box()
    done = iface("{job}: {percent} % done.").format(job=iface(left.label), percent=int(100 * left.factor))
    reported = context.scene.in2n.status and context.scene.in2n.status_of == left.label
    wrapped(box, done if reported else f"{done} {left.why}", context, "RECOVER_LAST")
    row = box.row(align=True)
    row.operator("in2n.resume", icon="PLAY")
    row.operator("in2n.show_log", text="", icon="TEXT")
    row.operator("in2n.dismiss", text="", icon="X")
    return True


def _draw_live(layout, context, job) -> None:
    """The picture that the job made last; for an edit the photo and what it became, beside each other."""
    last = Path(job.image)
    edited = pictures.newest(last.parent / "dataset") if job.label == "Edit" else None
    if edited is None:
        layout.template_icon(pictures.icon(last), scale=columns_of_pictures(context, 1, most=10))
        return
    row = layout.row(align=True)
    photo = last.parents[2] / "images" / edited.name
    for file, title in ((photo, "Photo"), (edited, "Edit")):
        column = row.column(align=True)
        column.template_icon(pictures.icon(file), scale=columns_of_pictures(context, 2, most=10))
        centered = column.row()
        centered.alignment = "CENTER"
        centered.label(text=title)
