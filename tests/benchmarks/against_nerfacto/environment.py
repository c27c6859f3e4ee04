"""nerfstudio in an environment of its own, installed as the engine's environment is: from the registry that the user's
pip or uv is set to, with a torch that its torchvision can load. Needs the standard library alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from in2n_blender.environment import Plan, find_uv, home_folder
from in2n_blender.environment.installation import fill
from in2n_blender.environment.installer import Command
from in2n_blender.environment.verification import failing_modules
from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.reporting import Reporter

VERSION = "1.1.5"
PACKAGES = (f"nerfstudio=={VERSION}", "torch==2.13.0", "torchvision==0.28.0")
MODULES = ("torchvision", "nerfstudio.models.nerfacto")
PYTHONS = ((3, 10), (3, 11), (3, 12))
DISK_GB = 9
CHECK = (
    f"import importlib.metadata as m; assert m.version('nerfstudio') == '{VERSION}'; import nerfstudio.models.nerfacto"
)


class NotInstalled(Exception):
    """Why there is no nerfstudio to compare with, in one sentence."""


def nerfstudio_python(named: str | None, folder: Path, may_install: bool, report: Reporter) -> Path:
    """The Python that nerfstudio runs in: the named one, else that of `folder`, installed first where it is not there.

    Going on after an installation that broke off: uv and pip take what they fetched from their caches.
    Raises NotInstalled.
    """
    if named:
        return _working(Path(named).expanduser().absolute())  # not resolved: a virtual environment's python is a link
    planned = Plan(folder, ("nerfstudio",), PACKAGES, constraints=(), digest="", disk_mb=1000 * DISK_GB)
    if (folder / "complete").is_file():
        return _working(planned.python)
    if not may_install:
        raise NotInstalled(
            f"nerfstudio {VERSION} is not in {folder}; run without --quick once, or name its Python with --nerfstudio"
        )
    _install(planned, report)
    found = _working(planned.python)
    (folder / "complete").touch()
    return found


def _install(planned: Plan, report: Reporter) -> None:
    folder, home = planned.folder, home_folder()
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").is_file():
        raise NotInstalled(f"{folder} holds other things than nerfstudio's environment; name an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < DISK_GB * 1e9 and not planned.python.exists():
        raise NotInstalled(f"nerfstudio needs {DISK_GB} GB in {folder}, and less is free")
    own = sys.version_info[:2]
    if own not in PYTHONS and not find_uv(home):
        raise NotInstalled(f"nerfstudio needs Python 3.10 to 3.12 (this is {own[0]}.{own[1]}) or uv, which finds one")
    report.log(f"Installing nerfstudio {VERSION} into {folder}: about 7 GB, several minutes")
    python = sys.executable if own in PYTHONS else "{}.{}".format(*PYTHONS[1])

    def failing() -> dict[str, str]:
        return failing_modules(planned.python, MODULES, "Checking nerfstudio", Command(home, report))

    try:
        left = fill(planned, home, None, report, failing, python)
    except In2nError as error:
        raise NotInstalled(f"nerfstudio could not be installed: {error.message} {error.hint}".rstrip(".")) from error
    for module, error in left.items():
        raise NotInstalled(f"nerfstudio was installed, but {module} does not import: {error}")


def _working(python: Path) -> Path:
    if not python.is_file():
        raise NotInstalled(f"there is no {python}")
    checked = subprocess.run([str(python), "-c", CHECK], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if checked.returncode:
        lines = checked.stderr.strip().splitlines() or ["no message"]
        raise NotInstalled(f"nerfstudio {VERSION} does not work in {python} ({lines[-1]})")
    return python
