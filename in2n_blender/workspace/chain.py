"""The stages of a whole run, one after the other: which are asked for and which are done, whoever asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from ..scene.errors import In2nError
from .stages import Stages

Request = TypeVar("Request")

BATCH_RECORD = "batch.json"  # in a batch's folder: how each of its runs is
WAITING, DONE, FAILED, CANCELLED = "waiting", "done", "failed", "cancelled"  # how a run is
# What a stage is asked for with that says where or by whom it is done, and not what.
UNSAID = ("workspace", "camera_path", "cluster", "workers")


@dataclass(frozen=True)
class Stage:
    """A stage of a run, as plain data.

    Attributes:
        key: Its name in the stages' file, "edit snow"; the first word is the method.
        method: Of its request.
        params: Of its request.
        made: What is there when it is done.
        shared: Whether other runs have it, too.
        more: What else it depends on.
    """

    key: str
    method: str
    params: dict
    made: str
    shared: bool
    more: dict

    @property
    def settings(self) -> dict:
        """What its result depends on."""
        return {**{name: value for name, value in self.params.items() if name not in UNSAID}, **self.more}


def run_chain(
    chain: Iterable[Stage],
    shared: Stages,
    own: Stages,
    ask: Callable[[Stage], dict],
    done_before: Callable[[Stage], None] = lambda stage: None,
) -> bool:
    """Ask for the stages that are not done, and for those that follow one that was asked for. What runs share follows
    from what they share alone.

    Args:
        chain: In their order.
        shared: Where it stands how far those are that other runs have, too.
        own: Where it stands how far the others are; may be the same.
        ask: Does a stage, returns its result.
        done_before: Told of stages that were not asked for.

    Returns:
        Whether any was asked for.

    Raises:
        In2nError: As `Stages.run`.
        Cancelled: As `ask`.
    """
    called: list[Stage] = []
    for stage in chain:
        stages = shared if stage.shared else own
        more = {} if stages is shared else {"of": shared.behind}
        before = [other for other in called if other.shared or not stage.shared]
        there = Path(stage.made).exists() and not before
        work = lambda _restart, stage=stage: ask(stage)
        if stages.run(stage.key, {**stage.settings, **more}, work, lambda there=there: there):
            called.append(stage)
        else:
            done_before(stage)
    return bool(called)


def ask_for(request: Request, ask: Callable[[Request], dict], say: Callable[[str], None]) -> dict:
    """What a stage's request gives.

    A reconstruction that is made of something else than the earlier one leaves that aside; an edit of the same name
    takes its place.

    Args:
        request: The stage's.
        ask: request -> result.
        say: Told in a sentence where an edit is made again.

    Raises:
        In2nError: As `ask`.
        Cancelled: As `ask`.
    """
    try:
        return ask(request)
    except In2nError as error:
        if error.code != "edit_exists":
            raise
        say(f"{error.message} It is made again.")
        return ask(replace(request, restart=True))


def results_of(shared: Stages, own: Stages) -> dict[str, dict]:
    """What the stages gave, by their methods; a camera path gave nothing that is looked at.

    Args:
        shared: As for `run_chain`.
        own: Likewise.
    """
    done = {**shared.results, **own.results}
    return {key.split(" ")[0]: result for key, result in done.items() if not key.startswith("path")}
