"""The kinds of models that can be run: what a folder in the diffusers layout has to hold to be one of each.

Standard library only. A folder says in its model_index.json which of diffusers' pipelines it was made for; that name
alone tells the family, and nothing that lies in the folder is ever run.

    family = family_of(folder)                       # raises UnfitFolder
    family.parts, family.networks                    # ("scheduler", "unet", ...), ("unet", "vae", "text_encoder")
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

INDEX_FILE = "model_index.json"
OURS = "BlockTransformAutoencoder"  # of the miniature: no library's class, and the engine's own


class UnfitFolder(ValueError):
    """Why a folder is no model that can be run, as the end of a sentence: "it has no tokenizer"."""


@dataclass(frozen=True)
class Family:
    """A kind of models, run by one editor.

    Attributes:
        pipeline: diffusers' class of it.
        label: what an interface calls it.
        networks: the parts with weights, the denoising network first.
        others: the parts without.
        has_image_scale: whether a scale says how strongly the original photo is kept.
        reads_photo: whether the text encoder sees the photo, too, and so is needed for every view.
        is_told_guidance: whether guidance is distilled into it, so that it is never evaluated without the instruction.
    """

    pipeline: str
    label: str
    networks: tuple[str, ...]
    others: tuple[str, ...]
    has_image_scale: bool = False
    reads_photo: bool = False
    is_told_guidance: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """The folders that there have to be, in the order of their names."""
        return tuple(sorted((*self.networks, *self.others)))

    @property
    def denoiser(self) -> str:
        """The folder of the network that denoises."""
        return self.networks[0]


INSTRUCT_PIX2PIX = Family(
    "StableDiffusionInstructPix2PixPipeline",
    "InstructPix2Pix",
    ("unet", "vae", "text_encoder"),
    ("scheduler", "tokenizer"),
    has_image_scale=True,
)
SDXL_INSTRUCT_PIX2PIX = Family(
    "StableDiffusionXLInstructPix2PixPipeline",
    "InstructPix2Pix XL",
    ("unet", "vae", "text_encoder", "text_encoder_2"),
    ("scheduler", "tokenizer", "tokenizer_2"),
    has_image_scale=True,
)
FLUX2_KLEIN = Family(
    "Flux2KleinPipeline", "FLUX.2 klein", ("transformer", "vae", "text_encoder"), ("scheduler", "tokenizer")
)
FLUX_KONTEXT = Family(
    "FluxKontextPipeline",
    "FLUX.1 Kontext",
    ("transformer", "vae", "text_encoder", "text_encoder_2"),
    ("scheduler", "tokenizer", "tokenizer_2"),
    is_told_guidance=True,
)
QWEN_IMAGE_EDIT = Family(
    "QwenImageEditPlusPipeline",
    "Qwen-Image-Edit",
    ("transformer", "vae", "text_encoder"),
    ("scheduler", "tokenizer", "processor"),
    reads_photo=True,
)
LONGCAT_IMAGE_EDIT = Family(
    "LongCatImageEditPipeline",
    "LongCat-Image-Edit",
    ("transformer", "vae", "text_encoder"),
    ("scheduler", "tokenizer", "text_processor"),
    reads_photo=True,
)
FAMILIES = (
    INSTRUCT_PIX2PIX,
    SDXL_INSTRUCT_PIX2PIX,
    FLUX2_KLEIN,
    FLUX_KONTEXT,
    QWEN_IMAGE_EDIT,
    LONGCAT_IMAGE_EDIT,
)


def read_index(folder: Path) -> dict:
    """What a folder says of itself.

    Args:
        folder: in the diffusers layout.

    Returns:
        Its model_index.json; {} where it has none, as folders of InstructPix2Pix may.

    Raises:
        UnfitFolder: it cannot be read.
    """
    path = folder / INDEX_FILE
    try:
        if not path.is_file():
            return {}
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnfitFolder(f"its {INDEX_FILE} cannot be read") from error
    if not isinstance(index, dict):
        raise UnfitFolder(f"its {INDEX_FILE} cannot be read")
    return index


def family_of(folder: Path) -> Family:
    """The family of the model in a folder.

    Args:
        folder: in the diffusers layout.

    Returns:
        The one that its model_index.json names, InstructPix2Pix where it has none.

    Raises:
        UnfitFolder: it is of another kind, or needs code of its own.
    """
    index = read_index(folder)
    if not index:
        return INSTRUCT_PIX2PIX
    name = index.get("_class_name")
    if isinstance(name, list) or any(_is_code(part) for part in index.values()):
        raise UnfitFolder("it needs code that comes with it, and code of others is never run")
    found = next((family for family in FAMILIES if family.pipeline == name), None)
    if found is None:
        known = ", ".join(family.label for family in FAMILIES)
        raise UnfitFolder(f"it is made for {str(name)[:60]}; models of these kinds can be used: {known}")
    return found


def _is_code(part) -> bool:
    """Whether a part is of a library that is neither diffusers nor transformers: a module in the folder."""
    if not isinstance(part, list) or len(part) != 2 or part[1] == OURS:
        return False
    return part[0] not in (None, "diffusers", "transformers")
