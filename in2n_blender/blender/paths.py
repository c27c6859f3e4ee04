"""Paths of the files that a .blend shows: relative to it wherever they can be, so that a folder moves as a whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import bpy

from . import compat

_changed: list[tuple[object, str, str]] = []  # what the save that is under way has changed: owner, attribute, before


def stored(file: Path | str) -> str:
    """A path as the .blend is to keep it.

    Args:
        file: Absolute.

    Returns:
        The path relative to the .blend, as "//…", where that was saved, lies on the same drive, and the user's
        preferences want relative paths; else as it is.
    """
    return _relative(str(file), os.path.dirname(bpy.data.filepath)) if bpy.data.filepath else str(file)


def file_of(owner) -> Path:
    """Where the file is that something shows; of a strip, its folder.

    Args:
        owner: An image, a movie clip or a strip of images.
    """
    return Path(bpy.path.abspath(getattr(owner, _attribute(owner))))


def lies_in(owner, folder: Path) -> bool:
    """Whether what something shows lies in a folder.

    Args:
        owner: An image, a movie clip or a strip of images.
        folder: Absolute.
    """
    file = file_of(owner)
    return folder == file or folder in file.parents


def follow(owner, source: Path, target: Path) -> bool:
    """Let something that shows a file know that a folder has been moved.

    Args:
        owner: An image, a movie clip or a strip of images.
        source: Where the folder was.
        target: Where it is.

    Returns:
        Whether its file lies in there.
    """
    if not lies_in(owner, source):
        return False
    moved = str(target / file_of(owner).relative_to(source))
    is_folder = _attribute(owner) == "directory"
    setattr(owner, _attribute(owner), stored(f"{moved}/" if is_folder else moved))
    return True


def _attribute(owner) -> str:
    return "directory" if hasattr(owner, "elements") else "filepath"


def ours() -> Iterator[tuple[object, str]]:
    """Everything in the .blend that names a file which the extension brought in.

    Yields:
        (What has the path, the name of the attribute that it is in).
    """
    for image in bpy.data.images:
        if image.library is None and (image.get("in2n_photo") or image.get("in2n_frames")):
            yield image, "filepath"
    for clip in bpy.data.movieclips:
        if clip.library is None and clip.get("in2n_frames"):
            yield clip, "filepath"
    for scene in bpy.data.scenes:
        for strip in compat.strips(scene) if scene.library is None else ():
            if strip.type == "IMAGE" and strip.get("in2n_frames"):
                yield strip, "directory"
    for thing in bpy.data.objects:
        for name in ("original", "full") if thing.library is None else ():
            if getattr(thing.in2n, name):
                yield thing.in2n, name


def _relative(path: str, folder: str) -> str:
    if path.startswith("//") or not bpy.context.preferences.filepaths.use_relative_paths:
        return path
    try:
        relative = bpy.path.relpath(path, start=folder)
    except ValueError:  # on another drive
        return path
    return relative + os.sep if path.endswith(("/", os.sep)) and not relative.endswith(("/", os.sep)) else relative


@bpy.app.handlers.persistent
def _before_saving(target: str = "", *_) -> None:
    """Paths that were absolute so far, as those of a file that was never saved are."""
    _changed.clear()
    folder = os.path.dirname(target if isinstance(target, str) else "")
    if not folder or (bpy.data.filepath and os.path.dirname(bpy.data.filepath) != folder):
        return  # saved to another folder, Blender turns what is relative to the one into what is relative to the other
    for owner, attribute in ours():
        before = getattr(owner, attribute)
        after = _relative(before, folder)
        if after != before:
            _changed.append((owner, attribute, before))
            setattr(owner, attribute, after)


@bpy.app.handlers.persistent
def _after_failing(*_) -> None:
    """Nothing was written: without a file there is nothing that paths could be relative to."""
    for owner, attribute, before in _changed:
        setattr(owner, attribute, before)
    _changed.clear()


@bpy.app.handlers.persistent
def _after_saving(*_) -> None:
    _changed.clear()


def attach() -> None:
    """Make paths relative whenever the .blend is saved."""
    for handlers, function in _handlers():
        handlers.append(function)


def detach() -> None:
    """Leave paths as they are."""
    for handlers, function in _handlers():
        if function in handlers:
            handlers.remove(function)


def _handlers():
    every = bpy.app.handlers
    return (
        (every.save_pre, _before_saving),
        (every.save_post, _after_saving),
        (every.save_post_fail, _after_failing),
    )
