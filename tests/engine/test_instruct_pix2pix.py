import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionInstructPix2PixPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from in2n_blender.engine.diffusion import instruct_pix2pix
from in2n_blender.engine.diffusion.editor import join_originals, noise_generator
from in2n_blender.engine.diffusion.instruct_pix2pix import guidance_weights
from in2n_blender.engine.diffusion.loading import load_editor
from in2n_blender.engine.diffusion.miniature.autoencoder import BlockTransformAutoencoder
from in2n_blender.engine.diffusion.miniature.editor import MiniatureEditor
from in2n_blender.engine.diffusion.schedules import NoiseSchedule
from in2n_blender.models import catalogue, hub
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Reporter
from tests.engine.small_editor import small_editor_folder

INSTRUCTION = "make it snow"
AVOIDED = "red trees"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_editor_folder(tmp_path_factory.mktemp("editor"))


@pytest.fixture(scope="module")
def editor(folder):
    editor = load_editor(str(folder), "cpu")
    editor.prepare(INSTRUCTION)
    return editor


def picture(seed: int, count: int = 1, height: int = 32, width: int = 32) -> torch.Tensor:
    coarse = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)


def pipeline_edit(folder, vae_class, original, latents, steps, avoided=None):
    pipeline = StableDiffusionInstructPix2PixPipeline(
        vae_class.from_pretrained(folder / "vae"),
        CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32),
        CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        UNet2DConditionModel.from_pretrained(folder / "unet"),
        DDIMScheduler.from_pretrained(folder / "scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        INSTRUCTION,
        image=original,
        latents=latents,
        num_inference_steps=steps,
        guidance_scale=7.5,
        image_guidance_scale=1.5,
        negative_prompt=avoided,
        output_type="pt",
    ).images


@pytest.mark.parametrize(
    "prediction_type, block_transform, spacing, avoided",
    [
        ("epsilon", False, "leading", ""),
        ("v_prediction", True, "trailing", ""),
        ("v_prediction", False, "leading", AVOIDED),
        ("sample", True, "trailing", ""),
    ],
)
def test_edit_from_pure_noise_equals_the_diffusers_pipeline(
    tmp_path, prediction_type, block_transform, spacing, avoided
):
    folder = small_editor_folder(tmp_path, prediction_type, block_transform, spacing)
    editor = load_editor(str(folder), "cpu")
    editor.prepare(INSTRUCTION, avoided)
    editor.working_side = 32
    render, original = picture(1), picture(2)

    edited = editor.edit(
        render, original, noise_level=1.0, generators=[noise_generator(0, 0, 0)], guidance_text=7.5, guidance_image=1.5
    )

    generator = noise_generator(0, 0, 0)
    shape = editor.encode_original(original).latent.shape
    torch.randn(shape, generator=generator)  # what the render's posterior sample took
    vae_class = BlockTransformAutoencoder if block_transform else AutoencoderKL
    latents = torch.randn(shape, generator=generator)
    expected = pipeline_edit(folder, vae_class, original, latents, steps=20, avoided=avoided or None)
    assert edited.std() > 0.01
    torch.testing.assert_close(edited, expected, atol=1e-4, rtol=0)


