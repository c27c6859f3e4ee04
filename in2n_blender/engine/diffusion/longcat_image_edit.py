"""LongCat-Image-Edit and its Turbo (Meituan 2025): the instruction is read by Qwen2.5-VL together with the photo."""

from __future__ import annotations

import torch
from diffusers import LongCatImageEditPipeline, LongCatImageTransformer2DModel
from diffusers.pipelines.longcat_image.pipeline_longcat_image_edit import prepare_pos_ids
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer, Qwen2VLProcessor

from .flow_editor import PATCH, TokenCondition
from .photo_reading_editor import PhotoReadingEditor
from .reading import UnfitFiles
from .weights import check_fit, load_tokenizer

NOISY, REFERENCE = 1, 2  # the first of a token's coordinates, which is 0 for words


class LongCatImageEdit(PhotoReadingEditor):
    """A checkpoint of LongCatImageEditPipeline. What stands in quotes in an instruction is written letter by letter."""

    transformer_class = LongCatImageTransformer2DModel
    _empty = ""

    def _load_reader(self) -> LongCatImageEditPipeline:
        encoder = self._text_encoder("text_encoder", Qwen2_5_VLForConditionalGeneration)
        tokenizer = load_tokenizer(self.folder / "tokenizer", Qwen2Tokenizer)
        processor = Qwen2VLProcessor.from_pretrained(self.folder / "text_processor", local_files_only=True)
        check_fit(tokenizer, encoder)
        if encoder.config.get_text_config().hidden_size != self.transformer.config.joint_attention_dim:
            raise UnfitFiles("its text_encoder and its transformer do not fit together")
        return LongCatImageEditPipeline(None, None, encoder, tokenizer, processor, None)

    @torch.no_grad()
    def _read(self, text: str, photo: Image.Image) -> tuple[torch.Tensor | None, ...]:
        height, width = self._working_size((photo.height, photo.width)).padded
        small = self._reader.image_processor.resize(photo, height // 2, width // 2)
        return self._reader.encode_prompt([text], small)[:1]

    def _velocity(self, tokens, sigma, text, condition: TokenCondition, scale):
        (words,) = text
        count, (height, width) = words.shape[1], condition.size
        noisy, reference = (
            prepare_pos_ids(kind, "image", (count, count), height=height, width=width) for kind in (NOISY, REFERENCE)
        )
        return self.transformer(
            hidden_states=tokens,
            timestep=sigma,
            guidance=None,
            encoder_hidden_states=words.to(self.dtype),
            txt_ids=prepare_pos_ids(0, "text", (0, 0), count).to(self.device),
            img_ids=torch.cat([noisy, reference]).to(self.device),
            return_dict=False,
        )[0]

    def _fits(self, channels: int) -> bool:
        return self.transformer.config.in_channels == channels * PATCH**2
