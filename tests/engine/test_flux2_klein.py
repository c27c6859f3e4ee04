"""FLUX.2 klein against diffusers' own pipeline, on tiny random weights."""

import pytest
import torch
from diffusers import Flux2KleinPipeline

from in2n_blender.engine.diffusion.flux2_klein import Flux2Klein
from in2n_blender.engine.diffusion.loading import load_editor
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
from tests.engine.small_models import small_klein_folder

SIZE = (64, 96)  # the pipeline refuses smaller pictures


@pytest.fixture(scope="module", params=[True, False], ids=["distilled", "base"])
def editor(request, tmp_path_factory):
    made = load_editor(str(small_klein_folder(tmp_path_factory.mktemp("klein"), request.param)), "cpu")
    made.prepare(INSTRUCTION)
    made.working_side = 32
    return made


@pytest.mark.parametrize("check", ALL, ids=lambda check: check.__name__)
def test_as_every_family(editor, check):
    check(editor, SIZE)


def test_the_network_is_given_the_level_as_it_is(editor, monkeypatch):
    monkeypatch.setattr(editor, "_unconditional", lambda scale: False)
    check_the_network_is_given_the_level(editor, SIZE, monkeypatch)


@pytest.mark.parametrize("avoided", [AVOIDED, ""])
def test_edit_from_pure_noise_equals_the_diffusers_pipeline(editor, avoided):
    assert isinstance(editor, Flux2Klein)
    photo, scale = picture(2, 1, *SIZE), editor.guidance_text
    editor.prepare(INSTRUCTION, avoided)
    pipeline = Flux2KleinPipeline.from_pretrained(editor.folder)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        as_image(photo),
        INSTRUCTION,
        negative_prompt_embeds=pipeline.encode_prompt(avoided)[0],
        height=SIZE[0],
        width=SIZE[1],
        latents=noise_of(editor, SIZE),
        num_inference_steps=4,
        guidance_scale=scale or 3.0,
        output_type="pt",
    ).images
    before = editor.unet_evaluations
    edited = edit(editor, picture(1, 1, *SIZE), photo, 1.0, steps=4)
    assert edited.std() > 0.01 and editor.unet_evaluations - before == (4 if scale is None else 8)
    torch.testing.assert_close(edited, expected, atol=1e-4, rtol=0)
