"""How much room the engine, its models and scratch workspaces take on disk: measured in a thread, so that no panel
waits for it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import bpy

from .. import environment
from ..models import hub
from . import settings

POLL_SECONDS = 0.25


@dataclass(frozen=True)
class Storage:
    """Megabytes by place, and the models that were found."""

    environment_mb: int
    scratch_mb: int
    models: tuple[hub.StoredModel, ...]


class _Measuring:
    """One walk over the places in a thread."""

    def __init__(self, home: Path, folders: tuple[Path, ...]):
        self.given_up = threading.Event()
        self.storage: Storage | None = None
        self._thread = threading.Thread(target=self._run, args=(home, folders), name="in2n storage", daemon=True)
        self._thread.start()

    def _run(self, home: Path, folders: tuple[Path, ...]) -> None:
        cancelled = self.given_up.is_set
        self.storage = Storage(
            environment.folder_mb(environment.environment_folder(home), cancelled),
            environment.folder_mb(home / "scratch", cancelled),
            tuple(hub.find_stored(folders, cancelled)),
        )

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()


_known: Storage | None = None
_measuring: _Measuring | None = None


def known() -> Storage | None:
    """What was measured last; None while nothing has been."""
    return _known


def measure() -> None:
    """Measure anew; `known` tells the result, and the preferences are drawn again when it is there."""
    global _measuring
    if _measuring is not None:
        _measuring.given_up.set()
    _measuring = _Measuring(settings.home_folder(), settings.model_folders())
    if not bpy.app.timers.is_registered(_take_in):
        bpy.app.timers.register(_take_in, first_interval=POLL_SECONDS, persistent=True)


def measure_once() -> None:
    """Measure if that was never done in this Blender."""
    if _known is None and _measuring is None:
        measure()


def _take_in() -> float | None:
    global _known, _measuring
    if _measuring is None:
        return None
    if not _measuring.done:
        return POLL_SECONDS
    _known, _measuring = _measuring.storage or _known, None
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "PREFERENCES":
                area.tag_redraw()
    return None


def forget() -> None:
    """On unregister: give up measuring."""
    global _known, _measuring
    if _measuring is not None:
        _measuring.given_up.set()
    _known = _measuring = None
    if bpy.app.timers.is_registered(_take_in):
        bpy.app.timers.unregister(_take_in)


def spoken_mb(megabytes: int) -> str:
    """ "640 MB", "5.1 GB"."""
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{megabytes} MB"
