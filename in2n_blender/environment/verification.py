"""Does what is installed work: the system's libraries, and every import."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..link.process import Lines, clean_environment, spawn
from ..scene.errors import In2nError
from ..scene.reporting import Reporter
from .home import home_folder
from .installer import Command
from .pins import read_pins
from .planning import Plan, plan


def verify(
    groups: Iterable[str] = ("engine",),
    home: Path | str | None = None,
    report: Reporter | None = None,
    python: Path | None = None,
) -> dict[str, str]:
    """Import every package for real.

    Args:
        groups: Of GROUPS; those already installed are checked too.
        home: As for `home_folder`.
        report: Told the progress, in imports.
        python: Another interpreter than the installed environment's.

    Returns:
        Module -> what went wrong; empty when all is well.

    Raises:
        In2nError: "no_environment".
        Cancelled: Within a second of being cancelled.
    """
    report = report or Reporter()
    if python is not None:
        return failing_imports(python, groups, home_folder(home), report)
    planned = plan(groups, home)
    if not planned.python.exists():
        raise In2nError(
            "no_environment",
            f"There is no environment in {planned.folder}.",
            "Install it first: python3 -m in2n_blender install.",
        )
    return failing_imports(planned.python, planned.groups, home_folder(home), report)


_IMPORT_SCRIPT = """
import importlib, json, os, sys
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
out = os.fdopen(os.dup(1), "w", encoding="utf-8"); os.dup2(2, 1)
for name in sys.argv[1:]:
    error = None
    try:
        importlib.import_module(name)
    except BaseException as e:
        error = (type(e).__name__ + ": " + str(e)).strip().splitlines()[0]
    print(json.dumps({"module": name, "error": error}), file=out, flush=True)
