"""A worker keeps the model of its last job for the next one, and leaves the GPU to others meanwhile."""

import io
import json
import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from in2n_blender.engine import kept as kept_module
from in2n_blender.engine import worker as worker_module
from in2n_blender.engine.diffusion import loading, network_editor
from in2n_blender.engine.diffusion.loading import load_editor
from in2n_blender.engine.kept import Kept
from in2n_blender.engine.worker import Worker
from in2n_blender.scene.reporting import Reporter
from tests.engine.family_checks import INSTRUCTION, edit, picture
from tests.engine.small_editor import small_editor_folder
from tests.engine.small_models import small_qwen_edit_folder

SIZE = (32, 48)


@pytest.fixture
def kept(monkeypatch):
    """What a worker keeps, of this test alone."""
    kept = Kept(wanted=True)
    monkeypatch.setattr(loading, "KEPT", kept)
    return kept


@pytest.mark.parametrize("make", [small_editor_folder, small_qwen_edit_folder])
def test_the_next_job_finds_it_as_if_it_were_new(tmp_path, kept, monkeypatch, make):
    folder = str(make(tmp_path / "model"))
    first = load_editor(folder, "cpu")
    first.prepare(INSTRUCTION)
    first.working_side = 32
    expected = edit(first, picture(1, 1, *SIZE), picture(2, 1, *SIZE), 0.7, steps=1)
    assert first.unet_evaluations > 0
    moved, to = [], nn.Module.to
    with monkeypatch.context() as patch:
        patch.setattr(nn.Module, "to", lambda self, *where, **more: (moved.append(where), to(self, *where, **more))[1])
        kept.job_ended()
    assert kept.model is first and moved and set(moved) == {("cpu",)}, "the GPU is left to others"
    said = []
    again = load_editor(folder, "cpu", Reporter(said.append))
    assert again is first and again.unet_evaluations == 0
    again.prepare("another one")
    again.prepare(INSTRUCTION)
    assert torch.equal(edit(again, picture(1, 1, *SIZE), picture(2, 1, *SIZE), 0.7, steps=1), expected)
    again._log("heard")
    assert said == ["heard"], "it tells the new job"


def test_another_model_or_plan_is_another_and_only_one_is_kept(tmp_path, kept):
    one, other = (str(small_editor_folder(tmp_path / name)) for name in ("one", "other"))
    first = load_editor(one, "cpu")
    assert load_editor(one, "cpu") is first and load_editor(one, "cpu", None, "offload") is not first
    second = load_editor(other, "cpu")
    assert second is not first and kept.model is second
    (tmp_path / "other" / "unet" / "config.json").write_text(
        (tmp_path / "other" / "unet" / "config.json").read_text() + "\n"
    )
    assert load_editor(other, "cpu") is not second, "its files have changed"


def test_where_memory_is_scarce_or_the_device_failed_nothing_is_kept(tmp_path, kept, monkeypatch):
    folder = str(small_editor_folder(tmp_path / "model"))
    first = load_editor(folder, "cpu")
    scarce = SimpleNamespace(virtual_memory=lambda: SimpleNamespace(available=1000))
    monkeypatch.setattr(network_editor, "psutil", scarce)
    kept.job_ended()
    assert kept.model is None and load_editor(folder, "cpu") is not first
    kept.rest = lambda: 1 / 0
    kept.job_ended()
    assert kept.model is None


def test_outside_of_a_worker_nothing_is_kept(tmp_path):
    folder = str(small_editor_folder(tmp_path / "model"))
    assert kept_module.KEPT.wanted is False
    assert load_editor(folder, "cpu") is not load_editor(folder, "cpu") and kept_module.KEPT.model is None


def test_the_worker_lets_it_rest_after_every_job_that_works_in_a_workspace(monkeypatch):
    kept, rested = Kept(wanted=True), []
    kept.keep("key", "model", lambda: rested.append(True) or True)
    monkeypatch.setattr(worker_module, "KEPT", kept)
    monkeypatch.setattr(Worker, "_exit_hard_later", lambda self: None)  # it would end these tests
    out = io.StringIO()

    def lines():
        yield json.dumps({"jsonrpc": "2.0", "id": 1, "method": "devices", "params": {}})
        while not out.getvalue():  # the end of what is asked for would cancel it
            time.sleep(0.01)

    Worker(lines(), out, {"devices": lambda request, report: {"devices": []}}).serve()
    assert json.loads(out.getvalue().splitlines()[0])["result"] == {"devices": []}
    assert rested == [True] and kept.model == "model"
