"""`--machine`: which machine a command's jobs go to, and what is said of the engine there."""

import pytest

from in2n_blender.cli import commands, main, setup
from in2n_blender.remote.machines import MACHINE_VARIABLE, machine_of


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """The engine that a command's client was made for."""
    found = []

    class Client:
        def __init__(self, python, log, command):
            found.append(str(python))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def run(self, request, *_):
            return {}

    monkeypatch.setattr(commands, "Client", Client)
    monkeypatch.setenv(MACHINE_VARIABLE, "")
    monkeypatch.setenv("IN2N_HOME", str(tmp_path / "home"))
    return found


def test_jobs_go_to_the_machine_that_is_named(asked, tmp_path):
    (tmp_path / "capture.json").write_text("{}")
    assert main.main(["import", str(tmp_path), "--out", str(tmp_path / "ws"), "--machine", "me@gpu:/data"]) == 0
    machine = machine_of(asked[0])
    assert (machine.host, machine.folder) == ("me@gpu", "/data")
    assert not (tmp_path / "home").exists(), "no engine is installed here"


def test_a_host_that_is_none_is_one_sentence(asked, tmp_path, capsys):
    (tmp_path / "capture.json").write_text("{}")
    code = main.main(["import", str(tmp_path), "--out", str(tmp_path / "ws"), "--machine=-oProxyCommand=x"])
    assert code == main.MENDABLE and "no host that ssh knows" in capsys.readouterr().err and not asked


@pytest.mark.parametrize("found, code", [("ready", 0), ("missing", main.MENDABLE)])
def test_the_engine_is_installed_and_looked_at_there(asked, monkeypatch, capsys, found, code):
    done = []
    monkeypatch.setattr(setup.installing, "install", lambda machine, report: done.append(machine.host))
    monkeypatch.setattr(setup.installing, "condition", lambda machine, report: found)
    assert main.main(["install", "--machine", "gpu"]) == code and done == ["gpu"]
    assert main.main(["install", "--verify", "--machine", "gpu"]) == code and done == ["gpu"]
    assert "gpu: The engine is" in capsys.readouterr().out
    assert main.main(["install", "--remove", "--machine", "gpu"]) == main.MENDABLE
