"""FLUX.2 klein (Black Forest Labs 2025): few steps, no guidance where it is distilled."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLFlux2, Flux2KleinPipeline, Flux2Transformer2DModel
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu
from transformers import Qwen2TokenizerFast, Qwen3ForCausalLM

from .flow_editor import PATCH, FlowEditor, TokenCondition
from .reading import UnfitFiles
from .weights import check_fit, load_tokenizer


class Flux2Klein(FlowEditor):
    """A checkpoint of Flux2KleinPipeline.

    Its latents are the autoencoder's in patches of 2x2, normalised by the autoencoder's own statistics: a token each.
    """

    transformer_class = Flux2Transformer2DModel
    autoencoder_class = AutoencoderKLFlux2

    @torch.no_grad()
    def _encode_text(self, phrase: str, negative_prompt: str) -> tuple:
        """((1, tokens, width), position ids) of the instruction, and of the other text where guidance wants it."""
        texts = [phrase] if self.guidance_text is None else [phrase, negative_prompt]
        encoder = self._text_encoder("text_encoder", Qwen3ForCausalLM)
        tokenizer = load_tokenizer(self.folder / "tokenizer", Qwen2TokenizerFast)
        check_fit(tokenizer, encoder)
        pipeline = Flux2KleinPipeline(None, None, encoder, tokenizer, None)
        found = tuple(pipeline.encode_prompt(text, device=self.device) for text in texts)
        if found[0][0].shape[-1] != self.transformer.config.joint_attention_dim:
            raise UnfitFiles("its text_encoder and its transformer do not fit together")
        return found

    def _velocity(self, tokens, sigma, text, condition: TokenCondition, scale):
        words, text_ids = text
        count, (height, width) = len(tokens), condition.size
        own = Flux2KleinPipeline._prepare_latent_ids(torch.empty(1, 1, height, width))
        reference = Flux2KleinPipeline._prepare_image_ids([torch.empty(1, 1, height, width)])
        return self.transformer(
            hidden_states=tokens,
            timestep=sigma,
            guidance=None,
            encoder_hidden_states=words.expand(count, -1, -1).to(self.dtype),
            txt_ids=text_ids.expand(count, -1, -1),
            img_ids=torch.cat([own, reference], dim=1).expand(count, -1, -1).to(self.device),
            return_dict=False,
        )[0]

    def _mu(self, tokens: int, steps: int) -> float:
        return compute_empirical_mu(tokens, steps)

    def _packed(self, latent: torch.Tensor) -> torch.Tensor:
        return Flux2KleinPipeline._pack_latents(latent)

    def _unpacked(self, tokens: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        return tokens.transpose(1, 2).reshape(shape)

    def _tokens(self, shape: torch.Size) -> tuple[int, int]:
        return tuple(shape[-2:])

    def _scaled(self, latent: torch.Tensor) -> torch.Tensor:
        mean, deviation = self._statistics()
        return (Flux2KleinPipeline._patchify_latents(latent) - mean) / deviation

    def _unscaled(self, latent: torch.Tensor) -> torch.Tensor:
        mean, deviation = self._statistics()
        return Flux2KleinPipeline._unpatchify_latents(latent * deviation + mean)

    def _statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean and the deviation of each channel of a patch, (1, channels, 1, 1)."""
        mean, variance = self.vae.bn.running_mean.float(), self.vae.bn.running_var.float()
        deviation = (variance + self.vae.config.batch_norm_eps).sqrt()
        return mean[None, :, None, None].to(self.device), deviation[None, :, None, None].to(self.device)

    def _fits(self, channels: int) -> bool:
        return self.transformer.config.in_channels == channels * PATCH**2
