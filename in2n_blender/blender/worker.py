"""The one worker process of this Blender: which Python runs it, and requests sent to it one after another."""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path

from ..jobs import environment
from ..jobs.client import Client
from ..scene.errors import In2nError
from . import preferences

_client: Client | None = None
_python: Path | None = None


def engine_python() -> Path | None:
    """The Python that runs the engine: $IN2N_ENGINE_PYTHON, else the one named in the preferences, else the installed one.

    None when there is none. Panels ask at every redraw, so the answer is looked up on disk once a second at most.
    """
    named = os.environ.get("IN2N_ENGINE_PYTHON") or preferences.engine_python()
    if named:
        python = Path(named).expanduser()
        return python if python.exists() else None
    return _installed_python(preferences.home_folder(), int(time.monotonic()))


@functools.lru_cache(maxsize=1)
def _installed_python(home: Path, _second: int) -> Path | None:
    try:
        planned = environment.plan(("engine",), home)
    except In2nError:  # no engine for this Blender's Python
        return None
    return planned.python if planned.ready else None


def work(requests: list):
    """A job (see `tasks`) that sends the requests in order and returns the last one's result, a dict.

    Raises In2nError("no_engine") when no engine is installed.
    """
    python = engine_python()
    if python is None:
        raise In2nError("no_engine", "The engine is not installed.", "Install it in Preferences > Add-ons > IN2N.")

    log = preferences.home_folder() / "worker.log"

    def run(emit, cancelled):
        result = {}
        for request in requests:
            result = _client_for(python, log).run(request, on_event=emit, cancelled=cancelled)
        return result

    return run


def _client_for(python: Path, log: Path) -> Client:
    global _client, _python
    if _client is None or _python != python:
        stop()
        _client, _python = Client(python, log), python
    return _client


def stop() -> None:
    """End the worker process if it runs."""
    global _client
    if _client is not None:
        _client.stop()
        _client = None
