"""Reading a model's folder that may be anybody's: whatever is wrong with its files is one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import torch

from ...models.families import Family, UnfitFolder
from ...scene.errors import Cancelled, In2nError

LONGEST_REASON = 160


class UnfitFiles(UnfitFolder):
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
    except UnfitFolder as error:
        raise refuse(str(error)) from error
    except Exception as error:  # the libraries raise whatever they stumble over
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        if len(reason) > LONGEST_REASON:
            reason = reason[: LONGEST_REASON - 1] + "…"
        raise refuse(f"its {part} cannot be read ({reason})") from error


def check_layout(folder: Path, family: Family) -> None:
    """Refuse a model's folder in which a part of the diffusers layout is missing, or its weights are pickled.

    Args:
        folder: the model's.
        family: what it is to be one of.

    Raises:
        UnfitFiles: it names the missing parts.
    """
    missing = [part for part in family.parts if not (folder / part).is_dir()]
    if missing:
        raise UnfitFiles(f"it has no {', '.join(missing)}")
    for part in family.networks:
        if any((folder / part).glob("*.bin")) and not any((folder / part).glob("*.safetensors")):
            raise UnfitFiles(f"the weights of its {part} are pickled, which could run code; only safetensors are read")


def stated_class(folder: Path) -> str:
    """The name of the diffusers class that a part's config.json states.

    Args:
        folder: of the part, such as unet/.

    Returns:
        A name such as "UNet2DConditionModel".

    Raises:
        UnfitFiles: it states none.
        OSError, ValueError: it cannot be read.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    name = config.get("_class_name") if isinstance(config, dict) else None
    if not isinstance(name, str):
        raise UnfitFiles(f"its {folder.name} does not say what it is")
    return name


def checked(network: torch.nn.Module, found: dict, part: str, device: torch.device) -> torch.nn.Module:
    """A network that was read whole, on its device and ready to be evaluated.

    Args:
        network: as the library loaded it.
        found: the library's loading info, of which "missing_keys" counts.
        part: the network's name, for the sentence: "unet".
        device: what it runs on.

    Returns:
        The same network.

    Raises:
        UnfitFiles: weights are missing or not finite.
    """
    if found["missing_keys"]:  # the libraries would go on with random numbers
        raise UnfitFiles(f"some weights of its {part} are missing")
    network = network.to(device).eval()
    for tensor in network.state_dict().values():
        if tensor.is_floating_point() and tensor.numel() and not all(map(torch.isfinite, tensor.aminmax())):
            raise UnfitFiles(f"some weights of its {part} are not finite numbers")
    return network
