"""LongCat-Image-Edit against diffusers' own pipeline, on tiny random weights."""

import pytest
import torch
from diffusers import LongCatImageEditPipeline
from diffusers.pipelines.longcat_image import pipeline_longcat_image_edit

from in2n_blender.engine.diffusion.loading import load_editor
from in2n_blender.engine.diffusion.longcat_image_edit import LongCatImageEdit
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
from tests.engine.small_models import small_longcat_folder

SIZE = (64, 96)


@pytest.fixture(scope="module")
def editor(tmp_path_factory):
    made = load_editor(str(small_longcat_folder(tmp_path_factory.mktemp("longcat"))), "cpu")
    made.prepare(INSTRUCTION)
    made.working_side = 32
    return made


@pytest.mark.parametrize("check", ALL, ids=lambda check: check.__name__)
def test_as_every_family(editor, check):
    check(editor, SIZE)


def test_the_network_is_given_the_level_as_it_is(editor, monkeypatch):
    monkeypatch.setattr(editor, "_unconditional", lambda scale: False)
    check_the_network_is_given_the_level(editor, SIZE, monkeypatch)


def test_the_photo_is_read_at_half_of_the_size_at_which_it_is_edited(editor, monkeypatch):
    read, encode = [], editor._reader.encode_prompt
    monkeypatch.setattr(
        editor._reader, "encode_prompt", lambda texts, photo: read.append(photo.size) or encode(texts, photo)
    )
    editor._read(INSTRUCTION, as_image(picture(2, 1, *SIZE)))
    height, width = SIZE
    assert read == [(width // 2, height // 2)]


@pytest.mark.parametrize(
    "scale, evaluations, avoided", [(4.5, 8, AVOIDED), (4.5, 8, ""), (1.0, 4, "")], ids=["avoiding", "edit", "turbo"]
)
def test_edit_from_pure_noise_equals_the_diffusers_pipeline(editor, monkeypatch, scale, evaluations, avoided):
    assert isinstance(editor, LongCatImageEdit)
    monkeypatch.setattr(pipeline_longcat_image_edit, "calculate_dimensions", lambda area, ratio: SIZE[::-1])
    photo = picture(2, 1, *SIZE)
    pipeline = LongCatImageEditPipeline.from_pretrained(editor.folder)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        as_image(photo),
        INSTRUCTION,
        negative_prompt=avoided,
        latents=editor._packed(noise_of(editor, SIZE)),
        num_inference_steps=4,
        guidance_scale=scale,
        output_type="pt",
    ).images
    editor.prepare(INSTRUCTION, avoided)
    before = editor.unet_evaluations
    edited = edit(editor, picture(1, 1, *SIZE), photo, 1.0, steps=4, guidance_text=scale)
    assert edited.std() > 0.01 and editor.unet_evaluations - before == evaluations
    torch.testing.assert_close(edited, expected, atol=1e-4, rtol=0)