def test_the_bundled_miniature_equals_the_diffusers_pipeline_too():
    editor = load_editor("miniature", "cpu")
    assert isinstance(editor, MiniatureEditor) and editor.model is catalogue.MINIATURE
    assert (editor.guidance_text, editor.guidance_image, editor.steps) == (1.0, 1.0, 2)
    editor.prepare("Make it snow!")
    render, original = picture(1, height=64, width=64), picture(2, height=64, width=64)
    options = dict(noise_level=1.0, guidance_text=7.5, guidance_image=1.5, steps=4)
    edited = editor.edit(render, original, generators=[noise_generator(0, 0, 0)], **options)

    generator = noise_generator(0, 0, 0)
    shape = editor.encode_original(original).latent.shape
    torch.randn(shape, generator=generator)  # what the render's posterior sample took
    latents = torch.randn(shape, generator=generator)
    expected = pipeline_edit(editor.folder, BlockTransformAutoencoder, original, latents, steps=4)
    torch.testing.assert_close(edited, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "prediction_type, block_transform",
    [("epsilon", False), ("v_prediction", True), ("sample", True), ("v_prediction", False)],
)
def test_distillation_is_dreamfusions_gradient(tmp_path, prediction_type, block_transform):
    """Against equation 3 written out with the folder's own networks, in pixels through the encoder's Jacobian."""
    folder = small_editor_folder(tmp_path, prediction_type, block_transform)
    editor = load_editor(str(folder), "cpu")
    editor.prepare(INSTRUCTION)
    editor.working_side = 32
    render, original = picture(1).requires_grad_(), picture(2)
    loss = editor.distillation_loss(
        render, original, noise_level=0.4, generators=[noise_generator(3, 0, 0)], guidance_text=2.0, guidance_image=1.5
    )
    (gradient,) = torch.autograd.grad(loss, render)
    assert editor.unet_evaluations == 3

    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    vae = (BlockTransformAutoencoder if block_transform else AutoencoderKL).from_pretrained(folder / "vae")
    text_encoder, tokenizer = (
        CLIPTextModel.from_pretrained(folder / "text_encoder"),
        CLIPTokenizer.from_pretrained(folder / "tokenizer"),
    )
    words = text_encoder(tokenizer([INSTRUCTION, "", ""], padding="max_length", return_tensors="pt").input_ids)[0]
    timestep = 399
    alpha = DDIMScheduler.from_pretrained(folder / "scheduler").alphas_cumprod[timestep]
    latent = vae.encode(render * 2 - 1).latent_dist.mode() * vae.config.scaling_factor
    condition = vae.encode(original * 2 - 1).latent_dist.mode()
    noise = torch.randn(latent.shape[1:], generator=noise_generator(3, 0, 0))[None]
    with torch.no_grad():
        noisy = alpha.sqrt() * latent + (1 - alpha).sqrt() * noise
        inputs = torch.cat([noisy.repeat(3, 1, 1, 1), torch.cat([condition, condition, 0 * condition])], 1)
        both, image, nothing = unet(inputs, timestep, encoder_hidden_states=words).sample.chunk(3)
        guided = nothing + 2.0 * (both - image) + 1.5 * (image - nothing)
        predicted_noise = {
            "epsilon": guided,
            "v_prediction": alpha.sqrt() * guided + (1 - alpha).sqrt() * noisy,
            "sample": (noisy - alpha.sqrt() * guided) / (1 - alpha).sqrt(),
        }[prediction_type]
        direction = (1 - alpha) * (predicted_noise - noise) / latent.numel()
        if block_transform:  # distances between images, by the bands' variances
            direction = direction * (vae.deviations**2 / (vae.deviations**2).mean())[:, None, None]
    (expected,) = torch.autograd.grad(latent, render, direction)
    assert expected.abs().max() > 0
    torch.testing.assert_close(gradient, expected, atol=1e-6 * float(expected.abs().max()) + 1e-9, rtol=1e-3)


def test_guidance_is_the_papers_formula():
    text, image, unconditional = 3.0, 2.0, 0.5
    for s_text, s_image in ((7.5, 1.5), (1.0, 1.0), (2.0, 2.0)):
        guided = np.dot(guidance_weights(s_text, s_image), (text, image, unconditional))
        assert guided == pytest.approx(unconditional + s_text * (text - image) + s_image * (image - unconditional))


def test_swapped_branches_give_another_edit(editor, monkeypatch):
    render, original = picture(1), picture(2)

    def edit():
        return editor.edit(render, original, noise_level=0.9, generators=[noise_generator(0, 0, 0)], steps=4)

    right = edit()
    assert torch.equal(right, edit())
    text, image, unconditional = guidance_weights(7.5, 1.5)
    monkeypatch.setattr(instruct_pix2pix, "guidance_weights", lambda *scales: (text, unconditional, image))
    assert (edit() - right).abs().max() > 1e-3


