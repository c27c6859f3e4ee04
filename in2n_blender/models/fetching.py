"""The program in which the files of a hub model are fetched: each is gone on with where an earlier run was stopped.

    python -I fetching.py '{"repo_id": …, "revision": …, "cache_dir": …, "allow_patterns": …, "ignore_patterns": …}'

Run as a file of its own, with the hub's library and nothing else. Half a file lies in the model's folder of the cache,
in UNFINISHED, under its etag, and is only ever added to. Whole, and of the hash that the etag is, it takes its place in
the cache. The hub's library itself begins a file again from its first byte each time.

Prints JSON, an object a line: {"revision": …}, {"total": bytes}, then {"folder": …} or {"error": …}. Its stdin is a
pipe that ends when the process that started it does, however that ended: then it ends too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

UNFINISHED = "unfinished"  # the folder; what lies there is gone on with
AT_ONCE = 4  # files


def fetch(arguments: dict, tell) -> None:
    """Fetch what the cache lacks of a model.

    Args:
        arguments: of huggingface_hub.snapshot_download; a revision of None is the hub's newest commit.
        tell: called with every object that is to be printed.

    Raises:
        Exception: of the hub's library, or OSError: "damaged" where a file is not what the hub says that it is.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.file_download import are_symlinks_supported, repo_folder_name

    if not arguments["revision"]:
        arguments["revision"] = HfApi().model_info(arguments["repo_id"]).sha
    tell({"revision": arguments["revision"]})
    files = snapshot_download(**arguments, dry_run=True)
    tell({"total": sum(file.file_size or 0 for file in files)})
    cache = Path(arguments["cache_dir"])
    folder = cache / repo_folder_name(repo_id=arguments["repo_id"], repo_type="model")
    linked = are_symlinks_supported(cache)
    wanted = [file for file in files if not file.is_cached]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        works = [pool.submit(_fetch_file, arguments, folder, file, linked) for file in wanted]
        for work in works:
            work.result()
    tell({"folder": snapshot_download(**arguments)})
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)


def _fetch_file(arguments: dict, folder: Path, file, linked: bool) -> None:
    """One file to where the hub's library looks for it: by its etag, or, where there are no links, by its name."""
    from filelock import FileLock
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    url = hf_hub_url(arguments["repo_id"], file.filename, revision=arguments["revision"])
    found = get_hf_file_metadata(url)
    target = folder / "blobs" / found.etag if linked else Path(file.local_path)
    part = folder / UNFINISHED / re.sub(r"[^\w.-]", "_", found.etag)
    part.parent.mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{part}.lock"):  # of another process that fetches the same
        if target.exists():
            return
        with open(part, "ab") as out:
            if (have := out.tell()) > (found.size or 0):
                out.truncate(have := 0)
            headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
            http_get(url, out, resume_size=have, headers=headers, expected_size=found.size)
            out.flush()
            os.fsync(out.fileno())
        if not is_whole(part, found.etag):
            part.unlink()
            raise OSError(f"{file.filename} came damaged")
        os.replace(part, target)


def is_whole(path: Path, etag: str) -> bool:
    """Whether a file is what the hub says that it is.

    Args:
        path: the file.
        etag: the hub's: the SHA-256 of a large file, the SHA-1 that git gives a small one.

    Returns:
        True, too, where the etag is neither.
    """
    if re.fullmatch("[0-9a-f]{64}", etag):
        digest = hashlib.sha256()
    elif re.fullmatch("[0-9a-f]{40}", etag):
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    else:
        return True
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: digest).hexdigest() == etag


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def main() -> None:
    """Run the command line."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is no answer
    tell = lambda answer: print(json.dumps(answer), file=out, flush=True)
    try:
        fetch(json.loads(sys.argv[1]), tell)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        tell({"error": type(error).__name__ + (": " + reason if reason else "")})


if __name__ == "__main__":
    main()
