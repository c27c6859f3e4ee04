"""What goes over a pipe between two machines: a line of JSON, then as many bytes as it says."""

from __future__ import annotations

import json
import threading

LONGEST_HEADER = 64 * 2**20  # bytes: the names of a workspace's files
LONGEST_BODY = 64 * 2**20  # bytes; files come in pieces
PIECE = 2**18  # bytes of a file in one frame: small enough that progress and cancelling come between


class BrokenFrame(Exception):
    """The other side does not speak this language, or not any more."""


class Frames:
    """Writes and reads frames. Several threads may write.

    Args:
        reading: A binary stream.
        writing: A binary stream.
    """

    def __init__(self, reading, writing):
        self._reading, self._writing = reading, writing
        self._lock = threading.Lock()

    def send(self, kind: str, body: bytes = b"", **fields) -> None:
        """Write a frame.

        Args:
            kind: What it is.
            body: Bytes that go with it.
            **fields: What JSON can hold.

        Raises:
            OSError, ValueError: The pipe is gone.
        """
        header = json.dumps({"kind": kind, "size": len(body), **fields}).encode() + b"\n"
        with self._lock:
            self._writing.write(header + body)
            self._writing.flush()

    def receive(self) -> tuple[dict, bytes] | None:
        """Read a frame.

        Returns:
            Its fields with "kind" among them, and its bytes; None at the end.

        Raises:
            BrokenFrame: For what is none.
            OSError, ValueError: The pipe is gone.
        """
        line = self._reading.readline(LONGEST_HEADER)
        if not line:
            return None
        try:
            header = json.loads(line)
            size = header["size"]
            if not (isinstance(header["kind"], str) and isinstance(size, int) and 0 <= size <= LONGEST_BODY):
                raise BrokenFrame(repr(line[:80]))
        except (ValueError, KeyError, TypeError, RecursionError):
            raise BrokenFrame(repr(line[:80])) from None
        body = self._reading.read(size) if size else b""
        return (header, body) if len(body) == size else None
