"""Putting another source into the place of a file that is imported, or will be."""

from __future__ import annotations

import gc
import importlib.machinery
import inspect
from pathlib import Path
from types import CodeType, FunctionType

Place = tuple[str, str, int]


def replace_source(path: Path, source: str) -> None:
    """Let an import of the file get this source."""
    get_code = importlib.machinery.SourceFileLoader.get_code

    def replaced(loader, name):
        if Path(loader.path) == path:
            return compile(source, str(path), "exec", dont_inherit=True)
        return get_code(loader, name)

    importlib.machinery.SourceFileLoader.get_code = replaced


def functions_of(folder: Path) -> dict[Place, list[FunctionType]]:
    """All functions of the imported files under a folder, by file, qualified name and first line."""
    found: dict[Place, list[FunctionType]] = {}
    for thing in gc.get_objects():
        if type(thing) is FunctionType and thing.__code__.co_filename.startswith(str(folder)):
            found.setdefault(_place(thing.__code__), []).append(thing)
    return found


def replace_functions(path: Path, source: str, functions: dict[Place, list[FunctionType]]) -> bool:
    """Give the functions of an imported file what another source says.

    Args:
        path: the file.
        source: what is to stand in it.
        functions: as of `functions_of`.

    Returns:
        False where that is not enough, for something else than the inside of functions differs; nothing is changed.
    """
    texts = (path.read_text("utf-8"), source)
    before, after = (compile(text, str(path), "exec", dont_inherit=True) for text in texts)
    pairs = _pairs(before, after)
    changed = [(old, new) for old, new in pairs or () if old != new]
    if not changed:
        return False
    for old, new in changed:
        there = functions.get(_place(old), [])
        if not there or old.co_freevars != new.co_freevars:
            return False
    for old, new in changed:
        for function in functions[_place(old)]:
            function.__code__ = new
    return True


def _place(code: CodeType) -> Place:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def _pairs(before: CodeType, after: CodeType) -> list[tuple[CodeType, CodeType]] | None:
    """The outermost functions of two modules or classes side by side; None where anything else differs."""
    if before.co_code != after.co_code or before.co_names != after.co_names:
        return None
    if len(before.co_consts) != len(after.co_consts):
        return None
    found = []
    for old, new in zip(before.co_consts, after.co_consts, strict=True):
        if not isinstance(old, CodeType) or not isinstance(new, CodeType):
            if type(old) is not type(new) or old != new:
                return None
        elif old.co_flags & inspect.CO_OPTIMIZED:
            found.append((old, new))
        else:
            inside = _pairs(old, new)
            if inside is None:
                return None
            found += inside
    return found
