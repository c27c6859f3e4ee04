"""The engine's Python environment: plan, install, verify, repair, remove.

One virtual environment per Python version below the home folder (IN2N_HOME), filled with groups of pinned packages
(`engine_versions.json`): "engine" (torch and all that the worker needs), "blender" (the bpy wheel, for running the
add-on without a window) and "test". uv does the work where it is found, bundled or can be installed; pip otherwise.

An environment is ready when its stamp file, written last, names the pins and groups that were installed: finding one
ready starts no process. What was interrupted is completed by the next `install`.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..link.process import Lines, clean_environment, spawn
from ..scene.errors import In2nError
from ..scene.reporting import Reporter
from ..workspace.files import read_json, try_lock, write_error, write_json

GROUPS = ("engine", "blender", "test")
PINS = Path(__file__).with_name("engine_versions.json")
PACKAGE = Path(__file__).resolve().parents[1]
TORCH_PAIR = ("torch", "torchvision")
WINDOWS = sys.platform == "win32"
CANCEL_GRACE = 0.5  # seconds that a cancelled installer gets to end by itself; both uv and pip go on from their caches


def home_folder(home: Path | str | None = None) -> Path:
    """Where gigabytes go: the argument, else IN2N_HOME, else the platform's folder for a user's data."""
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
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def environment_folder(home: Path | str | None = None) -> Path:
    """The folder of this Python version's environment, there or not."""
    return home_folder(home) / f"python-{python_version()}"


@dataclass(frozen=True)
class Plan:
    """What an environment holds, or will hold once installed.

    groups: what was asked for and what is already there. requirements and constraints: exact versions.
    digest: names the requirements; the stamp of a ready environment carries the same. disk_mb: room it takes.
    """

    folder: Path
    groups: tuple[str, ...]
    requirements: tuple[str, ...]
    constraints: tuple[str, ...]
    digest: str
    disk_mb: int

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.folder / ("Scripts/python.exe" if WINDOWS else "bin/python")

    @property
    def stamp(self) -> Path:
        return self.folder / "in2n.json"

    @property
    def ready(self) -> bool:
        stamp = _read_stamp(self.folder)
        return (
            stamp.get("digest") == self.digest
            and set(self.groups) <= set(stamp.get("groups", ()))
            and self.python.exists()
        )


def plan(groups, home: Path | str | None = None) -> Plan:
    """What `install` would make. Raises In2nError("wrong_python") when a group has no build for this Python."""
    pins = json.loads(PINS.read_text(encoding="utf-8"))
    version = python_version()
    _check_python(groups, pins, version)
    folder = environment_folder(home)
    wanted = set(groups) | set(_read_stamp(folder).get("groups", ()))
    ordered = tuple(group for group in GROUPS if group in wanted)
    by_group = {g: [*pins["groups"][g], *(pins["python"][version][g] or ())] for g in GROUPS}
    requirements = tuple(r for group in ordered for r in by_group[group])
    # numpy is the engine's pin, but bpy and pycolmap must get the same one when they are installed first or alone
    constraints = (
        *pins["constraints"],
        *(r for r in by_group["engine"] if r.startswith(("numpy==", "scipy==", "pillow=="))),
    )
    digest = hashlib.sha256(json.dumps([version, by_group, constraints]).encode()).hexdigest()[:16]
    return Plan(folder, ordered, requirements, constraints, digest, sum(pins["disk_mb"][g] for g in ordered))


def install(
    groups=("engine",),
    home: Path | str | None = None,
    wheelhouse: Path | str | None = None,
    report: Reporter | None = None,
) -> Path:
    """Make the environment hold the groups and return its interpreter. Returns at once when it is ready.

    wheelhouse: a folder of wheels to install from without a network (or IN2N_WHEELHOUSE). Progress is in megabytes and
    imports. Raises In2nError for everything a user can mend (no network, full disk, missing system libraries, ...),
    Cancelled.
    """
    report = report or Reporter()
    planned = plan(groups, home)
    if planned.ready:
        return planned.python
    with _lock(home_folder(home), report):
        planned = plan(groups, home)
        if not planned.ready:  # another process may have finished it while this one waited
            _complete(planned, home_folder(home), wheelhouse, report)
    return planned.python


