"""The editing loop on a tiny capture with the tiny random editor: schedule, what it leaves, cancel and exact resume."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from in2n_blender.engine.editing import dataset_update, methods
from in2n_blender.engine.editing.schedule import NOISE_LEVELS, Schedule
from in2n_blender.engine.nerf import settings as nerf_settings
from in2n_blender.engine.nerf.checkpoint import read_checkpoint
from in2n_blender.engine.nerf.reconstruction import reconstruct
from in2n_blender.engine.nerf.scene import load_scene
from in2n_blender.link.requests import Edit, Reconstruct
from in2n_blender.scene.capture import PinholeCapture, View
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Artifact, Progress, Reporter
from in2n_blender.workspace.files import write_json
from in2n_blender.workspace.layout import Workspace
from tests.engine.ball import TINY, ring, sphere_image
from tests.engine.small_editor import small_editor_folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(workspace with a tiny reconstruction, editor folder)"""
    root = tmp_path_factory.mktemp("edit")
    editor = small_editor_folder(root / "editor", block_transform=True)
    (root / "ws" / "images").mkdir(parents=True)
    views = []
    for index, camera in enumerate(ring(5)):
        Image.fromarray((sphere_image(camera) * 255).astype(np.uint8)).save(root / "ws" / "images" / f"{index}.png")
        views.append(View(str(index), f"images/{index}.png", camera, held_out=index == 4))
    write_json(root / "ws" / "capture.json", PinholeCapture("ball", "", "draft", tuple(views)).to_json())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(nerf_settings.CPU, "draft", TINY)
        state = reconstruct(Reconstruct(workspace=str(root / "ws"), preset="draft", device="cpu", steps=30), Reporter())
    assert state["done"] and state["psnr_db"] > 5
    return root / "ws", editor


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(nerf_settings.CPU, "draft", TINY)
    monkeypatch.setattr(dataset_update, "DENOISING_STEPS", 2)


def request_for(workspace, editor, name, **more):
    more = {"rounds": 2, "seed": 7, "editing_method": "iterative", **more}
    return Edit(
        workspace=str(workspace),
        name=name,
        instruction="make it night",
        editor=str(editor),
        guidance_text=2.0,
        guidance_image=1.5,
        preset="draft",
        device="cpu",
        **more,
    )


def stop_when(condition):
    """A reporter that cancels once an event fulfils the condition, and the events it saw."""
    events, stop = [], []

    def emit(event):
        events.append(event)
        if condition(event):
            stop.append(True)

    return Reporter(emit, lambda: bool(stop)), events


def test_schedule_visits_every_view_once_a_round_and_is_seeded():
    schedule = Schedule(views=7, rounds=3, edit_rate=10, seed=4, noise="uniform")
    order = [schedule.view(edit) for edit in range(schedule.edits)]
    assert sorted(order[:7]) == list(range(7)) and order[:7] == order[7:14] == order[14:]
    assert order[:7] != [Schedule(7, 3, 10, 5, "uniform").view(edit) for edit in range(7)]
    assert schedule.steps > schedule.edits * 10


@pytest.mark.parametrize("noise", ["uniform", "falling"])
def test_noise_levels_stay_in_the_papers_range(noise):
    schedule = Schedule(views=20, rounds=10, edit_rate=10, seed=0, noise=noise)
    levels = [schedule.noise_level(edit) for edit in range(schedule.edits)]
    assert NOISE_LEVELS[0] <= min(levels) and max(levels) <= NOISE_LEVELS[1] and len(set(levels)) == len(levels)
    first, last = np.mean(levels[:20]), np.mean(levels[-20:])
    assert first - last > 0.3 if noise == "falling" else abs(np.mean(levels) - 0.5) < 0.1


def test_edit_changes_the_dataset_and_the_scene(made):
    workspace, editor = made
    reporter, events = stop_when(lambda event: False)
    state = methods.edit(request_for(workspace, editor, "night"), reporter)
    folder = Workspace(workspace).edit("night")
    assert state["done"] and state["edits_done"] == 8 and state["unet_evaluations"] == 8 * 2 * 3
    assert sorted(p.stem for p in (folder / "dataset").glob("*.png")) == ["0", "1", "2", "3"]
    record = json.loads((folder / "edit.json").read_text())
    assert record["instruction"] == "make it night" and record["guidance_text"] == 2.0 and record["seed"] == 7
    assert [e for e in events if isinstance(e, Progress)][-1].done == state["step"] - 1
    shown = {e.view for e in events if isinstance(e, Artifact) and e.kind == "image"}
    assert shown == {"0", "1", "2", "3"}, "each picture names its photo"
    photo = np.asarray(Image.open(workspace / "images" / "0.png"), float)
    assert np.abs(photo - np.asarray(Image.open(folder / "dataset" / "0.png"), float)).mean() > 5
    camera = ring()[0]
    before, after = (load_scene(str(workspace), edit, "cpu").render(camera).rgb_srgb for edit in (None, "night"))
    assert (before - after).abs().mean() > 0.01
    again = methods.edit(request_for(workspace, editor, "night"), Reporter(cancelled=lambda: True))
    assert again["seconds"] == state["seconds"], "a finished edit is not computed twice"


