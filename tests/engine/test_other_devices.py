"""What was begun on a GPU goes on where there is none, with the sizes that it was begun with."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from in2n_blender.engine.editing.methods import _settings
from in2n_blender.engine.nerf.checkpoint import read_checkpoint, save_checkpoint
from in2n_blender.engine.nerf.reconstruction import reconstruct
from in2n_blender.engine.nerf.settings import CPU, GPU
from in2n_blender.link.requests import Edit, Reconstruct
from in2n_blender.scene.errors import Cancelled
from in2n_blender.scene.reporting import Progress, Reporter
from tests.engine.ball import TINY, photographed_ball, ring
from tests.faults.test_not_finite import tiny_trainer

LARGER = replace(TINY, rays=160, hidden=24)
FROM_CUDA = torch.arange(16, dtype=torch.uint8)  # a seed and an offset


def pretend(folder, done=None):
    """Let a checkpoint be one of a GPU's."""
    tensors, state = read_checkpoint(folder)
    if "generator" in tensors:
        tensors["generator"] = FROM_CUDA
    save_checkpoint(folder, tensors, {**state, "random": "cuda", "done": state["done"] if done is None else done})


@pytest.fixture
def request_(tmp_path, monkeypatch):
    monkeypatch.setitem(CPU, "draft", LARGER)  # made as if on the GPU
    monkeypatch.setitem(GPU, "draft", LARGER)
    return Reconstruct(
        workspace=str(photographed_ball(tmp_path / "ws", ring(3))), preset="draft", device="cpu", steps=12
    )


def interrupted_at(step, request):
    done = []

    def emit(event):
        done.append(event.done if isinstance(event, Progress) and event.unit == "step" else 0)

    with pytest.raises(Cancelled):
        reconstruct(request, Reporter(emit, lambda: max(done, default=0) >= step))


def test_an_interrupted_reconstruction_goes_on_with_its_own_sizes(request_, monkeypatch, tmp_path):
    interrupted_at(5, request_)
    folder = tmp_path / "ws" / "reconstruction"
    pretend(folder)
    before = load_file(folder / "checkpoint.safetensors")
    monkeypatch.setitem(CPU, "draft", TINY)
    said = []
    state = reconstruct(request_, Reporter(said.append))
    assert state["done"] and state["settings"] == {**LARGER.to_json(), "steps": 12} and state["step"] == 12
    assert not (tmp_path / "ws" / "earlier").exists() and not any("starts anew" in str(event) for event in said)
    after = load_file(folder / "checkpoint.safetensors")
    assert not torch.equal(before["model.field.encoding.table"], after["model.field.encoding.table"])
    assert reconstruct(request_, Reporter()) == state, "it is done, and not made anew with a CPU's sizes"


def test_the_random_numbers_are_others_and_the_same_ones_each_time():
    tensors, numbers = tiny_trainer().state()
    tensors["generator"] = FROM_CUDA
    losses = []
    for _ in range(2):
        trainer = tiny_trainer()
        trainer.restore(tensors, {**numbers, "random": "cuda"})
        losses.append(trainer.step())
    assert losses[0] == losses[1] != tiny_trainer().step()


def test_an_edit_goes_on_with_the_sizes_of_the_device_that_it_was_begun_on():
    request, cpu, cuda = Edit(workspace="w", name="a", instruction="i"), torch.device("cpu"), torch.device("cuda")
    begun = {"settings": _settings(TINY, request, cuda, {}).to_json()}
    assert _settings(TINY, request, cpu, {}).to_json() != begun["settings"]
    assert _settings(TINY, request, cpu, begun).to_json() == begun["settings"]
    on_the_cpu = {"settings": _settings(TINY, request, cpu, {}).to_json()}
    assert _settings(TINY, request, cuda, on_the_cpu).to_json() == on_the_cpu["settings"]
    other = {"settings": replace(TINY, edit_rate=77).to_json()}
    assert _settings(TINY, request, cpu, other) == _settings(TINY, request, cpu, {}), "of another preset"