def verify(
    groups=("engine",), home: Path | str | None = None, report: Reporter | None = None, python: Path | None = None
) -> dict[str, str]:
    """Import every package for real. Returns module -> what went wrong; empty when all is well.

    python: another interpreter than the installed environment's. Raises In2nError("no_environment"), Cancelled.
    """
    report = report or Reporter()
    if python is not None:
        return _failing_imports(python, groups, home_folder(home), report)
    planned = plan(groups, home)
    if not planned.python.exists():
        raise In2nError(
            "no_environment",
            f"There is no environment in {planned.folder}.",
            "Install it first: python3 -m in2n_blender install.",
        )
    return _failing_imports(planned.python, planned.groups, home_folder(home), report)


def repair(
    groups=("engine",),
    home: Path | str | None = None,
    wheelhouse: Path | str | None = None,
    report: Reporter | None = None,
) -> Path:
    """Install again what does not import; a folder without a working interpreter is made anew. As `install`
    otherwise."""
    report = report or Reporter()
    planned = plan(groups, home)
    with _lock(home_folder(home), report):
        planned.stamp.unlink(missing_ok=True)
        _complete(planned, home_folder(home), wheelhouse, report, reinstall=not _runs([str(planned.python), "-c", ""]))
    return planned.python


def remove(home: Path | str | None = None, report: Reporter | None = None) -> None:
    """Remove this Python version's environment, stamp first, so that what is left after an interruption is not taken
    for whole."""
    report = report or Reporter()
    folder = environment_folder(home)
    with _lock(home_folder(home), report):
        (folder / "in2n.json").unlink(missing_ok=True)
        _remove_tree(folder, report)
    if folder.exists():
        raise In2nError(
            "cannot_remove",
            f"{folder} could not be removed whole.",
            "Close what is using it (Blender, a running job) and try again.",
        )


def size_mb(home: Path | str | None = None) -> int:
    """Megabytes on disk below the home folder."""
    return folder_mb(home_folder(home))


def folder_mb(folder: Path, cancelled=lambda: False) -> int:
    """Megabytes on disk below a folder; links count as links. What vanishes meanwhile, or comes after `cancelled()`, is
    not counted."""
    total = 0
    for inner, _, files in os.walk(folder):
        if cancelled():
            break
        for name in files:
            with suppress(OSError):
                total += os.lstat(os.path.join(inner, name)).st_size
    return total // 2**20


MISSING, INCOMPLETE, OUTDATED, READY = "missing", "incomplete", "outdated", "ready"


def condition(groups=("engine",), home: Path | str | None = None) -> str:
    """MISSING; INCOMPLETE: an installation was interrupted; OUTDATED: made for other versions than this add-on wants;
    or READY.

    Raises In2nError("wrong_python").
    """
    planned = plan(groups, home)
    if planned.ready:
        return READY
    if not planned.folder.exists():
        return MISSING
    return OUTDATED if _read_stamp(planned.folder) else INCOMPLETE


# --- planning -------------------------------------------------------------------------------------------------------


def _check_python(groups, pins: dict, version: str) -> None:
    known = pins["python"]
    if version in known and all(known[version][g] is not None for g in groups):
        return
    usable = [v for v, by_group in known.items() if all(by_group[g] is not None for g in groups)]
    found = [path for path in (shutil.which(f"python{v}") for v in usable) if path]
    hint = (
        f"Here is one: {found[0]} -m in2n_blender …"
        if found
        else f"Install Python {usable[0]} and run python{usable[0]} -m in2n_blender …"
    )
    versions = " or ".join(filter(None, (", ".join(usable[:-1]), usable[-1])))
    raise In2nError(
        "wrong_python",
        f"This needs Python {versions}, Blender's own versions; this is Python {version}."
        if "blender" in groups
        else f"The engine needs Python {versions}; this is Python {version}.",
        hint,
    )


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


def _read_stamp(folder: Path) -> dict:
    try:
        return read_json(folder / "in2n.json")
    except (In2nError, OSError):
        return {}


# --- installing -----------------------------------------------------------------------------------------------------


