"""Runs on the other machine: holds a worker, so that it works on while nobody is linked to it.

    python -I keeper.py FOLDER IDLE_SECONDS COMMAND...

What the worker says is kept in FOLDER/said, line by line. A Unix socket in FOLDER, which only the user can open, takes
whoever is linked: he is told, in a line of JSON, which worker this is, how many lines it has said and what it works on;
he answers {"from": N}, gets the lines from the N-th on, and what he says goes to the worker. Only the last who came is
listened to. A worker that nobody is linked to and that works on nothing is ended after IDLE_SECONDS. This file stands
alone: it is started by its name, by any Python from 3.11 on.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time

SOCKET, SAID, LOG = "worker.sock", "said", "worker.log"
LONGEST_LINE = 64 * 2**20
ASIDE = ("hello", "cancel")  # what is asked for and is no job
TICK_SECONDS = 0.5


class Keeper:
    """One worker and who is linked to it.

    Args:
        command: The worker's.
        idle_seconds: After which one that is of no use is ended.
    """

    def __init__(self, command: list[str], idle_seconds: float):
        self.mark = secrets.token_hex(8)
        self._idle_seconds = idle_seconds
        self._job: dict | None = None
        self._lines = 0
        self._changed = threading.Condition()
        self._linked: socket.socket | None = None
        self._ended = False
        self._said = open(SAID, "wb")
        with open(LOG, "ab") as log:
            self._worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)

    def run(self) -> None:
        """Until the worker has ended."""
        server = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET)
        server.bind(SOCKET)
        server.listen()
        for work in (self._listen, lambda: self._take(server), self._end_when_idle):
            threading.Thread(target=work, daemon=True).start()
        self._worker.wait()
        with self._changed:
            while not self._ended:
                self._changed.wait(TICK_SECONDS)
        os.unlink(SOCKET)
        time.sleep(TICK_SECONDS)  # for those who are just told the last lines

    def _listen(self) -> None:
        """To the worker."""
        for line in iter(lambda: self._worker.stdout.readline(LONGEST_LINE), b""):
            with self._changed:
                self._said.write(line)
                self._said.flush()
                self._lines += 1
                if self._job is not None and (b'"result"' in line or b'"error"' in line):
                    if _read(line).get("id") == self._job["id"]:
                        self._job = None
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _take(self, server: socket.socket) -> None:
        while True:
            caller, _ = server.accept()
            threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        with self._changed:
            before, self._linked = self._linked, caller
            greeting = {"mark": self.mark, "lines": self._lines, "job": self._job}
        if before is not None:
            with contextlib.suppress(OSError):
                before.shutdown(socket.SHUT_RDWR)
        try:
            with caller, caller.makefile("rb") as asked:
                caller.sendall(json.dumps(greeting).encode() + b"\n")
                start = _read(asked.readline(1000)).get("from", 0)
                threading.Thread(target=self._tell, args=(caller, start), daemon=True).start()
                for line in iter(lambda: asked.readline(LONGEST_LINE), b""):
                    self._hear(line)
        except OSError:
            pass
        finally:
            with self._changed:
                if self._linked is caller:
                    self._linked = None

    def _hear(self, line: bytes) -> None:
        asked = _read(line)
        with self._changed:
            if asked.get("method") not in (None, *ASIDE):
                self._job = asked
        with contextlib.suppress(OSError, ValueError):
            if asked.get("in2n") == "end":
                self._worker.stdin.close()
            else:
                self._worker.stdin.write(line)
                self._worker.stdin.flush()

    def _tell(self, caller: socket.socket, start: int) -> None:
        """The lines from the start-th on, and those that come."""
        told = 0
        with contextlib.suppress(OSError, ValueError), open(SAID, "rb") as said:
            while True:
                with self._changed:
                    while told >= self._lines and not self._ended:
                        self._changed.wait()
                    if told >= self._lines:
                        break
                line = said.readline()
                told += 1
                if told > start:
                    caller.sendall(line)
            caller.shutdown(socket.SHUT_RDWR)

    def _end_when_idle(self) -> None:
        since = time.monotonic()
        while True:
            time.sleep(min(TICK_SECONDS, self._idle_seconds))
            with self._changed:
                if self._job is not None or self._linked is not None:
                    since = time.monotonic()
            if time.monotonic() - since > self._idle_seconds:
                with contextlib.suppress(OSError):
                    self._worker.stdin.close()
                return


def _read(line: bytes) -> dict:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


if __name__ == "__main__":
    os.umask(0o077)
    os.chdir(sys.argv[1])
    Keeper(sys.argv[3:], float(sys.argv[2])).run()
