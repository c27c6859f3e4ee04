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
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

from ..scene.errors import In2nError
from .exact import ExactSettings, is_exact

MINIATURE_FOLDER = Path(__file__).resolve().parents[1] / "engine" / "diffusion" / "miniature" / "weights"
# Beside the weights of a model that was trained on a fixed list of instructions: the list, and its own defaults.
DESCRIPTION_FILE = "miniature.json"
COMPONENTS = ("scheduler", "text_encoder", "tokenizer", "unet", "vae")
# A name of the hub, and behind an @ the commit that is meant; a name that could be moved, as of a branch, is none.
HUB_NAME = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@([0-9a-f]{40}))?")
# What is fetched of models that are known here: a commit, so that it is what was looked at, whatever the hub has since.
REVISIONS = {
    "timbrooks/instruct-pix2pix": "31519b5cb02a7fd89b906d88731cd4d6a7bbf88d",
    "openai/clip-vit-large-patch14": "32bd64288804d66eefd0ccbe215aa642df71cc41",
}
FILLERS = ("a", "an", "the", "please", "just", "now")


@dataclass(frozen=True)
class Instruction:
    """An edit that a model was trained on.

    Attributes:
        name: what the edit is called, "snow".
        phrases: the wordings that mean it; the first is the canonical one.
        rendered: whether Blender renders its truth (snow, sunset); else a function of the picture is its truth.
    """

    name: str
    phrases: tuple[str, ...]
    rendered: bool = False

    @property
    def text(self) -> str:
        return self.phrases[0]


@dataclass(frozen=True)
class Model:
    """A 2D editing model.

    Attributes:
        id: what the engine and the command line call it: "miniature", a name on the Hugging Face hub, or a folder.
        label, description: what an interface calls it and says about it.
        folder: where its weights are; None: in the Hugging Face cache, once they are downloaded.
        guidance_text, guidance_image: its own guidance scales s_T and s_I (Brooks et al. 2023, equation 3).
        steps: its own number of denoising steps.
        working_side: renders are enlarged until their shorter side has so many pixels.
        half_precision: whether it runs in float16 on CUDA; float32 everywhere else.
        memory_mb: what its networks take in the memory of a CUDA device, without what an edit needs beside them;
            None: not known.
        download_mb: what is fetched for it, once; 0: nothing.
        licence: of its weights, as an SPDX identifier; None: whatever its folder says.
        instructions: all that it knows; empty: it takes free text.
        examples: free text that it follows well.
    """

    id: str
    label: str
    description: str
    folder: Path | None
    guidance_text: float
    guidance_image: float
    steps: int
    working_side: int
    half_precision: bool = True
    memory_mb: int | None = None
    download_mb: int = 0
    licence: str | None = None
    instructions: tuple[Instruction, ...] = ()
    examples: tuple[str, ...] = ()

    @property
    def suggestions(self) -> tuple[str, ...]:
        """Instructions to choose from, each beginning with a capital letter."""
        known = [instruction.text for instruction in self.instructions] or self.examples
        return tuple(text[:1].upper() + text[1:] for text in known)

    def find_instruction(self, text: str) -> tuple[Instruction, str]:
        """The instruction that a text means, and the phrase of it that the text is.

        Case, punctuation, articles and fillers do not matter. The network reads the phrase, not the canonical one.

        Args:
            text: as the user typed it.

        Returns:
            The instruction, and the one of its phrases.

        Raises:
            In2nError: "unknown_instruction", which names the known ones and the model that takes all others.
        """
        for instruction in self.instructions:
            for phrase in instruction.phrases:
                if normalised(text) == normalised(phrase):
                    return instruction, phrase
        listed = ", ".join(f"“{instruction.text}”" for instruction in self.instructions)
        raise In2nError(
            "unknown_instruction",
            f"The model “{self.id}” does not know “{text.strip()}”; it knows {listed}.",
            f"Choose one of these, or the model “{INSTRUCT_PIX2PIX.id}” (or a folder that holds it) for free text.",
        )

    def check_instruction(self, text: str) -> str:
        """What the network reads for an instruction: the phrase it was trained on, or the text itself.

        Args:
            text: as the user typed it.

        Returns:
            One of the model's phrases; without a fixed list the text, stripped.

        Raises:
            In2nError: "empty_instruction"; "unknown_instruction" where the model knows a fixed list of others.
        """
        if not text.strip():
            raise In2nError(
                "empty_instruction", "The instruction is empty.", "Say what to change, for example “make it night”."
            )
        return self.find_instruction(text)[1] if self.instructions else text.strip()


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
        return _like_instruct_pix2pix(name_or_folder, name_or_folder, None)
    raise In2nError(
        "unknown_editor",
        f"There is no model “{_shortened(name_or_folder)}”: it is neither a folder nor a model's name.",
        f"Choose “miniature”, “{INSTRUCT_PIX2PIX.id}” or a folder in the diffusers layout.",
    )


