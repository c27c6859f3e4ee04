"""Instructions to choose from: those used before, and those that an editor is known to follow."""

from __future__ import annotations

from pathlib import Path

from ..scene.errors import In2nError
from ..workspace.files import read_json, write_json
from . import pictures
from .settings import home_folder

MOST_REMEMBERED = 30
MINIATURE = Path(__file__).resolve().parents[1] / "engine" / "diffusion" / "miniature" / "weights"
FACTS = "miniature.json"  # beside the weights of an editor that knows a fixed list of instructions

# InstructPix2Pix's own; the engine uses them for every editor that does not bring others
GUIDANCE_TEXT, GUIDANCE_IMAGE = 7.5, 1.5

# What an editor that understands free text does well.
FREE = (
    "Make it look like it just snowed",
    "Make it autumn",
    "Turn it into a watercolor painting",
    "As if it were night, lit by street lamps",
    "Make it look like an old photograph",
    "Turn the statue into gold",
    "Make it look like a Van Gogh painting",
    "Give it the light of a sunset",
)


def history_file() -> Path:
    return home_folder() / "instructions.json"


def history() -> list[str]:
    """The instructions used before in any file, newest first."""
    found = pictures.read(history_file()).get("instructions", [])
    return [text for text in found if isinstance(text, str)] if isinstance(found, list) else []


def remember(instruction: str) -> None:
    """Put an instruction at the top of the history. A history that cannot be written stops nobody's work."""
    instruction = instruction.strip()
    if not instruction:
        return
    try:
        before = read_json(history_file()).get("instructions", []) if history_file().exists() else []
        kept = [text for text in before if isinstance(text, str) and text.casefold() != instruction.casefold()]
        write_json(history_file(), {"instructions": [instruction, *kept][:MOST_REMEMBERED]})
    except (In2nError, OSError, AttributeError, TypeError):
        pass


def forget() -> None:
    """Empty the history."""
    history_file().unlink(missing_ok=True)


def known(editor: str) -> list[str]:
    """The only instructions that the editor knows, for the miniature and models like it; empty for any other."""
    entries = pictures.read(_folder(editor) / FACTS).get("instructions", [])
    return [sentence(entry["phrases"][0]) for entry in entries if entry.get("phrases")]


def own_guidance(editor: str) -> tuple[float, float]:
    """The text and image scales that the editor was made for."""
    facts = pictures.read(_folder(editor) / FACTS)
    return float(facts.get("guidance_text", GUIDANCE_TEXT)), float(facts.get("guidance_image", GUIDANCE_IMAGE))


def suggestions(editor: str) -> list[str]:
    """What could be typed: what the editor knows, or examples of what it does well."""
    return known(editor) or list(FREE)


def _folder(editor: str) -> Path:
    return MINIATURE if editor == "miniature" else Path(editor)


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
