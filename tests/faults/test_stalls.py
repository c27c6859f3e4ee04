"""A disk or a share that does not answer for a while, and a laptop that sleeps: said, nothing lost, gone on with."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from in2n_blender.engine import stalls
from in2n_blender.link import client as c
from in2n_blender.link.messages import PROTOCOL
from in2n_blender.link.requests import Reconstruct
from in2n_blender.scene import unfinished
from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.reporting import Progress
from in2n_blender.workspace import files, journal, patience

ROOT = Path(__file__).resolve().parents[2]
FAKE = ROOT / "tests/link/fake_worker.py"
FREEZE, THAW = 0xC0045877, 0xC0045878  # ioctl(2): FIFREEZE, FITHAW


def until(happened, seconds=60):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def told(monkeypatch):
    monkeypatch.setattr(stalls, "ASKED_EVERY", 0.02)
    monkeypatch.setattr(stalls, "TOLD_AFTER", 0.3)
    said, ended = [], threading.Event()
    stalls.tell_of_stalls(said.append, ended)
    yield said
    ended.set()


@pytest.fixture(params=["held up", "frozen"])
def disk(request, tmp_path, monkeypatch):
    """A folder, and what lets its disk stop answering, and answer again."""
    if request.param == "held up":
        answers, real = threading.Event(), files._sync
        answers.set()
        monkeypatch.setattr(files, "_sync", lambda path: (answers.wait(60), real(path)))
        yield tmp_path, answers.clear, answers.set
        answers.set()
        return
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("freezes a disk: Linux, as root")
    import fcntl

    image, place = tmp_path / "image", tmp_path / "disk"
    place.mkdir()
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    for command in (["mkfs.ext4", "-q", "-F", str(image)], ["mount", "-o", "loop", str(image), str(place)]):
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            pytest.skip(str(error))
        if done.returncode:
            pytest.skip(f"no disk can be mounted: {done.stderr}")
    handle, frozen = os.open(place, os.O_RDONLY), []

    def freeze():
        fcntl.ioctl(handle, FREEZE, 0)
        frozen.append(True)

    def thaw():
        if frozen:
            frozen.clear()
            fcntl.ioctl(handle, THAW, 0)

    yield place, freeze, thaw
    thaw()
    os.close(handle)
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_does_not_answer_is_told_and_the_job_goes_on_when_it_does(disk, told):
    folder, stop, go_on = disk
    files.write_json(folder / "a.json", {"a": 1})
    stop()
    writing = threading.Thread(target=files.write_json, args=(folder / "a.json", {"a": 2}), daemon=True)
    writing.start()
    try:
        until(lambda: told)
        assert writing.is_alive() and str(folder / "a.json") in told[0] and "Check the disk" in told[0]
        assert json.loads((folder / "a.json").read_text()) == {"a": 1}
    finally:
        go_on()
    writing.join(60)
    until(lambda: len(told) == 2)
    assert "answers again" in told[1] and json.loads((folder / "a.json").read_text()) == {"a": 2}
    assert patience.longest_wait() is None and not [p for p in folder.iterdir() if p.name.startswith(".writing")]


def test_a_window_is_not_held_up_by_the_journal_of_a_disk_that_does_not_answer(tmp_path, monkeypatch):
    answers, real = threading.Event(), journal.write_json
    answers.set()
    monkeypatch.setattr(journal, "write_json", lambda *given, **how: (answers.wait(60), real(*given, **how)))
    monkeypatch.setattr(journal, "CLOSING_PATIENCE", 0.05)
    now = [0.0]
    kept = journal.Journal(tmp_path, "Edit", [("edit", {})], clock=lambda: now[0])
    answers.clear()
    for done in range(200):  # none of them waits for it, or this test would take an hour
        now[0] += 60.0
        kept.note(Progress(done, 200, "views", "Editing"))
    assert journal.is_locked(tmp_path)
    kept.close(In2nError("x", "It failed.", "h"))
    assert journal.is_locked(tmp_path), "what is still to be written is the job's"
    answers.set()
    until(lambda: not journal.is_locked(tmp_path))
    left = journal.unfinished(tmp_path)
    assert (left.state, left.why, left.done) == (journal.FAILED, "It failed.", 199)


ASLEEP = f"""
import sys
from pathlib import Path
from in2n_blender.link.client import Client
from in2n_blender.link.requests import Reconstruct
with Client(sys.executable, Path(sys.argv[1]) / "log", {str(FAKE)!r}) as client:
    print(client.run(Reconstruct(workspace=sys.argv[1], steps=30_000), lambda event: print(event, flush=True)))
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGSTOP")
def test_a_computer_that_sleeps_keeps_its_lock_and_goes_on(tmp_path):
    """Both processes are stopped in the middle of a job, and their clock is behind afterwards."""
    root = tmp_path / "ws"
    process = subprocess.Popen(
        [sys.executable, "-c", ASLEEP, str(root)], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert "Progress" in process.stdout.readline()
    worker = psutil.Process(process.pid).children()[0].pid
    for pid in (process.pid, worker):
        os.kill(pid, signal.SIGSTOP)
    half = root / f"{unfinished.TEMPORARY}{worker}-{unfinished.MACHINE}-{unfinished.birth_of(worker)}-x.png"
    half.write_bytes(b"of a picture that it was writing")
    os.utime(half, (time.time() - 9 * 86_400,) * 2)  # it slept for nine days
    with pytest.raises(In2nError) as said:
        journal.Journal(root, "Edit")
    files.write_json(root / "other.json", {})
    assert said.value.code == "workspace_busy" and half.exists()
    for pid in (worker, process.pid):
        os.kill(pid, signal.SIGCONT)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0 and "psnr_db" in output.splitlines()[-1]
    journal.Journal(root, "Edit").close(None)


def test_a_worker_that_starts_while_the_computer_sleeps_has_not_failed(tmp_path, monkeypatch):
    """Windows' clock goes on in the meantime."""
    source = f"""
import json, sys, time
sys.stdin.readline()
time.sleep(1)
print(json.dumps({{"id": 0, "result": {{"protocol": {PROTOCOL}}}}}), flush=True)
m = json.loads(sys.stdin.readline())
print(json.dumps({{"id": m["id"], "result": {{"a": 1}}}}), flush=True)
sys.stdin.read()
"""
    (tmp_path / "worker.py").write_text(source)
    real, slept = time.monotonic, [0.0]
    monkeypatch.setattr(c.time, "monotonic", lambda: real() + slept[0])
    with c.Client(sys.executable, tmp_path / "log", tmp_path / "worker.py") as client:
        job = client.submit(Reconstruct(workspace=str(tmp_path / "w")))
        client.poll()
        slept[0] = 9 * 3600.0
        assert client.wait(job) == {"a": 1}
