"""EDM's continuous noise levels (Karras et al. 2022), on which CosXL was trained; which schedule a folder states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import EDMEulerScheduler

from .reading import UnfitFiles
from .schedules import NoiseSchedule, Schedule, check_level, per_image


@dataclass(frozen=True)
class EdmSchedule(Schedule):
    """x = clean + sigma noise. Times are sigmas; steps are Euler's, as of diffusers' EDMEulerScheduler.

    A noise level is the way along the model's own sigmas, from the smallest at 0 to the largest at 1.

    Attributes:
        smallest, largest: sigma.
        data: the clean latents' own deviation, by which the network's input and output are scaled.
        rho: how sigmas are spaced (equation 5); None: evenly in their logarithms.
        prediction_type: "epsilon" or "v_prediction".
    """

    smallest: float
    largest: float
    data: float
    rho: float | None
    prediction_type: str

    @staticmethod
    def from_folder(folder: Path) -> EdmSchedule:
        """Read scheduler/scheduler_config.json of diffusers' EDMEulerScheduler.

        Args:
            folder: the checkpoint's scheduler/.

        Returns:
            The schedule that it states.

        Raises:
            UnfitFiles: its numbers make no sense. OSError, ValueError: it cannot be read.
        """
        config = EDMEulerScheduler.from_config(EDMEulerScheduler.load_config(folder, local_files_only=True)).config
        numbers = config.sigma_min, config.sigma_max, config.sigma_data, config.rho
        if not all(isinstance(number, (int, float)) and 0 < number < math.inf for number in numbers):
            raise UnfitFiles("its scheduler's noise levels are no numbers above 0")
        if config.sigma_min >= config.sigma_max or config.prediction_type not in ("epsilon", "v_prediction"):
            raise UnfitFiles("its scheduler's noise levels are no noise schedule")
        rho = float(config.rho) if config.sigma_schedule == "karras" else None
        return EdmSchedule(*map(float, numbers[:3]), rho, config.prediction_type)

    @property
    def purest(self) -> float:
        return math.hypot(self.largest, 1)

    def timesteps(self, noise_level: float, steps: int) -> np.ndarray:
        check_level(noise_level, steps)
        left = noise_level * np.linspace(1, 0, steps) if steps > 1 else np.array([noise_level])
        if self.rho is None:
            return np.exp(np.log(self.smallest) + left * (np.log(self.largest) - np.log(self.smallest)))
        least, most = self.smallest ** (1 / self.rho), self.largest ** (1 / self.rho)
        return (least + left * (most - least)) ** self.rho

    def signal_and_noise(self, time: float | None) -> tuple[float, float]:
        return 1.0, time or 0.0

    def network_input(self, sample: torch.Tensor, now: torch.Tensor) -> torch.Tensor:
        return sample / per_image(torch.hypot(now.double(), torch.tensor(self.data)).tolist(), sample)

    def network_time(self, now: torch.Tensor) -> torch.Tensor:
        return (now.double().log() / 4).float()

    def split(
        self, prediction: torch.Tensor, sample: torch.Tensor, now: Sequence[float]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Table 1 of the paper: clean = c_skip sample + c_out prediction."""
        skip = per_image([self.data**2 / (sigma**2 + self.data**2) for sigma in now], sample)
        sign = -1 if self.prediction_type == "v_prediction" else 1
        out = per_image([sign * sigma * self.data / math.hypot(sigma, self.data) for sigma in now], sample)
        clean = skip * sample + out * prediction
        return clean, (sample - clean) / per_image(list(now), sample)


def schedule_of(folder: Path) -> Schedule:
    """The schedule that a diffusion model states.

    Args:
        folder: the checkpoint's scheduler/.

    Returns:
        Over EDM's sigmas where its scheduler is one of them, else over betas.

    Raises:
        UnfitFiles, OSError, ValueError.
    """
    stated = EDMEulerScheduler.load_config(folder, local_files_only=True)
    is_edm = isinstance(stated, dict) and stated.get("_class_name") == EDMEulerScheduler.__name__
    return EdmSchedule.from_folder(folder) if is_edm else NoiseSchedule.from_folder(folder)
