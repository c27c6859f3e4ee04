"""A machine to work on that is reached over the network, though it is this one."""

import os
import sys

import pytest

from in2n_blender.remote.machines import Machine
from tests.scale.ssh_server import HOST, Server, missing


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if why := missing():
        pytest.skip(why)
    made = Server.prepare(
        tmp_path_factory.mktemp("ssh") / "server",
        {"IN2N_ENGINE_PYTHON": sys.executable, "IN2N_IDLE_SECONDS": "3", "IN2N_THREADS": "1"},
    )
    made.start()
    before = os.environ.get("IN2N_SSH")
    os.environ["IN2N_SSH"] = made.ssh
    yield made
    if before is None:
        del os.environ["IN2N_SSH"]
    made.stop()


@pytest.fixture(scope="module")
def machine(server, tmp_path_factory):
    return Machine("GPU box", HOST, str(tmp_path_factory.mktemp("there") / "in2n"))
