"""The photo that the artist looks through, at its full size, where its lens had to be undistorted.

In the workspace photos are as large as the preset says. The engine's process for pictures makes the one that is looked
through in a moment; until then, and where there is no engine, the smaller one is behind the camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import bpy

from ..link.requests import FullPhoto
from ..scene.errors import In2nError
from ..workspace.layout import Workspace
from . import cameras, engine, jobs, paths, photos, render_worker, views, workspaces
from .scene_state import active_capture, children

TICK_SECONDS = 0.1


@dataclass
class _Asked:
    """A photo that is being made. camera: the session's number of the object, which may be gone by then."""

    camera: int
    answer: render_worker.Answer


_asked: _Asked | None = None


def ask_for(scene, camera=None) -> None:
    """See to it that a photo is shown at its full size, if there is one and it is not.

    Args:
        scene: The capture's.
        camera: The photo's camera; None: the one that was looked through last.
    """
    capture = active_capture(scene)
    if capture is None or scene.in2n.shown_edit or not jobs.in_window() or engine.engine_python() is None:
        return
    if camera is None:
        camera = next((one for one in children(capture, "CAMERA") if one.in2n.photo == scene.in2n.photo), None)
    folder = workspaces.resolve(capture)
    if camera is None or camera.data.library is not None or folder is None or _is_whole(camera):
        return
    workspace = Workspace(folder)
    if workspace.originals.is_file():
        _ask(camera, FullPhoto(workspace=str(folder), photo=camera.in2n.photo))


def is_asked_for(camera) -> bool:
    """Whether a photo is being made at its full size.

    Args:
        camera: The photo's camera, or None.
    """
    return camera is not None and _asked is not None and _asked.camera == camera.session_uid


def _is_whole(camera) -> bool:
    return photos.best_file(camera, None) is not None


def _ask(camera, request: FullPhoto) -> None:
    global _asked
    if is_asked_for(camera):
        return
    if _asked is not None:
        render_worker.give_up(_asked.answer)
        _asked = None
    try:
        answer = render_worker.ask(lambda _file: request)
    except In2nError:
        return  # the smaller one stays
    _asked = _Asked(camera.session_uid, answer)
    if not bpy.app.timers.is_registered(_tick):
        bpy.app.timers.register(_tick, first_interval=TICK_SECONDS)


def _tick() -> float | None:
    take()
    return None if _asked is None else TICK_SECONDS


def take() -> None:
    """Show what was asked for, if it is there. Where it could not be made, the smaller one stays."""
    global _asked
    asked = _asked
    if asked is None or not asked.answer.done:
        return
    _asked = None
    camera = next((one for one in bpy.data.objects if one.session_uid == asked.camera), None)
    if camera is not None and asked.answer.result is not None:
        file = Path(asked.answer.result["file"])
        camera.in2n.full = paths.stored(file)
        if not any(scene.in2n.shown_edit for scene in camera.users_scene):
            cameras.show_photo(camera.data, file)
    views.redraw()
    jobs.redraw()
