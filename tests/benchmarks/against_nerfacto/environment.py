"""nerfstudio in an environment of its own, from the registry that the user's pip or uv is set to. Standard library
only."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

VERSION = "1.1.5"
PACKAGES = (f"nerfstudio=={VERSION}", "torch==2.13.0", "torchvision==0.28.0")
PYTHONS = ((3, 10), (3, 11), (3, 12))
DISK_GB = 9
CHECK = (
    f"import importlib.metadata as m; assert m.version('nerfstudio') == '{VERSION}'; import nerfstudio.models.nerfacto"
)


class NotInstalled(Exception):
    """Why there is no nerfstudio to compare with, in one sentence."""


def nerfstudio_python(named: str | None, folder: Path, may_install: bool, log=print) -> Path:
    """The Python that nerfstudio runs in: the named one, else that of `folder`, installed first where it is not there.

    Going on after an installation that broke off: uv and pip take what they fetched from their caches.
    Raises NotInstalled.
    """
    if named:
        return _working(Path(named).expanduser().absolute())  # not resolved: a virtual environment's python is a link
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if (folder / "complete").is_file():
        return _working(python)
    if not may_install:
        raise NotInstalled(
            f"nerfstudio {VERSION} is not in {folder}; run without --quick once, or name its Python with --nerfstudio"
        )
    _install(folder, python, log)
    found = _working(python)
    (folder / "complete").touch()
    return found


def _install(folder: Path, python: Path, log) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < DISK_GB * 1e9 and not python.exists():
        raise NotInstalled(f"nerfstudio needs {DISK_GB} GB in {folder}, and less is free")
    log(f"Installing nerfstudio {VERSION} into {folder}: about 7 GB, several minutes")
    uv = shutil.which("uv")
    if uv:
        commands = [] if python.exists() else [[uv, "venv", "--python", _python_version(), str(folder)]]
        commands.append([uv, "pip", "install", "--python", str(python), *PACKAGES])
    else:
        if sys.version_info[:2] not in PYTHONS:
            raise NotInstalled(
                f"nerfstudio needs Python 3.10 to 3.12 (this is {sys.version_info[0]}.{sys.version_info[1]}) or "
                "uv, which finds one"
            )
        commands = [] if python.exists() else [[sys.executable, "-m", "venv", str(folder)]]
        commands.append([str(python), "-m", "pip", "install", *PACKAGES])
    for command in commands:
        if subprocess.run(command, stdin=subprocess.DEVNULL).returncode:
            raise NotInstalled(f"nerfstudio could not be installed: “{' '.join(command[:4])} …” failed, see above")


def _python_version() -> str:
    own = sys.version_info[:2]
    return "{}.{}".format(*(own if own in PYTHONS else PYTHONS[1]))


def _working(python: Path) -> Path:
    if not python.is_file():
        raise NotInstalled(f"there is no {python}")
    checked = subprocess.run([str(python), "-c", CHECK], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if checked.returncode:
        lines = checked.stderr.strip().splitlines() or ["no message"]
        raise NotInstalled(f"nerfstudio {VERSION} does not work in {python} ({lines[-1]})")
    return python
