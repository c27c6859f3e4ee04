"""The 2D editing models: what each is called, where its weights are, what it needs and what it can be told.

Standard library only: the panel, the command line and the engine read the same entries.

    for model in catalogue.MODELS:                        # those that are offered by name
        print(model.id, model.label, model.licence)
    model = catalogue.find("miniature")                   # or a name on the Hugging Face hub, or a folder
    model.guidance_text, model.guidance_image, model.steps
    phrase = model.check_instruction("Make it snow!")     # raises In2nError("unknown_instruction", "empty_instruction")
    model.suggestions                                     # what could be typed

`models/hub.py` tells whether the weights of a model are on this computer.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

from ..scene.errors import In2nError
from .exact import ExactSettings, is_exact
from .families import (
    FLUX2_KLEIN,
    FLUX_KONTEXT,
    LONGCAT_IMAGE_EDIT,
    QWEN_IMAGE_EDIT,
    SDXL_INSTRUCT_PIX2PIX,
    UnfitFolder,
    family_of,
    read_index,
)
from .model import Instruction, Model, Sizes, shortened, unfit

MINIATURE_FOLDER = Path(__file__).resolve().parents[1] / "engine" / "diffusion" / "miniature" / "weights"
# Beside the weights of a model that was trained on a fixed list of instructions: the list, and its own defaults.
DESCRIPTION_FILE = "miniature.json"
# A name of the hub, and behind an @ the commit that is meant; a name that could be moved, as of a branch, is none.
HUB_NAME = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@([0-9a-f]{40}))?")
# What is fetched of models that are known here: a commit, so that it is what was looked at, whatever the hub has since.
REVISIONS = {
    "timbrooks/instruct-pix2pix": "31519b5cb02a7fd89b906d88731cd4d6a7bbf88d",
    "diffusers/sdxl-instructpix2pix-768": "7f8100582868b43b3d90ab9138bd6c76e45b2575",
    "black-forest-labs/FLUX.2-klein-4B": "e7b7dc27f91deacad38e78976d1f2b499d76a294",
    "black-forest-labs/FLUX.1-Kontext-dev": "af58063aa431f4d2bbc11ae46f57451d4416a170",
    "Qwen/Qwen-Image-Edit-2509": "d3968ef930e841f4c73640fb8afa3b306a78167e",
    "Qwen/Qwen-Image-Edit-2511": "6f3ccc0b56e431dc6a0c2b2039706d7d26f22cb9",
    "meituan-longcat/LongCat-Image-Edit": "7b54ef423aa7854be7861600024be5c56ab7875a",
    "meituan-longcat/LongCat-Image-Edit-Turbo": "6a7262de5549f0bf0ec54c08ef7d283ef41f3214",
    "openai/clip-vit-large-patch14": "32bd64288804d66eefd0ccbe215aa642df71cc41",
}


def find(name_or_folder: str) -> Model:
    """The model that a name or a folder means.

    Args:
        name_or_folder: "miniature", a name on the Hugging Face hub such as "timbrooks/instruct-pix2pix", or a folder
            in the diffusers layout; "exact" for the instrument, which is not offered (see `models.exact`).

    Returns:
        The catalogue's entry, or one like InstructPix2Pix's for a folder or a model of the hub.

    Raises:
        In2nError: "unknown_editor" where it is none of these; "editor_unfit" where the folder's own description of
            itself cannot be read.
    """
    named = next((model for model in MODELS if model.id == name_or_folder), None)
    if named is not None:
        return named
    if is_exact(name_or_folder):
        return _exact(ExactSettings.from_name(name_or_folder))
    folder = _existing_folder(name_or_folder)
    if folder is not None:
        return read_folder(folder, name_or_folder)
    if is_hub_name(name_or_folder):
        return _like(INSTRUCT_PIX2PIX, name_or_folder, name_or_folder, None)
    raise In2nError(
        "unknown_editor",
        f"There is no model “{shortened(name_or_folder)}”: it is neither a folder nor a model's name.",
        f"Choose “miniature”, “{INSTRUCT_PIX2PIX.id}” or a folder in the diffusers layout.",
    )


def read_folder(folder: Path, id: str | None = None) -> Model:
    """The model in a folder: by its own description where it holds one, else by the defaults of its family.

    A folder that is called as a model of the catalogue, and is of its family, is taken for a copy of that one.

    Args:
        folder: in the diffusers layout; nothing but its index and DESCRIPTION_FILE is read.
        id: the model's; None: the folder's path.

    Returns:
        The catalogue's entry. A described model runs in float32 everywhere.

    Raises:
        In2nError: "editor_unfit" where the description is damaged, or the folder is of no known kind.
    """
    id = id or str(folder)
    try:
        family, index = family_of(folder), read_index(folder)
    except UnfitFolder as error:
        raise unfit(id, str(error)) from error
    relatives = [model for model in (*ON_THE_HUB, QWEN_LIGHTNING) if model.family == family]
    copied = (model for model in relatives if model.id.partition("/")[2].lower() == folder.name.lower())
    model = _like(next(copied, relatives[0]), id, folder.name or str(folder), folder)
    if family == LONGCAT_IMAGE_EDIT and _shifts_alike(folder):
        model = replace(model, guidance_text=LONGCAT_TURBO.guidance_text, steps=LONGCAT_TURBO.steps)
    if family == FLUX2_KLEIN and not index.get("is_distilled", False):
        model = replace(model, guidance_text=4.0, steps=50)
    path = folder / DESCRIPTION_FILE
    try:
        if not path.is_file():
            return model
        described = json.loads(path.read_text(encoding="utf-8"))
        return replace(
            model,
            guidance_text=_number(described, "guidance_text", model.guidance_text, 0, 100),
            guidance_image=_number(described, "guidance_image", model.guidance_image, 0, 100),
            steps=int(_number(described, "steps", model.steps, 1, 1000)),
            working_side=int(_number(described, "working_side", model.working_side, 8, 4096)),
            most_pixels=None,
            half_precision=False,  # small enough to be run exactly
            instructions=tuple(_instruction(entry) for entry in described["instructions"]),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise unfit(model.id, f"{DESCRIPTION_FILE} in it cannot be read") from error


def is_hub_name(name: str) -> bool:
    """Whether a name is of the form owner/model, as on the Hugging Face hub, or owner/model@commit."""
    return HUB_NAME.fullmatch(name) is not None


def on_the_hub(name: str) -> tuple[str, str | None]:
    """What a name means on the hub.

    Args:
        name: owner/model or owner/model@commit.

    Returns:
        owner/model, and the commit of 40 hexadecimal digits: the one behind the @, else that of REVISIONS; None where
        neither tells it.
    """
    found = HUB_NAME.fullmatch(name)
    repository, revision = found.groups() if found else (name, None)
    return repository, revision or REVISIONS.get(repository)


def _like(model: Model, id: str, label: str, folder: Path | None) -> Model:
    return replace(
        model,
        id=id,
        label=label,
        description=f"A model of the kind of {model.family.label}",
        folder=folder,
        download_mb=0,
        licence=None,
        note="",
    )


def _shifts_alike(folder: Path) -> bool:
    """Whether a folder's scheduler shifts small and large images alike: so LongCat's Turbo is told from LongCat."""
    try:
        stated = json.loads((folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
        return stated["base_shift"] == stated["max_shift"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return False


def _exact(settings: ExactSettings) -> Model:
    """An instrument to measure methods with. Guidance scales of 1 mean the instruction's branch alone."""
    return Model(
        id=settings.name,
        label="Exact",
        description="An instrument: its right answers, and how often it draws each, are known",
        folder=None,
        guidance_text=1.0,
        guidance_image=1.0,
        steps=20,
        working_side=8,
        half_precision=False,
        sizes=Sizes(0, 0, 0, 1, 1),
    )


