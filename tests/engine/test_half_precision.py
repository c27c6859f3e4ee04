"""Every family in the half precision that it has on a GPU, on the CPU: no tensor of another width meets the networks,
and pictures stay what they are in float32."""

import pytest
import torch

from in2n_blender.engine.diffusion.loading import load_editor
from in2n_blender.engine.diffusion.network_editor import NetworkEditor
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
