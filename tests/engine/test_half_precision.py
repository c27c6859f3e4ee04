"""Every family in the half precision that it has on a GPU, on the CPU: no tensor of another width meets the networks,
and pictures stay what they are in float32."""

from dataclasses import replace

import pytest
import torch

from in2n_blender.engine.diffusion import fewer_bits, placement
from in2n_blender.engine.diffusion.fewer_bits import FewerBits
from in2n_blender.engine.diffusion.loading import load_editor
from in2n_blender.engine.diffusion.network_editor import NetworkEditor
from in2n_blender.models import memory
from tests.engine import small_models
from tests.engine.family_checks import INSTRUCTION, edit, picture
from tests.engine.small_editor import small_editor_folder

SIZE = (64, 96)
FOLDERS = {
    "InstructPix2Pix": small_editor_folder,
    "InstructPix2Pix XL": small_models.small_sdxl_folder,
    "CosXL-Edit": lambda folder: small_models.small_sdxl_folder(folder, cosxl=True),
    "FLUX.2 klein": lambda folder: small_models.small_klein_folder(folder, is_distilled=False),
    "FLUX.1 Kontext": small_models.small_kontext_folder,
    "Qwen-Image-Edit": small_models.small_qwen_edit_folder,
    "LongCat-Image-Edit": small_models.small_longcat_folder,
}


@pytest.mark.parametrize("family", FOLDERS)
def test_edits_in_half_precision_are_nearly_those_in_single(tmp_path, monkeypatch, family):
    folder, pictures = FOLDERS[family](tmp_path), []
    for half in (False, True):
        if half:
            monkeypatch.setattr(NetworkEditor, "_dtype", lambda self: self.half)
        editor = load_editor(str(folder), "cpu")
        editor.prepare(INSTRUCTION)
        editor.working_side = 32
        assert editor.dtype == (editor.half if half else torch.float32)
        original = editor.encode_original(picture(2, 1, *SIZE))
        assert original.latent.dtype == torch.float32
        pictures.append(edit(editor, picture(1, 1, *SIZE), original, 0.7, steps=2))
    single, half = pictures
    assert half.dtype == torch.float32 and torch.isfinite(half).all()
    assert 0 < (half - single).abs().mean() < 0.03


@pytest.mark.parametrize("plan", [plan for plan in memory.PLANS if plan.offload], ids=lambda plan: plan.name)
@pytest.mark.parametrize("family", ["InstructPix2Pix XL", "FLUX.2 klein", "FLUX.1 Kontext", "Qwen-Image-Edit"])
def test_every_memory_plan_in_half_precision(tmp_path, monkeypatch, family, plan):
    """With the text encoders in fewer bits, too, which are small here and large in earnest."""
    folder, pictures = FOLDERS[family](tmp_path), []
    monkeypatch.setattr(memory, "QUANTISED_FROM", 0)
    monkeypatch.setattr(fewer_bits, "LEAST_FEATURES", 16)
    monkeypatch.setattr(fewer_bits, "BLOCK", 16)
    monkeypatch.setattr(NetworkEditor, "_dtype", lambda self: self.half)
    for chosen in (memory.PLANS[0], plan):
        monkeypatch.setattr(placement, "plan_for", lambda *given, chosen=chosen: chosen)
        editor = load_editor(str(folder), "cpu")
        editor.prepare(INSTRUCTION)
        editor.working_side = 32
        network = getattr(editor, "transformer", None) or editor.unet
        narrow = [module for module in network.modules() if isinstance(module, FewerBits)]
        assert bool(narrow) == (chosen.bits < 16) and all(module.bits == chosen.bits for module in narrow)
        pictures.append(edit(editor, picture(1, 1, *SIZE), picture(2, 1, *SIZE), 0.7, steps=2))
    assert torch.isfinite(pictures[1]).all()
    assert (pictures[1] - pictures[0]).abs().mean() < {16: 1e-6, 8: 0.02, 4: 0.1}[plan.bits]


def half_editor(tmp_path, monkeypatch, family):
    """In half precision, as on a GPU, for as long as it may be; and what it says in the log."""
    monkeypatch.setattr(NetworkEditor, "_dtype", lambda self: self.half if self.model.half_precision else torch.float32)
    editor, said = load_editor(str(FOLDERS[family](tmp_path)), "cpu"), []
    editor.model = replace(editor.model, half_precision=True)
    editor.dtype = editor._dtype()
    editor._load_networks()
    editor._log = said.append
    editor.working_side = 32
    editor.prepare(INSTRUCTION)
    return editor, said


@pytest.mark.parametrize("family", ["InstructPix2Pix", "FLUX.2 klein", "Qwen-Image-Edit"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_network_that_leaves_the_range_goes_on_in_single_precision(tmp_path, monkeypatch, family, number):
    """As GPUs do that compute float16 wrongly: it was a black photo, without a word."""
    editor, said = half_editor(tmp_path, monkeypatch, family)
    network_class = type(getattr(editor, "transformer", None) or editor.unet)
    real = network_class.forward

    def forward(self, *args, **more):
        output = real(self, *args, **more)
        if next(self.parameters()).dtype == torch.float32:
            return output
        return (torch.full_like(output[0], number), *output[1:])

    monkeypatch.setattr(network_class, "forward", forward)
    photo = picture(2, 1, *SIZE)
    edited = edit(editor, picture(1, 1, *SIZE), editor.encode_original(photo), 0.7, steps=2)
    assert torch.isfinite(edited).all() and editor.dtype == torch.float32
    assert len(said) == 1 and "range of half precision" in said[0] and "network" in said[0]
    whole = load_editor(str(editor.folder), "cpu")
    whole.working_side = 32
    whole.prepare(INSTRUCTION)
    expected = edit(whole, picture(1, 1, *SIZE), photo, 0.7, steps=2)
    assert (edited - expected).abs().mean() < 0.03, "the original was still encoded in half"
    edit(editor, picture(1, 1, *SIZE), photo, 0.7, steps=2)
    assert len(said) == 1


def test_an_autoencoder_that_leaves_the_range_goes_on_alone_in_single_precision(tmp_path, monkeypatch):
    editor, said = half_editor(tmp_path, monkeypatch, "InstructPix2Pix")
    real = type(editor.vae).decode

    def decode(self, latent, *args, **more):
        output = real(self, latent, *args, **more)
        if self.dtype == torch.float16:
            output.sample[..., 3:5, :] = float("nan")
        return output

    monkeypatch.setattr(type(editor.vae), "decode", decode)
    edited = edit(editor, picture(1, 1, *SIZE), picture(2, 1, *SIZE), 0.7, steps=2)
    assert torch.isfinite(edited).all() and editor.vae.dtype == torch.float32
    assert editor.unet.dtype == torch.float16 and "autoencoder" in said[0]


def test_where_memory_ends_the_branches_come_first_one_by_one(tmp_path, monkeypatch):
    editor, said = half_editor(tmp_path, monkeypatch, "InstructPix2Pix")
    editor.branches_together, real, sizes = True, type(editor.unet).forward, []

    def forward(self, sample, *args, **more):
        sizes.append(len(sample))
        if len(sample) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, sample, *args, **more)

    monkeypatch.setattr(type(editor.unet), "forward", forward)
    before, photo = editor.unet, picture(2, 1, *SIZE)
    edited = edit(editor, picture(1, 1, *SIZE), photo, 0.7, steps=1, guidance_text=7.5, guidance_image=1.5)
    assert sizes == [3, 1, 1, 1] and torch.isfinite(edited).all() and editor.unet is before
    assert said == ["Memory ended: from now on the branches of guidance are evaluated one by one."]
