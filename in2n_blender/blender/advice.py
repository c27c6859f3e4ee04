"""What would improve the scene's capture, as its report says it; before the photos are measured, as its cameras do."""

from __future__ import annotations

import functools
from pathlib import Path

from ..scene.capture import PinholeCapture
from ..scene.improvements import improvements
from ..scene.photo_report import report_of
from ..workspace.layout import Workspace
from ..workspace.reported import capture_report
from . import workspaces


def note(capture, pinhole: PinholeCapture) -> None:
    """Keep on a capture's Empty what its cameras tell; no photo is read.

    Args:
        capture: The capture's Empty.
        pinhole: The capture.
    """
    capture.in2n.advice = "\n".join(improvements(report_of(pinhole)))


def lines(capture) -> tuple[str, ...]:
    """What would improve a capture, a sentence each. Cheap enough for every redraw.

    Args:
        capture: The capture's Empty.

    Returns:
        None of an earlier version's capture that was not measured.
    """
    folder = workspaces.resolve(capture)
    found = _of_workspace(folder, _times(folder)) if folder is not None else ()
    return found or tuple(filter(None, capture.in2n.advice.split("\n")))


def page(folder: Path) -> Path | None:
    """The page of a workspace's report, where there is one of the capture as it is now.

    Args:
        folder: The workspace.
    """
    page, times = _time(Workspace(folder).capture_report_html), _times(folder)
    if page is None or not _of_workspace(folder, times) or page < times[1]:
        return None
    return Workspace(folder).capture_report_html


def _times(folder: Path) -> tuple[tuple[int, int] | None, ...]:
    workspace = Workspace(folder)
    return tuple(_time(file) for file in (workspace.capture_json, workspace.capture_report_json))


def _time(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=8)
def _of_workspace(folder: Path, times: tuple) -> tuple[str, ...]:
    report = capture_report(Workspace(folder)) if None not in times else None
    return improvements(report) if report is not None else ()
