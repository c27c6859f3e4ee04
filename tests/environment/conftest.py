"""Tiny packages in place of the engine's, and both ways to install them."""

import json
import os

import pytest
from tiny_wheels import make_wheel

from in2n_blender import environment
from in2n_blender.environment import installation
from in2n_blender.environment import pins as versions


@pytest.fixture
def pins(tmp_path, monkeypatch):
    """Pins of tiny packages instead of the engine's; returns a function that sets them."""
    file, uv = tmp_path / "pins.json", versions.read_pins()["uv"]
    monkeypatch.setattr(versions, "FILE", file)

    def write(engine=("tiny==1.0",), imports=("tiny",), blender=(), blender_imports=(), disk_mb=1, constraints=()):
        file.write_text(
            json.dumps(
                {
                    "groups": {"engine": list(engine), "blender": list(blender), "test": [], "ray": []},
                    "python": {environment.python_version(): {"engine": [], "blender": [], "test": [], "ray": []}},
                    "constraints": list(constraints),
                    "imports": {"engine": list(imports), "blender": list(blender_imports), "test": [], "ray": []},
                    "uv": uv,
                    "disk_mb": {"engine": disk_mb, "blender": 1, "test": 0, "ray": 0},
                }
            )
        )

    write()
    return write


@pytest.fixture
def wheelhouse(tmp_path):
    folder = tmp_path / "wheels"
    make_wheel(folder, "tiny", "1.0", {"tiny/__init__.py": "size = 1\n"})
    return folder


@pytest.fixture(params=["uv", "pip"])
def tool(uv_wheel, request, monkeypatch):
    """Both ways to install."""
    if request.param == "pip":
        monkeypatch.setattr(installation, "find_uv", lambda home: None)
        for name in [n for n in os.environ if n.startswith("PIP_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return request.param
