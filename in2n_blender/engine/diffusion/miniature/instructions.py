"""What the miniature can do: its instructions in natural words, and finding the one that a text means."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from ....scene.errors import In2nError

WEIGHTS_FOLDER = Path(__file__).parent / "weights"
FACTS_FILE = "miniature.json"


@dataclass(frozen=True)
class Instruction:
    """One edit: its name, its paraphrases (the first is the canonical one) and whether Blender renders its truth."""

    name: str
    phrases: tuple[str, ...]
    rendered: bool = False

    @property
    def text(self) -> str:
        return self.phrases[0]


INSTRUCTIONS = (
    Instruction(
        "snow",
        (
            "make it look like it snowed",
            "make it snow",
            "cover it with snow",
            "as if it had snowed",
            "add snow",
            "turn it into winter",
        ),
        rendered=True,
    ),
    Instruction(
        "sunset",
        (
            "make it sunset",
            "turn it to sunset",
            "as if at sunset",
            "make it look like sunset",
            "light it with sunset light",
            "give it evening light",
        ),
        rendered=True,
    ),
    Instruction(
        "night",
        (
            "make it night",
            "turn it to night",
            "as if at night",
            "make it look like night",
            "what would it look like at night",
        ),
    ),
    Instruction(
        "gold", ("make it gold", "turn it into gold", "as if made of gold", "make it golden", "cast it in gold")
    ),
    Instruction(
        "autumn",
        ("make it autumn", "turn it to autumn", "as if in autumn", "give it autumn colors", "make it look like autumn"),
    ),
    Instruction(
        "pencil sketch",
        (
            "make it a pencil sketch",
            "turn it into a pencil sketch",
            "as a pencil drawing",
            "draw it with a pencil",
            "make it look like a pencil drawing",
        ),
    ),
    Instruction(
        "black and white",
        (
            "make it black and white",
            "turn it black and white",
            "as a black and white photo",
            "remove the color",
            "make it grayscale",
        ),
    ),
    Instruction("red tint", ("tint it red", "give it a red tint", "add a red tint", "make it red", "color it red")),
    Instruction(
        "blue tint", ("tint it blue", "give it a blue tint", "add a blue tint", "make it blue", "color it blue")
    ),
    Instruction(
        "old photograph",
        (
            "make it an old photograph",
            "turn it into an old photo",
            "as an old photograph",
            "make it look like an old photo",
            "make it look vintage",
        ),
    ),
)


FILLERS = ("a", "an", "the", "please", "just", "now")


def normalise(text: str) -> str:
    """Lower case, without punctuation, articles, fillers and doubled spaces."""
    words = re.sub(r"[^a-z0-9 ]+", " ", text.lower()).split()
    return " ".join(word for word in words if word not in FILLERS)


def known_instructions(folder: Path = WEIGHTS_FOLDER) -> dict[str, list[str]]:
    """Canonical instruction -> its paraphrases (itself first), as the weights in `folder` were trained on."""
    facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
    return {entry["phrases"][0]: list(entry["phrases"]) for entry in facts["instructions"]}


def match_instruction(text: str, folder: Path = WEIGHTS_FOLDER) -> str:
    """The canonical instruction that `text` is a paraphrase of; raises as `match_phrase`."""
    return match_phrase(text, folder)[0]


def match_phrase(text: str, folder: Path = WEIGHTS_FOLDER) -> tuple[str, str]:
    """The canonical instruction that `text` means, and the phrase it is; case, punctuation, articles and fillers do not
    matter.

    The network reads the phrase, not the canonical instruction.
    Raises In2nError("unknown_instruction") that names the known ones and the editor that knows all others.
    """
    known = known_instructions(folder)
    for canonical, phrases in known.items():
        for phrase in phrases:
            if normalise(text) == normalise(phrase):
                return canonical, phrase
    listed = ", ".join(f"“{canonical}”" for canonical in known)
    raise In2nError(
        "unknown_instruction",
        f"The miniature editor does not know “{text.strip()}”; it knows {listed}.",
        (
            "Choose one of these, or the editor “timbrooks/instruct-pix2pix” (or a folder that holds it) for free "
            "instructions."
        ),
    )
