"""Another machine that the engine runs on: what it is called, how it is reached, and why it could not be.

It is reached by the user's own `ssh`, with the user's keys, agent and configuration; no port is opened, and no password
is asked for.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from ..environment.home import base_python
from ..link.client import local_command
from ..scene.errors import In2nError

FOLDER = "~/in2n_blender"
SCHEME = "ssh:"
MACHINE_VARIABLE = "IN2N_MACHINE"  # names the machine that the command line's jobs are done on, as `from_text` reads it
CONNECT_SECONDS, SILENT_SECONDS, SILENCES = 10, 5, 3  # after how long a link counts as lost

# user@host, a name of the user's ssh configuration, an address of version 6, or ssh://user@host:port; never an option
_HOST = re.compile(r"(ssh://)?[A-Za-z0-9_.\[:][A-Za-z0-9_.@:%\[\]+\-]{0,250}")
# The login shell's PATH is often not read; what comes first is taken that starts at all and is new enough.
_FIND_PYTHON = """
PATH="$PATH:/usr/local/bin:/opt/homebrew/bin:$HOME/.local/bin"
for python in python3.11 python3.13 python3; do
    if "$python" -c "import sys; sys.exit(sys.version_info < (3, 11))" >/dev/null 2>&1; then
        exec "$python" -I -X utf8 -c "$0" "$@"
    fi
done
echo "in2n: no Python" >&2
exit 127
"""


@dataclass(frozen=True)
class Machine:
    """A machine that the user has named.

    Attributes:
        name: What the interface calls it.
        host: As `ssh` takes it.
        folder: There, for programs, models and copies of workspaces; "~" is the user's home.
    """

    name: str
    host: str
    folder: str = FOLDER

    @property
    def address(self) -> str:
        """The machine as one text, which `machine_of` reads."""
        return SCHEME + json.dumps([self.name, self.host, self.folder])

    def check(self) -> None:
        """See that it can be named to `ssh`.

        Raises:
            In2nError: "bad_machine".
        """
        if not _HOST.fullmatch(self.host):
            raise In2nError(
                "bad_machine",
                f"“{self.host[:80]}” is no host that ssh knows how to reach.",
                "Write it as for ssh: host, user@host, or a name of your ssh configuration.",
            )
        if not self.folder.strip() or not self.folder.isprintable():
            raise In2nError("bad_machine", f"The folder on “{self.name}” has no name.", f"Leave it at {FOLDER}.")


def machine_of(address: str) -> Machine | None:
    """The machine that an engine's address names.

    Args:
        address: Of a machine, or the path of a Python on this one.

    Returns:
        None where it is this machine.
    """
    if not address.startswith(SCHEME):
        return None
    return Machine(*json.loads(address[len(SCHEME) :]))


def from_text(text: str) -> Machine:
    """The machine that a command line names: HOST or HOST:FOLDER.

    Args:
        text: The folder begins behind a ":" that "/" or "~" follows.

    Raises:
        In2nError: "bad_machine".
    """
    host, folder = text, FOLDER
    found = re.fullmatch(r"((?:ssh://)?[^/~]+):(?!//)([/~].*)", text)
    if found:
        host, folder = found.groups()
    machine = Machine(host, host, folder)
    machine.check()
    return machine


def worker_command(engine: str, worker: str) -> list[str]:
    """The command of a worker, on this machine or on another.

    Args:
        engine: The Python of an engine on this machine, or another machine's address.
        worker: The worker's program on this machine.
    """
    if machine_of(engine) is None:
        return local_command(engine, worker)
    return [base_python(), "-I", "-X", "utf8", str(Path(__file__).with_name("relay.py")), engine]


def chosen_machine() -> Machine | None:
    """The machine that the command line's jobs are done on; None: this one.

    Raises:
        In2nError: "bad_machine".
    """
    named = os.environ.get(MACHINE_VARIABLE, "")
    return from_text(named) if named else None


def ssh_command(machine: Machine, program: str, *arguments: str) -> list[str]:
    """The command that runs a Python program on a machine.

    Args:
        machine: Which one.
        program: The program's text.
        *arguments: Its command line.

    Raises:
        In2nError: "bad_machine"; "no_ssh" where this machine has no ssh.
    """
    machine.check()
    ssh = os.environ.get("IN2N_SSH") or shutil.which("ssh")
    if not ssh or not Path(ssh).exists():
        raise In2nError(
            "no_ssh",
            "This computer has no ssh.",
            "Install OpenSSH's client (on Windows: Settings > Optional features), or set IN2N_SSH to one.",
        )
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": CONNECT_SECONDS,
        "ServerAliveInterval": SILENT_SECONDS,
        "ServerAliveCountMax": SILENCES,
    }
    given = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    # ssh hands one text to the shell there
    there = shlex.join(["exec", "sh", "-c", _FIND_PYTHON, program, *arguments])
    return [ssh, "-T", *given, "--", machine.host, there]


def why_not_reached(machine: Machine, said: str) -> In2nError:
    """What to do about a machine that could not be reached.

    Args:
        machine: Which one.
        said: What ssh said last.

    Returns:
        In2nError "no_machine", "no_key", "unknown_host_key" or "no_python_there", to be raised.
    """
    name, shown = machine.name, said.strip().splitlines()[-1][:200] if said.strip() else "it said nothing"
    if "Permission denied" in said or "Too many authentication" in said:
        return In2nError(
            "no_key",
            f"“{name}” did not let us in ({shown}).",
            f"Set up a key, so that `ssh {machine.host}` in a terminal asks for no password.",
        )
    if "Host key verification failed" in said or "REMOTE HOST IDENTIFICATION" in said:
        return In2nError(
            "unknown_host_key",
            f"ssh does not know “{name}”, or knows it by another key.",
            f"Run `ssh {machine.host}` in a terminal once, and compare the key.",
        )
    if "in2n: no Python" in said:
        return In2nError(
            "no_python_there", f"“{name}” has no Python 3.11 or newer.", "Install one there, such as python3.11."
        )
    return In2nError(
        "no_machine",
        f"“{name}” could not be reached ({shown}).",
        f"See that it runs, and that `ssh {machine.host}` works in a terminal.",
    )
