"""The real engine on a machine that is reached by ssh: the same results, only what changed travels, and a link that is
lost loses nothing."""

import json
import shutil
import sys
import threading
import time
from pathlib import Path

import pytest

from in2n_blender.link.client import Client
from in2n_blender.link.requests import Edit, ImportCapture, PathThroughViews, PreviewGrid, Reconstruct, RenderPath
from in2n_blender.remote.machines import Machine, worker_command
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Artifact, Progress
from tests.faults.kills import contents
from tests.scale.ssh_server import until
from tests.scene.captures import write_transforms


@pytest.fixture
def client(machine, home):
    with Client(machine.address, home / "worker.log", command=worker_command) as made:
        yield made


def orders(workspace: Path, capture: Path) -> list:
    place = {"workspace": str(workspace)}
    path = str(workspace / "paths" / "way.json")
    return [
        ImportCapture(**place, source=str(capture), preset="draft"),
        Reconstruct(**place, device="cpu", preset="draft", steps=20),
        Edit(**place, name="e", instruction="make it sunset", device="cpu", preset="draft", rounds=1),
        PathThroughViews(**place, name="way", frames=2),
        RenderPath(**place, camera_path=path, edit="e", device="cpu"),
    ]


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return write_transforms(tmp_path_factory.mktemp("capture") / "photos").parent


@pytest.fixture(scope="module")
def local(capture, tmp_path_factory):
    """What this machine itself makes."""
    folder = tmp_path_factory.mktemp("local")
    with Client(sys.executable, folder / "worker.log") as here:
        here.variables = {"IN2N_THREADS": "1"}  # as the other machine has it
        for request in orders(folder / "ws", capture):
            here.run(request)
    return contents(folder / "ws")


LONG = {"device": "cpu", "preset": "draft", "steps": 400}
TRAINED = "reconstruction/checkpoint.safetensors"


@pytest.fixture(scope="module")
def trained_long(capture, tmp_path_factory):
    """A checkpoint of this machine's own, after some seconds of training."""
    folder = tmp_path_factory.mktemp("long")
    with Client(sys.executable, folder / "worker.log") as here:
        here.variables = {"IN2N_THREADS": "1"}
        here.run(orders(folder / "ws", capture)[0])
        here.run(Reconstruct(workspace=str(folder / "ws"), **LONG))
    return contents(folder / "ws")[TRAINED]


def is_step(event) -> bool:
    return isinstance(event, Progress) and event.unit == "step" and event.done > 0


def test_a_whole_job_there_is_as_one_here(client, machine, capture, local, tmp_path):
    told = []
    for request in orders(tmp_path / "ws", capture):
        result = client.run(request, told.append)
        assert str(machine.folder) not in json.dumps(result), "only this machine's paths are told"
    found = contents(tmp_path / "ws")
    found = {name: content for name, content in found.items() if not name.startswith(".machines")}
    assert found.keys() == local.keys()
    assert [name for name in local if found[name] != local[name]] == []
    pictures = [event for event in told if isinstance(event, Artifact)]
    assert pictures and all(Path(event.path).is_relative_to(tmp_path / "ws") for event in pictures)
    assert any(isinstance(event, Progress) and event.unit == "step" for event in told)


def test_what_is_there_is_not_sent_again(client, capture, tmp_path):
    first, again = [], []
    requests = orders(tmp_path / "ws", shutil.copytree(capture, tmp_path / "new"))[:2]
    for request in requests:
        client.run(request, first.append)
    client.run(requests[1], again.append)
    sent = lambda events: [e for e in events if isinstance(e, Progress) and e.message.startswith("Sending")]
    assert sent(first) and not sent(again)


def test_pictures_come_while_the_job_works(client, capture, tmp_path):
    import_, reconstruct, edit = orders(tmp_path / "ws", capture)[:3]
    for request in (import_, reconstruct):
        client.run(request)
    there = []

    def seen(event):
        if isinstance(event, Artifact) and event.kind == "image":
            there.append(Path(event.path).is_file())

    client.run(edit, seen)
    assert there and all(there)