@pytest.mark.parametrize("guidance, branches", [((1.0, 1.0), 1), ((7.5, 1.0), 2), ((2.0, 2.0), 2), ((7.5, 1.5), 3)])
def test_branches_without_weight_are_left_out_and_change_nothing(editor, monkeypatch, guidance, branches):
    def edit():
        before = editor.unet_evaluations
        edited = editor.edit(
            picture(1),
            picture(2),
            noise_level=0.9,
            generators=[noise_generator(0, 0, 0)],
            steps=4,
            guidance_text=guidance[0],
            guidance_image=guidance[1],
        )
        return edited, editor.unet_evaluations - before

    edited, evaluations = edit()
    assert evaluations == 4 * branches
    weights = np.array(guidance_weights(*guidance)) + 1e-12  # nothing is zero any more
    monkeypatch.setattr(instruct_pix2pix, "guidance_weights", lambda *scales: tuple(weights.tolist()))
    whole, evaluations = edit()
    assert evaluations == 4 * 3
    torch.testing.assert_close(edited, whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize("guidance_image, branches", [(1.0, 2), (1.5, 3)])
def test_on_a_cpu_one_branch_is_evaluated_after_another(editor, guidance_image, branches):
    """A cancelled job stops between them."""
    sizes = []
    hook = editor.unet.register_forward_pre_hook(lambda network, inputs: sizes.append(len(inputs[0])))
    guidance = {"guidance_text": 7.5, "guidance_image": guidance_image}
    generators = [noise_generator(0, 0, 0)]
    editor.edit(picture(1), picture(2), noise_level=0.9, generators=generators, steps=2, **guidance)
    hook.remove()
    assert sizes == [1] * 2 * branches


def test_instruction_photo_seed_and_guidance_each_change_the_edit(folder):
    editor = load_editor(str(folder), "cpu")
    render, original = picture(1), picture(2)

    def edit(instruction=INSTRUCTION, original=original, seed=0, **guidance):
        editor.prepare(instruction)
        return editor.edit(
            render, original, noise_level=0.9, generators=[noise_generator(seed, 0, 0)], steps=4, **guidance
        )

    base = edit()
    for other in (
        edit("turn it to gold"),
        edit(original=picture(3)),
        edit(seed=1),
        edit(guidance_text=1.0),
        edit(guidance_image=3.0),
    ):
        assert (other - base).abs().max() > 1e-4
    assert torch.equal(edit(guidance_text=7.5, guidance_image=1.5), base)


def test_a_low_noise_level_stays_near_the_render(tmp_path):
    editor = load_editor(
        str(small_editor_folder(tmp_path, "v_prediction", block_transform=True, spacing="trailing")), "cpu"
    )
    editor.prepare(INSTRUCTION)
    render = picture(1)
    edited = {
        level: editor.edit(
            render,
            picture(2),
            noise_level=level,
            generators=[noise_generator(0, 0, 0)],
            guidance_text=1.0,
            guidance_image=1.0,
        )
        for level in (0.02, 0.98)
    }
    near, far = ((edited[level] - render).abs().mean().item() for level in (0.02, 0.98))
    assert near < 0.05 < far


def test_views_edited_together_equal_views_edited_alone(editor):
    renders, photos, levels = picture(1, 2), picture(2, 2), [0.9, 0.3]
    originals = [editor.encode_original(photo[None]) for photo in photos]
    together = editor.edit(
        renders,
        join_originals(originals),
        noise_level=levels,
        generators=[noise_generator(0, view, 0) for view in range(2)],
        steps=5,
    )
    for view in range(2):
        alone = editor.edit(
            renders[view : view + 1],
            originals[view],
            noise_level=levels[view],
            generators=[noise_generator(0, view, 0)],
            steps=5,
        )
        torch.testing.assert_close(together[view : view + 1], alone, atol=1e-4, rtol=0)


def test_unet_evaluations_count_images_branches_and_steps(editor):
    before = editor.unet_evaluations
    editor.edit(
        picture(1, 2),
        picture(2, 2),
        noise_level=0.5,
        generators=[noise_generator(0, view, 0) for view in range(2)],
        steps=3,
    )
    assert editor.unet_evaluations - before == 2 * 3 * 3


@pytest.mark.parametrize("height, width", [(17, 45), (50, 33), (9, 90), (8, 11)])
def test_odd_sizes_keep_their_size_and_content(folder, height, width):
    editor = load_editor(str(folder), "cpu")
    editor.prepare(INSTRUCTION)
    editor.vae = BlockTransformAutoencoder()  # exact, so that only resizing and padding could change the picture
    editor.multiple = 8
    render = picture(1, 1, height, width)
    working_size = editor._working_size((height, width))
    entered = working_size.enter(render)
    assert min(working_size.height, working_size.width) >= editor.working_side
    assert entered.shape[-2] % 8 == 0 and entered.shape[-1] % 8 == 0
    decoded = editor._decode(editor._posterior(render).mode() * editor.vae.config.scaling_factor)
    assert (working_size.leave(decoded, (height, width)) - render).abs().mean() < 0.02

    whole = load_editor(str(folder), "cpu")
    whole.prepare(INSTRUCTION)
    edited = whole.edit(
        render, picture(2, 1, height, width), noise_level=0.5, generators=[noise_generator(0, 0, 0)], steps=2
    )
    assert edited.shape == render.shape and edited.dtype == torch.float32
    assert torch.isfinite(edited).all() and edited.min() >= 0 and edited.max() <= 1


def test_mismatched_batches_are_refused(editor):
    generators = [noise_generator(0, 0, 0)]
    with pytest.raises(ValueError):
        editor.edit(picture(1, 2), picture(2, 2), noise_level=0.5, generators=generators)
    with pytest.raises(ValueError):
        editor.edit(picture(1), picture(2, 1, 32, 48), noise_level=0.5, generators=generators)


def test_cancel_in_the_middle_of_a_step(editor):
    steps, asked = [], 0

    def cancelled():
        nonlocal asked
        asked += bool(steps)
        return asked > 20

    with pytest.raises(Cancelled):
        editor.edit(
            picture(1),
            picture(2),
            noise_level=0.9,
            generators=[noise_generator(0, 0, 0)],
            report=Reporter(lambda event: steps.append(event.done), cancelled),
        )
    assert steps == [0] and asked == 21  # every layer of the network asks, and the first "yes" ends it
    editor.edit(picture(1), picture(2), noise_level=0.9, generators=[noise_generator(0, 0, 0)], steps=1)  # usable again


def test_noise_comes_from_seed_view_and_round():
    def first(*key):
        return torch.randn(4, generator=noise_generator(*key))

    assert torch.equal(first(1, 2, 3), first(1, 2, 3))
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    draws = [tuple(first(*key).tolist()) for key in keys]
    assert len(set(draws)) == len(keys)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_timesteps_from_pure_noise_are_those_of_diffusers(tmp_path, spacing):
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        clip_sample=False,
        steps_offset=1 if spacing == "leading" else 0,
        timestep_spacing=spacing,
    )
    scheduler.save_pretrained(tmp_path)
    schedule = NoiseSchedule.from_folder(tmp_path)
    for steps in (1, 7, 20, 50):
        scheduler.set_timesteps(steps)
        np.testing.assert_array_equal(schedule.timesteps(1.0, steps), scheduler.timesteps.numpy())


