"""Runs on the other machine, at the far end of the link: keeps copies of folders in step, installs the engine, and
links to the worker that a `keeper` holds.

What it is asked for and what it answers goes in `frames`. A frame with an "id" is answered by "done" or "failed" with
the same id; `piece` frames carry a file; `line` frames what the worker says.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from .. import environment
from ..link.process import clean_environment
from ..scene.errors import In2nError
from ..scene.reporting import Progress, Reporter
from ..workspace.files import disk_error_in, write_error
from ..workspace.hashes import file_hash
from . import trees
from .frames import PIECE, Frames
from .keeper import LOG, SOCKET

KEEPER = Path(__file__).with_name("keeper.py")
WORKER = KEEPER.parents[1] / "engine" / "worker.py"
TREES = re.compile(r"(workspaces|inputs|outputs)/[0-9a-f]{8,40}")
SESSION = re.compile(r"[0-9a-f]{8,40}")
VARIABLES = ("IN2N_OFFLINE", "HF_HUB_OFFLINE", "IN2N_ALLOW_DOWNLOAD")  # that are carried over
IDLE_SECONDS = 600.0
START_SECONDS = 20.0
UNUSED_SECONDS = 30 * 86_400.0


class Agent:
    """Answers one link.

    Args:
        frames: The link.
        folder: Of all that is ours on this machine.
    """

    def __init__(self, frames: Frames, folder: Path):
        self._frames = frames
        self._folder = folder
        self._arrival: trees.Arrival | None = None
        self._caller: tuple | None = None  # the socket of the worker that is linked to, and its stream
        self._calls = 0

    def serve(self) -> None:
        """Until the link ends."""
        while (frame := self._frames.receive()) is not None:
            fields, body = frame
            if fields["kind"] == "piece":
                self._take(body)
                continue
            try:
                answer = self._answers[fields["kind"]](self, fields, body)
                self._frames.send("done", id=fields.get("id"), **(answer or {}))
            except Exception as error:
                self._frames.send("failed", id=fields.get("id"), **_described(error))

    # -- what is asked for

    def _hello(self, fields: dict, body: bytes) -> dict:
        self._clear_programs()
        return {"folder": str(self._folder), "engine": self._condition()}

    def _tree(self, fields: dict, body: bytes) -> dict:
        root = self._root(fields)
        root.mkdir(parents=True, exist_ok=True)
        return {"files": trees.tree_of(root, root.parent / f"{root.name}.json")}

    def _put(self, fields: dict, body: bytes) -> dict:
        self._arrival = trees.Arrival(self._root(fields), fields["path"], fields["hash"])
        return {"have": self._arrival.have}

    def _take(self, piece: bytes) -> None:
        with suppress(OSError):  # a full disk is told when the file ought to be whole
            self._arrival.take(piece)

    def _placed(self, fields: dict, body: bytes) -> None:
        self._arrival.finish()

    def _get(self, fields: dict, body: bytes) -> None:
        file = trees.inside(self._root(fields), fields["path"])
        if file.is_symlink():
            raise In2nError("leads_out", f"{file} is a link.", "")
        with open(file, "rb") as stream:
            mark = file_hash(file)
            offset = fields.get("have", 0) if fields.get("hash") == mark else 0
            self._frames.send("begins", id=fields["id"], hash=mark, offset=offset)
            stream.seek(offset)
            for piece in iter(lambda: stream.read(PIECE), b""):
                self._frames.send("piece", piece, id=fields["id"])

    def _remove(self, fields: dict, body: bytes) -> None:
        for path in fields["paths"]:
            trees.remove(self._root(fields), path)

    def _install(self, fields: dict, body: bytes) -> dict:
        def tell(event) -> None:
            if isinstance(event, Progress):
                self._frames.send("progress", id=fields["id"], progress=vars(event))
            elif isinstance(event, str):
                self._frames.send("log", id=fields["id"], text=event)

        python = environment.install(("engine",), self._folder, report=Reporter(tell))
        return {"python": str(python)}

    def _start(self, fields: dict, body: bytes) -> dict:
        """Link to a session's worker, and start one where there is none."""
        session = self._session(fields)
        greeting = self._call(session)
        if greeting is None:
            self._keep(session, fields.get("variables") or {})
            deadline = time.monotonic() + START_SECONDS
            while (greeting := self._call(session)) is None:
                if time.monotonic() > deadline:
                    raise In2nError("worker_not_started", f"The engine did not start: {_last_line(session / LOG)}", "")
                time.sleep(0.1)
        return {**greeting, "call": self._calls}

    def _attach(self, fields: dict, body: bytes) -> None:
        """Begin to pass on what the worker says."""
        caller, heard = self._caller
        caller.sendall(b'{"from": %d}\n' % int(fields["from"]))
        told = (heard, self._session(fields), self._calls)
        threading.Thread(target=self._pass_on, args=told, daemon=True).start()

    def _say(self, fields: dict, body: bytes) -> None:
        self._caller[0].sendall(body)

    _answers = {
        "hello": _hello,
        "tree": _tree,
        "put": _put,
        "placed": _placed,
        "get": _get,
        "remove": _remove,
        "install": _install,
        "start": _start,
        "attach": _attach,
        "say": _say,
    }

    # -- how

    def _clear_programs(self) -> None:
        """Versions of this package that nobody has used for long."""
        ours = KEEPER.parents[2]
        with suppress(OSError):
            os.utime(ours)
            for program in (self._folder / "programs").iterdir():
                if program != ours and time.time() - program.stat().st_mtime > UNUSED_SECONDS:
                    shutil.rmtree(program, ignore_errors=True)

    def _root(self, fields: dict) -> Path:
        if not TREES.fullmatch(fields["tree"]):
            raise In2nError("bad_request", f"There is no folder “{fields['tree'][:80]}”.", "")
        return self._folder / fields["tree"]

    def _session(self, fields: dict) -> Path:
        if not SESSION.fullmatch(fields["session"]):
            raise In2nError("bad_request", f"There is no session “{fields['session'][:80]}”.", "")
        return self._folder / "sessions" / fields["session"]

    def _condition(self) -> str:
        if _other_python():
            return environment.READY
        try:
            return environment.condition(("engine",), self._folder)
        except In2nError as error:  # no engine for this Python
            return error.message

    def _call(self, session: Path) -> dict | None:
        """Reach a session's keeper; its greeting, or None where there is none."""
        session.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.chdir(session)  # a socket's path may not be long
        caller = socket.socket(socket.AF_UNIX)
        try:
            caller.settimeout(START_SECONDS)
            caller.connect(SOCKET)
            heard = caller.makefile("rb")
            greeting = json.loads(heard.readline())
            caller.settimeout(None)
        except (OSError, ValueError):
            caller.close()
            return None
        if self._caller is not None:
            with suppress(OSError):
                self._caller[0].shutdown(socket.SHUT_RDWR)
        self._caller = caller, heard
        self._calls += 1
        return greeting

    def _keep(self, session: Path, variables: dict) -> None:
        python = _other_python() or str(environment.plan(("engine",), self._folder).python)
        if not Path(python).exists():
            raise In2nError("no_engine_there", "The engine is not installed on this machine.", "")
        given = {name: str(variables[name]) for name in VARIABLES if name in variables}
        subprocess.Popen(
            [sys.executable, "-I", str(KEEPER), str(session), os.environ.get("IN2N_IDLE_SECONDS", str(IDLE_SECONDS))]
            + [python, "-I", "-X", "utf8", str(WORKER)],
            env={**clean_environment(), "IN2N_HOME": str(self._folder), **given},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _pass_on(self, heard, session: Path, call: int) -> None:
        with suppress(OSError, ValueError):
            for line in heard:
                self._frames.send("line", line, call=call)
        with suppress(OSError, ValueError):
            self._frames.send("ended", call=call, text=_last_line(session / LOG))


def _other_python() -> str:
    """As on any machine: the Python of an engine that was installed by hand."""
    return os.environ.get("IN2N_ENGINE_PYTHON", "")


def _last_line(log: Path) -> str:
    try:
        lines = log.read_bytes()[-10_000:].decode("utf-8", "replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1][:300] if lines else "it said nothing"


def mendable(error: Exception, place: str = ".") -> In2nError | None:
    """The In2nError behind what was raised on the way of keeping files in step.

    Args:
        error: What was raised.
        place: What could not be written, where the disk does not say.

    Returns:
        None for a mistake in the program.
    """
    if not isinstance(error, In2nError) and (said := disk_error_in(error)) is not None:
        error = write_error(Path(said.filename or place), said)
    return error if isinstance(error, In2nError) else None


def _described(error: Exception) -> dict:
    if (known := mendable(error)) is not None:
        return {"code": known.code, "message": known.message, "hint": known.hint}
    return {"code": "bug", "message": f"{type(error).__name__}: {error}", "hint": ""}


def main(folder: str) -> None:
    """Serve a link over stdin and stdout.

    Args:
        folder: Of all that is ours on this machine.
    """
    writing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what else is printed is no frame
    with suppress(OSError, ValueError):
        Agent(Frames(sys.stdin.buffer, writing), Path(folder).expanduser().absolute()).serve()
    os._exit(0)
