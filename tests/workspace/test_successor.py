"""A result made anew takes its place once it has something to show, and nothing is lost at any step before."""

import os

import pytest

from in2n_blender.scene.errors import In2nError
from in2n_blender.workspace import files
from in2n_blender.workspace.layout import Workspace
from in2n_blender.workspace.successor import Successor, settle


@pytest.fixture
def workspace(tmp_path):
    made = Workspace(tmp_path / "ws")
    for folder in (made.reconstruction, made.edit("snow")):
        save(folder, "old")
    return made


def save(folder, what):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "checkpoint.safetensors").write_text(what)


def saved(folder):
    return (folder / "checkpoint.safetensors").read_text()


def test_what_is_gone_on_with_stays_in_its_folder(workspace):
    place = Successor(workspace, workspace.reconstruction, anew=False, keep=True)
    assert place.folder == workspace.reconstruction
    save(place.folder, "more")
    place.saved()
    place.done()
    assert saved(workspace.reconstruction) == "more" and not (workspace.root / "earlier").exists()


def test_where_nothing_was_it_is_made_in_its_place(workspace):
    assert Successor(workspace, workspace.edit("gold"), anew=True, keep=False).folder == workspace.edit("gold")


def test_an_earlier_result_is_kept_and_numbered(workspace):
    for number, what in ((1, "old"), (2, "new 1")):
        place = Successor(workspace, workspace.reconstruction, anew=True, keep=True)
        assert place.folder != workspace.reconstruction
        save(place.folder, f"new {number}")
        assert saved(workspace.reconstruction) == what
        place.saved()
        assert place.folder == workspace.reconstruction and saved(place.folder) == f"new {number}"
        place.done()
        assert saved(workspace.root / "earlier" / f"reconstruction-{number}") == what


def test_a_replaced_result_goes_when_its_successor_is_done(workspace):
    final = workspace.edit("snow")
    for attempt in ("first", "second"):
        place = Successor(workspace, final, anew=True, keep=False)
        save(place.folder, attempt)
        place.saved()
        replaced = workspace.root / "earlier" / "replaced" / "edits" / "snow"
        assert saved(replaced) == "old" and saved(final) == attempt, "the last that was done"
        assert [path.name for path in replaced.parent.iterdir()] == ["snow"]
    save(place.folder, "done")
    place.saved()
    place.done()
    assert saved(final) == "done" and not (workspace.root / "earlier").exists()


def test_what_never_saved_is_forgotten(workspace):
    place = Successor(workspace, workspace.edit("snow"), anew=True, keep=False)
    place.folder.mkdir()
    (place.folder / "preview.png").write_text("half")
    again = Successor(workspace, workspace.edit("snow"), anew=True, keep=False)
    assert not again.folder.exists() and saved(workspace.edit("snow")) == "old"


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("failing", [1, 2])
def test_a_rename_that_fails_leaves_the_earlier_in_its_place(workspace, monkeypatch, keep, failing):
    place, rename, count = Successor(workspace, workspace.reconstruction, anew=True, keep=keep), os.rename, 0
    save(place.folder, "new")

    def failing_rename(source, target):
        nonlocal count
        count += 1
        if count == failing:
            raise PermissionError(13, "in use")
        rename(source, target)

    monkeypatch.setattr(files.os, "rename", failing_rename)
    with pytest.raises(In2nError) as raised:
        place.saved()
    assert raised.value.code == "cannot_write" and saved(workspace.reconstruction) == "old"
    assert saved(place.folder) == "new"
    place.saved()
    assert saved(workspace.reconstruction) == "new"


def test_a_kill_between_the_renames_is_settled(workspace):
    place = Successor(workspace, workspace.reconstruction, anew=True, keep=True)
    save(place.folder, "new")
    settle(workspace, workspace.reconstruction)
    assert saved(workspace.reconstruction) == "old", "it is not for `settle` to take a place that is not free"
    os.renames(workspace.reconstruction, workspace.root / "earlier" / "reconstruction-1")
    settle(workspace, workspace.reconstruction)
    assert saved(workspace.reconstruction) == "new"
