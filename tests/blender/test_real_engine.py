"""From photos to an edit in Blender, with the real worker on the processor."""

import time
from pathlib import Path

import bpy
import numpy as np
import pytest

from in2n_blender.blender import engine as blender_engine
from in2n_blender.blender import jobs, outputs, scene_state, underway
from in2n_blender.scene.errors import Cancelled
from in2n_blender.workspace.files import read_json
from in2n_blender.workspace.layout import Workspace

pytestmark = pytest.mark.slow


def test_reconstruct_edit_render_mesh_and_cancel(imported, scene, engine, monkeypatch, capture_folder):
    scene.in2n.device, scene.in2n.preset = "cpu", "draft"
    assert bpy.ops.in2n.reconstruct(steps=12) == {"FINISHED"}
    assert scene.in2n.status.startswith("Reconstructed: ")
    workspace = Path(scene.in2n.workspace)
    shown = {
        Path(bpy.path.abspath(c.data.background_images[0].image.filepath)).parent
        for c in scene_state.children(imported, "CAMERA")
    }
    assert shown == {capture_folder / "images"}, "the photos as they were taken stay behind the cameras"

    # the same worker goes on; cancelled in the middle it keeps what it did
    pid = blender_engine.client().info["pid"]
    with monkeypatch.context() as in_window:
        in_window.setattr(jobs, "in_window", lambda: True)
        in_window.setattr(bpy.ops.ed, "undo_push", lambda **_: None, raising=False)
        assert bpy.ops.in2n.reconstruct(steps=100000, restart=True) == {"FINISHED"}
        follow(lambda: jobs.current().progress is not None and jobs.current().progress.done >= 3)
        bpy.ops.in2n.cancel()
        follow(lambda: not jobs.busy())
    assert isinstance(jobs.current().error, Cancelled)
    assert bpy.ops.in2n.reconstruct(steps=12, restart=True) == {"FINISHED"}
    assert blender_engine.client().info["pid"] == pid

    assert bpy.ops.in2n.edit(instruction="Make it snow", name="snow", rounds=1) == {"FINISHED"}
    assert [e.name for e in scene.in2n.edits] == ["snow"] and underway.offered(scene) is None
    assert bpy.ops.in2n.render_path(edit="snow", name="walk", frame_start=1, frame_end=1) == {"FINISHED"}
    image = next(i for i in bpy.data.images if i.source == "SEQUENCE")
    assert Path(bpy.path.abspath(image.filepath)) == workspace / "renders" / "snow" / "walk" / "0001.png"
    assert bpy.ops.in2n.extract_mesh(edit="snow", resolution=16, texture=64, collision_faces=200) == {"FINISHED"}
    (mesh,) = scene_state.children(imported, "MESH")
    assert np.isfinite([v.co for v in mesh.data.vertices]).all()
    assert [i for i in bpy.data.images if i.packed_file is not None and i.size[:] == (64, 64)], "its texture"
    assert len(scene_state.children(imported, "COLLISION")) == 1
    assert bpy.ops.in2n.export_dataset(edit="snow", format="nerfstudio") == {"FINISHED"}
    listed = read_json(workspace / "datasets" / "snow" / "transforms.json")["frames"]
    assert all((workspace / "datasets" / "snow" / frame["file_path"]).is_file() for frame in listed) and listed
    outputs_of = {output.kind: output for output in outputs.of_edit(Workspace(workspace), "snow")}
    assert set(outputs_of) == {"MESH", "COLLISION", "DATASET"} and outputs_of["DATASET"].parts == len(listed)
    assert not any(output.outdated for output in outputs_of.values())
    assert "Edit: done" in (workspace / "engine.log").read_text()


def follow(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        jobs.poll()
        time.sleep(0.02)


def test_devices(extension, engine):
    assert bpy.ops.in2n.find_devices() == {"FINISHED"}
    assert blender_engine.known_devices()[-1].device == "cpu"
