"""Every family in the half precision that it has on a GPU, on the CPU: no tensor of another width meets the networks,
and pictures stay what they are in float32."""

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
