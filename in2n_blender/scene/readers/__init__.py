"""Readers of captures: one file a format, each with `find` and `read`. What a new one needs is in `listing`."""

from __future__ import annotations

from pathlib import Path

from ..capture import Capture
from ..errors import In2nError
from . import colmap, transforms


def read(path: Path) -> Capture:
    """Recognise the format of a capture and read it.

    Args:
        path: A file of the capture, or the folder that holds it.

    Returns:
        The capture in its own coordinates and units, with the photos at their own size.

    Raises:
        In2nError: "missing_file", "not_a_capture", and what the readers raise.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise In2nError("missing_file", f"{path} does not exist.", "Check the path of the capture.")
    found = transforms.find(path)
    if found:
        return transforms.read(found)
    model = colmap.find(path)
    if model:
        return colmap.read(model)
    raise In2nError(
        "not_a_capture",
        f"No capture was found in {path}.",
        "Choose a folder with transforms.json or transforms_train.json, or a COLMAP project with sparse/0 and images.",
    )
