"""The standard library's venv and pip, where uv is not to be had."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from ..scene.errors import In2nError
from ..scene.reporting import Reporter
from .failures import unread_pages
from .home import WINDOWS, base_python, python_version
from .installer import Installer, runs, scratch_folder


class Pip(Installer):
    """The standard library's venv and pip: slower, and always there."""

    def make_environment(self) -> None:
        """Make the virtual environment, with pip in it, unless it is there.

        Raises:
            In2nError: "no_venv".
            Cancelled: Within a second of being cancelled.
        """
        python = str(self.planned.python)
        if any(runs([python, "-m", *module]) for module in (["pip", "--version"], ["ensurepip"])):
            return  # one that uv made has no pip, and may be the one that runs this
        shutil.rmtree(self.planned.folder, ignore_errors=True)
        try:
            self.command.run([base_python(), "-m", "venv", str(self.planned.folder)], "Making the environment")
        except In2nError:
            self.report.check()
            raise In2nError(
                "no_venv",
                "This Python cannot make a virtual environment: its venv or ensurepip module is missing.",
                f"On Debian or Ubuntu: sudo apt-get install python{python_version()}-venv",
            ) from None

    def install_uv(self) -> str | None:
        """Install uv inside the new environment, by pip with the user's own settings.

        Returns:
            Its path, or None where there is none to be had.

        Raises:
            In2nError: "disk_full"; "no_network" unless there is a wheelhouse.
            Cancelled: Within a second of being cancelled.
        """
        uv = self.planned.python.with_name("uv.exe" if WINDOWS else "uv")
        if not runs([str(uv), "--version"]):
            try:
                self._run_pip(["uv"], "Getting uv, a faster installer")
            except In2nError as error:
                if error.code == "disk_full" or (error.code == "no_network" and not self.wheelhouse):
                    raise
                self.report.log("uv is not to be had: going on with pip")
                return None
        return str(uv) if runs([str(uv), "--version"]) else None

    def install(self, requirements, again: bool = False) -> None:
        self._run(requirements, ["--force-reinstall"] if again else [])

    def install_matching_torch(self) -> None:
        if self.wheelhouse:
            self._run(self.torch_pair(), ["--force-reinstall", "--no-deps"])
            return
        # A folder of stray builds (find-links) may offer a torch of the same version with a local label ("+cpu"), which
        # pip prefers though no torchvision fits it. "===" takes the index's own build, an empty folder stands in for
        # find-links.
        with scratch_folder(self.home) as empty:
            self._run(self.torch_pair("==="), [], {"PIP_FIND_LINKS": empty})

    def _run(self, requirements, options: list[str], env: dict | None = None) -> None:
        with self.requirement_files(requirements) as (wanted, held):
            self._run_pip(["-r", wanted, "-c", held, *options], "Finding the packages", env)

    def _run_pip(self, arguments: list[str], message: str, env: dict | None = None) -> None:
        quiet = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
        with scratch_folder(self.home) as folder:
            log = Path(folder, "pip.log")
            self.command.run(
                [
                    *(str(self.planned.python), "-m", "pip", "install"),
                    *quiet,
                    *("--log", str(log)),
                    *arguments,
                    *self.offline_options(),
                ],
                message,
                PipProgress(self.report).line,
                {**os.environ, **(env or {})},
                lambda: unread_pages(log),
            )


class PipProgress:
    """Turns pip's lines into progress: the names and sizes of what it collects, then the installing of them all."""

    def __init__(self, report: Reporter):
        self.report = report
        self.collected = 0
        self.message = "finding the packages"

    def line(self, line: str) -> None:
        """Take in one line of pip's and report the progress.

        Args:
            line: Without its end; "" where none came for a while.

        Raises:
            Cancelled: Where the job was cancelled.
        """
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
