"""What an edit would be refused for, said beside its fields before any job is begun."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from pathlib import Path

from ..models import catalogue, hub
from ..models.exact import is_exact
from ..scene.errors import In2nError


@dataclass(frozen=True)
class Objection:
    """Why an edit cannot be begun.

    Attributes:
        sentence: A short one.
        explained: All that there is to say, with what to do.
        wrong: Whether something is wrong, rather than just not there yet.
    """

    sentence: str
    explained: str = ""
    wrong: bool = True


def of_edit(editor: str, instruction: str) -> Objection | None:
    """What the engine would say of an edit; the disk is looked at once in two seconds at most.

    Args:
        editor: The model's name or folder, as the engine takes it.
        instruction: What to change.

    Returns:
        The objection; None where there is none.
    """
    return _of_model(editor, int(time.monotonic() / 2)) or _of_instruction(editor, instruction)


def _of_instruction(editor: str, instruction: str) -> Objection | None:
    if not instruction.strip():
        return Objection("Type what to change.", "Type what to change, or choose it from the list.", wrong=False)
    try:
        catalogue.find(editor).check_instruction(instruction)
    except In2nError as error:
        return Objection("This model does not know that.", str(error))
    return None


@functools.lru_cache(maxsize=8)
def _of_model(editor: str, _moment: int) -> Objection | None:
    if not editor.strip():
        return Objection(
            "Choose the model's folder.", "Choose the folder of a model in the diffusers layout.", wrong=False
        )
    try:
        model = catalogue.find(editor)
    except In2nError as error:
        return Objection("There is no such model.", str(error))
    if is_exact(model.id):
        return None
    if model.folder is not None:
        whole = hub.has_editor_weights(model.folder)
        return None if whole else Objection("This folder holds no model.", _folder_words(model.folder))
    if hub.cached_snapshot(model.id, hub.is_whole_editor) is not None or hub.may_download():
        return None
    size = f", some {model.download_mb / 1000:.0f} GB, once" if model.download_mb else ""
    return Objection(
        "The model is not on this computer.",
        f"“{model.id}” is not in {hub.hub_cache()}. Download it in Preferences > Add-ons > IN2N{size}, choose a folder "
        "that holds it, or choose the miniature.",
    )


def _folder_words(folder: Path) -> str:
    networks = catalogue.find(str(folder)).family.networks
    return (
        f"{folder} does not hold {', '.join(networks[:-1])} and {networks[-1]} with their weights. "
        "Choose a folder in the diffusers layout."
    )


def forget() -> None:
    """A model has come or gone: look at the disk again."""
    _of_model.cache_clear()
