"""The engine as this Blender sees it: which Python runs it, the one client, what it computes on, and when it is let go.

The engine's process keeps the models that it has loaded, and their GPU memory, for the next job; after some idle time
it is ended.
"""

from __future__ import annotations

import functools
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import bpy

from .. import environment
from ..link.client import Client
from ..remote.machines import worker_command
from ..scene.errors import In2nError
from ..workspace.files import write_json
from . import machines, settings

IDLE_CHECK_SECONDS = 20.0
DEVICES_FILE = "devices.json"  # in the home folder: what the engine found when it was last asked
LOG_FILE = "worker.log"  # in the home folder: what the engine's process writes to stderr

_client: Client | None = None
_idle_since = 0.0


def engine_python() -> Path | None:
    """The Python that runs the engine, or None when there is none.

    It is $IN2N_ENGINE_PYTHON, else the one named in the preferences, else the installed one. Panels ask at every
    redraw, so the answer is looked up on disk once a second at most.
    """
    named = other_python()
    if named is not None:
        return named if named.exists() else None
    return _installed_python(settings.home_folder(), int(time.monotonic()))


def look_again() -> None:
    """An engine has come or gone: `engine_python` is not to answer from memory."""
    _installed_python.cache_clear()
    _why_none.cache_clear()


def other_python() -> Path | None:
    """The interpreter that is named instead of the installed one, there or not; None when none is named."""
    named = os.environ.get("IN2N_ENGINE_PYTHON") or settings.engine_python()
    return Path(named).expanduser() if named else None


@functools.lru_cache(maxsize=1)
def _installed_python(home: Path, _second: int) -> Path | None:
    try:
        planned = environment.plan(("engine",), home)
    except In2nError:  # no engine for this Blender's Python
        return None
    return planned.python if planned.ready else None


def why_no_engine() -> str:
    """Why no engine can be installed here, in one sentence; "" where one can be, or another Python is named."""
    return "" if other_python() is not None else _why_none(settings.home_folder())


@functools.lru_cache(maxsize=1)
def _why_none(home: Path) -> str:
    try:
        environment.plan(("engine",), home)
    except In2nError as error:
        return error.message
    return ""


def required_python() -> Path:
    """As `engine_python`, for work that cannot do without it.

    Raises:
        In2nError: "no_engine" when there is none.
    """
    python = engine_python()
    if python is None:
        raise In2nError("no_engine", "The engine is not installed.", "Install it in Preferences > Add-ons > IN2N.")
    return python


def is_at_hand(scene) -> bool:
    """Whether a scene's jobs have an engine: that of this computer, or the machine's that it names.

    Args:
        scene: Whose settings count.
    """
    return machines.chosen(scene) is not None or engine_python() is not None


def future_python() -> Path:
    """The Python that runs the engine, or will when it has been installed.

    Raises:
        In2nError: "wrong_python".
    """
    return engine_python() or environment.plan(("engine",), settings.home_folder()).python


def client() -> Client:
    """The one client of this Blender, made when it is first asked for."""
    global _client
    log = settings.home_folder() / LOG_FILE
    if _client is None:
        _client = Client(None, log, command=worker_command)
    _client.log = log
    variables = {} if settings.online_access() else {"IN2N_OFFLINE": "1"}
    if variables != _client.variables:
        _client.release()  # a worker that may do what the next one may not; one that has a job keeps it
        _client.variables = variables
    return _client


def is_running() -> bool:
    """Whether the engine's process is there, with what it has in memory."""
    return _client is not None and _client.is_running


def release() -> None:
    """End the engine's process, without waiting for it, if no job uses it."""
    if _client is not None:
        _client.release()


def stop() -> None:
    """Cancel all jobs and end the engine's process; return when it is gone."""
    if _client is not None:
        _client.stop()


def _release_when_idle() -> float:
    global _idle_since
    if not is_running() or _client.state.busy:
        _idle_since = time.monotonic()
    minutes = settings.idle_minutes()
    if minutes and time.monotonic() - _idle_since > 60 * minutes:
        release()
    if _client is not None and not _client.state.busy:
        _client.poll()  # an idle process may have ended
    return IDLE_CHECK_SECONDS


# --- what the engine computes on --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Device:
    """name: as the driver calls it. memory_gb: None where the device shares the computer's."""

    device: str
    name: str
    memory_gb: float | None

    def __str__(self) -> str:
        return f"{self.name}, {self.memory_gb:.0f} GB" if self.memory_gb else self.name


def remember_devices(result: dict) -> list[Device]:
    """Keep what the engine answered to `FindDevices`.

    Args:
        result: The answer.

    Returns:
        The devices, best first.

    Raises:
        In2nError: "disk_full", "cannot_write".
    """
    found = result["devices"]
    write_json(settings.home_folder() / DEVICES_FILE, {"devices": found})
    return [Device(**device) for device in found]


def known_devices() -> list[Device]:
    """What the engine found last, in this Blender or an earlier one."""
    file = settings.home_folder() / DEVICES_FILE
    try:
        return _read_devices(file, file.stat().st_mtime_ns)
    except OSError:
        return []


@functools.lru_cache(maxsize=1)
def _read_devices(file: Path, _changed: int) -> list[Device]:
    try:
        return [Device(**device) for device in json.loads(file.read_text(encoding="utf-8"))["devices"]]
    except (ValueError, KeyError, TypeError):
        return []


def attach() -> None:
    """Let a timer end the engine when nobody has used it for a while."""
    bpy.app.timers.register(_release_when_idle, first_interval=IDLE_CHECK_SECONDS, persistent=True)


def detach() -> None:
    """Stop that timer, and forget the engine's client."""
    global _client
    if bpy.app.timers.is_registered(_release_when_idle):
        bpy.app.timers.unregister(_release_when_idle)
    _client = None
