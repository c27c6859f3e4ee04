"""The near end of a link to another machine: reaches it, brings this package there, asks its agent."""

from __future__ import annotations

import functools
import io
import json
import queue
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..link.process import LONGEST_LINE, clean_environment, end, spawn
from ..scene.errors import In2nError
from ..workspace.hashes import hash_of_bytes
from .frames import BrokenFrame, Frames
from .machines import Machine, ssh_command, why_not_reached

PACKAGE = Path(__file__).resolve().parents[1]
LEFT_OUT = {"__pycache__", "demo_capture", "blender"}  # of the package: what no engine needs
MARK = "in2n link"
WAIT_SECONDS = 0.1
LONGEST_START = 120.0  # seconds that the package may take to arrive and to start

# Runs there first: takes the package, where this version of it is not there yet, and becomes its agent.
_BOOT = """
import io, json, os, sys, tarfile
folder, version, mark = os.path.expanduser(sys.argv[1]), sys.argv[2], sys.argv[3]
place = os.path.join(folder, "programs", version)
there = os.path.isdir(place)
sys.stdout.buffer.write(json.dumps({mark: there}).encode() + b"\\n"); sys.stdout.buffer.flush()
if not there:
    data = sys.stdin.buffer.read(int(sys.stdin.buffer.readline()))
    arriving = place + ".writing-%d" % os.getpid()
    with tarfile.open(fileobj=io.BytesIO(data)) as packed:
        packed.extractall(arriving, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    try: os.rename(arriving, place)
    except OSError:
        if not os.path.isdir(place): raise
sys.path.insert(0, place)
from in2n_blender.remote.agent import main
main(folder)
"""


class LinkLost(Exception):
    """The machine does not answer any more; what it was told to do it goes on with."""


class Connection:
    """A link to another machine, until it is lost or closed.

    Args:
        machine: Which one.
        check: Called while it waits; may raise.

    Raises:
        In2nError: "bad_machine", "no_ssh", and those of `why_not_reached`.
    """

    def __init__(self, machine: Machine, check: Callable[[], None] = lambda: None):
        self.machine = machine
        self.said: queue.SimpleQueue = queue.SimpleQueue()  # (fields, bytes) of what no call asked for; None: lost
        self._answers: dict[int, queue.SimpleQueue] = {}
        self._number = 0
        self._errors: list[str] = []
        package, version = _packed()
        command = ssh_command(machine, _BOOT, machine.folder, version, MARK)
        try:
            self._process = spawn(command, env=clean_environment(), stdin=True, merge=False)
        except OSError as error:
            raise In2nError("no_ssh", f"ssh could not be started ({error.strerror}).", "Install OpenSSH.") from error
        self._hearing = threading.Thread(target=self._hear, daemon=True)
        self._hearing.start()
        self._frames = Frames(self._process.stdout, self._process.stdin)
        try:
            self._begin(package, check)
        except BaseException:
            self.close()
            raise
        threading.Thread(target=self._read, daemon=True).start()

    def call(
        self,
        kind: str,
        body: bytes = b"",
        on_part: Callable[[dict, bytes], None] = lambda fields, body: None,
        check: Callable[[], None] = lambda: None,
        **fields,
    ) -> dict:
        """Ask the agent for something and wait for its answer.

        Args:
            kind: What.
            body: Bytes that go with it.
            on_part: Told of what comes before the answer.
            check: Called while it waits; may raise.
            **fields: What else the agent needs to know.

        Returns:
            The answer.

        Raises:
            In2nError: What the agent says is wrong.
            LinkLost.
        """
        self._number += 1
        answers = self._answers[number := self._number] = queue.SimpleQueue()
        try:
            self.tell(kind, body, id=number, **fields)
            while True:
                check()
                try:
                    part = answers.get(timeout=WAIT_SECONDS)
                except queue.Empty:
                    continue
                if part is None:
                    raise LinkLost
                if part[0]["kind"] == "done":
                    return part[0]
                if part[0]["kind"] == "failed":
                    raise self._error(part[0])
                on_part(*part)
        finally:
            del self._answers[number]

    def tell(self, kind: str, body: bytes = b"", **fields) -> None:
        """Send a frame that is not answered.

        Raises:
            LinkLost.
        """
        try:
            self._frames.send(kind, body, **fields)
        except (OSError, ValueError):
            raise LinkLost from None

    def close(self) -> None:
        """End the link; what runs there goes on."""
        with suppress(OSError, ValueError):
            self._process.stdin.close()
        end(self._process, grace=0.3)

    # -- how

    def _begin(self, package: bytes, check: Callable[[], None]) -> None:
        """Wait for the program there, and give it the package where it asks for it."""
        greeting: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=lambda: greeting.put(self._greeting()), daemon=True).start()
        deadline = time.monotonic() + LONGEST_START
        while time.monotonic() < deadline:
            check()
            with suppress(queue.Empty):
                there = greeting.get(timeout=WAIT_SECONDS)
                break
        else:
            there = None
        if there is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(2)
            self._hearing.join(1)
            raise why_not_reached(self.machine, "\n".join(self._errors))
        if not there:
            with suppress(OSError, ValueError):  # a link that is lost is found out by whoever asks next
                self._process.stdin.write(b"%d\n" % len(package) + package)
                self._process.stdin.flush()

    def _greeting(self) -> bool | None:
        """Whether the package is there; what a login shell prints before is passed over. None: the link has ended."""
        with suppress(OSError, ValueError):
            for line in iter(lambda: self._process.stdout.readline(LONGEST_LINE), b""):
                with suppress(ValueError, TypeError, AttributeError):
                    there = json.loads(line).get(MARK)
                    if isinstance(there, bool):
                        return there
        return None

    def _hear(self) -> None:
        """What ssh says of itself."""
        with suppress(OSError, ValueError):
            for line in iter(lambda: self._process.stderr.readline(LONGEST_LINE), b""):
                self._errors = [*self._errors[-20:], line.decode("utf-8", "replace").rstrip()]

    def _read(self) -> None:
        with suppress(OSError, ValueError, BrokenFrame):
            while (frame := self._frames.receive()) is not None:
                answers = self._answers.get(frame[0].get("id"))
                (answers or self.said).put(frame)
        self.said.put(None)
        for answers in list(self._answers.values()):
            answers.put(None)

    def _error(self, fields: dict) -> In2nError:
        code, message, hint = (str(fields.get(key, "")) for key in ("code", "message", "hint"))
        if code == "no_engine_there":
            return In2nError(
                code,
                f"The engine is not installed on “{self.machine.name}”.",
                "Install it there: Preferences > Add-ons > IN2N, or `machine install HOST` on the command line.",
            )
        return In2nError(code, f"On “{self.machine.name}”: {message}", hint)


@functools.cache
def _packed() -> tuple[bytes, str]:
    """This package as a tar, and a mark of its content."""
    files = sorted(
        file
        for file in PACKAGE.rglob("*")
        if file.is_file() and not LEFT_OUT & set(file.relative_to(PACKAGE).parts) and not file.name.startswith(".")
    )
    contents = {f"in2n_blender/{file.relative_to(PACKAGE).as_posix()}": file.read_bytes() for file in files}
    mark = hash_of_bytes(part for name, data in contents.items() for part in (f"{name}\0{len(data)}\0".encode(), data))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
        for name, data in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue(), mark
