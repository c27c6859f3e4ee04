"""Diffusion in explicit timesteps: noising to a level, and deterministically from there down to the clean latent.

What diffusion (DDIM), flow matching (`flow_schedule`) and EDM (`edm_schedule`) have in common: at any time a latent is
x = a clean + b noise, a network finds both in it, and a step mixes them again as they are at the next time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler

from .reading import UnfitFiles

PURE_NOISE = 1.0
MOST_TIMESTEPS = 100_000


class Schedule(ABC):
    """How a latent is noised and denoised.

    Attributes:
        purest: b at noise level 1, where nothing of the clean latent is left.
    """

    purest: float = 1.0

    @abstractmethod
    def timesteps(self, noise_level: float, steps: int) -> np.ndarray:
        """Descending times from a noise level.

        Args:
            noise_level: in (0, 1], 1 is pure noise.
            steps: how many, at least one.

        Returns:
            (steps,) or fewer, in the schedule's own unit.

        Raises:
            ValueError: a level outside (0, 1], or less than one step.
        """

    @abstractmethod
    def signal_and_noise(self, time: float | None) -> tuple[float, float]:
        """a and b of x = a clean + b noise.

        Args:
            time: as of `timesteps`; None: of the clean latent.

        Returns:
            a, b.
        """

    @abstractmethod
    def split(
        self, prediction: torch.Tensor, sample: torch.Tensor, now: Sequence[float]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The clean latent and the noise that the network finds in `sample`.

        Args:
            prediction, sample: (batch, channels, height, width).
            now: (batch,) times.

        Returns:
            The clean latent and the noise, each of that shape.
        """

    def network_input(self, sample: torch.Tensor, now: torch.Tensor) -> torch.Tensor:
        """What the network is given of a noisy latent.

        Args:
            sample: (batch, channels, height, width).
            now: (batch,) times.

        Returns:
            The sample itself, unless the schedule scales it.
        """
        return sample

    def network_time(self, now: torch.Tensor) -> torch.Tensor:
        """What the network is given as the time.

        Args:
            now: (batch,) times.

        Returns:
            (batch,) the times themselves, unless the schedule has another measure for the network.
        """
        return now

    def add_noise(
        self, clean: torch.Tensor, noise: torch.Tensor, levels: Sequence[float], first: Sequence[float]
    ) -> torch.Tensor:
        """Noise each clean latent to its level, q(x_t | x_0); at level 1 noise alone.

        Args:
            clean: x_0, (batch, channels, height, width).
            noise: standard normal, of the same shape.
            levels: (batch,) noise levels in (0, 1].
            first: (batch,) times.

        Returns:
            x_t, of the same shape.
        """
        shares = [
            (0.0, self.purest) if level >= PURE_NOISE else self.signal_and_noise(time)
            for level, time in zip(levels, first)
        ]
        return _mixed(clean, noise, shares)

    def step(
        self, prediction: torch.Tensor, sample: torch.Tensor, now: Sequence[float], then: Sequence[float | None]
    ) -> torch.Tensor:
        """One deterministic step from time `now` to `then`.

        Args:
            prediction: the network's, (batch, channels, height, width).
            sample: the noisy latent, of the same shape.
            now, then: (batch,) times; None in `then`: the clean latent.

        Returns:
            The latent at `then`, of the same shape.
        """
        clean, noise = self.split(prediction, sample, now)
        return _mixed(clean, noise, [self.signal_and_noise(time) for time in then])

    def noise_share(self, time: float) -> float:
        """The noise's share of the variance of a latent whose clean one has variance 1: 1 - a_t of Ho et al. 2020.

        Args:
            time: as of `timesteps`.

        Returns:
            b^2 / (a^2 + b^2).
        """
        signal, noise = self.signal_and_noise(time)
        return noise**2 / (signal**2 + noise**2)


