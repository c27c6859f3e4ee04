"""Edits as a whole: renamed, duplicated and removed, completely or not at all."""

import json
import os
import shutil

import pytest

from in2n_blender.link.requests import Edit, ExtractMesh, PathThroughViews, RenderPath, from_params
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Progress, Reporter
from in2n_blender.workspace import edits
from in2n_blender.workspace import files as writing
from in2n_blender.workspace.files import write_json
from in2n_blender.workspace.journal import unfinished
from in2n_blender.workspace.layout import Workspace


@pytest.fixture
def workspace(tmp_path):
    """Edits "snow" (with frames and a mesh), then "gold" built upon it."""
    made = Workspace(tmp_path / "ws")
    for age, (name, parent) in enumerate([("snow", None), ("gold", "snow")]):
        folder = made.edit(name)
        write_json(folder / "edit.json", {"name": name, "instruction": f"make it {name}", "parent": parent})
        write_json(folder / "state.json", {"done": name == "snow"})
        (folder / "dataset").mkdir()
        (folder / "dataset" / "000.png").write_bytes(b"picture of " + name.encode())
        os.utime(folder / "edit.json", (1000 + age, 1000 + age))
    for file in (
        made.renders("snow", "orbit") / "0001.png",
        made.mesh("snow", ".ply"),
        made.mesh("snow", ".glb"),
        made.mesh("snow", ".ply", quick=True),
        made.mesh(None, ".ply"),
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(file.name)
    return made


def files(workspace):
    return {str(p.relative_to(workspace.root)): p.read_bytes() for p in workspace.root.rglob("*") if p.is_file()}


def test_what_is_read_says_whether_it_is_finished(workspace):
    assert (
        edits.read_edit(workspace, "snow")["instruction"] == "make it snow"
        and edits.read_edit(workspace, "snow")["finished"]
    )
    assert not edits.read_edit(workspace, "gold")["finished"]
    (workspace.edit("gold") / "edit.json").write_text("{")
    assert edits.read_edit(workspace, "gold") == {"finished": False}


def test_rename_takes_everything_along(workspace):
    before = files(workspace)
    edits.rename(workspace, "snow", "First snow")
    assert workspace.edits() == ["First snow", "gold"], "and keeps its place in the list"
    assert edits.read_edit(workspace, "First snow")["name"] == "First snow"
    assert edits.read_edit(workspace, "gold")["parent"] == "First snow"
    assert (workspace.renders("First snow", "orbit") / "0001.png").is_file() and workspace.mesh(
        "First snow", ".glb"
    ).is_file()
    assert (
        not any("snow" in name.replace("First snow", "") for name in files(workspace))
        and workspace.mesh(None, ".ply").is_file()
    )
    edits.rename(workspace, "First snow", "snow")
    assert files(workspace) == before


@pytest.mark.parametrize(
    "new, code",
    [
        ("gold", "edit_exists"),
        ("GOLD", "edit_exists"),
        ("original", "edit_exists"),
        ("../x", "bad_name"),
        ("", "bad_name"),
    ],
)
def test_a_name_that_cannot_be_is_refused(workspace, new, code):
    before = files(workspace)
    for action in (edits.rename, edits.duplicate):
        with pytest.raises(In2nError) as raised:
            action(workspace, "snow", new)
        assert raised.value.code == code
    assert files(workspace) == before


def test_case_alone_may_change(workspace):
    edits.rename(workspace, "snow", "Snow")
    assert workspace.edits() == ["Snow", "gold"]


def test_a_rename_that_fails_half_way_changes_nothing(workspace, monkeypatch):
    before, rename = files(workspace), os.rename

    def failing(source, target):
        if str(source).endswith(".glb"):
            raise PermissionError(13, "in use")
        rename(source, target)

    monkeypatch.setattr(edits.os, "rename", failing)
    with pytest.raises(In2nError) as raised:
        edits.rename(workspace, "snow", "ice")
    assert raised.value.code == "cannot_write" and files(workspace) == before


@pytest.mark.parametrize("failing", ["gold/edit.json", "job.json", "snow/edit.json", "renders", "meshes"])
def test_a_rename_that_cannot_write_changes_nothing(workspace, monkeypatch, failing):
    """A child's record, the job's, its own; then a folder that follows."""
    write_json(workspace.root / "job.json", job("snow"))
    before, write, rename = files(workspace), edits.write_json, os.rename
    times = {path: path.stat().st_mtime_ns for path in workspace.root.rglob("*.json")}

    def failing_write(path, data):
        if str(path).replace(os.sep, "/").endswith(failing):
            raise In2nError("disk_full", "Full.", "Free some.")
        write(path, data)

    def failing_rename(source, target):
        if failing in str(source):
            raise PermissionError(13, "in use")
        rename(source, target)

    monkeypatch.setattr(edits, "write_json", failing_write)
    monkeypatch.setattr(edits.os, "rename", failing_rename)
    with pytest.raises(In2nError) as raised:
        edits.rename(workspace, "snow", "ice")
    assert raised.value.code in ("disk_full", "cannot_write") and files(workspace) == before
    assert {path: path.stat().st_mtime_ns for path in workspace.root.rglob("*.json")} == times


def job(name):
    """job.json of an edit, its frames and a mesh, as `journal` writes it."""
    root = {"workspace": "/somewhere"}
    requests = [
        Edit(**root, name="more", instruction="x", parent=name),
        Edit(**root, name=name, instruction="x"),
        RenderPath(**root, camera_path="p.json", edit=name),
        ExtractMesh(**root, edit=None),
        PathThroughViews(**root, name=name),
    ]
    noted = [{"method": request.method, "params": request.to_params()} for request in requests]
    return {"label": "Edit", "requests": noted, "state": "cancelled", "why": "It was cancelled.", "done": 1, "total": 2}


def test_the_job_that_can_be_gone_on_with_knows_the_new_name(workspace):
    write_json(workspace.root / "job.json", job("snow"))
    edits.rename(workspace, "snow", "ice")
    more, itself, frames, mesh, path = (from_params(*request) for request in unfinished(workspace.root).requests)
    assert (more.parent, itself.name, frames.edit, mesh.edit) == ("ice", "ice", "ice", None)
    assert path.name == "snow", "a camera path's own name"


def test_a_removal_that_fails_half_way_changes_nothing(workspace, monkeypatch):
    edits.remove(workspace, "gold")
    before, rename = files(workspace), os.rename

    def failing(source, target):
        if str(source).endswith(".glb"):
            raise PermissionError(13, "in use")
        rename(source, target)

    monkeypatch.setattr(edits.os, "rename", failing)
    with pytest.raises(In2nError) as raised:
        edits.remove(workspace, "snow")
    assert raised.value.code == "cannot_write" and files(workspace) == before


def test_a_duplicate_stands_alone(workspace):
    events = []
    edits.duplicate(workspace, "snow", "snow-2", Reporter(events.append))
    assert workspace.edits() == ["snow", "gold", "snow-2"]
    assert edits.read_edit(workspace, "snow-2") == {**edits.read_edit(workspace, "snow"), "name": "snow-2"}
    assert (workspace.edit("snow-2") / "dataset" / "000.png").read_bytes() == b"picture of snow"
    assert any(isinstance(event, Progress) for event in events)
    assert not list(workspace.root.glob(".copying-*"))


def test_a_cancelled_duplicate_leaves_nothing(workspace):
    before = files(workspace)
    with pytest.raises(Cancelled):
        edits.duplicate(workspace, "snow", "snow-2", Reporter(cancelled=lambda: True))
    assert files(workspace) == before and not list(workspace.root.glob(".copying-*"))


def test_remove_takes_results_too_but_nothing_that_is_built_upon(workspace):
    with pytest.raises(In2nError) as raised:
        edits.remove(workspace, "snow")
    assert raised.value.code == "has_children"
    edits.remove(workspace, "gold")
    edits.remove(workspace, "snow")
    assert set(files(workspace)) == {"meshes/original.ply"} and workspace.edits() == []


def test_what_is_not_there_is_said(workspace):
    for action in (
        lambda: edits.remove(workspace, "x"),
        lambda: edits.rename(workspace, "x", "y"),
        lambda: edits.duplicate(workspace, "x", "y"),
    ):
        with pytest.raises(In2nError) as raised:
            action()
        assert raised.value.code == "no_edit"


def test_free_names(workspace):
    assert edits.free_name(workspace, "ice") == "ice" and edits.free_name(workspace, "snow") == "snow-2"
    edits.duplicate(workspace, "snow", "Snow-2")
    assert edits.free_name(workspace, "snow") == "snow-3"
    assert len(edits.free_name(workspace, "a" * 80)) <= 80


def test_a_damaged_edit_can_be_renamed_and_removed(workspace):
    (workspace.edit("gold") / "edit.json").write_text("{")
    edits.rename(workspace, "gold", "bad")
    edits.remove(workspace, "bad")
    assert json.loads((workspace.edit("snow") / "edit.json").read_text())["name"] == "snow" and workspace.edits() == [
        "snow"
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a process of its own")
def test_a_rename_that_was_killed_anywhere_is_brought_to_its_end(workspace, monkeypatch):
    write_json(workspace.root / "job.json", job("snow"))
    before = workspace.root.with_name("before")
    shutil.copytree(workspace.root, before)
    edits.rename(workspace, "snow", "ice")
    whole, killed_at = files(workspace), 0
    monkeypatch.setattr(edits, "SETTLED_AFTER", 0.0)
    while _killed(lambda: edits.rename(workspace, "snow", "ice"), killed_at, workspace, before):
        monkeypatch.setattr(writing, "_cleared", {})  # as in another process
        edits.settle(workspace)
        if killed_at:  # before the first step, nothing was renamed
            assert files(workspace) == whole, killed_at
        killed_at += 1
    assert killed_at > 8 and not (workspace.root / edits.RENAMING).exists()


def _killed(work, step, workspace, before):
    """Whether a process that does the work in the workspace as it was is killed before a step: a file or folder that
    takes its place."""
    shutil.rmtree(workspace.root)
    shutil.copytree(before, workspace.root)
    child = os.fork()
    if child == 0:
        passed = iter(range(1000))

        def stops(real):
            return lambda *given: os._exit(9) if next(passed) == step else real(*given)

        os.rename, os.replace = stops(os.rename), stops(os.replace)
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.parametrize(
    "note", [{}, {"old": "../x", "new": "y"}, {"old": 1, "new": []}, {"old": "nobody", "new": "y"}]
)
def test_a_note_of_renaming_that_is_none_changes_nothing(workspace, monkeypatch, note):
    before = files(workspace)
    write_json(workspace.root / edits.RENAMING, note)
    monkeypatch.setattr(edits, "SETTLED_AFTER", 0.0)
    edits.settle(workspace)
    assert files(workspace) == before
