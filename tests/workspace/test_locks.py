"""Locks: the system's, and what stands for them on a share that knows none."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from in2n_blender.scene import unfinished
from in2n_blender.scene.errors import In2nError
from in2n_blender.workspace import imported, journal, locks
from in2n_blender.workspace.layout import Workspace

ROOT = Path(__file__).resolve().parents[2]
DAY = 86_400
# holds a file on a share that knows no locks, until its input ends
HOLD = """
import sys
from in2n_blender.workspace import locks
def flock(*_):
    raise OSError(37, "No locks available")
if sys.platform == "win32":
    import msvcrt
    msvcrt.locking = flock
else:
    import fcntl
    fcntl.flock = flock
handle = open(sys.argv[1], "a+")
print(locks.try_lock(handle), flush=True)
if sys.stdin.read(1):
    locks.unlock(handle)
    print("let go", flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_held_by_one(tmp_path):
    with open(tmp_path / "lock", "a+") as first, open(tmp_path / "lock", "a+") as second:
        assert locks.try_lock(first) and not locks.try_lock(second)
    with open(tmp_path / "lock", "a+") as third:
        assert locks.try_lock(third), "it is let go with the file"


@pytest.fixture(params=[errno.ENOLCK, errno.ENOTSUP])
def no_locks(request, monkeypatch):
    def refuse(*_):
        raise OSError(request.param, os.strerror(request.param))

    if os.name == "nt":
        import msvcrt

        monkeypatch.setattr(msvcrt, "locking", refuse)
    else:
        import fcntl

        monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.skipif(os.name == "nt", reason="flock is POSIX")
def test_a_lock_that_another_holds_is_told_from_a_place_without_locks(tmp_path, monkeypatch):
    import fcntl

    def held(*_):
        raise OSError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))

    monkeypatch.setattr(fcntl, "flock", held)
    with open(tmp_path / "lock", "a+") as handle:
        assert not locks.try_lock(handle)


def holder(file):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout.readline() == "True\n"
    return process


def test_a_share_without_locks_is_one_processs_at_a_time(tmp_path, no_locks):
    file = tmp_path / journal.LOCK_NAME
    other = holder(file)
    assert journal.is_locked(tmp_path)
    with pytest.raises(In2nError) as said:
        journal.Journal(tmp_path, "Edit")
    assert said.value.code == "workspace_busy" and journal.LOCK_NAME in said.value.hint
    print("x", end="", file=other.stdin, flush=True)
    assert other.stdout.readline() == "let go\n"
    assert not journal.is_locked(tmp_path)
    ours = journal.Journal(tmp_path, "Edit")
    assert journal.is_locked(tmp_path), "another file of this process is another's, too"
    ours.close(None)
    assert not journal.is_locked(tmp_path)
    other.communicate()


def test_who_was_killed_holds_no_share_without_locks(tmp_path, no_locks):
    other = holder(tmp_path / journal.LOCK_NAME)
    other.kill()
    other.wait()
    assert not journal.is_locked(tmp_path)
    journal.Journal(tmp_path, "Edit").close(None)


def test_another_computer_may_sleep_for_hours_with_a_share_without_locks(tmp_path, no_locks):
    file = tmp_path / journal.LOCK_NAME
    file.write_text("4711-abcdef-99-0123456789\n")
    os.utime(file, (time.time() - 0.9 * DAY,) * 2)
    assert journal.is_locked(tmp_path)
    os.utime(file, (time.time() - 1.1 * DAY,) * 2)
    assert not journal.is_locked(tmp_path)


def test_this_computers_jobs_keep_it_however_long_it_sleeps(tmp_path, no_locks):
    ours = journal.Journal(tmp_path, "Edit", [("edit", {})])
    file = tmp_path / journal.LOCK_NAME
    os.utime(file, (time.time() - 9 * DAY,) * 2)
    assert journal.is_locked(tmp_path)
    ours.close(None)


def test_a_long_job_says_that_it_holds_the_share(tmp_path, no_locks):
    now = [0.0]
    ours = journal.Journal(tmp_path, "Edit", [("edit", {})], clock=lambda: now[0])
    file = tmp_path / journal.LOCK_NAME
    os.utime(file, (time.time() - 9 * DAY,) * 2)
    now[0] = 60.0
    ours.note(journal.Progress(1, 2, "u", "m"))
    assert time.time() - file.stat().st_mtime < DAY
    ours.close(None)


def test_an_import_that_runs_on_a_share_without_locks_is_not_cleared_up(tmp_path, no_locks):
    workspace = Workspace(tmp_path / "ws")
    with imported.staged_import(workspace) as staging:
        (staging / "images").mkdir()
        imported.settle(workspace)
        assert (staging / "images").is_dir()
        (staging / "capture.json").write_text("{}")
    assert workspace.images.is_dir() and not list(workspace.root.glob(".importing-*"))


def test_what_is_written_there_by_chance_locks_nobody_out(tmp_path, no_locks):
    for text in ("\0" * 50, "x" * 5000, "-" * 50, f"{'9' * 40}-{unfinished.MACHINE}-1", f"-5-{unfinished.MACHINE}-1"):
        file = tmp_path / journal.LOCK_NAME
        file.write_text(text)
        os.utime(file, (time.time() - 2 * DAY,) * 2)
        assert not journal.is_locked(tmp_path)