def test_timesteps_start_at_the_noise_level_and_descend(folder):
    schedule = NoiseSchedule.from_folder(folder / "scheduler")
    for level in (0.02, 0.3, 0.5, 0.98):
        timesteps = schedule.timesteps(level, 20)
        assert len(timesteps) == 20 and timesteps[0] == round(level * 1000) - 1
        assert (np.diff(timesteps) < 0).all() and timesteps[-1] >= 0
    assert len(schedule.timesteps(0.01, 20)) == 10
    for level in (0.0, 1.1):
        with pytest.raises(ValueError):
            schedule.timesteps(level, 20)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_ddim_with_the_true_prediction_recovers_the_clean_latent(tmp_path, prediction_type):
    schedule = NoiseSchedule.from_folder(small_editor_folder(tmp_path, prediction_type) / "scheduler")
    clean, noise = torch.randn(2, 1, 4, 8, 8, dtype=torch.float64)
    timesteps = schedule.timesteps(0.9, 20).tolist()
    latent = schedule.add_noise(clean, noise, [0.9], timesteps[:1])
    for now, then in zip(timesteps, [*timesteps[1:], None]):
        alpha = schedule.alphas_cumprod[now]
        prediction = {
            "epsilon": noise,
            "sample": clean,
            "v_prediction": alpha.sqrt() * noise - (1 - alpha).sqrt() * clean,
        }[prediction_type]
        latent = schedule.step(prediction, latent, [now], [then])
    alpha = schedule.final_alpha
    torch.testing.assert_close(latent, alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise)


def test_latents_are_clipped_only_where_the_checkpoint_says_so(tmp_path):
    stated = {
        "_class_name": "EulerAncestralDiscreteScheduler",
        "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000,
    }
    (tmp_path / "scheduler_config.json").write_text(json.dumps(stated))
    assert NoiseSchedule.from_folder(tmp_path).clip_range is None
    (tmp_path / "scheduler_config.json").write_text(json.dumps({**stated, "clip_sample": True}))
    assert NoiseSchedule.from_folder(tmp_path).clip_range == 1.0


