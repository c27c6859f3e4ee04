"""The 2D model that was loaded last, kept for the next job: in main memory, so that a GPU is free for others meanwhile.

Standard library only, so that the worker starts quickly. Nothing is kept but in a worker, which ends when it is idle.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass


@dataclass
class Kept:
    """What is kept.

    Attributes:
        wanted: whether anything is; a worker's.
        key: what tells the model, the device and the plan from all others.
        model: the editor; None where there is none.
        rest: called when a job has ended; says whether the model is worth the memory that it takes.
    """

    wanted: bool = False
    key: Hashable = None
    model: object = None
    rest: Callable[[], bool] = bool

    def take(self, key: Hashable) -> object | None:
        """The model, where it is of a key; any other is let go of, before the next one is loaded.

        Args:
            key: as for `keep`.

        Returns:
            The model as it was left.
        """
        if self.model is None or self.key != key:
            self.drop()
            return None
        return self.model

    def keep(self, key: Hashable, model: object, rest: Callable[[], bool]) -> None:
        """Keep a model from now on, if any is wanted.

        Args:
            key: what tells it from all others.
            model: the editor.
            rest: as the attribute.
        """
        if self.wanted:
            self.key, self.model, self.rest = key, model, rest

    def job_ended(self) -> None:
        """Let the model rest; one that is not worth its memory, or cannot be moved, goes."""
        if self.model is None:
            return
        try:
            stays = self.rest()
        except Exception:  # a device that failed under a job fails here, too
            stays = False
        if not stays:
            self.drop()

    def drop(self) -> None:
        """Keep nothing."""
        self.key, self.model, self.rest = None, None, bool


KEPT = Kept()
