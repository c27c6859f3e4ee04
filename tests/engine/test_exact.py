"""The exact editor: what it predicts, draws and keeps is what its distribution says."""

import math

import pytest
import torch

from in2n_blender.engine.diffusion.editor import OriginalLatent, join_originals, noise_generator
from in2n_blender.engine.diffusion.exact import BLOCK, TINTS, ExactEditor, block_means, noise_schedule
from in2n_blender.engine.diffusion.loading import load_editor
from in2n_blender.models import catalogue
from in2n_blender.models.exact import ExactSettings
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Reporter

CPU = torch.device("cpu")


def photo(height=24, width=32, seed=0):
    """(1, 3, height, width), of every brightness"""
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 0.8 + 0.1


def editor_of(name="exact", **more):
    editor = ExactEditor(ExactSettings.from_name(name), CPU, **more)
    editor.prepare("anything")
    return editor


def prediction(editor, latent, timestep, original):
    return editor._guided(latent, torch.tensor([timestep] * len(latent)), original, (1.0, 1.0))


def log_density(latent, means, shares, spread, alpha):
    """log p_t(z) of one latent, written out from its definition by torch's own distributions"""
    deviation = math.sqrt(alpha * spread**2 + 1 - alpha)
    each = [
        math.log(share) + torch.distributions.Normal(math.sqrt(alpha) * mean, deviation).log_prob(latent).sum()
        for share, mean in zip(shares, means)
    ]
    return torch.logsumexp(torch.stack(each), 0)


@pytest.mark.parametrize("name", ["exact", "exact:K=8,s=0.25", "exact:K=3,s=0.5,pi=5/1/2", "exact:K=1,s=0.3"])
@pytest.mark.parametrize("timestep", [1, 120, 500, 999])
def test_the_predicted_noise_is_the_score(name, timestep):
    """eps = -sqrt(1 - abar) grad log p_t(z), with z where several answers are probable"""
    editor, original = editor_of(name), photo(16, 16)
    alpha = float(editor.schedule.alphas_cumprod[timestep])
    means = block_means(editor.answers(original[0])).double()
    noise = torch.randn(means.shape[1:], generator=torch.Generator().manual_seed(timestep), dtype=torch.float64)
    latent = math.sqrt(alpha) * means.mean(0) + math.sqrt(1 - alpha) * noise
    latent.requires_grad_()
    log_density(latent, means, editor.settings.shares, editor.settings.spread, alpha).backward()

    noisy = latent.detach()[None]
    _, predicted = editor.schedule.split(prediction(editor, noisy, timestep, original), noisy, [timestep])
    torch.testing.assert_close(predicted[0], -math.sqrt(1 - alpha) * latent.grad, rtol=1e-5, atol=1e-5)


def test_the_denoised_latent_is_the_mean_of_what_was_drawn_and_noised():
    """E[z_0 | z_t] by brute force: clean latents drawn from p, each weighted by how likely it becomes z_t"""
    editor, original, timestep = editor_of("exact:K=2,s=0.3,pi=1/3"), photo(8, 8), 400
    alpha, generator = float(editor.schedule.alphas_cumprod[timestep]), torch.Generator().manual_seed(5)
    means = block_means(editor.answers(original[0])).flatten(1)
    which = torch.multinomial(torch.tensor(editor.settings.shares), 2_000_000, True, generator=generator)
    clean = means[which] + 0.3 * torch.randn(len(which), 3, generator=generator)
    noisy = math.sqrt(alpha) * means.mean(0) + 0.2
    likelihood = (-((noisy - math.sqrt(alpha) * clean) ** 2).sum(1) / (2 * (1 - alpha))).softmax(0)
    expected = (likelihood[:, None] * clean).sum(0)
    found = prediction(editor, noisy.view(1, 3, 1, 1), timestep, original)
    torch.testing.assert_close(found.flatten(), expected, atol=3e-3, rtol=0)


