"""Stages of a longer run."""

import pytest

from in2n_blender.scene.errors import In2nError
from in2n_blender.workspace.stages import Stages


def run_all(file, seed=0, fail=None, there=lambda: True):
    """Three stages, the middle one with a seed; returns what was called, as (name, restart)."""
    called, stages = [], Stages(file)

    def work(name):
        def call(restart):
            called.append((name, restart))
            if name == fail:
                raise RuntimeError
            return {"made": name}

        return call

    for name, settings in (("import", {}), ("train", {"seed": seed}), ("render", {})):
        stages.run(name, settings, work(name), there)
    return called, stages


def test_done_stages_are_not_repeated(tmp_path):
    first, _ = run_all(tmp_path / "run.json")
    again, stages = run_all(tmp_path / "run.json")
    assert [name for name, _ in first] == ["import", "train", "render"] and again == []
    assert stages.results["render"]["made"] == "render" and stages.results["train"]["seconds"] >= 0
    assert stages.settings("train") == {"seed": 0} and stages.settings("mesh") is None


def test_a_stage_that_failed_goes_on_without_restart(tmp_path):
    with pytest.raises(RuntimeError):
        run_all(tmp_path / "run.json", fail="train")
    assert run_all(tmp_path / "run.json")[0] == [("train", False), ("render", False)]


def test_other_settings_restart_the_stage_and_all_after_it(tmp_path):
    run_all(tmp_path / "run.json")
    assert run_all(tmp_path / "run.json", seed=1)[0] == [("train", True), ("render", True)]
    assert run_all(tmp_path / "run.json", seed=1)[0] == []


def test_what_is_no_longer_on_disk_is_made_again(tmp_path):
    run_all(tmp_path / "run.json")
    assert len(run_all(tmp_path / "run.json", there=lambda: False)[0]) == 3


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "5", '{"import": 5}', '{"import": {"settings": {}}}', '{"a": {"settings": {"a": {}}, "result": 5}}'],
)
def test_a_file_of_another_shape_is_said_in_a_sentence(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(In2nError) as refused:
        Stages(tmp_path / "run.json")
    assert refused.value.code == "bad_json" and (tmp_path / "run.json").read_text() == text
