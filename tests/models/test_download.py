"""Fetching a model from a hub on this machine, made for the test."""

import hashlib
import http.server
import json
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from in2n_blender.link.requests import DownloadModel
from in2n_blender.models.download import EDITOR_FILES, EDITOR_UNWANTED, _why_not, download, download_model
from in2n_blender.models.fetching import UNFINISHED
from in2n_blender.models.hub import OFFLINE, find_stored
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Progress, Reporter

ROOT = Path(__file__).resolve().parents[2]
NAME, COMMIT = "someone/editor", "0" * 40
LARGE = "unet/diffusion_pytorch_model.safetensors"
FILES = {
    "model_index.json": json.dumps({"_class_name": "StableDiffusionInstructPix2PixPipeline"}).encode(),
    "unet/config.json": b"{}",
    LARGE: b"u" * (24 * 2**20),  # the hub's library writes in pieces of 10 MB
    "unet/diffusion_pytorch_model.bin": b"pickle",
    "vae/diffusion_pytorch_model.safetensors": b"v" * 1000,
    "text_encoder/model.safetensors": b"t" * 1000,
    "safety_checker/model.safetensors": b"s" * 1000,
}


PIECE = 2**21


def etag_of(name):
    """What the hub gives as the etag of a file: its SHA-256 where it is large, git's SHA-1 where it is small."""
    data = FILES[name]
    if name.endswith(".safetensors"):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub(http.server.ThreadingHTTPServer):
    """As much of the hub as one model needs.

    slow: seconds between two pieces of a large file. deaf: whole files are sent whatever part was asked for. damaged:
    of which files the last byte is another one. fetched: of every body that was asked for, the name and first byte.
    """

    slow, deaf, damaged = 0.0, False, ()

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.fetched = [], []
        self.hung_up = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path.startswith(f"/api/models/{NAME}/tree/"):
            tree = [{"type": "file", "path": f, "size": len(data), "oid": "0" * 40} for f, data in FILES.items()]
            self._send(json.dumps(tree).encode(), {"Content-Type": "application/json"})
        elif self.path.startswith(f"/api/models/{NAME}"):
            self._send(
                json.dumps({"id": NAME, "sha": COMMIT, "siblings": [{"rfilename": f} for f in FILES]}).encode(),
                {"Content-Type": "application/json"},
            )
        else:
            self._file(body=True)

    def do_HEAD(self):
        self._file(body=False)

    def _file(self, body):
        name = self.path.partition(f"/{NAME}/resolve/{COMMIT}/")[2]
        if name not in FILES:
            self.send_error(404)
            return
        data, headers = FILES[name], {"ETag": f'"{etag_of(name)}"', "X-Repo-Commit": COMMIT}
        if name in self.server.damaged:
            data = data[:-1] + b"?"
        first = 0
        if body:
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            first = int(asked[1]) if asked and not self.server.deaf else 0
            self.server.fetched.append((name, first))
        self._send(data, headers, body, first)

    def _send(self, data, headers, body=True, first=0):
        self.send_response(206 if first else 200)
        if first:
            headers = {**headers, "Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"}
        for key, value in {**headers, "Content-Length": len(data) - first}.items():
            self.send_header(key, str(value))
        self.end_headers()
        for at in range(first, len(data) if body else 0, PIECE):
            try:
                self.wfile.write(data[at : at + PIECE])
                self.wfile.flush()
            except OSError:
                self.server.hung_up.set()
                return
            time.sleep(self.server.slow)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    for variable in (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "IN2N_ALLOW_DOWNLOAD",
        *OFFLINE,
    ):
        monkeypatch.delenv(variable, raising=False)
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()


def test_only_what_is_wanted_is_fetched(hub, tmp_path):
    events = []
    result = download_model(DownloadModel(name=NAME), Reporter(events.append))
    folder = tmp_path / "models--someone--editor" / "snapshots" / COMMIT
    assert result == {"folder": str(folder)}
    there = {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()}
    assert there == {f for f in FILES if not f.endswith(".bin") and "safety" not in f}
    assert all(isinstance(e, Progress) and e.unit == "MB" for e in events[:-1])
    assert COMMIT in events[-1], "an unpinned model's commit is said"
    (model,) = find_stored()
    assert (model.name, model.megabytes, model.complete, model.downloaded) == (NAME, 24, True, True)


def stop_in_the_large_file(hub, tmp_path):
    """Cancel a download once a part of its large file is on disk; how much of it is."""
    hub.slow = 0.3
    totals, cancelled_at = [], []
    begun = lambda: [part.stat().st_size for part in unfinished(tmp_path) if part.name == etag_of(LARGE)]

    def cancelled():
        if not cancelled_at and sum(begun()) > 0:
            cancelled_at.append(time.monotonic())
        return bool(cancelled_at)

    with pytest.raises(Cancelled):
        download(NAME, Reporter(lambda e: totals.append((e.done, e.total)), cancelled), EDITOR_FILES, EDITOR_UNWANTED)
    assert time.monotonic() - cancelled_at[0] < 5
    assert totals[-1][1] == 24 and not any(model.complete for model in find_stored())
    hub.slow, hub.fetched = 0.0, []
    return begun()[0]


def unfinished(tmp_path):
    return [path for path in tmp_path.rglob(f"{UNFINISHED}/*") if path.suffix != ".lock"]


def stored(tmp_path, name):
    return (tmp_path / "models--someone--editor" / "snapshots" / COMMIT / name).read_bytes()


