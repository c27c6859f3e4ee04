"""Fetching a model of the Hugging Face hub so that it shows its progress and can be cancelled within a second.

Called in the engine's process, whose Python has the hub's own library; this file itself needs the standard library.
"""

from __future__ import annotations

import json
import os
import queue
import stat
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from ..link.requests import DownloadModel
from ..scene.errors import In2nError
from ..scene.reporting import Reporter
from . import hub
from .catalogue import is_hub_name, on_the_hub
from .families import FAMILIES, INDEX_FILE

# Only what the models run on: no safety checker, no pickled weights, no second copy in another precision or layout.
EDITOR_PARTS = sorted({part for family in FAMILIES for part in family.parts})
EDITOR_FILES = [INDEX_FILE] + [
    f"{part}/{name}" for part in EDITOR_PARTS for name in ("*.json", "*.txt", "*.jinja", "*.model", "*.safetensors")
]
EDITOR_UNWANTED = ["*.fp16.safetensors", "*non_ema*"]
MEGABYTE = 2**20
PROGRAM = Path(__file__).with_name("fetching.py")


def download_model(request: DownloadModel, report: Reporter) -> dict:
    """The job: the request itself is the user's leave, but no leave to go online where that is forbidden.

    Args:
        request: which model of the hub, owner/model.
        report: told of the progress in megabytes, and asked whether the job was cancelled.

    Returns:
        {"folder": where the model is}.

    Raises:
        In2nError: "unknown_editor", and as `download`.
        Cancelled.
    """
    if not is_hub_name(request.name):
        raise In2nError(
            "unknown_editor",
            f"“{request.name}” is not a model's name on the Hugging Face hub.",
            "Names look like owner/model.",
        )
    return {"folder": str(download(request.name, report, EDITOR_FILES, EDITOR_UNWANTED))}


def download(name: str, report: Reporter, wanted: list[str], unwanted: list[str]) -> Path:
    """Fetch a hub model into the local cache, all files that are not there yet.

    It runs in a process of its own (`fetching`), because nothing else ends a download within a second; what was fetched
    of a file is gone on with the next time.

    Args:
        name: owner/model or owner/model@commit. Without a commit it is that of `catalogue.REVISIONS`, else the one that
            the hub now has as its newest, which is told; so it is a commit that is fetched, never a branch.
        report: told of the progress in megabytes (2^20 bytes), and asked whether the job was cancelled.
        wanted: patterns of the names of the files to fetch.
        unwanted: patterns of those to leave out of them.

    Returns:
        The folder with its files.

    Raises:
        In2nError: "no_network", without a connection where a variable forbids all; "gated", "no_such_model",
            "disk_full".
        Cancelled.
    """
    if hub.is_offline():
        raise In2nError(
            "no_network",
            f"The model “{name}” is not downloaded: {hub.why_no_download()}.",
            f"{hub.how_to_allow()}, or choose a folder that holds the model.",
        )
    process = _start(name, wanted, unwanted)
    try:
        answer = _follow(process, name, report)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
    if "folder" not in answer:
        raise _why_not(name, answer.get("error", "the download ended early"))
    report.log(f"“{name}” is there, at revision {answer.get('revision')}.")
    return Path(answer["folder"])


def _why_not(name: str, error: str) -> In2nError:
    """What to do about a download that failed, by the error of the hub's library.

    Args:
        name: the model's.
        error: the class of the library's error, and its first line.

    Returns:
        In2nError: "gated", "no_such_model", "disk_full" or "no_network", to be raised.
    """
    page = f"https://huggingface.co/{on_the_hub(name)[0]}"
    if error.startswith("GatedRepoError") or "401" in error or "403" in error:
        return In2nError(
            "gated",
            f"The model “{name}” is given only to those who have accepted its terms.",
            f"Accept them on {page}, then set HF_TOKEN to a token of yours (huggingface.co/settings/tokens).",
        )
    if error.startswith(("RepositoryNotFoundError", "RevisionNotFoundError")):
        return In2nError(
            "no_such_model", f"The hub has no model “{name}”.", f"Look for it on {page}, or check the name."
        )
    if "No space left" in error:
        return In2nError("disk_full", f"There is no room for the model “{name}” in {hub.hub_cache()}.", "Make room.")
    return In2nError(
        "no_network",
        f"The model “{name}” could not be downloaded ({error}).",
        "Check the name, the network and the proxy settings; started again, it goes on where it stopped.",
    )


def _start(name: str, wanted: list[str], unwanted: list[str]) -> subprocess.Popen:
    repository, revision = on_the_hub(name)
    arguments = {
        "repo_id": repository,
        "revision": revision,
        "cache_dir": str(hub.hub_cache()),
        "allow_patterns": wanted,
        "ignore_patterns": unwanted,
    }
    return subprocess.Popen(
        [sys.executable, "-I", "-X", "utf8", str(PROGRAM), json.dumps(arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )


def _follow(process: subprocess.Popen, name: str, report: Reporter) -> dict:
    """Report the progress until the process has ended; returns all that it told. Raises Cancelled."""
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    answer: dict = {}
    while True:
        total = answer.get("total", 0) // MEGABYTE
        report.progress(min(_megabytes(hub.hub_folder(name)), total), total, "MB", f"Downloading {name}")
        try:
            line = lines.get(timeout=0.3)
        except queue.Empty:
            continue
        if line is None:
            return answer
        answer.update(json.loads(line))


def _read(pipe, lines: queue.Queue) -> None:
    with pipe:
        for line in pipe:
            lines.put(line)
    lines.put(None)


def _megabytes(folder: Path) -> int:
    """What of the files is here already, half-downloaded ones included."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # renamed meanwhile
                found = os.lstat(os.path.join(parent, name))
                total += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return total // MEGABYTE
