"""The long operators against a worker that plays back a recording."""

import json
import sys
import threading
import time
from pathlib import Path

import bpy
import numpy as np
import pytest
from conftest import wait_until_cancelled
from PIL import Image

from in2n_blender.blender import cameras, jobs, plates, scene_state
from in2n_blender.blender.scene_state import active_edit
from in2n_blender.blender.shown_job import ProgressPrinter, ShownJob
from in2n_blender.scene.camera_path import CameraPath
from in2n_blender.scene.capture import pinhole_capture
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.readers import read as read_capture
from in2n_blender.scene.reporting import Progress

PLY = """ply
format ascii 1.0
element vertex 3
property float x
property float y
property float z
property uchar red
property uchar green
property uchar blue
element face 1
property list uchar int vertex_indices
end_header
0.25 0 0 255 0 0
1 0.5 0 0 255 0
0 1 2 0 0 128
3 0 1 2
"""
RECONSTRUCTED = {
    "files": {"reconstruction/checkpoint.safetensors": "", "reconstruction/state.json": '{"done": true}'},
    "result": {"psnr_db": 27.31},
    "events": [("progress", {"done": 50, "total": 100, "unit": "steps", "message": "Training"})],
}


@pytest.fixture
def normalised(imported, capture_folder):
    """What the engine's import leaves in the workspace: capture.json and one image a view."""
    capture = pinhole_capture(read_capture(capture_folder), 512, preset="standard")
    photos = {view.image: str(capture_folder / "images" / f"{view.name}.png") for view in capture.views}
    return {"files": {"capture.json": json.dumps(capture.to_json())}, "copies": photos}


@pytest.fixture
def reconstructed(imported, normalised, recording):
    recording.answers(import_=normalised, reconstruct=RECONSTRUCTED)
    bpy.ops.in2n.reconstruct()
    recording.asked_file.unlink()
    return imported


def test_reconstruct_imports_first(imported, scene, normalised, recording, capture_folder, capsys):
    recording.answers(import_=normalised, reconstruct=RECONSTRUCTED)
    scene.in2n.device, scene.in2n.seed, scene.in2n.appearance = "cpu", 7, True
    assert bpy.ops.in2n.reconstruct(steps=30, refine_cameras=True) == {"FINISHED"}
    first, second = recording.asked
    wanted = {
        "method": "import",
        "workspace": scene.in2n.workspace,
        "source": str(capture_folder),
        "preset": "standard",
    }
    assert wanted.items() <= first.items()
    assert second["method"] == "reconstruct"
    assert (second["steps"], second["device"], second["seed"], second["restart"]) == (30, "cpu", 7, False)
    assert second["appearance"] and second["refine_cameras"]
    assert scene.in2n.status == "Reconstructed: 27.3 dB on the held-out photos."
    assert "Training (50 / 100)" in capsys.readouterr().out
    shown = {
        Path(bpy.path.abspath(c.data.background_images[0].image.filepath)).parent
        for c in scene_state.children(imported, "CAMERA")
    }
    assert shown == {capture_folder / "images"}, "the photos fit as they are: they stay, at their full size"

    bpy.ops.in2n.reconstruct()
    assert [r["method"] for r in recording.asked] == ["import", "reconstruct", "reconstruct"]
    assert recording.asked[2]["appearance"] and not recording.asked[2]["refine_cameras"]


def test_edit_sends_what_the_scene_says(reconstructed, scene, recording):
    recording.answers(edit={"files": {"edits/make-it-snow/edit.json": json.dumps({"instruction": "Make it snow!"})}})
    scene.in2n.instruction = "Make it snow!"
    assert bpy.ops.in2n.edit() == {"FINISHED"}
    (asked,) = recording.asked
    assert (
        asked["instruction"] == "Make it snow!" and asked["name"] == "make-it-snow" and asked["editor"] == "miniature"
    )
    assert asked["guidance_text"] is None and asked["guidance_image"] is None and asked["rounds"] is None
    assert [(e.name, e.instruction) for e in scene.in2n.edits] == [("make-it-snow", "Make it snow!")]
    assert scene.in2n.status == "Edited: “make-it-snow” is ready."

    scene.in2n.use_default_guidance = False
    scene.in2n.guidance_image = 1.25
    bpy.ops.in2n.edit()
    assert recording.asked[1]["name"] == "make-it-snow-2", "an edit is not written over by another of the same words"
    assert (recording.asked[1]["guidance_text"], recording.asked[1]["guidance_image"]) == (7.5, 1.25)


