"""A result that is made anew: the earlier one stays in its place until there is something to take it.

What is made anew lies in .making-<…>/ until its first checkpoint is whole. Then the earlier result's folder is moved
aside as it is, and the new one takes its place:

    earlier/reconstruction-1/      kept: other photos or settings, nobody said that it should go
    earlier/replaced/<…>/          to be replaced, as the user said ("restart"): removed when its successor is done

A kill at any time leaves one of both whole, and the earlier one on disk.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from ..scene.unfinished import TEMPORARY
from .files import rename_path, write_error
from .layout import Workspace

CHECKPOINT = "checkpoint.safetensors"


class Successor:
    """Where a result is made.

    Attributes:
        folder: What is written goes here; changes when the result takes its place.
    """

    def __init__(self, workspace: Workspace, final: Path, anew: bool, keep: bool):
        """
        Args:
            workspace: Whose result it is.
            final: The result's folder.
            anew: Whether it begins anew; else what lies in its folder is gone on with.
            keep: Whether an earlier result is kept when this one is done.
        """
        self._workspace, self._final, self._keep = workspace, final, keep
        self.folder = making_folder(workspace, final) if anew and (final / CHECKPOINT).is_file() else final
        if self.folder != final:
            shutil.rmtree(self.folder, ignore_errors=True)

    def saved(self) -> None:
        """A checkpoint lies in `folder`: the result takes its place.

        Raises:
            In2nError: "cannot_write"; the earlier result is in its place then.
        """
        if self.folder == self._final:
            return
        aside = earlier_folder(self._workspace, self._final, self._keep)
        try:
            if not self._keep and aside.exists():  # what lies there was done; what it was replaced by never was
                shutil.rmtree(_spoilt(aside), ignore_errors=True)
                rename_path(self._final, _spoilt(aside))
                shutil.rmtree(_spoilt(aside), ignore_errors=True)
            else:
                aside.parent.mkdir(parents=True, exist_ok=True)
                rename_path(self._final, aside)
            rename_path(self.folder, self._final)
        except OSError as error:
            if aside.exists() and not self._final.exists():
                rename_path(aside, self._final)
            raise write_error(self._final, error) from error
        self.folder = self._final

    def done(self) -> None:
        """The result is whole: what the user said should be replaced goes."""
        replaced = earlier_folder(self._workspace, self._final, keep=False)
        for folder in (replaced, _spoilt(replaced)):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in (
            replaced.parent,
            self._workspace.earlier / "replaced",
            self._workspace.earlier,
        ):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def settle(workspace: Workspace, final: Path) -> None:
    """After a kill: between the two renames, the new result takes its place; files that are not whole go.

    Args:
        workspace: Whose result it is, with no other process at work on it.
        final: The result's folder.

    Raises:
        In2nError: "cannot_write".
    """
    making = making_folder(workspace, final)
    if not final.exists() and (making / CHECKPOINT).is_file():
        try:
            rename_path(making, final)
        except OSError as error:
            raise write_error(final, error) from error
    for unfinished in list(final.rglob(f"{TEMPORARY}*")):
        with suppress(OSError):
            shutil.rmtree(unfinished) if unfinished.is_dir() and not unfinished.is_symlink() else unfinished.unlink()


def _spoilt(aside: Path) -> Path:
    """Where a result goes, to be removed, that replaced another and was itself replaced before it was done."""
    return aside.with_name(f".{aside.name}")


def making_folder(workspace: Workspace, final: Path) -> Path:
    """Where a result is made until it takes its place.

    Args:
        workspace: Whose result it is.
        final: The result's folder, below the workspace.
    """
    return workspace.root / f".making-{'-'.join(final.relative_to(workspace.root).parts)}"


def earlier_folder(workspace: Workspace, final: Path, keep: bool) -> Path:
    """Where an earlier result goes that is made anew.

    Args:
        workspace: Whose result it is.
        final: The result's folder, below the workspace.
        keep: Whether it is kept, under the first free number, or only until its successor is done.
    """
    name = final.relative_to(workspace.root)
    if not keep:
        return replaced_folder(workspace, final)
    number = 1
    while (folder := workspace.earlier / f"{name}-{number}").exists():
        number += 1
    return folder


def replaced_folder(workspace: Workspace, final: Path) -> Path:
    """Where what is being replaced lies until its successor is done.

    Args:
        workspace: Whose result it is.
        final: The result's folder, below the workspace.
    """
    return workspace.earlier / "replaced" / final.relative_to(workspace.root)
