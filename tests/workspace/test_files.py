"""Files that are whole or not there, JSON, and locks."""

import errno
import json
import os

import pytest

from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.unfinished import TEMPORARY
from in2n_blender.workspace import files


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


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_json_does_not_know_is_not_written(tmp_path, number):
    target = tmp_path / "state.json"
    files.write_json(target, {"loss": 0.5})
    with pytest.raises(ValueError):
        files.write_json(target, {"loss": number})
    assert json.loads(target.read_text()) == {"loss": 0.5} and list(tmp_path.iterdir()) == [target]


def test_what_is_written_is_synced_before_it_takes_the_old_ones_place(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(files, "_sync", lambda path: done.append(("sync", os.path.basename(path))))
    real = os.replace
    monkeypatch.setattr(files.os, "replace", lambda a, b: (done.append(("replace", os.path.basename(a))), real(a, b)))
    files.write_json(tmp_path / "state.json", {})
    (first, written), (second, renamed), *folder = done
    assert (first, second) == ("sync", "replace") and written == renamed and written.startswith(TEMPORARY)
    assert folder == ([] if files.WINDOWS else [("sync", tmp_path.name)])
    done.clear()
    files.write_json(tmp_path / "job.json", {}, durable=False)
    assert [what for what, _ in done] == ["replace"]


def open_elsewhere(monkeypatch, times):
    """As Windows: a file that another program has open cannot be replaced, so many times."""
    real, tried = os.replace, []

    def replace(source, target):
        tried.append(target)
        if len(tried) <= times:
            raise PermissionError(errno.EACCES, "The process cannot access the file")
        real(source, target)

    now = [0.0]
    monkeypatch.setattr(files, "WINDOWS", True)
    monkeypatch.setattr(files, "_sync", lambda path: None)
    monkeypatch.setattr(files.os, "replace", replace)
    monkeypatch.setattr(files.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(files.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return tried


def test_a_picture_that_a_panel_has_open_is_replaced_a_moment_later(tmp_path, monkeypatch):
    tried = open_elsewhere(monkeypatch, times=3)
    files.write_json(tmp_path / "a.json", {"a": 1})
    assert len(tried) == 4 and json.loads((tmp_path / "a.json").read_text()) == {"a": 1}


def test_one_that_stays_open_is_an_error_in_the_end(tmp_path, monkeypatch):
    tried = open_elsewhere(monkeypatch, times=10**6)
    with pytest.raises(In2nError) as raised:
        files.write_json(tmp_path / "a.json", {"a": 1})
    assert raised.value.code == "cannot_write" and list(tmp_path.iterdir()) == []
    assert len(tried) == pytest.approx(files.REPLACE_PATIENCE / files.REPLACE_PAUSE, abs=3)


def test_a_folder_of_which_something_is_open_is_renamed_a_moment_later(tmp_path, monkeypatch):
    """And a file that a scanner has in its memory is one of those that Windows refuses for a moment."""
    real, refusals = os.rename, [PermissionError(errno.EACCES, "in use"), OSError(errno.EINVAL, "mapped")]
    refusals[1].winerror = files.USER_MAPPED_FILE

    def rename(source, target):
        if refusals:
            raise refusals.pop(0)
        real(source, target)

    (tmp_path / "a").mkdir()
    monkeypatch.setattr(files, "REPLACE_PAUSE", 0)
    monkeypatch.setattr(files.os, "rename", rename)
    with pytest.raises(PermissionError):
        files.rename_path(tmp_path / "a", tmp_path / "b")
    monkeypatch.setattr(files, "WINDOWS", True)
    refusals.append(PermissionError(errno.EACCES, "in use"))
    files.rename_path(tmp_path / "a", tmp_path / "b")
    assert not refusals and (tmp_path / "b").is_dir()
    refusals.append(OSError(errno.ENOSPC, "full"))
    with pytest.raises(OSError, match="full"):
        files.rename_path(tmp_path / "b", tmp_path / "a")