def _complete(planned: Plan, home: Path, wheelhouse, report: Reporter, reinstall: bool = False) -> None:
    wheelhouse = _wheelhouse(wheelhouse)
    _check_disk(planned)
    planned.stamp.unlink(missing_ok=True)
    if reinstall:
        _remove_tree(planned.folder, report)
    report.log(
        f"Setting up {planned.folder} ({', '.join(planned.groups)}; about {planned.disk_mb / 1000:.1f} GB on disk)"
    )
    installer = _choose_installer(planned, home, wheelhouse, report)
    installer.install(planned.requirements)
    _check_system_libraries(planned, report)
    failing = _failing_imports(planned.python, planned.groups, home, report)
    if any(module in failing for module in (*TORCH_PAIR, "lpips")):
        report.log("torch and torchvision come from different builds and do not fit: installing a matching pair")
        installer.install_matching_torch()
        failing = _failing_imports(planned.python, planned.groups, home, report)
    elif failing:
        report.log(f"{', '.join(failing)} did not import: installing again")
        installer.install(planned.requirements, again=True)
        failing = _failing_imports(planned.python, planned.groups, home, report)
    if failing:
        module, error = next(iter(failing.items()))
        raise In2nError(
            "broken_environment",
            f"The environment is installed, but {module} does not import: {error}.",
            f"Run `python3 -m in2n_blender install --repair`. The log is {home / 'install.log'}.",
        )
    write_json(planned.stamp, {"digest": planned.digest, "groups": planned.groups, "python": platform.python_version()})


def _wheelhouse(given) -> Path | None:
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


def _choose_installer(planned: Plan, home: Path, wheelhouse: Path | None, report: Reporter) -> _Installer:
    uv = _find_uv(home)
    if uv:
        if not _runs([str(planned.python), "-c", ""]):
            shutil.rmtree(planned.folder, ignore_errors=True)
            _Command(home, report).run(
                [uv, "venv", "--quiet", "--python", sys.executable, str(planned.folder)], "Making the environment"
            )
        return _Uv(uv, planned, home, wheelhouse, report)
    pip = _Pip(planned, home, wheelhouse, report)
    pip.make_environment()
    uv = pip.install_uv()
    return _Uv(uv, planned, home, wheelhouse, report) if uv else pip


def _find_uv(home: Path) -> str | None:
    """The uv that this package bundles, whose version is known to work, else the one on PATH; only if it runs."""
    bundled = _bundled_uv(home)
    if bundled:
        return bundled
    found = shutil.which("uv")
    return found if found and _runs([found, "--version"]) else None


def blender_platform() -> str:
    """This machine as Blender's extensions name it: "linux-x64", "macos-arm64", ..."""
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(machine, machine)
    return f"{'macos' if system == 'darwin' else system}-{machine}"


def uv_wheels() -> dict[str, dict[str, str]]:
    """The wheels of uv that the extension bundles: Blender's name of the platform -> {"file", "sha256"}."""
    return json.loads(PINS.read_text(encoding="utf-8")).get("uv", {}).get("wheels", {})


def _bundled_uv(home: Path) -> str | None:
    """uv out of the wheel beside this package, which is in the extension's zip and in a checkout after a build.

    Blender unpacks the wheel too, into a folder that all extensions share and where another one may bring another uv.
    """
    locked = uv_wheels().get(blender_platform())
    wheel = next(
        (w for folder in (PACKAGE, PACKAGE.parent) if locked and (w := folder / "wheels" / locked["file"]).exists()),
        None,
    )
    if wheel is None:
        return None
    name = "uv.exe" if WINDOWS else "uv"
    # a copy: on Windows a running program cannot be replaced, so the extension could not be upgraded
    target = home / "tools" / wheel.stem / name
    if not _runs([str(target), "--version"]):
        if hashlib.sha256(wheel.read_bytes()).hexdigest() != locked["sha256"]:
            return None
        with zipfile.ZipFile(wheel) as archive:
            member = next(m for m in archive.namelist() if m.endswith(f"/scripts/{name}"))
            target.parent.mkdir(parents=True, exist_ok=True)
            whole = target.with_name(f"{os.getpid()}-{name}")  # named rightly only when all of it is there
            whole.write_bytes(archive.read(member))
        whole.chmod(0o755)
        whole.replace(target)
        for older in (home / "tools").glob("uv-*"):
            if older != target.parent:
                shutil.rmtree(older, ignore_errors=True)
    return str(target) if _runs([str(target), "--version"]) else None


def _runs(command: list[str]) -> bool:
    try:
        process = spawn(command, env=clean_environment())
        Lines(process).drain(timeout=60)
        return process.wait(10) == 0
    except OSError:
        return False


