"""How each step stands: in two rows that never move, with one way to go on, and nothing unread written over."""

import json
import time
from types import SimpleNamespace

import bpy
import numpy as np
import pytest
from panel_reader import Layout, Read, context
from PIL import Image

import in2n_blender
from in2n_blender.blender import jobs, live, objections, panels, settings, underway, workspaces
from in2n_blender.models import catalogue
from in2n_blender.scene.errors import In2nError
from in2n_blender.workspace.files import write_json

SIDEBAR = 898 / 1.0417  # pixels of the sidebar's height in a window of 1920x1080, at the interface's scale of 1
HEADER = 26.0  # of a panel
ORDER = ("capture", "reconstruct", "edit", "edits", "results")
STEPS = {"Reconstruct": "reconstruct", "Edit": "edit", "Extract Mesh": "results", "Install Engine": "capture"}


def panel(name) -> Read:
    return Read(getattr(panels, f"IN2N_PT_{name}"), width=280)


def at_work(window, label, image=None, view=""):
    """Begin a job that works until it is cancelled, and return it when it has told of itself."""

    def work(report):
        if image is not None:
            report.artifact("image", image, view)
        while True:
            report.progress(130, 800, "views", "Edit 13 of 80, noise 0.74", 372.0)
            time.sleep(0.01)

    job = window.begin(label, work)
    window(lambda: job.progress is not None and (image is None or job.image is not None))
    return job


def stop(window):
    bpy.ops.in2n.cancel()
    window(lambda: not jobs.busy())


def fail(report):
    raise In2nError("disk_full", "The disk is full, and this is a sentence of some length.", "Free some space.")


# --- panels do not jump


@pytest.mark.parametrize("label", list(STEPS))
def test_a_panel_is_as_high_with_a_job_as_without(reconstructed, scene, window, label):
    scene.in2n.instruction = "Make it look like it snowed"
    name = STEPS[label]
    heights = {"before": panel(name).height}
    at_work(window, label)
    heights["at work"] = panel(name).height
    stop(window)
    heights["cancelled"] = panel(name).height
    jobs.submit(bpy.context, label, [fail], lambda *_: "", False)
    window(lambda: not jobs.busy())
    assert window.failures, "it failed"
    heights["failed"] = panel(name).height
    scene.in2n.tell("Done.", label)
    heights["done"] = panel(name).height
    assert len(set(heights.values())) == 1, heights


def test_progress_and_start_are_above_the_fold_at_1080p(reconstructed, scene, window, home):
    """In the worst case: the engine is there, the .blend saved after the import, a job at work, one that waits."""
    bpy.ops.wm.save_as_mainfile(filepath=str(home.parent / "day.blend"))
    scene.in2n.instruction = "Make it look like it snowed"
    scene.in2n.tell("Imported “garden”: 6 photos (64 x 48), 2 missing.", "Import")
    scene.in2n.tell("Reconstructed: 27.3 dB on the held-out photos.", "Reconstruct")
    at_work(window, "Edit")
    above = sum(panel(name).height + HEADER for name in ORDER[:2])
    edit = panel("edit").layout
    start, progress = edit.bottom_of("operator", "in2n.edit"), edit.bottom_of("progress", None)
    assert 0 < start < progress < edit.bottom_of("operator", "in2n.preview")
    assert above + HEADER + progress < SIDEBAR, (above, progress)
    stop(window)


# --- what each step says stays


def test_every_step_keeps_what_its_last_job_said(reconstructed, scene, window, tmp_path):
    for label, sentence in (("Reconstruct", "Reconstructed: 27.3 dB."), ("Edit", "“snow” is ready.")):
        jobs.submit(bpy.context, label, [lambda report: None], lambda *_, s=sentence: s, False)
        window(lambda: not jobs.busy())
    assert "27.3 dB" in panel("reconstruct").text and "“snow” is ready." in panel("edit").text
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "a.blend"))
    assert "27.3 dB" in panel("reconstruct").text and "“snow” is ready." in panel("edit").text


def test_what_no_job_of_the_blend_has_told_is_read_from_the_workspace(reconstructed, scene):
    state = reconstructed.reconstruction / "state.json"
    for content, words in (
        ({"done": True, "psnr_db": 31.24}, "Reconstructed: 31.2 dB"),
        ({"done": True, "psnr_db": None}, "Reconstructed."),
        ({"done": False}, "Not finished yet."),
    ):
        write_json(state, content)
        assert words in panel("reconstruct").text


