"""What goes over the wire when all is well, and both sides that take in what came of it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

from in2n_blender.engine.worker import Worker
from in2n_blender.link import client
from in2n_blender.link import events as t
from in2n_blender.link.messages import PROTOCOL
from in2n_blender.link.process import lines_of
from in2n_blender.link.requests import REQUESTS, Edit
from in2n_blender.link.transitions import transition

GOOD_ANSWERS = [
    {"id": 0, "result": {"pid": 1, "protocol": PROTOCOL, "versions": {}}},
    {"id": 1, "result": {"a": 1}},
    {"id": 1, "error": {"code": -32000, "message": "m", "data": {"code": "x", "hint": "h", "traceback": "t"}}},
    {
        "method": "progress",
        "params": {"id": 1, "done": 1, "total": 2, "unit": "u", "message": "m", "seconds_left": None},
    },
    {"method": "artifact", "params": {"id": 1, "kind": "image", "path": "/x", "view": ""}},
    {"method": "log", "params": {"id": 1, "text": "t"}},
]
JOB = t.Job(1, "edit", (Edit(workspace="w", name="e", instruction="x"),), python="py")
WAITING = transition(t.State(), t.Submit(JOB))[0]
WORKING = transition(WAITING, t.Message(GOOD_ANSWERS[0]))[0]
STATES = [t.State(), WAITING, WORKING, transition(WORKING, t.Cancel(None, 0.0))[0]]


def _good_requests():
    needed = {"workspace": "/x", "source": "/y", "name": "e", "instruction": "make it snow", "camera_path": "/p"}
    needed |= {"edit": "e", "out": "/o", "cache": "/c", "photo": "000"}
    for method, request in REQUESTS.items():
        known = {name: value for name, value in needed.items() if name in request.__dataclass_fields__}
        yield {"jsonrpc": "2.0", "id": 5, "method": method, "params": request(**known).to_params()}
    yield {"id": 3, "method": "cancel", "params": {"id": 3}}


GOOD_REQUESTS = list(_good_requests())


def tell_client(state: t.State, message: object) -> t.State:
    """Let a client take in what a worker said, and use what it makes of it.

    Args:
        state: The client's.
        message: What JSON can hold.

    Returns:
        Its state afterwards.
    """
    state, effects = transition(state, t.Message(message))
    assert isinstance(state, t.State)
    for effect in effects:
        if isinstance(effect, t.Tell) and isinstance(effect.event, t.Reported):
            json.dumps(str(effect.event.event)).encode()
            str(effect.event.event).encode()  # a file or a terminal takes it
    return state


def read_answers(path: Path) -> None:
    """Let a client in each of STATES take in the lines of a file, as of a worker's output.

    Args:
        path: The file.
    """
    lines = [raw.decode("utf-8", "replace") for raw in lines_of(io.BytesIO(path.read_bytes()))]
    for state in STATES:
        process = object.__new__(client._Process)
        process._output = SimpleNamespace(get=lambda left=iter(lines): next(left, None))
        for message in process.drain():
            state = tell_client(state, message)


def read_requests(path: Path) -> None:
    """Let a worker take in the lines of a file, as of its input.

    Args:
        path: The file.
    """
    worker = Worker([], io.StringIO(), {method: lambda request, report: {} for method in REQUESTS})
    for line in lines_of(io.BytesIO(path.read_bytes())):
        before, worker._job = worker._answers.qsize(), None
        worker._receive(line)
        assert worker._answers.qsize() == before + 1 or worker._job is not None or b"cancel" in line


def write_lines(path: Path, messages: list) -> Path:
    """Write messages as they go over the wire.

    Args:
        path: The file.
        messages: JSON each.
    """
    path.write_text("".join(json.dumps(message) + "\n" for message in messages))
    return path