class _Command:
    """Runs one program of the installation: its lines go to install.log and to `on_line`, cancelling ends it."""

    def __init__(self, home: Path, report: Reporter):
        self.log = home / "install.log"
        self.home = home
        self.report = report

    def run(self, command: list[str], message: str, on_line=None, env: dict | None = None) -> None:
        """Raises In2nError with the likely cause when the program fails, Cancelled within a second of being
        cancelled."""
        self.home.mkdir(parents=True, exist_ok=True)
        self.report.log(message)
        tail: list[str] = []
        with open(self.log, "a", encoding="utf-8") as log:
            log.write(f"\n$ {' '.join(command)}\n")
            try:
                process = spawn(command, env=clean_environment(env), cwd=self.home)
            except OSError as error:
                raise In2nError(
                    "install_failed",
                    f"{command[0]} could not be started ({error.strerror}).",
                    "Run `python3 -m in2n_blender install --repair`.",
                ) from error
            lines = Lines(process)
            try:
                while True:
                    self.report.check()
                    line = lines.get(0.2)
                    if lines.ended:
                        with suppress(subprocess.TimeoutExpired):
                            process.wait(10)  # its output has ended, so it is about to end too
                        break
                    if line is None:
                        line = ""
                    else:
                        log.write(line + "\n")
                        tail = [*tail[-80:], line]
                    if on_line:
                        on_line(line)
            finally:
                lines.stop(grace=CANCEL_GRACE)
        if process.wait() != 0:
            raise _install_error(tail, self.log)


def _install_error(tail: list[str], log: Path) -> In2nError:
    text = "\n".join(tail)
    again = "Then run it again: it goes on from where it stopped."
    if re.search(r"no space left|os error 28|errno 28|disk quota", text, re.I):
        return In2nError(
            "disk_full",
            "The disk became full while installing.",
            f"Free some space, or choose another place with --home or IN2N_HOME. {again}",
        )
    if re.search(
        r"dns error|error sending request|failed to (connect|fetch|download)|connection "
        r"(refused|reset|aborted|timed out)|NewConnectionError|ConnectTimeout"
        r"|name resolution|proxyerror|timed out|network is unreachable|max retries",
        text,
        re.I,
    ):
        host = re.search(r"https?://([^/\s:'\")]+)", text)
        where = f" from {host.group(1)}" if host else ""
        return In2nError(
            "no_network",
            f"The packages could not be downloaded{where}.",
            (
                "Check the network and the proxy settings (HTTPS_PROXY), or give a folder of wheels with "
                f"--wheelhouse. {again}"
            ),
        )
    errors = [line.strip() for line in tail if re.match(r"\s*(error|×|╰|cause)", line, re.I)] or [
        line.strip() for line in tail if line.strip()
    ]
    last = errors[-1] if errors else "the installer ended without a word"
    if re.search(
        r"no matching distribution|no solution found|no wheels|not found in the (package|provided)", text, re.I
    ):
        return In2nError(
            "no_package",
            f"A package has no build for this machine or this folder of wheels: {last}",
            f"The log is {log}.",
        )
    return In2nError("install_failed", f"Installing failed: {last}", f"The log is {log}. {again}")


class _Installer:
    """What `_complete` asks of uv and of pip alike."""

    def __init__(self, planned: Plan, home: Path, wheelhouse: Path | None, report: Reporter):
        self.planned = planned
        self.home = home
        self.wheelhouse = wheelhouse
        self.report = report
        self.command = _Command(home, report)

    def install(self, requirements, again: bool = False) -> None:
        raise NotImplementedError

    def install_matching_torch(self) -> None:
        raise NotImplementedError

    def _pair(self, operator: str = "==") -> list[str]:
        return [r.replace("==", operator) for r in self.planned.requirements if r.split("==")[0] in TORCH_PAIR]

    @contextmanager
    def _requirement_files(self, requirements):
        """Paths of a requirements file and a constraints file."""
        self.home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.home) as folder:
            wanted, held = Path(folder, "requirements.txt"), Path(folder, "constraints.txt")
            wanted.write_text("\n".join(requirements), encoding="utf-8")
            held.write_text("\n".join(self.planned.constraints), encoding="utf-8")
            yield str(wanted), str(held)

    def _offline(self) -> list[str]:
        return ["--no-index", "--find-links", str(self.wheelhouse)] if self.wheelhouse else []


