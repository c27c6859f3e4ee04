"""A machine to work on that is reached over the network, and a cluster of workers, though both are this one."""

import os
import sys
from contextlib import contextmanager

import pytest
import torch

from in2n_blender.engine import ray_crew
from in2n_blender.remote.machines import Machine
from in2n_blender.scene.reporting import Reporter
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


@pytest.fixture(scope="session")
def cluster():
    """Ray on this machine, which takes seconds to start: once for all."""
    ray = pytest.importorskip("ray", reason="the engine is installed without Ray")
    with one_thread():
        started = ray_crew.connect(ray, "auto", 2, Reporter())
        yield ray
    if started:
        ray.shutdown()


@contextmanager
def one_thread():
    """Here, as in the workers: with another number of them sums are made in another order."""
    threads, environment = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    yield
    torch.set_num_threads(threads)
    if environment is None:
        del os.environ["OMP_NUM_THREADS"]
    else:
        os.environ["OMP_NUM_THREADS"] = environment
