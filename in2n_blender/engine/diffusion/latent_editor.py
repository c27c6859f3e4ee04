"""Editing in a latent space by diffusion or flow matching: a render's latent is noised to a level and denoised from
there under the instruction and the original photo. What encodes, predicts and decodes is left to each such editor.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import contextmanager

import numpy as np
import torch

from ...models.model import Model
from ...scene.reporting import Reporter
from .editor import Editor, OriginalLatent
from .schedules import Schedule


class LatentEditor(Editor):
    """An editor over a `Schedule`.

    Attributes:
        device: what it runs on.
        schedule: its noise schedule, that of the latest edit where it depends on its size.
    """

    schedule: Schedule

    def __init__(self, model: Model, device: torch.device):
        self.model, self.device, self.unet_evaluations = model, device, 0
        self._report = Reporter()

    @property
    @abstractmethod
    def _prepared(self) -> bool:
        """Whether `prepare` was called."""

    @abstractmethod
    def _mean_latent(self, render: torch.Tensor) -> torch.Tensor:
        """The latent of images, (batch, channels, height, width) in float32; gradients go through it."""

    @abstractmethod
    def _sample_latent(self, render: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
        """A draw of the encoder's latent of images, of the shape of `_mean_latent`."""

    @abstractmethod
    def _guided(
        self, latent: torch.Tensor, now: torch.Tensor, condition, guidance: tuple[float | None, float | None]
    ) -> torch.Tensor:
        """The network's prediction under both guidance scales, of latent's shape.

        now: (batch,) times of the schedule; condition: as `_condition` made it; a scale that the model has not is None.
        """

    @abstractmethod
    def _decode_to_size(self, latent: torch.Tensor, condition, size: tuple[int, int]) -> torch.Tensor:
        """The images (batch, 3, *size) of clean latents; condition: as `_condition` made it."""

    def _checked_numbers(self, values: torch.Tensor, part: str) -> torch.Tensor:
        """The values that a part computed, or an exception of an editor's own where they are no numbers."""
        return values

    def _condition(self, original: OriginalLatent, guidance: tuple[float | None, float | None]):
        """What the network is conditioned on, once an edit: the originals' latents, and more where there is more."""
        return original.latent.to(self.device)

    def _set_schedule(self, shape: torch.Size, steps: int) -> None:
        """Make `schedule` the one for latents of a shape; nothing to do where it is the same for all."""

    def _latent_metric(self) -> torch.Tensor | float:
        """What a squared distance in each channel of the latent is worth, of mean 1."""
        return 1.0

    def edit(
        self,
        render: torch.Tensor,
        original: OriginalLatent | torch.Tensor,
        *,
        noise_level: float | Sequence[float],
        generators: Sequence[torch.Generator],
        guidance_text: float | None = None,
        guidance_image: float | None = None,
        steps: int | None = None,
        report: Reporter | None = None,
    ) -> torch.Tensor:
        with self._reporting_to(report):
            return self._edit(
                render,
                original,
                noise_level,
                generators,
                self._guidance(guidance_text, guidance_image),
                self.steps if steps is None else steps,
            )

    def distillation_loss(
        self,
        render: torch.Tensor,
        original: OriginalLatent | torch.Tensor,
        *,
        noise_level: float,
        generators: Sequence[torch.Generator],
        guidance_text: float | None = None,
        guidance_image: float | None = None,
        report: Reporter | None = None,
    ) -> torch.Tensor:
        with self._reporting_to(report):
            original = self._checked_original(original, render, generators)
            latent = self._mean_latent(render)
            self._set_schedule(latent.shape, 1)
            with torch.no_grad():
                direction = self._distillation_direction(
                    latent, original, noise_level, generators, self._guidance(guidance_text, guidance_image)
                )
        # The gradient of half the squared distance to a constant `latent - direction` is `direction`.
        return (self._latent_metric() * (latent - (latent - direction).detach()) ** 2).mean() / 2

    def _distillation_direction(
        self, latent, original: OriginalLatent, noise_level: float, generators, guidance
    ) -> torch.Tensor:
        """w(t) (eps_guided - eps), of the latent's shape."""
        count, schedule = len(latent), self.schedule
        time = schedule.timesteps(noise_level, 1)[0].item()
        noise = normal_noise(latent.shape, generators, self.device)
        noisy = schedule.add_noise(latent, noise, [noise_level] * count, [time] * count)
        prediction = self._guided(noisy, torch.tensor([time] * count), self._condition(original, guidance), guidance)
        _, predicted_noise = schedule.split(prediction, noisy, [time] * count)
        return schedule.noise_share(time) * (predicted_noise - noise)

    @contextmanager
    def _reporting_to(self, report: Reporter | None):
        """What is asked, at every step and in a network's layers, whether the job was cancelled."""
        self._report = report or Reporter()
        try:
            yield
        finally:
            self._report = Reporter()

    def _guidance(self, text: float | None, image: float | None) -> tuple[float | None, float | None]:
        return self.guidance_text if text is None else text, self.guidance_image if image is None else image

    def _checked_original(self, original, render: torch.Tensor, generators) -> OriginalLatent:
        """The encoded originals. Raises ValueError where sizes or counts do not fit, or before `prepare`."""
        size, count = tuple(render.shape[-2:]), len(render)
        if not self._prepared:
            raise ValueError("prepare() comes before editing")
        if len(generators) != count:
            raise ValueError(f"{count} images, {len(generators)} generators")
        if isinstance(original, torch.Tensor):
            original = self.encode_original(original)
        if original.image_size != size or len(original.latent) != count:
            raise ValueError(f"originals {len(original.latent)} of {original.image_size}, renders {count} of {size}")
        return original

    @torch.no_grad()
    def _edit(self, render, original, noise_level, generators, guidance, steps) -> torch.Tensor:
        size, count = tuple(render.shape[-2:]), len(render)
        levels = (
            [float(noise_level)] * count
            if isinstance(noise_level, (int, float))
            else [float(level) for level in noise_level]
        )
        if len(levels) != count:
            raise ValueError(f"{count} images, {len(levels)} noise levels")
        original = self._checked_original(original, render, generators)
        condition = self._condition(original, guidance)

        clean = self._sample_latent(render, generators)
        noise = normal_noise(clean.shape, generators, self.device)
        self._set_schedule(clean.shape, steps)
        steps = min(len(self.schedule.timesteps(level, steps)) for level in levels)
        times = torch.from_numpy(np.stack([self.schedule.timesteps(level, steps) for level in levels]))
        latent = self.schedule.add_noise(clean, noise, levels, times[:, 0].tolist())
        latent = self._checked_numbers(self._denoise(latent, condition, times, guidance), "network")
        edited = self._checked_numbers(self._decode_to_size(latent, condition, size), "autoencoder")
        return edited.clamp(0, 1).to(render.device)

    def _denoise(self, latent, condition, times, guidance) -> torch.Tensor:
        """Step by step over times (batch, steps) from latent, (batch, channels, height, width)."""
        count, steps = times.shape
        for index in range(steps):
            self._report.progress(index, steps, "step", "Editing")
            now = times[:, index]
            then = [None] * count if index + 1 == steps else times[:, index + 1].tolist()
            latent = self.schedule.step(self._guided(latent, now, condition, guidance), latent, now.tolist(), then)
        return latent


def normal_noise(shape, generators: Sequence[torch.Generator], device) -> torch.Tensor:
    """Standard normal noise, each image's from its own CPU generator."""
    return torch.stack([torch.randn(shape[1:], generator=generator) for generator in generators]).to(device)