class _Uv(_Installer):
    """uv: chooses torch's CUDA or CPU build by the driver, resumes from its cache, downloads in parallel."""

    def __init__(self, uv: str, *rest):
        super().__init__(*rest)
        self.uv = uv

    def install(self, requirements, again: bool = False) -> None:
        self._run_with_backend(requirements, ["--reinstall"] if again else [])

    def install_matching_torch(self) -> None:
        # without the user's find-links, which may be where the stray build came from
        self._run_with_backend(
            self._pair(),
            [f"--reinstall-package={name}" for name in TORCH_PAIR],
            {} if self.wheelhouse else {"UV_FIND_LINKS": ""},
        )

    def _run_with_backend(self, requirements, options: list[str], env: dict | None = None) -> None:
        backend = self._torch_backend()
        try:
            self._run(requirements, [*options, *backend], env)
        except In2nError as error:
            if not backend or error.code not in ("no_network", "no_package"):
                raise
            self.report.log("torch's own index did not serve: taking torch from the default index")
            self._run(requirements, options, env)

    def _torch_backend(self) -> list[str]:
        """uv's choice of torch's own index by the driver, or nothing where that index is not wanted or not to be
        reached."""
        chosen = (
            os.environ.get("UV_TORCH_BACKEND")
            or os.environ.get("UV_OFFLINE")
            or _uv_settings_from_pip().get("UV_NO_INDEX")
        )
        torch = next((r for r in self._pair() if r.startswith("torch==")), None)
        if chosen or self.wheelhouse or torch is None:
            return []
        if self._own_index_serves(torch):
            return ["--torch-backend=auto"]
        self.report.log("torch's own index cannot be reached: taking torch from the default index")
        return []

    def _own_index_serves(self, torch: str) -> bool:
        """Whether uv finds the pinned torch through --torch-backend=auto; asked once, without retries, so that a closed
        network costs seconds."""
        ask = [
            self.uv,
            "pip",
            "install",
            "--dry-run",
            "--no-deps",
            "--reinstall",
            "--python",
            str(self.planned.python),
            "--torch-backend=auto",
            torch,
        ]
        try:
            self.command.run(
                ask,
                "Looking for torch's own index",
                lambda line: None,
                {**_uv_settings_from_pip(), **os.environ, "UV_HTTP_TIMEOUT": "10", "UV_HTTP_RETRIES": "0"},
            )
            return True
        except In2nError:
            return False

    def _run(self, requirements, options: list[str], env: dict | None = None) -> None:
        watch = _UvProgress(self.report)
        with self._requirement_files(requirements) as (wanted, held):
            self.command.run(
                [
                    self.uv,
                    "pip",
                    "install",
                    "--python",
                    str(self.planned.python),
                    "-r",
                    wanted,
                    "-c",
                    held,
                    *options,
                    *self._offline(),
                ],
                "Finding the packages",
                watch.line,
                {"UV_HTTP_TIMEOUT": "300", **_uv_settings_from_pip(), **os.environ, **(env or {})},
            )


class _UvProgress:
    """Turns uv's lines into progress in megabytes: every download is announced with its size, then reported done."""

    def __init__(self, report: Reporter):
        self.report = report
        self.size: dict[str, float] = {}
        self.done: set[str] = set()
        self.message = "finding the packages"
        self.started: float | None = None  # of the first download

    def line(self, line: str) -> None:
        announced = re.match(r"\s*Downloading (\S+) \(([\d.]+)([KMG]i?)B\)", line)
        finished = re.match(r"\s*Downloaded (\S+)", line)
        if announced:
            name, size, unit = announced.groups()
            self.started = self.started or time.monotonic()
            self.size[name] = float(size) * {"K": 1 / 1024, "M": 1, "G": 1024}[unit[0]]
            self.message = f"downloading {name} ({_size(self.size[name])})"
        elif finished:
            self.done.add(finished.group(1))
            left = sorted((n for n in self.size if n not in self.done), key=self.size.get, reverse=True)
            self.message = f"downloading {left[0]} ({_size(self.size[left[0]])})" if left else "unpacking"
        elif line.startswith("Resolved"):
            self.message = line.split(" in ")[0].lower()
        elif line.startswith("Prepared"):
            self.message = "putting the packages in place"
        elif line.startswith("Installed"):
            self.message = line.split(" in ")[0].lower()
        total = sum(self.size.values())
        done = sum(self.size[n] for n in self.done if n in self.size)
        left = (total - done) * (time.monotonic() - self.started) / done if done else None
        self.report.progress(int(done), int(total), "MB", self.message, left)


