"""Folders that are kept in step between two machines: what lies in one, and files that arrive piece by piece.

Both sides run this. A file that arrives is whole, and what it was said to be, before it takes the place of another;
what has arrived of it is kept, so that it is gone on with after a link was lost.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath

from ..scene.errors import In2nError
from ..scene.unfinished import TEMPORARY
from ..workspace.files import read_json, write_json
from ..workspace.hashes import file_hash, hash_of_bytes
from ..workspace.journal import JOB_NAME, LOCK_NAME, LOG_NAME

ARRIVING = ".arriving"  # a folder of files that are not whole yet, by their hashes
MEMORY = ".machines"  # a folder of the workspace: what each machine was last known to have
NOT_OURS = {JOB_NAME, LOCK_NAME, LOG_NAME, MEMORY, ARRIVING}  # each side has its own, at a tree's top

Tree = dict[str, tuple[int, str]]  # path, with "/" -> (bytes, hash)


def tree_of(root: Path, memory: Path, check: Callable[[], None] = lambda: None) -> Tree:
    """What lies in a folder. Links are passed over.

    Args:
        root: The folder, there or not.
        memory: A file that remembers hashes of files by their size and time, so that they are not read again.
        check: Called between two files; may raise.

    Returns:
        Every file but those of NOT_OURS.
    """
    known = _recall(memory)
    tree, seen, read = {}, {}, False
    for file, path in _files(root):
        check()
        try:
            found = file.stat()
            before = known.get(path)
            mark = [found.st_size, found.st_mtime_ns]
            if before is not None and before[:2] == mark:
                seen[path] = before
            else:
                seen[path], read = [*mark, file_hash(file)], True
        except OSError:  # gone meanwhile
            continue
        tree[path] = (seen[path][0], seen[path][2])
    if read or len(seen) != len(known):
        write_json(memory, {"files": seen}, durable=False)
    return tree


def _recall(memory: Path) -> dict[str, list]:
    try:
        files = read_json(memory)["files"]
        return {path: mark for path, mark in files.items() if isinstance(mark, list) and len(mark) == 3}
    except (In2nError, OSError, KeyError, TypeError, AttributeError):
        return {}


def _files(root: Path) -> Iterable[tuple[Path, str]]:
    for folder, folders, files in os.walk(root):
        inner = Path(folder).relative_to(root)
        top = not inner.parts
        folders[:] = sorted(f for f in folders if not (top and f in NOT_OURS) and not f.startswith(TEMPORARY))
        for name in sorted(files):
            file = Path(folder, name)
            if (top and name in NOT_OURS) or name.startswith(TEMPORARY) or file.is_symlink():
                continue
            yield file, (inner / name).as_posix()


def inside(root: Path, path: str) -> Path:
    """The file that a tree's path names.

    Args:
        root: The tree's folder.
        path: As the other machine gave it.

    Raises:
        In2nError: "leads_out" where it would lie elsewhere.
    """
    parts = PurePosixPath(path).parts
    plain = bool(parts) and not PurePosixPath(path).is_absolute() and ".." not in parts
    if plain and not any(c in path for c in '\\:*?"<>|\0') and parts[0] not in NOT_OURS:
        file = root.joinpath(*parts)
        with suppress(OSError, RuntimeError):
            if file.parent.resolve().is_relative_to(root.resolve()):
                return file
    raise In2nError("leads_out", f"“{path[:200]}” would lie outside of {root}.", "See what runs on the other machine.")


class Arrival:
    """A file on its way into a tree.

    Args:
        root: The tree's folder.
        path: Where in it.
        mark: The hash that the file is to have.
    """

    def __init__(self, root: Path, path: str, mark: str):
        self.file = inside(root, path)
        if not (mark.isalnum() and mark.isascii()):
            raise In2nError("bad_file", f"“{path[:200]}” comes without a hash.", "Use the same version on both sides.")
        self._mark, self._part = mark, root / ARRIVING / mark

    @property
    def have(self) -> int:
        """Bytes that have arrived already."""
        try:
            return self._part.stat().st_size
        except OSError:
            return 0

    def begin(self, offset: int) -> None:
        """Forget what has arrived behind an offset, in bytes."""
        self.take(b"")
        os.truncate(self._part, min(offset, self.have))

    def take(self, piece: bytes) -> None:
        """Keep the next bytes."""
        self._part.parent.mkdir(parents=True, exist_ok=True)
        with open(self._part, "ab") as file:
            file.write(piece)

    def finish(self, translate: Callable[[bytes], bytes] | None = None) -> str:
        """Put the whole file in its place.

        Args:
            translate: What becomes of its bytes, of small files; None: they stay.

        Returns:
            The hash of what is in its place now.

        Raises:
            In2nError: "bad_file" where it is not what it was said to be; what came of it is thrown away.
        """
        self.take(b"")
        mark = file_hash(self._part)
        if mark != self._mark:
            self._part.unlink()
            raise In2nError("bad_file", f"{self.file.name} arrived damaged.", "Start it again.")
        if translate is not None:
            data = translate(self._part.read_bytes())
            self._part.write_bytes(data)
            mark = hash_of_bytes([data])
        self.file.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self._part, self.file)
        return mark


def remove(root: Path, path: str) -> None:
    """Remove a file of a tree, and the folders that are empty then.

    Args:
        root: The tree's folder.
        path: The file, there or not.

    Raises:
        In2nError: "leads_out".
    """
    file = inside(root, path)
    with suppress(OSError):
        file.unlink(missing_ok=True)
        for folder in file.parents:
            if folder == root:
                break
            folder.rmdir()
