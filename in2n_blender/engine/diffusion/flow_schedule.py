"""Flow matching's straight path from noise to a clean latent (Lipman et al. 2023, Liu et al. 2023), with its shift."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from .reading import UnfitFiles
from .schedules import Schedule, check_level, per_image

SCHEDULER = FlowMatchEulerDiscreteScheduler.__name__
# What none of the models that are known uses, and what would make another path of it.
NOT_SUPPORTED = (
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "invert_sigmas",
    "stochastic_sampling",
)


@dataclass(frozen=True)
class FlowSchedule(Schedule):
    """x = (1 - sigma) clean + sigma noise; the network predicts noise - clean. Times are sigmas.

    Steps are Euler's. Sigmas are spaced as diffusers' FlowMatchEulerDiscreteScheduler spaces them: evenly, then shifted
    towards noise by u -> m / (m + 1/u - 1), the more the larger the image (Esser et al. 2024, equation 23). A level is
    a sigma as it is, after the shift: the first time is the level.

    Attributes:
        shift: m.
        terminal: what the last sigma is stretched to, from level 1; None: it is not.
    """

    shift: float
    terminal: float | None = None

    def timesteps(self, noise_level: float, steps: int) -> np.ndarray:
        check_level(noise_level, steps)
        even = self._unshifted(noise_level) * np.linspace(1, 1 / steps, steps)
        sigmas = self.shift / (self.shift + 1 / even - 1)
        if self.terminal and steps > 1:
            last = self.terminal * noise_level
            sigmas = noise_level - (noise_level - sigmas) * (noise_level - last) / (noise_level - sigmas[-1])
        sigmas[0] = noise_level  # to the last digit
        return sigmas

    def signal_and_noise(self, time: float | None) -> tuple[float, float]:
        return 1 - (time or 0.0), time or 0.0

    def split(
        self, prediction: torch.Tensor, sample: torch.Tensor, now: Sequence[float]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        sigma = per_image(list(now), sample)
        return sample - sigma * prediction, sample + (1 - sigma) * prediction

    def _unshifted(self, sigma: float) -> float:
        return 1 / (1 + self.shift * (1 / sigma - 1))


@dataclass(frozen=True)
class FlowSettings:
    """What a checkpoint states of its shift.

    Attributes:
        shift: m, where it does not depend on the image.
        dynamic: how m is made of mu, "exponential" or "linear"; None: the fixed shift counts.
        terminal: as of `FlowSchedule`.
        lengths: numbers of tokens between which mu is interpolated, and mu at these: (least, most), (low, high).
    """

    shift: float
    dynamic: str | None
    terminal: float | None
    lengths: tuple[tuple[int, int], tuple[float, float]]

    @staticmethod
    def from_folder(folder: Path) -> FlowSettings:
        """Read scheduler/scheduler_config.json of diffusers' FlowMatchEulerDiscreteScheduler.

        Args:
            folder: the checkpoint's scheduler/.

        Returns:
            What it states.

        Raises:
            UnfitFiles: it is of another kind. OSError, ValueError: it cannot be read.
        """
        stated = FlowMatchEulerDiscreteScheduler.load_config(folder, local_files_only=True)
        if not isinstance(stated, dict) or stated.get("_class_name") != SCHEDULER:
            raise UnfitFiles("its scheduler is not one of flow matching")
        config = FlowMatchEulerDiscreteScheduler.from_config(stated).config
        other = [name for name in NOT_SUPPORTED if config.get(name)]
        if other:
            raise UnfitFiles(f"its scheduler wants {other[0]}, which is not supported")
        numbers = config.shift, config.base_shift, config.max_shift
        if not all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers):
            raise UnfitFiles("its scheduler's shift is no number")
        terminal = config.shift_terminal
        if config.shift <= 0 or not (terminal is None or 0 <= terminal < 1):
            raise UnfitFiles("its scheduler's shift is no shift")
        lengths = (int(config.base_image_seq_len), int(config.max_image_seq_len))
        dynamic = config.time_shift_type if config.use_dynamic_shifting else None
        return FlowSettings(float(config.shift), dynamic, terminal, (lengths, (config.base_shift, config.max_shift)))

    def mu(self, tokens: int) -> float:
        """mu of an image, in between where its size is in between.

        Args:
            tokens: of its latent.

        Returns:
            What the exponential shift is the exponential of.
        """
        (least, most), (low, high) = self.lengths
        return low + (tokens - least) * (high - low) / (most - least)

    def schedule(self, mu: float) -> FlowSchedule:
        """The schedule of an image.

        Args:
            mu: of its size; counts for nothing where the shift is fixed.

        Returns:
            With its shift.
        """
        shift = {None: self.shift, "exponential": math.exp(mu), "linear": mu}[self.dynamic]
        return FlowSchedule(shift, self.terminal)
