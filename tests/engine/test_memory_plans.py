"""What memory plans do to networks, and what happens when memory ends: on the CPU, with tiny models."""

import numpy as np
import pytest
import torch
from torch import nn

from in2n_blender.engine.diffusion import fewer_bits, network_editor, placement
from in2n_blender.engine.diffusion.fewer_bits import FewerBits, normal_codes
from in2n_blender.engine.diffusion.flux2_klein import Flux2Klein
from in2n_blender.engine.diffusion.loading import load_editor
from in2n_blender.models import catalogue, memory
from in2n_blender.models.memory import PLANS
from in2n_blender.scene.reporting import Reporter
from tests.engine.family_checks import INSTRUCTION, edit, picture
from tests.engine.small_models import small_klein_folder, small_qwen_edit_folder

SIZE, CPU = (64, 96), torch.device("cpu")
OFFLOAD = next(plan for plan in PLANS if plan.name == "offload")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_klein_folder(tmp_path_factory.mktemp("klein"), is_distilled=False)


def klein(folder, plan=memory.FULL, log=lambda text: None):
    made = Flux2Klein(catalogue.find(str(folder)), folder, CPU, plan, log)
    made.prepare(INSTRUCTION)
    made.working_side = 32
    return made


def an_edit(editor, seed=0):
    return edit(editor, picture(1, 1, *SIZE), picture(2, 1, *SIZE), 0.8, (seed,), steps=2)


def test_the_plan_is_chosen_by_free_memory(monkeypatch):
    monkeypatch.setattr(placement, "free_mb", lambda device: 8 * 1024)
    cuda = torch.device("cuda")
    assert placement.plan_for(catalogue.KLEIN, cuda).name == "8-bit"
    assert placement.plan_for(catalogue.KLEIN, cuda, "offload") == OFFLOAD
    assert placement.plan_for(catalogue.KLEIN, CPU) == memory.FULL


def test_free_is_what_the_driver_says_and_what_torch_holds_without_use(monkeypatch):
    held = {"mem_get_info": (300 * 2**20, 10**12), "memory_reserved": 200 * 2**20, "memory_allocated": 50 * 2**20}
    for name, value in held.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert placement.free_mb(torch.device("cuda")) == 450


def test_a_gpu_edits_as_many_views_at_once_as_half_of_its_free_memory_holds(folder, monkeypatch):
    editor = klein(folder)
    assert editor.views_at_once(SIZE) == 1
    padded = editor._working_size(SIZE).padded
    free = 2 * 3 * network_editor.BYTES_A_PIXEL * padded[0] * padded[1]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**12))
    editor.device = torch.device("cuda")
    assert editor.views_at_once(SIZE) == 3


def test_every_layer_of_a_network_asks_whether_the_job_was_cancelled(folder):
    editor, asked = klein(folder), []
    network = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), nn.Linear(2, 2)))
    editor._ask_in(network)
    editor._report = Reporter(cancelled=lambda: bool(asked.append(network)))
    network(torch.ones(1, 2))
    assert len(asked) == 3


def test_offloaded_the_edit_is_the_same_and_one_network_at_a_time_is_on_the_device(folder, monkeypatch):
    at_work, moves, to = [], [], nn.Module.to

    def moved(module, *args, **kwargs):
        moves.append((id(module), str(args[0]) if args else ""))
        return to(module, *args, **kwargs)

    expected = an_edit(klein(folder))
    # The device is called "cpu:0", which torch takes for another device than "cpu" and computes on all the same.
    monkeypatch.setattr(placement.Placement, "__init__", on_another_cpu(placement.Placement.__init__))
    monkeypatch.setattr(nn.Module, "to", moved)
    editor = klein(folder, OFFLOAD)
    for network in (editor.transformer, editor.vae):
        network.register_forward_pre_hook(lambda module, inputs: at_work.append(id(module)))
    torch.testing.assert_close(an_edit(editor), expected, atol=1e-5, rtol=0)
    assert len(editor.placement._networks) == 2, "the text encoder is let go of"
    assert {id(editor.transformer), id(editor.vae)} <= {module for module, where in moves if where == "cpu"}
    assert id(editor.transformer) in at_work


