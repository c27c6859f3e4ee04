"""What we start ends with us, however we end."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from in2n_blender.link import process as p

ROOT = Path(__file__).resolve().parents[2]
# starts a program that knows nothing of us, says which processes there are, and waits to be killed
STARTS = """
import sys, psutil, time
from in2n_blender.link.lifelines import guarded
from in2n_blender.link.process import spawn
command = [sys.executable, "-c", "import time; print('at work', flush=True); time.sleep(600)"]
process = spawn(guarded(command) if sys.argv[1] == "guarded" else command, stdin=True)
process.stdout.readline()
print(*(child.pid for child in psutil.Process().children(recursive=True)), flush=True)
time.sleep(600)
"""


def killed_parent(how):
    """The processes that somebody had started who was killed."""
    parent = subprocess.Popen([sys.executable, "-c", STARTS, how], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    started = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
    parent.kill()
    parent.wait()
    return started


def test_a_program_that_knows_nothing_of_us_ends_with_us():
    started = killed_parent("guarded")
    assert len(started) == 2 and psutil.wait_procs(started, timeout=20)[1] == []


@pytest.mark.skipif(os.name != "nt", reason="the system's business on Windows alone")
def test_windows_ends_what_we_started():
    started = killed_parent("alone")
    assert started and psutil.wait_procs(started, timeout=20)[1] == []


def test_one_that_cannot_be_ended_yet_is_not_waited_for_without_end(monkeypatch):
    """A process that waits for a disk that does not answer outlives even SIGKILL until that does."""
    process = p.spawn([sys.executable, "-c", "import time; time.sleep(600)"])

    def wait(seconds=None):
        raise subprocess.TimeoutExpired("x", seconds)

    with monkeypatch.context() as patch:
        patch.setattr(process, "wait", wait)
        patch.setattr(process, "poll", lambda: None)
        p.end(process, grace=0.01)
    assert process.wait(20) != 0
