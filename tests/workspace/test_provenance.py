"""What results are made from: equal for equals, the reason where they differ, and cheap to ask."""

import json
import os
import struct
from dataclasses import replace

import pytest

from in2n_blender.workspace import hashes, provenance
from in2n_blender.workspace.files import write_json
from in2n_blender.workspace.hashes import checkpoint_state, model_revision, scene_hash
from in2n_blender.workspace.layout import Workspace
from in2n_blender.workspace.provenance import (
    PARENT,
    PHOTOS,
    RECONSTRUCTION,
    Provenance,
    is_done,
    outdated,
    photos_hash,
)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(provenance, "LOOK_SECONDS", 0.0)


@pytest.fixture
def workspace(tmp_path):
    """A capture of three photos, a reconstruction of it, an edit A and an edit B on it."""
    made = Workspace(tmp_path / "ws")
    made.images.mkdir(parents=True)
    views = [{"name": str(i), "image": f"images/{i}.png", "held_out": False, "fx": 1.0} for i in range(3)]
    for view in views:
        (made.root / view["image"]).write_bytes(b"photo " + view["name"].encode())
    write_json(made.capture_json, {"name": "room", "source": "/a", "views": views, "points": [], "missing": []})
    photos = photos_hash(made)
    for name, inputs, parent in (
        (None, {}, None),
        ("A", {RECONSTRUCTION: "w None"}, None),
        ("B", {RECONSTRUCTION: "w None", PARENT: "w A"}, "A"),
    ):
        folder = made.edit(name) if name else made.reconstruction
        made_from = Provenance("x", {}, {PHOTOS: photos, **inputs}).to_json()
        if name:
            write_json(folder / "edit.json", {"name": name, "parent": parent, "provenance": made_from})
        state(made, name, done=True, weights=f"w {name}", provenance=made_from)
    return made


def state(workspace, edit, **changed):
    folder = workspace.edit(edit) if edit else workspace.reconstruction
    file = folder / "state.json"
    before = json.loads(file.read_text()) if file.is_file() else {}
    write_json(file, {**before, **changed})


def checkpoint(folder, state, tensors=b"12345678"):
    """A safetensors file by its specification: the header's length, the header, the data."""
    header = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    header["__metadata__"] = {"state": json.dumps(state)}
    text = json.dumps(header).encode()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "checkpoint.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + tensors)


MADE = Provenance("edit", {"seed": 1, "scales": (1, 2)}, {PHOTOS: "p", RECONSTRUCTION: "r", PARENT: "q"}, "m")


def test_equal_provenances_have_equal_hashes_also_from_json():
    again = Provenance.from_json(json.loads(json.dumps(MADE.to_json())))
    assert again.hash == MADE.hash and MADE.why_not(again) is None and again.why_not(MADE) is None
    assert Provenance("edit", {"scales": [1, 2], "seed": 1}, dict(MADE.inputs), "m").hash == MADE.hash


@pytest.mark.parametrize(
    "changed, reason",
    [
        ({"inputs": {**MADE.inputs, PHOTOS: "x"}}, "The photos changed after this was made."),
        ({"inputs": {**MADE.inputs, RECONSTRUCTION: "x"}}, "Made from an earlier reconstruction."),
        ({"inputs": {**MADE.inputs, PARENT: "x"}}, "“A”, which it builds on, was made again."),
        ({"engine": 0}, "Made by another version of the engine."),
        ({"model": "x"}, "Made with other weights of the model."),
        ({"settings": {"seed": 2}}, "Made with other settings."),
        ({"kind": "mesh"}, "Made with other settings."),
        ({"inputs": {PHOTOS: "p", RECONSTRUCTION: "r"}}, "Made with other settings."),
    ],
)
def test_what_differs_has_another_hash_and_a_reason(changed, reason):
    other = replace(MADE, **changed)
    assert other.hash != MADE.hash and MADE.why_not(other, "A") == reason


@pytest.mark.parametrize("data", [None, [], "x", {}, {"kind": 1, "settings": {}, "inputs": {}}, {"kind": "edit"}])
def test_what_is_no_provenance_is_unknown(data):
    assert Provenance.from_json(data) is None


