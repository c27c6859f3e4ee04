"""Which stages of a longer run are done, so that a run that was killed goes on where it stood."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ..scene.errors import In2nError
from .files import read_json, write_json


def read_stages(file: Path | str) -> dict[str, dict]:
    """The stages that a file holds, by name; none where it is not there.

    Raises:
        In2nError: "bad_json" for a file that `Stages` did not write.
    """
    file = Path(file)
    found = read_json(file) if file.exists() else {}
    if not isinstance(found, dict) or not all(_is_stage(name, stage) for name, stage in found.items()):
        raise In2nError("bad_json", f"{file} does not list the stages of a run.", "Choose another folder.")
    return found


def _is_stage(name: str, stage: object) -> bool:
    if not isinstance(stage, dict) or not isinstance(stage.get("result", {}), dict):
        return False
    settings = stage.get("settings")
    return isinstance(settings, dict) and isinstance(settings.get(name), dict)


class Stages:
    """Stages in a fixed order, each with its settings and what it returned, kept in one JSON file.

    A stage is repeated when its own settings or those of a stage before it have changed.

    Args:
        file: Need not exist; it is written when a stage begins and when it is done.

    Attributes:
        file: As given.
        results: Stage name -> what it returned, with its "seconds" unless it gave its own.

    Raises:
        In2nError: "bad_json" for a file that `Stages` did not write.
    """

    def __init__(self, file: Path | str):
        self.file = Path(file)
        self._stages = read_stages(self.file)
        self.results: dict[str, dict] = {}
        self._behind: dict = {}

    def settings(self, name: str) -> dict | None:
        """The settings that a stage had when it was last begun; None if it never was."""
        return self._stages[name]["settings"][name] if name in self._stages else None

    @property
    def behind(self) -> dict:
        """The settings of the stages that were asked for so far, by name."""
        return dict(self._behind)

    def run(
        self, name: str, settings: dict, work: Callable[[bool], dict], there: Callable[[], bool] = lambda: True
    ) -> bool:
        """Do a stage's work unless it is done.

        Args:
            name: The stage.
            settings: What the work depends on, as JSON.
            work: Called with whether to begin anew, because an older attempt had other settings; returns its result as
                JSON.
            there: Whether what the stage made is still on disk.

        Returns:
            Whether the work had to be done.

        Raises:
            In2nError: "disk_full", "cannot_write" for the stages' file; and whatever the work raises.
        """
        self._behind = {**self._behind, name: settings}
        stage = self._stages.get(name, {})
        restart = bool(stage) and stage["settings"] != self._behind
        needed = restart or "result" not in stage or not there()
        if needed:
            self._write(name, {"settings": self._behind})
            started = time.monotonic()
            result = work(restart)
            self._write(
                name, {"settings": self._behind, "result": {"seconds": round(time.monotonic() - started, 3), **result}}
            )
        self.results[name] = self._stages[name]["result"]
        return needed

    def _write(self, name: str, stage: dict) -> None:
        self._stages[name] = stage
        write_json(self.file, self._stages)
