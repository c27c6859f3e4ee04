"""Tiny models of every family with random weights, in the diffusers layout, made on the spot from the real classes."""

import json
from pathlib import Path

import torch
from diffusers import (
    DDIMScheduler,
    EDMEulerScheduler,
    StableDiffusionXLInstructPix2PixPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from in2n_blender.models import families
from tests.engine.small_editor import small_autoencoder, small_tokenizer


def saved(pipeline, folder: Path, **index) -> Path:
    """A pipeline's folder, as diffusers writes it; index: further entries of its model_index.json."""
    pipeline.save_pretrained(folder)
    path = folder / families.INDEX_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **index}))
    return folder


def small_clip_config(tokenizer, width: int = 16) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=width,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )


def small_sdxl_folder(folder: Path, cosxl: bool = False) -> Path:
    torch.manual_seed(0)
    tokenizer = small_tokenizer()
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=8,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=4,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=16 + 6 * 8,
    )
    if cosxl:
        scheduler = EDMEulerScheduler(
            sigma_max=120.0, sigma_data=1.0, sigma_schedule="exponential", prediction_type="v_prediction"
        )
    else:
        scheduler = DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
        )
    pipeline = StableDiffusionXLInstructPix2PixPipeline(
        small_autoencoder(),
        CLIPTextModel(small_clip_config(tokenizer)).eval(),
        CLIPTextModelWithProjection(small_clip_config(tokenizer)).eval(),
        tokenizer,
        tokenizer,
        unet,
        scheduler,
        add_watermarker=False,
    )
    return saved(pipeline, folder, is_cosxl_edit=cosxl)
