"""Instructions to choose from: those used before, and those that a model is known to follow."""

from __future__ import annotations

from pathlib import Path

from ..models import catalogue
from ..models.model import Model
from ..scene.errors import In2nError
from ..workspace.files import read_json, write_json
from . import pictures
from .settings import home_folder

MOST_REMEMBERED = 30


def history_file() -> Path:
    """Where the history of instructions is kept."""
    return home_folder() / "instructions.json"


def history() -> list[str]:
    """The instructions used before in any file, newest first."""
    found = pictures.read(history_file()).get("instructions", [])
    return [text for text in found if isinstance(text, str)] if isinstance(found, list) else []


def remember(instruction: str) -> None:
    """Put an instruction at the top of the history; one that cannot be written stops nobody's work.

    Args:
        instruction: What the user typed; without text, nothing happens.
    """
    instruction = instruction.strip()
    if not instruction:
        return
    try:
        before = read_json(history_file()).get("instructions", []) if history_file().exists() else []
        earlier = [text for text in before if isinstance(text, str) and text.casefold() != instruction.casefold()]
        write_json(history_file(), {"instructions": [instruction, *earlier][:MOST_REMEMBERED]})
    except (In2nError, OSError, AttributeError, TypeError):
        pass


def forget() -> None:
    """Empty the history."""
    history_file().unlink(missing_ok=True)


def known(editor: str) -> list[str]:
    """The only instructions that a model knows; empty for one that takes any.

    Args:
        editor: The model's name or folder, as the engine takes it.
    """
    return list(_model(editor).suggestions) if _model(editor).instructions else []


def own_guidance(editor: str) -> tuple[float, float]:
    """The text and image scales that a model was made for.

    Args:
        editor: The model's name or folder, as the engine takes it.
    """
    return _model(editor).guidance_text, _model(editor).guidance_image


def suggestions(editor: str) -> list[str]:
    """What could be typed: what a model knows, or examples of what it does well.

    Args:
        editor: The model's name or folder, as the engine takes it.
    """
    return list(_model(editor).suggestions)


def _model(editor: str) -> Model:
    """The catalogue's entry; InstructPix2Pix's for what is no model (yet): the engine refuses that with its reason."""
    try:
        return catalogue.find(editor)
    except In2nError:
        return catalogue.INSTRUCT_PIX2PIX
