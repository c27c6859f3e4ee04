"""FLUX.1 Kontext (Black Forest Labs 2025): guidance distilled into the transformer, which is told the scale."""

from __future__ import annotations

import torch
from diffusers import FluxKontextPipeline, FluxTransformer2DModel
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

from .flow_editor import PATCH, FlowEditor, TokenCondition
from .reading import UnfitFiles
from .weights import check_fit, load_tokenizer


class FluxKontext(FlowEditor):
    """A checkpoint of FluxKontextPipeline."""

    transformer_class = FluxTransformer2DModel

    @torch.no_grad()
    def _encode_text(self, phrase: str, negative_prompt: str) -> tuple:
        """(words (1, tokens, width), pooled (1, width), position ids), alone: nothing is evaluated without a text."""
        networks = (("", CLIPTextModel, CLIPTokenizer), ("_2", T5EncoderModel, T5TokenizerFast))
        parts = {}
        for number, network, tokens in networks:
            encoder = self._text_encoder(f"text_encoder{number}", network)
            tokenizer = load_tokenizer(self.folder / f"tokenizer{number}", tokens)
            check_fit(tokenizer, encoder)
            parts |= {f"text_encoder{number}": encoder, f"tokenizer{number}": tokenizer}
        pipeline = FluxKontextPipeline(scheduler=None, vae=None, transformer=None, **parts)
        words, pooled, text_ids = pipeline.encode_prompt([phrase], device=self.device)
        config = self.transformer.config
        if words.shape[-1] != config.joint_attention_dim or pooled.shape[-1] != config.pooled_projection_dim:
            raise UnfitFiles("its text encoders and its transformer do not fit together")
        return ((words, pooled, text_ids),)

    def _unconditional(self, scale: float | None) -> bool:
        return False

    def _velocity(self, tokens, sigma, text, condition: TokenCondition, scale):
        words, pooled, text_ids = text
        count = len(tokens)
        own = FluxKontextPipeline._prepare_latent_image_ids(count, *condition.size, self.device, self.dtype)
        reference = own.clone()
        reference[..., 0] = 1
        told = torch.full((count,), scale, device=self.device) if self.transformer.config.guidance_embeds else None
        return self.transformer(
            hidden_states=tokens,
            timestep=sigma,
            guidance=told,
            pooled_projections=pooled.expand(count, -1).to(self.dtype),
            encoder_hidden_states=words.expand(count, -1, -1).to(self.dtype),
            txt_ids=text_ids,
            img_ids=torch.cat([own, reference]),
            return_dict=False,
        )[0]

    def _fits(self, channels: int) -> bool:
        return self.transformer.config.in_channels == channels * PATCH**2
