"""InstructPix2Pix (Brooks, Holynski, Efros 2023) on diffusers' own networks, as Instruct-NeRF2NeRF uses it.

A render's latent is noised to a level and denoised by DDIM, conditioned on the instruction and on the original photo.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from .edm_schedule import schedule_of
from .network_editor import NetworkEditor
from .reading import UnfitFiles, reading
from .weights import encode_prompts, load_tokenizer


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


class InstructPix2Pix(NetworkEditor):
    """An InstructPix2Pix checkpoint. Its original's latent is the posterior's mode, unscaled."""

    autoencoder_class: type = AutoencoderKL
    branches_together = True

    def _encode_text(self, phrase: str, negative_prompt: str):
        """(2, tokens, width): the instruction, and what stands in its place where there is none."""
        width = self.unet.config.cross_attention_dim
        tokenizer = load_tokenizer(self.folder / "tokenizer", CLIPTokenizer)
        encoder = self._text_encoder("text_encoder", CLIPTextModel)
        return encode_prompts(
            encoder, tokenizer, [phrase, negative_prompt], width if isinstance(width, int) else None, self.device
        )

    def _text_inputs(self, prompts: list, latent: torch.Tensor) -> dict:
        """The network's arguments for what `_encode_text` made, one for each of a batch."""
        return {"encoder_hidden_states": torch.stack(prompts)}

    def _condition_latent(self, latent: torch.Tensor) -> torch.Tensor:
        return latent

    def _guided(self, latent, now, condition, guidance) -> torch.Tensor:
        instruction, nothing = self._text
        photo = condition.latent
        branches = ((photo, instruction), (photo, nothing), (torch.zeros_like(photo), nothing))
        used = [(weight, *branch) for weight, branch in zip(guidance_weights(*guidance), branches) if weight]
        sample, time = self.schedule.network_input(latent, now), self.schedule.network_time(now).to(self.device)
        predictions = self._predict(sample, time, [branch for _, *branch in used])
        return sum(weight * prediction for (weight, *_), prediction in zip(used, predictions))

    def _predict(self, latent: torch.Tensor, now: torch.Tensor, branches: list) -> Sequence[torch.Tensor]:
        """The network's prediction for every branch (condition, prompt), each of latent's shape, in float32.

        All in one batch, except where memory has ended, and on a CPU, where that gains nothing and a cancelled job
        would stop later.
        """
        if not self.branches_together and len(branches) > 1:
            return [self._predict(latent, now, [branch])[0] for branch in branches]
        conditions = torch.cat([condition for condition, _ in branches])
        inputs = torch.cat([latent.repeat(len(branches), 1, 1, 1), conditions], dim=1).to(self.dtype)
        prompts = [prompt for _, prompt in branches for _ in range(len(latent))]
        times, words = now.repeat(len(branches)), self._text_inputs(prompts, latent)
        output = self.unet(inputs, times, return_dict=False, **words)[0]
        self.unet_evaluations += len(branches) * len(latent)
        return output.float().chunk(len(branches))

    def _encoded(self, image: torch.Tensor):
        return self.vae.encode(image.to(self.vae.dtype)).latent_dist

    def _scaled(self, latent: torch.Tensor) -> torch.Tensor:
        return latent * self.vae.config.scaling_factor

    def _decode(self, latent: torch.Tensor) -> torch.Tensor:
        return self.vae.decode((latent / self.vae.config.scaling_factor).to(self.vae.dtype)).sample.float() / 2 + 0.5

    def _load_networks(self) -> None:
        with reading("scheduler", self._unfit):
            self.schedule = schedule_of(self.folder / "scheduler")
        with reading("unet", self._unfit):
            self.unet = self._network("unet", UNet2DConditionModel)
        with reading("vae", self._unfit):
            self.vae = self._network("vae", self.autoencoder_class)
            channels = self.vae.config.latent_channels
            if self.unet.config.in_channels != 2 * channels:
                raise UnfitFiles("its network does not take an original image beside the noisy one")
            if self.unet.config.out_channels != channels:
                raise UnfitFiles("its unet and its vae do not fit together")
        latent_factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        if self.device.type == "cpu":
            self.branches_together = False
        self.multiple = latent_factor * 2 ** (len(self.unet.config.block_out_channels) - 1)
        self.working_side = min(self.working_side, self._trained_side(latent_factor))

    def _trained_side(self, latent_factor: int) -> int:
        side = self.unet.config.sample_size
        return (side if isinstance(side, int) else min(side) if side else 64) * latent_factor
