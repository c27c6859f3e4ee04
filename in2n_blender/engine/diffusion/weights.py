"""The networks of a model's folder in the diffusers layout, by the libraries' own classes. Nothing in it is run."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging

from .reading import UnfitFiles, checked, stated_class

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "spiece.model")


def load_network(folder: Path, network_class: type, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    """One of diffusers' networks, ready to be evaluated.

    Args:
        folder: of the network, such as unet/, with config.json and safetensors.
        network_class: diffusers' class that its config.json must state.
        device: what it runs on.
        dtype: of its weights in memory.

    Returns:
        The network in evaluation mode, without gradients of its weights.

    Raises:
        UnfitFiles, and whatever diffusers raises.
    """
    name = stated_class(folder)
    if name != network_class.__name__:
        raise UnfitFiles(f"its {folder.name} is a {name}")
    network, found = network_class.from_pretrained(
        folder,
        local_files_only=True,
        use_safetensors=True,
        torch_dtype=dtype,
        output_loading_info=True,
        **_variant(folder),
    )
    return checked(network, found, folder.name, device).requires_grad_(False)


@torch.no_grad()
def encode_prompts(
    encoder: CLIPTextModel, tokenizer: CLIPTokenizer, texts: list[str], width: int | None, device: torch.device
) -> torch.Tensor:
    """Texts as the network reads them.

    Args:
        encoder: evaluated on `device`.
        tokenizer: the encoder's.
        texts: prompts, cut off at the encoder's length.
        width: of the embeddings that the network wants; None: any.
        device: where the embeddings stay.

    Returns:
        (texts, tokens, width) on `device`, of the encoder's dtype.

    Raises:
        UnfitFiles: they do not fit together.
    """
    if width not in (None, encoder.config.hidden_size):
        raise UnfitFiles("its text_encoder and its unet do not fit together")
    tokens = tokenizer(
        texts,
        padding="max_length",
        max_length=min(tokenizer.model_max_length, encoder.config.max_position_embeddings),
        truncation=True,
        return_tensors="pt",
    )
    check_fit(tokenizer, encoder)
    mask = tokens.attention_mask.to(device) if getattr(encoder.config, "use_attention_mask", False) else None
    return encoder(tokens.input_ids.to(device), attention_mask=mask)[0].to(encoder.dtype)


def load_tokenizer(folder: Path, tokenizer_class: type):
    """A tokenizer of transformers.

    Args:
        folder: the part's, with tokenizer.json, or vocab.json and merges.txt.
        tokenizer_class: transformers' class.

    Returns:
        The tokenizer.

    Raises:
        UnfitFiles: there is none, and transformers would make one that knows no word. Whatever transformers raises.
    """
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise UnfitFiles(f"it has no {folder.name}")
    return tokenizer_class.from_pretrained(folder, local_files_only=True)


def load_text_encoder(folder: Path, encoder_class: type, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    """One of transformers' networks, ready to be evaluated.

    Args:
        folder: of the network, such as text_encoder/, with config.json and safetensors.
        encoder_class: transformers' class.
        device: what it runs on.
        dtype: of its weights.

    Returns:
        The network in evaluation mode, without gradients of its weights.

    Raises:
        UnfitFiles, and whatever transformers raises.
    """
    logging.disable_progress_bar()
    encoder, found = encoder_class.from_pretrained(
        folder,
        local_files_only=True,
        use_safetensors=True,
        dtype=dtype,
        output_loading_info=True,
        **_variant(folder),
    )
    return checked(encoder, found, folder.name, device).requires_grad_(False)


def check_fit(tokenizer, encoder: torch.nn.Module) -> None:
    """Refuse a tokenizer that has words for which the text encoder has none.

    Args:
        tokenizer: transformers'.
        encoder: transformers' text encoder.

    Raises:
        UnfitFiles: they do not fit together.
    """
    if len(tokenizer) > encoder.get_input_embeddings().num_embeddings:
        raise UnfitFiles("its tokenizer and its text_encoder do not fit together")


def _variant(folder: Path) -> dict:
    """The weights' variant where a folder holds nothing but half precision files."""
    files = [path.name for path in folder.glob("*.safetensors")]
    return {"variant": "fp16"} if files and all(".fp16" in name for name in files) else {}
