"""Why an installer failed, out of its last lines, in one sentence and a hint."""

from __future__ import annotations

import re
from pathlib import Path

from ..scene.errors import In2nError

GO_ON = "Then run it again: it goes on from where it stopped."

_DISK_FULL = re.compile(r"no space left|os error 28|errno 28|disk quota", re.I)
_NO_CONNECTION = re.compile(
    r"dns error|error sending request|failed to (connect|fetch|download)|connection (refused|reset|aborted|broken"
    r"|timed out|error)|NewConnectionError|ConnectTimeout|name resolution|proxyerror|timed out|network is unreachable"
    r"|max retries|network was disabled",
    re.I,
)
_REFUSED = re.compile(r"\b(401|403) (Client Error|Unauthorized|Forbidden)")
_NOT_FOUND = re.compile(
    r"no matching distribution|ResolutionImpossible|no solution found|no wheels|not found in the (package|provided)",
    re.I,
)
# pip: the page of a package that it could not read, which it then takes for a package without releases
_UNREAD_PAGE = re.compile(
    r"Could not fetch URL .*?/(?P<fetched>[^/\s]+)/?: (?!404)|Retrying .*/(?P<retried>[^/\s]+)/?$"
)


def install_error(tail: list[str], log: Path) -> In2nError:
    """The likely cause that a user can mend.

    Args:
        tail: The last lines that uv or pip printed, behind what `unread_pages` finds in pip's own log.
        log: The file that has all of them.

    Returns:
        "disk_full", "no_network", "no_package" or, where none of them shows, "install_failed".
    """
    text = "\n".join(tail)
    if _DISK_FULL.search(text):
        return In2nError(
            "disk_full",
            "The disk became full while installing.",
            f"Free some space, or choose another place with --home or IN2N_HOME. {GO_ON}",
        )
    not_found = _NOT_FOUND.search(text)
    trouble = _why_not_found(tail) if not_found else text
    refused = _REFUSED.search(trouble)
    if refused:
        return In2nError(
            "no_package",
            f"The package index{_host(trouble)} refuses a package ({refused.group(0)}).",
            f"Check its address, user name and password in your settings of pip or uv. The log is {log}.",
        )
    if _NO_CONNECTION.search(trouble):
        return In2nError(
            "no_network",
            f"The packages could not be downloaded{_host(trouble, ' from ')}.",
            (
                "Check the network and the proxy settings (HTTPS_PROXY), or give a folder of wheels with "
                f"--wheelhouse. {GO_ON}"
            ),
        )
    if not_found:
        return In2nError(
            "no_package",
            f"A package has no build for this machine or this folder of wheels: {_last_words(tail)}",
            f"The log is {log}.",
        )
    return In2nError("install_failed", f"Installing failed: {_last_words(tail)}", f"The log is {log}. {GO_ON}")


def unread_pages(pip_log: Path) -> list[str]:
    """The pages of packages that pip could not read, and why, as it tells its log alone (`--log`).

    Args:
        pip_log: That log; need not exist.
    """
    try:
        lines = pip_log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [line[line.index("Could not fetch URL") :] for line in lines if "Could not fetch URL" in line]


def _why_not_found(tail: list[str]) -> str:
    """The lines that say why a package was not found, if it was not for want of it: trouble with the page of a package
    that pip's errors name, and uv's hints."""
    first_error = next((i for i, line in enumerate(tail) if line.startswith("ERROR")), len(tail))
    named = {_canonical(name) for name in re.findall(r"\w[\w.-]*", " ".join(tail[first_error:]))}
    pages = [
        line
        for line in tail
        if (found := _UNREAD_PAGE.search(line)) and _canonical(found["fetched"] or found["retried"]) in named
    ]
    return "\n".join([*pages, *(line for line in tail if line.startswith("hint:"))])


def _canonical(name: str) -> str:
    """A package's name as it is in an index's address."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _host(text: str, before: str = " ") -> str:
    """ " from HOST" where an address is named, without the user's name and password."""
    found = re.search(r"https?://(?:[^/\s@]*@)?([^/\s:'\")]+)", text)
    return f"{before}{found.group(1)}" if found else ""


def _last_words(tail: list[str]) -> str:
    spoken = [line.strip() for line in tail if line.strip()]
    errors = [line for line in spoken if re.match(r"error|×|╰|cause", line, re.I)] or spoken
    if not errors:
        return "the installer ended without a word"
    last = errors[0] if "ResolutionImpossible" in errors[-1] else errors[-1]
    return re.sub(r"^(error|cause): ", "", last, flags=re.I)
