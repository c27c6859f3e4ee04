"""The home folder: where gigabytes go, how many there are, and that only one process at a time installs there."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path

from ..scene.errors import In2nError
from ..scene.reporting import Reporter
from ..workspace.files import write_error
from ..workspace.locks import try_lock, unlock

WINDOWS = sys.platform == "win32"


def home_folder(home: Path | str | None = None) -> Path:
    """The folder for what takes gigabytes: packages, models, caches.

    Args:
        home: The folder itself; else $IN2N_HOME is taken, else the platform's folder for a user's data.
    """
    chosen = home or os.environ.get("IN2N_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if WINDOWS:
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "in2n_blender"


def python_version() -> str:
    """This Python's version as folders and pins name it: "3.11"."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def base_python() -> str:
    """The interpreter that environments are made from: never one that lies in an environment, which may be replaced."""
    return getattr(sys, "_base_executable", "") or sys.executable


def environment_folder(home: Path | str | None = None) -> Path:
    """The folder of this Python version's environment, there or not.

    Args:
        home: As for `home_folder`.
    """
    return home_folder(home) / f"python-{python_version()}"


def size_mb(home: Path | str | None = None) -> int:
    """Megabytes (2^20 bytes) on disk below the home folder.

    Args:
        home: As for `home_folder`.
    """
    return folder_mb(home_folder(home))


def folder_mb(folder: Path, cancelled: Callable[[], bool] = lambda: False) -> int:
    """Megabytes (2^20 bytes) on disk below a folder.

    Args:
        folder: There or not; links in it count as links.
        cancelled: Asked before every inner folder; once it says yes, the rest is not counted.

    Returns:
        What was counted, without what vanished meanwhile.
    """
    total = 0
    for inner, _, files in os.walk(folder):
        if cancelled():
            break
        for name in files:
            with suppress(OSError):
                total += os.lstat(os.path.join(inner, name)).st_size
    return total // 2**20


@contextmanager
def installation_lock(home: Path, report: Reporter):
    """Holds home/install.lock, waiting for it; the system lets it go when the process ends, however it ends.

    Args:
        home: The home folder, made where it is not there.
        report: Told once that another installation is waited for.

    Raises:
        In2nError: "cannot_write" or "disk_full", also for what is written while it is held.
        Cancelled: While waiting.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        handle = open(home / "install.lock", "a+")
    except OSError as error:
        raise In2nError(
            "cannot_write",
            f"{home} cannot be written to ({error.strerror}).",
            "Choose another place with --home or IN2N_HOME.",
        ) from error
    try:
        told = False
        while not try_lock(handle):
            if not told:
                report.log("Another installation is running: waiting for it")
                told = True
            report.check()
            time.sleep(0.3)
        try:
            yield
        except OSError as error:
            raise write_error(home, error) from error
    finally:
        unlock(handle)
