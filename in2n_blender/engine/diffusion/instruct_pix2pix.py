"""InstructPix2Pix (Brooks, Holynski, Efros 2023) on diffusers' own networks, as Instruct-NeRF2NeRF uses it.

A render's latent is noised to a level and denoised by DDIM, conditioned on the instruction and on the original photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from ...models.catalogue import Model, unfit
from ...scene.errors import In2nError
from ...scene.reporting import Reporter
from .editor import Editor, OriginalLatent
from .reading import UnfitFiles, reading
from .schedules import NoiseSchedule
from .weights import encode_prompts, load_network
from .working_size import WorkingSize


def guidance_weights(guidance_text: float, guidance_image: float) -> tuple[float, float, float]:
    """Classifier-free guidance over two conditions, as weights of the network's branches (Brooks et al., equation 3).

    u + s_T (t - i) + s_I (i - u) = s_T t + (s_I - s_T) i + (1 - s_I) u: a branch of weight 0 need not be evaluated.

    Args:
        guidance_text: s_T, how strongly the instruction is followed.
        guidance_image: s_I, how strongly the original photo is kept.

    Returns:
        The weights of the predictions with text and image (t), with the image alone (i) and with neither (u); they sum
        to 1.
    """
    return guidance_text, guidance_image - guidance_text, 1 - guidance_image


class InstructPix2Pix(Editor):
    """An InstructPix2Pix checkpoint in the diffusers layout.

    The text encoder is in memory only while `prepare` runs. float16 on CUDA where the model allows it, float32
    elsewhere; noise, guidance and DDIM steps are always float32.
    """

    autoencoder_class: type = AutoencoderKL

    def __init__(self, model: Model, folder: Path, device: torch.device):
        """Load the networks.

        Args:
            model: the catalogue's entry.
            folder: where its weights are.
            device: what it runs on.

        Raises:
            In2nError: "editor_unfit" when the folder does not hold such a checkpoint as safetensors.
        """
        self.model, self.folder, self.device = model, folder, device
        self.unet_evaluations = 0
        self.dtype = torch.float16 if device.type == "cuda" and model.half_precision else torch.float32
        self._load_networks()
        latent_factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.multiple = latent_factor * 2 ** (len(self.unet.config.block_out_channels) - 1)
        self.working_side = min(model.working_side, self._trained_side(latent_factor))
        self._prompt: torch.Tensor | None = None
        self._report = Reporter()
        for network in (self.unet, self.vae):
            _before_every_layer(network, lambda: self._report.check())

    def prepare(self, instruction: str) -> None:
        phrase = self.model.check_instruction(instruction)
        width = self.unet.config.cross_attention_dim
        with reading("text_encoder", self._unfit):
            self._prompt = encode_prompts(
                self.folder, [phrase, ""], width if isinstance(width, int) else None, self.device, self.dtype
            )

    @torch.no_grad()
    def encode_original(self, image: torch.Tensor) -> OriginalLatent:
        size = tuple(image.shape[-2:])
        return OriginalLatent(self._posterior(image).mode().float(), size)

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
            latent = self._posterior(render).mean.float() * self.vae.config.scaling_factor
            with torch.no_grad():
                direction = self._distillation_direction(
                    latent, original, noise_level, generators, self._guidance(guidance_text, guidance_image)
                )
        # The gradient of half the squared distance to a constant `latent - direction` is `direction`.
        return (self._latent_metric() * (latent - (latent - direction).detach()) ** 2).mean() / 2

    def _latent_metric(self) -> torch.Tensor | float:
        """What a squared distance in each channel of the latent is worth, of mean 1."""
        return 1.0

    def _distillation_direction(
        self, latent, original: OriginalLatent, noise_level: float, generators, guidance
    ) -> torch.Tensor:
        """w(t) (eps_guided - eps), of the latent's shape."""
        count = len(latent)
        timestep = int(self.schedule.timesteps(noise_level, 1)[0])
        noise = _normal(latent.shape, generators, self.device)
        noisy = self.schedule.add_noise(latent, noise, [noise_level] * count, [timestep] * count)
        prediction = self._guided(noisy, torch.full((count,), timestep), original.latent.to(self.device), guidance)
        _, predicted_noise = self.schedule.split(prediction, noisy, [timestep] * count)
        return (1 - float(self.schedule.alphas_cumprod[timestep])) * (predicted_noise - noise)

    @contextmanager
    def _reporting_to(self, report: Reporter | None):
        """What the networks' layers ask whether the job was cancelled."""
        self._report = report or Reporter()
        try:
            yield
        finally:
            self._report = Reporter()

    def _guidance(self, text: float | None, image: float | None) -> tuple[float, float]:
        return self.guidance_text if text is None else text, self.guidance_image if image is None else image

    def _checked_original(self, original, render: torch.Tensor, generators) -> OriginalLatent:
        """The encoded originals. Raises ValueError where sizes or counts do not fit, or before `prepare`."""
        size, count = tuple(render.shape[-2:]), len(render)
        if self._prompt is None:
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

        clean = self._sample_latent(render, generators)
        noise = _normal(clean.shape, generators, self.device)
        steps = min(len(self.schedule.timesteps(level, steps)) for level in levels)
        timesteps = torch.from_numpy(np.stack([self.schedule.timesteps(level, steps) for level in levels]))
        latent = self.schedule.add_noise(clean, noise, levels, timesteps[:, 0].tolist())
        latent = self._denoise(latent, original.latent.to(self.device), timesteps, guidance)

        image = self._decode(latent)
        return self._working_size(size).leave(image, size).clamp(0, 1).to(render.device)

    def _denoise(self, latent, condition, timesteps, guidance) -> torch.Tensor:
        """DDIM over timesteps (batch, steps) from latent, shapes (batch, channels, height, width)."""
        count, steps = timesteps.shape
        for index in range(steps):
            self._report.progress(index, steps, "step", "Editing")
            now = timesteps[:, index]
            then = [None] * count if index + 1 == steps else timesteps[:, index + 1].tolist()
            latent = self.schedule.step(self._guided(latent, now, condition, guidance), latent, now.tolist(), then)
        return latent

    def _guided(self, latent, now, condition, guidance) -> torch.Tensor:
        """The network's prediction under both guidance scales, of latent's shape; now: (batch,) timesteps."""
        instruction, nothing = self._prompt
        branches = ((condition, instruction), (condition, nothing), (torch.zeros_like(condition), nothing))
        used = [(weight, *branch) for weight, branch in zip(guidance_weights(*guidance), branches) if weight]
        predictions = self._predict(latent, now.to(self.device), [branch for _, *branch in used])
        return sum(weight * prediction for (weight, *_), prediction in zip(used, predictions))

    def _predict(self, latent: torch.Tensor, now: torch.Tensor, branches: list) -> Sequence[torch.Tensor]:
        """The network's prediction for every branch (condition, prompt), each of latent's shape, in float32.

        All in one batch, except on a CPU, where that gains nothing and a cancelled job would stop later.
        """
        if self.device.type == "cpu" and len(branches) > 1:
            return [self._predict(latent, now, [branch])[0] for branch in branches]
        conditions = torch.cat([condition for condition, _ in branches])
        inputs = torch.cat([latent.repeat(len(branches), 1, 1, 1), conditions], dim=1).to(self.dtype)
        prompts = torch.stack([prompt for _, prompt in branches for _ in range(len(latent))])
        output = self.unet(inputs, now.repeat(len(branches)), encoder_hidden_states=prompts, return_dict=False)[0]
        self.unet_evaluations += len(branches) * len(latent)
        return output.float().chunk(len(branches))

    def _sample_latent(self, render: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
        posterior = self._posterior(render)
        mean, deviation = posterior.mean.float(), posterior.std.float()
        return (mean + deviation * _normal(mean.shape, generators, self.device)) * self.vae.config.scaling_factor

    def _posterior(self, image: torch.Tensor):
        working_size = self._working_size(tuple(image.shape[-2:]))
        image = working_size.enter(image.to(self.device, torch.float32))
        return self.vae.encode((image * 2 - 1).to(self.dtype)).latent_dist

    def _decode(self, latent: torch.Tensor) -> torch.Tensor:
        return self.vae.decode((latent / self.vae.config.scaling_factor).to(self.dtype)).sample.float() / 2 + 0.5

    def _working_size(self, image_size: tuple[int, int]) -> WorkingSize:
        return WorkingSize.of(image_size, self.working_side, self.multiple)

    def _trained_side(self, latent_factor: int) -> int:
        side = self.unet.config.sample_size
        return (side if isinstance(side, int) else min(side) if side else 64) * latent_factor

    def _load_networks(self) -> None:
        with reading("scheduler", self._unfit):
            self.schedule = NoiseSchedule.from_folder(self.folder / "scheduler")
        with reading("unet", self._unfit):
            self.unet = load_network(self.folder / "unet", UNet2DConditionModel, self.device, self.dtype)
        with reading("vae", self._unfit):
            self.vae = load_network(self.folder / "vae", self.autoencoder_class, self.device, self.dtype)
            channels = self.vae.config.latent_channels
            if self.unet.config.in_channels != 2 * channels:
                raise UnfitFiles("its network does not take an original image beside the noisy one")
            if self.unet.config.out_channels != channels:
                raise UnfitFiles("its unet and its vae do not fit together")

    def _unfit(self, reason: str) -> In2nError:
        return unfit(self.name, reason)


def _normal(shape, generators: Sequence[torch.Generator], device) -> torch.Tensor:
    """Standard normal noise, each image's from its own CPU generator."""
    return torch.stack([torch.randn(shape[1:], generator=generator) for generator in generators]).to(device)


def _before_every_layer(network: torch.nn.Module, call) -> None:
    """Lets a job be cancelled in the middle of a network evaluation, which takes many seconds on a CPU."""
    for module in network.modules():
        if not any(module.children()):
            module.register_forward_pre_hook(lambda module, inputs: call())
