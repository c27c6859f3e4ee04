"""Regions from files: a closed mesh as PLY, or a box, an ellipsoid or a mesh as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import In2nError
from ..region import FORMS, MOST_FACES, Region, bad_region, triangulated
from . import ply

MOST_BYTES = 64 * 2**20


def read_region(path: Path | str, soft_edge: float | None = None) -> Region:
    """Read a region, told by its content: a PLY file begins with "ply".

    Args:
        path: The file; in the capture's coordinates, relative to its offset, as extracted meshes are.
        soft_edge: In capture units; None: what the file says, none where it says nothing.

    Returns:
        The region.

    Raises:
        In2nError: "missing_file", "cannot_read", "bad_region" and "bad_mesh_file".
    """
    path = Path(path).expanduser()
    try:
        if not path.is_file():
            raise In2nError("missing_file", f"{path} does not exist.", "Check the path of the region.")
        if path.stat().st_size > MOST_BYTES:
            raise bad_region(f"in {path} is larger than {MOST_BYTES >> 20} MB", "Simplify the mesh.")
        with open(path, "rb") as file:
            is_ply = file.read(3) == b"ply"
        if is_ply:
            vertices, faces = ply.read_mesh(path, MOST_FACES)
            region = Region.of(vertices, triangulated(faces))
        else:
            region = _from_json(path)
    except OSError as error:
        raise In2nError(
            "cannot_read", f"{path} cannot be read ({error.strerror}).", "Check the file and its permissions."
        ) from None
    return region if soft_edge is None else region.with_edge(soft_edge)


def _from_json(path: Path) -> Region:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise bad_region(f"in {path} is neither PLY nor JSON ({str(error)[:80]})", FORMS) from None
    return Region.from_json(data)
