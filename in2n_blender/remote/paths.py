"""The same file has one name here and another on the other machine: in requests, in answers, and in files."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

TOLD = (".json", ".html")  # files that tell where things are, and are read where they lie


@dataclass
class Places:
    """Folders and files that lie on both machines.

    Attributes:
        pairs: (here, there), absolute paths.
    """

    pairs: list[tuple[str, str]] = field(default_factory=list)

    def add(self, here: Path | str, there: str) -> None:
        """Note a folder, or a file, of both machines. The innermost counts."""
        self.pairs.append((str(here), there))
        self.pairs.sort(key=lambda pair: -len(pair[0]))

    def there(self, value: object) -> object:
        """What a request says here as it has to be said there.

        Args:
            value: What JSON can hold; its texts that are paths are put in the other machine's words.
        """
        return _each_text(value, self._path_there)

    def here(self, value: object) -> object:
        """What the other machine says in this one's words: paths, and paths within sentences.

        Args:
            value: What JSON can hold.
        """
        return _each_text(value, self._text_here)

    def file_there(self, name: str, data: bytes) -> bytes:
        """A file's bytes as they have to be there; see `TOLD`."""
        return _in_file(name, data, self.pairs, lambda inner: inner.replace("\\", "/"))

    def file_here(self, name: str, data: bytes) -> bytes:
        """A file's bytes as they have to be here; see `TOLD`."""
        return _in_file(name, data, [(there, here) for here, there in self.pairs], lambda inner: str(Path(inner)))

    def _path_there(self, text: str) -> str:
        for here, there in self.pairs:
            if text == here:
                return there
            if text.startswith(here) and text[len(here)] in "/\\":
                return str(PurePosixPath(there) / text[len(here) + 1 :].replace("\\", "/"))
        return text

    def _text_here(self, text: str) -> str:
        for here, there in self.pairs:
            if text == there:
                return here
            if text.startswith(f"{there}/") and "\n" not in text:
                return str(Path(here) / text[len(there) + 1 :])
            text = text.replace(there, here)
        return text


def _each_text(value: object, change: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_each_text(item, change) for item in value]
    if isinstance(value, dict):
        return {key: _each_text(item, change) for key, item in value.items()}
    return value


def _in_file(name: str, data: bytes, pairs: list[tuple[str, str]], inner: Callable[[str], str]) -> bytes:
    if name.endswith(".json"):
        return _in_json(data, pairs, inner)
    for old, new in pairs:
        data = data.replace(html.escape(old).encode(), html.escape(new).encode())
    return data


def _in_json(data: bytes, pairs: list[tuple[str, str]], inner: Callable[[str], str]) -> bytes:
    """Strings of JSON that begin with one of the first paths, beginning with the second; all else stays byte for
    byte."""
    for old, new in pairs:
        begin = json.dumps(old)[:-1].encode()  # with its quotation mark
        if begin not in data:
            continue

        def changed(found: re.Match, new=new) -> bytes:
            rest = json.loads(b'"' + found[1] + b'"')
            if rest and rest[0] not in "/\\":
                return found[0]
            return json.dumps(new + (inner(rest) if rest else "")).encode()

        data = re.sub(re.escape(begin) + rb'((?:[^"\\]|\\.)*)"', changed, data)
    return data
