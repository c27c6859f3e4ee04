"""`blender --command in2n`: the command line under the preferences of the add-on."""

import os
import sys

import bpy
import pytest

from in2n_blender.blender import command, settings
from in2n_blender.cli import main as cli


@pytest.fixture
def seen(monkeypatch):
    """What the command line was called with, and the environment that it saw."""
    calls = []

    def main(arguments, prog):
        calls.append((arguments, prog, dict(os.environ)))
        os.environ["IN2N_HOME"] = "what --home says"
        return 3

    monkeypatch.setattr(cli, "main", main)
    return calls


def test_the_preferences_are_what_the_command_line_goes_by(extension, seen, tmp_path, monkeypatch):
    for name in ("home", "wheelhouse", "python"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(settings, "home_folder", lambda: tmp_path / "home")
    monkeypatch.setattr(settings, "wheelhouse", lambda: tmp_path / "wheelhouse")
    monkeypatch.setattr(settings, "engine_python", lambda: tmp_path / "python")
    before = dict(os.environ)
    assert command.run(["mesh", "somewhere"]) == 3
    arguments, prog, environment = seen[0]
    assert arguments == ["mesh", "somewhere"] and prog == "blender --command in2n"
    for name, value in (("IN2N_HOME", "home"), ("IN2N_WHEELHOUSE", "wheelhouse"), ("IN2N_ENGINE_PYTHON", "python")):
        assert environment[name] == str(tmp_path / value)
    assert dict(os.environ) == before


def test_the_environment_variable_goes_before_the_preference(extension, seen, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "engine_python", lambda: tmp_path)
    monkeypatch.setenv("IN2N_ENGINE_PYTHON", sys.executable)
    command.run([])
    assert seen[0][2]["IN2N_ENGINE_PYTHON"] == sys.executable


def test_without_online_access_nothing_is_installed(extension, home, tmp_path, capsys):
    assert not bpy.app.online_access
    assert command.run(["import", str(tmp_path), "--out", str(tmp_path / "workspace")]) == 2
    assert "online access is off" in capsys.readouterr().err
    assert not home.exists()


def test_wrong_arguments_are_no_traceback(extension, capsys):
    assert command.run(["no-such-command"]) == 2
    assert "usage: blender --command in2n" in capsys.readouterr().err
    assert command.run(["--help"]) == 0
