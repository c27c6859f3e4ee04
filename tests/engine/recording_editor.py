"""An editor that remembers what it was given and answers every call with a picture of its own."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from in2n_blender.engine.diffusion.editor import Editor, OriginalLatent
from in2n_blender.models import catalogue


class RecordingEditor(Editor):
    """Encodes a photo as itself.

    Attributes:
        encoded: the photos (3, height, width) in the order in which they were encoded.
        calls: what `edit` was given, one namespace each: render and original (3, height, width), noise (the first
            numbers of its generator), answer, and the other arguments by their names.
        distilled: likewise of `distillation_loss`.
    """

    guidance_text, guidance_image, steps = 6.0, 1.25, 11

    def __init__(self):
        self.model, self.unet_evaluations = catalogue.find("miniature"), 0
        self.instruction, self.negative_prompt = None, None
        self.encoded, self.calls, self.distilled = [], [], []

    def prepare(self, instruction: str, negative_prompt: str = "") -> None:
        self.instruction, self.negative_prompt = instruction, negative_prompt

    def encode_original(self, image: torch.Tensor) -> OriginalLatent:
        self.encoded += list(image)
        return OriginalLatent(image, tuple(image.shape[-2:]))

    def edit(self, render, original, *, generators, noise_level, **more) -> torch.Tensor:
        (level,) = [noise_level] if isinstance(noise_level, float) else noise_level
        self._remember(self.calls, render, original, generators, {"noise_level": level, **more})
        # Columns and rows are told apart, and so are calls; in 8 bits they stay what they are.
        height, width = render.shape[-2:]
        picture = torch.stack(
            [
                torch.arange(width).expand(height, width) * 5,
                torch.arange(height)[:, None].expand(height, width) * 5,
                torch.full((height, width), len(self.calls)),
            ]
        )
        self.calls[-1].answer = picture / 255
        self.unet_evaluations += 3
        return picture[None] / 255

    def distillation_loss(self, render, original, *, generators, **more) -> torch.Tensor:
        self._remember(self.distilled, render, original, generators, more)
        self.unet_evaluations += 3
        return (render - torch.tensor([1.0, 0.0, 0.0])[None, :, None, None]).square().mean()

    def _remember(self, calls, render, original, generators, more) -> None:
        as_photo = original.latent if isinstance(original, OriginalLatent) else original
        assert len(render) == len(as_photo) == len(generators) == 1 and render.shape == as_photo.shape
        (generator,) = generators
        calls.append(
            SimpleNamespace(
                render=render[0].detach().cpu().clone(),
                has_gradient=render.requires_grad,
                original=as_photo[0].detach().cpu().clone(),
                noise=tuple(torch.randn(4, generator=generator).tolist()),
                **more,
            )
        )
