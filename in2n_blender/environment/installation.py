"""Installing, repairing and removing an environment."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from ..scene.errors import In2nError
from ..scene.reporting import Reporter
from ..workspace.files import write_json
from .home import WINDOWS, base_python, environment_folder, home_folder, installation_lock, size_mb
from .installer import Command, Installer, runs
from .pip import Pip
from .planning import TORCH_PAIR, Plan, plan, stamp_file
from .uv import Uv, find_uv
from .verification import check_system_libraries, failing_imports, warn_of_unused_gpu


def install(
    groups: Iterable[str] = ("engine",),
    home: Path | str | None = None,
    wheelhouse: Path | str | None = None,
    report: Reporter | None = None,
) -> Path:
    """Make the environment hold the groups; returns at once when it is ready.

    Args:
        groups: Of GROUPS.
        home: As for `home_folder`.
        wheelhouse: A folder of wheels to install from without a network (or IN2N_WHEELHOUSE).
        report: Told the progress, in megabytes and imports.

    Returns:
        The environment's interpreter.

    Raises:
        In2nError: For everything that a user can mend: no network, full disk, missing system libraries, ...
        Cancelled: What is there already is gone on from.
    """
    report = report or Reporter()
    planned = plan(groups, home)
    if planned.ready:
        return planned.python
    with installation_lock(home_folder(home), report):
        planned = plan(groups, home)
        if not planned.ready:  # another process may have finished it while this one waited
            _complete(planned, home_folder(home), wheelhouse, report)
    return planned.python


def repair(
    groups: Iterable[str] = ("engine",),
    home: Path | str | None = None,
    wheelhouse: Path | str | None = None,
    report: Reporter | None = None,
) -> Path:
    """Install again what does not import; a folder without a working interpreter is made anew.

    Args:
        groups: Of GROUPS; those already installed are repaired too.
        home: As for `home_folder`.
        wheelhouse: A folder of wheels to install from without a network (or IN2N_WHEELHOUSE).
        report: Told the progress, in megabytes and imports.

    Returns:
        The environment's interpreter.

    Raises:
        In2nError: As `install`.
        Cancelled: What is there already is gone on from.
    """
    report = report or Reporter()
    planned = plan(groups, home)
    with installation_lock(home_folder(home), report):
        planned.stamp.unlink(missing_ok=True)
        _complete(planned, home_folder(home), wheelhouse, report, reinstall=not runs([str(planned.python), "-c", ""]))
    return planned.python


def remove(home: Path | str | None = None, report: Reporter | None = None) -> None:
    """Remove this Python version's environment.

    The stamp goes first, so that what is left after an interruption is not taken for whole.

    Args:
        home: As for `home_folder`.
        report: Told the progress, in folders.

    Raises:
        In2nError: "cannot_remove" where something is left.
        Cancelled: Between two folders.
    """
    report = report or Reporter()
    folder = environment_folder(home)
    with installation_lock(home_folder(home), report):
        stamp_file(folder).unlink(missing_ok=True)
        _remove_tree(folder, report)
    if folder.exists():
        raise In2nError(
            "cannot_remove",
            f"{folder} could not be removed whole.",
            "Close what is using it (Blender, a running job) and try again.",
        )


def _complete(
    planned: Plan, home: Path, wheelhouse: Path | str | None, report: Reporter, reinstall: bool = False
) -> None:
    wheelhouse = _wheelhouse(wheelhouse)
    _check_disk(planned)
    planned.stamp.unlink(missing_ok=True)
    if reinstall:
        _remove_tree(planned.folder, report)
    report.log(
        f"Setting up {planned.folder} ({', '.join(planned.groups)}; about {planned.disk_mb / 1000:.1f} GB on disk)"
    )
    try:
        failing = fill(
            planned, home, wheelhouse, report, lambda: failing_imports(planned.python, planned.groups, home, report)
        )
    except In2nError as error:
        if error.code == "install_failed" and (reason := _too_long(planned)):
            raise reason from error
        raise
    if failing:
        module, error = next(iter(failing.items()))
        raise In2nError(
            "broken_environment",
            f"The environment is installed, but {module} does not import: {error}.",
            f"Run `python3 -m in2n_blender install --repair`. The log is {home / 'install.log'}.",
        )
    write_json(planned.stamp, {"digest": planned.digest, "groups": planned.groups, "python": platform.python_version()})
    warn_of_unused_gpu(planned, report)


def fill(
    planned: Plan,
    home: Path,
    wheelhouse: Path | None,
    report: Reporter,
    failing_imports: Callable[[], dict[str, str]],
    python: str = base_python(),
) -> dict[str, str]:
    """Make a virtual environment and install into it until everything imports, twice at most.

    Args:
        planned: The environment, of which `folder` is ours to remove where its interpreter does not run.
        home: The home folder, for uv, the log and temporary files.
        wheelhouse: A folder of wheels in place of every index.
        report: Told how far it is.
        failing_imports: Module -> what went wrong.
        python: What uv makes the environment from, an interpreter or a version; pip takes this one.

    Returns:
        What does not import even then.

    Raises:
        In2nError: As `install`.
        Cancelled: What is there already is gone on from.
    """
    installer = _choose_installer(planned, home, wheelhouse, report, python)
    installer.install(planned.requirements)
    check_system_libraries(planned, report)
    failing = failing_imports()
    if any(module in failing for module in (*TORCH_PAIR, "lpips")):
        report.log("torch and torchvision come from different builds and do not fit: installing a matching pair")
        installer.install_matching_torch()
    elif failing:
        report.log(f"{', '.join(failing)} did not import: installing again")
        installer.install(planned.requirements, again=True)
    return failing_imports() if failing else {}


LONGEST_INSIDE = len("Lib/site-packages/") + 167  # characters of the longest path in the packages' wheels
LONGEST_ON_WINDOWS = 259


def _too_long(planned: Plan) -> In2nError | None:
    """What to say of an installation that failed where Windows takes no path as long as the packages have some."""
    over = len(str(planned.folder)) + 1 + LONGEST_INSIDE - LONGEST_ON_WINDOWS
    if not WINDOWS or over <= 0 or _takes_long_paths():
        return None
    return In2nError(
        "long_path",
        f"Windows takes no path of more than {LONGEST_ON_WINDOWS} characters, and some packages' files would have "
        f"{over} more in {planned.folder}.",
        "Choose a shorter place with --home or IN2N_HOME (in Blender: Preferences > Add-ons > IN2N), such as "
        "C:\\in2n, or let Windows take long paths.",
    )


def _takes_long_paths() -> bool:
    """Whether this Windows was told to take paths of any length."""
    import winreg  # of this platform only

    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SYSTEM\CurrentControlSet\Control\FileSystem") as key:
            return bool(winreg.QueryValueEx(key, "LongPathsEnabled")[0])
    except OSError:
        return False


def _wheelhouse(given: Path | str | None) -> Path | None:
    chosen = given or os.environ.get("IN2N_WHEELHOUSE")
    if not chosen:
        return None
    folder = Path(chosen).expanduser().absolute()
    if not any(folder.glob("*.whl")):
        raise In2nError(
            "no_wheelhouse",
            f"{folder} holds no wheels.",
            "Fill it on a machine with a network: pip download -d FOLDER torch …, then copy it here.",
        )
    return folder


def _check_disk(planned: Plan) -> None:
    place = planned.folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free // 2**20
    if free < planned.disk_mb and free + size_mb(planned.folder.parent) < planned.disk_mb:
        raise In2nError(
            "disk_full",
            (
                f"{planned.folder.parent} has {free / 1000:.1f} GB free; the packages take about "
                f"{planned.disk_mb / 1000:.1f} GB."
            ),
            "Free some space, or choose another place with --home or IN2N_HOME.",
        )


def _choose_installer(planned: Plan, home: Path, wheelhouse: Path | None, report: Reporter, python: str) -> Installer:
    uv = find_uv(home)
    if uv:
        if not runs([str(planned.python), "-c", ""]):
            shutil.rmtree(planned.folder, ignore_errors=True)
            Command(home, report).run(
                [uv, "venv", "--quiet", "--python", python, str(planned.folder)], "Making the environment"
            )
        return Uv(uv, planned, home, wheelhouse, report)
    pip = Pip(planned, home, wheelhouse, report)
    pip.make_environment()
    uv = pip.install_uv()
    return Uv(uv, planned, home, wheelhouse, report) if uv else pip


def _remove_tree(folder: Path, report: Reporter) -> None:
    """Remove a folder piece by piece, so that it can be cancelled between two of its packages; what cannot be removed
    stays."""
    if not folder.exists():
        return
    packages = (*folder.glob("lib/python*/site-packages"), *folder.glob("Lib/site-packages"))
    pieces = [piece for parent in (*packages, folder) for piece in parent.iterdir()]
    for number, piece in enumerate(pieces):
        report.progress(number, len(pieces), "folders", f"Removing {piece.name}")
        if piece.is_dir() and not piece.is_symlink():
            shutil.rmtree(piece, ignore_errors=True)
        else:
            with suppress(OSError):
                piece.unlink()
    shutil.rmtree(folder, ignore_errors=True)
