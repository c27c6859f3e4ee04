"""What InstructPix2Pix's network is given, evaluation by evaluation, and what guidance becomes without a choice."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from in2n_blender.engine.diffusion import placement
from in2n_blender.engine.diffusion.editor import Editor, noise_generator
from in2n_blender.engine.diffusion.instruct_pix2pix import InstructPix2Pix
from in2n_blender.engine.diffusion.loading import load_editor
from in2n_blender.engine.diffusion.network_editor import NetworkEditor
from in2n_blender.models import memory
from in2n_blender.scene.reporting import Reporter
from tests.engine.recording_editor import RecordingEditor
from tests.engine.small_editor import small_editor_folder
from tests.engine.test_instruct_pix2pix import picture

INSTRUCTION = "make it snow"


@pytest.fixture(scope="module")
def editor(tmp_path_factory):
    made = load_editor(str(small_editor_folder(tmp_path_factory.mktemp("editor"))), "cpu")
    made.prepare(INSTRUCTION)
    made.working_side = 32
    return made


@pytest.fixture
def evaluations(editor, monkeypatch):
    """(latent, condition, timestep, prompt) of every evaluation of the network, whose prediction is 0."""
    found, channels = [], editor.vae.config.latent_channels

    class Network(torch.nn.Module):
        config = editor.unet.config

        def forward(self, inputs, timesteps, encoder_hidden_states, return_dict):
            for index in range(len(inputs)):
                latent, condition = inputs[index].split(channels)
                found.append((latent, condition, int(timesteps[index]), encoder_hidden_states[index]))
            return (torch.zeros_like(inputs[:, :channels]),)

    monkeypatch.setattr(editor, "unet", Network())
    return found


def posterior(editor, image):
    with torch.no_grad():
        return editor.vae.encode(image * 2 - 1).latent_dist


def alphas():
    """Stable Diffusion's products of 1 - beta over its 1000 timesteps."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0)


def test_the_renders_latent_is_noised_and_the_photos_conditions_unscaled(editor, evaluations):
    """A sample of the render's posterior, scaled, goes in at the timestep of its level; beside it the photo's mode."""
    render, photo = picture(1), picture(2)
    edited = editor.edit(render, photo, noise_level=0.6, generators=[noise_generator(3, 4, 5)])
    generator = noise_generator(3, 4, 5)
    of_render, condition = posterior(editor, render), posterior(editor, photo).mode()[0]
    sample = of_render.mean + of_render.std * torch.randn(of_render.mean.shape[1:], generator=generator)
    noise = torch.randn(of_render.mean.shape[1:], generator=generator)
    alpha = float(alphas()[599])
    noisy = alpha**0.5 * 0.18215 * sample + (1 - alpha) ** 0.5 * noise

    steps = [599 - 30 * index for index in range(20)]
    assert [timestep for _, _, timestep, _ in evaluations] == [step for step in steps for _ in range(3)]
    instruction, nothing = editor._text
    assert not torch.equal(instruction, nothing)
    for index in range(0, 60, 3):
        with_both, with_photo, with_neither = evaluations[index : index + 3]
        assert torch.equal(with_both[0], with_photo[0]) and torch.equal(with_both[0], with_neither[0])
        assert torch.allclose(with_both[1], condition, atol=1e-5) and torch.equal(with_both[1], with_photo[1])
        assert not with_neither[1].any() and condition.abs().max() > 0.01
        assert torch.equal(with_both[3], instruction)
        assert torch.equal(with_photo[3], nothing) and torch.equal(with_neither[3], nothing)
    torch.testing.assert_close(evaluations[0][0], noisy[0], atol=1e-4, rtol=0)
    # Noise that is predicted to be 0 leaves the latent divided by the signal that is in it.
    clean = noisy / alpha**0.5 * float(alphas()[0]) ** 0.5
    with torch.no_grad():
        decoded = editor.vae.decode(clean / 0.18215).sample / 2 + 0.5
    torch.testing.assert_close(edited, decoded.clamp(0, 1), atol=1e-3, rtol=0)


def test_from_pure_noise_nothing_of_the_render_goes_in(editor, evaluations):
    inputs = []
    for seed in (1, 2):
        evaluations.clear()
        editor.edit(picture(seed), picture(3), noise_level=1.0, generators=[noise_generator(0, 0, 0)], steps=4)
        inputs.append(evaluations[0][0])
    assert torch.equal(*inputs) and 0.8 < float(inputs[0].std()) < 1.2


