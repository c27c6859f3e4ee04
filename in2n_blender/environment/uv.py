"""uv: where it is found, and installing by it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
import zipfile
from pathlib import Path

from ..scene.errors import In2nError
from ..scene.reporting import Reporter
from .home import WINDOWS
from .installer import Installer, runs
from .pins import blender_platform, uv_wheels
from .planning import TORCH_PAIR
from .user_settings import uv_settings_from_pip

PACKAGE = Path(__file__).resolve().parents[1]


def find_uv(home: Path) -> str | None:
    """The uv that this package bundles, whose version is known to work, else the one on PATH; only if it runs.

    Args:
        home: The home folder, where the bundled one is unpacked.

    Returns:
        Its path, or None.
    """
    bundled = _bundled_uv(home)
    if bundled:
        return bundled
    found = shutil.which("uv")
    return found if found and runs([found, "--version"]) else None


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
    if not runs([str(target), "--version"]):
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
    return str(target) if runs([str(target), "--version"]) else None


class Uv(Installer):
    """uv: chooses torch's CUDA or CPU build by the driver, resumes from its cache, downloads in parallel."""

    def __init__(self, uv: str, *rest):
        super().__init__(*rest)
        self.uv = uv

    def install(self, requirements, again: bool = False) -> None:
        self._run_with_backend(requirements, ["--reinstall"] if again else [])

    def install_matching_torch(self) -> None:
        # without the user's find-links, which may be where the stray build came from
        self._run_with_backend(
            self.torch_pair(),
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
            or uv_settings_from_pip().get("UV_NO_INDEX")
        )
        torch = next((r for r in self.torch_pair() if r.startswith("torch==")), None)
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
                {**uv_settings_from_pip(), **os.environ, "UV_HTTP_TIMEOUT": "10", "UV_HTTP_RETRIES": "0"},
            )
            return True
        except In2nError:
            return False

    def _run(self, requirements, options: list[str], env: dict | None = None) -> None:
        watch = UvProgress(self.report)
        with self.requirement_files(requirements) as (wanted, held):
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
                    *self.offline_options(),
                ],
                "Finding the packages",
                watch.line,
                {"UV_HTTP_TIMEOUT": "300", **uv_settings_from_pip(), **os.environ, **(env or {})},
            )


class UvProgress:
    """Turns uv's lines into progress in megabytes: every download is announced with its size, then reported done."""

    def __init__(self, report: Reporter):
        self.report = report
        self.size: dict[str, float] = {}
        self.done: set[str] = set()
        self.message = "finding the packages"
        self.started: float | None = None  # of the first download

    def line(self, line: str) -> None:
        """Take in one line of uv's and report the progress.

        Args:
            line: Without its end; "" where none came for a while.

        Raises:
            Cancelled: Where the job was cancelled.
        """
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
