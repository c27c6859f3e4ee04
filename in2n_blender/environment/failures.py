"""Why an installer failed, out of its last lines, in one sentence and a hint."""

from __future__ import annotations

import re
from pathlib import Path

from ..scene.errors import In2nError

GO_ON = "Then run it again: it goes on from where it stopped."


def install_error(tail: list[str], log: Path) -> In2nError:
    """The likely cause that a user can mend.

    Args:
        tail: The last lines that uv or pip printed.
        log: The file that has all of them.

    Returns:
        "disk_full", "no_network", "no_package" or, where none of them shows, "install_failed".
    """
    text = "\n".join(tail)
    if re.search(r"no space left|os error 28|errno 28|disk quota", text, re.I):
        return In2nError(
            "disk_full",
            "The disk became full while installing.",
            f"Free some space, or choose another place with --home or IN2N_HOME. {GO_ON}",
        )
    if re.search(
        r"dns error|error sending request|failed to (connect|fetch|download)|connection "
        r"(refused|reset|aborted|timed out)|NewConnectionError|ConnectTimeout"
        r"|name resolution|proxyerror|timed out|network is unreachable|max retries",
        text,
        re.I,
    ):
        host = re.search(r"https?://([^/\s:'\")]+)", text)
        where = f" from {host.group(1)}" if host else ""
        return In2nError(
            "no_network",
            f"The packages could not be downloaded{where}.",
            (
                "Check the network and the proxy settings (HTTPS_PROXY), or give a folder of wheels with "
                f"--wheelhouse. {GO_ON}"
            ),
        )
    errors = [line.strip() for line in tail if re.match(r"\s*(error|×|╰|cause)", line, re.I)] or [
        line.strip() for line in tail if line.strip()
    ]
    last = errors[-1] if errors else "the installer ended without a word"
    if re.search(
        r"no matching distribution|no solution found|no wheels|not found in the (package|provided)", text, re.I
    ):
        return In2nError(
            "no_package",
            f"A package has no build for this machine or this folder of wheels: {last}",
            f"The log is {log}.",
        )
    return In2nError("install_failed", f"Installing failed: {last}", f"The log is {log}. {GO_ON}")
