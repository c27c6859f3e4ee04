"""The miniature's networks: diffusers' and transformers' own classes, small, saved in diffusers' folder layout."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ...engine.diffusion.miniature.autoencoder import BANDS, BlockTransformAutoencoder
from .instructions import INSTRUCTIONS

TEXT_WIDTH = 128
TEXT_LENGTH = 24
VOCABULARY = 1024
START, END = "<|startoftext|>", "<|endoftext|>"


@dataclass
class Miniature:
    """All that the diffusers folder holds."""

    vae: BlockTransformAutoencoder
    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: DDIMScheduler

    def to(self, device: torch.device) -> "Miniature":
        """Move all networks to a device, in place.

        Args:
            device: Where they run.

        Returns:
            The same miniature.
        """
        for network in (self.vae, self.unet, self.text_encoder):
            network.to(device)
        return self

    def tokens(self, texts: list[str]) -> torch.Tensor:
        """The token ids of texts, cut or padded to TEXT_LENGTH.

        Args:
            texts: The instructions.

        Returns:
            (texts, TEXT_LENGTH) int64.
        """
        return self.tokenizer(
            texts,
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids

    def save(self, folder: Path, half: bool = True) -> None:
        """Write the networks as a folder in the diffusers layout.

        The transform stays float32: in half precision it would not be exact.

        Args:
            folder: Made where it is missing.
            half: Whether the UNet and the text encoder are written as float16.
        """
        self.vae.save_pretrained(folder / "vae")
        self.scheduler.save_pretrained(folder / "scheduler")
        self.tokenizer.save_pretrained(folder / "tokenizer")
        for name in ("unet", "text_encoder"):
            network = getattr(self, name)
            stored = copy.deepcopy(network).half() if half else network
            stored.save_pretrained(folder / name, safe_serialization=True)

    @staticmethod
    def load(folder: Path) -> "Miniature":
        """Read what `save` wrote, in float32.

        Args:
            folder: In the diffusers layout.
        """
        return Miniature(
            BlockTransformAutoencoder.from_pretrained(folder / "vae", local_files_only=True),
            UNet2DConditionModel.from_pretrained(folder / "unet", local_files_only=True, torch_dtype=torch.float32),
            CLIPTextModel.from_pretrained(folder / "text_encoder", local_files_only=True, dtype=torch.float32),
            CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
            DDIMScheduler.from_pretrained(folder / "scheduler", local_files_only=True),
        )


def build_miniature(band_deviations: tuple[float, ...], tokenizer: CLIPTokenizer) -> Miniature:
    """The miniature, with untrained networks.

    Args:
        band_deviations: The standard deviation of each of the transform's BANDS bands, as `measure_band_deviations`
            gives them.
        tokenizer: As `build_tokenizer` makes it.
    """
    return Miniature(
        BlockTransformAutoencoder(band_deviations=band_deviations),
        build_unet(),
        build_text_encoder(tokenizer),
        tokenizer,
        build_scheduler(),
    )


def build_unet() -> UNet2DConditionModel:
    """The denoiser: [noisy latent, original's latent] (batch, 96, h, w) -> clean latent (batch, 48, h, w).

    The text reaches every block as scale and shift beside the time (`addition_embed_type="text"`), and the lowest
    level by cross-attention. A large `norm_eps` and few groups let the image's own contrast and tone through the
    normalisation, which an edit of tones must see.
    """
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=2 * BANDS,
        out_channels=BANDS,
        block_out_channels=(64, 96, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
        norm_eps=0.5,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Two layers of width TEXT_WIDTH over at most TEXT_LENGTH tokens.

    Args:
        tokenizer: Gives the size of the vocabulary and the numbers of the special tokens.
    """
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=2 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TEXT_LENGTH,
            initializer_factor=1.0,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule, rescaled to end in pure noise; the network predicts the clean latent.

    Without the rescaling (Lin et al. 2023, Common Diffusion Noise Schedules and Sample Steps are Flawed) the noisiest
    latent still tells the edit's mean tone, and the network would learn to look for it there.
    An edit is almost a function of its condition: predicting the result is then plain regression, and a small network
    need not carry the noise through. Guidance is unchanged, since noise and clean latent are affine in each other.
    """
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="sample",
        timestep_spacing="trailing",
        set_alpha_to_one=True,
        clip_sample=False,
        rescale_betas_zero_snr=True,
    )


def build_tokenizer(folder: Path) -> CLIPTokenizer:
    """A byte-pair tokenizer trained on the instructions, in which each of their words is one token.

    Args:
        folder: Where its files go; made where it is missing.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>", continuing_subword_prefix=""))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    phrases = [phrase for instruction in INSTRUCTIONS for phrase in instruction.phrases]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=1,
        show_progress=False,
        special_tokens=[],
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
    )
    tokenizer.train_from_iterator(phrases + ["the a an please . ! , ? ' it this everything to of in on"], trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.model.save(str(folder))
    merges = [tuple(line.split()) for line in (folder / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]]
    # CLIP's vocabulary has every byte also as the end of a word; without them a foreign letter would have no token.
    # Numbered here, since the trainer numbers single letters differently in every process.
    letters = sorted(alphabet)
    symbols = letters + [letter + "</w>" for letter in letters] + ["".join(merge) for merge in merges] + [START, END]
    vocabulary = {symbol: number for number, symbol in enumerate(dict.fromkeys(symbols))}
    path = folder / "vocab.json"
    path.write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    return CLIPTokenizer(
        str(path),
        str(folder / "merges.txt"),
        model_max_length=TEXT_LENGTH,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
    )
