"""Running the programs of an installation, and what uv and pip have in common."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..link.lifelines import guarded
from ..link.process import Lines, clean_environment, spawn
from ..scene.errors import In2nError
from ..scene.reporting import Reporter
from ..scene.unfinished import clear_stale, own_prefix
from .failures import install_error
from .home import base_python
from .planning import TORCH_PAIR, Plan

SCRATCH = ".scratch-"
CANCEL_GRACE = 0.5  # seconds that a cancelled installer gets to end by itself; both uv and pip go on from their caches


@contextmanager
def scratch_folder(home: Path) -> Iterator[str]:
    """Yield a folder for what is only needed in between; those of killed processes go.

    Args:
        home: The home folder, in which it is made.
    """
    clear_stale(home, SCRATCH)
    with tempfile.TemporaryDirectory(prefix=own_prefix(SCRATCH), dir=home) as folder:
        yield folder


def runs(command: list[str]) -> bool:
    """Whether a program can be started and ends well.

    Args:
        command: The program and its arguments.
    """
    try:
        process = spawn(command, env=clean_environment())
        Lines(process).drain(timeout=60)
        return process.wait(10) == 0
    except OSError:
        return False


class Command:
    """Runs one program of the installation: its lines go to install.log and to `on_line`, cancelling ends it."""

    def __init__(self, home: Path, report: Reporter):
        self.log = home / "install.log"
        self.home = home
        self.report = report

    def run(
        self,
        command: list[str],
        message: str,
        on_line: Callable[[str], None] | None = None,
        env: dict[str, str] | None = None,
        unsaid: Callable[[], list[str]] = list,
    ) -> None:
        """Run it to its end.

        Args:
            command: The program and its arguments.
            message: What is logged first.
            on_line: Gets every line, and "" where none came for 0.2 s.
            env: All environment variables (default: this process's).
            unsaid: What the program did not print, to judge its failure by.

        Raises:
            In2nError: With the likely cause when the program fails.
            Cancelled: Within a second of being cancelled.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        self.report.log(message)
        tail: list[str] = []
        with open(self.log, "a", encoding="utf-8") as log:
            log.write(f"\n$ {' '.join(command)}\n")
            try:
                process = self._start(command, clean_environment(env))
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
                process.stdin.close()
        if process.wait() != 0:
            raise install_error([*unsaid(), *tail], self.log)

    def _start(self, command: list[str], env: dict[str, str]) -> subprocess.Popen:
        if shutil.which(command[0]) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), command[0])
        return spawn(guarded(command, base_python()), env=env, cwd=self.home, stdin=True)


class Installer:
    """What is asked of uv and of pip alike.

    Args:
        planned: The environment, which is there.
        home: The home folder, for the log and temporary files.
        wheelhouse: A folder of wheels in place of every index.
        report: Told how far it is.
    """

    def __init__(self, planned: Plan, home: Path, wheelhouse: Path | None, report: Reporter):
        self.planned = planned
        self.home = home
        self.wheelhouse = wheelhouse
        self.report = report
        self.command = Command(home, report)

    def install(self, requirements: Sequence[str], again: bool = False) -> None:
        """Install exact versions, held to the plan's constraints.

        Args:
            requirements: Lines such as "numpy==2.1.0".
            again: Whether also what is there already is installed.

        Raises:
            In2nError: What `install_error` makes of the program's failure; "install_failed" where it cannot be started.
            Cancelled: What was downloaded is gone on from.
        """
        raise NotImplementedError

    def install_matching_torch(self) -> None:
        """Install torch and torchvision of one build in place of a pair that does not fit."""
        raise NotImplementedError

    def torch_pair(self, operator: str = "==") -> list[str]:
        """The plan's torch and torchvision, as requirements.

        Args:
            operator: What stands in place of "==".
        """
        return [r.replace("==", operator) for r in self.planned.requirements if r.split("==")[0] in TORCH_PAIR]

    @contextmanager
    def requirement_files(self, requirements: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield the paths of a requirements file and a constraints file, which are removed afterwards.

        Args:
            requirements: The lines of the first; the second holds the plan's other constraints.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        with scratch_folder(self.home) as folder:
            wanted, held = Path(folder, "requirements.txt"), Path(folder, "constraints.txt")
            wanted.write_text("\n".join(requirements), encoding="utf-8")
            held.write_text("\n".join(sorted({*self.planned.constraints} - {*requirements})), encoding="utf-8")
            yield str(wanted), str(held)

    def offline_options(self) -> list[str]:
        """The options, the same for both, that leave the wheelhouse as the only source."""
        return ["--no-index", "--find-links", str(self.wheelhouse)] if self.wheelhouse else []
