"""Agreement first, then dataset updates: many different 2D edits become one 3D edit.

A 2D model answers differently for every noise: one view comes back red, the next one blue, and dataset updates that
begin at high noise levels average them to patchwork. Here the first view alone is edited from pure noise. Its picture
is carried through the scene's depth into the next view (`carrying`), refined there from a middle noise level,
conditioned on that view's *original* photo, and so on from view to view: the carried colours say which answer it is,
and the model makes it sharp. Then the NeRF is trained on all of them, and one round of dataset updates (Haque et al.
2023) at falling levels averages what still differs and takes up what has changed its shape.

The level from which a view is refined is found, not set: the highest one at which the refined view still agrees, where
something was carried into it, with what was carried. A model whose answers lie close together needs a lower one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from ..nerf.training import SETTLING
from ..photos import opaque
from .carrying import Carried, SeenView, carry, carrying_order
from .dataset_update import DatasetUpdate
from .schedule import PURE_NOISE, Schedule

LEVELS = (0.9, 0.75, 0.6, 0.45, 0.3, 0.2)
LOWEST_UPDATE = 0.05
HIGHEST_UPDATE = 0.6
MOST_STEPS = 8  # denoising steps of an edit: more change little from a middle level, and each costs an evaluation
# A refined view agrees when it differs, in the mean colours of coarse cells, by at most this share of what the edit
# changed.
TOLERANCE = 0.25
CELLS = 4  # along the longer side
LEAST_COVERED = 0.1  # share of a view below which what was carried tells nothing


@dataclass(frozen=True)
class AgreementSchedule(Schedule):
    """Every view is carried into once, before the first NeRF step, and then updated in each round.

    The NeRF trains as long on what was carried as it does on one round of updates.
    """

    @property
    def edits(self) -> int:
        return self.views * (1 + self.rounds)

    @property
    def steps(self) -> int:
        return max(1, round(self.edits * self.edit_rate / (1 - SETTLING)))

    def update_level(self, edit: int, highest: float) -> float:
        """From which level an update starts: from `highest` down to LOWEST_UPDATE, evenly over all updates."""
        position = (edit - self.views) / max(self.edits - self.views - 1, 1)
        return highest + (LOWEST_UPDATE - highest) * position


class Agreement(DatasetUpdate):
    """The method. state: "noise_level" is the level from which views are refined, the highest that agreed."""

    name = "agreement"
    Schedule = AgreementSchedule
    progress = ("edits_done", "noise_level")
    first_draw = len(LEVELS)  # after those of the carrying

    @staticmethod
    def default_rounds(settings) -> int:
        return 1

    def before_step(self) -> None:
        if self.state["edits_done"] < self.schedule.views:
            self.carry_all()
        super().before_step()

    # --- carrying

    @torch.no_grad()
    def carry_all(self) -> None:
        """Edit the views that are left, each beginning with what the views before it show of its surfaces."""
        self.state.setdefault("noise_level", LEVELS[0])
        self.views = [self._seen(view) for view in range(self.schedule.views)]
        order, sources = carrying_order(self.views)
        for number in range(self.state["edits_done"], len(order)):
            self.report_progress()
            self.carry_into(order[number], sources[number])
        self.views = []

    def _seen(self, view: int) -> SeenView:
        self.report.progress(view, self.schedule.views, "view", "Looking at the views")
        camera = self.trainer.dataset.cameras[view]
        return SeenView(camera, self.scene.render(camera, self.report).depth)

    def carry_into(self, view: int, sources: list[int]) -> None:
        """Edit one view: from pure noise where nothing was carried into it, else from the found level."""
        photo = self.photo(view).permute(2, 0, 1)
        edited_views = [
            SeenView(self.views[i].camera, self.views[i].depth, self.current(i).permute(2, 0, 1)) for i in sources
        ]
        carried = carry(self.views[view], edited_views)
        start = carried.filled(photo).permute(1, 2, 0)
        if not sources:
            edited = self.edited(view, start, PURE_NOISE, 0)
        else:
            edited = self._refined(view, start, photo, carried)
        self.put(view, start, edited)

    def _refined(self, view: int, start: torch.Tensor, photo: torch.Tensor, carried: Carried) -> torch.Tensor:
        tried = 0
        while True:
            level = self.state["noise_level"]
            edited = self.edited(view, start, level, tried)
            if level == LEVELS[-1] or disagreement(edited.cpu().permute(2, 0, 1), carried, photo) <= TOLERANCE:
                return edited
            tried += 1
            self.state["noise_level"] = LEVELS[LEVELS.index(level) + 1]

    def current(self, view: int) -> torch.Tensor:
        """(height, width, 3) the view as the dataset has it, over white where it has alpha."""
        return torch.from_numpy(opaque(self.trainer.dataset.image(view).cpu().numpy()))

    # --- updating: as the published method, from falling levels

    def noise_level(self, number: int) -> float:
        return self.schedule.update_level(number, min(self.state["noise_level"], HIGHEST_UPDATE))

    def denoising_steps(self) -> int:
        return min(self.editor.steps, MOST_STEPS)

    def progress_message(self) -> str:
        done, views = self.state["edits_done"], self.schedule.views
        if done < views:
            return f"Carrying the edit, view {done + 1} of {views}"
        if done >= self.schedule.edits:
            return "Settling"
        return f"Update {done + 1 - views} of {self.schedule.edits - views}, noise {self.noise_level(done):.2f}"


def disagreement(edited: torch.Tensor, carried: Carried, photo: torch.Tensor) -> float:
    """How far a refined view is from what was carried into it, as a share of what the edit changed.

    Root mean squares over the mean colours of coarse cells, of the pixels that were carried into: noise that differs
    from place to place averages away, another answer does not.

    Args:
        edited: (3, height, width) the refined view.
        carried: What it began with.
        photo: (3, height, width) the original photo.

    Returns:
        0 where both are the same or too little was carried to tell; about 1 for another answer.
    """
    height, width = carried.covered.shape
    if carried.covered.float().mean() < LEAST_COVERED:
        return 0.0
    cells = max(1, round(CELLS * height / max(height, width))), max(1, round(CELLS * width / max(height, width)))
    covered = carried.covered.float()[None]
    weight = functional.adaptive_avg_pool2d(covered, cells)
    means = lambda image: functional.adaptive_avg_pool2d(image * covered, cells) / weight.clamp_min(1e-6)
    enough = weight >= LEAST_COVERED
    square = lambda a, b: float((((means(a) - means(b)) ** 2) * enough).sum())
    change = square(carried.image, photo)
    return (square(edited, carried.image) / change) ** 0.5 if change > 0 else 0.0