def read_folder(folder: Path, id: str | None = None) -> Model:
    """The model in a folder: by its own description where it holds one, else by InstructPix2Pix's defaults.

    Args:
        folder: in the diffusers layout; nothing but DESCRIPTION_FILE is read.
        id: the model's; None: the folder's path.

    Returns:
        The catalogue's entry. A described model runs in float32 everywhere.

    Raises:
        In2nError: "editor_unfit" where the description is damaged.
    """
    model = _like_instruct_pix2pix(id or str(folder), folder.name or str(folder), folder)
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
            half_precision=False,  # small enough to be run exactly
            instructions=tuple(_instruction(entry) for entry in described["instructions"]),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise unfit(model.id, f"{DESCRIPTION_FILE} in it cannot be read") from error


def unfit(model_id: str, reason: str) -> In2nError:
    """The error for a folder that is no usable model.

    Args:
        model_id: as the user chose it.
        reason: the end of the sentence "... cannot be used as a model:", without its full stop.

    Returns:
        In2nError "editor_unfit", to be raised.
    """
    return In2nError(
        "editor_unfit",
        f"“{_shortened(model_id)}” cannot be used as a model: {reason}.",
        "Choose an InstructPix2Pix model in the diffusers layout with safetensors weights.",
    )


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


def _like_instruct_pix2pix(id: str, label: str, folder: Path | None) -> Model:
    description = "A model of InstructPix2Pix's kind"
    return replace(
        INSTRUCT_PIX2PIX, id=id, label=label, description=description, folder=folder, download_mb=0, licence=None
    )


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
        memory_mb=1,
    )


def _existing_folder(text: str) -> Path | None:
    try:
        folder = Path(text).expanduser()
        return folder if text and folder.is_dir() else None
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, the home of nobody
        return None


def _number(described: dict, key: str, default: float, low: float, high: float) -> float:
    value = described.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(key)
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(key)
    return float(value)


def _instruction(entry: dict) -> Instruction:
    phrases = tuple(entry["phrases"])
    if not phrases or not all(isinstance(phrase, str) and phrase.strip() for phrase in phrases):
        raise ValueError("phrases")
    return Instruction(str(entry.get("name", phrases[0])), phrases, bool(entry.get("rendered", False)))


def normalised(text: str) -> str:
    """Lower case, without punctuation, articles, fillers and doubled spaces: what instructions are compared by.

    Args:
        text: in English; letters beyond a to z count as punctuation.

    Returns:
        Words with a space between them; may be empty.
    """
    words = re.sub(r"[^a-z0-9 ]+", " ", text.lower()).split()
    return " ".join(word for word in words if word not in FILLERS)


def _shortened(text: str, length: int = 80) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"


def _bundled_miniature() -> Model:
    """Its weights say what they were trained on. An installation without them still has the entry."""
    try:
        described = read_folder(MINIATURE_FOLDER)
    except In2nError:
        described = _like_instruct_pix2pix("miniature", "Miniature", MINIATURE_FOLDER)
    return replace(
        described,
        id="miniature",
        label="Miniature",
        description="The small editing model that comes with the add-on: quick, works offline, knows few instructions",
        memory_mb=25,
        licence="GPL-3.0-or-later",
        examples=(),
    )


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
    memory_mb=1900,  # 859.5 million weights of the UNet and 83.7 million of the autoencoder, two bytes each
    download_mb=5200,  # its float32 weights without the safety checker
    licence="MIT",
    examples=(
        "Make it look like it just snowed",
        "Make it autumn",
        "Turn it into a watercolor painting",
        "As if it were night, lit by street lamps",
        "Make it look like an old photograph",
        "Turn the statue into gold",
        "Make it look like a Van Gogh painting",
        "Give it the light of a sunset",
    ),
)
MINIATURE = _bundled_miniature()
MODELS = (MINIATURE, INSTRUCT_PIX2PIX)