def test_cancelled_it_stops_there_and_goes_on_later(client, capture, tmp_path, trained_long):
    client.run(orders(tmp_path / "ws", capture)[0])
    long, steps = Reconstruct(workspace=str(tmp_path / "ws"), **LONG), []
    with pytest.raises(Cancelled):
        client.run(long, lambda event: steps.append(event) if is_step(event) else None, lambda: bool(steps))
    client.run(long)
    assert contents(tmp_path / "ws")[TRAINED] == trained_long


def test_a_link_that_is_cut_is_made_again_and_the_job_goes_on_meanwhile(
    client, server, capture, tmp_path, trained_long
):
    client.run(orders(tmp_path / "ws", capture)[0])
    told, cut = [], threading.Event()

    def cut_once(event):
        told.append(event)
        if is_step(event) and not cut.is_set():
            cut.set()
            server.stop()
            threading.Timer(2.0, server.start).start()

    client.run(Reconstruct(workspace=str(tmp_path / "ws"), **LONG), cut_once)
    said = [event.message for event in told if isinstance(event, Progress)]
    assert any("No link to GPU box; the job goes on there" in message for message in said)
    assert contents(tmp_path / "ws")[TRAINED] == trained_long


def test_a_job_whose_client_was_killed_is_taken_over(machine, capture, home, tmp_path, trained_long):
    long, log = Reconstruct(workspace=str(tmp_path / "ws"), **LONG), []
    with Client(machine.address, home / "worker.log", command=worker_command) as first:
        first.run(orders(tmp_path / "ws", capture)[0])
        first.submit(long)
        until(lambda: any(is_step(getattr(told, "event", None)) for told in first.poll()))
        first._process.kill()
    with Client(machine.address, home / "worker.log", command=worker_command) as second:
        second.run(long, log.append)
    assert "GPU box works on it already." in log
    assert contents(tmp_path / "ws")[TRAINED] == trained_long


def test_what_is_asked_for_outside_of_the_workspace_travels_too(client, capture, tmp_path, local):
    import_, reconstruct = orders(tmp_path / "ws", capture)[:2]
    for request in (import_, reconstruct):
        client.run(request)
    out = tmp_path / "pictures"
    client.run(PreviewGrid(workspace=str(tmp_path / "ws"), instruction="make it sunset", out=str(out), device="cpu"))
    assert (out / "photo.png").is_file() and (out / "preview.json").is_file()


def test_what_the_job_says_is_wrong_is_said_here(client, tmp_path):
    with pytest.raises(In2nError) as error:
        client.run(Reconstruct(workspace=str(tmp_path / "empty"), device="cpu"))
    assert error.value.code == "no_capture" and str(tmp_path / "empty") in error.value.message


def test_another_workspace_has_a_worker_of_its_own_and_the_first_one_ends(client, machine, capture, tmp_path):
    for name in ("one", "two"):
        client.run(orders(tmp_path / name, capture)[0])
    until(lambda: len(list(_sockets(machine))) == 1)
    assert all((tmp_path / name / "capture.json").is_file() for name in ("one", "two"))


def test_an_engine_that_nobody_uses_ends(machine, server):
    until(lambda: not any(_sockets(machine)))


def _sockets(machine):
    return Path(machine.folder, "sessions").glob("*/worker.sock")


def test_a_machine_that_is_not_there_is_named(server, home, tmp_path, monkeypatch):
    for host, code in (("nobody.invalid", "no_machine"), ("stranger", "no_key")):
        machine = Machine("Elsewhere", host, str(tmp_path / "there"))
        with Client(machine.address, home / "worker.log", command=worker_command) as client:
            begun = time.monotonic()
            with pytest.raises(In2nError) as error:
                client.run(Reconstruct(workspace=str(tmp_path / "ws"), device="cpu"))
            assert error.value.code == code and "Elsewhere" in error.value.message and error.value.hint
            assert time.monotonic() - begun < 60
