"""Qwen-Image-Edit against diffusers' own pipeline, on tiny random weights."""

import pytest
import torch
from diffusers import QwenImageEditPlusPipeline
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus

from in2n_blender.engine.diffusion.loading import load_editor
from in2n_blender.engine.diffusion.qwen_image_edit import QwenImageEdit
from tests.engine.family_checks import (
    ALL,
    AVOIDED,
    INSTRUCTION,
    as_image,
    check_the_network_is_given_the_level,
    edit,
    noise_of,
    picture,
)
from tests.engine.small_models import small_qwen_edit_folder

SIZE = (64, 96)  # the pipeline's sizes are multiples of 32


@pytest.fixture(scope="module")
def editor(tmp_path_factory):
    made = load_editor(str(small_qwen_edit_folder(tmp_path_factory.mktemp("qwen"))), "cpu")
    made.prepare(INSTRUCTION)
    made.working_side = 32
    return made


@pytest.mark.parametrize("check", ALL, ids=lambda check: check.__name__)
def test_as_every_family(editor, check):
    check(editor, SIZE)


def test_the_network_is_given_the_level_as_it_is(editor, monkeypatch):
    monkeypatch.setattr(editor, "_unconditional", lambda scale: False)
    check_the_network_is_given_the_level(editor, SIZE, monkeypatch)


@pytest.mark.parametrize("scale, evaluations, avoided", [(4.0, 8, AVOIDED), (4.0, 8, " "), (1.0, 4, " ")])
def test_edit_from_pure_noise_equals_the_diffusers_pipeline(editor, monkeypatch, scale, evaluations, avoided):
    assert isinstance(editor, QwenImageEdit)
    monkeypatch.setattr(pipeline_qwenimage_edit_plus, "VAE_IMAGE_SIZE", SIZE[0] * SIZE[1])
    photo = picture(2, 1, *SIZE)
    pipeline = QwenImageEditPlusPipeline.from_pretrained(editor.folder)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        [as_image(photo)],
        INSTRUCTION,
        negative_prompt=avoided,
        height=SIZE[0],
        width=SIZE[1],
        latents=editor._packed(noise_of(editor, SIZE)),
        num_inference_steps=4,
        true_cfg_scale=scale,
        output_type="pt",
    ).images
    editor.prepare(INSTRUCTION, avoided)
    before = editor.unet_evaluations
    edited = edit(editor, picture(1, 1, *SIZE), photo, 1.0, steps=4, guidance_text=scale)
    assert edited.std() > 0.01 and editor.unet_evaluations - before == evaluations
    torch.testing.assert_close(edited, expected, atol=1e-4, rtol=0)


def test_the_transformer_fits_its_own_autoencoder_alone(editor):
    assert [channels for channels in range(1, 40) if editor._fits(channels)] == [editor.vae.config.z_dim]


def test_each_tokens_guided_velocity_is_as_long_as_that_of_the_text(editor):
    """Its direction is that of guidance; tokens that are guided more do not become brighter."""
    generator = torch.Generator().manual_seed(0)
    text, nothing = torch.randn(2, 1, 5, 8, generator=generator)
    text[:, 2] *= 10
    guided, wanted = editor._combined(text, nothing, 4.0), nothing + 4.0 * (text - nothing)
    torch.testing.assert_close(guided.norm(dim=-1), text.norm(dim=-1))
    assert torch.allclose(torch.cosine_similarity(guided, wanted, dim=-1), torch.ones(1, 5))


def test_each_photo_is_read_once(editor, monkeypatch):
    read, reader = [], editor._read
    monkeypatch.setattr(editor, "_read", lambda text, photo: (read.append(text), reader(text, photo))[1])
    editor.prepare("turn it to gold")
    photos = picture(5, 2, *SIZE)
    for _ in range(2):
        edit(editor, picture(1, 2, *SIZE), photos, 0.5, (0, 1), steps=1)
    assert read == ["turn it to gold", " "] * 2
    editor.prepare(INSTRUCTION)
    edit(editor, picture(1, 1, *SIZE), photos[:1], 0.5, steps=1, guidance_text=1.0)
    assert read[4:] == [INSTRUCTION], "another instruction is read anew, and without guidance nothing beside it"
