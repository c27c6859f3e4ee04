"""InstructPix2Pix (Brooks, Holynski, Efros 2023) on diffusers' own networks, as Instruct-NeRF2NeRF uses it.

A render's latent is noised to a level and denoised by DDIM, conditioned on the instruction and on the original photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from ...models.catalogue import Model, unfit
from ...scene.errors import In2nError
from .editor import OriginalLatent
from .latent_editor import LatentEditor, normal_noise
from .reading import UnfitFiles, reading
from .schedules import NoiseSchedule
from .weights import encode_prompts, load_network
from .working_size import WorkingSize

# Of an image at the size that the networks see, at the peak of an edit: decoding, in half precision.
BYTES_A_PIXEL = 10_000
MOST_AT_ONCE = 8


def images_that_fit(memory: int, size: tuple[int, int]) -> int:
    """How many images are edited in one batch.

    Args:
        memory: Bytes that they may take.
        size: (height, width) at which the networks see the largest.

    Returns:
        From 1 to MOST_AT_ONCE.
    """
    return min(max(memory // (BYTES_A_PIXEL * size[0] * size[1]), 1), MOST_AT_ONCE)


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


class InstructPix2Pix(LatentEditor):
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
        super().__init__(model, device)
        self.folder = folder
        self.dtype = torch.float16 if device.type == "cuda" and model.half_precision else torch.float32
        self._load_networks()
        latent_factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.multiple = latent_factor * 2 ** (len(self.unet.config.block_out_channels) - 1)
        self.working_side = min(model.working_side, self._trained_side(latent_factor))
        self._prompt: torch.Tensor | None = None
        for network in (self.unet, self.vae):
            _before_every_layer(network, lambda: self._report.check())

    def prepare(self, instruction: str) -> None:
        phrase = self.model.check_instruction(instruction)
        width = self.unet.config.cross_attention_dim
        with reading("text_encoder", self._unfit):
            self._prompt = encode_prompts(
                self.folder, [phrase, ""], width if isinstance(width, int) else None, self.device, self.dtype
            )

    def views_at_once(self, size: tuple[int, int]) -> int:
        """On a CUDA device as many as half of the memory that is free holds.

        Args:
            size: (height, width) of the largest.

        Returns:
            From 1 to MOST_AT_ONCE.
        """
        if self.device.type != "cuda":
            return 1
        free, _ = torch.cuda.mem_get_info(self.device)
        return images_that_fit(free // 2, self._working_size(size).padded)

    @property
    def _prepared(self) -> bool:
        return self._prompt is not None

    @torch.no_grad()
    def encode_original(self, image: torch.Tensor) -> OriginalLatent:
        size = tuple(image.shape[-2:])
        return OriginalLatent(self._posterior(image).mode().float(), size)

    def _guided(self, latent, now, condition, guidance) -> torch.Tensor:
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

    def _mean_latent(self, render: torch.Tensor) -> torch.Tensor:
        return self._posterior(render).mean.float() * self.vae.config.scaling_factor

    def _sample_latent(self, render: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
        posterior = self._posterior(render)
        mean, deviation = posterior.mean.float(), posterior.std.float()
        return (mean + deviation * normal_noise(mean.shape, generators, self.device)) * self.vae.config.scaling_factor

    def _posterior(self, image: torch.Tensor):
        working_size = self._working_size(tuple(image.shape[-2:]))
        image = working_size.enter(image.to(self.device, torch.float32))
        return self.vae.encode((image * 2 - 1).to(self.dtype)).latent_dist

    def _decode_to_size(self, latent: torch.Tensor, condition: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return self._working_size(size).leave(self._decode(latent), size)

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


def _before_every_layer(network: torch.nn.Module, call) -> None:
    """Lets a job be cancelled in the middle of a network evaluation, which takes many seconds on a CPU."""
    for module in network.modules():
        if not any(module.children()):
            module.register_forward_pre_hook(lambda module, inputs: call())
