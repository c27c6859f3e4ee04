"""Other machines in the preferences and the panel, and the jobs that go to them."""

import types

import bpy
import pytest

from in2n_blender.blender import engine, machines, panels, settings
from in2n_blender.remote import installing
from in2n_blender.remote.machines import Machine, machine_of, worker_command
from in2n_blender.scene.errors import In2nError
from tests.blender.panel_reader import Read


class Listed(list):
    """As Blender's collection of the preferences' machines."""

    def add(self):
        self.append(types.SimpleNamespace(name="", host="", folder="~/in2n_blender"))
        return self[-1]

    def remove(self, index):
        del self[index]


@pytest.fixture
def listed(extension, monkeypatch):
    found = Listed([types.SimpleNamespace(name="GPU box", host="me@gpu", folder="/data/in2n")])
    named = types.SimpleNamespace(
        machines=found, live_picture=True, idle_minutes=10, home="", engine_python="", wheelhouse="", models=""
    )
    monkeypatch.setattr(settings, "preferences", lambda: named)
    return found


@pytest.fixture
def online(monkeypatch):
    monkeypatch.setattr(settings, "online_access", lambda: True)


@pytest.fixture
def sent(monkeypatch):
    """Which engine each job was given to; none is done."""
    asked = []

    def submit(_self, steps, label="", workspace="", python="", first=False, after=None):
        asked.append((str(python), steps))
        raise In2nError("enough", "Enough.", "")

    monkeypatch.setattr("in2n_blender.link.client.Client.submit", submit)
    return asked


def test_without_machines_nothing_is_to_be_chosen(imported, scene, engine):
    assert "Computer" not in Read(panels.IN2N_PT_reconstruct).text
    assert [item[0] for item in machines.items()] == [machines.HERE]


def test_a_machine_is_chosen_beside_the_device_and_gets_the_jobs(imported, scene, listed, online, sent):
    assert scene.in2n.computer == machines.HERE and machines.chosen(scene) is None
    assert not engine.is_at_hand(scene), "there is no engine here"
    scene.in2n.computer = "GPU box"
    assert machines.chosen(scene) == Machine("GPU box", "me@gpu", "/data/in2n")
    assert ("prop", "computer") in [entry[:2] for entry in Read(panels.IN2N_PT_reconstruct).seen]
    assert bpy.ops.in2n.reconstruct.poll(), "it has the engine"
    with pytest.raises(RuntimeError, match="Enough"):
        bpy.ops.in2n.reconstruct()
    ((address, _),) = sent
    assert machine_of(address) == machines.chosen(scene)
    assert worker_command(address, "worker.py")[-1] == address


def test_a_scene_keeps_its_machine_when_others_come_and_go(scene, listed):
    listed.add().name, listed[-1].host = "Second", "other"
    scene.in2n.computer = "Second"
    listed.remove(0)
    assert scene.in2n.computer == "Second"
    listed.remove(0)
    assert machines.chosen(scene) is None, "one that is listed no more is none"


def test_without_leave_the_network_is_not_used(imported, scene, listed, sent, monkeypatch):
    monkeypatch.setattr(settings, "online_access", lambda: False)
    monkeypatch.delenv("IN2N_SSH", raising=False)
    scene.in2n.computer = "GPU box"
    with pytest.raises(RuntimeError, match="online access is off"):
        bpy.ops.in2n.reconstruct()
    with pytest.raises(RuntimeError, match="online access is off"):
        bpy.ops.in2n.check_machine(index=0)
    assert not sent


def test_machines_are_added_checked_and_removed(scene, listed, online, monkeypatch):
    assert bpy.ops.in2n.add_machine() == {"FINISHED"} and listed[-1].name == "Machine 2"
    with pytest.raises(RuntimeError, match="has no host yet"):
        bpy.ops.in2n.check_machine(index=1)
    listed[-1].host = "-oProxyCommand=evil"
    with pytest.raises(RuntimeError, match="no host that ssh knows"):
        bpy.ops.in2n.install_on_machine("EXEC_DEFAULT", index=1)
    assert bpy.ops.in2n.remove_machine(index=1) == {"FINISHED"} and len(listed) == 1
    monkeypatch.setattr(installing, "condition", lambda machine, report: "missing")
    assert bpy.ops.in2n.check_machine(index=0) == {"FINISHED"}
    assert scene.in2n.status == "GPU box: The engine is not installed."
    done = []
    monkeypatch.setattr(installing, "install", lambda machine, report: done.append(machine.host))
    monkeypatch.setattr(installing, "condition", lambda machine, report: "ready")
    assert bpy.ops.in2n.install_on_machine("EXEC_DEFAULT", index=0) == {"FINISHED"}
    assert done == ["me@gpu"] and scene.in2n.status == "GPU box: The engine is installed."