def test_a_queued_job_does_not_write_over_what_was_not_read(reconstructed, scene, window):
    jobs.submit(bpy.context, "Edit", [lambda report: None], lambda *_: "Something long ago.", False)
    window(lambda: not jobs.busy())
    for sentence in ("“snow” is ready.", "“gold” is ready."):
        jobs.submit(bpy.context, "Edit", [lambda report: None], lambda *_, s=sentence: s, False)
    window(lambda: not jobs.busy())
    shown = panel("edit")
    assert "“snow” is ready." in shown.text and "“gold” is ready." in shown.text
    assert "long ago" not in shown.text, "it had been seen when the next job was begun"
    assert shown.arguments("in2n.show_told") == [{"about": "Edit|Preview|Duplicate Edit|Rename Edit"}]
    assert bpy.ops.in2n.show_told(about="Edit") == {"FINISHED"}
    assert "snow" not in panel("edit").text and "“gold” is ready." in panel("edit").text, "both have been read"


def test_a_failure_stays_when_the_next_job_of_the_queue_is_done(reconstructed, scene, window):
    jobs.submit(bpy.context, "Edit", [fail], lambda *_: "", False)
    jobs.submit(bpy.context, "Edit", [lambda report: None], lambda *_: "“gold” is ready.", False)
    window(lambda: not jobs.busy())
    shown = panel("edit")
    assert "The disk is full" in shown.text and "“gold” is ready." in shown.text
    assert "in2n.show_log" in shown.buttons()


# --- one way to go on


@pytest.mark.parametrize("method", ["reconstruct", "edit"])
def test_there_is_one_resume_button(reconstructed, scene, recording, method):
    edit = reconstructed.edit("snow")
    write_json(edit / "edit.json", {"name": "snow", "instruction": "Make it snow"})
    write_json(edit / "state.json", {"done": False})
    workspaces.sync_edits(scene)
    common = {"workspace": str(reconstructed.root)}
    params = {**common, "name": "snow", "instruction": "Make it snow"} if method == "edit" else common
    if method == "reconstruct":
        write_json(reconstructed.reconstruction / "state.json", {"done": False})
    label = {"edit": "Edit", "reconstruct": "Reconstruct"}[method]
    job = {"label": label, "requests": [{"method": method, "params": params}], "state": "cancelled"}
    write_json(reconstructed.root / "job.json", {**job, "why": "It was cancelled.", "done": 62, "total": 100})
    underway.forget_offers()
    shown = {name: panel(name) for name in ORDER}
    goes_on = [
        (name, button)
        for name, read in shown.items()
        for button in read.buttons()
        if button in ("in2n.resume", "in2n.continue_edit")
        or (button == "in2n.reconstruct" and "Continue" in str(read.seen))
    ]
    expected = [(method, "in2n.resume")]
    if method == "reconstruct":  # the edit, which is another's, can be gone on with too
        goes_on = [found for found in goes_on if found[1] != "in2n.continue_edit"]
    assert goes_on == expected
    assert "62 % done" in shown[method].text and "It was cancelled." in shown[method].text
    bpy.ops.in2n.dismiss()
    assert "in2n.resume" not in panel(method).buttons()


def test_the_list_says_what_is_at_work_and_what_waits(reconstructed, scene, recording, window):
    for name in ("snow", "gold", "night"):
        write_json(reconstructed.edit(name) / "edit.json", {"name": name, "instruction": f"Make it {name}"})
    recording.answers(edit={"until_cancelled": True})
    for name in ("snow", "gold"):
        bpy.ops.in2n.edit(instruction="Make it look like it snowed", name=name)
    window(lambda: underway.edit_at_work(reconstructed.root) == "snow")
    from in2n_blender.blender.panels.edits import _icon

    icons = [_icon(reconstructed.root, name, False) for name in ("snow", "gold", "night")]
    assert icons == ["PLAY", "SORTTIME", "PAUSE"] and _icon(reconstructed.root, "night", True) == "BRUSH_DATA"
    for _ in range(2):
        stop_or_end(window)


def stop_or_end(window):
    if jobs.running():
        bpy.ops.in2n.cancel()
        window(lambda: not jobs.running() or not jobs.current().cancelling)


# --- said before any job