def test_the_list_of_edits_is_the_workspaces(reconstructed, scene, recording, tmp_path):
    """Undo takes back what is in the .blend; an edit is not."""
    bpy.ops.ed.undo_push(message="before")
    bpy.ops.ed.undo_push(message="something else")
    recording.answers(edit={"files": {"edits/snow/edit.json": json.dumps({"instruction": "Make it snow"})}})
    bpy.ops.in2n.edit(instruction="Make it snow", name="snow")
    bpy.ops.ed.undo()
    scene = bpy.context.scene
    assert [e.name for e in scene.in2n.edits] == ["snow"]
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    (Path(scene.in2n.workspace) / "edits/gold").mkdir()
    (Path(scene.in2n.workspace) / "edits/gold/edit.json").write_text("{")
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "shot.blend"))
    assert [(e.name, e.instruction) for e in bpy.context.scene.in2n.edits] == [("snow", "Make it snow"), ("gold", "")]
    assert active_edit(bpy.context.scene) == "snow"


def test_edit_arguments_win_over_the_scene(reconstructed, scene, recording, tmp_path):
    scene.in2n.instruction = "something else"
    bpy.ops.in2n.edit(
        instruction=" Turn it to gold ",
        name="gold",
        editor=str(tmp_path),
        guidance_text=9.0,
        seed=3,
        rounds=12,
        device="cpu",
        preset="draft",
        restart=True,
    )
    (asked,) = recording.asked
    wanted = {
        "method": "edit",
        "workspace": scene.in2n.workspace,
        "name": "gold",
        "instruction": "Turn it to gold",
        "editor": str(tmp_path),
        "guidance_text": 9.0,
        "guidance_image": None,
        "seed": 3,
        "preset": "draft",
        "device": "cpu",
        "rounds": 12,
        "restart": True,
    }
    assert wanted.items() <= asked.items()


def test_an_empty_instruction_is_one_sentence(reconstructed, recording):
    with pytest.raises(RuntimeError, match="The instruction is empty"):
        bpy.ops.in2n.edit(instruction="  ")
    assert not recording.asked


def test_render_path_writes_the_path_and_loads_the_frames(reconstructed, scene, recording):
    folder = Path(scene.in2n.workspace) / "renders" / "original" / "Scene"
    folder.mkdir(parents=True)
    for number in range(3, 6):
        Image.fromarray(np.full((48, 64, 3), 40 * number, np.uint8)).save(folder / f"{number:04d}.png")
    scene.frame_start, scene.frame_end = 3, 5
    for _ in range(2):
        assert bpy.ops.in2n.render_path(edit="original") == {"FINISHED"}
    asked = recording.asked[0]
    assert asked["edit"] is None
    path = CameraPath.load(Path(asked["camera_path"]))
    assert [f.number for f in path.frames] == [3, 4, 5] and path.frames[0].camera.intrinsics.width == 64

    sequences = [i for i in bpy.data.images if i.source == "SEQUENCE"]
    assert len(sequences) == 1, "rendered again, the frames are not loaded twice"
    backgrounds = [b for b in scene.camera.data.background_images if b.image == sequences[0]]
    assert len(backgrounds) == 1
    user = backgrounds[0].image_user
    assert (user.frame_start, user.frame_offset, user.frame_duration) == (3, 2, 3)


def test_frames_of_two_edits_stay_beside_each_other(reconstructed, scene, recording):
    for edit in ("original", "gold", "original"):
        folder = Path(scene.in2n.workspace) / "renders" / edit / "Scene"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(folder / "0001.png")
        bpy.ops.in2n.render_path(edit=edit, frame_end=1)
    shown = {b.image["in2n_frames"]: b.show_background_image for b in plates.backgrounds(scene.camera.data)}
    assert shown == {"original/Scene": True, "gold/Scene": False}


