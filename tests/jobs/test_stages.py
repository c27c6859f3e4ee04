"""A run of several stages goes on where it stood and repeats what its settings call for."""

import pytest

from in2n_blender.jobs.stages import Stages


def test_stages_are_done_once_and_again_when_settings_before_them_change(tmp_path):
    calls = []

    def run(first, second):
        stages = Stages(tmp_path / "stages.json")
        stages.run("first", {"seed": first}, lambda restart: calls.append(("first", restart)) or {"psnr_db": 30.0})
        stages.run("second", {"text": second}, lambda restart: calls.append(("second", restart)) or {})
        return stages.results

    assert run(0, "a")["first"]["psnr_db"] == run(0, "a")["first"]["psnr_db"] == 30.0
    assert calls == [("first", False), ("second", False)]
    run(0, "b")
    assert calls[2:] == [("second", True)]
    run(1, "b")
    assert calls[3:] == [("first", True), ("second", True)]


def test_a_stage_that_was_stopped_goes_on_without_starting_over(tmp_path):
    def stopped(restart):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Stages(tmp_path / "stages.json").run("edit", {"text": "a"}, stopped)
    restarts = []
    Stages(tmp_path / "stages.json").run("edit", {"text": "a"}, lambda restart: restarts.append(restart) or {})
    assert restarts == [False]


def test_a_stage_whose_result_is_gone_is_repeated(tmp_path):
    restarts = []
    for _ in range(2):
        assert Stages(tmp_path / "stages.json").run("mesh", {}, lambda restart: restarts.append(restart) or {}, there=lambda: False)
    assert restarts == [False, False]
