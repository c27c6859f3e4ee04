"""Several edits in one batch of the network, which a GPU computes in little more time than one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from ..device import free_memory, is_out_of_memory

Result = TypeVar("Result")


@dataclass(frozen=True)
class AskedEdit:
    """An edit of a picture of a view, to be conditioned on the view's original photo.

    Attributes:
        view: Of the dataset.
        start: (height, width, 3) sRGB in [0, 1], noised to `level`.
        level: In (0, 1].
        draw: Which noise of the view's.
    """

    view: int
    start: torch.Tensor
    level: float
    draw: int


Edits = Sequence[torch.Tensor]
EditAll = Callable[[Sequence[AskedEdit]], Edits]


class Batches:
    """How many edits fit into a batch. A batch that takes more memory than there is is halved, and so are later ones.

    Args:
        at_once: Edits of a batch, at most.
        log: Called with one sentence where a batch is halved.
    """

    def __init__(self, at_once: int, log: Callable[[str], None] = lambda text: None):
        self.at_once, self._log = max(1, at_once), log

    def split(
        self, asked: Sequence[AskedEdit], kind: Callable[[AskedEdit], Hashable] = lambda one: None
    ) -> list[list[int]]:
        """The batches, which are the same however many there are to make them.

        Args:
            asked: In any sizes.
            kind: Of an edit; those of one size and kind are together.

        Returns:
            The numbers of the edits of each batch.
        """
        alike = _alike([(tuple(one.start.shape), kind(one)) for one in asked])
        return [group[at : at + self.at_once] for group in alike for at in range(0, len(group), self.at_once)]

    def run(
        self, asked: Sequence[AskedEdit], edit: EditAll, kind: Callable[[AskedEdit], Hashable] = lambda one: None
    ) -> list[torch.Tensor]:
        """All edits, those of one size and kind together.

        Args:
            asked: In any sizes.
            edit: A batch of edits of one size and kind.
            kind: Of an edit.

        Returns:
            (height, width, 3) sRGB each, in the order of `asked`.

        Raises:
            torch.OutOfMemoryError: One edit alone takes more than there is.
        """
        found: dict[int, torch.Tensor] = {}
        waiting = _alike([(tuple(one.start.shape), kind(one)) for one in asked])
        while waiting:
            numbers = waiting[0][: self.at_once]
            try:
                edited = edit([asked[number] for number in numbers])
            except Exception as error:
                if len(numbers) == 1 or not is_out_of_memory(error):
                    raise
                edited = None
            if edited is None:  # outside of the handler, which keeps the failed batch's tensors alive
                self.at_once = len(numbers) // 2
                free_memory("cuda" if torch.cuda.is_available() else "cpu")
                views = f"{self.at_once} views are" if self.at_once > 1 else "one view is"
                self._log(f"Memory ended: from now on {views} edited at once.")
                continue
            found.update(zip(numbers, edited))
            waiting[:1] = [waiting[0][len(numbers) :]] if len(waiting[0]) > len(numbers) else []
        return [found[number] for number in range(len(asked))]


def run_together(works: Sequence[Generator[AskedEdit, torch.Tensor, Result]], edit: EditAll) -> list[Result]:
    """Several works, each of which asks for one edit after another: what they ask for at one time is one batch.

    Args:
        works: Each yields the edits that it needs, and is sent them.
        edit: Makes edits.

    Returns:
        What each work returned.
    """
    results: dict[int, Result] = {}
    answers: dict[int, torch.Tensor | None] = dict.fromkeys(range(len(works)))
    while answers:
        asked: dict[int, AskedEdit] = {}
        for number, answer in answers.items():
            try:
                asked[number] = works[number].send(answer)
            except StopIteration as ended:
                results[number] = ended.value
        answers = dict(zip(asked, edit(list(asked.values())))) if asked else {}
    return [results[number] for number in range(len(works))]


def _alike(values: Sequence[Hashable]) -> list[list[int]]:
    """The numbers of equal values together, in the order of their first ones."""
    return [[number for number, other in enumerate(values) if other == value] for value in dict.fromkeys(values)]