def test_frames_follow_the_timeline(reconstructed, scene, recording):
    """The image that a background shows at a frame is the file with that frame's number."""
    folder = Path(scene.in2n.workspace) / "renders" / "gold" / "Scene"
    folder.mkdir(parents=True)
    for number in range(3, 6):
        Image.fromarray(np.full((4, 4, 3), 40 * number, np.uint8)).save(folder / f"{number:04d}.png")
    bpy.ops.in2n.render_path(edit="gold", frame_start=3, frame_end=5)
    image = next(i for i in bpy.data.images if i.source == "SEQUENCE")
    user = next(b for b in scene.camera.data.background_images if b.image == image).image_user
    for number in range(3, 6):
        scene.frame_set(number)
        user.frame_current = number
        assert Path(bpy.path.abspath(image.filepath_from_user(image_user=user))).name == f"{number:04d}.png"


def test_mesh_comes_in_once_with_its_colors(reconstructed, scene, recording):
    offset = [500_000.25, 5_000_000.5, 300.125]
    cameras.set_offset(reconstructed, np.array(offset) - [0, 0, 10])
    record = json.dumps({"offset": offset})
    recording.answers(mesh={"files": {"meshes/original.ply": PLY, "meshes/original.json": record}})
    reconstructed.location = (1, 2, 3)
    objects, scenes = len(bpy.data.objects), len(bpy.data.scenes)
    assert bpy.ops.in2n.extract_mesh(resolution=64) == {"FINISHED"}
    assert recording.asked[0]["resolution"] == 64 and recording.asked[0]["edit"] is None
    (mesh,) = scene_state.children(reconstructed, "MESH")
    assert cameras.offset_of(mesh).tolist() == offset
    mesh.name = mesh.data.name = "mine"
    assert bpy.ops.in2n.extract_mesh() == {"FINISHED"}
    assert scene_state.children(reconstructed, "MESH") == [mesh] and mesh.name == "mine"
    assert (len(bpy.data.objects), len(bpy.data.scenes)) == (objects + 1, scenes)
    np.testing.assert_allclose([v.co for v in mesh.data.vertices], [(0.25, 0, 0), (1, 0.5, 0), (0, 1, 2)])
    bpy.context.view_layer.update()
    np.testing.assert_allclose(mesh.matrix_world @ mesh.data.vertices[0].co, (1.25, 2, 13))
    colors = [tuple(c.color_srgb) for c in mesh.data.color_attributes["Col"].data]
    np.testing.assert_allclose(colors, [(1, 0, 0, 1), (0, 1, 0, 1), (0, 0, 128 / 255, 1)], atol=1e-3)
    assert mesh.data.color_attributes.active_color.name == "Col"
    (material,) = mesh.data.materials
    assert any(n.bl_idname == "ShaderNodeVertexColor" and n.layer_name == "Col" for n in material.node_tree.nodes)


def test_an_error_of_the_engine_is_one_sentence(reconstructed, scene, recording):
    recording.answers(edit={"error": {"code": "disk_full", "message": "The disk is full.", "hint": "Free some space."}})
    with pytest.raises(RuntimeError, match="The disk is full. Free some space."):
        bpy.ops.in2n.edit(instruction="x")
    assert scene.in2n.status == "The disk is full. Free some space."
    assert not jobs.busy()


def test_a_bug_keeps_its_traceback_in_the_log(reconstructed, scene, recording, capsys):
    recording.answers(
        edit={"error": {"code": "bug", "message": "KeyError: 'x'", "traceback": "Traceback:\n  line of the engine"}}
    )
    with pytest.raises(RuntimeError, match="failed unexpectedly"):
        bpy.ops.in2n.edit(instruction="x")
    assert "line of the engine" in capsys.readouterr().out
    assert len(scene.in2n.status.splitlines()) == 1
    bpy.ops.in2n.show_log()
    assert "line of the engine" in next(t for t in bpy.data.texts if t.get("in2n_log")).as_string()


def test_a_crash_is_one_sentence_and_the_next_job_runs(reconstructed, scene, recording):
    recording.answers(edit={"crash": True})
    with pytest.raises(RuntimeError, match="The engine stopped unexpectedly: segmentation fault"):
        bpy.ops.in2n.edit(instruction="x")
    recording.answers()
    assert bpy.ops.in2n.edit(instruction="x") == {"FINISHED"}


def test_missing_results_are_told(reconstructed, recording):
    with pytest.raises(RuntimeError, match="does not exist"):
        bpy.ops.in2n.extract_mesh(edit="gold")


