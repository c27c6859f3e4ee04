"""`blender --command in2n …`: the command line from inside Blender, for farms and scripts.

It is that of `python3 -m in2n_blender`, with the home folder, the wheels and the engine's Python of the add-on's
preferences, and with Blender's setting for online access.
"""

from __future__ import annotations

import os
from contextlib import contextmanager

import bpy

from . import settings

NAME = "in2n"
_handle = None


def run(arguments: list[str]) -> int:
    """Run the command line (see `cli`).

    Args:
        arguments: What follows `--command in2n`.

    Returns:
        The exit code.
    """
    from ..cli import main  # here, so that Blender starts without the command line

    with _environment():
        try:
            return main.main(arguments, prog=f"blender --command {NAME}")
        except (
            SystemExit
        ) as ended:  # --help, or arguments that cannot be read: to Blender it would be an error with a traceback
            return ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1


@contextmanager
def _environment():
    """The preferences as the environment variables that the command line and what it starts go by."""
    chosen = {
        "IN2N_HOME": settings.home_folder(),
        "IN2N_WHEELHOUSE": settings.wheelhouse(),
        "IN2N_ENGINE_PYTHON": os.environ.get("IN2N_ENGINE_PYTHON") or settings.engine_python(),
        "IN2N_OFFLINE": None if bpy.app.online_access else "1",
    }
    before = {name: os.environ.get(name) for name in chosen}
    os.environ.update({name: str(value) for name, value in chosen.items() if value})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def attach() -> None:
    """Let `blender --command in2n` run the command line."""
    global _handle
    _handle = bpy.utils.register_cli_command(NAME, run)


def detach() -> None:
    """Take the command from Blender again."""
    global _handle
    if _handle is not None:
        bpy.utils.unregister_cli_command(_handle)
        _handle = None
