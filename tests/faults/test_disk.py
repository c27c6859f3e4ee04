"""A disk that is full, read-only or gone, at every write of every job: a sentence, and nothing of before is lost."""

import errno
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest

from in2n_blender.engine.importing import normalise_capture
from in2n_blender.engine.jobs import path_through_views
from in2n_blender.engine.nerf import settings as nerf_settings
from in2n_blender.engine.nerf.reconstruction import reconstruct
from in2n_blender.engine.output.frames import render_path
from in2n_blender.engine.output.mesh import extract_mesh
from in2n_blender.engine.worker import as_user_error
from in2n_blender.link.requests import ExtractMesh, ImportCapture, PathThroughViews, Reconstruct, RenderPath
from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.reporting import Reporter
from in2n_blender.workspace import edits, files
from in2n_blender.workspace.layout import Workspace
from tests.engine.ball import TINY, reconstructed_ball, ring
from tests.scene.captures import write_transforms

PATH = "way"


@pytest.fixture(scope="module")
def ball(tmp_path_factory):
    root = reconstructed_ball(tmp_path_factory.mktemp("ball") / "ws", ring(4))
    path_through_views(PathThroughViews(workspace=str(root), name=PATH, frames=2), Reporter())
    capture = write_transforms(root.parent / "capture")
    files.write_json(root / "edits/e/edit.json", {"name": "e"})
    return root, capture.parent


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def do(job, root, capture):
    """One job in a workspace, on tiny settings."""
    place = {"workspace": str(root)}
    if job == "import":
        normalise_capture(ImportCapture(workspace=str(root.parent / "new"), source=str(capture)), Reporter())
    elif job == "reconstruct":
        reconstruct(Reconstruct(**place, preset="draft", device="cpu", steps=8, seed=9), Reporter())
    elif job == "path":
        path_through_views(PathThroughViews(**place, name="other", frames=2), Reporter())
    elif job == "render":
        file = str(Workspace(root).camera_path(PATH))
        render_path(RenderPath(**place, camera_path=file, device="cpu"), Reporter())
    elif job == "mesh":
        extract_mesh(ExtractMesh(**place, resolution=16, device="cpu"), Reporter())
    elif job == "duplicate":
        edits.duplicate(Workspace(root), "e", "f")


JOBS = ("import", "reconstruct", "path", "render", "mesh", "duplicate")


@contextmanager
def writes_that_fail(monkeypatch, at, number):
    """Every write from the one with that number on fails; yields a list that counts them."""
    count, real = [], files._replace

    def replace(temporary, path):
        count.append(path)
        if len(count) > at:
            raise OSError(number, os.strerror(number), str(path))
        real(temporary, path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "_replace", replace)
        yield count


