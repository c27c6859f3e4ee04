"""Tiny models of every family with random weights, in the diffusers layout, made on the spot from the real classes."""

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    DDIMScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxKontextPipeline,
    FluxTransformer2DModel,
    LongCatImageEditPipeline,
    LongCatImageTransformer2DModel,
    QwenImageEditPlusPipeline,
    QwenImageTransformer2DModel,
    StableDiffusionXLInstructPix2PixPipeline,
    UNet2DConditionModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2TokenizerFast,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

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


QWEN_WORDS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QWEN_PICTURES = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def small_qwen_tokenizer(**more) -> Qwen2TokenizerFast:
    """Byte by byte: a token is a byte, or one of Qwen's special words."""
    special = [*QWEN_WORDS, *QWEN_PICTURES]
    vocab = {token: number for number, token in enumerate([*special, *sorted(ByteLevel.alphabet())])}
    return Qwen2TokenizerFast(
        vocab=vocab, merges=[], extra_special_tokens=special, model_max_length=4096, chat_template=CHAT, **more
    )


def small_flow_autoencoder(channels: int = 4) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(16, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
        norm_num_groups=4,
        scaling_factor=0.36,
        shift_factor=0.12,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def small_flow_scheduler(**more) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, "use_dynamic_shifting": True} | more)


def small_klein_folder(folder: Path, is_distilled: bool = True) -> Path:
    torch.manual_seed(0)
    tokenizer = small_qwen_tokenizer()
    text = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=28,  # the pipeline reads layers 9, 18 and 27
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
        tie_word_embeddings=True,
    )
    vae = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(16, 16),
        latent_channels=4,
        norm_num_groups=4,
        layers_per_block=1,
    )
    vae.bn.running_mean.normal_(0, 0.2)
    vae.bn.running_var.uniform_(0.5, 2)
    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=24,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    encoder = Qwen3ForCausalLM(text).eval()
    scheduler = small_flow_scheduler()
    pipeline = Flux2KleinPipeline(
        scheduler, vae.eval(), encoder, tokenizer, transformer.eval(), is_distilled=is_distilled
    )
    return saved(pipeline, folder)


def small_kontext_folder(folder: Path) -> Path:
    torch.manual_seed(0)
    clip_tokenizer = small_tokenizer()
    letters = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -2.0)]
    t5_tokenizer = T5TokenizerFast(vocab=letters + [(chr(code), -3.0) for code in range(97, 123)], extra_ids=0)
    t5 = T5Config(vocab_size=len(t5_tokenizer), d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=16,
        guidance_embeds=True,
        axes_dims_rope=(4, 4, 8),
    )
    pipeline = FluxKontextPipeline(
        small_flow_scheduler(),
        small_flow_autoencoder().eval(),
        CLIPTextModel(small_clip_config(clip_tokenizer)).eval(),
        clip_tokenizer,
        T5EncoderModel(t5).eval(),
        t5_tokenizer,
        transformer.eval(),
    )
    return saved(pipeline, folder)


def small_vision_language_model(tokenizer) -> Qwen2_5_VLForConditionalGeneration:
    picture_of = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("image_pad", "video_pad")}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "rope_parameters": {"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 1e6},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 16,
            "fullatt_block_indexes": [1],
        },
        image_token_id=picture_of["image_pad"],
        video_token_id=picture_of["video_pad"],
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def small_vision_processor(tokenizer) -> Qwen2VLProcessor:
    return Qwen2VLProcessor(Qwen2VLImageProcessor(min_pixels=28 * 28), tokenizer, Qwen2VLVideoProcessor())


def small_qwen_edit_folder(folder: Path) -> Path:
    torch.manual_seed(0)
    tokenizer = small_qwen_tokenizer()
    vae = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.1, -0.2, 0.0, 0.3],
        latents_std=[0.9, 1.1, 1.3, 0.8],
    )
    transformer = QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(8, 4, 4),
    )
    pipeline = QwenImageEditPlusPipeline(
        small_flow_scheduler(shift_terminal=0.02, max_shift=0.9),
        vae.eval(),
        small_vision_language_model(tokenizer),
        tokenizer,
        small_vision_processor(tokenizer),
        transformer.eval(),
    )
    return saved(pipeline, folder)


def small_longcat_folder(folder: Path) -> Path:
    torch.manual_seed(0)
    tokenizer = small_qwen_tokenizer()
    transformer = LongCatImageTransformer2DModel(
        in_channels=64,  # the pipeline wants 16 channels of the autoencoder
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=[4, 4, 8],
    )
    pipeline = LongCatImageEditPipeline(
        small_flow_scheduler(),
        small_flow_autoencoder(16).eval(),
        small_vision_language_model(tokenizer),
        tokenizer,
        small_vision_processor(tokenizer),
        transformer.eval(),
    )
    return saved(pipeline, folder)
