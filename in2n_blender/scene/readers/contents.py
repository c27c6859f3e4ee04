"""The files of captures as text, JSON, XML and numbers; what is wrong with them is one sentence."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ElementTree
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..errors import In2nError

MOST_BYTES = 1 << 29
AGAIN = "The file may be cut short or not what its name says; get it again."


def read_text(path: Path) -> str:
    """A text file; what is not UTF-8 in it is kept as surrogates.

    Args:
        path: The file.

    Raises:
        In2nError: "missing_file", "bad_capture" for a file larger than MOST_BYTES.
    """
    return _read(path).decode("utf-8-sig", "surrogateescape")


def load_json(path: Path) -> object:
    """A JSON file.

    Args:
        path: The file.

    Returns:
        What it holds; kept until another is loaded, so it is not to be changed.

    Raises:
        In2nError: "missing_file", "bad_json".
    """
    try:
        found = path.stat()
    except OSError as error:
        raise _cannot_read(path, error) from None
    return _parsed_json(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=1)  # readers ask in turn whether a file is theirs
def _parsed_json(path: Path, _size: int, _time: int) -> object:
    try:
        return json.loads(_read(path).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, a number of more digits than any has
        raise In2nError("bad_json", f"{path} is not valid JSON ({error}).", AGAIN) from None


def load_table(path: Path) -> list[list[str]]:
    """The rows of a .csv file.

    Args:
        path: The file.

    Returns:
        Its cells, without blanks around them; empty rows are left out.

    Raises:
        In2nError: "missing_file", "bad_capture".
    """
    try:
        rows = list(csv.reader(io.StringIO(read_text(path), newline=""), skipinitialspace=True))
    except csv.Error as error:
        raise bad_file(path, str(error)) from None
    return [[cell.strip() for cell in row] for row in rows if row]


def load_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file, of one without entities of its own.

    Args:
        path: The file.

    Raises:
        In2nError: "missing_file", "bad_capture".
    """
    data = _read(path)
    if b"<!ENTITY" in data or b"<!DOCTYPE" in data:  # a kilobyte of these may stand for a gigabyte
        raise bad_file(path, "it defines entities, which no such file needs")
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        raise bad_file(path, str(error)) from None


def bad_file(path: Path, reason: str) -> In2nError:
    """What to say of a file that cannot be read as what it seems to be.

    Args:
        path: The file.
        reason: Why.

    Returns:
        In2nError "bad_capture", to be raised.
    """
    return In2nError("bad_capture", f"{path} cannot be read ({reason}).", AGAIN)


def numbers(values: object, count: int, what: str, label: str) -> np.ndarray:
    """Some finite numbers.

    Args:
        values: Text with blanks or commas between them, or a list.
        count: How many there are to be.
        what: What they are called in the files, for messages.
        label: The photo, for messages.

    Returns:
        (count,) float64.

    Raises:
        In2nError: "bad_capture".
    """
    try:
        found = np.array(values.replace(",", " ").split() if isinstance(values, str) else values, np.float64).ravel()
    except (TypeError, ValueError, AttributeError, OverflowError):
        found = np.zeros(0)
    if len(found) != count or not np.isfinite(found).all():
        raise In2nError(
            "bad_capture",
            f"{what} of {label} is not {count} finite numbers ({str(values)[:60]!r}).",
            "Export the capture again.",
        )
    return found


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise bad_file(path, f"it is larger than {MOST_BYTES >> 20} MB")
        return path.read_bytes()
    except OSError as error:
        raise _cannot_read(path, error) from None


def _cannot_read(path: Path, error: OSError) -> In2nError:
    return In2nError(
        "missing_file", f"{path} cannot be read ({error.strerror}).", "Check the file and its permissions."
    )