def test_an_edit_that_was_cancelled_goes_on_exactly(made):
    workspace, editor = made
    straight = methods.edit(request_for(workspace, editor, "straight"), Reporter())
    previews = iter(range(3))
    reporter, _ = stop_when(lambda event: isinstance(event, Artifact) and next(previews, None) is None)
    with pytest.raises(Cancelled):
        methods.edit(request_for(workspace, editor, "stopped"), reporter)
    tensors, state = read_checkpoint(Workspace(workspace).edit("stopped"))
    assert not state["done"] and 0 < state["edits_done"] < 8 and any(k.startswith("optimizer.") for k in tensors)
    resumed = methods.edit(request_for(workspace, editor, "stopped"), Reporter())
    assert resumed["unet_evaluations"] == straight["unet_evaluations"] and resumed["edits_done"] == 8
    one, other = (read_checkpoint(Workspace(workspace).edit(name))[0] for name in ("straight", "stopped"))
    assert one.keys() == other.keys()
    for name in one:
        assert torch.allclose(one[name].float(), other[name].float(), atol=2 if name == "dataset" else 1e-3), name


def test_perceptual_loss_is_the_users_choice(made):
    workspace, editor = made
    said = []
    state = methods.edit(
        request_for(workspace, editor, "lpips", rounds=1, perceptual="lpips-or-random"), Reporter(said.append)
    )
    assert state["done"] and state["settings"]["perceptual"] == "lpips-or-random"
    assert sum("random backbone" in line for line in said if isinstance(line, str)) == 1
    with pytest.raises(In2nError) as refused:
        methods.edit(request_for(workspace, editor, "y", perceptual="vgg"), Reporter())
    assert refused.value.code == "unknown_perceptual"


def test_a_name_that_belongs_to_another_edit_is_refused_unless_restarted(made):
    workspace, editor = made
    methods.edit(request_for(workspace, editor, "taken", rounds=1), Reporter())
    with pytest.raises(In2nError) as refused:
        methods.edit(request_for(workspace, editor, "taken", rounds=1, seed=8), Reporter())
    assert refused.value.code == "edit_exists"
    state = methods.edit(request_for(workspace, editor, "taken", rounds=1, seed=8, restart=True), Reporter())
    assert state["seed"] == 8


def test_an_edit_builds_on_another(made):
    workspace, editor = made
    methods.edit(request_for(workspace, editor, "first", rounds=1), Reporter())
    methods.edit(request_for(workspace, editor, "second", rounds=1, seed=8, parent="first"), Reporter())
    methods.edit(request_for(workspace, editor, "alone", rounds=1, seed=8), Reporter())
    assert json.loads((Workspace(workspace).edit("second") / "edit.json").read_text())["parent"] == "first"
    first, second, alone = (
        read_checkpoint(Workspace(workspace).edit(name))[0]["dataset"].float() for name in ("first", "second", "alone")
    )
    assert (second - first).abs().mean() > 1 and (second - alone).abs().mean() > 1, (
        "the first edit's photos were edited again"
    )


def test_building_on_an_edit_resumes_exactly_and_needs_it_finished(made):
    workspace, editor = made
    methods.edit(request_for(workspace, editor, "ground", rounds=1), Reporter())
    straight = methods.edit(request_for(workspace, editor, "on-straight", rounds=1, parent="ground"), Reporter())
    previews = iter(range(2))
    reporter, _ = stop_when(lambda event: isinstance(event, Artifact) and next(previews, None) is None)
    with pytest.raises(Cancelled):
        methods.edit(request_for(workspace, editor, "on-stopped", rounds=1, parent="ground"), reporter)
    for parent, code in (("on-stopped", "no_parent"), ("nowhere", "no_parent"), ("x", "own_parent")):
        with pytest.raises(In2nError) as refused:
            methods.edit(request_for(workspace, editor, "x", parent=parent), Reporter())
        assert refused.value.code == code
    resumed = methods.edit(request_for(workspace, editor, "on-stopped", rounds=1, parent="ground"), Reporter())
    assert resumed["unet_evaluations"] == straight["unet_evaluations"]
    one, other = (read_checkpoint(Workspace(workspace).edit(name))[0] for name in ("on-straight", "on-stopped"))
    assert all(
        torch.allclose(one[name].float(), other[name].float(), atol=2 if name == "dataset" else 1e-3) for name in one
    )


def test_an_edit_needs_a_finished_reconstruction_and_an_instruction(made, tmp_path):
    workspace, editor = made
    with pytest.raises(In2nError) as refused:
        methods.edit(request_for(tmp_path, editor, "x"), Reporter())
    assert refused.value.code == "not_trained"
    with pytest.raises(In2nError) as refused:
        methods.edit(
            Edit(workspace=str(workspace), name="x", instruction="  ", editor=str(editor), device="cpu"), Reporter()
        )
    assert refused.value.code == "empty_instruction"
    assert not Workspace(workspace).edit("x").exists(), "nothing half-written is left"


def test_a_cancelled_reconstruction_goes_on(made, tmp_path):
    workspace, _ = made
    copy = tmp_path / "copy"
    shutil.copytree(workspace / "images", copy / "images")
    shutil.copy(workspace / "capture.json", copy)
    reporter, _ = stop_when(lambda event: isinstance(event, Progress) and event.done == 12)
    with pytest.raises(Cancelled):
        reconstruct(Reconstruct(workspace=str(copy), preset="draft", device="cpu", steps=30), reporter)
    assert read_checkpoint(Workspace(copy).reconstruction)[1]["step"] == 13
    seen = []
    state = reconstruct(Reconstruct(workspace=str(copy), preset="draft", device="cpu", steps=30), Reporter(seen.append))
    assert min(e.done for e in seen if isinstance(e, Progress) and e.unit == "step") == 13 and state["done"]
    whole = read_checkpoint(Workspace(workspace).reconstruction)[0]
    for name, value in read_checkpoint(Workspace(copy).reconstruction)[0].items():
        assert torch.allclose(value.float(), whole[name].float(), atol=1e-3), name


def test_a_damaged_checkpoint_is_named(made, tmp_path):
    (tmp_path / "checkpoint.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(In2nError) as refused:
        read_checkpoint(tmp_path)
    assert refused.value.code == "bad_checkpoint"