def test_polls_give_their_reasons(extension, scene, capture_folder, recording, monkeypatch, window):
    def reason(operator):
        with pytest.raises(RuntimeError) as raised:
            operator()
        return str(raised.value)

    assert "Import a capture first" in reason(bpy.ops.in2n.reconstruct)
    assert "Import a capture first" in reason(bpy.ops.in2n.edit)
    assert "Nothing is running" in reason(bpy.ops.in2n.cancel)
    assert "No job has run yet" in reason(bpy.ops.in2n.show_log)
    bpy.ops.in2n.import_capture(filepath=str(capture_folder))
    assert bpy.ops.in2n.reconstruct.poll()
    for operator in (bpy.ops.in2n.edit, bpy.ops.in2n.render_path, bpy.ops.in2n.extract_mesh):
        assert "Reconstruct the capture first" in reason(operator)
    monkeypatch.setenv("IN2N_ENGINE_PYTHON", "/nowhere/python")
    assert "Install the engine first" in reason(bpy.ops.in2n.reconstruct)
    monkeypatch.setenv("IN2N_ENGINE_PYTHON", sys.executable)
    job = window.begin("Long job", wait_until_cancelled)
    assert "“Long job” is running" in reason(bpy.ops.in2n.reconstruct)
    assert "“Long job” is running" in reason(lambda: bpy.ops.in2n.import_capture(filepath="x"))
    bpy.ops.in2n.cancel()
    window(lambda: not jobs.busy())
    assert isinstance(job.error, Cancelled)


def test_a_job_in_a_window_is_watched_and_cancelled(reconstructed, scene, recording, window):
    recording.answers(
        edit={
            "until_cancelled": True,
            "events": [
                ("log", {"text": "loading"}),
                ("progress", {"done": 5, "total": 20, "unit": "views", "message": "Editing", "seconds_left": 90.0}),
                ("artifact", {"kind": "image", "path": "edits/x/dataset/003.png"}),
            ],
        }
    )
    assert bpy.ops.in2n.edit(instruction="Make it snow", name="x") == {"FINISHED"}
    window(lambda: jobs.current() is not None and jobs.current().label == "Edit")
    job = jobs.current()
    assert "starting" in job.line() or job.progress is not None
    window(lambda: job.image is not None)
    assert job.factor == 0.25 and job.line() == "Editing, 2 min left (5 / 20)" and not job.ended
    assert "loading" in job.log_file.read_text()
    bpy.ops.in2n.cancel()
    assert job.line() == "Cancelling…"
    window(lambda: not jobs.busy())
    assert isinstance(job.error, Cancelled) and scene.in2n.status == "Edit: cancelled. What was done is kept."
    assert not window.failures, "who cancels need not be told so"


def test_a_failure_is_shown_where_the_user_looks(reconstructed, scene, recording, window):
    recording.answers(edit={"error": {"code": "disk_full", "message": "The disk is full.", "hint": "Free some space."}})
    bpy.ops.in2n.edit(instruction="x")
    window(lambda: not jobs.busy())
    assert window.failures == ["The disk is full. Free some space."] == [scene.in2n.status]


def test_only_one_job_at_a_time_without_a_window(scene, window, monkeypatch):
    window.begin("A", wait_until_cancelled)
    monkeypatch.setattr(jobs, "in_window", lambda: False)
    with pytest.raises(In2nError) as raised:
        jobs.submit(bpy.context, "B", [wait_until_cancelled], lambda *_: "", False)
    assert raised.value.code == "busy"


def test_ctrl_c_cancels_in_background_mode(scene, monkeypatch):
    calls, rest = iter([lambda: None, lambda: None]), time.sleep

    def sleep(seconds):
        if threading.current_thread() is threading.main_thread():
            next(calls, interrupt)()
        else:  # the job's own thread sleeps by the same function
            rest(seconds)

    def interrupt():
        monkeypatch.undo()
        raise KeyboardInterrupt

    id = jobs.submit(bpy.context, "Long job", [wait_until_cancelled], lambda *_: "", False)
    monkeypatch.setattr(jobs.time, "sleep", sleep)
    outcome = jobs.wait(id)
    assert outcome == jobs.Outcome("Long job: cancelled. What was done is kept.", finished=False, failed=False)


def test_progress_is_printed_line_by_line(capsys):
    printer, job = ProgressPrinter(), ShownJob(1, "x")
    for i in range(1, 101):
        job.progress = Progress(i, 100, "steps", "Training")
        printer(job)
    assert capsys.readouterr().out.splitlines() == ["[  1%] Training (1 / 100)", "[100%] Training (100 / 100)"]
