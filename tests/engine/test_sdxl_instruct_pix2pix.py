"""InstructPix2Pix on SDXL, and CosXL-Edit: against diffusers' own pipeline, on tiny random weights."""

import json

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EDMEulerScheduler, StableDiffusionXLInstructPix2PixPipeline

from in2n_blender.engine.diffusion.editor import noise_generator
from in2n_blender.engine.diffusion.edm_schedule import EdmSchedule, schedule_of
from in2n_blender.engine.diffusion.loading import load_editor
from in2n_blender.engine.diffusion.reading import UnfitFiles
from in2n_blender.engine.diffusion.schedules import NoiseSchedule
from in2n_blender.engine.diffusion.sdxl_instruct_pix2pix import SdxlInstructPix2Pix
from tests.engine.family_checks import ALL, AVOIDED, INSTRUCTION, edit, noise_of, picture
from tests.engine.small_models import small_sdxl_folder

SIZE = (32, 48)


@pytest.fixture(scope="module", params=[False, True], ids=["sdxl", "cosxl"])
def editor(request, tmp_path_factory):
    made = load_editor(str(small_sdxl_folder(tmp_path_factory.mktemp("sdxl"), cosxl=request.param)), "cpu")
    made.prepare(INSTRUCTION)
    return made


@pytest.mark.parametrize("check", ALL, ids=lambda check: check.__name__)
def test_as_every_family(editor, check):
    check(editor, SIZE)


@pytest.mark.parametrize("avoided", [AVOIDED, None])
def test_edit_from_pure_noise_equals_the_diffusers_pipeline(editor, avoided):
    assert isinstance(editor, SdxlInstructPix2Pix)
    photo = picture(2, 1, *SIZE)
    pipeline = StableDiffusionXLInstructPix2PixPipeline.from_pretrained(
        editor.folder, is_cosxl_edit=editor.is_cosxl, add_watermarker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        INSTRUCTION,
        image=photo,
        height=SIZE[0],
        width=SIZE[1],
        latents=noise_of(editor, SIZE),
        num_inference_steps=5,
        guidance_scale=5.0,
        image_guidance_scale=1.5,
        negative_prompt=avoided,
        output_type="pt",
    ).images
    editor.prepare(INSTRUCTION, avoided or "")
    edited = edit(editor, picture(1, 1, *SIZE), photo, 1.0, steps=5, guidance_text=5.0, guidance_image=1.5)
    assert edited.std() > 0.01
    torch.testing.assert_close(edited, expected, atol=1e-4, rtol=0)


def test_the_network_is_given_the_levels_sigma(editor, monkeypatch):
    """At level 0.6 the first evaluation is at that level, and of a latent with as much noise."""
    found = []
    forward = editor.unet.forward
    monkeypatch.setattr(editor.unet, "forward", lambda x, t, **more: (found.append((x, t)), forward(x, t, **more))[1])
    render, photo = picture(1, 1, *SIZE), picture(2, 1, *SIZE)
    edit(editor, render, photo, 0.6, steps=3, guidance_text=1.0, guidance_image=1.0)
    assert len(found) == 3
    inputs, time = found[0]
    if isinstance(editor.schedule, EdmSchedule):
        sigma = float(np.exp(np.log(0.002) + 0.6 * np.log(120 / 0.002)))
        assert float(time) == pytest.approx(np.log(sigma) / 4, abs=1e-6)
        scale = 1 / np.hypot(sigma, 1)
        signal, noise = scale, scale * sigma
    else:
        assert int(time) == 599
        alpha = float(editor.schedule.alphas_cumprod[599])
        signal, noise = alpha**0.5, (1 - alpha) ** 0.5
    clean = editor._sample_latent(render, [noise_generator(0, 0, 0)])
    torch.testing.assert_close(inputs[:, :4], signal * clean + noise * noise_of(editor, SIZE), atol=1e-5, rtol=0)


