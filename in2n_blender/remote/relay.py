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
import queue
import threading
import time
import traceback
from contextlib import suppress

from ..link.messages import PROTOCOL
from ..link.process import lines_of
from ..scene.errors import Cancelled, In2nError
from ..scene.reporting import Artifact, Progress, Reporter
from .agent import mendable
from .connection import LinkLost
from .errand import Errand, Job, Reached
from .machines import Machine, machine_of

JOB_FAILED = -32000
AGAIN_SECONDS = (1, 2, 4, 8, 15)  # between two tries to link again
WAIT_SECONDS = 0.2


class Relay:
    """Answers one client.

    Args:
        machine: Where the worker runs.
        incoming: An iterable of lines of bytes.
        outgoing: A stream that texts are written to.
    """

    def __init__(self, machine: Machine, incoming, outgoing):
        self._there = Reached(machine)
        self._incoming, self._outgoing = incoming, outgoing
        self._writing = threading.Lock()
        self._jobs: queue.Queue[Job | None] = queue.Queue()
        self._job: Job | None = None

    def serve(self) -> None:
        """Until the end of the incoming lines."""
        threading.Thread(target=self._read, daemon=True).start()
        while (job := self._jobs.get()) is not None:
            self._answer(job)
        self._there.end_worker()
        self._there.close()

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
            told = {"protocol": PROTOCOL, "pid": os.getpid(), "versions": {}, "machine": self._there.machine.name}
            self._send({"id": id, "result": told})
        elif method == "cancel":
            if (job := self._job) is not None and job.id == params.get("id"):
                job.cancelled.set()
        elif isinstance(method, str):
            self._job = Job(id, method, params)
            self._jobs.put(self._job)

    def _send(self, message: dict) -> None:
        with self._writing, suppress(OSError, ValueError):
            self._outgoing.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
            self._outgoing.flush()

    def _answer(self, job: Job) -> None:
        answer = self._outcome(job)
        self._job = None  # the client may ask for the next one as soon as it has this answer
        self._send({"id": job.id, **answer})

    def _outcome(self, job: Job) -> dict:
        try:
            return {"result": self._do(job)}
        except Cancelled:
            return _failure("Cancelled.", code="cancelled")
        except Exception as error:
            if (known := mendable(error, job.params.get("workspace") or ".")) is not None:
                return _failure(known.message, code=known.code, hint=known.hint)
            text = "".join(traceback.format_exception(error))
            return _failure(f"{type(error).__name__}: {error}", code="bug", traceback=text)

    def _reporter(self, job: Job) -> Reporter:
        def emit(event: object) -> None:
            if isinstance(event, Progress):
                told = {key: getattr(event, key) for key in ("done", "total", "unit", "message", "seconds_left")}
                self._send({"method": "progress", "params": {"id": job.id, **told}})
            elif isinstance(event, Artifact):
                told = {"kind": event.kind, "path": event.path, "view": event.view}
                self._send({"method": "artifact", "params": {"id": job.id, **told}})
            else:
                self._send({"method": "log", "params": {"id": job.id, "text": str(event)}})

        return Reporter(emit, job.cancelled.is_set)

    # -- a job

    def _do(self, job: Job) -> dict:
        """Have a job done there, however often the link is lost."""
        errand, tries = Errand(job, self._reporter(job), self._send), 0
        self._there.last = Progress(0, 0, "", "")
        while True:
            try:
                if self._there.connection is None and not errand.asked:
                    errand.report.progress(0, 0, "", f"Reaching {self._there.machine.name}")
                self._there.link(errand.report.check)
                errand.reached, tries = True, 0
                return errand.go(self._there)
            except LinkLost:
                self._there.close()
            except In2nError as error:
                if error.code != "no_machine" or not errand.reached:
                    raise
            except Cancelled:
                if not errand.answered:  # a file may still be on its way, and would have to come to its end
                    self._there.close()
                raise
            self._wait_for_link(errand, tries)
            tries += 1

    def _wait_for_link(self, errand: Errand, tries: int) -> None:
        """Say that the link is lost, and wait a little."""
        last, name = self._there.last, self._there.machine.name
        goes_on = "; the job goes on there" if errand.asked else ""
        if tries == 0:
            errand.report.log(f"The link to {name} was lost{goes_on}.")
        until = time.monotonic() + AGAIN_SECONDS[min(tries, len(AGAIN_SECONDS) - 1)]
        try:
            while time.monotonic() < until:
                errand.report.progress(last.done, last.total, last.unit, f"No link to {name}{goes_on}")
                time.sleep(WAIT_SECONDS)
        except Cancelled:
            if errand.asked:
                errand.report.log(f"{name} could not be told: it stops when it is reached again.")
            raise


def _failure(message: str, **data) -> dict:
    return {"error": {"code": JOB_FAILED, "message": message, "data": data}}


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