def test_pure_noise_gives_each_answer_its_share_and_lands_within_the_spread():
    editor, count = editor_of("exact:K=3,s=0.1,pi=2/1/1"), 600
    original = photo(24, 24).expand(count, -1, -1, -1)
    edited = editor.edit(
        original, original, noise_level=1.0, generators=[noise_generator(0, view, 0) for view in range(count)], steps=50
    )
    means = block_means(editor.answers(original[0]))
    away = (block_means(edited)[:, None] - means).flatten(2).pow(2).mean(2).sqrt()
    nearest = away.min(1)
    shares = nearest.indices.bincount(minlength=3) / count
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.25, 0.25]), atol=0.07, rtol=0)
    assert nearest.values.max() < 0.1 * 1.5 and nearest.values.mean() > 0.02, "near to one of them, and not on it"


@pytest.mark.parametrize("answer", range(4))
def test_a_middle_level_keeps_the_answer_that_it_starts_from(answer):
    """The level that does depends on how far the answers lie apart, over all latents: here 15 x 15 x 3 of them"""
    editor, original = editor_of(), photo(120, 120)
    answers = editor.answers(original[0])
    for view in range(5):
        edited = editor.edit(answers[answer][None], original, noise_level=0.4, generators=[noise_generator(1, view, 0)])
        assert int((edited - answers).pow(2).mean((1, 2, 3)).argmin()) == answer


def test_a_small_spread_decodes_to_the_answer_itself():
    editor, original = editor_of("exact:s=0.0001"), photo(21, 35)
    answers = editor.answers(original[0])
    for view in range(4):
        edited = editor.edit(original, original, noise_level=1.0, generators=[noise_generator(0, view, 0)])
        assert (edited - answers).abs().amax((1, 2, 3)).min() < 1e-3


def test_one_answer_has_ddims_closed_form():
    """Away from the mean, each step multiplies by (a a' s^2 + b b') / (a^2 s^2 + b^2)"""
    editor, original, steps, level, spread = editor_of("exact:K=1,s=0.3"), photo(16, 24), 7, 0.6, 0.3
    mean = block_means(editor.answers(original[0]))[0]
    timesteps = editor.schedule.timesteps(level, steps)
    alphas = [float(editor.schedule.alphas_cumprod[t]) for t in timesteps] + [1.0]
    noise = torch.randn(mean.shape, generator=noise_generator(3, 0, 0))
    start = block_means(original)[0]
    away = math.sqrt(alphas[0]) * (start - mean) + math.sqrt(1 - alphas[0]) * noise
    for now, then in zip(alphas, alphas[1:]):
        away *= (math.sqrt(now * then) * spread**2 + math.sqrt((1 - now) * (1 - then))) / (now * spread**2 + 1 - now)

    latents = []
    editor._decode_to_size = lambda latent, condition, size: latents.append(latent) or torch.zeros(1, 3, *size)
    editor.edit(original, original, noise_level=level, generators=[noise_generator(3, 0, 0)], steps=steps)
    torch.testing.assert_close(latents[0][0], mean + away, atol=1e-5, rtol=1e-4)


def test_the_rest_of_the_latent_becomes_blotches():
    editor, original = editor_of("exact:K=1,s=0.3"), photo(16, 16)
    answer = editor.answers(original[0])[0]
    latent = block_means(answer[None]) + 0.2
    torch.testing.assert_close(editor._decode_to_size(latent, original, (16, 16))[0], answer + 0.1)


def test_blotches_have_no_edges():
    editor, original = editor_of("exact:K=1,s=0.3"), photo(8, 16)
    latent = block_means(editor.answers(original[0]))
    latent[..., 1] += 0.4
    blotches = editor._decode_to_size(latent, original, (8, 16))[0] - editor.answers(original[0])[0]
    middle = 0.4 / 2 * (0.5 + 1 / 16)
    torch.testing.assert_close(blotches[0, 0, [0, 8, 15]], torch.tensor([0.0, middle, 0.2]), atol=1e-5, rtol=0)


def test_a_latent_between_two_answers_decodes_to_both_by_their_probability():
    editor, original = editor_of("exact:K=2,s=0.5,pi=3/1"), photo(8, 8)
    answers = editor.answers(original[0])
    means = block_means(answers)
    latent = (0.3 * means[0] + 0.7 * means[1])[None]
    first = 1 / (1 + math.exp(math.log(1 / 3) + float((means[0] - means[1]).pow(2).sum()) * (0.49 - 0.09) / (2 * 0.25)))
    expected = first * answers[0] + (1 - first) * answers[1]
    rest = (latent - first * means[0] - (1 - first) * means[1])[0] / 2
    assert 0.3 < first < 0.95
    torch.testing.assert_close(editor._decode_to_size(latent, original, (8, 8))[0], expected + rest, atol=1e-5, rtol=0)


