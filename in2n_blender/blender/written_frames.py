"""What becomes of the frames that Blender writes: none that failed stays, and `blender -b` says whether all are there.

Blender stops when the engine of the scene that is rendered fails. It does not when a scene fails that is rendered for
that scene's compositor, and writes what it has. And it exits with code 0 whatever became of the frames, while a render
farm wants to know.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from pathlib import Path

import bpy
from bpy.app.handlers import persistent

CLOCK_SECONDS = 2.0  # that a file's time may be behind, as FAT keeps it

_missing: set[str] = set()  # files of frames that were begun and have not been written
_any_failed = _this_failed = False
_begun_at = 0.0  # by the clock that stamps files
_main = ""  # the scene whose frames are written; others are rendered for its compositor


def begin(animation: bool, scene) -> None:
    """A frame is begun.

    Args:
        animation: Whether Blender will write it.
        scene: The scene that is rendered, not an evaluated copy.
    """
    if animation and bpy.app.background and scene.name == _main and not scene.render.is_movie_format:
        _missing.add(bpy.path.abspath(scene.render.frame_path(frame=scene.frame_current)))


def fail() -> None:
    """A frame could not be rendered."""
    global _any_failed, _this_failed
    _any_failed = _this_failed = True


@persistent
def _begun(scene, *_) -> None:
    global _main, _this_failed, _begun_at
    _main, _this_failed, _begun_at = scene.name, False, time.time()


@persistent
def _written(scene, *_) -> None:
    if _this_failed and not scene.render.is_movie_format:
        _remove_written(scene)
    _missing.difference_update([file for file in _missing if Path(file).is_file()])


def _remove_written(scene) -> None:
    """What was written a moment ago, a picture without what failed: by F12 without the frame's number."""
    still = bpy.path.abspath(scene.render.filepath)
    names = (bpy.path.abspath(scene.render.frame_path(frame=scene.frame_current)), still,
             bpy.path.ensure_ext(still, scene.render.file_extension))  # fmt: skip
    files = [Path(name) for name in dict.fromkeys(names) if Path(name).is_file()]
    files = [file for file in files if file.stat().st_mtime > _begun_at - CLOCK_SECONDS]
    if files:
        newest = max(files, key=lambda file: file.stat().st_mtime_ns)
        newest.unlink()
        print(f"IN2N: {newest} is removed, for it lacks the captured field.", file=sys.stderr)


def _exit_code() -> None:
    """At the very end, after Blender has disabled its add-ons: nothing else tells it how to exit."""
    if _is_blender_in_background() and (_any_failed or _missing):
        for file in sorted(_missing):
            print(f"IN2N: {file} was not rendered.", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


def _is_blender_in_background() -> bool:
    """Not bpy as a module: there, the operator raises."""
    return bpy.app.background and bool(bpy.app.binary_path)


atexit.register(_exit_code)


def attach() -> None:
    """Follow the renders of this process."""
    bpy.app.handlers.render_pre.append(_begun)
    bpy.app.handlers.render_write.append(_written)


def detach() -> None:
    """Follow them no more."""
    for handlers, ours in ((bpy.app.handlers.render_pre, _begun), (bpy.app.handlers.render_write, _written)):
        if ours in handlers:
            handlers.remove(ours)
