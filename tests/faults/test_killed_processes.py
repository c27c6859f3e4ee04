"""Whole processes killed by the clock: each is gone on with, with the same files, and none outlives who started it."""

import os

import pytest

from tests.faults.process_kills import ProcessKiller

pytestmark = pytest.mark.skipif(os.name == "nt", reason="SIGKILL")


@pytest.mark.parametrize("what", ["command line", "worker", "installation"])
def test_a_process_that_was_killed_leaves_nothing_that_is_not_whole(uv_wheel, tmp_path, what):
    for kill in ProcessKiller(what, tmp_path / "kills").kills(2, seed=0):
        assert kill.equal and not kill.left and not kill.orphans, kill