# --- results


def test_nothing_is_outdated_that_is_as_it_was(workspace):
    assert [outdated(workspace, edit) for edit in (None, "A", "B")] == [None] * 3
    assert all(is_done(workspace, edit) for edit in (None, "A", "B"))


def test_each_reason_is_said(workspace):
    state(workspace, "A", weights="made again")
    assert outdated(workspace, "A") is None and outdated(workspace, "B") == "“A”, which it builds on, was made again."
    state(workspace, None, weights="made again")
    assert outdated(workspace, None) is None
    assert outdated(workspace, "A") == outdated(workspace, "B") == "Made from an earlier reconstruction."
    (workspace.images / "1.png").write_bytes(b"PHOTO 1")
    photos_hash(workspace)
    assert {outdated(workspace, edit) for edit in (None, "A", "B")} == {"The photos changed after this was made."}


def test_changed_cameras_are_changed_photos_and_another_name_of_the_capture_is_not(workspace):
    before = photos_hash(workspace)
    capture = json.loads(workspace.capture_json.read_text())
    write_json(workspace.capture_json, {**capture, "name": "hall", "source": "/b"})
    assert photos_hash(workspace) == before
    capture["views"][1]["fx"] = 2.0
    write_json(workspace.capture_json, capture)
    assert photos_hash(workspace) != before


def test_who_sees_the_points_is_part_of_a_capture(workspace):
    before, capture = photos_hash(workspace), json.loads(workspace.capture_json.read_text())
    write_json(workspace.capture_json, {**capture, "tracks": {"counts": [], "photos": [], "errors": []}})
    changed = photos_hash(workspace)
    write_json(workspace.capture_json, capture)
    assert changed != before == photos_hash(workspace)


def test_photos_are_read_once(workspace, monkeypatch):
    before, read, whole = photos_hash(workspace), [], provenance.file_hash
    monkeypatch.setattr(provenance, "file_hash", lambda path: read.append(path.name) or whole(path))
    assert photos_hash(workspace) == before and read == []
    os.utime(workspace.images / "2.png", ns=(1, 1))
    assert photos_hash(workspace) == before and read == ["2.png"]
    assert photos_hash(workspace) == before and read == ["2.png"]


def test_a_panel_never_reads_a_photo_and_claims_nothing_that_it_does_not_know(workspace, monkeypatch):
    monkeypatch.setattr(provenance, "file_hash", lambda path: pytest.fail("a photo was read"))
    os.utime(workspace.images / "2.png", ns=(1, 1))
    assert outdated(workspace, None) is None, "touched only, for all that is known"
    (workspace.images / "2.png").write_bytes(b"another photo")
    assert outdated(workspace, None) == "The photos changed after this was made.", "by its size"
    (workspace.root / ".photos.json").unlink()
    assert outdated(workspace, None) is None


def test_photos_are_looked_at_once_a_moment(workspace, monkeypatch):
    monkeypatch.setattr(provenance, "LOOK_SECONDS", 60.0)
    provenance._looks.clear()
    outdated(workspace, None)
    monkeypatch.setattr(provenance, "_look_at_photos", lambda _: pytest.fail("looked again"))
    assert [outdated(workspace, edit) for edit in (None, "A", "B")] == [None] * 3


def test_the_engines_numbers_changed(workspace, monkeypatch):
    monkeypatch.setattr(provenance, "NUMERIC_VERSION", provenance.NUMERIC_VERSION + 1)
    assert outdated(workspace, "A") == "Made by another version of the engine."


def test_what_stopped_before_its_end_is_not_done(workspace):
    state(workspace, None, done=False)
    assert not is_done(workspace, None) and not is_done(workspace, "nowhere")
    record = json.loads((workspace.edit("A") / "edit.json").read_text())
    record["provenance"]["settings"] = {"seed": 8}
    write_json(workspace.edit("A") / "edit.json", record)
    assert not is_done(workspace, "A"), "begun anew and killed before its first save"
    (workspace.edit("B") / "state.json").write_text("{")
    assert not is_done(workspace, "B") and outdated(workspace, "B") is None


