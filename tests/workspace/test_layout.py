"""The folder of a scene: names, whole files or none, clear errors."""

import errno
import json
import os

import pytest

from in2n_blender.link.requests import REQUESTS, Edit, from_params
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Reporter
from in2n_blender.workspace import files
from in2n_blender.workspace import layout as w


@pytest.mark.parametrize("name", ["snow", "make-it-snow-1a2b", "A b.2"])
def test_good_names(name):
    assert w.safe_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "../x", "a/b", "a\\b", ".hidden", "x.", "x ", "a" * 81, "con:", "雪", "CON", "nul.txt", "com1 .x"]
)
def test_names_that_could_leave_the_folder_or_not_exist_everywhere(name):
    with pytest.raises(In2nError) as raised:
        w.safe_name(name)
    assert raised.value.code == "bad_name"


def test_a_file_is_whole_or_not_there(tmp_path):
    target = tmp_path / "new" / "file.json"
    with pytest.raises(KeyError):
        with files.atomic_path(target) as temporary:
            temporary.write_text("half")
            raise KeyError
    assert list(target.parent.iterdir()) == []
    files.write_json(target, {"a": 1})
    with pytest.raises(KeyError):
        with files.atomic_path(target) as temporary:
            temporary.write_text("half")
            raise KeyError
    assert json.loads(target.read_text()) == {"a": 1} and list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    "number, code",
    [
        (errno.ENOSPC, "disk_full"),
        (errno.EACCES, "cannot_write"),
        (errno.EROFS, "cannot_write"),
        (errno.ENOTDIR, "cannot_write"),
    ],
)
def test_a_write_that_fails_keeps_the_old_file_and_says_why(tmp_path, monkeypatch, number, code):
    target = tmp_path / "file.json"
    files.write_json(target, {"a": 1})

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(In2nError) as raised:
        files.write_json(target, {"a": 2})
    assert raised.value.code == code and raised.value.hint
    assert json.loads(target.read_text()) == {"a": 1} and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    "content, code", [(None, "missing_file"), (b'{"a": [1, 2', "bad_json"), (b"\xff\xfe\x00", "bad_json")]
)
def test_json_that_cannot_be_read(tmp_path, content, code):
    file = tmp_path / "file.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(In2nError) as raised:
        files.read_json(file)
    assert raised.value.code == code and "file.json" in raised.value.message


def test_edits_are_listed_in_the_order_they_were_started(tmp_path):
    workspace = w.Workspace(tmp_path)
    for age, name in enumerate(["second", "first"]):
        files.write_json(workspace.edit(name) / "edit.json", {})
        os.utime(workspace.edit(name) / "edit.json", (1000 - age, 1000 - age))
    assert workspace.edits() == ["first", "second"]


def test_requests_survive_the_way_through_json():
    request = Edit(workspace="w", name="n", instruction="make it snow", guidance_text=7.5)
    assert from_params(request.method, json.loads(json.dumps(request.to_params()))) == request
    assert {cls.method for cls in REQUESTS.values()} == set(REQUESTS)


def test_a_cancelled_job_stops_at_its_next_word():
    events = []
    report = Reporter(events.append, lambda: len(events) >= 2)
    with pytest.raises(Cancelled):
        for step in range(10):
            report.progress(step, 10, "steps", "working")
    assert len(events) == 2