def _size(megabytes: float) -> str:
    return f"{megabytes / 1024:.1f} GB" if megabytes >= 1024 else f"{megabytes:.0f} MB"


class _Pip(_Installer):
    """The standard library's venv and pip: slower, and always there."""

    def make_environment(self) -> None:
        python = self.planned.python
        if _runs([str(python), "-m", "pip", "--version"]):
            return
        shutil.rmtree(self.planned.folder, ignore_errors=True)
        try:
            self.command.run([sys.executable, "-m", "venv", str(self.planned.folder)], "Making the environment")
        except In2nError:
            self.report.check()
            raise In2nError(
                "no_venv",
                "This Python cannot make a virtual environment: its venv or ensurepip module is missing.",
                f"On Debian or Ubuntu: sudo apt-get install python{python_version()}-venv",
            ) from None

    def install_uv(self) -> str | None:
        """uv inside the new environment, installed by pip with the user's own settings; None where there is none to be
        had."""
        uv = self.planned.python.with_name("uv.exe" if WINDOWS else "uv")
        if not _runs([str(uv), "--version"]):
            try:
                self.command.run([*self._pip("install"), "uv", *self._offline()], "Getting uv, a faster installer")
            except In2nError as error:
                if error.code == "disk_full" or (error.code == "no_network" and not self.wheelhouse):
                    raise
                self.report.log("uv is not to be had: going on with pip")
                return None
        return str(uv) if _runs([str(uv), "--version"]) else None

    def install(self, requirements, again: bool = False) -> None:
        self._run(requirements, ["--force-reinstall"] if again else [])

    def install_matching_torch(self) -> None:
        if self.wheelhouse:
            self._run(self._pair(), ["--force-reinstall", "--no-deps"])
            return
        # A folder of stray builds (find-links) may offer a torch of the same version with a local label ("+cpu"), which
        # pip
        # prefers though no torchvision fits it. "===" takes the index's own build, an empty folder stands in for find-
        # links.
        with tempfile.TemporaryDirectory(dir=self.home) as empty:
            self._run(self._pair("==="), [], {"PIP_FIND_LINKS": empty})

    def _pip(self, command: str) -> list[str]:
        return [
            str(self.planned.python),
            "-m",
            "pip",
            command,
            "--no-input",
            "--disable-pip-version-check",
            "--progress-bar",
            "off",
        ]

    def _run(self, requirements, options: list[str], env: dict | None = None) -> None:
        watch = _PipProgress(self.report)
        with self._requirement_files(requirements) as (wanted, held):
            self.command.run(
                [*self._pip("install"), "-r", wanted, "-c", held, *options, *self._offline()],
                "Finding the packages",
                watch.line,
                {**os.environ, **(env or {})},
            )


class _PipProgress:
    """Turns pip's lines into progress: the names and sizes of what it collects, then the installing of them all."""

    def __init__(self, report: Reporter):
        self.report = report
        self.collected = 0
        self.message = "finding the packages"

    def line(self, line: str) -> None:
        download = re.match(r"\s*Downloading (\S+?)-\d\S* \(([\d.]+ [kMG]B)\)", line)
        collecting = re.match(r"Collecting (\S+)", line)
        if collecting:
            self.collected += 1
            self.message = f"finding {collecting.group(1)}"
        elif download:
            self.message = f"downloading {download.group(1)} ({download.group(2)})"
        elif line.startswith("Installing collected packages"):
            self.message = f"installing {line.count(',') + 1} packages (some minutes)"
        self.report.progress(self.collected, 0, "packages", self.message)


# --- the user's settings --------------------------------------------------------------------------------------------


