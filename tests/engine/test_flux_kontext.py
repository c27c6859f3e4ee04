"""FLUX.1 Kontext against diffusers' own pipeline, on tiny random weights."""

import pytest
import torch
from diffusers import FluxKontextPipeline

from in2n_blender.engine.diffusion.flux_kontext import FluxKontext
from in2n_blender.engine.diffusion.loading import load_editor
from tests.engine.family_checks import (
    ALL,
    INSTRUCTION,
    as_image,
    check_the_network_is_given_the_level,
    edit,
    noise_of,
    picture,
)
from tests.engine.small_models import small_kontext_folder

SIZE = (32, 48)


@pytest.fixture(scope="module")
def editor(tmp_path_factory):
    made = load_editor(str(small_kontext_folder(tmp_path_factory.mktemp("kontext"))), "cpu")
    made.prepare(INSTRUCTION)
    made.working_side = 32
    return made


@pytest.mark.parametrize("check", ALL, ids=lambda check: check.__name__)
def test_as_every_family(editor, check):
    check(editor, SIZE)


def test_the_network_is_given_the_level_as_it_is(editor, monkeypatch):
    check_the_network_is_given_the_level(editor, SIZE, monkeypatch)


def test_edit_from_pure_noise_equals_the_diffusers_pipeline(editor):
    assert isinstance(editor, FluxKontext)
    photo = picture(2, 1, *SIZE)
    pipeline = FluxKontextPipeline.from_pretrained(editor.folder)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        as_image(photo),
        INSTRUCTION,
        height=SIZE[0],
        width=SIZE[1],
        latents=editor._packed(noise_of(editor, SIZE)),
        num_inference_steps=4,
        guidance_scale=editor.guidance_text,
        max_area=SIZE[0] * SIZE[1],
        _auto_resize=False,
        output_type="pt",
    ).images
    edited = edit(editor, picture(1, 1, *SIZE), photo, 1.0, steps=4)
    assert edited.std() > 0.01
    torch.testing.assert_close(edited, expected, atol=1e-4, rtol=0)


def test_the_scale_is_told_to_the_network(editor):
    render, photo = picture(1, 1, *SIZE), picture(2, 1, *SIZE)
    before = editor.unet_evaluations
    own = edit(editor, render, photo, 0.9, steps=2)
    assert editor.unet_evaluations - before == 2, "one evaluation a step"
    assert torch.equal(own, edit(editor, render, photo, 0.9, steps=2, guidance_text=3.5))
    assert (own - edit(editor, render, photo, 0.9, steps=2, guidance_text=10.0)).abs().max() > 1e-4