@dataclass(frozen=True)
class NoiseSchedule(Schedule):
    """A checkpoint's training noise schedule. Steps are those of DDIM (Song et al. 2021, equation 12 with eta = 0).

    Attributes:
        alphas_cumprod: (N,) float64, the product of (1 - beta) up to each timestep.
        final_alpha: the same product "before" timestep 0.
        prediction_type: "epsilon", "v_prediction" or "sample".
        clip_range: where the predicted clean latent is clipped; None: nowhere.
        spacing, steps_offset: how the checkpoint spaces its timesteps when it starts from pure noise.
    """

    alphas_cumprod: torch.Tensor
    final_alpha: float
    prediction_type: str
    clip_range: float | None
    spacing: str
    steps_offset: int

    @staticmethod
    def from_folder(folder: Path) -> NoiseSchedule:
        """Read scheduler/scheduler_config.json of any diffusers scheduler over the same betas.

        Args:
            folder: the checkpoint's scheduler/.

        Returns:
            The schedule that it states.

        Raises:
            UnfitFiles: it is not over betas, or predicts something else. OSError, ValueError: it cannot be read.
        """
        stated = DDIMScheduler.load_config(folder, local_files_only=True)
        if not isinstance(stated, dict) or not {"beta_schedule", "trained_betas"} & set(stated):
            raise UnfitFiles("its scheduler does not state its betas")
        count = stated.get("num_train_timesteps", 1000)
        if not isinstance(count, int) or not 1 <= count <= MOST_TIMESTEPS:
            raise UnfitFiles(f"its scheduler has {count} timesteps")
        scheduler = DDIMScheduler.from_config(stated)
        config = scheduler.config
        if config.prediction_type not in ("epsilon", "v_prediction", "sample"):
            raise UnfitFiles(f"its prediction type {config.prediction_type} is not supported")
        alphas = scheduler.alphas_cumprod.double()
        if not (torch.isfinite(alphas).all() and (alphas >= 0).all() and (alphas <= 1).all()):
            raise UnfitFiles("its scheduler's betas are no noise schedule")
        # DDIMScheduler clips by default, which is right for pixels and wrong for latents: clip only where the
        # checkpoint says so.
        clips = bool(stated.get("clip_sample", False))
        return NoiseSchedule(
            alphas,
            float(scheduler.final_alpha_cumprod),
            config.prediction_type,
            float(config.clip_sample_range) if clips else None,
            config.timestep_spacing,
            int(config.steps_offset),
        )

    def timesteps(self, noise_level: float, steps: int) -> np.ndarray:
        """Descending timesteps from a noise level, at most as many as there are timesteps below it.

        Below pure noise they are evenly spaced and start at the level itself ("trailing" in Lin et al. 2023, Common
        Diffusion Noise Schedules and Sample Steps are Flawed). At noise level 1 they are those that diffusers'
        DDIMScheduler takes for this checkpoint.

        Args:
            noise_level: in (0, 1], 1 is pure noise.
            steps: how many, at least one.

        Returns:
            (steps,) int64.

        Raises:
            ValueError: a level outside (0, 1], or less than one step.
        """
        check_level(noise_level, steps)
        count = len(self.alphas_cumprod)
        first = max(1, round(noise_level * count))
        steps = min(steps, first)
        if noise_level < PURE_NOISE or self.spacing == "trailing":
            return np.round(first - np.arange(steps) * (first / steps)).astype(np.int64) - 1
        if self.spacing == "linspace":
            return np.linspace(0, count - 1, steps).round()[::-1].astype(np.int64)
        return (np.arange(steps) * (count // steps))[::-1].astype(np.int64) + self.steps_offset

    def signal_and_noise(self, time: int | None) -> tuple[float, float]:
        alpha = self.final_alpha if time is None else float(self.alphas_cumprod[time])
        return alpha**0.5, (1 - alpha) ** 0.5

    def split(
        self, prediction: torch.Tensor, sample: torch.Tensor, now: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The clean latent and the noise that the network finds in `sample` at timestep `now`.

        Whatever the network predicts, sample = sqrt(a_t) clean + sqrt(1 - a_t) noise, but for the clipping of the
        clean latent ("v_prediction": Salimans and Ho 2022).

        Args:
            prediction, sample: (batch, channels, height, width).
            now: (batch,) timesteps.

        Returns:
            The clean latent and the noise, each of that shape.
        """
        alpha = per_image([float(self.alphas_cumprod[t]) for t in now], sample)
        if self.prediction_type == "v_prediction":
            clean = alpha.sqrt() * sample - (1 - alpha).sqrt() * prediction
            noise = alpha.sqrt() * prediction + (1 - alpha).sqrt() * sample
        elif self.prediction_type == "sample":
            clean = prediction
            noise = (sample - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        else:
            clean = (sample - (1 - alpha).sqrt() * prediction) / alpha.sqrt()
            noise = prediction
        if self.clip_range is not None:
            clean = clean.clamp(-self.clip_range, self.clip_range)
        return clean, noise


def check_level(noise_level: float, steps: int) -> None:
    """Refuse a level outside (0, 1], or less than one step.

    Args:
        noise_level: 1 is pure noise.
        steps: how many.

    Raises:
        ValueError: it says which.
    """
    if not 0 < noise_level <= PURE_NOISE or steps < 1:
        raise ValueError(f"noise level {noise_level} and {steps} steps: the level lies in (0, 1] and a step is needed")


def per_image(values: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    """A number for each image of a batch, to be multiplied with it.

    Args:
        values: (batch,) numbers.
        like: the images, which say device and dtype.

    Returns:
        (batch, 1, 1, 1).
    """
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None, None]


def _mixed(clean: torch.Tensor, noise: torch.Tensor, shares: Sequence[tuple[float, float]]) -> torch.Tensor:
    signals, noises = zip(*shares)
    return per_image(signals, clean) * clean + per_image(noises, clean) * noise