# What the version without provenance wrote, shortened in numbers only.
LAST_RECORD = {
    "name": "snow",
    "method": "iterative",
    "instruction": "make it snow",
    "editor": "miniature",
    "seed": 0,
    "guidance_text": 1.0,
    "guidance_image": 1.0,
    "rounds": 5,
    "noise_schedule": "falling",
    "perceptual": "auto",
    "preset": "draft",
    "parent": None,
    "reconstruction": {"capture": "0123456789abcdef", "seed": 0, "total_steps": 600},
    "region": None,
}
LAST_STATE = {
    "transform": {"center": [0.1, 0.2, 0.3], "scale": 0.5},
    "near": 0.05,
    "has_alpha": False,
    **LAST_RECORD,
    "settings": {"levels": 8, "rays": 512, "steps": 600},
    "device": "cpu: 2 threads",
    "seconds": 83.1,
    "cpu_seconds": 150.2,
    "unet_evaluations": 600,
    "peak_memory_mb": 900,
    "edits_done": 160,
    "done": True,
    "step": 2000,
    "total_steps": 2000,
}


def test_a_result_of_the_last_version_is_done_and_not_called_outdated(workspace):
    folder = workspace.edit("snow")
    write_json(folder / "edit.json", LAST_RECORD)
    write_json(folder / "state.json", LAST_STATE)
    assert is_done(workspace, "snow") and outdated(workspace, "snow") is None
    write_json(folder / "edit.json", {**LAST_RECORD, "name": "ice", "parent": "renamed"})
    assert is_done(workspace, "snow")
    write_json(folder / "edit.json", {**LAST_RECORD, "instruction": "make it night"})
    assert not is_done(workspace, "snow"), "begun anew and killed before its first save"


# --- checkpoints and models


def test_a_checkpoints_state_is_read_without_its_tensors(tmp_path):
    checkpoint(tmp_path, {"done": True, "weights": "abc"})
    assert checkpoint_state(tmp_path) == {"done": True, "weights": "abc"} and scene_hash(tmp_path) == "abc"


def test_a_checkpoint_that_does_not_tell_is_known_by_its_bytes(tmp_path):
    checkpoint(tmp_path, {"done": True})
    before = scene_hash(tmp_path)
    checkpoint(tmp_path, {"done": True}, tensors=b"87654321")
    assert before and scene_hash(tmp_path) not in (None, before)


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x02" + b"\0" * 7 + b"{}", b"\x02" + b"\0" * 7 + b"[]"])
def test_a_damaged_checkpoint_has_no_state(tmp_path, content):
    (tmp_path / "checkpoint.safetensors").write_bytes(content)
    assert checkpoint_state(tmp_path) is None and scene_hash(tmp_path)
    assert checkpoint_state(tmp_path / "nowhere") is None and scene_hash(tmp_path / "nowhere") is None


def model(folder, weights=b"w" * 5000):
    for part in ("unet", "vae"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / part / "config.json").write_text("{}")
    (folder / "unet" / "model.safetensors").write_bytes(weights)
    return folder


@pytest.mark.parametrize("small", [1 << 30, 0], ids=["small", "large"])
def test_a_models_revision_is_of_its_weights_wherever_they_lie(tmp_path, monkeypatch, small):
    monkeypatch.setattr(hashes, "SMALL_MODEL", small)
    monkeypatch.setattr(hashes, "BLOCK", 1000)
    first = model_revision(model(tmp_path / "a"))
    assert model_revision(model(tmp_path / "b")) == first
    (tmp_path / "a" / "readme.txt").write_text("x")
    assert model_revision(tmp_path / "a") == first
    for spoilt in (b"x" + b"w" * 4999, b"w" * 4999 + b"x", b"w" * 2500 + b"x" + b"w" * 2499, b"w" * 5001):
        assert model_revision(model(tmp_path / "a", spoilt)) != first


def test_a_hub_models_revision_is_its_snapshots(tmp_path):
    revision = "0123456789abcdef0123456789abcdef01234567"
    assert model_revision(model(tmp_path / "snapshots" / revision)) == revision
