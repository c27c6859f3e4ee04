"""The vertices of a PLY file: positions and colours, ASCII or binary."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import In2nError

_TYPES = {
    "char": "i1",
    "int8": "i1",
    "uchar": "u1",
    "uint8": "u1",
    "short": "i2",
    "int16": "i2",
    "ushort": "u2",
    "uint16": "u2",
    "int": "i4",
    "int32": "i4",
    "uint": "u4",
    "uint32": "u4",
    "float": "f4",
    "float32": "f4",
    "double": "f8",
    "float64": "f8",
}


def read_points(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the vertices of a PLY file, ASCII or binary; those with a number that is not finite are left out.

    Args:
        path: The file.

    Returns:
        Positions (P, 3) float64 in the file's units, and colours (P, 3) uint8, mid grey where the file has none.

    Raises:
        In2nError: "bad_points".
        OSError: The file cannot be read.
    """
    data = Path(path).read_bytes()
    try:
        return _parse(data)
    except (ValueError, KeyError, IndexError) as error:
        raise In2nError(
            "bad_points",
            f"The sparse points in {path} cannot be read ({error}).",
            "The file may be cut short; export it again, or take its line out of the capture.",
        ) from None


def _parse(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    end = data.find(b"end_header")
    if not data.startswith(b"ply") or end < 0:
        raise ValueError("not a PLY file")
    body = data[data.index(b"\n", end) + 1 :]
    form, count, fields, element = "", 0, [], ""
    for line in data[:end].decode("ascii", "replace").splitlines():
        words = line.split()
        if words[:1] == ["format"]:
            form = words[1]
        elif words[:1] == ["element"]:
            if not element and words[1] != "vertex":
                raise ValueError("its vertices do not come first")
            element = words[1]
            count = int(words[2]) if element == "vertex" else count
        elif words[:1] == ["property"] and element == "vertex":
            fields.append((words[2], _TYPES[words[1]]))
    names = [name for name, _ in fields]
    if form == "ascii":
        rows = body.decode("ascii", "replace").split()
        table = np.array(rows[: count * len(fields)], np.float64).reshape(count, len(fields))
        column = {name: table[:, i] for i, name in enumerate(names)}
    else:
        order = {"binary_little_endian": "<", "binary_big_endian": ">"}[form]
        column = np.frombuffer(body, np.dtype([(name, order + kind) for name, kind in fields]), count)
    points = np.stack([column[axis] for axis in "xyz"], -1).astype(np.float64)
    if {"red", "green", "blue"} <= set(names):
        colors = np.stack([column[c] for c in ("red", "green", "blue")], -1)
        scale = 255 if form != "ascii" and colors.dtype.kind == "f" else 1
        colors = np.clip(np.round(colors * scale), 0, 255).astype(np.uint8)
    else:
        colors = np.full(points.shape, 128, np.uint8)
    finite = np.isfinite(points).all(1)
    return points[finite], colors[finite]
