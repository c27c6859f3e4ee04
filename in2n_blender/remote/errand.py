"""One job on its way to another machine and back: what it is called there, what it reads, and how far it has come."""

from __future__ import annotations

import json
import os
import platform
import queue
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..environment.home import home_folder
from ..scene.errors import Cancelled, In2nError
from ..scene.names import is_plain
from ..scene.reporting import Progress, Reporter
from ..workspace.hashes import hash_of
from .agent import VARIABLES
from .connection import Connection, LinkLost
from .exchange import Exchange, Input, fetch_output
from .machines import Machine
from .paths import Places

FETCH_SECONDS = 1.0  # that what a cancelled job has made gets to come here
WAIT_SECONDS = 0.2
SEEN = ("image", "frame", "cameras")  # what is looked at while a job works; a checkpoint would hold its news up
WHOLE = (".zip", ".r3d", ".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")  # captures that are one file


@dataclass
class Job:
    """What the client asks for.

    Attributes:
        id: The client's.
        method: What is to be done.
        params: How.
        cancelled: Whether it was cancelled.
        number: The job's id there.
    """

    id: object
    method: str
    params: dict
    cancelled: threading.Event = field(default_factory=threading.Event)
    number: int = field(default_factory=lambda: secrets.randbits(48))


@dataclass
class Worker:
    """The worker there.

    Attributes:
        session: What it is found by.
        mark: Tells it from others that were found so.
        heard: How many of its lines have been heard.
        connection: The link that it is heard by.
        call: What marks its lines among those of the link.
    """

    session: str
    mark: str
    heard: int
    connection: Connection
    call: int