def _existing_folder(text: str) -> Path | None:
    try:
        folder = Path(text).expanduser()
        return folder if text and folder.is_dir() else None
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, the home of nobody
        return None


def _number(described: dict, key: str, default: float | None, low: float, high: float) -> float | None:
    if key not in described:
        return default
    value = described[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(key)
    if not low <= value <= high:  # neither is NaN
        raise ValueError(key)
    return float(value)


def _instruction(entry: dict) -> Instruction:
    phrases = tuple(entry["phrases"])
    if not phrases or not all(isinstance(phrase, str) and phrase.strip() for phrase in phrases):
        raise ValueError("phrases")
    return Instruction(str(entry.get("name", phrases[0])), phrases, bool(entry.get("rendered", False)))


def _bundled_miniature() -> Model:
    """Its weights say what they were trained on. An installation without them still has the entry."""
    try:
        described = read_folder(MINIATURE_FOLDER)
    except In2nError:
        described = _like(INSTRUCT_PIX2PIX, "miniature", "Miniature", MINIATURE_FOLDER)
    return replace(
        described,
        id="miniature",
        label="Miniature",
        description="The small editing model that comes with the add-on: quick, works offline, knows few instructions",
        sizes=Sizes(3.9, 0.2, 0, 100, 20),
        licence="GPL-3.0-or-later",
        examples=(),
    )


# Sizes: millions of weights, counted in diffusers' and transformers' classes with the checkpoints' own configurations.
# Activations are estimates: of the autoencoder some 10 kB a pixel in half precision, of a transformer some 24 numbers
# of its width a token; nothing of it was measured on a GPU yet.
EXAMPLES = (
    "Make it look like it just snowed",
    "Make it autumn",
    "Turn it into a watercolor painting",
    "As if it were night, lit by street lamps",
    "Make it look like an old photograph",
    "Turn the statue into gold",
    "Make it look like a Van Gogh painting",
    "Give it the light of a sunset",
)
MEGAPIXEL = 1024 * 1024
NON_COMMERCIAL = "Not for commercial use"
# Guidance and steps are Instruct-NeRF2NeRF's (Haque et al. 2023). InstructPix2Pix was trained at 256 pixels and works
# best between 256 and 512.
INSTRUCT_PIX2PIX = Model(
    id="timbrooks/instruct-pix2pix",
    label="InstructPix2Pix",
    description="The editing model of the paper; several gigabytes, downloaded on first use",
    folder=None,
    guidance_text=7.5,
    guidance_image=1.5,
    steps=20,
    working_side=384,
    most_pixels=512 * 512,
    sizes=Sizes(859.5, 123, 83.7, 700, 2600),
    download_mb=5200,  # its float32 weights without the safety checker
    licence="MIT",
    examples=EXAMPLES,
)
SDXL = Model(
    id="diffusers/sdxl-instructpix2pix-768",
    label="InstructPix2Pix XL",
    description="InstructPix2Pix on Stable Diffusion XL, trained at 768 pixels",
    folder=None,
    guidance_text=5.0,
    guidance_image=1.5,
    steps=20,
    working_side=576,
    most_pixels=768 * 768,
    family=SDXL_INSTRUCT_PIX2PIX,
    sizes=Sizes(2567, 818, 83.7, 1400, 11800),  # its autoencoder decodes in float32
    download_mb=12600,
    licence="openrail++",
    examples=EXAMPLES,
)
KLEIN = Model(
    id="black-forest-labs/FLUX.2-klein-4B",
    label="FLUX.2 klein 4B",
    description="Quick and up to date: four steps an edit. Recommended from 12 GB of GPU memory",
    folder=None,
    guidance_text=None,  # distilled into it
    guidance_image=None,
    steps=4,
    working_side=512,
    most_pixels=MEGAPIXEL,
    family=FLUX2_KLEIN,
    sizes=Sizes(3875.5, 4022.5, 84, 1500, 10500),
    download_mb=16000,
    licence="Apache-2.0",
    examples=EXAMPLES,
)
KONTEXT = Model(
    id="black-forest-labs/FLUX.1-Kontext-dev",
    label="FLUX.1 Kontext dev",
    description="Keeps what the instruction does not speak of; asks for its licence's terms on the hub",
    folder=None,
    guidance_text=3.5,
    guidance_image=None,
    steps=28,
    working_side=768,
    most_pixels=MEGAPIXEL,
    family=FLUX_KONTEXT,
    sizes=Sizes(11901.4, 4885.3, 83.8, 1500, 10500),
    download_mb=33700,
    licence="FLUX.1-dev Non-Commercial",
    note=f"{NON_COMMERCIAL}; gated: accept its terms on huggingface.co and sign in there with a token",
    examples=EXAMPLES,
)
LONGCAT = Model(
    id="meituan-longcat/LongCat-Image-Edit",
    label="LongCat-Image-Edit",
    description="Keeps what the instruction does not speak of; follows Chinese and English",
    folder=None,
    guidance_text=4.5,
    guidance_image=None,
    steps=50,
    working_side=768,
    most_pixels=MEGAPIXEL,
    family=LONGCAT_IMAGE_EDIT,
    sizes=Sizes(6270, 8292, 83.8, 1600, 10500),
    download_mb=29300,
    licence="Apache-2.0",
    examples=EXAMPLES,
)
LONGCAT_TURBO = replace(
    LONGCAT,
    id="meituan-longcat/LongCat-Image-Edit-Turbo",
    label="LongCat-Image-Edit Turbo",
    description="LongCat-Image-Edit in eight evaluations an edit",
    guidance_text=1.0,
    steps=8,
)
QWEN_2511 = Model(
    id="Qwen/Qwen-Image-Edit-2511",
    label="Qwen-Image-Edit 2511",
    description="The largest: best at following long instructions, slow",
    folder=None,
    guidance_text=4.0,
    guidance_image=None,
    steps=40,
    working_side=768,
    most_pixels=MEGAPIXEL,
    family=QWEN_IMAGE_EDIT,
    sizes=Sizes(20430.4, 8292, 126.9, 1800, 10500),
    download_mb=57700,
    licence="Apache-2.0",
    note="In 8 steps with its Lightning LoRA; merge it, in a folder called Qwen-Image-Edit-Lightning",
    examples=EXAMPLES,
)
QWEN_2509 = replace(QWEN_2511, id="Qwen/Qwen-Image-Edit-2509", label="Qwen-Image-Edit 2509")
# No model of the hub, but a folder of this name: the model with its Lightning LoRA merged into it.
QWEN_LIGHTNING = replace(
    QWEN_2511, id="Qwen/Qwen-Image-Edit-Lightning", label="Qwen-Image-Edit Lightning", guidance_text=1.0, steps=8
)
# New ones at the end: a .blend knows a model by its place.
ON_THE_HUB = (INSTRUCT_PIX2PIX, SDXL, KLEIN, LONGCAT, LONGCAT_TURBO, KONTEXT, QWEN_2511, QWEN_2509)
MINIATURE = _bundled_miniature()
MODELS = (MINIATURE, *ON_THE_HUB)
