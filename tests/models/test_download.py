"""Fetching a model from a hub on this machine, made for the test."""

import http.server
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from in2n_blender.link.requests import DownloadModel
from in2n_blender.models.download import EDITOR_FILES, EDITOR_UNWANTED, _why_not, download, download_model
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


class Hub(http.server.ThreadingHTTPServer):
    """As much of the hub as one model needs. slow: seconds between two pieces of a large file."""

    slow = 0.0

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []
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
        self._send(FILES[name], {"ETag": f'"{abs(hash(name)):040d}"', "X-Repo-Commit": COMMIT}, body)

    def _send(self, data, headers, body=True):
        self.send_response(200)
        for key, value in {**headers, "Content-Length": len(data)}.items():
            self.send_header(key, str(value))
        self.end_headers()
        for at in range(0, len(data) if body else 0, 2**21):
            try:
                self.wfile.write(data[at : at + 2**21])
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


def test_cancelled_it_leaves_what_is_whole_and_goes_on_later(hub, tmp_path):
    hub.slow = 0.3
    totals, cancelled_at = [], []

    def watch(event):
        totals.append((event.done, event.total))

    def cancelled():
        if not cancelled_at and totals and totals[-1][0] >= 1:
            cancelled_at.append(time.monotonic())
        return bool(cancelled_at)

    with pytest.raises(Cancelled):
        download(NAME, Reporter(watch, cancelled), EDITOR_FILES, EDITOR_UNWANTED)
    assert totals[-1][1] == 24 and totals[-1][0] >= 1
    assert not any(m.complete for m in find_stored())

    assert not list(tmp_path.rglob("*.incomplete")), "nothing is left that nobody would take up again"

    hub.slow, hub.asked = 0.0, []
    download(NAME, Reporter(), EDITOR_FILES, EDITOR_UNWANTED)
    fetched = [path.rpartition(COMMIT)[2] for path in hub.asked if "/resolve/" in path]
    assert fetched == [f"/{LARGE}"], "what was whole is not fetched again"
    assert find_stored()[0].complete


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


def test_killed_with_its_parent_it_ends_and_leaves_nothing_unfinished(hub, tmp_path):
    hub.slow = 0.3
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from in2n_blender.models.download import *\n"
        f"download({NAME!r}, Reporter(), EDITOR_FILES, EDITOR_UNWANTED)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)
    until(lambda: any(LARGE in path for path in hub.asked) and list(tmp_path.rglob("*.incomplete")))
    parent.kill()
    parent.wait()
    until(lambda: not list(tmp_path.rglob("*.incomplete")))
    until(hub.hung_up.is_set)
    assert not any(model.complete for model in find_stored())


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
