"""In which order views are edited, and which edited views each is carried from.

First the key view. There may be several, which together see most of the scene; each is carried from those before it,
and then, to make them consistent among themselves, once more from all the others. Then the rest, each from what is
edited by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .carrying import MOST_SOURCES, SeenView, visible

ORDER_SIDE = 32  # pixels on the longer side of the depths by which views are put in order
NEIGHBOURS = 40  # views nearest to a view that may see what it sees
ENOUGH_COVERED = 0.95  # share of all pixels from which on no further key view is taken
LEAST_OVERLAP = 0.3  # share of a key view that the key views before it see, where there is such a one


@dataclass(frozen=True)
class PlannedEdit:
    """One edit of a view.

    Attributes:
        view: The view.
        sources: The edited views that are carried into it, the most useful first; none: it begins with its photo.
        again: Whether it is a key view that was edited before.
    """

    view: int
    sources: tuple[int, ...]
    again: bool = False


class Visibility:
    """How much of each other views see.

    Args:
        views: With their depths.

    Attributes:
        masks: (i, j) -> (height, width) bool, which pixels of i view j sees too; for neighbours alone.
        share: (i, j) -> the share of i's pixels that j sees.
    """

    def __init__(self, views: Sequence[SeenView]):
        small = [view.scaled(ORDER_SIDE) for view in views]
        self.count = len(views)
        self.masks = {
            (i, j): visible(small[i], small[j]) for i, near in enumerate(_neighbours(views)) for j in near if i != j
        }
        self.share = {pair: float(mask.float().mean()) for pair, mask in self.masks.items()}
        self._none = [torch.zeros_like(view.depth, dtype=torch.bool) for view in small]

    def covered(self, view: int, by: Sequence[int]) -> torch.Tensor:
        """Which pixels of a view others see.

        Args:
            view: Index of the view.
            by: Indices of the others.

        Returns:
            (height, width) bool, at ORDER_SIDE.
        """
        found = self._none[view].clone()
        for other in by:
            found |= self.masks.get((view, other), self._none[view])
        return found

    def sources(self, view: int, edited: Sequence[int]) -> tuple[int, ...]:
        """What to carry into a view from.

        Args:
            view: Index of the view.
            edited: The views that are edited.

        Returns:
            Those that see something of it, the most useful first, at most MOST_SOURCES.
        """
        useful = [other for other in edited if other != view and self.share.get((view, other), 0) > 0]
        return tuple(sorted(useful, key=lambda other: -self.share[view, other])[:MOST_SOURCES])


def choose_key_views(visibility: Visibility, first: int | None = None, most: int = 1) -> list[int]:
    """A few views that together see most of the scene.

    Args:
        visibility: Of all views.
        first: A view that is to be the first; None: the one whose surfaces the others see most.
        most: How many, at most.

    Returns:
        In the order in which they are to be edited: each sees, where there is such a view, something of those before
        it, and the most that none of them sees.
    """
    everyone = range(visibility.count)
    if first is None:
        seen = [sum(visibility.share.get((j, i), 0.0) for j in everyone) for i in everyone]
        first = max(everyone, key=lambda i: (seen[i], -i))
    keys = [first]
    while len(keys) < min(most, visibility.count):
        covered = [visibility.covered(i, keys) for i in everyone]
        if sum(float(mask.float().mean()) for mask in covered) >= ENOUGH_COVERED * (visibility.count - len(keys)):
            break
        left = [i for i in everyone if i not in keys]
        overlapping = [i for i in left if covered[i].float().mean() >= LEAST_OVERLAP]
        new = {i: sum(_newly_seen(visibility, j, i, covered[j]) for j in left) for i in overlapping or left}
        keys.append(max(new, key=lambda i: (new[i], -i)))
    return keys


def _newly_seen(visibility: Visibility, view: int, by: int, covered: torch.Tensor) -> float:
    """The share of a view's pixels that another one sees and that are not covered."""
    mask = visibility.masks.get((view, by))
    return 0.0 if mask is None else float((mask & ~covered).float().mean())


def plan_carrying(
    views: Sequence[SeenView], first: int | None = None, most_keys: int = 1, again: bool = False, at_once: int = 1
) -> list[PlannedEdit]:
    """The edits by which all views come to show the same.

    Args:
        views: All views of the dataset.
        first: The view to begin with; None: the one whose surfaces the others see most.
        most_keys: How many key views, at most.
        again: Whether key views are edited again, from all the others of them.
        at_once: How many views may be edited together: then none of them is carried from another.

    Returns:
        Every view at least once: the key views, these again, and then always the one that what is edited by then covers
        most.
    """
    visibility = Visibility(views)
    keys = choose_key_views(visibility, first, most_keys)
    plan = [PlannedEdit(view, visibility.sources(view, keys[:number])) for number, view in enumerate(keys)]
    if again and len(keys) > 1:
        plan += [PlannedEdit(view, visibility.sources(view, keys), again=True) for view in keys]
    edited, left = list(keys), [i for i in range(len(views)) if i not in keys]
    covered = {i: visibility.covered(i, edited) for i in left}
    while left:
        share = {i: float(covered[i].float().mean()) for i in left}
        first, *others = sorted(left, key=lambda i: (-share[i], i))[:at_once]
        together = [first, *(i for i in others if share[i] >= LEAST_OVERLAP)]
        plan += [PlannedEdit(view, visibility.sources(view, edited)) for view in together]
        edited += together
        left = [i for i in left if i not in together]
        for i in left:
            covered[i] |= visibility.covered(i, together)
    return plan


def independent(plan: Sequence[PlannedEdit], most: int, alone: int | None = None) -> list[PlannedEdit]:
    """The first edits of a plan that can be made together.

    Args:
        plan: What is left of it, at least one edit.
        most: How many edits, at most.
        alone: A view that is not edited with others.

    Returns:
        At least the first; none is carried from another of them, and a view is among them once.
    """
    found = [plan[0]]
    for planned in plan[1:most]:
        if planned.view == alone or not {planned.view, *planned.sources}.isdisjoint({edit.view for edit in found}):
            break
        found.append(planned)
    return found


def _neighbours(views: Sequence[SeenView]) -> list[list[int]]:
    positions = torch.tensor([view.camera.position.tolist() for view in views], dtype=torch.float64)
    distances = torch.cdist(positions, positions)
    return [row.argsort(stable=True)[: NEIGHBOURS + 1].tolist() for row in distances]
