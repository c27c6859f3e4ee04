"""Which files a capture may name: those in its own folder, and others by the user's leave.

A capture may be a stranger's, and its files name photos, masks, depth and points by absolute paths or with "..". What
is looked for under a plain name in images/ or photos/ beside the folder is no such name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from ..errors import In2nError

BESIDE = ("images", "images_2", "images_4", "images_8", "photos", "input", "undistorted/images")
MASKS_BESIDE = ("masks", "masks_2", "masks_4", "masks_8")


@dataclass(frozen=True)
class Leave:
    """What may be read.

    Attributes:
        folders: The capture's own.
        outside: Whether the user allows every other file, too.
    """

    folders: tuple[Path, ...] = ()
    outside: bool = True

    def allows(self, path: Path) -> bool:
        """Whether a file may be read that a capture names.

        Args:
            path: The file; links are followed.
        """
        return self.outside or _is_in(path, self.folders)


_EVERYTHING = Leave()
_current: ContextVar[Leave] = ContextVar("leave", default=_EVERYTHING)


@contextmanager
def leave_for(folder: Path, outside: bool) -> Iterator[None]:
    """Hold what is read in the block to a folder.

    Args:
        folder: What the user chose, or where the file lies that was chosen.
        outside: Whether every other file is allowed, too.
    """
    token = _current.set(Leave((folder,), outside))
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Leave:
    """What may be read now; everything where no `leave_for` says otherwise."""
    return _current.get()


def refuse_outside(source: Path, folder: Path, named: Iterable[tuple[Path, bool]]) -> None:
    """Refuse a capture that names files elsewhere, unless the user allows it.

    Args:
        source: The file or folder that was read, for messages.
        folder: The capture's folder, as its reader knows it: that of a project may lie above the chosen one.
        named: Files, and whether each is named so that it leads out of the folder.

    Raises:
        In2nError: "outside_photos".
    """
    leave = current()
    if leave.outside:
        return
    own = (*leave.folders, folder)
    beside = (*own, *(folder.parent / name for name in (*BESIDE, *MASKS_BESIDE)))
    outside = [path for path, leads_out in named if not _is_in(path, own if leads_out else beside)]
    if outside:
        count = "One file" if len(outside) == 1 else f"{len(outside)} files"
        raise In2nError(
            "outside_photos",
            f"{count} that {source.name} names would be read from elsewhere than the capture's folder, from "
            f"{outside[0].parent}, such as {outside[0].name}.",
            "If they are yours, import it again with “Photos Outside the Folder” (--outside-photos).",
        )


def _is_in(path: Path, folders: Iterable[Path]) -> bool:
    try:
        resolved = path.resolve()
        return any(resolved.is_relative_to(folder.resolve()) for folder in folders)
    except (OSError, ValueError, RuntimeError):  # a ring of links, a zero byte
        return False
