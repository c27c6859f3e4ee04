"""A worker that outlives its client for a moment, and the next one in the same workspace."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from in2n_blender.engine import alone
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Reporter

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys; sys.path.insert(0, sys.argv[1])
from in2n_blender.engine.alone import alone_in
from in2n_blender.scene.reporting import Reporter
with alone_in(sys.argv[2], Reporter()):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(ROOT), str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_next_one_waits_until_the_first_is_gone(other, tmp_path):
    asked = []

    def cancelled():
        asked.append(time.monotonic())
        if len(asked) == 2:
            other.kill()
        return False

    with alone.alone_in(str(tmp_path), Reporter(cancelled=cancelled)):
        assert len(asked) >= 2 and other.wait() is not None


def test_one_that_stays_is_named(other, tmp_path, monkeypatch):
    monkeypatch.setattr(alone, "PATIENCE", 0.3)
    with pytest.raises(In2nError) as error, alone.alone_in(str(tmp_path), Reporter()):
        pass
    assert error.value.code == "workspace_busy" and str(tmp_path) in error.value.message
    with alone.alone_in(str(tmp_path / "other"), Reporter()), alone.alone_in("", Reporter()):
        pass


def test_who_waits_can_be_cancelled(other, tmp_path):
    with pytest.raises(Cancelled), alone.alone_in(str(tmp_path), Reporter(cancelled=lambda: True)):
        pass
