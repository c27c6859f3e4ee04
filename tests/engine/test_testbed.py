"""The testbed, small: a scene that Blender renders in a process of its own, all methods, few steps."""

import dataclasses
import importlib.util
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from in2n_blender.engine.editing.baselines import METHODS
from in2n_blender.engine.evaluation import scene_rendering, testbed
from in2n_blender.engine.evaluation.answers import CEILING, OWN_MODE
from in2n_blender.engine.evaluation.cases import EDITED, SCENES
from in2n_blender.engine.evaluation.testbed import run_testbed
from in2n_blender.engine.nerf import settings as nerf_settings
from in2n_blender.link import requests
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Progress, Reporter
from in2n_blender.testbed.miniature.instructions import INSTRUCTIONS
from tests.engine.ball import TINY

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("bpy") is None, reason="needs a Python with bpy to render a scene"
)


def request_for(out, cache, **more):
    return requests.Testbed(
        out=str(out),
        cache=str(cache),
        scenes=["courtyard"],
        device="cpu",
        steps=30,
        rounds=1,
        scene_size=48,
        scene_views=6,
        scene_samples=2,
        **more,
    )


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """(results folder, cache, what the run reported) of every method with two instructions"""
    out, cache, events = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("cache"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(nerf_settings.CPU, "draft", TINY)
        patch.setattr(testbed, "SEQUENCE_FRAMES", 3)
        result = run_testbed(
            request_for(out, cache, instructions=["make it snow", "make it gold"]), Reporter(events.append)
        )
    return out, cache, events, result


def test_rows_hold_quality_and_cost(ran):
    out, _, _, result = ran
    rows = json.loads((out / "result.json").read_text())["rows"]
    assert [(row["instruction"], row["method"]) for row in rows] == [
        (text, method) for text in ("make it look like it snowed", "make it gold") for method in METHODS
    ]
    for row in rows:
        assert (
            row["scene"] == "courtyard" and 3 < row["psnr_db"] < 60 and 0 < row["ssim"] < 1 and row["consistency"] > 5
        )
        assert (row["unet_evaluations"] > 0) == (row["method"] != "unedited") and row["peak_memory_mb"] > 100
        assert row["seconds"] > 0 and row["cpu_seconds"] > 0 or row["method"] == "unedited", (
            "three tiny frames may take no time at all"
        )
        assert row["clip_direction"] is None
        assert row["nerf_steps"] == 0 if row["method"] in ("unedited", "per-frame") else row["nerf_steps"] > 0
    assert all(method in result["table"] for method in METHODS)
    assert (out / "table.md").read_text().count("| iterative |") == 6, (
        "the mean and one for each instruction, and as many of the details"
    )


def test_truth_is_rendered_or_computed_from_the_photo(ran):
    out, cache, _, _ = ran
    photo = np.asarray(Image.open(next((cache / "courtyard" / "images").glob("test_*.png"))), float)
    snow, gold = (
        np.asarray(Image.open(sorted((out / "pictures" / "courtyard" / f"{name}-truth").glob("*.png"))[0]), float)
        for name in ("snow", "gold")
    )
    assert snow.shape == gold.shape == photo.shape
    assert snow.min(axis=2).mean() > 1.2 * photo.min(axis=2).mean(), "whiter"
    assert (gold[..., 0] >= gold[..., 2]).mean() > 0.99


def test_geometry_is_measured_where_the_renderer_noted_depths(ran):
    out, cache, _, _ = ran
    rows = json.loads((out / "result.json").read_text())["rows"]
    assert len(list((cache / "courtyard" / "depth" / "before").iterdir())) == 2
    for row in rows:
        known = [row[name] is not None for name in ("depth_error", "depth_within")]
        assert known == [row["method"] != "per-frame"] * 2, "single pictures have no geometry"
        assert row["depth_error_moved"] is None, "these edits move nothing"
        assert row["depth_error"] is None or 0 < row["depth_error"] < 3 and 0 < row["depth_within"] < 1
    assert all(row["psnr_kept_db"] is not None for row in rows if row["instruction"].endswith("snowed"))


@pytest.fixture(scope="module")
def reshaped(ran, tmp_path_factory):
    """(results folder, rows by method) of an exact editor whose answers have other shapes"""
    _, cache, _, _ = ran
    out, copy = tmp_path_factory.mktemp("shapes"), tmp_path_factory.mktemp("copied") / "cache"
    shutil.copytree(cache, copy)
    methods = ["unedited", "per-frame", "one-time", CEILING, OWN_MODE]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(nerf_settings.CPU, "draft", TINY)
        patch.setattr(testbed, "SEQUENCE_FRAMES", 3)
        request = request_for(out, copy, editor="exact:answers=shapes,K=2,s=0.1", methods=methods)
        run_testbed(dataclasses.replace(request, steps=150), Reporter())
    return out, {row["method"]: row for row in json.loads((out / "result.json").read_text())["rows"]}


def test_answers_of_another_shape_are_rendered_for_all_views_and_drawn(reshaped):
    out, rows = reshaped
    assert {row["instruction"] for row in rows.values()} == {"exact:answers=shapes,K=2,s=0.1"}, "without a folder"
    own = rows[OWN_MODE]
    assert (
        own["psnr_db"] == pytest.approx(own["own_mode_psnr_db"]) and own["psnr_db"] > 25 and own["depth_error"] is None
    )
    assert rows[CEILING]["unet_evaluations"] == 0 and rows[CEILING]["one_mode_share"] > 0.5
    assert rows["one-time"]["unet_evaluations"] == 6 * 20
    assert rows["per-frame"]["consistency"] is None, "there are no answers between them"
    assert rows["per-frame"]["psnr_edited_db"] is not None and rows["per-frame"]["unet_evaluations"] == 2 * 20


def test_a_moved_surface_is_measured_by_itself(reshaped):
    _, rows = reshaped
    for method in ("unedited", "one-time", CEILING):
        assert rows[method]["depth_error_moved"] > 0 and rows[method]["chamfer_percent"] is not None


def test_the_sheet_shows_the_answers_too(reshaped):
    out, _ = reshaped
    (sheet,) = out.glob("courtyard-exact*.png")
    assert Image.open(sheet).height > 8 * 160, "a photo, two answers and five methods"


def test_sheets_are_written(ran):
    out, _, events, _ = ran
    sheet = Image.open(out / "courtyard.png")
    assert sheet.width > 7 * 160 and sheet.height > 2 * 160
    assert any(isinstance(event, Progress) and "iterative" in event.message for event in events)


def test_a_second_run_computes_nothing_again_and_other_settings_are_refused(ran, tmp_path, monkeypatch):
    out, cache, _, _ = ran
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    monkeypatch.setattr(testbed, "run_method", None)
    before = (copy / "result.json").read_bytes()
    again = run_testbed(request_for(copy, cache, instructions=["make it gold"], methods=["iterative"]), Reporter())
    assert again["rows"] == 1 and (copy / "result.json").read_bytes() == before
    with pytest.raises(In2nError) as refused:
        run_testbed(request_for(copy, cache, seed=1), Reporter())
    assert refused.value.code == "other_testbed"


def test_unknown_names_are_refused_before_anything_is_made(tmp_path):
    for code, more in (
        ("unknown_method", {"methods": ["x"]}),
        ("unknown_instruction", {"instructions": ["make it a cactus"]}),
    ):
        with pytest.raises(In2nError) as refused:
            run_testbed(request_for(tmp_path / "out", tmp_path / "cache", **more), Reporter())
        assert refused.value.code == code
    assert not any(tmp_path.iterdir())


def test_a_renderer_that_fails_is_named(tmp_path):
    with pytest.raises(In2nError) as refused:
        run_testbed(
            request_for(tmp_path / "out", tmp_path / "cache", blender_python=str(tmp_path / "no-such-python")),
            Reporter(),
        )
    assert refused.value.code == "no_blender" and "--blender-python" in refused.value.hint


def test_cancelled_while_blender_renders(tmp_path):
    asked = iter(range(4))
    with pytest.raises(Cancelled):
        run_testbed(
            request_for(tmp_path / "out", tmp_path / "cache"), Reporter(cancelled=lambda: next(asked, None) is None)
        )


def test_every_scene_and_edit_has_a_caption():
    assert set(EDITED) == {instruction.name for instruction in INSTRUCTIONS} and len(SCENES) >= 3


def test_an_installation_without_the_scenes_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(scene_rendering, "SCENES_FOLDER", tmp_path / "testbed" / "scenes")
    with pytest.raises(In2nError) as refused:
        run_testbed(request_for(tmp_path / "out", tmp_path / "cache"), Reporter())
    assert refused.value.code == "no_checkout" and not any(tmp_path.iterdir())
