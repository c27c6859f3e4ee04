"""Which view is edited when, and from which noise level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..nerf.training import SETTLING

NOISE_LEVELS = (0.02, 0.98)
PURE_NOISE = 1.0
# How far down its range "falling" goes. Lower levels keep what a render shows, half-way edits included.
FALL = 0.4


@dataclass(frozen=True)
class Schedule:
    """Which view is edited when, and from which noise level; all of it follows from the seed.

    Attributes:
        views: How many the dataset has.
        rounds: How often each is edited.
        edit_rate: NeRF steps from one edit to the next.
        seed: Of the order and of the noise levels.
        noise: "uniform" draws every level from [0.02, 0.98] as the paper does; "falling" goes from the top of that
            range down with the rounds (Kim et al. 2024, "DreamCatalyst"), which agrees in far fewer edits.
    """

    views: int
    rounds: int
    edit_rate: int
    seed: int
    noise: str

    @property
    def edits(self) -> int:
        """How many dataset images are edited in all."""
        return self.views * self.rounds

    @property
    def steps(self) -> int:
        """NeRF steps: `edit_rate` for every edit, and those in which all of them settle."""
        return max(1, round(self.views * self.rounds * self.edit_rate / (1 - SETTLING)))

    def is_due(self, edit: int, step: int) -> bool:
        """Whether an edit comes before the next NeRF step.

        Args:
            edit: Counted from 0.
            step: How many NeRF steps are done.

        Returns:
            False where the schedule has no such edit, or it comes later.
        """
        return edit < self.edits and step // self.edit_rate >= edit

    def view(self, edit: int) -> int:
        """Which view an edit is of: one random permutation of the views, cycled.

        Args:
            edit: Counted from 0.

        Returns:
            The view's index in the dataset.
        """
        order = np.random.default_rng(np.random.SeedSequence([self.seed, 0])).permutation(self.views)
        return int(order[edit % self.views])

    def noise_level(self, edit: int) -> float:
        """The noise level that an edit starts from.

        Args:
            edit: Counted from 0.

        Returns:
            A level in (0, 1).
        """
        if self.noise == "uniform":
            return self.uniform_level(edit)
        low, high = NOISE_LEVELS
        # Round by round from the top to the bottom of the range, spread within the round so that no two are alike.
        position = (edit // self.views + self._drawn(edit)) / max(self.rounds, 1)
        return high - (high - low) * FALL * position

    def uniform_level(self, number: int) -> float:
        """A level drawn uniformly from the paper's range.

        Args:
            number: Counts the draws, from 0; the same number draws the same level.

        Returns:
            A level in [0.02, 0.98).
        """
        low, high = NOISE_LEVELS
        return low + (high - low) * self._drawn(number)

    def _drawn(self, number: int) -> float:
        """Uniform in [0, 1)."""
        return np.random.default_rng(np.random.SeedSequence([self.seed, 1, number])).random()
