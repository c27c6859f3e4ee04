"""PLY files, ASCII or binary: points with colours, and meshes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
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
_BROKEN = (ValueError, KeyError, IndexError, OverflowError, struct.error)
_CORNERS = ("vertex_indices", "vertex_index")  # what files call the list of a face's corners


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
    except _BROKEN as error:
        raise In2nError(
            "bad_points",
            f"The sparse points in {path} cannot be read ({error}).",
            "The file may be cut short; export it again, or take its line out of the capture.",
        ) from None


def read_vertices(path: Path) -> dict[str, np.ndarray]:
    """Read all that a PLY file, ASCII or binary, says of its vertices.

    Args:
        path: The file.

    Returns:
        Property -> its value of every vertex (n,), in the order and of the types of the file.

    Raises:
        In2nError: "bad_points".
        OSError: The file cannot be read.
    """
    data = Path(path).read_bytes()
    try:
        return _vertex_columns(data)[1]
    except _BROKEN as error:
        raise In2nError(
            "bad_points", f"{path} cannot be read ({error}).", "The file may be cut short; make or export it again."
        ) from None


def read_mesh(path: Path, most_faces: int) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """Read the vertices and faces of a PLY file, ASCII or binary.

    Args:
        path: The file.
        most_faces: A file with more is not read.

    Returns:
        Positions (n, 3) float64 in the file's units, and for each face the numbers of its corners; none where the file
        has no faces.

    Raises:
        In2nError: "bad_mesh_file".
        OSError: The file cannot be read.
    """
    data = Path(path).read_bytes()
    try:
        return _parse_mesh(data, most_faces)
    except _BROKEN as error:
        raise In2nError(
            "bad_mesh_file",
            f"The mesh in {path} cannot be read ({error}).",
            "The file may be cut short; export it again as PLY.",
        ) from None


@dataclass(frozen=True)
class _Element:
    """A table of a PLY file. fields: (name, type, the type of a list's length or "")."""

    name: str
    count: int
    fields: list[tuple[str, str, str]]

    @property
    def is_plain(self) -> bool:
        return not any(length for _, _, length in self.fields)


def _header(data: bytes) -> tuple[str, list[_Element], bytes]:
    """The byte order ("" for ASCII, else "<" or ">"), the elements, and what comes after the header."""
    end = data.find(b"end_header")
    if not data.startswith(b"ply") or end < 0:
        raise ValueError("not a PLY file")
    form, elements = "", []
    for line in data[:end].decode("ascii", "replace").splitlines():
        words = line.split()
        if words[:1] == ["format"]:
            form = words[1]
        elif words[:1] == ["element"]:
            if not 0 <= int(words[2]) <= len(data):  # each takes a byte at least
                raise ValueError(f"it ends before the {words[2][:20]} elements that it says it has")
            elements.append(_Element(words[1], int(words[2]), []))
        elif words[:2] == ["property", "list"]:
            elements[-1].fields.append((words[4], _TYPES[words[3]], _TYPES[words[2]]))
        elif words[:1] == ["property"]:
            elements[-1].fields.append((words[2], _TYPES[words[1]], ""))
    order = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}[form]
    return order, elements, data[data.index(b"\n", end) + 1 :]


def _columns(order: str, element: _Element, body: bytes) -> dict[str, np.ndarray]:
    """The numbers of an element without lists, which stands at the beginning of the body."""
    names = [name for name, _, _ in element.fields]
    if not order:
        rows = body.decode("ascii", "replace").split()
        table = np.array(rows[: element.count * len(names)], np.float64).reshape(element.count, len(names))
        return {name: table[:, i] for i, name in enumerate(names)}
    kinds = np.dtype([(name, order + kind) for name, kind, _ in element.fields])
    table = np.frombuffer(body, kinds, element.count)
    return {name: table[name] for name in names}


def _vertex_columns(data: bytes) -> tuple[str, dict[str, np.ndarray]]:
    """The byte order, as `_header` gives it, and the numbers of the vertices."""
    order, elements, body = _header(data)
    if not elements or elements[0].name != "vertex":
        raise ValueError("its vertices do not come first")
    if not elements[0].is_plain:
        raise ValueError("its vertices have lists")
    return order, _columns(order, elements[0], body)


def _parse(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    order, column = _vertex_columns(data)
    points = np.stack([column[axis] for axis in "xyz"], -1).astype(np.float64)
    if {"red", "green", "blue"} <= set(column):
        colors = np.stack([column[c] for c in ("red", "green", "blue")], -1)
        scale = 255 if order and colors.dtype.kind == "f" else 1
        colors = np.clip(np.round(colors * scale), 0, 255).astype(np.uint8)
    else:
        colors = np.full(points.shape, 128, np.uint8)
    finite = np.isfinite(points).all(1)
    return points[finite], colors[finite]


def _parse_mesh(data: bytes, most_faces: int) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    order, elements, body = _header(data)
    points, faces = None, []
    words = body.decode("ascii", "replace").split() if not order else None
    for element in elements:
        if element.name == "face" and element.count > most_faces:
            raise ValueError(f"it has {element.count:,} faces, {most_faces:,} are the most")
        if element.is_plain:
            size = len(element.fields) if words is not None else _row_size(element)
            if element.name == "vertex":
                column = _columns(order, element, " ".join(words).encode() if words is not None else body)
                points = np.stack([column[axis] for axis in "xyz"], -1).astype(np.float64)
            if words is not None:
                words = words[element.count * size :]
            else:
                body = body[element.count * size :]
        elif words is not None:
            found, words = _rows_with_lists_ascii(element, words)
            faces = found or faces
        else:
            found, body = _rows_with_lists(element, order, body)
            faces = found or faces
    if points is None:
        raise ValueError("it has no vertices")
    return points, faces


def _row_size(element: _Element) -> int:
    return sum(int(kind[1]) for _, kind, _ in element.fields)


def _rows_with_lists(element: _Element, order: str, body: bytes) -> tuple[list[tuple[int, ...]], bytes]:
    """The corners of an element that is made of faces, none of another, and the bytes behind it."""
    kinds = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "f4": "f", "f8": "d"}
    found, place = [], 0
    for _ in range(element.count):
        for name, kind, length in element.fields:
            count = 1
            if length:
                (count,) = struct.unpack_from(order + kinds[length], body, place)
                place += int(length[1])
            values = struct.unpack_from(f"{order}{count}{kinds[kind]}", body, place)
            place += count * int(kind[1])
            if name in _CORNERS:
                found.append(values)
    return found, body[place:]


def _rows_with_lists_ascii(element: _Element, words: list[str]) -> tuple[list[tuple[int, ...]], list[str]]:
    """As `_rows_with_lists`, of the words of an ASCII file."""
    found, place = [], 0
    for _ in range(element.count):
        for name, _kind, length in element.fields:
            count = int(words[place]) if length else 1
            place += bool(length)
            values = words[place : place + count]
            if len(values) != count:
                raise ValueError("it ends early, or has a list of less than nothing")
            place += count
            if name in _CORNERS:
                found.append(tuple(int(value) for value in values))
    return found, words[place:]
