"""InstructPix2Pix on Stable Diffusion XL (Podell et al. 2023), and CosXL-Edit, its relative on EDM's noise levels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import StableDiffusionXLInstructPix2PixPipeline
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from ...models.families import read_index
from .edm_schedule import EdmSchedule
from .instruct_pix2pix import InstructPix2Pix
from .reading import UnfitFiles
from .weights import check_fit, load_tokenizer


@dataclass(frozen=True)
class Words:
    """What the network is given of a text.

    Attributes:
        tokens: (tokens, width) of both text encoders, side by side.
        pooled: (width,) of the second one.
    """

    tokens: torch.Tensor
    pooled: torch.Tensor


class SdxlInstructPix2Pix(InstructPix2Pix):
    """A checkpoint of StableDiffusionXLInstructPix2PixPipeline.

    Beside the text, the network is told a size: that at which it works. CosXL-Edit, which states EDM's scheduler (or
    `is_cosxl_edit` in its index), wants the original's latent scaled.
    """

    def _load_networks(self) -> None:
        super()._load_networks()
        index = read_index(self.folder)
        self.is_cosxl = bool(index.get("is_cosxl_edit")) or isinstance(self.schedule, EdmSchedule)
        self.empty_is_zero = bool(index.get("force_zeros_for_empty_prompt", True))
        if self.unet.config.addition_embed_type != "text_time":
            raise self._unfit("its unet is not told a size, as those of Stable Diffusion XL are")
        if self.dtype == torch.float16 and self.vae.config.force_upcast:
            self.vae.to(torch.float32)  # its activations leave the range of float16

    @torch.no_grad()
    def _encode_text(self, phrase: str, negative_prompt: str) -> tuple[Words, Words]:
        parts = {}
        for number, network in (("", CLIPTextModel), ("_2", CLIPTextModelWithProjection)):
            encoder = self._text_encoder(f"text_encoder{number}", network)
            tokenizer = load_tokenizer(self.folder / f"tokenizer{number}", CLIPTokenizer)
            check_fit(tokenizer, encoder)
            parts |= {f"text_encoder{number}": encoder, f"tokenizer{number}": tokenizer}
        pipeline = StableDiffusionXLInstructPix2PixPipeline(
            **parts,
            vae=None,
            unet=None,
            scheduler=None,
            force_zeros_for_empty_prompt=self.empty_is_zero,
            add_watermarker=False,
        )
        tokens, no_tokens, pooled, not_pooled = pipeline.encode_prompt(
            phrase, device=self.device, negative_prompt=negative_prompt or None
        )
        config = self.unet.config
        added = pooled.shape[-1] + 6 * config.addition_time_embed_dim
        if tokens.shape[-1] != config.cross_attention_dim or added != config.projection_class_embeddings_input_dim:
            raise UnfitFiles("its text encoders and its unet do not fit together")
        return Words(tokens[0], pooled[0]), Words(no_tokens[0], not_pooled[0])

    def _text_inputs(self, prompts: list[Words], latent: torch.Tensor) -> dict:
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        size = [side * factor for side in latent.shape[-2:]]
        sizes = torch.tensor([[*size, 0, 0, *size]], dtype=self.dtype, device=self.device)
        return {
            "encoder_hidden_states": torch.stack([words.tokens for words in prompts]),
            "added_cond_kwargs": {
                "text_embeds": torch.stack([words.pooled for words in prompts]),
                "time_ids": sizes.repeat(len(prompts), 1),
            },
        }

    def _condition_latent(self, latent: torch.Tensor) -> torch.Tensor:
        return self._scaled(latent) if self.is_cosxl else latent
