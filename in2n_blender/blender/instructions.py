"""Instructions to choose from: those used before, and those that a model is known to follow."""

from __future__ import annotations

from pathlib import Path

from bpy.app.translations import pgettext_iface as iface

from ..models import catalogue, hub
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


def own_guidance(editor: str) -> tuple[float | None, float | None]:
    """The text and image scales that a model was made for; None for one that it has not.

    Args:
        editor: The model's name or folder, as the engine takes it.
    """
    return _model(editor).guidance_text, _model(editor).guidance_image


def set_guidance(settings, editor: str) -> tuple[float | None, float | None]:
    """The text and image scales to edit with: None where the model's own counts, and for one that it has not.

    Args:
        settings: The scene's.
        editor: The model's name or folder, as the engine takes it.
    """
    if settings.use_default_guidance:
        return None, None
    own, here = own_guidance(editor), (settings.guidance_text, settings.guidance_image)
    return tuple(None if scale is None else value for scale, value in zip(own, here))


def negative_prompt(settings, editor: str) -> str:
    """What is not to be seen: "" for a model that takes no negative prompt.

    Args:
        settings: The scene's.
        editor: The model's name or folder, as the engine takes it.
    """
    return settings.negative_prompt.strip() if _model(editor).takes_negative_prompt else ""


def takes_negative_prompt(editor: str) -> bool:
    """Whether a model takes a negative prompt.

    Args:
        editor: The model's name or folder, as the engine takes it.
    """
    return _model(editor).takes_negative_prompt


def guidance_in_words(text: float | None, image: float | None) -> str:
    """Both scales for a label.

    Args:
        text: The text scale; None: the model has none.
        image: Likewise.
    """
    if text is None and image is None:
        return iface("Needs no guidance")
    if image is None:
        return iface("Text {text:g}").format(text=text)
    return iface("Text {text:g} · Image {image:g}").format(text=text, image=image)


def scales_in_words(text: float | None, image: float | None) -> str:
    """The numbers alone, for a small button.

    Args:
        text: The text scale; None: the model has none.
        image: Likewise.
    """
    return " · ".join(f"{scale:g}" for scale in (text, image) if scale is not None) or "—"


def suggestions(editor: str) -> list[str]:
    """What could be typed: what a model knows, or examples of what it does well.

    Args:
        editor: The model's name or folder, as the engine takes it.
    """
    return list(_model(editor).suggestions)


def _model(editor: str) -> Model:
    """The catalogue's entry; InstructPix2Pix's for what is no model (yet): the engine refuses that with its reason."""
    try:
        return hub.find_model(editor)
    except In2nError:
        return catalogue.INSTRUCT_PIX2PIX
