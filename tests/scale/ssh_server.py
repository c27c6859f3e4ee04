"""A real OpenSSH server on the loopback address, with keys and a configuration of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SERVER = "/usr/sbin/sshd"
HOST = "gpu-box"


def missing() -> str:
    """Why no server can run here; "" where one can."""
    if not sys.platform.startswith("linux"):
        return "how its links are found and cut is written for Linux"
    needed = [program for program in (SERVER, "ssh", "ssh-keygen") if shutil.which(program) is None]
    return f"{', '.join(needed)} not found" if needed else ""


@dataclass
class Server:
    """The server, and how it is reached.

    Attributes:
        root: Its keys and configuration.
        port: Where it listens.
        variables: Environment variables of what is run there.
    """

    root: Path
    port: int
    variables: dict[str, str]
    _process: subprocess.Popen | None = None

    @staticmethod
    def prepare(root: Path, variables: dict[str, str]) -> Server:
        """Make keys, a configuration and an `ssh` that knows them, in a folder."""
        root.mkdir(parents=True)
        for key in ("host_key", "user_key", "stranger_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(root / key)], check=True)
        shutil.copy(root / "user_key.pub", root / "authorized_keys")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server = Server(root, port, variables)
        server._configure()
        return server

    def _configure(self) -> None:
        given = " ".join(f'"{name}={value}"' for name, value in self.variables.items())
        lines = [
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.root}/host_key",
            f"AuthorizedKeysFile {self.root}/authorized_keys",
            f"PidFile {self.root}/sshd.pid",
            "PermitRootLogin yes",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "UsePAM no",
            "StrictModes no",
            *([f"SetEnv {given}"] if given else []),
        ]
        (self.root / "sshd_config").write_text("\n".join(lines) + "\n")
        host_key = (self.root / "host_key.pub").read_text()
        (self.root / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host_key}")
        config = [
            f"Host {HOST} stranger",
            "  HostName 127.0.0.1",
            f"  Port {self.port}",
            f"  UserKnownHostsFile {self.root}/known_hosts",
            "  IdentitiesOnly yes",
            f"Host {HOST}",
            f"  IdentityFile {self.root}/user_key",
            "Host stranger",
            f"  IdentityFile {self.root}/stranger_key",
        ]
        (self.root / "ssh_config").write_text("\n".join(config) + "\n")
        program = self.root / "ssh"
        program.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F "{self.root}/ssh_config" "$@"\n')
        program.chmod(0o755)

    @property
    def ssh(self) -> str:
        """The program that reaches it."""
        return str(self.root / "ssh")

    def start(self) -> None:
        """Let it listen."""
        with suppress(OSError):
            Path("/run/sshd").mkdir(exist_ok=True)  # where a server that root starts locks itself in
        log = open(self.root / "sshd.log", "ab")
        self._process = subprocess.Popen(
            [SERVER, "-D", "-e", "-f", str(self.root / "sshd_config")], stderr=log, stdin=subprocess.DEVNULL
        )
        until(self._answers)

    def stop(self) -> None:
        """Listen no more, and cut all links; what runs beyond them runs on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self.cut()

    def cut(self) -> None:
        """Cut the links as a lost network does: the server's side is gone without a word to what it had started."""
        for link in self._links():
            with suppress(OSError):
                os.kill(link, signal.SIGKILL)

    def _links(self) -> list[int]:
        """Processes of the server that serve one client each, by what ssh told of its configuration."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, ValueError):
                words = (entry / "cmdline").read_bytes().decode("utf-8", "replace")
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                if words.startswith("sshd: ") and self._is_ours(parent, int(entry.name)):
                    found.append(int(entry.name))
        return found

    def _is_ours(self, parent: int, process: int) -> bool:
        if self._process is not None and process == self._process.pid:
            return False
        with suppress(OSError):
            for entry in Path(f"/proc/{process}/fd").iterdir():
                with suppress(OSError):
                    if os.readlink(entry).endswith(str(self.root / "sshd.log")):
                        return True
        return self._process is not None and parent == self._process.pid

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as link:
            return link.recv(4) == b"SSH-"
        return False


def until(condition, seconds: float = 60.0) -> None:
    """Wait for something that has to come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
