"""InstructPix2Pix (Brooks, Holynski, Efros 2023) on diffusers' own networks, as Instruct-NeRF2NeRF uses it.

A render's latent is noised to a level and denoised by DDIM, conditioned on the instruction and on the original photo.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from ...scene.errors import In2nError
from ...scene.reporting import Reporter
from ...workspace.files import read_json
from .editor import Editor, OriginalLatent, miniature_facts
from .schedules import NoiseSchedule

# Instruct-NeRF2NeRF's defaults, for every editor that does not bring its own.
GUIDANCE_TEXT, GUIDANCE_IMAGE, DENOISING_STEPS = 7.5, 1.5, 20

# InstructPix2Pix was trained at 256 pixels and works best between 256 and 512: smaller renders are enlarged for it.
WORKING_SIDE = 384

COMPONENTS = ("scheduler", "text_encoder", "tokenizer", "unet", "vae")


@dataclass(frozen=True)
class WorkingSize:
    """How images enter the networks: resized to (height, width), then padded at the right and bottom to `padded`."""

    height: int
    width: int
    padded: tuple[int, int]

    @staticmethod
    def of(image_size: tuple[int, int], shortest_side: int, multiple: int) -> WorkingSize:
        """For images of (height, width): never smaller than shortest_side, padded to multiples of `multiple`."""
        scale = max(1.0, shortest_side / min(image_size))
        height, width = (round(side * scale) for side in image_size)
        return WorkingSize(height, width, tuple(math.ceil(side / multiple) * multiple for side in (height, width)))

    def enter(self, image: torch.Tensor) -> torch.Tensor:
        """(batch, 3, height, width) resized and padded by reflection."""
        image = _resize(image, (self.height, self.width))
        down, right = self.padded[0] - self.height, self.padded[1] - self.width
        fits = down < self.height and right < self.width
        return functional.pad(image, (0, right, 0, down), mode="reflect" if fits else "replicate")

    def leave(self, image: torch.Tensor, image_size: tuple[int, int]) -> torch.Tensor:
        return _resize(image[..., : self.height, : self.width], image_size)


def guidance_weights(guidance_text: float, guidance_image: float) -> tuple[float, float, float]:
    """Classifier-free guidance over two conditions (Brooks et al., equation 3), as weights of the three branches'
    predictions in the order [text + image, image, unconditional]; they sum to 1.

    u + s_T (t - i) + s_I (i - u) = s_T t + (s_I - s_T) i + (1 - s_I) u: a branch of weight 0 need not be evaluated.
    """
    return guidance_text, guidance_image - guidance_text, 1 - guidance_image


class InstructPix2Pix(Editor):
    """An InstructPix2Pix checkpoint in the diffusers layout.

    The text encoder is in memory only while `prepare` runs. float16 on CUDA, float32 elsewhere; noise, guidance and
    DDIM steps are always float32.
    """

    def __init__(self, name: str, folder: Path, device: torch.device):
        """Raises In2nError("editor_unfit") when the folder does not hold such a checkpoint as safetensors."""
        self.name = name
        self.folder = folder
        self.device = device
        self.unet_evaluations = 0
        self.facts = miniature_facts(folder)
        self.guidance_text = float(self.facts.get("guidance_text", GUIDANCE_TEXT))
        self.guidance_image = float(self.facts.get("guidance_image", GUIDANCE_IMAGE))
        self.steps = int(self.facts.get("steps", DENOISING_STEPS))
        # The miniature is small enough to be run exactly.
        self.dtype = torch.float16 if device.type == "cuda" and not self.facts else torch.float32
        self.schedule, self.unet, self.vae = self._load_networks()
        latent_factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.multiple = latent_factor * 2 ** (len(self.unet.config.block_out_channels) - 1)
        self.working_side = int(self.facts.get("working_side", min(WORKING_SIDE, self._trained_side(latent_factor))))
        self._prompt: torch.Tensor | None = None
        self._report = Reporter()
        for network in (self.unet, self.vae):
            _before_every_layer(network, lambda: self._report.check())

    def prepare(self, instruction: str) -> None:
        if not instruction.strip():
            raise In2nError(
                "empty_instruction", "The instruction is empty.", "Say what to change, for example “make it night”."
            )
        if self.facts:
            from .miniature.instructions import match_phrase

            _, instruction = match_phrase(instruction, self.folder)
        self._prompt = self._encode_prompt(instruction.strip())

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
        """What a squared distance in each channel of the latent is worth, of mean 1.

        The miniature's latent is scaled so that every frequency band has one size. Unweighted, its finest bands, hardly
        visible, would make up nearly all of a gradient in pixels; with their variances it is the distance between the
        images.
        """
        deviations = getattr(self.vae, "deviations", None)
        if deviations is None:
            return 1.0
        variances = deviations.to(self.device) ** 2
        return (variances / variances.mean())[:, None, None]

    def _distillation_direction(
        self, latent, original: OriginalLatent, noise_level: float, generators, guidance
    ) -> torch.Tensor:
        """w(t) (eps_guided - eps), of the latent's shape."""
        count = len(latent)
        timestep = int(self.schedule.timesteps(noise_level, 1)[0])
        noise = _normal(latent.shape, generators, self.device)
        noisy = self.schedule.add_noise(latent, noise, [noise_level] * count, [timestep] * count)
        prediction = self._guided(noisy, torch.full((count,), timestep), original.latent.to(self.device), guidance)
        _, seen = self.schedule.split(prediction, noisy, [timestep] * count)
        return (1 - float(self.schedule.alphas_cumprod[timestep])) * (seen - noise)

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

    @torch.no_grad()
    def _encode_prompt(self, instruction: str) -> torch.Tensor:
        """(2, tokens, width): the instruction and the empty prompt."""
        from transformers import CLIPTextModel, CLIPTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        tokenizer = CLIPTokenizer.from_pretrained(self.folder / "tokenizer", local_files_only=True)
        encoder = (
            CLIPTextModel.from_pretrained(
                self.folder / "text_encoder",
                local_files_only=True,
                use_safetensors=True,
                dtype=self.dtype,
                **_variant(self.folder / "text_encoder"),
            )
            .to(self.device)
            .eval()
        )
        tokens = tokenizer(
            [instruction, ""],
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        mask = tokens.attention_mask.to(self.device) if getattr(encoder.config, "use_attention_mask", False) else None
        return encoder(tokens.input_ids.to(self.device), attention_mask=mask)[0].to(self.dtype)

    def _load_networks(self):
        missing = [part for part in COMPONENTS if not (self.folder / part).is_dir()]
        if missing:
            raise self._unfit(f"it has no {', '.join(missing)}")
        try:
            schedule = NoiseSchedule.from_folder(self.folder / "scheduler")
            networks = [self._load(part, self._network_class(part)) for part in ("unet", "vae")]
        except (OSError, ValueError) as error:
            raise self._unfit(str(error).splitlines()[0]) from error
        unet, vae = networks
        if unet.config.in_channels != 2 * vae.config.latent_channels:
            raise self._unfit("its network does not take an original image beside the noisy one")
        return schedule, unet, vae

    def _network_class(self, part: str):
        from diffusers import AutoencoderKL, UNet2DConditionModel

        from .miniature.autoencoder import BlockTransformAutoencoder

        classes = {c.__name__: c for c in (UNet2DConditionModel, AutoencoderKL, BlockTransformAutoencoder)}
        name = read_json(self.folder / part / "config.json").get("_class_name")
        if name not in classes:
            raise ValueError(f"its {part} is a {name}")
        return classes[name]

    def _load(self, part: str, network_class):
        folder = self.folder / part
        network = network_class.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, torch_dtype=self.dtype, **_variant(folder)
        )
        return network.to(self.device).eval().requires_grad_(False)

    def _unfit(self, why: str) -> In2nError:
        return In2nError(
            "editor_unfit",
            f"“{self.name}” cannot be used as an editor: {why}.",
            "Choose an InstructPix2Pix model in the diffusers layout with safetensors weights.",
        )


def _variant(folder: Path) -> dict:
    """The weights' variant where a folder holds nothing but half precision files."""
    files = [path.name for path in folder.glob("*.safetensors")]
    return {"variant": "fp16"} if files and all(".fp16" in name for name in files) else {}


def _resize(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    return functional.interpolate(image, size=size, mode="bicubic", antialias=True).clamp(0, 1)


def _normal(shape, generators: Sequence[torch.Generator], device) -> torch.Tensor:
    """Standard normal noise, each image's from its own CPU generator."""
    return torch.stack([torch.randn(shape[1:], generator=generator) for generator in generators]).to(device)


def _before_every_layer(network: torch.nn.Module, call) -> None:
    """Lets a job be cancelled in the middle of a network evaluation, which takes many seconds on a CPU."""
    for module in network.modules():
        if not any(module.children()):
            module.register_forward_pre_hook(lambda module, inputs: call())
