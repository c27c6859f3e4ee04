"""Reading a model's folder in the diffusers layout. The files may be anybody's: whatever is wrong with them is one
sentence, they are never run, and weights that are no finite numbers are found before the first edit."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging

from ...models.catalogue import COMPONENTS
from ...scene.errors import Cancelled, In2nError

LONGEST_REASON = 160


class UnfitFiles(ValueError):
    """What is wrong with a model's files, as the end of a sentence: "it has no tokenizer"."""


@contextmanager
def reading(part: str, refuse: Callable[[str], In2nError]):
    """Turns every error of the libraries over a damaged or foreign file into one sentence.

    Args:
        part: what is being read, for the sentence: "unet".
        refuse: makes the error from what is wrong.

    Raises:
        In2nError: of `refuse`.
    """
    try:
        yield
    except (In2nError, Cancelled, MemoryError, torch.OutOfMemoryError):
        raise
    except UnfitFiles as error:
        raise refuse(str(error)) from error
    except Exception as error:  # the libraries raise whatever they stumble over
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        if len(reason) > LONGEST_REASON:
            reason = reason[: LONGEST_REASON - 1] + "…"
        raise refuse(f"its {part} cannot be read ({reason})") from error


def check_layout(folder: Path) -> None:
    """Raises UnfitFiles where a part of the layout is missing."""
    missing = [part for part in COMPONENTS if not (folder / part).is_dir()]
    if missing:
        raise UnfitFiles(f"it has no {', '.join(missing)}")


def stated_class(folder: Path) -> str:
    """The name of the diffusers class that a part's config.json states. Raises UnfitFiles, OSError, ValueError."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    name = config.get("_class_name") if isinstance(config, dict) else None
    if not isinstance(name, str):
        raise UnfitFiles(f"its {folder.name} does not say what it is")
    return name


def load_network(folder: Path, network_class: type, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    """One of diffusers' networks, ready to be evaluated. Raises UnfitFiles, and whatever diffusers raises."""
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
    folder: Path, texts: list[str], width: int | None, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """Texts as the network reads them. The text encoder is in memory only meanwhile.

    Args:
        folder: the model's, with tokenizer/ and text_encoder/.
        texts: prompts, cut off at the encoder's length.
        width: of the embeddings that the network wants; None: any.

    Returns:
        (texts, tokens, width) of `dtype` on `device`.

    Raises:
        UnfitFiles, and whatever transformers raises.
    """
    logging.disable_progress_bar()
    if not any((folder / "tokenizer" / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise UnfitFiles("it has no tokenizer")  # transformers would make one that knows no word
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    encoder, found = CLIPTextModel.from_pretrained(
        folder / "text_encoder",
        local_files_only=True,
        use_safetensors=True,
        dtype=dtype,
        output_loading_info=True,
        **_variant(folder / "text_encoder"),
    )
    encoder = checked(encoder, found, "text_encoder", device)
    if width not in (None, encoder.config.hidden_size):
        raise UnfitFiles("its text_encoder and its unet do not fit together")
    tokens = tokenizer(
        texts,
        padding="max_length",
        max_length=min(tokenizer.model_max_length, encoder.config.max_position_embeddings),
        truncation=True,
        return_tensors="pt",
    )
    if int(tokens.input_ids.max()) >= encoder.config.vocab_size:
        raise UnfitFiles("its tokenizer and its text_encoder do not fit together")
    mask = tokens.attention_mask.to(device) if getattr(encoder.config, "use_attention_mask", False) else None
    return encoder(tokens.input_ids.to(device), attention_mask=mask)[0].to(dtype)


def checked(network: torch.nn.Module, found: dict, part: str, device: torch.device) -> torch.nn.Module:
    """The network on the device, ready to be evaluated. found: the library's loading info. Raises UnfitFiles."""
    if found["missing_keys"]:  # the libraries would go on with random numbers
        raise UnfitFiles(f"some weights of its {part} are missing")
    network = network.to(device).eval()
    for tensor in network.state_dict().values():
        if tensor.is_floating_point() and tensor.numel() and not all(map(torch.isfinite, tensor.aminmax())):
            raise UnfitFiles(f"some weights of its {part} are not finite numbers")
    return network


def _variant(folder: Path) -> dict:
    """The weights' variant where a folder holds nothing but half precision files."""
    files = [path.name for path in folder.glob("*.safetensors")]
    return {"variant": "fp16"} if files and all(".fp16" in name for name in files) else {}
