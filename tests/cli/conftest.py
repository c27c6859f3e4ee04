"""A capture, and an engine whose jobs need no torch."""

import sys
from pathlib import Path

import pytest

from in2n_blender.cli import commands
from in2n_blender.link import client

FAKE = Path(__file__).resolve().parents[1] / "link" / "fake_worker.py"


@pytest.fixture
def capture(tmp_path):
    folder = tmp_path / "capture"
    folder.mkdir()
    return folder


@pytest.fixture
def engine(home, monkeypatch):
    """Jobs go to the fake worker."""
    monkeypatch.setenv("IN2N_ENGINE_PYTHON", sys.executable)
    monkeypatch.setattr(commands, "Client", lambda python, log, command: client.Client(python, log, FAKE, command))
