"""Agreement first, then dataset updates: many different 2D edits become one 3D edit.

A 2D model answers differently for every noise: one view comes back red, the next one blue, and dataset updates that
begin at high noise levels average them to patchwork. Here the first key view alone is edited from pure noise, or the
user gives its edit. Its picture is carried through the scene's depth into the next view (`carrying`), refined there
from a middle noise level, conditioned on that view's *original* photo, and so on from view to view: the carried colours
say which answer it is, and the model makes it sharp (in which order: `carrying_plan`). Then the NeRF is trained on all
of them, and dataset updates (Haque et al. 2023) at falling levels average what still differs and take up what has
changed its shape: they render the edited scene as it forms.

The level from which a view is refined is found, not set: the highest one at which the refined view still agrees, where
something was carried into it, with what was carried. A model whose answers lie close together needs a lower one. One
that gives the same answer to one photo several times agrees even from pure noise, and is spared its own edits as a
start: every edit of an edit repeats its mistakes. What its answers to one photo then differ by is noise, so that a
view's picture is the mean of all of them, and of what the scene, trained on the answers to the other views, shows.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn import functional

from ..nerf.settings import NerfSettings
from ..nerf.training import SETTLING
from .batches import AskedEdit, run_together
from .carrying import MOST_SOURCES, Carried, Recolouring, SeenView, carry
from .carrying_plan import PlannedEdit, independent, plan_carrying
from .dataset_update import DatasetUpdate, resized
from .schedule import PURE_NOISE, Schedule

LEVELS = (PURE_NOISE, 0.75, 0.6, 0.45, 0.3, 0.2)
PROBES = 2  # further draws of one view, by which it is seen whether the model always answers the same
AGAIN = 0.5  # of that level, for a key view that is edited again
LOWEST_UPDATE = 0.05
HIGHEST_UPDATE = 0.6
# Denoising steps of an edit from pure noise, by DDIM; from a lower level as large steps, so fewer of them. Each costs
# an evaluation, and more show more of the model's own spread, which is what views then have to average away: with the
# exact editor, eight from every level are twice as many evaluations and 0.6 to 2.8 dB less. So does a solver of higher
# order (DPM-Solver++ 2M): 0.3 dB less from level 0.6 and 2.6 to 3.8 dB less from pure noise.
MOST_STEPS = 7
# A refined view agrees when it differs, in the mean colours of coarse cells, by at most this share of what the edit
# changed; and views have converged when they do so by at most that share.
TOLERANCE = 0.25
CONVERGED = 0.05
CLEAR = 0.5  # disagreement of a model that answered the same several times: less is its unsteadiness
SHOWN = 3  # how often what the scene shows counts in the mean with one answer of a model that always gives the same
FAILURES = 2  # views that do not agree at a level before a lower one is taken for all
CELLS = 4  # along the longer side, fewer where they would be smaller than
SMALLEST_CELL = 32  # pixels a side
MOST_ENLARGED = 1.25  # up to which a key view of the user's is not sharpened
BLOCK = 8  # pixels a side of what one value of a latent draws
LEAST_COVERED = 0.02  # share of a view below which what was carried tells nothing
LEAST_OF_CELL = 0.1  # of the best covered cell; cells with less tell nothing
UNTOLD = 0.3  # the level, at most, of a view into which too little was carried to tell


@dataclass(frozen=True)
class Parts:
    """The parts of the method, each of which can be left out to see what it is worth.

    Attributes:
        carry: Views begin with what edited views show of their surfaces; else with their photos.
        find_level: The level is found; else it is HIGHEST_UPDATE.
        key_views: How many key views there are, at most.
        again: Key views are edited again, from all the others of them.
        leave_out: An update that shows something else than the edited scene is left out.
        stop: Rounds end when renders and edits agree.
        mean: Updates by a model that always answers the same are averaged with what there was.
    """

    carry: bool = True
    find_level: bool = True
    key_views: int = 1
    again: bool = False
    leave_out: bool = True
    stop: bool = True
    mean: bool = True


@dataclass(frozen=True)
class AgreementSchedule(Schedule):
    """The updates. Before them the NeRF trains as long on what was carried as it does on one round of them."""

    @property
    def steps(self) -> int:
        return max(1, round(self.views * (1 + self.rounds) * self.edit_rate / (1 - SETTLING)))

    def is_due(self, edit: int, step: int) -> bool:
        return edit < self.edits and step // self.edit_rate - self.views >= edit

    def update_level(self, edit: int, highest: float) -> float:
        """From which level an update starts.

        Args:
            edit: Counted from 0.
            highest: The level at which the model agrees with itself.

        Returns:
            From `highest` (at most HIGHEST_UPDATE) down to LOWEST_UPDATE, evenly over all updates. Always from pure
            noise where the model agrees with itself from there.
        """
        if highest == PURE_NOISE:
            return PURE_NOISE
        highest = min(highest, HIGHEST_UPDATE)
        return highest + (LOWEST_UPDATE - highest) * edit / max(self.edits - 1, 1)


@dataclass(frozen=True)
class CarriedEdit:
    """What came of a view that something was carried into.

    Attributes:
        view: Of the dataset.
        start: (height, width, 3) what it began with.
        edited: (height, width, 3) sRGB in [0, 1].
        agreed_at: The level at which it was edited, where that had to be found; else None.
    """

    view: int
    start: torch.Tensor
    edited: torch.Tensor
    agreed_at: float | None = None


class Agreement(DatasetUpdate):
    """The method.

    state: "carried", how many edits came before the first update; "noise_level", from which views are refined, the
    highest that agreed, and "failed", how many views since then did not agree at it; "disagreements", of each update
    with what it started from, and "left_out", how many updates were; "converged_rounds", after how many rounds the
    views agreed, None where the rounds ran out.
    """

    name = "agreement"
    in_batches = True
    Schedule = AgreementSchedule
    progress = ("edits_done", "carried", "noise_level", "failed", "left_out", "disagreements", "converged_rounds")
    first_draw = len(LEVELS) + 1 + PROBES  # after those of the carrying
    parts = Parts()
    probed: dict[int, torch.Tensor] = {}  # the first edit of the view that was probed

    @staticmethod
    def default_rounds(settings: NerfSettings) -> int:
        return 1

    @staticmethod
    def edit_rate(settings: NerfSettings) -> int:
        """So many that the NeRF trains as long as by the preset's number of rounds, of which carrying counts as one."""
        return max(1, round(settings.edit_rate * settings.edit_rounds / 2))

    @staticmethod
    def has_edits_left(state: dict, schedule: Schedule) -> bool:
        if state.get("carried") is None:
            return True
        return state["converged_rounds"] is None and state["edits_done"] - state["carried"] < schedule.edits

    def run(self) -> None:
        defaults = {
            "carried": None,
            "noise_level": None if self.parts.find_level else HIGHEST_UPDATE,
            "failed": 0,
            "left_out": 0,
            "disagreements": [],
            "converged_rounds": None,
        }
        for name, value in defaults.items():
            self.state.setdefault(name, value)
        self._end_after(self.state["converged_rounds"])
        super().run()

    def before_step(self) -> None:
        if self.state["carried"] is None:
            self.carry_all()
        self._end_when_agreed()  # what was saved with the last update of a round does not know it yet
        super().before_step()

    @property
    def edit_number(self) -> int:
        return self.state["edits_done"] - self.state["carried"]

    # --- carrying

    @torch.no_grad()
    def carry_all(self) -> None:
        """Edit the views that are left, each beginning with what the views before it show of its surfaces."""
        cameras = list(self.trainer.dataset.cameras)
        if self.key_picture and self._key_view() == len(cameras):
            height, width = self.key_picture.image.shape[:2]
            cameras.append(self.key_picture.view.camera.scaled_to(width, height))
        self.views = []
        for number, camera in enumerate(cameras):
            self.report.progress(number, len(cameras), "view", "Looking at the views")
            self.views.append(SeenView(camera, self._unmasked(number, self.scene.render(camera, self.report).depth)))
        first = self._key_view() if self.key_picture else None
        plan = plan_carrying(self.views, first, self.parts.key_views, self.parts.again, self._together())
        if self.state["noise_level"] is None:
            self._probe(next(edit.view for edit in plan if edit.view < self.schedule.views))
        while (number := self.state["edits_done"]) < len(plan):
            message = f"Carrying the edit, {number + 1} of {len(plan)}"
            self.report.progress(self.trainer.step_count, self.schedule.steps, "step", message)
            self.done_views = [edit.view for edit in plan[:number]]
            if self.key_picture and plan[number].view == self._key_view():
                self._put_key_picture(plan[number].view, plan[number].again)
            else:
                self.carry_into(independent(plan[number:], self._together(), self.key_picture and self._key_view()))
        self.state["carried"] = len(plan)
        self.views = []

    def _unmasked(self, view: int, depth: torch.Tensor) -> torch.Tensor:
        """The depth of a view, NaN where a mask covers it, so that nothing is carried from there."""
        counts = self.trainer.dataset.mask(view) if view < self.schedule.views else None
        return depth if counts is None else torch.where(counts.to(depth.device), depth, torch.nan)

    def _key_view(self) -> int:
        """Which view the user's picture is of; the number of views, where it is of one that is held out."""
        names = [view.name for view in self.scene.capture.training_views]
        name = self.key_picture.view.name
        return names.index(name) if name in names else len(names)

    def _probe(self, view: int) -> None:
        """Several edits of one photo from pure noise: where they are all the same, the level begins there."""
        photo = self.photo(view)
        draws = [0, *range(len(LEVELS) + 1, self.first_draw)]
        first, *others = self.edited([AskedEdit(view, photo, PURE_NOISE, draw) for draw in draws])
        chw = lambda image: image.cpu().permute(2, 0, 1)
        same = all(disagreement(chw(other), _whole(chw(first)), chw(photo)) <= TOLERANCE for other in others)
        self.state["noise_level"] = LEVELS[0] if same else LEVELS[1]
        self.probed = {view: first}

    def carry_into(self, batch: Sequence[PlannedEdit]) -> None:
        """Edit views: from pure noise where nothing was carried into them, else from the found level.

        Args:
            batch: Which, and what to carry into them; none is carried from another of them.
        """
        for done in run_together([self._carry(planned) for planned in batch], self.edited):
            if done.agreed_at is not None:
                self._note_level(done.agreed_at)
            self.put(done.view, done.start, done.edited)

    def _carry(self, planned: PlannedEdit) -> Generator[AskedEdit, torch.Tensor, CarriedEdit]:
        view = planned.view
        photo = self.photo(view).permute(2, 0, 1)
        edited_views = [
            SeenView(self.views[i].camera, self.views[i].depth, self.current(i).permute(2, 0, 1))
            for i in (planned.sources if self.parts.carry else ())
        ]
        carried = carry(self.views[view], edited_views)
        start = carried.filled(photo).permute(1, 2, 0)
        if not self.done_views:
            edited = self.probed[view] if view in self.probed else (yield AskedEdit(view, start, PURE_NOISE, 0))
        elif not tells(carried) and self.parts.carry and self.state["noise_level"] < PURE_NOISE:
            start = self._recoloured(photo).permute(1, 2, 0)
            edited = yield AskedEdit(view, start, min(UNTOLD, self.state["noise_level"]), 0)
        elif planned.again:
            edited = yield AskedEdit(view, start, AGAIN * self.state["noise_level"], len(LEVELS))
        else:
            return (yield from self._refined(view, start, photo, carried))
        return CarriedEdit(view, start, edited)

    def _refined(
        self, view: int, start: torch.Tensor, photo: torch.Tensor, carried: Carried
    ) -> Generator[AskedEdit, torch.Tensor, CarriedEdit]:
        """From the level that is found so far, or the next lower one at which the view agrees with what was carried."""
        for level in [level for level in LEVELS if level <= self.state["noise_level"]]:
            edited = yield AskedEdit(view, start, level, LEVELS.index(level))
            difference = disagreement(edited.cpu().permute(2, 0, 1), carried, photo)
            if difference <= (CLEAR if level == PURE_NOISE else TOLERANCE) or not self.parts.find_level:
                break
        return CarriedEdit(view, start, edited, level)

    def _note_level(self, agreed_at: float) -> None:
        """What is found is lowered when a second view does not agree: the first may be an unlucky draw."""
        found = self.state["noise_level"]
        if agreed_at < found:
            self.state["failed"] += 1
            if self.state["failed"] == FAILURES or found == PURE_NOISE:
                self.state.update(noise_level=LEVELS[LEVELS.index(found) + 1], failed=0)

    def _recoloured(self, photo: torch.Tensor) -> torch.Tensor:
        """A photo with its colours changed as those of the edited views were: what is known where none is seen."""
        views = [view for view in dict.fromkeys(self.done_views) if view < self.schedule.views][-MOST_SOURCES:]
        flat = lambda images: torch.cat([image.reshape(-1, 3) for image in images]).T
        if not views:
            return photo
        return Recolouring.fitted(flat([self.photo(i) for i in views]), flat([self.current(i) for i in views]))(photo)

    def _put_key_picture(self, view: int, again: bool) -> None:
        """The user's picture becomes its view as it is. One that is smaller than its photo gets the photo's detail."""
        if view == self.schedule.views or again:
            self.state["edits_done"] += 1
            return
        photo = self.photo(view)
        picture = torch.from_numpy(self.key_picture.image)
        start = resized(picture, photo.shape[:2])[0].permute(1, 2, 0).clamp(0, 1)
        enlarged = photo.shape[0] > MOST_ENLARGED * picture.shape[0]
        if enlarged:
            start = self.edited([AskedEdit(view, start, LEVELS[-1], 0)])[0]
        self.put(view, photo, start)

    def current(self, view: int) -> torch.Tensor:
        """A view's last edit, its photo where it has none; the user's picture where that is of a view that is held out.

        Args:
            view: Of the dataset.

        Returns:
            (height, width, 3) over white where it has alpha, sRGB in [0, 1], on the CPU.
        """
        if view == self.schedule.views:
            return torch.from_numpy(self.key_picture.image)
        return self.latest(view)

    # --- updating: as the published method, from falling levels

    def noise_level(self, number: int) -> float:
        return self.schedule.update_level(number, self.state["noise_level"])

    def denoising_steps(self, level: float) -> int:
        return max(1, round(min(self.editor.steps, MOST_STEPS) * level))

    def edit_next_views(self, count: int = 1) -> None:
        """As the published method; a view that the user chose the picture of stays as it is.

        Args:
            count: How many.
        """
        number = self.edit_number
        views = [self.schedule.view(number + i) for i in range(count)]
        kept = views.index(self._key_view()) if self.key_picture and self._key_view() in views else count
        if kept:
            super().edit_next_views(kept)
        if kept < count:
            self.state["edits_done"] += 1
            self.state["disagreements"].append(0.0)
        if kept + 1 < count:
            super().edit_next_views(count - kept - 1)
        self._end_when_agreed()

    def put_update(self, view: int, render: torch.Tensor, edited: torch.Tensor) -> None:
        """Put an update in its view's place, unless it is another answer than the scene's.

        Of a model that always answers the same, the view's picture becomes the mean of its picture so far, which counts
        as many times as it was edited, of the update, and of what was edited.

        Args:
            view: Of the dataset.
            render: (height, width, 3) what was edited, on the CPU; takes the view's place where the update does not.
            edited: (height, width, 3) sRGB in [0, 1].
        """
        photo = self.photo(view).permute(2, 0, 1)
        shown = _whole(render.permute(2, 0, 1))
        counts = self.trainer.dataset.mask(view)
        if counts is not None:
            shown = Carried(shown.image, counts.cpu())
        difference = disagreement(edited.cpu().permute(2, 0, 1), shown, photo)
        self.state["disagreements"].append(round(difference, 6))
        if self.state["noise_level"] == PURE_NOISE:
            if self.parts.mean:
                before = 1 + self.edit_number // self.schedule.views
                edited = (before * self.latest(view) + edited.cpu() + SHOWN * render) / (before + 1 + SHOWN)
        elif self.parts.leave_out and difference > TOLERANCE:
            self.state["left_out"] += 1
            edited = render
        self.put(view, render, edited)

    def _end_when_agreed(self) -> None:
        """End the rounds where the one that is just done found renders and edits to agree."""
        views, number = self.schedule.views, self.edit_number
        if self.parts.stop and 0 < number < self.schedule.edits and number % views == 0:
            if sum(self.state["disagreements"][-views:]) / views <= CONVERGED:
                self._end_after(number // views)

    def _end_after(self, rounds: int | None) -> None:
        """The rounds end earlier than was asked for, and the NeRF settles."""
        if rounds is None:
            return
        self.state["converged_rounds"] = rounds
        self.schedule = replace(self.schedule, rounds=rounds)
        self.trainer.total_steps = self.schedule.steps
        self.report.log(f"Converged after {rounds} round{'s' if rounds > 1 else ''}.")

    def progress_message(self) -> str:
        if self.state["carried"] is None:
            return "Carrying the edit"
        done = self.edit_number
        if done >= self.schedule.edits:
            return "Settling"
        return f"Update {done + 1} of {self.schedule.edits}, noise {self.noise_level(done):.2f}"


def _whole(image: torch.Tensor) -> Carried:
    """A picture (3, height, width) as if all of it had been carried."""
    return Carried(image, torch.ones(image.shape[1:], dtype=torch.bool))


def tells(carried: Carried) -> bool:
    """Whether enough was carried into a view to tell what answer it is to show.

    Args:
        carried: What it begins with.
    """
    return bool(carried.covered.float().mean() >= LEAST_COVERED)


def disagreement(edited: torch.Tensor, carried: Carried, photo: torch.Tensor) -> float:
    """How far a refined view is from what was carried into it, as a share of what the edit changed.

    Root mean squares over the mean colours of coarse cells, of the pixels that were carried into: another answer
    differs all over a cell. What differs from place to place inside a cell is noise; its part in the square of a mean,
    the variance over the number of BLOCKs, is taken off.

    Args:
        edited: (3, height, width) the refined view.
        carried: What it began with.
        photo: (3, height, width) the original photo.

    Returns:
        0 where both are the same or too little was carried to tell; about 1 for another answer.
    """
    if not tells(carried):
        return 0.0
    height, width = carried.covered.shape
    side = max(max(height, width) / CELLS, SMALLEST_CELL)
    cells = max(1, round(height / side)), max(1, round(width / side))
    covered = carried.covered.float()[None]
    weight = functional.adaptive_avg_pool2d(covered, cells)
    mean = lambda image: functional.adaptive_avg_pool2d(image * covered, cells) / weight.clamp_min(1e-6)
    enough = weight >= LEAST_OF_CELL * weight.max()
    blocks = (weight * height * width / (cells[0] * cells[1] * BLOCK**2)).clamp_min(1)
    difference = edited - carried.image
    offset, square = mean(difference), mean(difference**2)
    noise = (square - offset**2) / blocks
    change = ((mean(carried.image) - mean(photo)) ** 2 * enough).sum()
    other = ((offset**2 - noise) * enough).sum().clamp_min(0)
    return float((other / change) ** 0.5) if change > 0 else 0.0
