"""bpy.ops.in2n.open_report: the report of the scene's capture, as a page with pictures."""

from __future__ import annotations

from pathlib import Path

import bpy

from ...link.requests import ReportCapture
from ...workspace.layout import Workspace
from .. import advice, captured_objects, jobs, workspaces
from .job import JobOperator, photos_first
from .polls import poll_capture, poll_engine, poll_queue, poll_workspace


class IN2N_OT_open_report(JobOperator, bpy.types.Operator):
    bl_description = (
        "Open a page with the photos of the capture, what stands out in them and what would improve the capture. It is "
        "made first where it is not there yet"
    )

    bl_idname = "in2n.open_report"
    bl_label = "Open Report"
    label = "Report"

    @classmethod
    def poll(cls, context):
        if not poll_capture(cls, context) or not poll_workspace(cls, context):
            return False
        return advice.page(workspaces.workspace_of(context.scene)) is not None or (poll_queue(cls) and poll_engine(cls))

    def execute(self, context):
        page = advice.page(workspaces.workspace_of(context.scene))
        if page is None:
            return super().execute(context)
        _show(page)
        self.report({"INFO"}, f"Opened {page}.")
        return {"FINISHED"}

    def prepare(self, context):
        capture, workspace = workspaces.require(context.scene)
        return [*photos_first(capture, workspace), ReportCapture(workspace=str(workspace.root))], _finish


def _finish(context, scene, capture, result) -> str:
    if capture is not None:
        captured_objects.note_import(capture, Workspace(workspaces.resolve(capture)))
    page = Path(result["file"])
    _show(page)
    return f"The report is in {page}."


def _show(page: Path) -> None:
    if jobs.in_window():
        bpy.ops.wm.url_open(url=page.as_uri())


CLASSES = (IN2N_OT_open_report,)
