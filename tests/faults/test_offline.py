"""What leaves the machine: nothing where it is forbidden, and never a revision that somebody could exchange."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from in2n_blender.engine import lpips_backbone
from in2n_blender.engine.evaluation import metrics
from in2n_blender.engine.evaluation.clip_metrics import DEFAULT_CLIP
from in2n_blender.engine.nerf.losses import perceptual_loss
from in2n_blender.link.requests import DownloadModel
from in2n_blender.models import catalogue, download, hub
from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.reporting import Reporter
from tests.models.test_download import COMMIT, NAME
from tests.models.test_download import hub as hub_server

__all__ = ["hub_server"]
OTHER = "1" * 40
FAKE = Path(__file__).resolve().parents[1] / "link" / "fake_worker.py"


@pytest.fixture
def no_connection(monkeypatch):
    """Every attempt to connect, or to ask for an address, is noted and fails."""
    tried = []

    def refuse(self, address, *_):
        tried.append(address)
        raise OSError("there is no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: refuse(None, address))
    return tried


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    metrics._lpips_network.cache_clear()
    yield
    metrics._lpips_network.cache_clear()


@pytest.mark.parametrize("variable", hub.OFFLINE)
def test_lpips_asks_for_nothing_where_a_variable_forbids_it(no_connection, no_weights, monkeypatch, variable):
    monkeypatch.setenv(hub.ALLOW_DOWNLOAD, "1")
    monkeypatch.setenv(variable, "1")
    said = []
    assert perceptual_loss("lpips", said.append) is None and "L1 alone" in said[0]
    assert metrics._lpips_network() is None and not lpips_backbone.on_disk_or_downloadable()
    assert no_connection == []


def test_lpips_goes_on_without_a_network_where_it_may_download(no_connection, no_weights, monkeypatch):
    for variable in hub.OFFLINE:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(hub.ALLOW_DOWNLOAD, "1")
    said = []
    assert perceptual_loss("lpips", said.append) is None and said
    assert no_connection, "the download was tried"


def test_known_models_are_pinned_by_a_hash():
    for name in (catalogue.INSTRUCT_PIX2PIX.id, DEFAULT_CLIP):
        repository, revision = catalogue.on_the_hub(name)
        assert repository == name and re.fullmatch(r"[0-9a-f]{40}", revision)


@pytest.mark.parametrize(
    "name", ["a/b@main", "a/b@", "a/b@1234", f"a/b@{OTHER}0", f"a/b@{OTHER.upper()[:-1]}G", "a/b@../x"]
)
def test_a_revision_that_could_be_moved_is_no_name(name):
    assert not catalogue.is_hub_name(name)
    with pytest.raises(In2nError) as refused:
        download.download_model(DownloadModel(name=name), Reporter())
    assert refused.value.code == "unknown_editor"


def revisions_asked(server):
    return {match[1] for path in server.asked if (match := re.search(r"/(?:resolve|tree|revision)/([^/?]+)", path))}


def test_of_an_unknown_model_the_hubs_commit_is_fetched_and_never_a_branch(hub_server, tmp_path):
    said = []
    download.download_model(DownloadModel(name=NAME), Reporter(said.append))
    assert revisions_asked(hub_server) == {COMMIT} and any(COMMIT in str(text) for text in said)


def test_a_named_commit_is_asked_for_alone(hub_server, tmp_path):
    with pytest.raises(In2nError):  # this hub does not have it
        download.download_model(DownloadModel(name=f"{NAME}@{OTHER}"), Reporter())
    assert revisions_asked(hub_server) <= {OTHER} and hub_server.asked
    hub_server.asked.clear()
    download.download_model(DownloadModel(name=f"{NAME}@{COMMIT}"), Reporter())
    assert revisions_asked(hub_server) == {COMMIT}
    assert hub.cached_snapshot(f"{NAME}@{COMMIT}", lambda folder: folder.is_dir()).name == COMMIT
    assert hub.cached_snapshot(f"{NAME}@{OTHER}", lambda folder: folder.is_dir()) is None


def test_a_pinned_commit_is_preferred_to_what_the_cache_calls_main(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    name = catalogue.INSTRUCT_PIX2PIX.id
    folder, pinned = hub.hub_folder(name), catalogue.REVISIONS[name]
    for commit in (OTHER, pinned):
        (folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(OTHER)
    assert hub.cached_snapshot(name, lambda folder: True).name == pinned


def test_the_worker_opens_no_port():
    process = subprocess.Popen(
        [sys.executable, str(FAKE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    process.stdin.write(b'{"id": 1, "method": "hello"}\n')
    process.stdin.flush()
    process.stdout.readline()
    try:
        assert psutil.Process(process.pid).net_connections() == []
    finally:
        process.stdin.close()
        process.wait(30)
