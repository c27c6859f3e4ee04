"""Edits, frames and whole runs on two workers of a real cluster: the pixels of one process, whatever happens."""

import json
import shutil

import psutil
import pytest

from in2n_blender.cli.batch import plan_of, read_table
from in2n_blender.engine import batch as batch_module
from in2n_blender.engine.batch import run_batch
from in2n_blender.engine.crew import Role
from in2n_blender.engine.editing.methods import edit
from in2n_blender.engine.kept import KEPT
from in2n_blender.engine.nerf import settings as nerf_settings
from in2n_blender.engine.output.frames import render_path
from in2n_blender.link.requests import Edit, RenderPath, RunBatch
from in2n_blender.scene.camera_path import CameraPath, PathFrame
from in2n_blender.scene.errors import Cancelled
from in2n_blender.scene.reporting import Artifact, Progress, Reporter
from in2n_blender.workspace.files import write_json
from in2n_blender.workspace.layout import Workspace
from tests.engine.ball import TINY, reconstructed_ball, ring
from tests.faults.kills import contents

VIEWS = 8


@pytest.fixture(scope="module")
def ball(tmp_path_factory, cluster):
    return reconstructed_ball(tmp_path_factory.mktemp("cluster") / "ws", ring(VIEWS))


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(KEPT, "wanted", False)  # what whole runs change is as it was afterwards
    monkeypatch.setitem(nerf_settings.CPU, "draft", TINY)
    monkeypatch.setattr(batch_module, "RUN_ROLE", Role("tests.scale.tiny_runs:TinyRuns", {}))


def edited(ball, report=None, **more):
    """The edit's pictures and checkpoint, on a reconstruction of its own."""
    root = ball.with_name(f"copy-{len(list(ball.parent.iterdir()))}")
    shutil.copytree(ball, root)
    given = {"editor": "exact:K=4,s=0.05", "seed": 3, "preset": "draft", "device": "cpu", "views_together": 4, **more}
    state = edit(Edit(workspace=str(root), name="e", instruction="paint it", **given), report or Reporter())
    found = contents(root / "edits" / "e")
    assert sum(name.startswith("dataset/") for name in found) == VIEWS
    return found, state


def test_edits_on_two_workers_are_those_of_one_process(ball):
    here, mine = edited(ball)
    there, theirs = edited(ball, cluster="auto", workers=2)
    assert here == there and mine["unet_evaluations"] == theirs["unet_evaluations"] > 0


def test_how_many_views_are_edited_together_is_noted_where_it_was_chosen(ball):
    one, _ = edited(ball, editing_method="iterative", rounds=1, views_together=None)
    four, _ = edited(ball, editing_method="iterative", rounds=1)
    assert "views_together" not in one["edit.json"] and four["edit.json"]["views_together"] == 4
    assert one["edit.json"]["provenance"] != four["edit.json"]["provenance"]


def workers():
    """The processes of the cluster's workers that have a role."""
    children = psutil.Process().children(recursive=True)
    return [each for each in children if each.is_running() and "Remote" in " ".join(each.cmdline())]


def frames_of(ball, name, cluster, report=None):
    path = CameraPath(name, 24.0, tuple(PathFrame(n + 1, camera) for n, camera in enumerate(ring(5, 2.8))))
    write_json(Workspace(ball).camera_path(name), path.to_json())
    file = str(Workspace(ball).camera_path(name))
    request = RenderPath(workspace=str(ball), camera_path=file, device="cpu", cluster=cluster, workers=2)
    result = render_path(request, report or Reporter())
    folder = Workspace(ball).renders(None, name)
    return result, {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".png", ".exr")}


def test_frames_of_two_workers_of_which_one_is_killed_are_those_of_one_process(ball):
    events, killed = [], []

    def kill_one(event):
        events.append(event)
        if isinstance(event, Artifact) and not killed:
            killed.append(workers()[0])
            killed[0].kill()

    here, mine = frames_of(ball, "here", None)
    there, theirs = frames_of(ball, "there", "auto", Reporter(kill_one))
    assert killed and mine == theirs and len(mine) == 10 and here["rendered"] == there["rendered"] == 5
    assert [event.done for event in events if isinstance(event, Progress) and event.unit == "frame"][-1] == 5
    assert frames_of(ball, "there", None)[0]["rendered"] == 0, "what is there is not rendered again"


# --- whole runs


@pytest.fixture(scope="module")
def table(tmp_path_factory, ball):
    """Two edits of one capture, and one whose photos are gone when it is its turn."""
    folder = tmp_path_factory.mktemp("table")
    photos = folder / "ball"
    shutil.copytree(ball / "images", photos / "images")
    frames = []
    for number, camera in enumerate(ring(VIEWS)):
        frames.append({"file_path": f"images/{number}.png", "transform_matrix": camera.camera_to_world.tolist()})
    k = ring(VIEWS)[0].intrinsics
    lens = {"w": k.width, "h": k.height, "fl_x": k.fx, "fl_y": k.fy, "cx": k.cx, "cy": k.cy}
    (photos / "transforms.json").write_text(json.dumps({**lens, "frames": frames}))
    shutil.copytree(photos, folder / "gone")
    text = "capture,instruction,seed,model,preset,device,steps,rounds,frames,mesh-resolution,hold-out-every,name\n"
    rest = "exact:K=2,draft,cpu,40,1,2,24,4"
    text += f"ball,paint it,1,{rest},one\nball,paint it,2,{rest},two\ngone,paint it,1,{rest},three\n"
    (folder / "table.csv").write_text(text.replace("exact:K=2,", '"exact:K=2",'))
    return folder / "table.csv"


def batch(table, out, cluster, report=None):
    """The rows of batch.json, and what the runs left."""
    out.mkdir(exist_ok=True)
    runs = read_table(table)
    request = RunBatch(out=str(out), plan=plan_of(runs, out), cluster=cluster, workers=2)
    run_batch(request, report or Reporter())
    return json.loads((out / "batch.json").read_text())["runs"]


def untimed(rows):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_a_batch_on_two_workers_is_that_of_one_process_though_it_was_cancelled(table, tmp_path):
    shutil.rmtree(table.parent / "gone" / "images")
    rows = untimed(batch(table, tmp_path / "here", None))
    assert [row["state"] for row in rows] == ["done", "done", "failed"]
    said = []
    cancelled = lambda: any(isinstance(line, str) and line.endswith(": edit") for line in said)
    with pytest.raises(Cancelled):
        batch(table, tmp_path / "there", "auto", Reporter(said.append, cancelled))
    stopped = json.loads((tmp_path / "there" / "batch.json").read_text())["runs"]
    assert "cancelled" in [row["state"] for row in stopped]
    assert untimed(batch(table, tmp_path / "there", "auto", Reporter(said.append))) == rows
    here, there = (contents(tmp_path / name) for name in ("here", "there"))
    pixels = [name for name in here if name.endswith((".png", ".exr", ".safetensors", ".glb"))]
    assert len(pixels) > 20 and [name for name in pixels if here[name] != there.get(name)] == []
    assert sum(str(line).endswith("(shared): reconstruct") for line in said) == 1, "not once a line"
