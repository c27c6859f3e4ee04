"""The catalogue's numbers of weights, counted in the libraries' classes at full size, on a device that holds none.

Configurations are the checkpoints' own, as their config.json have them."""

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    Flux2Transformer2DModel,
    FluxTransformer2DModel,
    LongCatImageTransformer2DModel,
    QwenImageTransformer2DModel,
)
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
)

from in2n_blender.models import catalogue

BLOCKS = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 16,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
KLEIN = {"num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "joint_attention_dim": 7680}
QWEN3_4B = {
    "vocab_size": 151936,
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "tie_word_embeddings": True,
}
T5_XXL = {
    "vocab_size": 32128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}
QWEN_VL_7B = {
    "text_config": {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
    },
    "vision_config": {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 3584,
    },
    "tie_word_embeddings": False,
}
CLIP_L = 123.1
MADE = {
    "klein's transformer": (
        lambda: Flux2Transformer2DModel(**KLEIN, guidance_embeds=False),
        catalogue.KLEIN.sizes.denoiser,
    ),
    "klein's text encoder": (lambda: Qwen3ForCausalLM(Qwen3Config(**QWEN3_4B)), catalogue.KLEIN.sizes.text),
    "klein's autoencoder": (AutoencoderKLFlux2, catalogue.KLEIN.sizes.vae),
    "Kontext's transformer": (
        lambda: FluxTransformer2DModel(guidance_embeds=True),
        catalogue.KONTEXT.sizes.denoiser,
    ),
    "Kontext's second text encoder": (
        lambda: T5EncoderModel(T5Config(**T5_XXL)),
        catalogue.KONTEXT.sizes.text - CLIP_L,
    ),
    "Kontext's autoencoder": (lambda: AutoencoderKL(**BLOCKS), catalogue.KONTEXT.sizes.vae),
    "Qwen's transformer": (QwenImageTransformer2DModel, catalogue.QWEN_2511.sizes.denoiser),
    "Qwen's text encoder": (
        lambda: Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**QWEN_VL_7B)),
        catalogue.QWEN_2511.sizes.text,
    ),
    "Qwen's autoencoder": (AutoencoderKLQwenImage, catalogue.QWEN_2511.sizes.vae),
    "LongCat's transformer": (
        lambda: LongCatImageTransformer2DModel(num_layers=10, num_single_layers=20),
        catalogue.LONGCAT.sizes.denoiser,
    ),
}


@pytest.mark.parametrize("part", MADE)
def test_as_many_weights_as_the_catalogue_says(part):
    make, millions = MADE[part]
    with torch.device("meta"):
        network = make()
    assert sum(weight.numel() for weight in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.005)
