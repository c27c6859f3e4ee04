"""The engine on another machine: whether it is there, and how it gets there."""

from __future__ import annotations

from contextlib import closing

from .. import environment
from ..scene.errors import In2nError
from ..scene.reporting import Reporter
from .connection import Connection, LinkLost
from .machines import Machine

CONDITIONS = {
    environment.READY: "The engine is installed.",
    environment.MISSING: "The engine is not installed.",
    environment.INCOMPLETE: "The engine is partly installed: an installation was interrupted.",
    environment.OUTDATED: "The engine was made for another version of IN2N.",
}


def condition(machine: Machine, report: Reporter) -> str:
    """How far a machine's engine is.

    Args:
        machine: Which one.
        report: Asked whether it was cancelled.

    Returns:
        One of the environment's conditions, or a sentence that says why no engine can be there.

    Raises:
        In2nError: As `Connection`.
        Cancelled.
    """
    report.progress(0, 0, "", f"Reaching {machine.name}")
    with closing(Connection(machine, report.check)) as connection:
        return _asked(connection, "hello", report)["engine"]


def spoken_condition(machine: Machine, found: str) -> str:
    """What `condition` returned, as a sentence."""
    return f"{machine.name}: {CONDITIONS.get(found, found)}"


def install(machine: Machine, report: Reporter) -> None:
    """Install the engine on a machine; returns at once where it is there.

    Args:
        machine: Which one.
        report: Told the progress.

    Raises:
        In2nError: As `Connection`, and what `environment.install` raises there.
        Cancelled: What is there already is gone on from.
    """
    report.progress(0, 0, "", f"Reaching {machine.name}")
    with closing(Connection(machine, report.check)) as connection:
        _asked(connection, "install", report)


def _asked(connection: Connection, kind: str, report: Reporter) -> dict:
    def tell(fields: dict, _body: bytes) -> None:
        if fields["kind"] == "progress":
            report.progress(**fields["progress"])
        elif fields["kind"] == "log":
            report.log(fields["text"])

    try:
        return connection.call(kind, on_part=tell, check=report.check)
    except LinkLost:
        raise In2nError(
            "no_machine",
            f"The link to “{connection.machine.name}” was lost.",
            "Start it again: it goes on from where it stopped.",
        ) from None
