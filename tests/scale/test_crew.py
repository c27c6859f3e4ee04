"""Work in pieces: in this process, and on the workers of a real Ray cluster on this machine."""

import os
import sys
from pathlib import Path

import pytest

from in2n_blender.engine.crew import InThisProcess, Role
from in2n_blender.engine.hiring import crew_for
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Progress, Reporter

ROLE = Role("tests.scale.roles:Squaring", {"exponent": 2})


@pytest.fixture(params=["here", "cluster"])
def crew(request):
    if request.param == "here":
        yield InThisProcess(ROLE)
        return
    request.getfixturevalue("cluster")
    with crew_for(ROLE, "auto", 2, Reporter()) as made:
        yield made


@pytest.fixture
def two(cluster):
    with crew_for(ROLE, "auto", 2, Reporter()) as made:
        yield made


def values(results):
    return [float(result["value"]) for result in results]


def test_results_are_in_order_whoever_ends_first(crew):
    ended, told = [], []
    pieces = [{"value": n, "seconds": 0.3 if n == 0 else 0.0} for n in range(5)]
    results = crew.do_all(
        pieces, Reporter(), ended=lambda n, _: ended.append(n), told=lambda n, event: told.append((n, event))
    )
    assert values(results) == [0, 1, 4, 9, 16] and sorted(ended) == [0, 1, 2, 3, 4]
    assert all(isinstance(event, Progress) and event.message == f"Squaring {n}" for n, event in told)
    assert crew.do_all([], Reporter()) == []


def test_a_piece_waits_for_those_that_it_needs(crew):
    ended = []
    pieces = [{"value": 0, "seconds": 0.3}, {"value": 1}, {"value": 2}]
    crew.do_all(pieces, Reporter(), ended=lambda n, _: ended.append(n), after={1: [0], 2: [1]})
    assert ended == [0, 1, 2]


def test_what_a_piece_raises_is_raised(crew):
    with pytest.raises(In2nError) as refused:
        crew.do_all([{"value": 1}, {"refuse": True}], Reporter())
    assert (refused.value.code, refused.value.hint) == ("no_such_thing", "Get one.")
    with pytest.raises((RuntimeError, ValueError), match="a mistake"):
        crew.do_all([{"fail": True}], Reporter())
    assert values(crew.do_all([{"value": 3}], Reporter())) == [9], "it goes on working"


def test_a_role_that_cannot_be_loaded_says_why(cluster):
    with crew_for(Role("tests.scale.roles:Absent", {}), "auto", 1, Reporter()) as crew:
        with pytest.raises(In2nError) as refused:
            crew.do_all([{}], Reporter())
    assert refused.value.code == "editor_missing"


def test_the_work_is_done_elsewhere_and_side_by_side(two):
    results = two.do_all([{"value": n, "seconds": 0.2} for n in range(4)], Reporter())
    assert len({result["process"] for result in results} - {os.getpid()}) == 2


def test_a_worker_that_dies_loses_nothing(two, tmp_path):
    said = []
    pieces = [{"value": n} for n in range(6)]
    for n in (1, 4):
        pieces[n]["die"] = str(tmp_path / f"died-{n}")
    results = two.do_all(pieces, Reporter(lambda event: said.append(event)))
    assert values(results) == [0, 1, 4, 9, 16, 25] and len(list(tmp_path.iterdir())) == 2
    assert len([line for line in said if "is done again" in line]) == 2


def test_a_piece_that_ends_every_worker_is_named(two):
    with pytest.raises(In2nError) as refused:
        two.do_all([{"always_die": True}], Reporter())
    assert refused.value.code == "worker_died"
    assert values(two.do_all([{"value": 2}], Reporter())) == [4]


@pytest.mark.parametrize("deaf", [False, True])
def test_cancelling_reaches_all_workers(two, tmp_path, deaf):
    """One that never looks is ended: without that, this would never return."""
    began = [tmp_path / str(n) for n in range(2)]
    pieces = [{"value": n, "began": str(began[n]), "deaf": deaf} for n in range(2)] + [{"value": 5}]
    cancelled = Reporter(cancelled=lambda: all(map(Path.exists, began)))
    with pytest.raises(Cancelled):
        two.do_all(pieces, cancelled)
    assert values(two.do_all([{"value": 2}, {"value": 3}], Reporter())) == [4, 9], "and they are there again"


def test_in_this_process_cancelling_is_noticed(tmp_path):
    pieces = [{"value": 1, "began": str(tmp_path / "began"), "deaf": False}]
    with pytest.raises(Cancelled):
        InThisProcess(ROLE).do_all(pieces, Reporter(cancelled=(tmp_path / "began").exists))


def test_an_engine_without_ray_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(In2nError) as refused, crew_for(ROLE, "auto", 1, Reporter()):
        pass
    assert refused.value.code == "no_ray" and "install --with ray" in refused.value.hint
