"""What every family of models has to do, whatever its networks are: the tests of each family call these."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from in2n_blender.engine.diffusion.editor import join_originals, noise_generator
from in2n_blender.scene.errors import Cancelled
from in2n_blender.scene.reporting import Reporter

INSTRUCTION = "make it snow"
AVOIDED = "red trees"


def picture(seed: int, count: int = 1, height: int = 32, width: int = 32) -> torch.Tensor:
    """(count, 3, height, width) smooth colours in 8 bits, so that a PIL image of it is the same."""
    coarse = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    return (smooth * 255).round() / 255


def as_image(picture: torch.Tensor) -> Image.Image:
    """The one picture of a batch as pipelines take it."""
    return Image.fromarray((picture[0] * 255).round().byte().permute(1, 2, 0).numpy())


def noise_of(editor, size: tuple[int, int], seed: int = 0) -> torch.Tensor:
    """The noise of an edit with noise_generator(seed, 0, 0), (1, channels, rows, columns) of the editor's latent.

    The generator first gives what the render's posterior is sampled with."""
    generator = noise_generator(seed, 0, 0)
    posterior = editor._posterior(picture(0, 1, *size)).mean.float()
    torch.randn(posterior.shape[1:], generator=generator)
    return torch.randn(editor._scaled(posterior).shape[1:], generator=generator)[None]


def edit(editor, render, photo, level, seeds=(0,), **options) -> torch.Tensor:
    return editor.edit(
        render, photo, noise_level=level, generators=[noise_generator(seed, 0, 0) for seed in seeds], **options
    )


def check_near_zero_returns_the_render(editor, size) -> None:
    """At level 0.001 the edit is what the autoencoder makes of the render, and at level 1 something else."""
    render, photo = picture(1, 1, *size), picture(2, 1, *size)
    with torch.no_grad():
        round_trip = editor._decode(editor._sample_latent(render, [noise_generator(0, 0, 0)])).clamp(0, 1)
    scales = {"guidance_text": 1.0, "guidance_image": 1.0}  # random weights make much of a difference of branches
    near, far = (edit(editor, render, photo, level, steps=2, **scales) for level in (0.001, 1.0))
    near, far = ((edited - round_trip).abs().mean() for edited in (near, far))
    assert near < 0.03 and 5 * near < far, (near, far)


def check_a_batch_equals_its_images(editor, size) -> None:
    renders, photos, levels = picture(1, 2, *size), picture(2, 2, *size), [0.9, 0.4]
    originals = [editor.encode_original(photo[None]) for photo in photos]
    together = edit(editor, renders, join_originals(originals), levels, (0, 1), steps=2)
    assert (together[0] - together[1]).abs().max() > 0.01
    for view in range(2):
        alone = edit(editor, renders[view : view + 1], originals[view], levels[view], (view,), steps=2)
        torch.testing.assert_close(together[view : view + 1], alone, atol=1e-4, rtol=0)


def check_it_is_conditioned(editor, size) -> None:
    """The instruction, the photo and the noise each change the edit; the same ones give the same."""
    render, photo = picture(1, 1, *size), picture(2, 1, *size)
    editor.prepare(INSTRUCTION)
    base = edit(editor, render, photo, 0.9, steps=2)
    assert torch.equal(edit(editor, render, photo, 0.9, steps=2), base)
    for other in (
        edit(editor, render, picture(3, 1, *size), 0.9, steps=2),
        edit(editor, render, photo, 0.9, (1,), steps=2),
    ):
        assert (other - base).abs().max() > 1e-4
    editor.prepare("turn it to gold")
    other = edit(editor, render, photo, 0.9, steps=2)
    editor.prepare(INSTRUCTION)
    assert (other - base).abs().max() > 1e-5


def check_cancel_inside_a_step(editor, size) -> None:
    steps, asked = [], 0

    def cancelled():
        nonlocal asked
        asked += bool(steps)
        return asked > 20

    render, photo = picture(1, 1, *size), picture(2, 1, *size)
    with pytest.raises(Cancelled):
        edit(editor, render, photo, 0.9, steps=8, report=Reporter(lambda event: steps.append(event.done), cancelled))
    assert steps == [0] and asked == 21  # every layer of the network asks, and the first "yes" ends it
    edit(editor, render, photo, 0.9, steps=1)  # usable again


def check_distillation(editor, size) -> None:
    """The gradient of score distillation is finite and another one for another noise level."""
    render = picture(1, 1, *size).requires_grad_()
    gradients = []
    for level in (0.3, 0.7):
        loss = editor.distillation_loss(
            render, picture(2, 1, *size), noise_level=level, generators=[noise_generator(0, 0, 0)]
        )
        gradients.append(torch.autograd.grad(loss, render)[0])
        assert torch.isfinite(gradients[-1]).all() and gradients[-1].abs().max() > 0
    assert not torch.allclose(*gradients)


def check_the_network_is_given_the_level(editor, size, monkeypatch) -> None:
    """Of flow matching: sigma as it is handed over, the latent mixed to it, behind it the photo's, noiseless."""
    found, forward = [], editor.transformer.forward
    monkeypatch.setattr(editor.transformer, "forward", lambda **given: (found.append(given), forward(**given))[1])
    render, photo = picture(1, 1, *size), picture(2, 1, *size)
    for level in (0.6, 1.0):
        found.clear()
        edit(editor, render, photo, level, steps=3)
        sigmas = [float(given["timestep"]) for given in found]
        assert sigmas[0] == pytest.approx(level, abs=1e-7) and sigmas == sorted(sigmas, reverse=True)
        clean = editor._sample_latent(render, [noise_generator(0, 0, 0)])
        own = editor._packed((1 - level) * clean + level * noise_of(editor, size))
        reference = editor._packed(editor.encode_original(photo).latent)
        torch.testing.assert_close(found[0]["hidden_states"], torch.cat([own, reference], 1), atol=1e-5, rtol=0)


ALL = (
    check_near_zero_returns_the_render,
    check_a_batch_equals_its_images,
    check_it_is_conditioned,
    check_cancel_inside_a_step,
    check_distillation,
)
