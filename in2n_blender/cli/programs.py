"""Running programs one after another as steps of a longer work that can be cancelled."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass

from ..link.lifelines import guarded
from ..link.process import Lines, clean_environment, spawn
from ..scene.reporting import Reporter


@dataclass(frozen=True)
class Outcome:
    """How a program ended.

    Attributes:
        code: Its exit code.
        lines: All that it printed, without line ends.
    """

    code: int
    lines: list[str]

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


class Work:
    """Counts a work's steps and runs its programs; both notice within a second that it was cancelled.

    Args:
        report: Told of every step.
        steps: How often `step` will be called; the last call says that all is done.
    """

    def __init__(self, report: Reporter, steps: int):
        self._report = report
        self._steps = steps - 1
        self._done = -1

    def step(self, message: str) -> None:
        """Begin the next step.

        Args:
            message: What it does.

        Raises:
            Cancelled: Where the work was cancelled.
        """
        self._done += 1
        self._report.progress(self._done, self._steps, "steps", message)

    def run(self, command: list[str], on_line=lambda line: None) -> Outcome:
        """Run a program to its end; one that is not there has exit code 1.

        Args:
            command: The program and its arguments.
            on_line: Told of every line at once.

        Raises:
            Cancelled: Within a second of being cancelled; the program is ended then.
        """
        lines: list[str] = []
        if shutil.which(command[0]) is None:
            return Outcome(1, [f"{command[0]}: {os.strerror(errno.ENOENT)}"])
        try:
            process = spawn(guarded(command), env=clean_environment(), stdin=True)
        except OSError as error:
            return Outcome(1, [str(error)])
        output = Lines(process)
        try:
            while not output.ended:
                self._report.check()
                line = output.get(0.2)
                if line is not None:
                    lines.append(line)
                    on_line(line)
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)  # its output has ended, so it is about to end too
        finally:
            output.stop()
            process.stdin.close()
        return Outcome(process.wait(), lines)
