"""Which tests run in which process, and what that makes of their exit codes."""

from pathlib import Path

from in2n_blender import environment
from in2n_blender.cli import main, setup

TESTS = Path(__file__).resolve().parents[1]


def test_tests_with_and_without_bpy_run_apart():
    outside, blender = setup.split_test_paths(["-k", "camera", "-x"], TESTS)
    assert outside == ([str(TESTS), f"--ignore={TESTS / 'blender'}"], ["-k", "camera", "-x"])
    assert blender == ([str(TESTS / "blender")], ["-k", "camera", "-x"])


def test_paths_choose_their_process():
    assert setup.split_test_paths(["tests/scene", "-q"], TESTS) == [(["tests/scene"], ["-q"])]
    assert setup.split_test_paths(["tests/blender/conftest.py::x", "tests/link", "-k", "tests"], TESTS) == [
        (["tests/link"], ["-k", "tests"]),
        (["tests/blender/conftest.py::x"], ["-k", "tests"]),
    ]
    assert len(setup.split_test_paths(["tests"], TESTS)) == 2


def test_exit_codes_of_several_runs():
    assert setup.worst_code([0, 0]) == 0 and setup.worst_code([0, 1]) == 1
    assert setup.worst_code([5, 0]) == 0 and setup.worst_code([5, 5]) == 5


def test_ray_comes_with_the_engine_where_it_is_asked_for(home, monkeypatch):
    asked = []
    monkeypatch.setattr(environment, "install", lambda groups, report: asked.append(tuple(groups)))
    assert main.main(["install"]) == main.main(["install", "--with", "ray"]) == 0
    assert asked == [("engine",), ("engine", "ray")]
