"""What goes over the pipe: JSON-RPC 2.0, one object a line.

A request has a method of `link.requests` and its fields as params; the worker answers with a result (an object) or an
error {"code", "message", "data": {"code", "hint", "traceback"}}. While a job runs the worker sends notifications:
`progress` (done, total, unit, message, seconds_left), `artifact` (kind, path, view) and `log` (text). `hello` is
answered at once with the worker's process id, versions and PROTOCOL; `cancel` names the request to cancel.

The other side may be of another version or broken, so `understand` takes any object and never raises.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..scene.errors import Cancelled, In2nError
from ..scene.reporting import Artifact, Progress

PROTOCOL = 2
HELLO_ID = 0  # of the client's hello; jobs count from 1
MOST_TEXT = 100_000  # characters of one text that are kept


class EngineBug(Exception):
    """A mistake in the engine.

    Args:
        message: What went wrong.
        traceback: The worker's.
    """

    def __init__(self, message: str, traceback: str = ""):
        super().__init__(message)
        self.traceback = traceback

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.traceback}".rstrip()


@dataclass(frozen=True)
class Hello:
    """The worker's first answer."""

    info: dict = field(hash=False)

    @property
    def fits(self) -> bool:
        """Whether both sides speak the same protocol."""
        return self.info.get("protocol") == PROTOCOL


@dataclass(frozen=True)
class Report:
    """Progress, Artifact or str (a log line) of a job."""

    job: int
    event: object


@dataclass(frozen=True)
class Result:
    job: int
    result: dict = field(hash=False)


@dataclass(frozen=True)
class Failure:
    """error: In2nError, Cancelled or EngineBug."""

    job: int
    error: Exception


def understand(message: object) -> Hello | Report | Result | Failure | None:
    """What an object from the worker says; None where it says nothing that is known."""
    if not isinstance(message, dict):
        return None
    if "method" in message:
        return _report(message)
    id = message.get("id")
    if not _is_id(id):
        return None
    if id == HELLO_ID:
        info = message.get("result")
        return Hello(info if isinstance(info, dict) else {})
    if "error" in message:
        return Failure(id, _error(message["error"]))
    result = message.get("result")
    if not isinstance(result, dict):
        return Failure(id, EngineBug(f"The engine answered with no result: {result!r:.200}"))
    return Result(id, result)


def _report(message: dict) -> Report | None:
    params = message.get("params")
    if not isinstance(params, dict) or not _is_id(params.get("id")):
        return None
    method, event = message["method"], None
    if method == "progress":
        event = _progress(params)
    elif method == "artifact":
        event = Artifact(*(_text(params.get(key)) for key in ("kind", "path", "view")))
    elif method == "log":
        event = _text(params.get("text"))
    return None if event is None else Report(params["id"], event)


def _progress(params: dict) -> Progress | None:
    done, total, left = (params.get(key) for key in ("done", "total", "seconds_left"))
    if not (_is_number(done) and _is_number(total)):
        return None
    left = float(left) if _is_number(left) else None
    return Progress(int(done), int(total), _text(params.get("unit")), _text(params.get("message")), left)


def _error(error: object) -> Exception:
    error = error if isinstance(error, dict) else {}
    data = error.get("data") if isinstance(error.get("data"), dict) else {}
    code, message = data.get("code"), _text(error.get("message")) or "The engine failed without a word."
    if code == "cancelled":
        return Cancelled()
    if not isinstance(code, str) or code == "bug":
        return EngineBug(message, _text(data.get("traceback")))
    return In2nError(code, message, _text(data.get("hint")))


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < 2**53 if isinstance(value, int) else math.isfinite(value)


def _text(value: object) -> str:
    """Not without end, and without half characters, which no file and no terminal takes."""
    return value[:MOST_TEXT].encode("utf-8", "replace").decode() if isinstance(value, str) else ""
