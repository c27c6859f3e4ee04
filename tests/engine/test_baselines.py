"""The methods that iterative dataset update is measured against, on a tiny capture with the tiny random editor."""

import pytest
import torch

from in2n_blender.engine.editing import baselines
from in2n_blender.engine.editing.baselines import (
    METHODS,
    DistillationSchedule,
    OneTimeSchedule,
    OneTimeUpdate,
    ScoreDistillation,
    run_method,
)
from in2n_blender.engine.editing.methods import edit
from in2n_blender.engine.editing.schedule import NOISE_LEVELS, Schedule
from in2n_blender.engine.nerf.checkpoint import read_checkpoint
from in2n_blender.engine.nerf.scene import load_scene
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Artifact, Reporter
from in2n_blender.workspace.layout import Workspace
from tests.engine.ball import ring
from tests.engine.test_dataset_update import made, request_for, stop_when, tiny  # noqa: F401 (fixtures)


def test_one_time_edits_everything_once_before_the_first_step(made):
    workspace, editor = made
    order = []
    reporter = Reporter(lambda event: order.append(event.kind) if isinstance(event, Artifact) else None)
    scene = run_method("one-time", request_for(workspace, editor, "one-time"), reporter)
    assert scene.state["done"] and scene.state["edits_done"] == 4 and scene.unet_evaluations == 4 * 2 * 3
    assert order == ["image"] * 4 + ["checkpoint"]
    assert scene.state["step"] == Schedule(4, 2, 10, 7, "uniform").steps, "as much training as the iterative update"
    dataset = read_checkpoint(Workspace(workspace).edit("one-time"))[0]["dataset"]
    camera = ring()[0]
    learnt = scene.render(camera).rgb_srgb
    before = load_scene(str(workspace), None, "cpu").render(camera).rgb_srgb
    target = dataset[: camera.intrinsics.width * camera.intrinsics.height].view(*learnt.shape).float() / 255
    assert (learnt - target).abs().mean() < (before - target).abs().mean(), "the NeRF went towards the edited photos"


def test_one_time_update_cancelled_among_its_edits_goes_on_exactly(made):
    workspace, editor = made
    straight = edit(request_for(workspace, editor, "one-time-straight"), Reporter(), OneTimeUpdate)
    images = iter(range(2))
    reporter, _ = stop_when(lambda event: isinstance(event, Artifact) and next(images, None) is None)
    with pytest.raises(Cancelled):
        edit(request_for(workspace, editor, "one-time-stopped"), reporter, OneTimeUpdate)
    assert read_checkpoint(Workspace(workspace).edit("one-time-stopped"))[1]["edits_done"] == 3
    resumed = edit(request_for(workspace, editor, "one-time-stopped"), Reporter(), OneTimeUpdate)
    assert resumed["unet_evaluations"] == straight["unet_evaluations"]
    one, other = (
        read_checkpoint(Workspace(workspace).edit(name))[0] for name in ("one-time-straight", "one-time-stopped")
    )
    for name in one:
        assert torch.allclose(one[name].float(), other[name].float(), atol=2 if name == "dataset" else 1e-3), name


def test_score_distillation_moves_the_scene_and_leaves_the_photos(made):
    workspace, editor = made
    scene = run_method("score-distillation", request_for(workspace, editor, "distilled"), Reporter())
    assert scene.state["step"] == Schedule(4, 2, 10, 7, "uniform").steps // 4 and scene.state["edits_done"] == 0
    assert scene.unet_evaluations == 3 * scene.state["step"]
    camera = ring()[0]
    before = load_scene(str(workspace), None, "cpu").render(camera).rgb_srgb
    assert (scene.render(camera).rgb_srgb - before).abs().mean() > 0.003
    photos = read_checkpoint(Workspace(workspace).edit("distilled"))[0]["dataset"]
    night = edit(request_for(workspace, editor, "updated", rounds=1), Reporter())
    assert night["done"] and not torch.equal(
        photos, read_checkpoint(Workspace(workspace).edit("updated"))[0]["dataset"]
    )


def test_score_distillation_resumes_exactly(made):
    workspace, editor = made
    straight = edit(request_for(workspace, editor, "sds-straight"), Reporter(), ScoreDistillation)
    reporter, _ = stop_when(lambda event: getattr(event, "done", 0) == 5)
    with pytest.raises(Cancelled):
        edit(request_for(workspace, editor, "sds-stopped"), reporter, ScoreDistillation)
    resumed = edit(request_for(workspace, editor, "sds-stopped"), Reporter(), ScoreDistillation)
    assert resumed["step"] == straight["step"] and resumed["unet_evaluations"] == straight["unet_evaluations"]
    one, other = (read_checkpoint(Workspace(workspace).edit(name))[0] for name in ("sds-straight", "sds-stopped"))
    for name in one:
        assert torch.allclose(one[name].float(), other[name].float(), atol=1e-3), name


def test_per_frame_edits_every_render_by_itself(made):
    workspace, editor = made
    camera = ring()[0]
    scene = run_method("per-frame", request_for(workspace, editor, "frames"), Reporter())
    first, second = scene.render(camera), scene.render(camera)
    assert scene.unet_evaluations == 2 * 20 * 3 and not Workspace(workspace).edit("frames").exists()
    assert (first.rgb_srgb - second.rgb_srgb).abs().mean() > 0.005, "each frame has its own noise"
    assert torch.equal(first.depth, load_scene(str(workspace), None, "cpu").render(camera).depth)


def test_an_edit_belongs_to_its_method(made):
    workspace, editor = made
    edit(request_for(workspace, editor, "mine", rounds=1), Reporter(), OneTimeUpdate)
    with pytest.raises(In2nError) as refused:
        edit(request_for(workspace, editor, "mine", rounds=1), Reporter())
    assert refused.value.code == "edit_exists"
    with pytest.raises(In2nError) as refused:
        run_method("twice", request_for(workspace, editor, "x"), Reporter())
    assert refused.value.code == "unknown_method" and all(name in refused.value.hint for name in METHODS)


def test_schedules():
    iterative, one_time, distillation = (
        kind(7, 3, 10, 4, "falling") for kind in (Schedule, OneTimeSchedule, DistillationSchedule)
    )
    assert one_time.edits == 7 and one_time.steps == iterative.steps and one_time.noise_level(3) == 1.0
    assert distillation.edits == 0 and distillation.steps * baselines.DISTILLATION_RAYS == pytest.approx(
        iterative.steps, abs=4
    )
    assert DistillationSchedule(1, 1, 1, 0, "falling").steps == 1, "there is always a step"
    levels = [distillation.noise_level(step) for step in range(200)]
    assert NOISE_LEVELS[0] <= min(levels) < 0.1 and 0.9 < max(levels) <= NOISE_LEVELS[1] and len(set(levels)) == 200


def test_a_distilled_view_has_about_as_many_pixels_as_it_may_and_the_same_aspect():
    camera = ring()[0].scaled_to(300, 200)
    small = baselines._with_pixels(camera, 600)
    assert (small.intrinsics.width, small.intrinsics.height) == (30, 20)
    larger, least = baselines._with_pixels(camera, 10**6), baselines._with_pixels(camera.scaled_to(300, 3), 9)
    assert (larger.intrinsics.width, larger.intrinsics.height) == (300, 200), "it is never enlarged"
    assert (least.intrinsics.width, least.intrinsics.height) == (30, 1)