def test_without_a_choice_the_models_own_guidance_counts(tmp_path):
    folder = small_editor_folder(tmp_path)
    (folder / "miniature.json").write_text(
        json.dumps({"instructions": [{"phrases": [INSTRUCTION]}], "guidance_text": 2.0, "guidance_image": 1.25})
    )
    editor = load_editor(str(folder), "cpu")
    editor.prepare(INSTRUCTION)

    def edit(**guidance):
        return editor.edit(
            picture(1), picture(2), noise_level=0.9, generators=[noise_generator(0, 0, 0)], steps=2, **guidance
        )

    def gradient(**guidance):
        render = picture(1).requires_grad_()
        loss = editor.distillation_loss(
            render, picture(2), noise_level=0.5, generators=[noise_generator(0, 0, 0)], **guidance
        )
        return torch.autograd.grad(loss, render)[0]

    for result in (edit, gradient):
        own = result()
        assert torch.equal(own, result(guidance_text=2.0, guidance_image=1.25))
        assert torch.equal(result(guidance_text=4.0), result(guidance_text=4.0, guidance_image=1.25))
        assert torch.equal(result(guidance_image=0.0), result(guidance_text=2.0, guidance_image=0.0))
        scale = own.abs().max()
        for other in ({"guidance_text": 4.0}, {"guidance_image": 0.0}, {"guidance_text": 0.0}):
            assert (result(**other) - own).abs().max() > 1e-3 * scale


def test_the_noise_of_an_edit_stays_the_same_from_version_to_version():
    """An edit that was begun goes on with it: what its generators are seeded with is numpy's, halved into 63 bits."""
    for place in ((0, 0, 0), (3, 5, 2), (2**40, 1, 0)):
        (state,) = np.random.SeedSequence(place).generate_state(1, np.uint64)
        assert noise_generator(*place).initial_seed() == int(state) // 2


@pytest.mark.parametrize("trained, side", [(24, 48), ((30, 20), 40), (None, 128)])
def test_images_are_enlarged_to_what_the_network_was_trained_on_at_most(tmp_path, trained, side):
    made = load_editor(str(small_editor_folder(tmp_path)), "cpu")
    assert made.working_side == made.unet.config.sample_size * 2, "a pixel of its latent is two of the photo"
    made.unet = SimpleNamespace(config=SimpleNamespace(sample_size=trained))
    assert made._trained_side(2) == side


def test_what_an_editor_need_not_say_of_itself():
    """That it takes one view at a time, and that it has evaluated nothing yet."""
    assert RecordingEditor().views_at_once((8, 8)) == 1 and Editor.unet_evaluations == 0


@pytest.mark.parametrize("device, said", [("cpu", 0), ("cuda", 1)])
def test_how_a_model_is_kept_is_said_of_a_gpu_alone(tmp_path, monkeypatch, device, said):
    made, log = [], []
    monkeypatch.setattr(InstructPix2Pix, "__init__", lambda self, *given: made.append(given))
    monkeypatch.setattr(placement, "free_mb", lambda device: 10_000)
    report = Reporter(lambda event: log.append(event) if isinstance(event, str) else None)
    load_editor(str(small_editor_folder(tmp_path)), device, report)
    ((model, _, on, plan, _),) = made
    assert on == torch.device(device) and log == [f"{memory.in_words(model, plan)}."][:said]
    assert plan == (memory.choose(model, 10_000) if said else memory.FULL)


def test_what_the_autoencoder_makes_of_a_latent_is_a_picture(editor, monkeypatch):
    """It may overshoot."""
    decoded = torch.tensor([-0.5, 0.0, 0.25, 1.0, 1.5]).expand(1, 3, 4, 5)
    monkeypatch.setattr(editor, "_decode_to_size", lambda *given: decoded)
    edited = editor.edit(picture(1), picture(2), noise_level=0.5, generators=[noise_generator(0, 0, 0)], steps=1)
    assert torch.equal(edited, decoded.clamp(0, 1))


def test_no_weight_is_learnt(tmp_path, monkeypatch):
    encoders, load = [], NetworkEditor._text_encoder
    monkeypatch.setattr(NetworkEditor, "_text_encoder", lambda *given: encoders.append(load(*given)) or encoders[-1])
    editor = load_editor(str(small_editor_folder(tmp_path)), "cpu")
    editor.prepare(INSTRUCTION)
    for network in (editor.unet, editor.vae, *encoders):
        assert not network.training and not any(weight.requires_grad for weight in network.parameters())
    assert encoders


def test_an_editor_keeps_to_the_plan_that_it_is_given(tmp_path):
    folder = small_editor_folder(tmp_path)
    model, plan = load_editor(str(folder), "cpu").model, next(plan for plan in memory.PLANS if plan.offload)
    assert InstructPix2Pix(model, folder, torch.device("cpu"), plan).placement.plan is plan
    assert InstructPix2Pix(model, folder, torch.device("cpu")).placement.plan is memory.FULL


def test_the_network_sees_latents_that_it_can_halve_as_often_as_it_does(editor, evaluations):
    """Of a photo whose sides are no multiples of anything; its edit has its size."""
    photo = torch.rand(1, 3, 38, 51, generator=torch.Generator().manual_seed(0))
    edited = editor.edit(photo, photo, noise_level=0.5, generators=[noise_generator(0, 0, 0)], steps=1)
    height, width = evaluations[0][0].shape[-2:]
    halvings = len(editor.unet.config.block_out_channels) - 1
    assert halvings and height % 2**halvings == 0 and width % 2**halvings == 0
    assert height * 2 >= 38 > (height - 2) * 2 and width * 2 >= 51 > (width - 2) * 2, "and no larger than that takes"
    assert edited.shape == photo.shape
