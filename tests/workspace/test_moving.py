"""Moving a workspace: whole at the one place or at the other."""

import os

import pytest

from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Progress, Reporter
from in2n_blender.workspace import moving
from in2n_blender.workspace.files import write_json
from in2n_blender.workspace.layout import Workspace


@pytest.fixture
def workspace(tmp_path):
    workspace = Workspace(tmp_path / "scratch" / "a.in2n")
    for age, name in ((200, "snow"), (100, "gold")):
        write_json(workspace.edit(name) / "edit.json", {"name": name})
        os.utime(workspace.edit(name) / "edit.json", (1e9 - age, 1e9 - age))
    (workspace.root / "big.bin").write_bytes(b"0" * (3 * 2**20))
    return workspace


@pytest.fixture
def other_disk(monkeypatch, tmp_path):
    """As if the target were on another disk, to where a folder cannot be renamed."""
    real = os.rename

    def rename(source, target):
        if (tmp_path / "scratch") in (source, *source.parents):
            raise OSError(18, "Invalid cross-device link")
        real(source, target)

    monkeypatch.setattr(moving.os, "rename", rename)
    monkeypatch.setattr(moving, "_other_disk", lambda source, target: True)
    monkeypatch.setattr(moving, "COPY_BYTES", 2**20)


def test_a_rename_on_the_same_disk(workspace, tmp_path):
    target = tmp_path / "work" / "shot.in2n"
    moving.move_workspace(workspace.root, target, Reporter())
    assert not workspace.root.exists() and Workspace(target).edits() == ["snow", "gold"]
    moving.move_workspace(workspace.root, tmp_path / "nothing", Reporter())  # nothing is there yet: nothing to move
    assert not (tmp_path / "nothing").exists()


def test_a_copy_on_another_disk_keeps_the_edits_order(workspace, other_disk, tmp_path):
    target, events = tmp_path / "shot.in2n", []
    moving.move_workspace(workspace.root, target, Reporter(events.append))
    assert not workspace.root.exists() and Workspace(target).edits() == ["snow", "gold"]
    assert (target / "big.bin").stat().st_size == 3 * 2**20
    assert {(e.done, e.total) for e in events if isinstance(e, Progress)} >= {(0, 3), (1, 3), (2, 3)}


def test_cancelled_the_workspace_stays_whole(workspace, other_disk, tmp_path):
    seen = []
    with pytest.raises(Cancelled):
        moving.move_workspace(workspace.root, tmp_path / "shot.in2n", Reporter(seen.append, lambda: len(seen) > 1))
    assert workspace.edits() == ["snow", "gold"] and (workspace.root / "big.bin").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["scratch"]


def test_a_folder_that_is_there_is_not_written_over(workspace, tmp_path):
    (tmp_path / "shot.in2n").mkdir()
    with pytest.raises(In2nError) as raised:
        moving.move_workspace(workspace.root, tmp_path / "shot.in2n", Reporter())
    assert raised.value.code == "folder_exists" and workspace.edits() == ["snow", "gold"]
