"""Keeps a folder in step with its copy on another machine: only what changed travels, it is gone on with after a link
was lost, and what both sides have changed is kept twice."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ..scene.errors import In2nError
from ..scene.reporting import Reporter
from ..workspace.files import read_json, write_json
from ..workspace.hashes import file_hash, hash_of_bytes
from . import trees
from .connection import Connection
from .frames import PIECE
from .paths import TOLD, Places
from .trees import MEMORY, Arrival, Tree

MEGABYTE = 2**20
MOST_TRANSLATED = 16 * MEGABYTE  # bytes of a file whose paths are put in the other machine's words
# What is only pushed for jobs that read it; a workspace's results may be larger than all that they are made from.
RESULTS = {
    "renders": ("render", "summary"),
    "splats": (),
    "datasets": (),
    "meshes": ("summary",),
    "earlier": (),
    "full": (),
}


@dataclass(frozen=True)
class Steps:
    """What brings two folders into step. Each holds paths.

    Attributes:
        push: To be sent there.
        pull: To be fetched.
        keep: Of those that are pushed, what the other side has made of them meanwhile is fetched under another name.
        remove_there: To be removed there.
        remove_here: To be removed here.
    """

    push: tuple[str, ...]
    pull: tuple[str, ...]
    keep: tuple[str, ...]
    remove_there: tuple[str, ...]
    remove_here: tuple[str, ...]


def steps_between(here: Tree, there: Tree, known: dict[str, list[str]], after_job: bool) -> Steps:
    """What has to be done, by what changed on each side since they were in step.

    Args:
        here: This machine's files.
        there: The other one's.
        known: path -> (hash here, hash there) when they were last in step.
        after_job: Whether a job of ours has just ended there: what it removed is removed here, too. Else what is
            missing there is sent again, for a copy may be lost.

    Returns:
        The steps.
    """
    push, pull, keep, remove_there, remove_here = [], [], [], [], []
    for path in sorted({*here, *there}):
        was_here, was_there = known.get(path, (None, None))
        mine, other = (here.get(path, (0, None))[1], there.get(path, (0, None))[1])
        changed_here, changed_there = mine != was_here, other != was_there
        if mine == other:
            continue
        if mine is None:
            (pull if changed_there or not was_here else remove_there).append(path)
        elif other is None:
            gone = after_job and was_there is not None and not changed_here
            (remove_here if gone else push).append(path)
        elif changed_there and not changed_here:
            pull.append(path)
        elif changed_here:
            push.append(path)
            if changed_there:
                keep.append(path)
    return Steps(*map(tuple, (push, pull, keep, remove_there, remove_here)))


class Exchange:
    """A folder here and its copy on another machine.

    Args:
        connection: The link.
        root: The folder here.
        tree: The copy's name there.
        places: Paths of both machines.
    """

    def __init__(self, connection: Connection, root: Path, tree: str, places: Places):
        self._connection = connection
        self._root, self._tree, self._places = root, tree, places
        machine = hash_of_bytes([f"{connection.machine.host}\0{connection.machine.folder}".encode()])[:12]
        self._memory = root / MEMORY / f"{machine}.json"
        self._hashes = root / MEMORY / f"{machine}-hashes.json"

    def bring(self, method: str, report: Reporter) -> None:
        """Before a job: what is new here goes there, what an earlier job has made there comes here.

        Args:
            method: The job's, which says what it needs.
            report: Told of the progress, in megabytes.

        Raises:
            In2nError, LinkLost, Cancelled.
        """
        unread = tuple(f"{top}/" for top, methods in RESULTS.items() if method not in methods)
        self._into_step(report, lambda path: not path.startswith(unread), after_job=False)

    def fetch(self, report: Reporter) -> None:
        """After a job: what it made comes here, what it removed is removed.

        Args:
            report: Told of the progress, in megabytes.

        Raises:
            In2nError, LinkLost, Cancelled.
        """
        self._into_step(report, lambda path: False, after_job=True)

    def fetch_file(self, file: str, report: Reporter) -> None:
        """Fetch one file that a job has just written.

        Args:
            file: As it is called here, absolute.
            report: Asked whether the job was cancelled.

        Raises:
            In2nError, LinkLost, Cancelled.
        """
        path, known = Path(file).relative_to(self._root).as_posix(), self._recall()
        known[path] = self._pull(path, "", report)
        self._remember(known)

    def _into_step(self, report: Reporter, sent: Callable[[str], bool], after_job: bool) -> None:
        name = self._connection.machine.name
        report.progress(0, 0, "", f"Comparing with {name}")
        here = trees.tree_of(self._root, self._hashes, report.check)
        there = _tree_there(self._connection, self._tree, report)
        known = self._recall()
        steps = steps_between(here, there, known, after_job)
        push, keep = ([path for path in paths if sent(path)] for paths in (steps.push, steps.keep))
        total = sum(here[path][0] for path in push) + sum(there[path][0] for path in (*steps.pull, *keep))
        moving = _Moving(report, total)
        try:
            for path in keep:
                aside = f"earlier/from-{_plain(name)}/{path}"
                self._pull(path, there[path][1], moving.of(f"Fetching from {name}"), aside)
            for path in push:
                known[path] = [here[path][1], self._push(path, here[path], moving.of(f"Sending to {name}"))]
            for path in steps.pull:
                known[path] = self._pull(path, there[path][1], moving.of(f"Fetching from {name}"))
            remove_there = [path for path in steps.remove_there if sent(path)]
            self._connection.call("remove", tree=self._tree, paths=remove_there, check=report.check)
            for path in steps.remove_here:
                trees.remove(self._root, path)
            for path in (*remove_there, *steps.remove_here):
                known.pop(path, None)
            for path in here.keys() & there.keys():
                if here[path] == there[path]:
                    known[path] = [here[path][1], there[path][1]]
        finally:
            self._remember(known)

    def _recall(self) -> dict[str, list[str]]:
        try:
            files = read_json(self._memory)["files"]
            return {path: marks for path, marks in files.items() if isinstance(marks, list) and len(marks) == 2}
        except (In2nError, OSError, KeyError, TypeError, AttributeError):  # never in step with this machine, or damaged
            return {}

    def _remember(self, known: dict[str, list[str]]) -> None:
        write_json(self._memory, {"files": known}, durable=False)

    def _push(self, path: str, known: tuple[int, str], report: Reporter) -> str:
        """Send a file; returns its hash there."""
        return send_file(self._connection, self._root / path, self._tree, path, known, self._places, report)

    def _pull(self, path: str, mark: str, report: Reporter, aside: str = "") -> list[str]:
        return fetch_file(self._connection, self._root, self._tree, path, mark, self._places, report, aside)


class _Moving:
    """How much of all has moved."""

    def __init__(self, report: Reporter, total: int):
        self._report, self._total, self._done = report, total, 0

    def of(self, message: str) -> Reporter:
        """A report that takes bytes as progress."""
        moving = self

        class Bytes(Reporter):
            def progress(self, done, *_rest, **_more) -> None:
                moving._done += done
                total = max(moving._total, moving._done) // MEGABYTE
                moving._report.progress(moving._done // MEGABYTE, total, "MB", message)

        return Bytes(cancelled=_asks(self._report))


def _asks(report: Reporter):
    def cancelled() -> bool:
        report.check()
        return False

    return cancelled


def send_file(
    connection: Connection, file: Path, tree: str, path: str, known: tuple[int, str], places: Places, report: Reporter
) -> str:
    """Send a file of a folder to its copy.

    Args:
        connection: The link.
        file: The file here.
        tree: The copy's name there.
        path: Where in the copy.
        known: Its bytes and hash.
        places: Paths of both machines.
        report: Told of the bytes that have moved.

    Returns:
        The file's hash there, which is another where it names paths.

    Raises:
        In2nError, LinkLost, Cancelled.
    """
    size, mark = known
    data = None
    if path.endswith(TOLD) and size <= MOST_TRANSLATED:
        data = places.file_there(path, file.read_bytes())
        mark = hash_of_bytes([data])
    have = connection.call("put", tree=tree, path=path, hash=mark, check=report.check)["have"]
    for piece in _pieces(file, have) if data is None else _cut(data[have:]):
        report.progress(len(piece), 0, "", "")
        connection.tell("piece", piece)
    connection.call("placed", check=report.check)
    return mark


def fetch_file(
    connection: Connection,
    root: Path,
    tree: str,
    path: str,
    mark: str,
    places: Places,
    report: Reporter,
    aside: str = "",
) -> list[str]:
    """Fetch a file of a folder's copy.

    Args:
        connection: The link.
        root: The folder here.
        tree: The copy's name there.
        path: The file.
        mark: The hash that it is known to have; "": whatever it has.
        places: Paths of both machines.
        report: Told of the bytes that have moved.
        aside: Where to put it instead.

    Returns:
        Its hash here and there.

    Raises:
        In2nError, LinkLost, Cancelled.
    """
    arrivals: list[Arrival] = [Arrival(root, aside or path, mark)] if mark else []
    marks = [mark]

    def take(fields: dict, body: bytes) -> None:
        if fields["kind"] == "begins":
            marks[0] = fields["hash"]
            arrivals[:] = [Arrival(root, aside or path, marks[0])]
            arrivals[0].begin(fields["offset"])
        elif fields["kind"] == "piece":
            report.progress(len(body), 0, "", "")
            arrivals[0].take(body)

    have = arrivals[0].have if arrivals else 0
    connection.call("get", tree=tree, path=path, hash=mark, have=have, on_part=take, check=report.check)
    told = path.endswith(TOLD) and arrivals[0].have <= MOST_TRANSLATED
    here = arrivals[0].finish(functools.partial(places.file_here, path) if told else None)
    return [here, marks[0]]


@dataclass(frozen=True)
class Input:
    """What a job reads and that lies in no workspace.

    Attributes:
        root: The folder here.
        only: Its one file that is meant; "": all.
        tree: The copy's name there.
        folder: Where in the copy, for what is read may be called after its folder.
    """

    root: Path
    only: str
    tree: str
    folder: str

    def send(self, connection: Connection, memory: Path, report: Reporter) -> None:
        """Bring the copy into step.

        Args:
            connection: The link.
            memory: A file that remembers the hashes of the folder's files.
            report: Told of the progress, in megabytes.

        Raises:
            In2nError, LinkLost, Cancelled.
        """
        here = _one(self.root, self.only) if self.only else trees.tree_of(self.root, memory, report.check)
        there = _tree_there(connection, self.tree, report)
        known = {f"{self.folder}/{path}": (self.root / path, found) for path, found in here.items()}
        new = [path for path, (_, found) in known.items() if found != there.get(path)]
        moving = _Moving(report, sum(known[path][1][0] for path in new))
        for path in new:
            where = moving.of(f"Sending to {connection.machine.name}")
            send_file(connection, known[path][0], self.tree, path, known[path][1], Places(), where)
        gone = [path for path in there if path not in known]
        connection.call("remove", tree=self.tree, paths=gone, check=report.check)


def fetch_output(connection: Connection, root: Path, tree: str, places: Places, report: Reporter) -> None:
    """Fetch all that a job wrote outside of its workspace; there it goes.

    Args:
        connection: The link.
        root: The folder here.
        tree: Its copy's name there.
        places: Paths of both machines.
        report: Told of the progress, in megabytes.

    Raises:
        In2nError, LinkLost, Cancelled.
    """
    there = _tree_there(connection, tree, report)
    moving = _Moving(report, sum(size for size, _ in there.values()))
    for path, (_, mark) in there.items():
        where = moving.of(f"Fetching from {connection.machine.name}")
        fetch_file(connection, root, tree, path, mark, places, where)
    connection.call("remove", tree=tree, paths=list(there), check=report.check)


def _tree_there(connection: Connection, tree: str, report: Reporter) -> Tree:
    files = connection.call("tree", tree=tree, check=report.check)["files"]
    return {path: (size, mark) for path, (size, mark) in files.items()}


def _one(root: Path, name: str) -> Tree:
    file = root / name
    return {name: (file.stat().st_size, file_hash(file))}


def _pieces(file: Path, offset: int) -> Iterable[bytes]:
    with open(file, "rb") as stream:
        stream.seek(offset)
        yield from iter(lambda: stream.read(PIECE), b"")


def _cut(data: bytes) -> Iterable[bytes]:
    return (data[at : at + PIECE] for at in range(0, len(data), PIECE))


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)[:60] or "machine"