def on_another_cpu(init):
    def changed(self, device, plan):
        init(self, torch.device("cpu:0"), plan)

    return changed


def test_bringing_one_network_takes_the_others_away():
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    place = placement.Placement(torch.device("meta"), OFFLOAD)  # a device that can be told from the CPU
    hooks = [place.put(network)._hf_hook for network in (first, second)]
    devices = lambda: [next(network.parameters()).device.type for network in (first, second)]
    assert devices() == ["cpu", "cpu"]
    hooks[0].pre_forward(first, torch.ones(1, 2))
    assert devices() == ["meta", "cpu"]
    first.to_empty(device="meta")
    first.to = lambda device: first.to_empty(device=device)  # meta tensors cannot be copied back
    hooks[1].pre_forward(second, torch.ones(1, 2))
    assert devices() == ["cpu", "meta"]
    place.forget([first])
    assert place._networks == [second]


@pytest.mark.parametrize("bits, near", [(8, 0.02), (4, 0.15)])
def test_weights_of_fewer_bits_are_smaller_and_compute_nearly_the_same(monkeypatch, bits, near):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(128, 256), nn.GELU(), nn.Sequential(nn.Linear(256, 64), nn.Linear(64, 8)))
    inputs, place = torch.randn(5, 128), placement.Placement(CPU, memory.Plan("8-bit", bits))
    expected = network(inputs)
    place.put(network)
    assert torch.equal(network(inputs), expected), "small networks gain nothing"
    monkeypatch.setattr(memory, "QUANTISED_FROM", 0)
    place.put(network, large=False)
    assert torch.equal(network(inputs), expected)
    place.put(network)
    first = network[0]
    kept = sum(buffer.numel() * buffer.element_size() for buffer in first.buffers())
    scales = {8: 256, 4: 256 * 2 + len(normal_codes())}  # of rows; of blocks, and what the codes stand for
    assert kept == 128 * 256 * bits // 8 + 4 * scales[bits] < 128 * 256 * memory.BYTES[bits]
    assert network[2][1].weight.dtype == torch.float32, "of so few features"
    difference = (network(inputs) - expected).abs().max() / expected.abs().max()
    assert 0 < difference < near


def test_the_four_bits_are_nf4_of_the_paper():
    """Its values as printed in QLoRA, appendix E."""
    printed = "-1 -0.6962 -0.5251 -0.3949 -0.2844 -0.1848 -0.0911 0 0.0796 0.1609 0.2461 0.3379 0.4407 0.5626 0.7230 1"
    np.testing.assert_allclose(normal_codes(), [float(value) for value in printed.split()], atol=1e-4)
    layer = nn.Linear(64, 64, bias=False)
    layer.weight.data = (normal_codes().repeat(4) * torch.linspace(0.1, 3, 64)[:, None]).float()
    torch.testing.assert_close(FewerBits(layer, 4).weight, layer.weight.data)  # exactly representable
    torch.testing.assert_close(FewerBits(layer, 8).weight, layer.weight.data, atol=3 / 254 + 1e-6, rtol=0)


def test_an_edit_in_fewer_bits_is_nearly_the_same(folder, monkeypatch):
    monkeypatch.setattr(memory, "QUANTISED_FROM", 0)
    monkeypatch.setattr(fewer_bits, "LEAST_FEATURES", 16)
    expected = an_edit(klein(folder))
    edited = an_edit(klein(folder, memory.Plan("8-bit", 8)))
    assert 0 < (edited - expected).abs().mean() < 0.01


def test_tiles_change_little(folder):
    whole, tiled = klein(folder), klein(folder, memory.Plan("whole", 32, tiles=True))
    assert tiled.vae.use_tiling and tiled.vae.tile_sample_min_size == placement.TILE
    assert tiled.vae.tile_latent_min_size == placement.TILE // tiled._latent_factor
    assert torch.equal(an_edit(whole), an_edit(tiled)), "one tile"


