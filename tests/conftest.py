"""For all rooms: settings that must be made before torch is imported."""

import os

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home folder for environments and logs."""
    folder = tmp_path / "home"
    monkeypatch.setenv("IN2N_HOME", str(folder))
    return folder