@dataclass
class Reached:
    """A machine, and the link to it.

    Attributes:
        machine: Which one.
        connection: The link; None: there is none.
        folder: There, of all that is ours.
        worker: That was linked to last.
        last: What that told last of how far it is.
    """

    machine: Machine
    connection: Connection | None = None
    folder: str = ""
    worker: Worker | None = None
    last: Progress = Progress(0, 0, "", "")

    def link(self, check: Callable[[], None]) -> None:
        """Reach the machine, where there is no link to it.

        Args:
            check: Called while it waits; may raise.

        Raises:
            In2nError: As `Connection`.
            LinkLost.
        """
        if self.connection is not None:
            return
        connection = Connection(self.machine, check)
        try:
            self.folder = connection.call("hello", check=check)["folder"]
        except BaseException:
            connection.close()
            raise
        self.connection = connection

    def close(self) -> None:
        """End the link; what runs there goes on."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def end_worker(self) -> None:
        """Let the worker there end, where one is linked to."""
        if self.connection is not None and self.worker is not None and self.worker.connection is self.connection:
            with suppress(LinkLost, In2nError):
                self.connection.call("say", b'{"in2n": "end"}\n')
        self.worker = None


class Errand:
    """One job on its way: what it is called there, and how far it has come.

    Args:
        job: What the client asks for.
        report: To the client.
        send: Passes a message on to the client.
    """

    def __init__(self, job: Job, report: Reporter, send: Callable[[dict], None]):
        self.job, self.report, self._send = job, report, send
        self.reached = False  # whether the machine was, once
        self.asked = False  # whether the job has been asked for there
        self._places = Places()
        self._exchange: Exchange | None = None
        self._output: tuple[Path, str] | None = None
        self._answer: dict | None = None

    @property
    def answered(self) -> bool:
        """Whether the job has ended there."""
        return self._answer is not None

    def go(self, there: Reached) -> dict:
        """Do what is left to be done. Raises LinkLost, to be called again then."""
        inputs = self._prepare(there)
        if not self.asked:
            self._ask(there, inputs)
        while self._answer is None:
            self._answer = self._follow(there)
            if not self.asked:  # its worker is gone: the job is asked for again, and goes on from what it saved
                self._ask(there, inputs)
        self._fetch(there.connection)
        return self._result()

    # -- before

    def _prepare(self, there: Reached) -> list[Input]:
        """Know what everything is called there; returns what the job reads outside of its workspace."""
        self._places, workspace = Places(), self.job.params.get("workspace")
        if workspace:
            root = Path(workspace)
            tree = f"workspaces/{_key(root)}"
            self._places.add(root, f"{there.folder}/{tree}")
            self._exchange = Exchange(there.connection, root, tree, self._places)
        self._place_output(there.folder)
        return self._inputs(there.folder)

    def _place_output(self, folder: str) -> None:
        """A file or folder that is to be written outside of the workspace."""
        out = self.job.params.get("out")
        if isinstance(out, str) and self._places.there(out) == out and Path(out).is_absolute():
            root = Path(out).parent
            tree = f"outputs/{_key(Path(out))}"
            self._places.add(root, f"{folder}/{tree}")
            self._output = root, tree

    def _inputs(self, folder: str) -> list[Input]:
        """What the job reads and that lies outside of the workspace."""
        found = []
        for name, value in self.job.params.items():
            if not isinstance(value, str) or name in ("workspace", "out") or not os.path.isabs(value):
                continue
            path = Path(value)
            if self._places.there(value) != value or not path.exists():
                continue
            root, only = path, ""
            if path.is_file():
                root, only = path.parent, path.name
                if name == "source" and path.suffix.lower() not in WHOLE:
                    only = ""  # a file of cameras lies beside its photos
            if name == "source" and "sparse" in root.parts:  # COLMAP's model lies below the folder of its images
                root = Path(*root.parts[: root.parts.index("sparse")])
            given = Input(root, only, f"inputs/{_key(root)}", root.name if is_plain(root.name) else "capture")
            self._places.add(root, f"{folder}/{given.tree}/{given.folder}")
            found.append(given)
        return found

    def _ask(self, there: Reached, inputs: list[Input]) -> None:
        """Have the job begun there; one that already works on the same is taken over."""
        connection, params = there.connection, self._places.there(self.job.params)
        running = self._meet(there)
        if running and (running.get("method"), running.get("params")) == (self.job.method, params):
            self.job.number = running["id"]
            self.report.log(f"{there.machine.name} works on it already.")
        else:
            if running:
                self._stop(running["id"], there)
            for given in inputs:
                given.send(connection, home_folder() / "machines" / f"{_key(given.root)}.json", self.report)
            if self._exchange is not None:
                self._exchange.bring(self.job.method, self.report)
            line = {"jsonrpc": "2.0", "id": self.job.number, "method": self.job.method, "params": params}
            connection.call("say", json.dumps(line).encode() + b"\n", check=self.report.check)
        self.asked = True

    def _meet(self, there: Reached) -> dict:
        """Be linked to the workspace's worker, started where there is none; returns the job that it has, or {}."""
        session = _key(Path(self.job.params.get("workspace") or "none"))
        worker = there.worker
        if worker is not None and worker.connection is there.connection:
            if worker.session != session:  # a machine's memory is not for two
                there.end_worker()
            else:
                self._pass_over(there)
                if there.worker is not None:
                    return {}
        self.report.progress(0, 0, "", f"Starting the engine on {there.machine.name}")
        greeting = self._call(there, session)
        there.worker = Worker(session, greeting["mark"], greeting["lines"], there.connection, greeting["call"])
        self._attach(there)
        return greeting["job"] or {}

    def _call(self, there: Reached, session: str) -> dict:
        variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
        return there.connection.call("start", session=session, variables=variables, check=self.report.check)

    def _attach(self, there: Reached) -> None:
        start = {"from": there.worker.heard}
        there.connection.call("attach", session=there.worker.session, check=self.report.check, **start)

    def _pass_over(self, there: Reached) -> None:
        """What the worker said after its last job; it may have ended since."""
        with suppress(In2nError):
            while not there.connection.said.empty():
                self._next(there)

    def _stop(self, number: int, there: Reached) -> None:
        """End what a client that is gone has asked for: what it has saved stays there, and is fetched."""
        self.report.progress(0, 0, "", f"Stopping what {there.machine.name} still works on")
        self._cancel(number, there)
        while not _answers(self._next(there), number):
            self.report.check()

    # -- meanwhile

    def _follow(self, there: Reached) -> dict | None:
        """Pass on what the worker says until it answers; None where it is another one than was asked."""
        if there.worker.connection is not there.connection:
            greeting = self._call(there, there.worker.session)
            if greeting["mark"] != there.worker.mark:
                self.asked = False
                return None
            there.worker.connection, there.worker.call = there.connection, greeting["call"]
            self._attach(there)
        told = False
        while True:
            if self.job.cancelled.is_set() and not told:
                told = True
                self._cancel(self.job.number, there)
            message = self._next(there)
            if _answers(message, self.job.number):
                return message
            if message is not None:
                self._pass_on(message, there)

    def _next(self, there: Reached) -> dict | None:
        """What the worker says next; None where it says nothing for a moment, or nothing that is known."""
        try:
            frame = there.connection.said.get(timeout=WAIT_SECONDS)
        except queue.Empty:
            return None
        if frame is None:
            raise LinkLost
        fields, body = frame
        if there.worker is None or fields.get("call") != there.worker.call:
            return None
        if fields["kind"] == "ended":
            there.worker = None
            raise In2nError(
                "worker_crashed",
                f"The engine on “{there.machine.name}” stopped unexpectedly: {fields.get('text', '')}",
                "Start it again: it goes on from what was saved.",
            )
        there.worker.heard += 1
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):
            return None
        return message if isinstance(message, dict) else None

    def _pass_on(self, message: dict, there: Reached) -> None:
        params = message.get("params")
        if not isinstance(params, dict) or params.get("id") != self.job.number:
            return
        params = {**self._places.here(params), "id": self.job.id}
        is_seen = message.get("method") == "artifact" and params.get("kind") in SEEN
        if is_seen and self._exchange is not None:
            with suppress(In2nError, ValueError):  # written anew meanwhile, or not in the workspace: fetched at the end
                self._exchange.fetch_file(str(params.get("path", "")), Reporter())
        if message.get("method") == "progress":
            known = (params.get(key) for key in ("done", "total", "unit", "message", "seconds_left"))
            there.last = Progress(*known)
        self._send({"method": message.get("method"), "params": params})

    def _cancel(self, number: int, there: Reached) -> None:
        line = {"jsonrpc": "2.0", "method": "cancel", "params": {"id": number}}
        there.connection.call("say", json.dumps(line).encode() + b"\n")

    # -- afterwards

    def _fetch(self, connection: Connection) -> None:
        """What was made comes here. Of a job that was cancelled only what comes at once: the rest is there when it is
        gone on with."""
        until = time.monotonic() + FETCH_SECONDS

        def is_late() -> bool:
            return self.job.cancelled.is_set() and time.monotonic() > until

        report = Reporter(self.report._emit, is_late)
        if self._exchange is not None:
            self._exchange.fetch(report)
        if self._output is not None:
            fetch_output(connection, *self._output, self._places, report)

    def _result(self) -> dict:
        answer = self._places.here(self._answer)
        if "error" not in answer:
            return answer["result"]
        error, data = answer["error"], answer["error"].get("data", {})
        if data.get("code") == "cancelled":
            raise Cancelled
        if data.get("code") in (None, "bug"):
            raise RuntimeError(data.get("traceback") or error.get("message"))
        raise In2nError(data["code"], error.get("message", ""), data.get("hint", ""))


def _answers(message: dict | None, number: int) -> bool:
    """Whether a message is the end of a job."""
    return message is not None and message.get("id") == number and "method" not in message


def _key(path: Path) -> str:
    """What a folder of this machine is called on others."""
    return hash_of([platform.node(), str(Path.home()), str(path)])[:20]
