"""The preview that the artist chose: what the whole scene is to look like."""

from __future__ import annotations

from pathlib import Path

from ..link.requests import CARRYING
from . import pictures, workspaces


def chosen(scene) -> Path | None:
    """The picture that an edit would begin with now.

    Args:
        scene: The capture's.

    Returns:
        The picture of a preview; None where none was chosen, it is gone, the method takes none, or the preview is of
        another instruction or model than the edit would be.
    """
    settings, folder = scene.in2n, workspaces.workspace_of(scene)
    if folder is None or not settings.key_view or settings.editing_method != CARRYING:
        return None
    file = folder / "previews" / settings.key_view
    made = pictures.read(file.parent / "preview.json")
    wanted = {"instruction": settings.instruction.strip(), "editor": settings.editor_id()}
    return file if file.is_file() and all(made.get(key) == value for key, value in wanted.items()) else None
