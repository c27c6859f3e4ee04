"""Killed at any moment and gone on with: the same numbers and pictures as without, and little work is lost."""

import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from in2n_blender.engine.nerf.checkpoint import read_checkpoint
from in2n_blender.scene.capture import PinholeCapture, View
from in2n_blender.workspace.files import write_json
from in2n_blender.workspace.hashes import checkpoint_state
from in2n_blender.workspace.layout import Workspace
from in2n_blender.workspace.provenance import is_done
from tests.engine.ball import ring, sphere_image

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "tests.engine.killable_jobs"]
KILLS = 5
MOST_LOST = 30.0  # seconds of work
MEASURED = ("seconds", "cpu_seconds", "peak_memory_mb")  # of a state: differ from run to run


class NotKilled(Exception):
    """The job came to its end before the point at which it was to be killed."""


class Jobs:
    """A `killable_jobs` process."""

    def __init__(self, folder):
        self.folder, self.runs = folder, 0
        self.process = subprocess.Popen(
            COMMAND, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def run(self, method, params, kill_at=None, **more):
        """The points that a job passed: [name, times it asked whether it was cancelled, seconds] each.

        The job must not fail, and be killed as it was told.
        """
        self.runs += 1
        journal = self.folder / f"{self.runs}.journal"
        order = {"method": method, "params": params, "kill_at": kill_at, "journal": str(journal), **more}
        print(json.dumps(order), file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline())
        assert not answer["error"], answer["error"]
        if kill_at is not None and not answer["killed"]:
            raise NotKilled
        assert kill_at is not None or not answer["killed"]
        return [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    jobs = Jobs(tmp_path_factory.mktemp("journals"))
    yield jobs
    jobs.process.stdin.close()
    assert jobs.process.wait(60) == 0


def painted_ball(root):
    """A capture with soft edges: its photos have alpha, and what lies behind them is drawn anew in every step."""
    (root / "images").mkdir(parents=True)
    views = []
    for index, camera in enumerate(ring(5)):
        color = np.round(sphere_image(camera) * 255).astype(np.uint8)
        down, right = np.mgrid[-1 : 1 : color.shape[0] * 1j, -1 : 1 : color.shape[1] * 1j]
        alpha = np.round(255 * np.clip(2.2 - 2 * np.hypot(down, right), 0, 1)).astype(np.uint8)
        Image.fromarray(np.dstack([color, alpha])).save(root / "images" / f"{index}.png")
        views.append(View(str(index), f"images/{index}.png", camera, held_out=index == 4))
    write_json(root / "capture.json", PinholeCapture("ball", "", "draft", tuple(views)).to_json())
    return root


def reconstruction_of(root):
    return {"workspace": str(root), "preset": "draft", "device": "cpu", "steps": 30, "appearance": True,
            "refine_cameras": True}  # fmt: skip


def edit_of(root, method, **more):
    return {"workspace": str(root), "name": "x", "instruction": "tint it", "editor": "exact:K=8,s=0.3", "seed": 3,
            "preset": "draft", "device": "cpu", "editing_method": method, "rounds": 1, **more}  # fmt: skip


def result(folder):
    """What must be equal: all tensors, the state but for what is measured, and the bytes of all other files."""
    tensors, state = read_checkpoint(folder)
    for key in MEASURED:
        state.pop(key, None)
    names = sorted(path for path in folder.rglob("*") if path.is_file())
    pictures = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in names
        if path.name not in ("checkpoint.safetensors", "state.json")
    }
    return tensors, state, pictures


def assert_equal(folder, whole):
    ours, theirs = result(folder), whole
    assert ours[0].keys() == theirs[0].keys()
    different = [name for name, value in ours[0].items() if not torch.equal(value, theirs[0][name])]
    assert not different and ours[1] == theirs[1]
    assert ours[2].keys() == theirs[2].keys(), "something is left over or missing"
    assert [name for name in ours[2] if ours[2][name] != theirs[2][name]] == []
    noted = json.loads((folder / "state.json").read_text())
    assert noted["done"] and noted == checkpoint_state(folder)


@pytest.fixture(scope="module")
def ground(jobs, tmp_path_factory):
    """A reconstructed capture, and the points that its reconstruction passed."""
    root = painted_ball(tmp_path_factory.mktemp("ground") / "ws")
    return root, jobs.run("reconstruct", reconstruction_of(root))


def copy_of(root, target, *folders):
    shutil.rmtree(target, ignore_errors=True)
    for name in ("images", *folders):
        shutil.copytree(root / name, target / name)
    shutil.copy(root / "capture.json", target)
    return target


def moments(points, seed, first=0):
    """Random points of a way from `first` on, one in each part of it."""
    draw, part = random.Random(seed), (len(points) - first) / KILLS
    return [first + draw.randrange(int(part * number), int(part * (number + 1))) for number in range(KILLS)]


def longest_unsaved(points):
    """The most seconds of work between two checkpoints, from the first step on."""
    at_work = lambda name: name.startswith("Progress") and name != "Progress Reading the photos"
    begun = next(seconds for name, _, seconds in points if at_work(name))
    saves = [begun, *(seconds for name, _, seconds in points if name == "after checkpoint.safetensors")]
    return max(after - before for before, after in zip(saves, saves[1:]))


def test_a_reconstruction_that_was_killed_goes_on_exactly(jobs, ground, tmp_path):
    root, points = ground
    whole = result(root / "reconstruction")
    assert longest_unsaved(points) <= MOST_LOST
    for moment in moments(points, seed=0):
        copy = copy_of(root, tmp_path / "ws")
        assert jobs.run("reconstruct", reconstruction_of(copy), moment) == points[: moment + 1], "the same way"
        jobs.run("reconstruct", reconstruction_of(copy))
        assert_equal(copy / "reconstruction", whole)


@pytest.mark.parametrize("method", ["iterative", "agreement", "faithful in a region, on another edit"])
def test_an_edit_that_was_killed_goes_on_exactly(jobs, ground, tmp_path, method):
    root, more = copy_of(ground[0], tmp_path / "whole", "reconstruction"), {}
    method, *others = method.split()
    if others:
        jobs.run("edit", edit_of(root, "iterative", seed=4, name="below"))
        write_json(
            tmp_path / "region.json",
            {"type": "ellipsoid", "center": [0, 0, 0], "size": [1.4, 1.4, 1.4], "soft_edge": 0.2},
        )
        more = {"parent": "below", "region": str(tmp_path / "region.json")}
    shutil.copytree(root, tmp_path / "before")
    points = jobs.run("edit", edit_of(root, method, **more))
    whole = result(root / "edits" / "x")
    assert longest_unsaved(points) <= MOST_LOST
    for moment in moments(points, seed=1):
        copy = tmp_path / "ws"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(tmp_path / "before", copy)
        jobs.run("edit", edit_of(copy, method, **more), moment)
        jobs.run("edit", edit_of(copy, method, **more))
        assert_equal(copy / "edits" / "x", whole)


def test_rounds_that_end_early_end_so_when_killed_right_before(jobs, ground, tmp_path):
    root = copy_of(ground[0], tmp_path / "whole", "reconstruction")
    order = {"converged": 1e9, "event_seconds": 30.0}  # saved after every view and step
    points = jobs.run("edit", edit_of(root, "agreement", rounds=3), **order)
    whole = result(root / "edits" / "x")
    assert whole[1]["converged_rounds"] == 1
    names = [name for name, *_ in points]
    saved = names.index("after state.json", names.index(next(n for n in names if n.startswith("Progress Update 4"))))
    copy = copy_of(root, tmp_path / "ws", "reconstruction")
    jobs.run("edit", edit_of(copy, "agreement", rounds=3), saved, **order)
    jobs.run("edit", edit_of(copy, "agreement", rounds=3), **order)
    assert_equal(copy / "edits" / "x", whole)


def test_a_change_on_the_way_that_was_killed_is_made_once(jobs, ground, tmp_path):
    root = copy_of(ground[0], tmp_path / "begun", "reconstruction")
    points = jobs.run("edit", edit_of(copy_of(root, tmp_path / "ws", "reconstruction"), "iterative"))
    half = next(asked for name, asked, _ in points if name.startswith("Progress Edit 3"))
    jobs.run("edit", edit_of(root, "iterative"), cancel_at=half)
    other = {"instruction": "tint it again", "guidance_text": 3.0, "apply_from_here": True}
    shutil.copytree(root, tmp_path / "whole")
    points = jobs.run("edit", edit_of(tmp_path / "whole", "iterative", **other))
    whole = result(tmp_path / "whole" / "edits" / "x")
    assert [segment["from_edit"] for segment in whole[1]["segments"]] == [0, 2]
    names = [name for name, *_ in points]
    while_noting = range(names.index("before edit.json"), names.index("after state.json") + 1)
    for moment in [*while_noting, *moments(points, seed=4, first=while_noting[-1] + 1)[::2]]:
        copy = tmp_path / "ws"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(root, copy)
        jobs.run("edit", edit_of(copy, "iterative", **other), moment)
        noted = json.loads((copy / "edits" / "x" / "edit.json").read_text())["segments"]
        again = {**other, "apply_from_here": len(noted) == 1}  # what the panel goes on with: as it was noted
        jobs.run("edit", edit_of(copy, "iterative", **again))
        assert_equal(copy / "edits" / "x", whole)


def test_an_edit_that_was_cancelled_within_a_view_edits_it_again_from_the_same_noise(jobs, ground, tmp_path):
    root = copy_of(ground[0], tmp_path / "whole", "reconstruction")
    points = jobs.run("edit", edit_of(root, "agreement"))
    carrying = [asked for name, asked, _ in points if name.startswith("Progress Carrying")]
    for moment in moments(range(carrying[-1]), seed=3, first=carrying[1]):
        copy = copy_of(root, tmp_path / "ws", "reconstruction")
        assert len(jobs.run("edit", edit_of(copy, "agreement"), cancel_at=moment)) < len(points)
        jobs.run("edit", edit_of(copy, "agreement"))
        assert_equal(copy / "edits" / "x", result(root / "edits" / "x"))


def test_an_edit_made_again_that_was_killed_takes_the_earlier_ones_place_or_leaves_it(jobs, ground, tmp_path):
    root = copy_of(ground[0], tmp_path / "earlier", "reconstruction")
    jobs.run("edit", edit_of(root, "iterative", seed=4))
    earlier = result(root / "edits" / "x")
    again = edit_of(root, "iterative", restart=True)
    rehearsal = copy_of(root, tmp_path / "ws", "reconstruction", "edits")
    points = jobs.run("edit", {**again, "workspace": str(rehearsal)})
    whole = result(rehearsal / "edits" / "x")
    begun = next(index for index, (name, *_) in enumerate(points) if name == "after edit.json")
    for moment in moments(points, seed=2, first=begun):
        copy = copy_of(root, tmp_path / "ws", "reconstruction", "edits")
        jobs.run("edit", {**again, "workspace": str(copy)}, moment)
        kept = [folder for folder in (copy / "edits" / "x", copy / "earlier/replaced/edits/x") if folder.is_dir()]
        assert any(result(folder)[1] == earlier[1] for folder in kept) or is_done(Workspace(copy), "x"), "lost"
        jobs.run("edit", edit_of(copy, "iterative"))
        assert_equal(copy / "edits" / "x", whole)
        assert not (copy / "earlier").exists() and not list(copy.glob(".making-*"))


def test_a_job_killed_by_the_clock_goes_on_exactly(jobs, ground, tmp_path):
    root = copy_of(ground[0], tmp_path / "whole", "reconstruction")
    jobs.run("edit", edit_of(root, "agreement"))
    copy = copy_of(root, tmp_path / "ws", "reconstruction")
    journal = tmp_path / "journal"
    order = {"method": "edit", "params": edit_of(copy, "agreement"), "journal": str(journal)}
    process = subprocess.Popen([*COMMAND, json.dumps(order)], cwd=REPOSITORY)
    while not (copy / "edits" / "x" / "checkpoint.safetensors").exists() and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    assert process.wait(60) not in (0, 1), "it ended before it was killed"
    jobs.run("edit", edit_of(copy, "agreement"))
    assert_equal(copy / "edits" / "x", result(root / "edits" / "x"))
