"""The report of a workspace's capture: capture-report.json, beside capture.json.

It is that of one capture.json alone: beside another one, there is none.
"""

from __future__ import annotations

from ..scene.errors import In2nError
from ..scene.photo_report import CaptureReport
from .files import read_json, write_json
from .hashes import file_hash
from .layout import Workspace

VERSION = 1  # of the measures: an earlier one's is made anew


def capture_report(workspace: Workspace) -> CaptureReport | None:
    """The report of the capture that is in a workspace.

    Args:
        workspace: Where the capture was imported.

    Returns:
        The report; None where none was made of this capture, or it is damaged.
    """
    try:
        data = read_json(workspace.capture_report_json)
        if data.get("version") != VERSION or data.get("capture") != file_hash(workspace.capture_json):
            return None
        return CaptureReport.from_json(data)
    except (In2nError, OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def write_capture_report(workspace: Workspace, report: CaptureReport) -> None:
    """Keep a report beside the capture that it is of.

    Args:
        workspace: Where the capture was imported.
        report: Its report.

    Raises:
        In2nError: "disk_full", "cannot_write".
    """
    made_of = {"version": VERSION, "capture": file_hash(workspace.capture_json)}
    write_json(workspace.capture_report_json, {**made_of, **report.to_json()})
