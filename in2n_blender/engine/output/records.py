"""What lies beside an output as JSON: how it came about, and that it is ours."""

from __future__ import annotations

from pathlib import Path

from ...scene.errors import In2nError
from ...workspace.files import read_json


def record_of(file: Path) -> dict:
    """What a record says.

    Args:
        file: There or not.

    Returns:
        Its content; empty where it cannot be read.
    """
    try:
        found = read_json(file)
    except In2nError:
        return {}
    return found if isinstance(found, dict) else {}


def refuse_foreign(record_file: Path, files: list[Path], again: str) -> None:
    """Refuse to write over outputs without the record that all of ours have.

    Args:
        record_file: There or not.
        files: What would be written.
        again: What to do once they are away, as "extract the mesh again".

    Raises:
        In2nError: "not_ours".
    """
    found = next((file for file in files if file.exists()), None)
    if found is not None and not record_file.exists():
        raise In2nError(
            "not_ours",
            f"{found} was not made by this program and would be overwritten.",
            f"Move it away, then {again}.",
        )
