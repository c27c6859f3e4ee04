"""The report of a capture: its photos measured, capture-report.json and capture-report.html written."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..link.requests import ReportCapture
from ..scene.capture import PinholeCapture
from ..scene.errors import Cancelled, In2nError
from ..scene.improvements import improvements
from ..scene.photo_report import CaptureReport, Sightings, report_of
from ..scene.photo_signals import PhotoSignals, measured
from ..scene.reporting import Reporter
from ..workspace.files import atomic_path, read_json
from ..workspace.imported import load_capture
from ..workspace.layout import Workspace
from ..workspace.reported import capture_report, write_capture_report
from .photos import Photos
from .report_page import GENERATOR, page


class Measures:
    """What is measured in the photos of a capture while they are at hand.

    Args:
        capture: With the views whose photos are to be measured.
    """

    def __init__(self, capture: PinholeCapture):
        self._sightings = Sightings(capture)
        self._numbers = {view.name: number for number, view in enumerate(capture.views)}
        self._found: dict[str, PhotoSignals] = {}

    def measure(self, name: str, image: np.ndarray, counts: np.ndarray | None) -> None:
        """Measure one photo; several may be measured at once.

        Args:
            name: The view's.
            image: (height, width, 3 or 4) uint8 sRGB, normalised.
            counts: (height, width) bool, which pixels count; None: all.
        """
        points, pixels = self._sightings.of(self._numbers[name])
        self._found[name] = measured(image, points, pixels, counts)

    def of(self, capture: PinholeCapture) -> list[PhotoSignals | None]:
        """What was measured.

        Args:
            capture: The same capture, of which views may have been left out.

        Returns:
            For each of its views; None where its photo was not measured.
        """
        return [self._found.get(view.name) for view in capture.views]


def report_capture(request: ReportCapture, report: Reporter) -> dict:
    """The job `report`: measure the photos of a workspace, and write its report.

    Args:
        request: Which workspace.
        report: Told of every photo, and asked whether the job was cancelled.

    Returns:
        {"improvements", "file"}: what would improve the capture, a sentence each, and the page to be opened.

    Raises:
        In2nError: "no_capture", "bad_capture", "missing_file", "bad_image", "not_ours", "disk_full", "cannot_write".
        Cancelled: What is written is whole.
    """
    workspace = Workspace(request.workspace)
    capture = load_capture(workspace)
    refuse_foreign(workspace)
    found = capture_report(workspace)
    if found is None:
        measures = measure_again(workspace, capture, report)
        found = report_of(capture, measures.of(capture))
        write_capture_report(workspace, found)
    write_page(workspace, capture, found, report)
    return {"improvements": list(improvements(found)), "file": str(workspace.capture_report_html)}


def measure_again(workspace: Workspace, capture: PinholeCapture, report: Reporter) -> Measures:
    """Measure the photos that are in a workspace.

    Args:
        workspace: Where they were imported.
        capture: As it is there.
        report: Told of every photo, and asked whether the job was cancelled.

    Returns:
        What was measured.

    Raises:
        In2nError: "missing_file", "bad_image", "bad_capture".
        Cancelled: Between two photos.
    """
    measures, photos = Measures(capture), Photos(workspace, capture.views)
    for number, view in enumerate(capture.views):
        report.progress(number, len(capture.views), "photos", "Measuring the photos")
        measures.measure(view.name, np.round(photos[number] * 255).astype(np.uint8), photos.mask(number))
    return measures


def report_import(workspace: Workspace, capture: PinholeCapture, measures: Measures | None, report: Reporter) -> None:
    """Write the report of a capture that was just imported; where that cannot be done, or the import is cancelled now
    that it is done, the log says so.

    Args:
        workspace: Where it was imported.
        capture: As it is there.
        measures: Of its photos; None: they are to be measured here.
        report: Told what would improve the capture.
    """
    try:
        refuse_foreign(workspace)
        measures = measures or measure_again(workspace, capture, report)
        report.progress(0, 0, "photos", "Writing the capture's report")
        found = report_of(capture, measures.of(capture))
        write_capture_report(workspace, found)
        write_page(workspace, capture, found, report)
    except In2nError as error:
        report.log(f"The capture's report was not written. {error}")
        return
    except Cancelled:
        report.log("The capture is imported; its report was not written.")
        return
    for sentence in improvements(found):
        report.log(sentence)


def write_page(workspace: Workspace, capture: PinholeCapture, found: CaptureReport, report: Reporter) -> None:
    """Write capture-report.html.

    Args:
        workspace: Where the capture is.
        capture: As it is there.
        found: Its report.
        report: Told of every picture, and of the file.

    Raises:
        In2nError: "disk_full", "cannot_write", "missing_file", "bad_image".
        Cancelled: Between two pictures.
    """
    text = page(workspace, capture, found, report)
    with atomic_path(workspace.capture_report_html) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")
    report.artifact("report", workspace.capture_report_html)


def refuse_foreign(workspace: Workspace) -> None:
    """Refuse to write over files that are no reports of ours.

    Args:
        workspace: Where the reports lie.

    Raises:
        In2nError: "not_ours".
    """
    for file, ours in ((workspace.capture_report_json, _is_json), (workspace.capture_report_html, _is_page)):
        if os.path.lexists(file) and not ours(file):
            raise In2nError(
                "not_ours", f"{file} was not written by an import and would be overwritten.", "Move that file away."
            )


def _is_json(file: Path) -> bool:
    try:
        return {"version", "capture", "photos"} <= read_json(file).keys()
    except (In2nError, AttributeError):
        return False


def _is_page(file: Path) -> bool:
    try:
        with open(file, encoding="utf-8") as opened:
            return GENERATOR in opened.read(400)
    except (OSError, ValueError):
        return False