def test_empty_instruction(editor):
    with pytest.raises(In2nError) as error:
        editor.prepare("  ")
    assert error.value.code == "empty_instruction"


@pytest.mark.parametrize(
    "name, code", [("no such thing", "unknown_editor"), ("nobody/no-such-model", "editor_missing")]
)
def test_unknown_and_missing_editors(tmp_path, monkeypatch, name, code):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("IN2N_ALLOW_DOWNLOAD", raising=False)
    with pytest.raises(In2nError) as error:
        load_editor(name, "cpu")
    assert error.value.code == code


def test_how_much_a_missing_model_is_to_download_and_under_what_terms_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for name in (hub.ALLOW_DOWNLOAD, *hub.OFFLINE):
        monkeypatch.delenv(name, raising=False)

    def hint(name):
        with pytest.raises(In2nError) as error:
            load_editor(name, "cpu")
        return error.value.hint

    either = "or choose a folder that holds the model, or “miniature”."
    assert hint("nobody/no-such-model") == f"Allow it with IN2N_ALLOW_DOWNLOAD=1, {either}"
    facts = f"some 34 GB, once; {catalogue.KONTEXT.note}"
    assert hint(catalogue.KONTEXT.id) == f"Allow it with IN2N_ALLOW_DOWNLOAD=1 ({facts}), {either}"


def test_a_model_in_the_local_cache_needs_no_network(tmp_path, monkeypatch, folder):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("IN2N_ALLOW_DOWNLOAD", raising=False)
    cached = tmp_path / "models--someone--an-editor"
    shutil.copytree(folder, cached / "snapshots" / "0123abcd")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0123abcd")
    assert load_editor("someone/an-editor", "cpu").folder == cached / "snapshots" / "0123abcd"


def test_a_failed_download_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("IN2N_ALLOW_DOWNLOAD", "1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(In2nError) as error:
        load_editor("nobody/no-such-model", "cpu")
    assert error.value.code == "no_network"


def test_missing_miniature_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "MINIATURE", dataclasses.replace(catalogue.MINIATURE, folder=tmp_path))
    monkeypatch.setattr(catalogue, "MODELS", (catalogue.MINIATURE,))
    with pytest.raises(In2nError) as error:
        load_editor("miniature", "cpu")
    assert error.value.code == "editor_missing"


def test_an_editor_with_its_own_instructions_and_guidance(tmp_path):
    """As the bundled miniature: miniature.json names the phrases that it knows, all else is refused."""
    folder = small_editor_folder(tmp_path)
    facts = {
        "instructions": [{"phrases": ["make it snow", "cover it with snow"]}],
        "guidance_text": 2.0,
        "guidance_image": 1.25,
    }
    (folder / "miniature.json").write_text(json.dumps(facts))
    editor = load_editor(str(folder), "cpu")
    assert (editor.guidance_text, editor.guidance_image) == (2.0, 1.25)

    def edit(instruction):
        editor.prepare(instruction)
        return editor.edit(picture(1), picture(2), noise_level=0.9, generators=[noise_generator(0, 0, 0)], steps=2)

    assert torch.equal(edit("Make it the snow!"), edit("make it snow"))
    assert not torch.equal(edit("cover it with snow"), edit("make it snow")), "the network reads the phrase itself"
    with pytest.raises(In2nError) as error:
        editor.prepare("make it purple")
    assert error.value.code == "unknown_instruction" and "make it snow" in str(error.value)


def test_unfit_folders(tmp_path, folder):
    with pytest.raises(In2nError, match="no scheduler"):
        load_editor(str(tmp_path), "cpu")

    plain = tmp_path / "text to image"
    shutil.copytree(folder, plain)
    UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16,),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        cross_attention_dim=16,
    ).save_pretrained(plain / "unet")
    with pytest.raises(In2nError, match="original image") as error:
        load_editor(str(plain), "cpu")
    assert error.value.code == "editor_unfit"

    pickled = tmp_path / "pickled"
    shutil.copytree(folder, pickled)
    weights = pickled / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(In2nError) as error:
        load_editor(str(pickled), "cpu")
    assert error.value.code == "editor_unfit"

    truncated = tmp_path / "truncated"
    shutil.copytree(folder, truncated)
    weights = truncated / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(In2nError) as error:
        load_editor(str(truncated), "cpu")
    assert error.value.code == "editor_unfit"
