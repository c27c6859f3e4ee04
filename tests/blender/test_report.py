"""The capture's report in the panel, and its page."""

from pathlib import Path

import bpy
import numpy as np
from PIL import Image

from in2n_blender.blender import advice, panels
from in2n_blender.scene.capture import PinholeCapture
from in2n_blender.scene.improvements import improvements
from in2n_blender.scene.photo_report import report_of
from in2n_blender.workspace.layout import Workspace
from in2n_blender.workspace.reported import capture_report
from tests.blender.panel_reader import Read


def drawn():
    return Read(panels.IN2N_PT_capture)


def test_an_imported_capture_says_what_would_improve_it(imported, scene):
    """From its cameras, before there is an engine and without a photo being read."""
    text = drawn().text
    assert "6 photos are few" in text and "001" not in text
    assert 1 <= len(advice.lines(imported)) <= 3
    assert "in2n.open_report" in drawn().buttons()
    assert not bpy.ops.in2n.open_report.poll(), "there is no engine to make the page"


def test_the_page_is_made_and_the_panel_says_what_it_says(imported, scene, engine):
    assert bpy.ops.in2n.open_report() == {"FINISHED"}
    workspace = Workspace(scene.in2n.workspace)
    page = advice.page(workspace.root)
    assert page == workspace.capture_report_html and scene.in2n.status == f"The report is in {page}."
    found = capture_report(workspace)
    assert advice.lines(imported) == improvements(found) and improvements(found)[0] in drawn().text
    assert found.photos["000"].sharpness is not None, "photos were looked at"

    made = page.stat().st_mtime_ns
    assert bpy.ops.in2n.open_report() == {"FINISHED"} and page.stat().st_mtime_ns == made, "it is opened, not made anew"
    page.unlink()
    assert bpy.ops.in2n.open_report() == {"FINISHED"} and page.is_file()


def test_the_report_of_another_import_is_not_shown(imported, scene, engine):
    assert bpy.ops.in2n.open_report() == {"FINISHED"}
    workspace = Workspace(scene.in2n.workspace)
    text = workspace.capture_json.read_text(encoding="utf-8")
    workspace.capture_json.write_text(text + " ", encoding="utf-8")
    assert advice.page(workspace.root) is None
    cameras_alone = improvements(report_of(PinholeCapture.load(workspace.capture_json)))
    assert advice.lines(imported) == cameras_alone


def test_it_is_made_by_the_queue_where_it_has_to_be(imported, scene, recording):
    page = Path(scene.in2n.workspace) / "capture-report.html"
    recording.answers(report={"result": {"improvements": [], "file": str(page)}})
    assert bpy.ops.in2n.open_report() == {"FINISHED"}
    assert [asked["method"] for asked in recording.asked] == ["import", "report"]


def test_photos_that_are_transparent_inside_are_counted_as_masked(scene, capture_folder, engine):
    """Of which Blender knows nothing until the engine has opened them."""
    for number in range(2):
        file = capture_folder / f"images/{number:03d}.png"
        image = np.array(Image.open(file).convert("RGBA"))
        image[20:30, 20:30, 3] = 0
        Image.fromarray(image).save(file)
    assert bpy.ops.in2n.import_capture(filepath=str(capture_folder)) == {"FINISHED"}
    assert "masks" not in drawn().text
    assert bpy.ops.in2n.open_report() == {"FINISHED"}
    assert scene.in2n.capture.in2n.masks == 2 and "2 masks" in drawn().text