@pytest.mark.parametrize("job", JOBS)
def test_a_disk_that_is_full_at_any_write(ball, tmp_path, monkeypatch, job):
    monkeypatch.setitem(nerf_settings.CPU, "draft", TINY)
    shutil.copytree(ball[0], tmp_path / "0/ws")
    with writes_that_fail(monkeypatch, 10**9, 0) as count:
        do(job, tmp_path / "0/ws", ball[1])
    assert count, "it writes"
    whole = {path: len(data) for path, data in contents(tmp_path / "0").items()}
    for number, at in enumerate(sorted({0, len(count) // 2, len(count) - 1}), 1):
        root = tmp_path / f"{number}/ws"
        shutil.copytree(ball[0], root)
        before = contents(root)
        code = (errno.ENOSPC, errno.EROFS, errno.EDQUOT)[at % 3]
        with writes_that_fail(monkeypatch, at, code), pytest.raises((In2nError, OSError)) as failed:
            do(job, root, ball[1])
        error = as_user_error(failed.value)
        assert error and error.code in ("disk_full", "cannot_write") and error.hint, failed.value
        after = contents(root)
        kept = [path for path in before if after.get(path) == before[path]]
        moved = [data for data in before.values() if data in after.values()]
        assert len(kept) == len(before) or len(moved) == len(before), "something of before is lost"
        assert not [path for path in after if path.name.startswith(files.TEMPORARY)]
        do(job, root, ball[1])
        assert {path: len(data) for path, data in contents(root.parent).items()}.keys() == whole.keys()


ROOT_ON_LINUX = pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small disk")


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a small disk: a function of its size in KiB, which can be called again to change it."""
    place, mounted = tmp_path / "disk", []
    place.mkdir()

    def mount(kilobytes, options=""):
        how = f"size={kilobytes}k{options}" + (",remount" if mounted else "")
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", how, "tmpfs", str(place)], capture_output=True)
        if done.returncode:
            pytest.skip(f"no disk can be mounted: {done.stderr}")
        mounted.append(True)
        return place

    yield mount
    if mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


@ROOT_ON_LINUX
@pytest.mark.parametrize("job", ["reconstruct", "render", "mesh", "duplicate"])
def test_a_small_disk_that_fills_up(ball, small_disk, monkeypatch, job):
    monkeypatch.setitem(nerf_settings.CPU, "draft", TINY)
    root = small_disk(100_000) / "ws"
    shutil.copytree(ball[0], root)
    (root / "edits/e/large.bin").write_bytes(os.urandom(64 << 10))
    used = int(
        subprocess.run(["df", "-k", "--output=used", str(root)], capture_output=True, text=True).stdout.split()[-1]
    )
    before = contents(root)
    small_disk(used + 8)
    with pytest.raises((In2nError, OSError, RuntimeError)) as failed:
        do(job, root, ball[1])
    error = as_user_error(failed.value)
    assert error and error.code in ("disk_full", "cannot_write") and error.hint, failed.value
    assert all(data in contents(root).values() for data in before.values())
    small_disk(100_000)
    do(job, root, ball[1])


@ROOT_ON_LINUX
def test_a_disk_that_only_reads(ball, small_disk, monkeypatch):
    monkeypatch.setitem(nerf_settings.CPU, "draft", TINY)
    root = small_disk(100_000) / "ws"
    shutil.copytree(ball[0], root)
    before = contents(root)
    small_disk(100_000, ",ro")
    for job in ("import", "reconstruct", "path", "render", "mesh", "duplicate"):
        with pytest.raises((In2nError, OSError)) as failed:
            do(job, root, ball[1])
        error = as_user_error(failed.value)
        assert error and error.code == "cannot_write" and error.hint, (job, failed.value)
    assert contents(root) == before


@pytest.mark.parametrize("job", ["reconstruct", "render", "mesh"])
def test_a_workspace_that_is_removed_under_a_job(ball, tmp_path, monkeypatch, job):
    monkeypatch.setitem(nerf_settings.CPU, "draft", TINY)
    root = tmp_path / "ws"
    shutil.copytree(ball[0], root)
    real = files._replace

    def replace(temporary, path):
        if root.exists():
            shutil.rmtree(root)
        real(temporary, path)

    monkeypatch.setattr(files, "_replace", replace)
    with pytest.raises((In2nError, OSError)) as failed:
        do(job, root, ball[1])
    error = as_user_error(failed.value)
    assert error and error.hint, failed.value


NAMES = ["two words", "quo'te", "ünï🎨", "Кириллица", "%s%n", "$(touch x)", "-dash", "n" * 200]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:10])
def test_folders_of_any_name(ball, tmp_path, monkeypatch, name):
    monkeypatch.setitem(nerf_settings.CPU, "draft", TINY)
    root = tmp_path / name / "ws"
    shutil.copytree(ball[0], root)
    for job in ("import", "render"):
        do(job, root, ball[1])
    assert (tmp_path / name / "new/capture.json").is_file() and list(Workspace(root).renders(None, PATH).glob("*.exr"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]
