"""Every job of a workspace, killed and gone on with: the same files as without, and none that is half."""

import os
from pathlib import Path

import pytest

from tests.faults.kills import Killer, orders

JOBS = [job for job in orders(Path("x"), Path("y"), Path("z")) if job not in ("reconstruct", "edit")]


@pytest.fixture(scope="module")
def killer(tmp_path_factory):
    killer = Killer(tmp_path_factory.mktemp("kills"))
    yield killer
    killer.close()


@pytest.mark.skipif(os.name == "nt", reason="each job would start a process of its own, which takes minutes")
@pytest.mark.parametrize("job", JOBS)
def test_a_job_that_was_killed_goes_on_exactly(killer, job):
    kills = list(killer.kills(job, 2, seed=1))
    assert all(kill.equal and not kill.left for kill in kills), kills