def test_the_answers_are_the_photo_tinted():
    grey = torch.full((3, 8, 8), 0.4)
    answers = editor_of("exact:K=8").answers(grey)
    expected = torch.tensor(TINTS) * (0.85 * 1.25 * 0.4) + 0.15 * 0.4
    assert answers.shape == (8, 3, 8, 8)
    torch.testing.assert_close(answers[:, :, 3, 3], expected)
    white = editor_of("exact:K=1").answers(torch.ones(3, 8, 8))
    assert float(white[0, 0, 0, 0]) == pytest.approx(0.85 + 0.15), "clipped before it is mixed"


def test_other_answers_can_be_given():
    dark_or_light = lambda photos: torch.stack([photos * 0, photos * 0 + 1], 1)
    editor, original = editor_of("exact:K=2,s=0.0001", answers=dark_or_light), photo(16, 16)
    found = {
        round(float(editor.edit(original, original, noise_level=1.0, generators=[noise_generator(0, view, 0)]).mean()))
        for view in range(12)
    }
    assert found == {0, 1}


@pytest.mark.parametrize("size", [(5, 3), (8, 8), (21, 35)])
def test_a_batch_gives_the_same_as_one_by_one(size):
    editor = editor_of("exact:K=4,s=0.25")
    photos = torch.cat([photo(*size, seed=seed) for seed in range(3)])
    levels, generators = [1.0, 0.6, 0.2], lambda: [noise_generator(7, view, 2) for view in range(3)]
    originals = [editor.encode_original(image[None]) for image in photos]
    together = editor.edit(photos, join_originals(originals), noise_level=levels, generators=generators())
    assert together.shape == photos.shape and 0 <= together.min() and together.max() <= 1
    for view, generator in enumerate(generators()):
        alone = editor.edit(photos[view : view + 1], originals[view], noise_level=levels[view], generators=[generator])
        torch.testing.assert_close(alone[0], together[view], atol=1e-6, rtol=0)


def test_blocks_at_the_edge_are_as_large_as_the_image_leaves_them():
    image = torch.zeros(1, 3, BLOCK + 1, BLOCK + 2)
    image[..., BLOCK, :] = 1
    assert block_means(image)[0, 0].tolist() == [[-1, -1], [1, 1]]


def test_an_evaluation_is_an_image_and_a_step():
    editor, original = editor_of(), photo()
    editor.edit(
        original.repeat(3, 1, 1, 1),
        original.repeat(3, 1, 1, 1),
        noise_level=0.5,
        generators=[noise_generator(0, view, 0) for view in range(3)],
        steps=5,
        guidance_text=7.5,
        guidance_image=1.5,
    )
    assert editor.unet_evaluations == 15


def test_distillation_descends_to_an_answer():
    """Averaged over noise at a low level, the gradient leads from near an answer to it"""
    editor, original = editor_of("exact:K=4,s=0.1"), photo(16, 16)
    answer = editor.answers(original[0])[2]
    render = (answer + 0.05)[None].clone().requires_grad_()
    for number in range(50):
        editor.distillation_loss(
            render, original, noise_level=0.2, generators=[noise_generator(0, 0, number)]
        ).backward()
    latent = block_means(render.detach())
    alpha = float(editor.schedule.alphas_cumprod[199])
    # E[eps_predicted - eps] = (b / v) a (z - mu), times w = b^2, over the 12 latents; block means spread it on 64
    # pixels, and a latent is twice the image.
    away = (latent - block_means(answer[None]))[0].mean()
    expected = (1 - alpha) ** 1.5 * math.sqrt(alpha) / (alpha * 0.01 + 1 - alpha) * away * 2 / (12 * 64)
    assert float(render.grad.mean()) / 50 == pytest.approx(float(expected), rel=0.1)


