"""The one worker process of this Blender: which Python runs it, requests sent to it one after another, and when it is
let go.

A worker keeps the models that it has loaded, and their GPU memory, for the next job; after some idle time it is ended.
"""

from __future__ import annotations

import functools
import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import bpy

from .. import environment
from ..link.client import Client
from ..link.requests import FindDevices
from ..scene.errors import Cancelled, In2nError
from ..workspace.files import write_json
from . import settings

IDLE_CHECK_SECONDS = 20.0
DEVICES_FILE = "devices.json"  # in the home folder: what the engine found when it was last asked

_lock = threading.RLock()  # jobs run in threads
_client: Client | None = None
_python: Path | None = None
_busy = 0  # jobs that use the worker now
_used = 0.0  # when the last of them ended


def engine_python() -> Path | None:
    """The Python that runs the engine: $IN2N_ENGINE_PYTHON, else the one named in the preferences, else the installed
    one.

    None when there is none. Panels ask at every redraw, so the answer is looked up on disk once a second at most.
    """
    named = other_python()
    if named is not None:
        return named if named.exists() else None
    return _installed_python(settings.home_folder(), int(time.monotonic()))


def look_again() -> None:
    """An engine has come or gone: `engine_python` is not to answer from memory."""
    _installed_python.cache_clear()


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


def work(requests: list, python: Path | None = None):
    """A job (see `tasks`) that sends the requests in order and returns the last one's result, a dict.

    python: an engine that will be there when the job runs; None: the installed one. Raises In2nError("no_engine") when
    none is.
    """
    python = python or engine_python()
    if python is None:
        raise In2nError("no_engine", "The engine is not installed.", "Install it in Preferences > Add-ons > IN2N.")

    log = settings.home_folder() / "worker.log"

    def run(emit, cancelled):
        global _busy, _used
        with _lock:
            _busy += 1
        try:
            result = {}
            for request in requests:
                result = _client_for(python, log).run(request, on_event=emit, cancelled=cancelled)
            return result
        except Cancelled:
            if _client is not None:  # it may not have stopped yet
                threading.Thread(target=_client.settle, name="in2n settle", daemon=True).start()
            raise
        finally:
            with _lock:
                _busy, _used = _busy - 1, time.monotonic()

    run.requests = tuple(requests)  # for the journal
    return run


def _client_for(python: Path, log: Path) -> Client:
    global _client, _python
    with _lock:
        if _client is None or _python != python:
            stop()
            _client, _python = Client(python, log), python
        return _client


def is_running() -> bool:
    """Whether a worker process is there, with what it has in memory."""
    return _client is not None and _client.is_running


def stop(wait: float = 4.0) -> None:
    """End the worker process if it runs, and return when it is gone."""
    global _client
    with _lock:
        client, _client = _client, None
    if client is not None:
        client.stop(wait)


def release() -> None:
    """End the worker without waiting for it: the main thread is not for waiting."""
    global _client
    with _lock:
        client, _client = _client, None
    if client is not None:
        threading.Thread(target=client.stop, name="in2n release", daemon=True).start()


def _release_when_idle() -> float:
    minutes = settings.idle_minutes()
    if minutes and is_running() and not _busy and time.monotonic() - _used > 60 * minutes:
        release()
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


def find_devices(python: Path | None = None):
    """A job that asks the engine (`work`) what it can compute on, remembers it, and returns a list of Device, best
    first."""
    ask = work([FindDevices()], python)
    file = settings.home_folder() / DEVICES_FILE

    def run(emit, cancelled):
        found = ask(emit, cancelled)["devices"]
        write_json(file, {"devices": found})
        return [Device(**device) for device in found]

    return run


def known_devices() -> list[Device]:
    """What `find_devices` found last, in this Blender or an earlier one."""
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
    bpy.app.timers.register(_release_when_idle, first_interval=IDLE_CHECK_SECONDS, persistent=True)


def detach() -> None:
    if bpy.app.timers.is_registered(_release_when_idle):
        bpy.app.timers.unregister(_release_when_idle)
