"""An editor whose distribution is known exactly: the instrument that shows whether a method makes views agree.

A view has K right answers T_1 ... T_K, which its original photo tells and which agree in 3D. Latents E(x) are the
means of 8x8 blocks in [-1, 1], and the editor draws from

    p(z | view) = sum_k pi_k N(E(T_k), s^2 I).

Its diffusion is analytic. With a = sqrt(alpha_bar_t), b^2 = 1 - alpha_bar_t, v = a^2 s^2 + b^2 and mu_k = E(T_k):

    responsibilities   w_k ~ pi_k exp(-|z_t - a mu_k|^2 / 2v)
    denoised latent    x_0 = sum_k w_k (mu_k + (a s^2 / v) (z_t - a mu_k))

The noise levels are those of Stable Diffusion 1.x. Like a large model it draws another answer for every noise at high
levels, and keeps that of what it starts from at middle ones; unlike one, it needs no weights and takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch.nn import functional

from ...models import catalogue
from ...models.exact import ExactSettings
from .editor import OriginalLatent
from .latent_editor import LatentEditor
from .schedules import NoiseSchedule

BLOCK = 8
TIMESTEPS, FIRST_BETA, LAST_BETA = 1000, 0.00085, 0.012
# Of red, green and blue in a luminance (ITU-R BT.709).
LUMINANCE = (0.2126, 0.7152, 0.0722)
TINTS = (
    (1, 0.35, 0.3),
    (0.3, 0.9, 0.4),
    (0.35, 0.45, 1),
    (1, 0.85, 0.2),
    (0.9, 0.4, 0.9),
    (0.3, 0.9, 0.9),
    (0.95, 0.6, 0.3),
    (0.6, 0.6, 0.6),
)


class Answers(Protocol):
    """The right answers of views."""

    def __call__(self, photos: torch.Tensor) -> torch.Tensor:
        """What the views may be edited to.

        Args:
            photos: (batch, 3, height, width) the original photos, by which a view is known.

        Returns:
            (batch, K, 3, height, width) sRGB in [0, 1], on the photos' device. The k-th answers of all views are
            pictures of one scene.
        """


@dataclass(frozen=True)
class Tints:
    """The photo tinted: T_k = 0.85 clip(1.25 L c_k) + 0.15 photo, L its luminance.

    Attributes:
        count: how many of TINTS, from the first.
    """

    count: int

    def __call__(self, photos: torch.Tensor) -> torch.Tensor:
        weights = torch.tensor(LUMINANCE, dtype=photos.dtype, device=photos.device)
        colours = torch.tensor(TINTS[: self.count], dtype=photos.dtype, device=photos.device)
        luminance = (photos * weights[:, None, None]).sum(1)[:, None, None]
        tinted = (1.25 * luminance * colours[:, :, None, None]).clamp(0, 1)
        return 0.85 * tinted + 0.15 * photos[:, None]


class ExactEditor(LatentEditor):
    """See the module. Any text is an instruction, and guidance scales change nothing: the distribution is what it is.

    An original's latent is the photo itself, since the answers are functions of it. `unet_evaluations` counts one for
    each image and denoising step, as if the image went through a network once: the branches of guidance, of which a
    network evaluates up to three, are not counted.

    Attributes:
        settings: K, s and pi.
    """

    def __init__(self, settings: ExactSettings, device: torch.device, answers: Answers | None = None):
        """
        Args:
            settings: K, s and pi.
            device: what it runs on.
            answers: `settings.answers` for each view; None for tints.
        """
        super().__init__(catalogue.find(settings.name), device)
        self.settings, self.schedule = settings, noise_schedule()
        self._answers_of = answers or Tints(settings.answers)
        self._instruction: str | None = None
        self._latest: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None

    def prepare(self, instruction: str, negative_prompt: str = "") -> None:
        self._instruction = self.model.check_instruction(instruction)

    def encode_original(self, image: torch.Tensor) -> OriginalLatent:
        return OriginalLatent(image.to(self.device, torch.float32), tuple(image.shape[-2:]))

    def answers(self, photo: torch.Tensor) -> torch.Tensor:
        """The right answers of one view.

        Args:
            photo: (3, height, width) sRGB in [0, 1].

        Returns:
            (K, 3, height, width) on the photo's device.
        """
        return self._answers_of(photo[None])[0]

    def responsibilities(
        self, latent: torch.Tensor, photos: torch.Tensor, alphas_cumprod: Sequence[float]
    ) -> torch.Tensor:
        """How probable it is that each answer is behind noisy latents.

        Args:
            latent: (batch, 3, rows, columns) noisy latents.
            photos: (batch, 3, height, width) the views' original photos.
            alphas_cumprod: (batch,) alpha_bar of their noise; 1 where they are clean.

        Returns:
            (batch, K), of sum 1.
        """
        _, means = self._answers_and_means(photos)
        return self._posterior(latent, means, self._per_image(alphas_cumprod))[0].to(latent.dtype)

    @property
    def _prepared(self) -> bool:
        return self._instruction is not None

    def _mean_latent(self, render: torch.Tensor) -> torch.Tensor:
        return block_means(render.to(self.device, torch.float32))

    def _sample_latent(self, render: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
        return self._mean_latent(render)

    def _guided(self, latent, now, condition, guidance) -> torch.Tensor:
        """The denoised latent x_0."""
        self._report.check()
        self.unet_evaluations += len(latent)
        _, means = self._answers_and_means(condition)
        alphas = self.schedule.alphas_cumprod[now.cpu()].tolist()
        weights, denoised = self._posterior(latent, means, self._per_image(alphas))
        return torch.einsum("bk,bkchw->bchw", weights, denoised).to(latent.dtype)

    def _decode_to_size(self, latent: torch.Tensor, condition: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """sum_k w_k T_k, and the rest of the latent enlarged: blotches of size s."""
        answers, means = self._answers_and_means(condition)
        weights = self.responsibilities(latent, condition, [1.0] * len(latent))
        rest = latent - torch.einsum("bk,bkchw->bchw", weights, means)
        whole = tuple(side * BLOCK for side in rest.shape[-2:])
        blotches = functional.interpolate(rest, size=whole, mode="bilinear") / 2
        return torch.einsum("bk,bkchw->bchw", weights, answers) + blotches[..., : size[0], : size[1]]

    def _posterior(
        self, latent: torch.Tensor, means: torch.Tensor, alpha: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The responsibilities w (batch, K), and each answer's denoised latent (batch, K, 3, rows, columns); alpha:
        (batch, 1, 1, 1, 1)."""
        # At small spreads the exponents are large, and their differences are what counts.
        latent, means = latent[:, None].to(alpha.dtype), means.to(alpha.dtype)
        a, spread = alpha.sqrt(), self.settings.spread
        variance = alpha * spread**2 + (1 - alpha)
        away = latent - a * means
        shares = torch.tensor(self.settings.shares, dtype=alpha.dtype, device=alpha.device)
        exponents = shares.log() - (away**2).sum((2, 3, 4)) / (2 * variance[:, :, 0, 0, 0])
        return exponents.softmax(1), means + a * spread**2 / variance * away

    def _answers_and_means(self, photos: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """T (batch, K, 3, height, width) and E(T), kept while the photos are the same tensor: all steps of an edit."""
        if self._latest is None or self._latest[0] is not photos:
            answers = self._answers_of(photos)
            self._latest = photos, answers, block_means(answers.flatten(0, 1)).unflatten(0, answers.shape[:2])
        return self._latest[1:]

    def _per_image(self, values: Sequence[float]) -> torch.Tensor:
        """(batch, 1, 1, 1, 1), in the widest numbers that the device has."""
        wide = torch.float32 if self.device.type == "mps" else torch.float64
        return torch.tensor(values, dtype=wide, device=self.device)[:, None, None, None, None]


def block_means(images: torch.Tensor) -> torch.Tensor:
    """E(x): (batch, 3, height, width) in [0, 1] to the means of its 8x8 blocks in [-1, 1], (batch, 3, rows, columns).

    Blocks at the right and bottom edge are as large as the image leaves them.
    """
    return functional.avg_pool2d(images * 2 - 1, BLOCK, ceil_mode=True, count_include_pad=False)


def noise_schedule() -> NoiseSchedule:
    """That of Stable Diffusion 1.x, down to no noise at all: the last step gives the denoised latent."""
    betas = np.linspace(FIRST_BETA**0.5, LAST_BETA**0.5, TIMESTEPS) ** 2
    return NoiseSchedule(torch.from_numpy(np.cumprod(1 - betas)), 1.0, "sample", None, "leading", 1)