def test_no_part_of_the_autoencoder_sees_more_than_a_tile(folder, monkeypatch):
    monkeypatch.setattr(placement, "TILE", 32)
    editor, seen = klein(folder, memory.Plan("whole", 32, tiles=True)), []
    for part in (editor.vae.encoder, editor.vae.decoder):
        part.register_forward_pre_hook(lambda network, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    latent = editor._posterior(picture(1, 1, *SIZE)).mode()
    assert max(map(max, seen)) == 32 and len(seen) > 1
    seen.clear()
    assert editor._decode(editor._scaled(latent)).shape[-2:] == SIZE
    assert max(map(max, seen)) == 32 // editor._latent_factor and len(seen) > 1


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_when_memory_ends_the_next_smaller_plan_goes_on_with_the_same_noise(folder, monkeypatch, error):
    expected, said = an_edit(klein(folder)), []
    editor = klein(folder, memory.FULL, said.append)
    first = editor.transformer

    def end(**given):
        raise error

    monkeypatch.setattr(first, "forward", end)
    edited = an_edit(editor)
    torch.testing.assert_close(edited, expected, atol=1e-5, rtol=0)
    assert editor.transformer is not first and editor.placement.plan.tiles
    assert len(said) == 1 and said[0].startswith("Memory ended. ") and "in tiles" in said[0]


def test_when_the_smallest_plan_takes_too_much_it_is_said(folder, monkeypatch):
    editor = klein(folder, memory.Plan("whole", 32, tiles=True))
    monkeypatch.setattr(editor, "_velocity", lambda *given: (_ for _ in ()).throw(torch.OutOfMemoryError("ended")))
    with pytest.raises(torch.OutOfMemoryError):
        an_edit(editor)


def test_a_batch_is_the_callers_to_divide(folder, monkeypatch):
    editor = klein(folder)
    monkeypatch.setattr(editor, "_velocity", lambda *given: (_ for _ in ()).throw(torch.OutOfMemoryError("ended")))
    with pytest.raises(torch.OutOfMemoryError):
        edit(editor, picture(1, 2, *SIZE), picture(2, 2, *SIZE), 0.8, (0, 1), steps=2)
    assert editor.placement.plan == memory.FULL


def test_other_errors_change_no_plan(folder, monkeypatch):
    editor = klein(folder)
    monkeypatch.setattr(editor, "_velocity", lambda *given: (_ for _ in ()).throw(ValueError("x")))
    with pytest.raises(ValueError):
        an_edit(editor)
    assert editor.placement.plan == memory.FULL


def test_a_reader_of_photos_comes_back_after_memory_has_ended(tmp_path, monkeypatch):
    editor = load_editor(str(small_qwen_edit_folder(tmp_path)), "cpu")
    editor.prepare(INSTRUCTION)
    editor.working_side = 32
    expected, read, ended = an_edit(editor), editor._read, []

    def end_once(text, photo):
        if not ended:
            ended.append(text)
            raise torch.OutOfMemoryError("ended")
        return read(text, photo)

    monkeypatch.setattr(editor, "_read", end_once)
    editor.prepare(INSTRUCTION)  # what was read is forgotten
    torch.testing.assert_close(an_edit(editor), expected, atol=1e-5, rtol=0)
    assert ended and editor.placement.plan.tiles


def test_the_plan_is_said_before_anything_is_loaded(folder, monkeypatch):
    said, built = [], []
    monkeypatch.setattr(placement, "free_mb", lambda device: 12 * 1024)

    def built_with(model, folder, device, plan, log):
        built.append((plan.name, list(said)))

    monkeypatch.setattr(network_editor.NetworkEditor, "__init__", lambda self, *given: built_with(*given))
    load_editor(str(folder), "cuda", Reporter(said.append))
    load_editor(str(folder), "cuda", Reporter(said.append), "4-bit")
    assert [name for name, _ in built] == ["offload", "4-bit"]
    assert built[0][1] == said[:1] and "16-bit, offloaded, about 9 GB" in said[0] and "4-bit" in said[1]
