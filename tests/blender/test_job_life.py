"""What a job survives: waiting for its turn, being cancelled, the engine's crash, Blender's own end, and another
file."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import bpy
import pytest
from conftest import wait_until_cancelled

from in2n_blender.blender import engine, jobs, underway, workspaces
from in2n_blender.blender.operators import resume
from in2n_blender.link import transitions
from in2n_blender.link.requests import Edit, RenderPath
from in2n_blender.scene.camera import Camera, Intrinsics
from in2n_blender.scene.camera_path import CameraPath, PathFrame
from in2n_blender.scene.errors import Cancelled
from in2n_blender.workspace import journal

ROOT = Path(__file__).resolve().parents[2]
HALFWAY = [("progress", {"done": 5, "total": 20, "unit": "views", "message": "Editing", "seconds_left": 90.0})]


@pytest.fixture
def reconstructed(imported, scene, recording):
    file = Path(scene.in2n.workspace) / "reconstruction" / "checkpoint.safetensors"
    file.parent.mkdir(parents=True)
    file.touch()
    file.with_name("state.json").write_text('{"done": true}')
    return imported


def test_jobs_take_turns(reconstructed, scene, recording, window):
    recording.answers(edit={"until_cancelled": True, "events": HALFWAY})
    bpy.ops.in2n.edit(instruction="Make it snow")
    window(lambda: jobs.current() and jobs.current().progress is not None)
    assert bpy.ops.in2n.edit(instruction="Make it snow") == {"FINISHED"}
    bpy.ops.in2n.extract_mesh(edit="original")
    bpy.ops.in2n.extract_mesh(edit="original", resolution=32)
    assert [j.label for j in jobs.waiting()] == ["Edit", "Extract Mesh", "Extract Mesh"]
    assert underway.edits_to_come(scene.in2n.workspace) == ["make-it-snow", "make-it-snow-2"], (
        "the second does not take the first one's name"
    )
    bpy.ops.in2n.cancel_waiting(index=1)
    assert len(jobs.waiting()) == 2 and len(recording.asked) == 1
    bpy.ops.in2n.cancel()
    window(lambda: len(recording.asked) == 2)
    assert scene.in2n.status == "Edit: cancelled. What was done is kept."
    bpy.ops.in2n.cancel()
    window(lambda: len(recording.asked) == 3 and not jobs.busy())
    assert (recording.asked[-1]["method"], recording.asked[-1]["resolution"]) == ("mesh", 32)


def test_what_needs_a_reconstruction_is_dropped_with_it(imported, scene, recording, window):
    with pytest.raises(RuntimeError, match="Reconstruct the capture first"):
        bpy.ops.in2n.edit(instruction="Make it snow")
    recording.answers(reconstruct={"until_cancelled": True, "events": HALFWAY})
    bpy.ops.in2n.reconstruct()
    window(lambda: jobs.current() and jobs.current().progress is not None)
    assert bpy.ops.in2n.edit(instruction="Make it snow") == {"FINISHED"}, "it waits for the reconstruction"
    bpy.ops.in2n.cancel()
    window(lambda: not jobs.busy())
    assert not jobs.waiting() and "What waited for it was dropped: Edit." in scene.in2n.status
    assert {r["method"] for r in recording.asked} == {"import", "reconstruct"}


def test_nothing_waits_for_the_engine_to_be_installed(reconstructed, recording, window):
    window.begin("Install Engine", wait_until_cancelled)
    with pytest.raises(RuntimeError, match="“Install Engine” is running"):
        bpy.ops.in2n.edit(instruction="Make it snow")


def test_cancelling_is_shown_at_once_and_ends_when_the_engine_is_gone(
    reconstructed, scene, recording, window, monkeypatch
):
    """An engine that does not stop is ended; until then nobody may work in its workspace."""
    monkeypatch.setattr(transitions, "CANCEL_GRACE", 1.0)
    recording.answers(edit={"until_cancelled": True, "deaf": True, "events": HALFWAY})
    bpy.ops.in2n.edit(instruction="Make it snow")
    window(lambda: jobs.current() and jobs.current().progress is not None)
    bpy.ops.in2n.cancel()
    assert jobs.current().activity() == "Cancelling…" and journal.is_locked(scene.in2n.workspace)
    with pytest.raises(RuntimeError, match="is running"):
        bpy.ops.in2n.rename_edit(edit="x", name="y")
    window(lambda: not jobs.busy())
    assert isinstance(jobs.current().error, Cancelled) and not journal.is_locked(scene.in2n.workspace)


def test_a_workspace_that_another_process_holds(reconstructed, scene, recording, window):
    other = journal.Journal(scene.in2n.workspace, "Edit")
    try:
        bpy.ops.in2n.extract_mesh(edit="original")
        window(lambda: not jobs.busy())
    finally:
        other.close(None)
    assert window.failures == [scene.in2n.status] and "Another program works in the workspace" in scene.in2n.status
    assert jobs.current().label == "Extract Mesh" and jobs.current().failed and not recording.asked


@pytest.mark.parametrize(
    "answer, why",
    [
        ({"until_cancelled": True, "events": HALFWAY}, "It was cancelled."),
        ({"crash": True, "events": HALFWAY}, "The engine stopped unexpectedly: segmentation fault."),
    ],
)
def test_an_unfinished_edit_is_offered_and_gone_on_with(reconstructed, scene, recording, window, answer, why):
    recording.answers(edit=answer)
    scene.in2n.use_default_guidance = False  # what the panel says by now does not matter
    bpy.ops.in2n.edit(
        instruction="Make it snow", name="snow", seed=4, rounds=2, restart=True, device="cpu", guidance_text=3.0
    )
    window(lambda: jobs.current() and jobs.current().progress is not None or jobs.current().ended)
    if "until_cancelled" in answer:
        bpy.ops.in2n.cancel()
    window(lambda: not jobs.busy())
    left = underway.offered(scene)
    assert (left.label, left.why, left.factor) == ("Edit", why, 0.25)
    assert ("segmentation fault" in scene.in2n.status) == ("crash" in answer)

    recording.answers(edit={"files": {"edits/snow/edit.json": "{}"}})
    scene.in2n.seed = 9
    bpy.ops.in2n.add_region()  # of the next edit, not of this one
    assert bpy.ops.in2n.resume() == {"FINISHED"}
    window(lambda: not jobs.busy())
    first, second = recording.asked
    assert first["restart"] and not second["restart"], "what was saved is not thrown away"
    assert {**first, "restart": None} == {**second, "restart": None}
    assert scene.in2n.use_default_guidance is False and underway.offered(scene) is None
    assert scene.in2n.region is not None
    with pytest.raises(RuntimeError, match="no job to go on with"):
        bpy.ops.in2n.resume()


def test_an_edit_that_is_on_disk_is_gone_on_with_by_its_own_settings(reconstructed, scene, recording):
    """Also by those that the operator has no argument for: the edit may have been begun from the command line."""
    record = {
        "name": "snow",
        "instruction": "Make it snow",
        "noise_schedule": "uniform",
        "guidance_text": 2.0,
        "seed": 3,
        "method": "faithful",
    }
    recording.answers(edit={"files": {"edits/snow/edit.json": json.dumps(record)}, "crash": True})
    for begin in (lambda: bpy.ops.in2n.edit(instruction="Make it snow", name="snow"), bpy.ops.in2n.resume):
        with pytest.raises(RuntimeError, match="stopped unexpectedly"):
            begin()
    asked = recording.asked[-1]
    settings = {"editing_method" if key == "method" else key: value for key, value in record.items()}
    assert asked["method"] == "edit" and {**asked, **settings} == asked and underway.offered(scene).label == "Edit"


def test_an_offer_can_be_dismissed(reconstructed, scene, recording):
    recording.answers(mesh={"error": {"code": "bug", "message": "a mistake"}})
    with pytest.raises(RuntimeError, match="a mistake"):
        bpy.ops.in2n.extract_mesh(edit="original")
    assert underway.offered(scene).label == "Extract Mesh"
    bpy.ops.in2n.dismiss()
    assert underway.offered(scene) is None


def test_requests_become_arguments_again(imported, scene):
    _capture, workspace = workspaces.require(scene)
    camera = Camera(Intrinsics(8, 6, 9.0, 9.0, 4.0, 3.0), [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    path = CameraPath("walk", 24.0, tuple(PathFrame(n, camera) for n in (4, 6, 8)))
    file = workspace.camera_path("walk")
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(path.to_json()))
    elsewhere = RenderPath(
        workspace="/before/it/was/moved", camera_path="/before/it/was/moved/paths/walk.json", edit=None, device="cpu"
    )
    properties = {"edit", "name", "frame_start", "frame_end", "frame_step", "device"}
    assert resume.arguments_again(elsewhere, properties, workspace) == {
        "edit": "original",
        "name": "walk",
        "frame_start": 4,
        "frame_end": 8,
        "frame_step": 2,
        "device": "cpu",
    }
    limited = Edit(workspace="w", name="snow", instruction="x", region="/before/it/was/moved/regions/ab12.json")
    assert resume.arguments_again(limited, {"region"}, workspace) == {"region": str(workspace.region("ab12"))}
    request = Edit(workspace="w", name="snow", instruction="Make it snow", restart=True)
    assert resume.arguments_again(request, {"name", "instruction", "restart", "rounds"}, workspace) == {
        "name": "snow",
        "instruction": "Make it snow",
    }


def test_the_log_tells_what_jobs_said(reconstructed, scene, recording):
    recording.answers(
        mesh={
            "events": [("log", {"text": "a line of the engine"})],
            "error": {"code": "bug", "message": "a mistake", "traceback": "Traceback of the engine"},
        }
    )
    with pytest.raises(RuntimeError, match="a mistake"):
        bpy.ops.in2n.extract_mesh(edit="original")
    for _ in range(2):
        bpy.ops.in2n.show_log()
    (text,) = (t for t in bpy.data.texts if t.get("in2n_log"))
    said = text.as_string()
    assert str(Path(scene.in2n.workspace) / "engine.log") in said
    assert "a line of the engine" in said and "Traceback of the engine" in said


BLENDER = """
    import functools, os, sys
    sys.path.insert(0, {root!r})
    import bpy
    import in2n_blender
    from in2n_blender.blender import engine
    from in2n_blender.link.client import Client
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    in2n_blender.register()
    engine.Client = functools.partial(Client, worker={recorded!r})
    bpy.ops.wm.save_as_mainfile(filepath={blend!r})
    bpy.ops.in2n.import_capture(filepath={capture!r})
    folder = os.path.join(bpy.context.scene.in2n.workspace, "reconstruction")
    os.makedirs(folder)
    open(os.path.join(folder, "checkpoint.safetensors"), "w").close()
    with open(os.path.join(folder, "state.json"), "w") as file:
        file.write('{{"done": true}}')
    bpy.ops.wm.save_mainfile()
    bpy.ops.in2n.edit(instruction="Make it snow")