os._exit(0)
"""


def failing_imports(python: Path, groups: Iterable[str], home: Path, report: Reporter) -> dict[str, str]:
    """What does not import of some groups.

    Each group is imported in a process of its own: bpy and torch bring libraries that do not go together.

    Args:
        python: The interpreter.
        groups: Of GROUPS.
        home: The home folder, for the log.
        report: Told the progress, in imports.

    Returns:
        Module -> what went wrong; empty when all is well.

    Raises:
        Cancelled: Within a second of being cancelled.
    """
    imports = read_pins()["imports"]
    total, done, failing = sum(len(imports[g]) for g in groups), 0, {}
    for group in groups:
        failing.update(failing_modules(python, imports[group], f"Checking {group}", Command(home, report), done, total))
        done += len(imports[group])
    return failing


def failing_modules(
    python: Path, modules: Sequence[str], message: str, command: Command, done: int = 0, total: int | None = None
) -> dict[str, str]:
    """Import modules in one process.

    Args:
        python: The interpreter.
        modules: Their names; they are imported in this order.
        message: What is logged first.
        command: Runs it, and is told the progress.
        done: How many modules were imported before.
        total: How many there are in all (default: these).

    Returns:
        Module -> what went wrong.
    """
    total = done + len(modules) if total is None else total
    errors: dict[str, str | None] = {}  # of the modules whose import ended, well (None) or not

    def collect(line: str) -> None:
        if line.startswith('{"module"'):
            result = json.loads(line)
            errors[result["module"]] = result["error"]
        message = f"importing {[*modules, 'done'][len(errors)]}"
        command.report.progress(done + len(errors), total, "imports", message)

    ended = "the process ended early"
    try:
        command.run([str(python), "-I", "-c", _IMPORT_SCRIPT, *modules], message, collect)
    except In2nError as error:
        ended = error.message
    found = {module: errors.get(module, ended) for module in modules}
    return {module: error for module, error in found.items() if error is not None}


_CUDA_SCRIPT = "import torch; print('CUDA', torch.version.cuda or torch.version.hip, torch.cuda.is_available())"


def warn_of_unused_gpu(planned: Plan, report: Reporter) -> None:
    """Say in the log where the machine has an NVIDIA driver and the installed torch has no use for it.

    Torch is chosen by the driver; a driver too old for all builds, and an index that has none for CUDA, leave one for
    processors alone, and nothing else would tell.

    Args:
        planned: The environment, which is there.
        report: The job's.

    Raises:
        Cancelled: Within a second of being cancelled.
    """
    if "engine" not in planned.groups or not shutil.which("nvidia-smi"):
        return
    said: list[str] = []
    try:
        Command(planned.folder.parent, report).run(
            [str(planned.python), "-I", "-c", _CUDA_SCRIPT], "Looking for the GPU", said.append
        )
    except In2nError:  # of a torch that does not import, verifying tells
        return
    found = next((line.split() for line in said if line.startswith("CUDA")), None)
    if found is None or found[2] == "True":
        return
    if found[1] == "None":
        report.log(
            "This computer has an NVIDIA driver, but no PyTorch for it was found, and one for processors alone is "
            "installed: edits will be slow. Update the driver, then repair the engine."
        )
    else:
        report.log(
            "PyTorch finds no GPU with which the NVIDIA driver works: update the driver, or jobs run on the CPU."
        )


# soname -> package on Debian and Ubuntu, package on Fedora
SYSTEM_LIBRARIES = {
    "libX11.so.6": ("libx11-6", "libX11"),
    "libXrender.so.1": ("libxrender1", "libXrender"),
    "libXfixes.so.3": ("libxfixes3", "libXfixes"),
    "libXi.so.6": ("libxi6", "libXi"),
    "libXxf86vm.so.1": ("libxxf86vm1", "libXxf86vm"),
    "libXext.so.6": ("libxext6", "libXext"),
    "libxkbcommon.so.0": ("libxkbcommon0", "libxkbcommon"),
    "libSM.so.6": ("libsm6", "libSM"),
    "libICE.so.6": ("libice6", "libICE"),
    "libGL.so.1": ("libgl1", "mesa-libGL"),
    "libEGL.so.1": ("libegl1", "mesa-libEGL"),
    "libOpenGL.so.0": ("libopengl0", "libglvnd-opengl"),
    "libgomp.so.1": ("libgomp1", "libgomp"),
    "libvulkan.so.1": ("libvulkan1", "vulkan-loader"),
    "libwayland-client.so.0": ("libwayland-client0", "libwayland-client"),
}


def missing_system_libraries(planned: Plan) -> list[str]:
    """Names of the shared libraries that the installed bpy links and this machine lacks (Linux only).

    Args:
        planned: The environment, which is there.
    """
    if not sys.platform.startswith("linux") or "blender" not in planned.groups or not shutil.which("ldd"):
        return []
    missing: set[str] = set()
    for library in planned.folder.glob("lib/python3*/site-packages/bpy/__init__*.so"):
        process = spawn(["ldd", str(library)], env=clean_environment())
        missing.update(
            found.group(1)
            for found in (re.match(r"\s*(\S+) => not found", line) for line in Lines(process).drain(60))
            if found
        )
        process.wait(10)
    return sorted(missing)


def check_system_libraries(planned: Plan, report: Reporter) -> None:
    """Check that this machine has the shared libraries that the installed bpy links.

    Args:
        planned: The environment, which is there.
        report: Asked whether the job was cancelled.

    Raises:
        In2nError: "missing_system_libraries", whose hint is the command that installs them.
        Cancelled: Before anything is looked at.
    """
    report.check()
    missing = missing_system_libraries(planned)
    if missing:
        raise In2nError(
            "missing_system_libraries",
            f"Blender's wheel needs system libraries that are not installed: {', '.join(missing)}.",
            system_libraries_command(missing),
        )


def system_libraries_command(sonames: list[str]) -> str:
    """One ready-to-paste command that installs shared libraries by the machine's package manager.

    Args:
        sonames: Their names, such as "libGL.so.1".
    """
    dnf = shutil.which("dnf") and not shutil.which("apt-get")
    packages = sorted({SYSTEM_LIBRARIES.get(name, (name, name))[1 if dnf else 0] for name in sonames})
    return f"sudo {'dnf' if dnf else 'apt-get'} install -y {' '.join(packages)}"