def test_distillation_has_the_noise_that_was_added_taken_off():
    """At the answer itself z_t = a mu + b n, so that eps_predicted - eps = (b^2 / v - 1) n"""
    editor, original = editor_of("exact:K=1,s=0.4"), photo(8, 8)
    render = editor.answers(original[0]).clone().requires_grad_()
    editor.distillation_loss(render, original, noise_level=0.5, generators=[noise_generator(0, 0, 0)]).backward()
    noise = torch.randn((3, 1, 1), generator=noise_generator(0, 0, 0))
    alpha = float(editor.schedule.alphas_cumprod[499])
    direction = (1 - alpha) * ((1 - alpha) / (alpha * 0.16 + 1 - alpha) - 1) * noise
    expected = (direction / 3 * 2 / 64).expand(3, 8, 8)
    torch.testing.assert_close(render.grad[0], expected, rtol=1e-3, atol=1e-7)


def test_cancelling_stops_it():
    editor, original = editor_of(), photo()
    with pytest.raises(Cancelled):
        editor.edit(
            original,
            original,
            noise_level=1.0,
            generators=[noise_generator(0, 0, 0)],
            report=Reporter(cancelled=lambda: True),
        )


def test_misuse_is_refused():
    editor, original = editor_of(), photo()
    with pytest.raises(ValueError, match="generators"):
        editor.edit(original, original, noise_level=1.0, generators=[])
    with pytest.raises(ValueError, match="originals"):
        editor.edit(original, OriginalLatent(original, (8, 8)), noise_level=1.0, generators=[noise_generator(0, 0, 0)])
    with pytest.raises(ValueError, match="prepare"):
        ExactEditor(ExactSettings(), CPU).edit(
            original, original, noise_level=1.0, generators=[noise_generator(0, 0, 0)]
        )
    with pytest.raises(In2nError) as refused:
        editor.prepare("  ")
    assert refused.value.code == "empty_instruction"


def test_the_schedule_is_stable_diffusions():
    from diffusers import DDIMScheduler

    theirs = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
    torch.testing.assert_close(noise_schedule().alphas_cumprod.float(), theirs.alphas_cumprod, rtol=1e-4, atol=1e-6)
    theirs.set_timesteps(20)
    assert noise_schedule().timesteps(1.0, 20).tolist() == theirs.timesteps.tolist()


def test_it_is_chosen_by_name():
    editor = load_editor("exact:s=0.25,K=8", "cpu")
    assert isinstance(editor, ExactEditor) and editor.settings == ExactSettings(8, 0.25)
    assert editor.name == "exact:K=8,s=0.25" and load_editor(editor.name, "cpu").settings == editor.settings
    assert load_editor("exact", "cpu").settings == ExactSettings(4, 0.12)
    assert not any(model.id.startswith("exact") for model in catalogue.MODELS), "an instrument is not offered"


def test_weights_are_part_of_the_name():
    settings = ExactSettings.from_name("exact:K=2,pi=3/1")
    assert settings.shares == (0.75, 0.25) and ExactSettings.from_name(settings.name) == settings


@pytest.mark.parametrize(
    "name",
    ["exact:", "exact:K", "exact:K=0", "exact:K=9", "exact:K=2.5", "exact:K=nan", "exact:s=0", "exact:s=x", "exact:s=2"]
    + ["exact:k=4", "exact:K=2,K=3", "exact:K=2,pi=1", "exact:K=2,pi=1/0", "exact:pi=", "exact:K=4,", "exact:K=4,,s=1"],
)
def test_a_wrong_name_is_refused(name):
    with pytest.raises(In2nError) as refused:
        catalogue.find(name)
    assert refused.value.code == "unknown_editor" and "exact:K=8" in refused.value.hint


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_both_devices_give_the_same():
    original, results = photo(21, 35), []
    for device in ("cpu", "cuda"):
        editor = load_editor("exact", device)
        editor.prepare("anything")
        results.append(editor.edit(original, original, noise_level=0.7, generators=[noise_generator(0, 0, 0)]))
    torch.testing.assert_close(*results, atol=1e-4, rtol=0)


def test_tints_are_colours_that_can_be_told_apart():
    colours = torch.tensor(TINTS)
    assert ((colours > 0) & (colours <= 1)).all()
    assert (torch.cdist(colours, colours) + torch.eye(len(colours))).min() > 0.25
