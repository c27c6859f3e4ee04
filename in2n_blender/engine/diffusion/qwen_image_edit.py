"""Qwen-Image-Edit 2509 and 2511 (Alibaba 2025): the instruction is read by Qwen2.5-VL together with the photo."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLQwenImage, QwenImageEditPlusPipeline, QwenImageTransformer2DModel
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus import CONDITION_IMAGE_SIZE, calculate_dimensions
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer, Qwen2VLProcessor

from .flow_editor import PATCH, TokenCondition
from .photo_reading_editor import PhotoReadingEditor
from .reading import UnfitFiles
from .weights import check_fit, load_tokenizer


class QwenImageEdit(PhotoReadingEditor):
    """A checkpoint of QwenImageEditPlusPipeline.

    Guidance keeps the length of the prediction with text, token by token. With a scale of 1, as its Lightning LoRA
    wants it, only that one is evaluated. Its autoencoder is one of videos; an image is a video of one frame.
    """

    transformer_class = QwenImageTransformer2DModel
    autoencoder_class = AutoencoderKLQwenImage
    _empty = " "

    def _load_reader(self) -> QwenImageEditPlusPipeline:
        encoder = self._text_encoder("text_encoder", Qwen2_5_VLForConditionalGeneration)
        tokenizer = load_tokenizer(self.folder / "tokenizer", Qwen2Tokenizer)
        processor = Qwen2VLProcessor.from_pretrained(self.folder / "processor", local_files_only=True)
        check_fit(processor.tokenizer, encoder)
        if encoder.config.get_text_config().hidden_size != self.transformer.config.joint_attention_dim:
            raise UnfitFiles("its text_encoder and its transformer do not fit together")
        return QwenImageEditPlusPipeline(None, None, encoder, tokenizer, processor, None)

    @torch.no_grad()
    def _read(self, text: str, photo: Image.Image) -> tuple[torch.Tensor | None, ...]:
        width, height = calculate_dimensions(CONDITION_IMAGE_SIZE, photo.width / photo.height)
        small = self._reader.image_processor.resize(photo, height, width)
        return self._reader.encode_prompt([text], [small], self.device)

    def _velocity(self, tokens, sigma, text, condition: TokenCondition, scale):
        words, mask = text
        return self.transformer(
            hidden_states=tokens,
            timestep=sigma,
            encoder_hidden_states=words.to(self.dtype),
            encoder_hidden_states_mask=mask,
            img_shapes=[[(1, *condition.size)] * 2] * len(tokens),
            return_dict=False,
        )[0]

    def _combined(self, text: torch.Tensor, nothing: torch.Tensor, scale: float) -> torch.Tensor:
        guided = super()._combined(text, nothing, scale)
        length = lambda tokens: tokens.norm(dim=-1, keepdim=True)
        return guided * (length(text) / length(guided).clamp_min(torch.finfo(torch.float32).tiny))

    def _encoded(self, image: torch.Tensor) -> DiagonalGaussianDistribution:
        posterior = self.vae.encode(image[:, :, None].to(self.vae.dtype)).latent_dist
        return DiagonalGaussianDistribution(posterior.parameters[:, :, 0])

    def _scaled(self, latent: torch.Tensor) -> torch.Tensor:
        mean, deviation = self._statistics()
        return (latent - mean) / deviation

    def _unscaled(self, latent: torch.Tensor) -> torch.Tensor:
        mean, deviation = self._statistics()
        return latent * deviation + mean

    def _decode(self, latent: torch.Tensor) -> torch.Tensor:
        frames = self.vae.decode(self._unscaled(latent)[:, :, None].to(self.vae.dtype)).sample
        return frames[:, :, 0].float() / 2 + 0.5

    def _statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean and the deviation of each channel of the autoencoder's latents, (1, channels, 1, 1)."""
        config = self.vae.config
        both = (torch.tensor(values, device=self.device) for values in (config.latents_mean, config.latents_std))
        return tuple(values[None, :, None, None] for values in both)

    def _fits(self, channels: int) -> bool:
        return self.transformer.config.in_channels == channels * PATCH**2

    @property
    def _latent_factor(self) -> int:
        return 2 ** len(self.vae.temperal_downsample)

    @property
    def _latent_channels(self) -> int:
        return self.vae.config.z_dim
