"""Work in pieces, each of them whole: in this process, or on many workers (`ray_crew`), by the same code above.

    role = Role(".editing.crewed:EditingRole", {"editor": "miniature", …})
    with hiring.crew_for(role, cluster, workers, report) as crew:
        results = crew.do_all(pieces, report)

A role is a class that is made of plain data and does one piece after another. Pieces and results are plain data too:
numbers, texts, lists, dicts and numpy's arrays. What a piece gives must depend on the piece alone, so that it does not
matter which worker does it, how many there are, and whether it is done twice because one died.
"""

from __future__ import annotations

import importlib
import threading
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from ..scene.errors import Cancelled, In2nError
from ..scene.reporting import Artifact, Progress, Reporter

MOST_NEWS = 1000  # of one piece that nobody has asked for yet
DONE, ERROR, CANCELLED, BUG = "done", "error", "cancelled", "bug"

Ended = Callable[[int, object], None]  # piece's number, its result
Told = Callable[[int, object], None]  # piece's number, what its Reporter was told


@dataclass(frozen=True)
class Role:
    """What each worker of a crew is.

    Attributes:
        place: The class, ".module below the engine:name". Called with the arguments it gives an object whose
            `do(piece, report)` does a piece.
        arguments: Plain data.
        needs_gpu: Whether a worker has a GPU of its own where the cluster has some.
    """

    place: str
    arguments: dict
    needs_gpu: bool = True

    def load(self) -> object:
        """The role's object.

        Raises:
            In2nError: What its class raises.
        """
        module, name = self.place.split(":")
        return getattr(importlib.import_module(module, __package__), name)(**self.arguments)


class Crew(ABC):
    """Workers of one role.

    Attributes:
        workers: How many there are.
    """

    workers: int = 1

    @abstractmethod
    def do_all(
        self,
        pieces: Sequence[dict],
        report: Reporter,
        *,
        ended: Ended | None = None,
        told: Told | None = None,
        after: Mapping[int, Collection[int]] | None = None,
    ) -> list:
        """Do pieces of work.

        Args:
            pieces: Plain data each.
            report: Asked whether the job was cancelled, and told in a line what happens to workers.
            ended: Called as pieces end, in any order.
            told: Called with what pieces report: Progress, Artifact, and lines of text.
            after: Piece -> those that must have ended before it begins, all of lower numbers.

        Returns:
            What the pieces gave, in their order.

        Raises:
            In2nError: What a piece raised; "worker_died" where one ended several workers.
            Cancelled: Within a second or two, whatever the workers are doing.
            RuntimeError: A piece raised what no user can mend; the text has its traceback.
        """

    @abstractmethod
    def close(self) -> None:
        """Let the workers go."""


class InThisProcess(Crew):
    """One worker, which is this process.

    Args:
        role: What it is.
    """

    def __init__(self, role: Role):
        self._role, self._loaded = role, None

    def do_all(self, pieces, report, *, ended=None, told=None, after=None) -> list:
        results = []
        for number, piece in enumerate(pieces):
            report.check()
            self._loaded = self._loaded or self._role.load()
            emit = (lambda event, number=number: told(number, event)) if told else lambda event: None
            results.append(self._loaded.do(piece, Reporter(emit, report.is_cancelled)))
            if ended:
                ended(number, results[-1])
        return results

    def close(self) -> None:
        self._loaded = None


class Seat:
    """A worker of a cluster, which is asked from elsewhere: everything that goes in or out is plain data.

    Args:
        place: As `Role.place`.
        arguments: As `Role.arguments`.
    """

    def __init__(self, place: str, arguments: dict):
        self._role, self._loaded = Role(place, arguments), None
        self._cancelled, self._news = threading.Event(), deque(maxlen=MOST_NEWS)

    def do(self, piece: dict) -> tuple[tuple, list[tuple]]:
        """Do a piece, while another thread may call the other methods.

        Args:
            piece: As the role takes it.

        Returns:
            What came of it: (DONE, result), (ERROR, code, message, hint), (CANCELLED,) or (BUG, traceback); and the
            last news.
        """
        self._cancelled.clear()
        return self._outcome(piece), self.news()

    def _outcome(self, piece: dict) -> tuple:
        try:
            self._loaded = self._loaded or self._role.load()
            return DONE, self._loaded.do(piece, Reporter(self._note, self._cancelled.is_set))
        except In2nError as error:
            return ERROR, error.code, error.message, error.hint
        except Cancelled:
            return (CANCELLED,)
        except Exception:
            return BUG, traceback.format_exc()

    def cancel(self) -> None:
        """Let the piece that is being done notice that it was cancelled."""
        self._cancelled.set()

    def news(self) -> list[tuple]:
        """What the piece reported since this was last asked for, as `event_of` reads it."""
        return [self._news.popleft() for _ in range(len(self._news))]

    def _note(self, event: object) -> None:
        if isinstance(event, (Progress, Artifact)):
            self._news.append((type(event).__name__, *vars(event).values()))
        else:
            self._news.append(("", str(event)))


def event_of(news: tuple) -> object:
    """What a Reporter was told.

    Args:
        news: One of `Seat.news`.

    Returns:
        A Progress, an Artifact or a line of text.
    """
    kinds = {"Progress": Progress, "Artifact": Artifact, "": str}
    return kinds[news[0]](*news[1:])


def result_of(outcome: tuple) -> object:
    """What a piece gave, or raised.

    Args:
        outcome: As `Seat.do` returns it.

    Returns:
        The piece's result.

    Raises:
        In2nError: As the piece.
        Cancelled: As the piece.
        RuntimeError: For what no user can mend.
    """
    kind, *rest = outcome
    if kind == ERROR:
        raise In2nError(*rest)
    if kind == CANCELLED:
        raise Cancelled()
    if kind == BUG:
        raise RuntimeError(f"A worker failed:\n{rest[0]}")
    return rest[0]
