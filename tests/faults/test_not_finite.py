"""Numbers that are none: caught at the step, gone back from, and never saved as done."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from in2n_blender.engine.nerf import settings as nerf_settings
from in2n_blender.engine.nerf.checkpoint import read_checkpoint
from in2n_blender.engine.nerf.reconstruction import reconstruct
from in2n_blender.engine.nerf.rendering import NerfModel
from in2n_blender.engine.nerf.scene import load_scene
from in2n_blender.engine.nerf.training import ASKED_EVERY, GOOD_EVERY, MOST_RETREATS, Trainer
from in2n_blender.link.requests import Reconstruct
from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.reporting import Reporter
from in2n_blender.workspace.layout import Workspace
from tests.engine.ball import TINY, dataset_of, reconstructed_ball, ring, sphere_image


def tiny_trainer(said=None, steps=600):
    cameras = ring(3)
    torch.manual_seed(0)
    dataset = dataset_of(cameras, [sphere_image(camera) for camera in cameras])
    settings = replace(TINY, rays=32)
    return Trainer(NerfModel(settings), dataset, 0, steps, log=(said if said is not None else []).append)


def spoil(trainer, monkeypatch, when, how=float("nan")):
    """Let the loss be multiplied by `how` at the steps for which `when` says so."""
    real = Trainer._losses

    def losses(self):
        photometric, loss = real(self)
        if self is trainer and when(self.step_count):
            loss = loss * how
        return photometric, loss

    monkeypatch.setattr(Trainer, "_losses", losses)


def finite(trainer):
    return all(p.isfinite().all() for p in trainer.model.parameters())


@pytest.mark.parametrize("how", [float("nan"), float("inf"), 1e30])
def test_one_bad_step_is_gone_back_from_at_half_the_rate_and_said(monkeypatch, how):
    said, spoilt = [], []
    trainer = tiny_trainer(said)
    spoil(trainer, monkeypatch, lambda step: step == 9 and not spoilt and not spoilt.append(step), how)
    while trainer.step_count < 9:
        trainer.step()
    rate = trainer.optimizer.param_groups[0]["lr"]
    trainer.step()
    assert trainer.step_count == 0 and finite(trainer) and trainer.retreats == 1
    assert len(said) == 1 and "step 9" in said[0] and "from step 0" in said[0] and "0.5" in said[0]
    while trainer.step_count < 9:
        trainer.step()
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(rate / 2)
    trainer.step()
    assert trainer.step_count == 10 and finite(trainer)


def test_it_goes_back_to_the_last_good_state_exactly(monkeypatch):
    trainer, spoilt = tiny_trainer(), []
    spoil(trainer, monkeypatch, lambda step: step == GOOD_EVERY + 3 and not spoilt and not spoilt.append(step))
    while trainer.step_count < GOOD_EVERY:
        trainer.step()
    good = {name: value.clone() for name, value in trainer.state()[0].items()}
    while not spoilt:
        trainer.step()
    now, numbers = trainer.state()
    assert numbers == {"step": GOOD_EVERY, "total_steps": 600, "retreats": 1}
    assert all(torch.equal(now[name], value) for name, value in good.items() if name != "generator")


def test_numbers_that_never_become_finite_are_one_sentence(monkeypatch):
    said = []
    trainer = tiny_trainer(said)
    spoil(trainer, monkeypatch, lambda step: step == 4)
    with pytest.raises(In2nError) as diverged:
        for _ in range(100):
            trainer.step()
    assert diverged.value.code == "diverged" and len(said) == MOST_RETREATS and finite(trainer)


def test_what_was_gone_back_from_is_still_known_when_work_is_gone_on_with(monkeypatch):
    trainer, spoilt = tiny_trainer(), []
    spoil(trainer, monkeypatch, lambda step: step == 2 and not spoilt and not spoilt.append(step))
    for _ in range(6):
        trainer.step()
    other = tiny_trainer()
    other.restore(*trainer.state())
    assert other.retreats == 1
    assert trainer.step() == other.step()
    assert trainer.optimizer.param_groups[0]["lr"] == other.optimizer.param_groups[0]["lr"]


def once(step):
    """Whether this is the first time of a step."""
    seen = []
    return lambda now: now == step and not seen and not seen.append(now)


def test_on_a_gpu_a_bad_step_changes_nothing_and_is_gone_back_from_at_the_next_look(monkeypatch):
    """Nobody waits there for a step's numbers."""
    said = []
    trainer = tiny_trainer(said)
    trainer.waits_for_no_step = True
    spoil(trainer, monkeypatch, once(5))
    for _ in range(5):
        trainer.step()
    before = {name: value.clone() for name, value in trainer._tensors().items()}
    trainer.step()
    after = trainer._tensors()
    assert all(torch.equal(after[name], value) for name, value in before.items() if name != "generator")
    while trainer.step_count < ASKED_EVERY - 1:
        trainer.step()
    assert trainer.retreats == 0 and finite(trainer) and not said
    trainer.step()
    assert (trainer.step_count, trainer.retreats, len(said)) == (0, 1, 1)
    good = tiny_trainer()
    assert all(torch.equal(a, b) for a, b in zip(trainer.model.parameters(), good.model.parameters()))