def test_an_unknown_instruction_is_said_beside_the_field(reconstructed, scene, recording):
    scene.in2n.instruction = "Make it a spaceship"
    shown = panel("edit")
    assert "This model does not know that." in shown.text
    assert not {"in2n.edit", "in2n.preview"} & set(shown.buttons(enabled_only=True))
    assert "it knows" in objections.of_edit("miniature", "Make it a spaceship").explained
    assert bpy.ops.in2n.explain_objection() == {"FINISHED"}
    scene.in2n.instruction = "please make it look like it just snowed!"
    shown = panel("edit")
    assert "does not know" not in shown.text and {"in2n.edit", "in2n.preview"} <= set(shown.buttons(enabled_only=True))
    for text in catalogue.find("miniature").suggestions:
        assert objections.of_edit("miniature", text) is None, text
    assert recording.asked == []


def test_an_editor_that_is_not_on_disk_is_said_beside_the_field(reconstructed, scene, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("IN2N_ALLOW_DOWNLOAD", raising=False)
    objections.forget()
    scene.in2n.instruction, scene.in2n.editor = "Turn it to gold", "timbrooks/instruct-pix2pix"
    assert "The model is not on this computer." in panel("edit").text
    scene.in2n.editor, scene.in2n.editor_folder = "folder", str(tmp_path)
    assert "This folder holds no model." in panel("edit").text
    scene.in2n.editor_folder = str(tmp_path / "nowhere")
    assert "There is no such model." in panel("edit").text
    for part in ("unet", "vae", "text_encoder"):
        (tmp_path / "mine" / part).mkdir(parents=True)
        (tmp_path / "mine" / part / "model.safetensors").touch()
    scene.in2n.editor_folder = str(tmp_path / "mine")
    assert objections.of_edit(scene.in2n.editor_id(), scene.in2n.instruction) is None
    scene.in2n.instruction = ""
    assert "Type what to change." in panel("edit").text


# --- seen with the sidebar closed


def status_bar() -> list:
    layout = Layout()
    live.draw_status(SimpleNamespace(layout=layout), context())
    return layout.seen


def test_the_status_bar_follows_the_job_and_nothing_stays(reconstructed, scene, window):
    assert status_bar() == []
    at_work(window, "Edit")
    ((kind, text, _), cancel) = status_bar()
    assert kind == "progress" and text == "IN2N: Edit 13 of 80, noise 0.74, 6 min left (130 / 800)"
    assert cancel[1][0] == "in2n.cancel"
    stop(window)
    assert status_bar() == []
    jobs.submit(bpy.context, "Edit", [fail], lambda *_: "", False)
    window(lambda: not jobs.busy())
    assert status_bar() == [], "nor after an error"


def test_the_status_bar_is_as_before_when_the_extension_goes(extension):
    header = bpy.types.STATUSBAR_HT_header
    drawn = lambda: list(getattr(header.draw, "_draw_funcs", ()))
    assert live.draw_status in drawn()
    in2n_blender.unregister()
    assert live.draw_status not in drawn() and live.follow not in jobs.listeners
    in2n_blender.register()


def test_the_picture_of_the_job_is_taken_in_and_let_go(reconstructed, scene, window, tmp_path):
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 255, (32, 18, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "preview.png")
    images = len(bpy.data.images)
    job = at_work(window, "Reconstruct", tmp_path / "preview.png", "0007")
    assert job.view == "0007"
    live.follow()
    held = live._picture.pixels
    np.testing.assert_allclose(held[::-1, :, :3] * 255, pixels, atol=1.1)
    assert len(bpy.data.images) == images, "the .blend is left alone"
    stop(window)
    live.follow()
    assert live._picture is None


def test_the_picture_is_at_least_300_pixels_wide():
    for width, height in ((240, 135), (135, 240), (512, 384)):
        picture = np.zeros((height, width, 4), np.float32)
        frame = live.frame_in(1574, 952, 58, picture, 1.0)
        assert frame.width >= 300 and abs(frame.height / frame.width - height / width) < 1e-6
        assert frame.x >= 58 and frame.y + frame.height < 952 and frame.x + frame.width < 1284
    assert live.frame_in(200, 900, 0, picture, 1.0).width <= 200, "in a viewport that has no room for it"


def test_an_edits_picture_is_the_edited_photo(tmp_path):
    folder = tmp_path / "edits" / "snow"
    (folder / "dataset").mkdir(parents=True)
    job = jobs.ShownJob(1, "Edit", image=str(folder / "preview.png"), view="003")
    assert job.picture() == folder / "preview.png"
    (folder / "dataset" / "003.png").touch()
    assert job.picture() == folder / "dataset" / "003.png"
    assert jobs.ShownJob(1, "Edit").picture() is None and json.dumps(settings.live_picture()) == "true"