@pytest.mark.parametrize("spacing", ["karras", "exponential"])
def test_edm_sigmas_and_steps_are_those_of_diffusers(tmp_path, spacing):
    scheduler = EDMEulerScheduler(sigma_schedule=spacing, sigma_data=1.0, prediction_type="v_prediction")
    scheduler.save_pretrained(tmp_path)
    schedule = EdmSchedule.from_folder(tmp_path)
    for steps in (2, 6, 20):  # diffusers' one exponential step would begin at the smallest sigma
        scheduler.set_timesteps(steps)
        sigmas = schedule.timesteps(1.0, steps)
        np.testing.assert_allclose(sigmas, scheduler.sigmas[:-1].numpy(), rtol=1e-4)
        np.testing.assert_allclose(schedule.network_time(torch.from_numpy(sigmas)), scheduler.timesteps, atol=1e-4)
    assert schedule.timesteps(0.5, 4)[0] == pytest.approx(schedule.timesteps(1.0, 3)[1])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_edm_scales_what_goes_in_and_what_comes_out_as_diffusers(tmp_path, prediction):
    scheduler = EDMEulerScheduler(sigma_data=0.5, prediction_type=prediction)
    scheduler.save_pretrained(tmp_path)
    schedule, sigmas = EdmSchedule.from_folder(tmp_path), [7.0, 0.3]
    sample, output = torch.randn(2, 2, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    inputs = schedule.network_input(sample, torch.tensor(sigmas))
    clean, noise = schedule.split(output, sample, sigmas)
    for image, sigma in enumerate(sigmas):
        torch.testing.assert_close(inputs[image], scheduler.precondition_inputs(sample[image], sigma))
        expected = scheduler.precondition_outputs(sample[image], output[image], sigma)
        torch.testing.assert_close(clean[image], expected)
        torch.testing.assert_close(noise[image], (sample[image] - expected) / sigma)


def test_edm_steps_are_eulers_down_to_the_clean_latent(tmp_path):
    EDMEulerScheduler(sigma_max=100.0, prediction_type="epsilon").save_pretrained(tmp_path)
    schedule = EdmSchedule.from_folder(tmp_path)
    assert schedule.signal_and_noise(3.0) == (1.0, 3.0) and schedule.signal_and_noise(None) == (1.0, 0.0)
    assert schedule.noise_share(3.0) == pytest.approx(0.9)
    assert schedule.purest == pytest.approx(np.hypot(100, 1))


@pytest.mark.parametrize("level", [0.25, 0.8])
def test_a_level_is_a_way_along_the_sigmas_and_one_step_begins_there(tmp_path, level):
    least, most = 0.002, 80.0
    for spacing, expected in (
        ("exponential", least * (most / least) ** level),
        ("karras", (least ** (1 / 7) + level * (most ** (1 / 7) - least ** (1 / 7))) ** 7),
    ):
        EDMEulerScheduler(sigma_schedule=spacing).save_pretrained(tmp_path)
        schedule = EdmSchedule.from_folder(tmp_path)
        assert schedule.timesteps(level, 1).tolist() == pytest.approx([expected])
        assert schedule.timesteps(level, 2).tolist() == pytest.approx([expected, least])


NO_NUMBERS, NO_SCHEDULE = "no numbers above 0", "no noise schedule"


@pytest.mark.parametrize(
    ("stated", "reason"),
    [
        ({"sigma_data": "x"}, NO_NUMBERS),
        ({"sigma_data": 0}, NO_NUMBERS),
        ({"sigma_data": float("inf")}, NO_NUMBERS),
        ({"sigma_min": 80.0}, NO_SCHEDULE),
        ({"sigma_min": 81.0}, NO_SCHEDULE),
    ],
    ids=str,
)
def test_edm_schedulers_that_make_no_sense_are_refused(tmp_path, stated, reason):
    EDMEulerScheduler(sigma_schedule="exponential").save_pretrained(tmp_path)
    path = tmp_path / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **stated}))
    with pytest.raises(UnfitFiles, match=reason):
        EdmSchedule.from_folder(tmp_path)


def test_which_schedule_a_folder_states(tmp_path):
    for scheduler, schedule in ((EDMEulerScheduler(), EdmSchedule), (DDIMScheduler(), NoiseSchedule)):
        scheduler.save_pretrained(tmp_path)
        assert isinstance(schedule_of(tmp_path), schedule)
    (tmp_path / "scheduler_config.json").write_text("[]")
    with pytest.raises(UnfitFiles):
        schedule_of(tmp_path)
