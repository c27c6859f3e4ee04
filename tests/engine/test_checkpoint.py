"""Checkpoints: what is read owns its memory, and work that ends early is saved."""

import sys
from pathlib import Path

import pytest
import torch

from in2n_blender.engine.nerf.checkpoint import Saver, read_checkpoint, save_checkpoint
from in2n_blender.scene.errors import Cancelled, In2nError


@pytest.mark.skipif(sys.platform != "linux", reason="the list of memory maps is Linux's")
def test_a_read_checkpoint_leaves_no_memory_map(tmp_path):
    save_checkpoint(tmp_path, {"model.a": torch.arange(5000.0)}, {"done": False})
    tensors, _ = read_checkpoint(tmp_path)
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    assert torch.equal(tensors["model.a"], torch.arange(5000.0))


def test_read_tensors_survive_their_files_end(tmp_path):
    save_checkpoint(tmp_path, {"model.a": torch.arange(5000.0)}, {"done": False})
    tensors, _ = read_checkpoint(tmp_path)
    file = tmp_path / "checkpoint.safetensors"
    with open(file, "r+b") as overwritten:  # in place, as os.replace cannot be refused here
        overwritten.write(b"\xff" * file.stat().st_size)
    assert torch.equal(tensors["model.a"], torch.arange(5000.0))
    save_checkpoint(tmp_path, {"model.a": tensors["model.a"] + 1}, {"done": True})
    assert read_checkpoint(tmp_path)[1] == {"done": True}


@pytest.mark.parametrize("error", [Cancelled(), In2nError("no_space", "Full.", "Free some."), KeyboardInterrupt()])
def test_work_that_ends_early_is_saved_once_more(error):
    saves = []
    with pytest.raises(type(error)) as raised, Saver(lambda: saves.append(1)):
        raise error
    assert raised.value is error and saves == [1]


def test_work_that_ends_well_is_saved_by_its_owner():
    saves = []
    with Saver(lambda: saves.append(1)) as saver:
        saver.maybe()
    assert not saves


def test_a_save_that_fails_hides_no_earlier_error():
    def save():
        raise OSError("the disk is full")

    with pytest.raises(ZeroDivisionError) as raised, Saver(save):
        _ = 1 / 0
    assert "the disk is full" in "".join(raised.value.__notes__)