def test_cancelled_it_goes_on_where_it_stopped(hub, tmp_path):
    have = stop_in_the_large_file(hub, tmp_path)
    assert 0 < have < len(FILES[LARGE])
    download(NAME, Reporter(), EDITOR_FILES, EDITOR_UNWANTED)
    assert (LARGE, have) in hub.fetched, "the rest of it, from the first byte that was not there"
    assert {name for name, _ in hub.fetched if name != LARGE}.isdisjoint(
        {"model_index.json", "text_encoder/model.safetensors"}
    ), "what was whole is not fetched again"
    assert stored(tmp_path, LARGE) == FILES[LARGE] and find_stored()[0].complete
    assert not list(tmp_path.rglob(UNFINISHED)), "and nothing is left over"


def test_a_server_that_sends_whole_files_only_is_taken_at_its_word(hub, tmp_path):
    stop_in_the_large_file(hub, tmp_path)
    hub.deaf = True
    download(NAME, Reporter(), EDITOR_FILES, EDITOR_UNWANTED)
    assert stored(tmp_path, LARGE) == FILES[LARGE]


@pytest.mark.parametrize("name", [LARGE, "unet/config.json"])
def test_what_comes_damaged_is_not_kept(hub, tmp_path, name):
    hub.damaged = (name,)
    with pytest.raises(In2nError) as error:
        download(NAME, Reporter(), EDITOR_FILES, EDITOR_UNWANTED)
    assert error.value.code == "no_network" and f"{name} came damaged" in error.value.message
    assert not [part for part in unfinished(tmp_path) if part.name == etag_of(name)]
    hub.damaged = ()
    download(NAME, Reporter(), EDITOR_FILES, EDITOR_UNWANTED)
    assert stored(tmp_path, name) == FILES[name]


def test_half_a_file_that_was_spoilt_is_fetched_anew(hub, tmp_path):
    stop_in_the_large_file(hub, tmp_path)
    (part,) = [part for part in unfinished(tmp_path) if part.name == etag_of(LARGE)]
    part.write_bytes(b"?" * 1000)
    with pytest.raises(In2nError, match="damaged"):
        download(NAME, Reporter(), EDITOR_FILES, EDITOR_UNWANTED)
    part.write_bytes(b"u" * (len(FILES[LARGE]) + 1))
    download(NAME, Reporter(), EDITOR_FILES, EDITOR_UNWANTED)
    assert stored(tmp_path, LARGE) == FILES[LARGE]


def test_two_that_fetch_the_same_model_end_with_one(hub, tmp_path):
    hub.slow = 0.05
    with ThreadPoolExecutor(2) as pool:
        works = [pool.submit(download, NAME, Reporter(), EDITOR_FILES, EDITOR_UNWANTED) for _ in range(2)]
        folders = {work.result() for work in works}
    assert len(folders) == 1 and stored(tmp_path, LARGE) == FILES[LARGE]
    assert [name for name, _ in hub.fetched].count(LARGE) == 1


def test_where_there_are_no_links_the_files_themselves_are_there_once(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_DISABLE_SYMLINKS", "1")
    folder = download(NAME, Reporter(), EDITOR_FILES, EDITOR_UNWANTED)
    assert not (folder / LARGE).is_symlink() and (folder / LARGE).read_bytes() == FILES[LARGE]
    everything = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size == len(FILES[LARGE])]
    assert len(everything) == 1


def test_a_model_that_is_not_there(hub):
    with pytest.raises(In2nError) as error:
        download("someone/else", Reporter(), EDITOR_FILES, EDITOR_UNWANTED)
    assert error.value.code == "no_network" and "someone/else" in error.value.message
    with pytest.raises(In2nError) as error:
        download_model(DownloadModel(name="no name"), Reporter())
    assert error.value.code == "unknown_editor"


@pytest.mark.parametrize("variable", OFFLINE)
def test_offline_nothing_is_asked_even_for_a_model_that_was_asked_for(hub, monkeypatch, variable):
    monkeypatch.setenv("IN2N_ALLOW_DOWNLOAD", "1")
    monkeypatch.setenv(variable, "1")
    with pytest.raises(In2nError) as error:
        download_model(DownloadModel(name=NAME), Reporter())
    assert error.value.code == "no_network" and variable in error.value.message
    assert not hub.asked


def test_killed_with_its_parent_it_ends_and_is_gone_on_with(hub, tmp_path):
    hub.slow = 0.3
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from in2n_blender.models.download import *\n"
        f"download({NAME!r}, Reporter(), EDITOR_FILES, EDITOR_UNWANTED)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)
    large = lambda: [part for part in unfinished(tmp_path) if part.name == etag_of(LARGE) and part.stat().st_size]
    until(large)
    parent.kill()
    parent.wait()
    until(hub.hung_up.is_set)
    assert large() and not any(model.complete for model in find_stored())
    hub.slow, hub.fetched = 0.0, []
    download(NAME, Reporter(), EDITOR_FILES, EDITOR_UNWANTED)
    assert dict(hub.fetched)[LARGE] > 0 and stored(tmp_path, LARGE) == FILES[LARGE]


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    "error, code",
    [
        ("GatedRepoError: 403 Client Error", "gated"),
        ("HfHubHTTPError: 401 Client Error", "gated"),
        ("RepositoryNotFoundError: 404", "no_such_model"),
        ("OSError: [Errno 28] No space left on device", "disk_full"),
        ("ConnectError: refused", "no_network"),
        ("the download ended early", "no_network"),
    ],
)
def test_each_reason_is_a_sentence_with_what_to_do(error, code):
    found = _why_not("black-forest-labs/FLUX.1-Kontext-dev", error)
    assert found.code == code and found.hint and "FLUX.1-Kontext-dev" in found.message
    if code == "gated":
        assert "huggingface.co/black-forest-labs/FLUX.1-Kontext-dev" in found.hint and "HF_TOKEN" in found.hint
