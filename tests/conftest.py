"""For all rooms: settings that must be made before torch is imported, and what tests of several rooms need."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from in2n_blender.cli import wheels
from in2n_blender.cli.programs import Work
from in2n_blender.environment import blender_platform, uv_wheels
from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.reporting import Reporter

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

WHEELS = Path(__file__).resolve().parents[1] / "wheels"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home folder for environments and logs."""
    folder = tmp_path / "home"
    monkeypatch.setenv("IN2N_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def uv_wheel() -> Path | None:
    """The locked wheel of uv for this machine, fetched as a build fetches it, into the checkout's folder where
    `environment` finds it. None where none is locked: there pip gets uv."""
    if blender_platform() not in uv_wheels():
        return None
    try:
        work = Work(Reporter(), steps=1)
        return wheels.fetch_wheel(blender_platform(), WHEELS, sys.executable, work)
    except In2nError:
        if not shutil.which("uv"):
            raise
        return None