def test_a_save_waits_for_the_steps_before_it(monkeypatch):
    trainer = tiny_trainer()
    trainer.waits_for_no_step = True
    spoil(trainer, monkeypatch, once(3))
    for _ in range(4):
        trainer.step()
    assert trainer.state()[1] == {"step": 0, "total_steps": 600, "retreats": 1}
    one, other = tiny_trainer(), tiny_trainer()
    one.waits_for_no_step = True
    for _ in range(ASKED_EVERY + 2):
        one.step(), other.step()
    for ours, theirs in zip(one.state()[0].values(), other.state()[0].values()):
        assert torch.equal(ours, theirs), "good steps are the same either way"


@pytest.fixture(scope="module")
def ball(tmp_path_factory):
    return reconstructed_ball(tmp_path_factory.mktemp("ball") / "ws", ring(4))


def request_for(root, seed):
    return Reconstruct(workspace=str(root), preset="draft", device="cpu", steps=20, seed=seed, restart=True)


def test_the_job_goes_on_after_a_bad_step_and_is_done(ball, monkeypatch):
    monkeypatch.setitem(nerf_settings.CPU, "draft", TINY)
    real, spoilt, said = Trainer._losses, [], []

    def losses(self):
        photometric, loss = real(self)
        if self.step_count == 11 and not spoilt:
            spoilt.append(True)
            loss = loss * float("nan")
        return photometric, loss

    monkeypatch.setattr(Trainer, "_losses", losses)
    state = reconstruct(request_for(ball, 3), Reporter(said.append))
    assert state["done"] and state["step"] == 20 and state["retreats"] == 1
    assert any("no longer finite" in str(event) for event in said)
    assert load_scene(str(ball), None, "cpu")


def test_a_job_of_numbers_that_are_none_leaves_what_was_there(ball, monkeypatch):
    monkeypatch.setitem(nerf_settings.CPU, "draft", TINY)
    before = read_checkpoint(Workspace(ball).reconstruction)[1]
    monkeypatch.setattr(Trainer, "_losses", lambda self: (torch.tensor(float("nan")),) * 2)
    monkeypatch.setattr(torch.Tensor, "backward", lambda self: None)
    with pytest.raises(In2nError) as diverged:
        reconstruct(request_for(ball, 5), Reporter())
    assert diverged.value.code == "diverged"
    assert read_checkpoint(Workspace(ball).reconstruction)[1] == before


@pytest.mark.parametrize("key, value", [("cx", 1e308), ("fx", 1e308), ("fx", 1e-300), ("cy", -1e300)])
def test_a_capture_with_a_lens_beyond_all_sense_is_never_done(ball, tmp_path, monkeypatch, key, value):
    monkeypatch.setitem(nerf_settings.CPU, "draft", TINY)
    capture = json.loads((ball / "capture.json").read_text())
    for view in capture["views"]:
        assert key in view
        view[key] = value
    shutil.copytree(ball / "images", tmp_path / "images")
    (tmp_path / "capture.json").write_text(json.dumps(capture))
    with pytest.raises(In2nError):
        state = reconstruct(request_for(tmp_path, 1), Reporter())
        assert not state["done"]
    found = read_checkpoint(Workspace(tmp_path).reconstruction)
    assert found is None or not found[1]["done"]
