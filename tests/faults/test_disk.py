"""A disk that is full, read-only or gone under every job: a sentence, and nothing of before is lost."""

import errno
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from in2n_blender.engine.pictures import write_scaled
from in2n_blender.engine.poses import colmap
from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.reporting import Reporter
from in2n_blender.workspace import files
from in2n_blender.workspace.layout import Workspace
from tests.faults.disks import (
    CAN_MOUNT,
    JOBS,
    PATH,
    NoDisk,
    SmallDisk,
    Undisturbed,
    ball_workspace,
    contents,
    do,
    prepare,
    raised_by,
    tiny_settings,
    writes_that_fail,
)


@pytest.fixture(scope="module")
def ball(tmp_path_factory):
    return ball_workspace(tmp_path_factory.mktemp("ball"))


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    tiny_settings(monkeypatch)


@pytest.fixture
def small_disk(tmp_path):
    if not CAN_MOUNT:
        pytest.skip("mounts a small disk: Linux, as root")
    disk = SmallDisk(tmp_path / "disk")
    try:
        disk.resize()
    except NoDisk as error:
        pytest.skip(f"no disk can be mounted: {error}")
    yield disk
    disk.close()


@pytest.mark.parametrize("job", [job for job in JOBS if job != "move"])
def test_a_write_that_fails_is_said_and_the_job_goes_on_afterwards(ball, tmp_path, monkeypatch, job):
    with writes_that_fail(monkeypatch, 10**9, 0) as count:
        whole = Undisturbed.of(job, prepare(ball, tmp_path / "0"), ball[1])
    assert count, "it writes"
    for number, at in enumerate(sorted({0, len(count) // 2, len(count) - 1}), 1):
        root = prepare(ball, tmp_path / f"{number}")
        code = (errno.ENOSPC, errno.EROFS, errno.EDQUOT)[at % 3]
        with writes_that_fail(monkeypatch, at, code):
            assert whole.faults(root, ball[1]) == [], (at, len(count))
        do(job, root, ball[1])
        assert contents(root.parent).keys() == whole.after.keys()


@pytest.mark.parametrize("job", JOBS)
def test_a_small_disk_that_fills_up(ball, small_disk, tmp_path, job):
    whole = Undisturbed.of(job, prepare(ball, tmp_path / "whole"), ball[1])
    root = prepare(ball, small_disk.place)
    for pages, nodes in ((0, None), (3, None), (10_000, 1)):
        small_disk.fill_up(pages, nodes)
        assert whole.faults(root, ball[1]) == [], (pages, nodes)
    small_disk.free_up()
    assert raised_by(job, root, ball[1]) is None
    assert contents(root.parent).keys() == whole.after.keys()


def test_a_disk_that_only_reads(ball, small_disk):
    root = prepare(ball, small_disk.place)
    before = contents(root)
    small_disk.resize(options=",ro")
    for job in JOBS:
        error = raised_by(job, root, ball[1])
        assert error and error.code in ("cannot_write", "cannot_use_file") and error.hint, job
    assert contents(root) == before


def test_a_picture_is_whole_or_an_error(small_disk):
    """PIL lets a JPEG be cut short, and says nothing."""
    noise = np.random.default_rng(0).integers(0, 255, (120, 200, 3), np.uint8)
    for pages in range(1, 8):
        small_disk.fill_up(pages)
        with pytest.raises(In2nError) as error:
            write_scaled(noise, (200, 120), small_disk.place / "a.jpg")
        assert error.value.code == "disk_full" and not contents(small_disk.place)
    small_disk.free_up()
    write_scaled(noise, (200, 120), small_disk.place / "a.jpg")
    Image.open(small_disk.place / "a.jpg").load()


def test_colmap_finds_no_room(small_disk):
    """It would end the process."""
    small_disk.resize(6000)
    database = small_disk.place / "database.db"
    with pytest.raises(In2nError) as error, colmap.opened_database(database):
        pass
    assert error.value.code == "disk_full" and error.value.hint
    with pytest.raises(In2nError) as error:
        colmap.extract_features(database, small_disk.place, ["a.jpg"], 1, 10, Reporter())
    assert error.value.code == "disk_full"


def test_a_database_that_is_none(tmp_path):
    (tmp_path / "database.db").write_bytes(b"no database" * 500)
    with pytest.raises(In2nError) as error, colmap.opened_database(tmp_path / "database.db"):
        pass
    assert error.value.code == "bad_database" and str(tmp_path) in error.value.message


@pytest.mark.parametrize(
    "raised, code",
    [
        (RuntimeError("Failed to write pixel data to image file: No space left on device."), "disk_full"),
        (RuntimeError("I/O error: Read-only file system (os error 30)"), "cannot_write"),
        (RuntimeError("I/O error: of another language (os error 28)"), "disk_full"),
        (OSError(errno.EFBIG, "File too large"), "cannot_write"),
        (OSError(errno.EIO, "Input/output error"), "cannot_write"),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.skipif(os.name == "nt", reason="the numbers are Linux's")
def test_what_libraries_say_of_a_disk_is_understood(tmp_path, raised, code):
    with pytest.raises(In2nError) as error, files.atomic_path(tmp_path / "a"):
        raise raised
    assert error.value.code == code and error.value.hint and not contents(tmp_path)


@pytest.mark.parametrize("raised", [RuntimeError("CUDA error: invalid argument"), ValueError("no"), OSError("what")])
def test_what_is_not_of_the_disk_stays_what_it_is(tmp_path, raised):
    with pytest.raises(type(raised)) as error, files.atomic_path(tmp_path / "a"):
        raise raised
    assert error.value is raised


@pytest.mark.parametrize("what", ["removed", "moved"])
@pytest.mark.parametrize("job", ["reconstruct", "edit", "render", "mesh", "export"])
def test_a_workspace_that_is_gone_under_a_job(ball, tmp_path, monkeypatch, job, what):
    root = prepare(ball, tmp_path / "a")
    real, whole = files._replace, contents(root)

    def replace(temporary, path):
        if root.exists():
            shutil.rmtree(root) if what == "removed" else os.rename(root, tmp_path / "ws")
        real(temporary, path)

    monkeypatch.setattr(files, "_replace", replace)
    error = raised_by(job, root, ball[1])
    assert error and error.code == "workspace_gone" and error.hint and not root.exists()
    if what == "moved":
        moved = contents(tmp_path / "ws")
        assert all(moved.get(path) == data for path, data in whole.items())


NAMES = ["two words", "quo'te", 'quo"te', "ünï🎨", "Кириллица", "%s%n", "$(touch x)", "-dash", "n" * 200]
NAMES = [name for name in NAMES if os.name != "nt" or '"' not in name]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:10])
def test_folders_of_any_name(ball, tmp_path, name):
    root = prepare(ball, tmp_path / name)
    for job in ("import", "render", "mesh", "photo"):
        do(job, root, ball[1])
    assert (tmp_path / name / "new/capture.json").is_file() and list(Workspace(root).renders(None, PATH).glob("*.exr"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]
