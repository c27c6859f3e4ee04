"""Stands for a worker that runs on another machine: `python -I relay.py ADDRESS` speaks as a worker does over stdin and
stdout, so that the client knows no difference.

For each job it reaches the machine, brings the workspace and what the job reads into step, has the job done by the
worker there, passes on what that says with this machine's paths, and fetches the pictures as they are made and all else
when the job has ended. Where the link is lost the job goes on there; it is linked to again, or, by a later relay that
is asked for the same job, taken over.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:
    import importlib
    import importlib.util

    _folder = Path(__file__).resolve().parents[1]
    _spec = importlib.util.spec_from_file_location(
        "in2n_blender", _folder / "__init__.py", submodule_search_locations=[str(_folder)]
    )
    _package = importlib.util.module_from_spec(_spec)
    sys.modules["in2n_blender"] = _package
    _spec.loader.exec_module(_package)
    sys.exit(importlib.import_module("in2n_blender.remote.relay").main(sys.argv[1]))

import json
import os
import platform
import queue
import secrets
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field

from ..environment.home import home_folder
from ..link.messages import PROTOCOL
from ..link.process import lines_of
from ..scene.errors import Cancelled, In2nError
from ..scene.names import is_plain
from ..scene.reporting import Artifact, Progress, Reporter
from ..workspace.files import disk_error_in, write_error
from ..workspace.hashes import hash_of
from .agent import VARIABLES
from .connection import Connection, LinkLost
from .exchange import Exchange, Input, fetch_output
from .machines import Machine, machine_of
from .paths import Places

JOB_FAILED = -32000
AGAIN_SECONDS = (1, 2, 4, 8, 15)  # between two tries to link again
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


class Relay:
    """Answers one client.

    Args:
        machine: Where the worker runs.
        incoming: An iterable of lines of bytes.
        outgoing: A stream that texts are written to.
    """

    def __init__(self, machine: Machine, incoming, outgoing):
        self.machine = machine
        self.connection: Connection | None = None
        self.folder = ""  # there, of all that is ours
        self.worker: _Worker | None = None
        self.last = Progress(0, 0, "", "")  # that the worker told
        self._incoming, self._outgoing = incoming, outgoing
        self._writing = threading.Lock()
        self._jobs: queue.Queue[Job | None] = queue.Queue()
        self._job: Job | None = None

    def serve(self) -> None:
        """Until the end of the incoming lines."""
        threading.Thread(target=self._read, daemon=True).start()
        while (job := self._jobs.get()) is not None:
            self._answer(job)
        self._let_go()

    # -- the client

    def _read(self) -> None:
        with suppress(OSError, ValueError):
            for line in self._incoming:
                with suppress(ValueError, RecursionError):
                    self._receive(json.loads(line))
        if job := self._job:
            job.cancelled.set()
        self._jobs.put(None)

    def _receive(self, message: object) -> None:
        if not isinstance(message, dict):
            return
        id, method, params = message.get("id"), message.get("method"), message.get("params")
        params = params if isinstance(params, dict) else {}
        if method == "hello":
            self.send(
                {
                    "id": id,
                    "result": {"protocol": PROTOCOL, "pid": os.getpid(), "versions": {}, "machine": self.machine.name},
                }
            )
        elif method == "cancel":
            if (job := self._job) is not None and job.id == params.get("id"):
                job.cancelled.set()
        elif isinstance(method, str):
            self._job = Job(id, method, params)
            self._jobs.put(self._job)

    def send(self, message: dict) -> None:
        """Tell the client something."""
        with self._writing, suppress(OSError, ValueError):
            self._outgoing.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
            self._outgoing.flush()

    def _answer(self, job: Job) -> None:
        answer = self._outcome(job)
        self._job = None  # the client may ask for the next one as soon as it has this answer
        self.send({"id": job.id, **answer})

    def _outcome(self, job: Job) -> dict:
        try:
            return {"result": self._do(job)}
        except Cancelled:
            return _failure("Cancelled.", code="cancelled")
        except In2nError as error:
            return _failure(error.message, code=error.code, hint=error.hint)
        except Exception as error:
            if (said := disk_error_in(error)) is not None:
                mended = write_error(Path(said.filename or job.params.get("workspace") or "."), said)
                if isinstance(mended, In2nError):
                    return _failure(mended.message, code=mended.code, hint=mended.hint)
            text = "".join(traceback.format_exception(error))
            return _failure(f"{type(error).__name__}: {error}", code="bug", traceback=text)

    def _reporter(self, job: Job) -> Reporter:
        def emit(event: object) -> None:
            if isinstance(event, Progress):
                told = {key: getattr(event, key) for key in ("done", "total", "unit", "message", "seconds_left")}
                self.send({"method": "progress", "params": {"id": job.id, **told}})
            elif isinstance(event, Artifact):
                told = {"kind": event.kind, "path": event.path, "view": event.view}
                self.send({"method": "artifact", "params": {"id": job.id, **told}})
            else:
                self.send({"method": "log", "params": {"id": job.id, "text": str(event)}})

        return Reporter(emit, job.cancelled.is_set)

    # -- a job

    def _do(self, job: Job) -> dict:
        """Have a job done there, however often the link is lost."""
        errand, tries, self.last = _Errand(job, self._reporter(job)), 0, Progress(0, 0, "", "")
        while True:
            try:
                self._link(errand)
                tries = 0
                return errand.go(self)
            except LinkLost:
                self._close()
            except In2nError as error:
                if error.code != "no_machine" or not errand.reached:
                    raise
            except Cancelled:
                if not errand.answered:  # a file may still be on its way, and would have to come to its end
                    self._close()
                raise
            self._wait_for_link(errand, tries)
            tries += 1

    def _link(self, errand: _Errand) -> None:
        if self.connection is None:
            if not errand.asked:
                errand.report.progress(0, 0, "", f"Reaching {self.machine.name}")
            connection = Connection(self.machine, errand.report.check)
            self.folder = connection.call("hello", check=errand.report.check)["folder"]
            self.connection = connection
        errand.reached = True

    def _wait_for_link(self, errand: _Errand, tries: int) -> None:
        """Say that the link is lost, and wait a little."""
        last, goes_on = self.last, "; the job goes on there" if errand.asked else ""
        if tries == 0:
            errand.report.log(f"The link to {self.machine.name} was lost{goes_on}.")
        until = time.monotonic() + AGAIN_SECONDS[min(tries, len(AGAIN_SECONDS) - 1)]
        try:
            while time.monotonic() < until:
                errand.report.progress(last.done, last.total, last.unit, f"No link to {self.machine.name}{goes_on}")
                time.sleep(WAIT_SECONDS)
        except Cancelled:
            if errand.asked:
                errand.report.log(f"{self.machine.name} could not be told: it stops when it is reached again.")
            raise

    def _close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _let_go(self) -> None:
        """The client has gone: so does the worker there, unless it works on for whoever links to it next."""
        if self.connection is not None and self.worker is not None and self.worker.connection is self.connection:
            self.end_worker()
        self._close()

    def end_worker(self) -> None:
        """Let the worker there end, which works on nothing."""
        with suppress(LinkLost, In2nError):
            self.connection.call("say", b'{"in2n": "end"}\n')
        self.worker = None


@dataclass
class _Worker:
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


class _Errand:
    """One job on its way: what it is called there, and how far it has come.

    Args:
        job: What the client asks for.
        report: To the client.
    """

    def __init__(self, job: Job, report: Reporter):
        self.job, self.report = job, report
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

    def go(self, relay: Relay) -> dict:
        """Do what is left to be done. Raises LinkLost, to be called again then."""
        inputs = self._prepare(relay)
        if not self.asked:
            self._ask(relay, inputs)
        while self._answer is None:
            self._answer = self._follow(relay)
            if not self.asked:  # its worker is gone: the job is asked for again, and goes on from what it saved
                self._ask(relay, inputs)
        self._fetch(relay.connection)
        return self._result()

    # -- before

    def _prepare(self, relay: Relay) -> list[Input]:
        """Know what everything is called there; returns what the job reads outside of its workspace."""
        self._places, workspace = Places(), self.job.params.get("workspace")
        if workspace:
            root = Path(workspace)
            tree = f"workspaces/{_key(root)}"
            self._places.add(root, f"{relay.folder}/{tree}")
            self._exchange = Exchange(relay.connection, root, tree, self._places)
        self._place_output(relay.folder)
        return self._inputs(relay.folder)

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

    def _ask(self, relay: Relay, inputs: list[Input]) -> None:
        """Have the job begun there; one that already works on the same is taken over."""
        connection, params = relay.connection, self._places.there(self.job.params)
        running = self._meet(relay)
        if running and (running.get("method"), running.get("params")) == (self.job.method, params):
            self.job.number = running["id"]
            self.report.log(f"{relay.machine.name} works on it already.")
        else:
            if running:
                self._stop(running["id"], relay)
            for given in inputs:
                given.send(connection, home_folder() / "machines" / f"{_key(given.root)}.json", self.report)
            if self._exchange is not None:
                self._exchange.bring(self.job.method, self.report)
            line = {"jsonrpc": "2.0", "id": self.job.number, "method": self.job.method, "params": params}
            connection.call("say", json.dumps(line).encode() + b"\n", check=self.report.check)
        self.asked = True

    def _meet(self, relay: Relay) -> dict:
        """Be linked to the workspace's worker, started where there is none; returns the job that it has, or {}."""
        session = _key(Path(self.job.params.get("workspace") or "none"))
        worker = relay.worker
        if worker is not None and worker.connection is relay.connection:
            if worker.session != session:  # a machine's memory is not for two
                relay.end_worker()
            else:
                self._pass_over(relay)
                if relay.worker is not None:
                    return {}
        self.report.progress(0, 0, "", f"Starting the engine on {relay.machine.name}")
        greeting = self._call(relay, session)
        relay.worker = _Worker(session, greeting["mark"], greeting["lines"], relay.connection, greeting["call"])
        self._attach(relay)
        return greeting["job"] or {}

    def _call(self, relay: Relay, session: str) -> dict:
        variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
        return relay.connection.call("start", session=session, variables=variables, check=self.report.check)

    def _attach(self, relay: Relay) -> None:
        start = {"from": relay.worker.heard}
        relay.connection.call("attach", session=relay.worker.session, check=self.report.check, **start)

    def _pass_over(self, relay: Relay) -> None:
        """What the worker said after its last job; it may have ended since."""
        with suppress(In2nError):
            while not relay.connection.said.empty():
                self._next(relay)

    def _stop(self, number: int, relay: Relay) -> None:
        """End what a client that is gone has asked for: what it has saved stays there, and is fetched."""
        self.report.progress(0, 0, "", f"Stopping what {relay.machine.name} still works on")
        self._cancel(number, relay)
        while not _answers(self._next(relay), number):
            self.report.check()

    # -- meanwhile

    def _follow(self, relay: Relay) -> dict | None:
        """Pass on what the worker says until it answers; None where it is another one than was asked."""
        if relay.worker.connection is not relay.connection:
            greeting = self._call(relay, relay.worker.session)
            if greeting["mark"] != relay.worker.mark:
                self.asked = False
                return None
            relay.worker.connection, relay.worker.call = relay.connection, greeting["call"]
            self._attach(relay)
        told = False
        while True:
            if self.job.cancelled.is_set() and not told:
                told = True
                self._cancel(self.job.number, relay)
            message = self._next(relay)
            if _answers(message, self.job.number):
                return message
            if message is not None:
                self._pass_on(message, relay)

    def _next(self, relay: Relay) -> dict | None:
        """What the worker says next; None where it says nothing for a moment, or nothing that is known."""
        try:
            frame = relay.connection.said.get(timeout=WAIT_SECONDS)
        except queue.Empty:
            return None
        if frame is None:
            raise LinkLost
        fields, body = frame
        if relay.worker is None or fields.get("call") != relay.worker.call:
            return None
        if fields["kind"] == "ended":
            relay.worker = None
            raise In2nError(
                "worker_crashed",
                f"The engine on “{relay.machine.name}” stopped unexpectedly: {fields.get('text', '')}",
                "Start it again: it goes on from what was saved.",
            )
        relay.worker.heard += 1
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):
            return None
        return message if isinstance(message, dict) else None

    def _pass_on(self, message: dict, relay: Relay) -> None:
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
            relay.last = Progress(*known)
        relay.send({"method": message.get("method"), "params": params})

    def _cancel(self, number: int, relay: Relay) -> None:
        line = {"jsonrpc": "2.0", "method": "cancel", "params": {"id": number}}
        relay.connection.call("say", json.dumps(line).encode() + b"\n")

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


def _failure(message: str, **data) -> dict:
    return {"error": {"code": JOB_FAILED, "message": message, "data": data}}


def _answers(message: dict | None, number: int) -> bool:
    """Whether a message is the end of a job."""
    return message is not None and message.get("id") == number and "method" not in message


def _key(path: Path) -> str:
    """What a folder of this machine is called on others."""
    return hash_of([platform.node(), str(Path.home()), str(path)])[:20]


def main(address: str) -> int:
    """Stand for the worker of a machine over stdin and stdout.

    Args:
        address: As `Machine.address`.

    Returns:
        The exit status.
    """
    outgoing = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    Relay(machine_of(address), lines_of(sys.stdin.buffer), outgoing).serve()
    return 0
