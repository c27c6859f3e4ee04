"""Fetching a model of the Hugging Face hub so that it shows its progress and can be cancelled within a second."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

from ...scene.errors import In2nError
from ...scene.reporting import Reporter

_PROGRAM = """
import json, os, sys
from huggingface_hub import snapshot_download
out = os.fdopen(os.dup(1), "w", encoding="utf-8"); os.dup2(2, 1)
arguments = json.loads(sys.argv[1])
try:
    files = snapshot_download(**arguments, dry_run=True)
    print(json.dumps({"total": sum(f.file_size or 0 for f in files)}), file=out, flush=True)
    print(json.dumps({"folder": snapshot_download(**arguments)}), file=out, flush=True)
except Exception as error:
    reason = (str(error).strip().splitlines() or [""])[0]
    print(json.dumps({"error": type(error).__name__ + (": " + reason if reason else "")}), file=out, flush=True)
"""
MEGABYTE = 2**20
UNFINISHED = "*.incomplete"


def download(name: str, report: Reporter, wanted: list[str], unwanted: list[str]) -> Path:
    """Fetch a hub model into the local cache, all files that are not there yet; returns its folder.

    wanted, unwanted: patterns of its files' names.
    It runs in a process of its own, because nothing else ends a download within a second. Progress is in megabytes.
    Raises In2nError("no_network"), Cancelled.
    """
    from huggingface_hub import constants

    # The constants, not the variables they came from: the other process has to look where this one does.
    cache = Path(constants.HF_HUB_CACHE)
    arguments = {
        "repo_id": name,
        "cache_dir": str(cache),
        "endpoint": constants.ENDPOINT,
        "allow_patterns": wanted,
        "ignore_patterns": unwanted,
    }
    process = subprocess.Popen(
        [sys.executable, "-I", "-X", "utf8", "-c", _PROGRAM, json.dumps(arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    said: dict = {}
    blobs = cache / f"models--{name.replace('/', '--')}" / "blobs"
    before = set(blobs.glob(UNFINISHED))
    try:
        while True:
            total = said.get("total", 0) // MEGABYTE
            report.progress(min(_megabytes(blobs), total), total, "MB", f"Downloading {name}")
            try:
                line = lines.get(timeout=0.3)
            except queue.Empty:
                continue
            if line is None:
                break
            said.update(json.loads(line))
    finally:
        process.kill()
        process.wait()
        for unfinished in set(blobs.glob(UNFINISHED)) - before:  # the hub's library does not go on with them
            unfinished.unlink(missing_ok=True)
    if "folder" not in said:
        raise In2nError(
            "no_network",
            f"The model “{name}” could not be downloaded ({said.get('error', 'the download ended early')}).",
            "Check the name, the network and the proxy settings; started again, it fetches the files that are missing.",
        )
    return Path(said["folder"])


def _read(pipe, lines: queue.Queue) -> None:
    with pipe:
        for line in pipe:
            lines.put(line)
    lines.put(None)


def _megabytes(blobs: Path) -> int:
    """What of the files is here already, half-downloaded ones included."""
    total = 0
    for blob in blobs.glob("*"):
        try:
            total += os.stat(blob).st_size
        except OSError:
            pass  # renamed meanwhile
    return total // MEGABYTE