"""


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_blender_killed_the_worker_ends_and_the_blend_offers_the_job(scene, recording, capture_folder, tmp_path):
    recording.answers(edit={"until_cancelled": True, "say_pid": str(tmp_path / "pid"), "events": HALFWAY})
    blend = tmp_path / "shot.blend"
    program = textwrap.dedent(BLENDER).format(
        root=str(ROOT),
        recorded=str(Path(__file__).with_name("recorded_worker.py")),
        blend=str(blend),
        capture=str(capture_folder),
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)
    journal_file = tmp_path / "shot.in2n" / "job.json"
    try:
        wait(lambda: (tmp_path / "pid").exists() and journal_file.exists() and '"done": 5' in journal_file.read_text())
        pid = int((tmp_path / "pid").read_text())
        bpy.ops.wm.open_mainfile(filepath=str(blend))
        assert underway.offered(bpy.context.scene) is None, "it runs in the other Blender"
        with pytest.raises(RuntimeError, match="Another program works in the workspace"):
            bpy.ops.in2n.extract_mesh(edit="original")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    wait(lambda: not alive(pid))

    bpy.ops.wm.open_mainfile(filepath=str(blend))
    underway.forget_offers()
    left = underway.offered(bpy.context.scene)
    assert (left.label, left.why, left.factor) == ("Edit", "Blender was closed while it ran.", 0.25)
    recording.answers(edit={"files": {"edits/make-it-snow/edit.json": "{}"}})
    assert bpy.ops.in2n.resume() == {"FINISHED"}
    assert recording.asked[-1]["name"] == "make-it-snow" and underway.offered(bpy.context.scene) is None


def wait(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z" if Path("/proc").is_dir() else True
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_another_file_cancels_the_job_and_the_first_one_offers_it_again(
    reconstructed, scene, recording, window, tmp_path
):
    blend = tmp_path / "shot.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(blend))
    recording.answers(edit={"until_cancelled": True, "events": HALFWAY})
    bpy.ops.in2n.edit(instruction="Make it snow")
    window(lambda: jobs.current() and jobs.current().progress is not None)
    bpy.ops.in2n.extract_mesh(edit="original")
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    window(lambda: not jobs.busy())
    assert not jobs.waiting() and underway.offered(bpy.context.scene) is None
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    assert underway.offered(bpy.context.scene).label == "Edit"


def test_the_scene_of_a_job_may_be_deleted_and_renamed_meanwhile(reconstructed, scene, recording, window):
    recording.answers(mesh={"until_cancelled": True, "events": HALFWAY})
    bpy.ops.in2n.extract_mesh(edit="original")
    window(lambda: jobs.current() and jobs.current().progress is not None)
    other = bpy.data.scenes.new("other")
    bpy.context.window.scene = other
    bpy.data.scenes.remove(scene)
    bpy.ops.in2n.cancel()
    window(lambda: not jobs.busy())
    assert isinstance(jobs.current().error, Cancelled) and other.in2n.status == ""


def test_a_scratch_workspace_moves_beside_the_saved_blend(reconstructed, scene, recording, tmp_path, home):
    scratch = Path(scene.in2n.workspace)
    assert home in scratch.parents
    (scratch / "images").mkdir()
    photo = scratch / "images" / "000.png"
    photo.write_bytes(Path(bpy.data.images[0].filepath).read_bytes())
    image = bpy.data.images.load(str(photo))
    with pytest.raises(RuntimeError, match="Save the .blend first"):
        bpy.ops.in2n.move_workspace()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "work.blend"), relative_remap=False)
    scene = bpy.context.scene
    assert Path(scene.in2n.workspace) == scratch, "saved, it goes on working where it was"
    assert bpy.ops.in2n.move_workspace() == {"FINISHED"}
    moved = tmp_path / "work.in2n"
    assert Path(scene.in2n.workspace) == moved and scene.in2n.capture.in2n.workspace == "//work.in2n"
    assert not scratch.exists() and (moved / "reconstruction" / "checkpoint.safetensors").exists()
    assert Path(bpy.path.abspath(image.filepath)) == moved / "images" / "000.png"
    assert not workspaces.is_scratch(moved) and journal.unfinished(moved) is None
    with pytest.raises(RuntimeError, match="there already"):
        bpy.ops.in2n.move_workspace(directory=str(tmp_path))
    assert engine.engine_python() == Path(sys.executable)
