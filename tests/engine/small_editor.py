"""A tiny InstructPix2Pix with random weights, in the diffusers layout, made on the spot from the real classes."""

import string
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from in2n_blender.engine.diffusion.miniature.autoencoder import BlockTransformAutoencoder


def small_tokenizer() -> CLIPTokenizer:
    letters = string.ascii_lowercase + string.digits + ".,'-"
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    return CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[], model_max_length=24)


def small_autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(16, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
        scaling_factor=0.18215,
    )


def small_unet(latent_channels: int) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=2 * latent_channels,
        out_channels=latent_channels,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=8,
        norm_num_groups=4,
    )


def small_editor_folder(
    folder: Path, prediction_type: str = "epsilon", block_transform: bool = False, spacing: str = "leading"
) -> Path:
    """Write scheduler/, text_encoder/, tokenizer/, unet/ and vae/ under `folder` (a few hundred KB) and return it."""
    torch.manual_seed(0)
    autoencoder = BlockTransformAutoencoder() if block_transform else small_autoencoder()
    tokenizer = small_tokenizer()
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1 if spacing == "leading" else 0,
        prediction_type=prediction_type,
        timestep_spacing=spacing,
    )
    scheduler.save_pretrained(folder / "scheduler")
    tokenizer.save_pretrained(folder / "tokenizer")
    CLIPTextModel(text).eval().save_pretrained(folder / "text_encoder")
    small_unet(autoencoder.config.latent_channels).save_pretrained(folder / "unet")
    autoencoder.save_pretrained(folder / "vae")
    return folder