def _pip_settings() -> dict[str, str]:
    """pip's settings for installing: configuration files from the widest to the nearest, then PIP_ variables."""
    import configparser

    home, found = Path.home(), {}
    files = [
        Path("/etc/xdg/pip/pip.conf"),
        Path("/etc/pip.conf"),
        home / ".pip/pip.conf",
        home / ".config/pip/pip.conf",
        home / "Library/Application Support/pip/pip.conf",
        home / "pip/pip.ini",
    ]
    files += [Path(os.environ[v]) / "pip" / "pip.ini" for v in ("PROGRAMDATA", "APPDATA") if v in os.environ]
    files += [Path(os.environ["PIP_CONFIG_FILE"])] if os.environ.get("PIP_CONFIG_FILE") else []
    for file in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError):
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                found.update({k.replace("_", "-"): v for k, v in parser.items(section)})
    found.update({k[4:].lower().replace("_", "-"): v for k, v in os.environ.items() if k.startswith("PIP_") and v})
    return found


def _uv_settings_from_pip() -> dict[str, str]:
    """uv reads none of pip's settings: say them in uv's words, for those who set up only pip (a company's mirror, its
    proxy).

    find-links is passed on only with no-index: beside an index it may offer a torch that fits no torchvision.
    """
    pip = _pip_settings()
    said = {}
    chosen = any(
        os.environ.get(name) for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL")
    )
    if pip.get("index-url") and not chosen:
        said["UV_DEFAULT_INDEX"] = pip["index-url"]
    extra = [url for url in pip.get("extra-index-url", "").split() if not url.startswith("file:")]
    if extra and not chosen:
        said["UV_INDEX"] = " ".join(extra)
        said["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # what pip does: all indexes are equal
    if pip.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        said["UV_NO_INDEX"] = "1"
        said["UV_FIND_LINKS"] = ",".join(pip.get("find-links", "").split())
    if pip.get("cert"):
        said["SSL_CERT_FILE"] = pip["cert"]
    if pip.get("proxy"):
        said["ALL_PROXY"] = pip["proxy"]
    if pip.get("trusted-host"):
        said["UV_INSECURE_HOST"] = pip["trusted-host"]
    return said


# --- verifying ------------------------------------------------------------------------------------------------------

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


def _failing_imports(python: Path, groups, home: Path, report: Reporter) -> dict[str, str]:
    """Each group in a process of its own: bpy and torch bring libraries that do not go together."""
    imports = json.loads(PINS.read_text(encoding="utf-8"))["imports"]
    total, done, failing = sum(len(imports[g]) for g in groups), 0, {}
    for group in groups:
        results = {}

        def collect(line: str, group=group, results=results, done=done) -> None:
            if line.startswith('{"module"'):
                result = json.loads(line)
                results[result["module"]] = result["error"]
            report.progress(
                done + len(results), total, "imports", f"importing {[*imports[group], 'done'][len(results)]}"
            )

        ended = ""
        try:
            _Command(home, report).run(
                [str(python), "-I", "-c", _IMPORT_SCRIPT, *imports[group]], f"Checking {group}", collect
            )
        except In2nError as error:
            ended = error.message
        failing.update(
            {
                m: results.get(m, ended or "the process ended early")
                for m in imports[group]
                if results.get(m, "") is not None
            }
        )
        done += len(imports[group])
    return failing


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
    """Names of the shared libraries that the installed bpy links and this machine lacks (Linux only)."""
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


def _check_system_libraries(planned: Plan, report: Reporter) -> None:
    report.check()
    missing = missing_system_libraries(planned)
    if missing:
        raise In2nError(
            "missing_system_libraries",
            f"Blender's wheel needs system libraries that are not installed: {', '.join(missing)}.",
            system_libraries_command(missing),
        )


def system_libraries_command(sonames: list[str]) -> str:
    """One ready-to-paste command that installs them by the machine's package manager."""
    dnf = shutil.which("dnf") and not shutil.which("apt-get")
    packages = sorted({SYSTEM_LIBRARIES.get(name, (name, name))[1 if dnf else 0] for name in sonames})
    return f"sudo {'dnf' if dnf else 'apt-get'} install -y {' '.join(packages)}"


# --- one at a time --------------------------------------------------------------------------------------------------


@contextmanager
def _lock(home: Path, report: Reporter):
    """Holds home/install.lock; the system lets it go when the process ends, however it ends."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        handle = open(home / "install.lock", "a+")
    except OSError as error:
        raise In2nError(
            "cannot_write",
            f"{home} cannot be written to ({error.strerror}).",
            "Choose another place with --home or IN2N_HOME.",
        ) from error
    with handle:
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
