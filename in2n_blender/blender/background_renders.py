"""Renders of `blender -b`: Blender exits with code 0 whatever became of them, a render farm wants to know.

Every frame of an animation that the engine begins has to be on disk in the end, else the process exits with 1.
"""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path

import bpy
from bpy.app.handlers import persistent

_missing: set[str] = set()  # files of frames that were begun and have not been written
_failed = False


def begin(animation: bool, scene) -> None:
    """A frame is begun.

    Args:
        animation: Whether Blender will write it.
        scene: The scene that is rendered, not an evaluated copy.
    """
    if animation and bpy.app.background and not scene.render.is_movie_format:
        _missing.add(bpy.path.abspath(scene.render.frame_path(frame=scene.frame_current)))


def fail() -> None:
    """A frame could not be rendered."""
    global _failed
    _failed = True


@persistent
def _written(*_) -> None:
    _missing.difference_update([file for file in _missing if Path(file).is_file()])


def _exit_code() -> None:
    """At the very end, after Blender has disabled its add-ons: nothing else tells it how to exit."""
    if _is_blender_in_background() and (_failed or _missing):
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
    bpy.app.handlers.render_write.append(_written)


def detach() -> None:
    """Follow them no more."""
    if _written in bpy.app.handlers.render_write:
        bpy.app.handlers.render_write.remove(_written)
