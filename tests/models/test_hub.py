"""The Hugging Face cache and the leave to use the network."""

import json

import pytest

from in2n_blender.models import hub
from in2n_blender.models.families import INSTRUCT_PIX2PIX
from in2n_blender.scene.errors import In2nError

NAME = "someone/an-editor"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for name in (hub.ALLOW_DOWNLOAD, *hub.OFFLINE):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def snapshot(cache, revision, parts=("unet", "vae", "text_encoder"), main=True):
    folder = hub.hub_folder(NAME) / "snapshots" / revision
    for part in parts:
        (folder / part).mkdir(parents=True)
        (folder / part / "model.safetensors").write_bytes(b"0" * 2**20)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": INSTRUCT_PIX2PIX.pipeline}))
    if main:
        (hub.hub_folder(NAME) / "refs").mkdir(exist_ok=True)
        (hub.hub_folder(NAME) / "refs" / "main").write_text(revision)
    return folder


@pytest.mark.parametrize("value, allowed", [("1", True), ("0", False), ("", False), ("yes", False)])
def test_downloads_need_leave(cache, monkeypatch, value, allowed):
    monkeypatch.setenv(hub.ALLOW_DOWNLOAD, value)
    assert hub.may_download() == allowed
    assert not hub.is_offline()
    if not allowed:
        assert hub.ALLOW_DOWNLOAD in hub.why_no_download()


@pytest.mark.parametrize("variable", hub.OFFLINE)
def test_offline_is_stronger_than_leave(cache, monkeypatch, variable):
    monkeypatch.setenv(hub.ALLOW_DOWNLOAD, "1")
    for value in ("1", "true", "YES", "on"):
        monkeypatch.setenv(variable, value)
        assert hub.is_offline() and not hub.may_download() and variable in hub.why_no_download()
        assert variable in hub.how_to_allow()
    for value in ("0", "", "false", "No", "off"):
        monkeypatch.setenv(variable, value)
        assert hub.may_download()
    monkeypatch.setenv(hub.OFFLINE[0], "0")
    monkeypatch.setenv(hub.OFFLINE[1], "1")
    assert hub.OFFLINE[1] in hub.why_no_download(), "the one that forbids it is named"


def test_the_main_revision_is_preferred_and_an_older_whole_one_still_works(cache):
    assert hub.cached_snapshot(NAME, hub.has_editor_weights) is None
    old = snapshot(cache, "0123")
    assert hub.cached_snapshot(NAME, hub.has_editor_weights) == old
    new = snapshot(cache, "abcd", parts=("unet",))
    assert hub.cached_snapshot(NAME, hub.has_editor_weights) == old, "the newer one is half downloaded"
    for part in ("vae", "text_encoder"):
        (new / part).mkdir()
        (new / part / "model.safetensors").write_bytes(b"0")
    assert hub.cached_snapshot(NAME, hub.has_editor_weights) == new
    (hub.hub_folder(NAME) / "refs" / "main").write_text("../../../elsewhere")
    assert hub.cached_snapshot(NAME, hub.has_editor_weights).parent == hub.hub_folder(NAME) / "snapshots"


def test_sharded_weights_are_whole_when_all_shards_are_there(tmp_path):
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model-1.safetensors").write_bytes(b"0")
    assert not hub.has_safetensors(tmp_path)
    (tmp_path / "model-2.safetensors").write_bytes(b"0")
    assert hub.has_safetensors(tmp_path)
    for damaged in ("[]", "{", '{"weight_map": 3}'):
        (tmp_path / "model.safetensors.index.json").write_text(damaged)
        assert not hub.has_safetensors(tmp_path)


def test_found_in_the_cache_and_in_folders_and_removed_from_the_cache_alone(cache, tmp_path):
    snapshot(cache, "0123")
    mine = tmp_path / "mine"
    for part in ("unet", "vae", "text_encoder"):
        (mine / "gold" / part).mkdir(parents=True)
        (mine / "gold" / part / "model.safetensors").write_bytes(b"0" * 2**20)
    (mine / "gold" / "model_index.json").write_text(json.dumps({"_class_name": INSTRUCT_PIX2PIX.pipeline}))
    (mine / "notes").mkdir()
    found = [(m.name, m.megabytes, m.complete, m.downloaded) for m in hub.find_stored([mine, mine / "gold"])]
    assert found == [(NAME, 3, True, True), ("gold", 3, True, False), ("gold", 3, True, False)]
    hub.remove_downloaded(NAME)
    assert [m.name for m in hub.find_stored([mine])] == ["gold"]
    for name in (NAME, "../../mine", "mine/gold"):
        with pytest.raises(In2nError) as error:
            hub.remove_downloaded(name)
        assert error.value.code == "no_model"
    assert (mine / "gold" / "unet").is_dir()
