"""Scores against several right answers: the best one of a whole scene, each view's own, the share of pixels in one."""

import dataclasses

import numpy as np
import pytest
import torch

from in2n_blender.engine.editing.baselines import METHODS
from in2n_blender.engine.evaluation import testbed
from in2n_blender.engine.evaluation.answers import CEILING, OWN_MODE, compare_with_answers, load_exact, score_answers
from in2n_blender.engine.evaluation.bars import find_bars
from in2n_blender.engine.evaluation.cases import SCENES, Case, choose_cases
from in2n_blender.engine.evaluation.results import (
    Row,
    markdown_table,
    mean_over_seeds,
    mean_rows,
    table,
    tables,
    write_results,
)
from in2n_blender.engine.evaluation.scene_rendering import scene_folder
from in2n_blender.engine.evaluation.testbed import run_testbed
from in2n_blender.engine.nerf import settings as nerf_settings
from in2n_blender.link import requests
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Reporter
from in2n_blender.workspace.files import read_json
from tests.engine.ball import TINY

BLACK_GREY_WHITE = torch.tensor([0.0, 0.5, 1.0])[:, None, None, None].expand(3, 3, 16, 16)


def flat(brightness, height=16, width=16):
    return np.full((height, width, 3), brightness, np.float32)


def psnr_of(error):
    return -20 * np.log10(error)


def test_the_scene_has_the_one_answer_that_is_best_on_all_views():
    """Two views near white and one on black, which alone has the highest PSNR: white, by the mean, loses to black"""
    found = score_answers([flat(0.9), flat(0.95), flat(0.0)], [BLACK_GREY_WHITE] * 3)
    assert found.mode == 0 and found.own_modes == (2, 2, 0), "equal images count as 100 dB"
    assert found.own_mode_psnr_db == pytest.approx((psnr_of(0.1) + psnr_of(0.05) + 100) / 3, abs=1e-3)
    assert score_answers([flat(0.9), flat(0.95), flat(0.05)], [BLACK_GREY_WHITE] * 3).mode == 2


def test_the_share_is_of_the_most_frequent_answer_over_all_views():
    half = flat(0.9)
    half[:, :8] = 0.45
    found = score_answers([flat(0.1), half], [BLACK_GREY_WHITE] * 2)
    assert found.one_mode_share == pytest.approx(0.5), "256 pixels of black, 128 of grey, 128 of white"
    assert score_answers([flat(0.9), half], [BLACK_GREY_WHITE] * 2).one_mode_share == pytest.approx(0.75)
    assert score_answers([flat(0.9), flat(0.8)], [BLACK_GREY_WHITE] * 2).one_mode_share == 1


def test_a_single_pixel_is_smoothed_over_its_block():
    speck = flat(0.0)
    speck[3, 3] = 1
    assert score_answers([speck], [BLACK_GREY_WHITE]).one_mode_share == 1


def test_smaller_blocks_at_the_edge_count_by_their_pixels():
    image = flat(0.0, 8, 11)
    image[:, 8:] = 1
    answers = torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 3, 8, 11)
    assert score_answers([image], [answers]).one_mode_share == pytest.approx(8 / 11)


def test_what_looks_alike_under_all_answers_is_left_out():
    """Black stays black under every tint: whichever answer it is nearest to says nothing"""
    answers = BLACK_GREY_WHITE.clone()
    answers[:, :, :8] = 0
    image = flat(0.0)
    image[8:, :8], image[8:, 8:] = 0.4, 0.9
    assert score_answers([image], [answers]).one_mode_share == pytest.approx(0.5)
    assert score_answers([flat(0.2)], [torch.zeros(3, 3, 16, 16)]).one_mode_share is None


def test_answers_that_differ_visibly_are_told_apart_and_two_alike_are_not():
    pair = torch.tensor([0.0, 0.1])[:, None, None, None].expand(2, 3, 16, 16)
    assert score_answers([flat(0.02)], [pair]).one_mode_share == 1
    twins = torch.tensor([0.0, 0.02, 1.0])[:, None, None, None].expand(3, 3, 16, 16)
    assert score_answers([flat(0.9)], [twins]).one_mode_share is None, "whether it is the first or the second"


def test_views_that_do_not_fit_their_answers_are_refused():
    for images, answers in (([], []), ([flat(0)], []), ([flat(0, 8, 8)], [BLACK_GREY_WHITE])):
        with pytest.raises(ValueError):
            score_answers(images, answers)


def test_views_are_compared_with_the_exact_editors_answers():
    photos = [np.random.default_rng(seed).random((24, 24, 3), np.float32) for seed in range(3)]
    editor = load_exact("exact:K=3", "cpu")
    tinted = [editor.answers(torch.from_numpy(photo).permute(2, 0, 1)).permute(0, 2, 3, 1).numpy() for photo in photos]
    found, truths = compare_with_answers("exact:K=3", [tinted[0][1], tinted[1][1], tinted[2][2]], photos)
    assert found.mode == 1 and found.own_modes == (1, 1, 2) and found.one_mode_share == pytest.approx(2 / 3)
    for truth, right in zip(truths, tinted):
        np.testing.assert_allclose(truth, right[1])
    _, own = compare_with_answers(
        "exact:K=3", [right[2] for right in tinted[:2]] + [tinted[2][0]], photos, each_own=True
    )
    np.testing.assert_allclose(own[2], tinted[2][0])
    clear = np.concatenate([photos[0], np.zeros((24, 24, 1), np.float32)], 2)
    _, white = compare_with_answers("exact:K=3", [tinted[0][1]], [clear])
    assert white[0].std(axis=(0, 1)).max() < 1e-6, "what is clear is white in all photos"
    with pytest.raises(In2nError) as refused:
        load_exact("miniature", "cpu")
    assert refused.value.code == "unknown_editor"


# --- the testbed's cases and rows


def request_for(out, **more):
    settings = {"scenes": ["island"], "device": "cpu", "steps": 20, "rounds": 1, "editor": "exact:K=2,s=0.1"}
    settings |= {"scene_size": 32, "scene_views": 20, "scene_samples": 1, **more}
    return requests.Testbed(out=str(out), cache=str(out / "cache"), **settings)


def test_an_exact_editor_needs_no_instruction_and_has_two_more_methods(tmp_path):
    cases = choose_cases(request_for(tmp_path, scenes=[], seeds=2, seed=5))
    assert [case.method for case in cases[: len(METHODS) + 2]] == [*METHODS, CEILING, OWN_MODE]
    assert {case.instruction.text for case in cases} == {"exact:K=2,s=0.1"} and {case.seed for case in cases} == {5, 6}
    assert len(cases) == len(SCENES) * 2 * (len(METHODS) + 2) == len({(case.scene, case.edit_name) for case in cases})
    assert choose_cases(request_for(tmp_path, seeds=1, seed=5))[0].edit_name == cases[0].edit_name
    with pytest.raises(In2nError) as refused:
        choose_cases(request_for(tmp_path, editor="miniature", methods=[CEILING]))
    assert refused.value.code == "unknown_method"
    with pytest.raises(In2nError) as refused:
        choose_cases(request_for(tmp_path, editor="exact:K=99"))
    assert refused.value.code == "unknown_editor"


def test_a_case_is_its_row_of_the_same_seed():
    case = Case("one-time", "island", choose_cases(requests.Testbed(out="o", cache="c"))[0].instruction, 3)
    row = scored("one-time", 20.0, seed=2, instruction=case.instruction.text)
    assert case.row_of([row]) is None
    assert case.row_of([row, dataclasses.replace(row, seed=3, psnr_db=1.0)]).psnr_db == 1


def test_a_python_without_blender_renders_no_scene(tmp_path):
    for more in ({"scene_size": 48}, {"editor": "miniature"}, {"scenes": ["street"]}):
        request = request_for(tmp_path, blender_python=str(tmp_path / "no-such"), **more)
        with pytest.raises(In2nError) as refused:
            scene_folder(request.scenes[0], request, Reporter())
        assert refused.value.code == "no_blender"


def scored(method, psnr_db, seed=0, scene="island", instruction="x", **more):
    names = ("ssim", "lpips", "consistency", "clip_direction", "clip_consistency", "clip_consistency_printed")
    known = {**dict.fromkeys(names), "unet_evaluations": 4, "nerf_steps": 2, "seconds": 1.0, **more}
    return Row(method, scene, instruction, psnr_db, **known, seed=seed)


def test_a_mean_over_seeds_tells_how_far_they_differ():
    rows = [scored("a", 20.0), scored("a", 30.0, scene="street"), scored("a", 24.0, 1), scored("a", 30.0, 1, "street")]
    (mean,) = mean_rows(rows)
    assert mean.psnr_db == 26 and mean.seed is None
    assert mean.psnr_spread_db == pytest.approx(2**0.5), "25 and 27 are sqrt(2) around their mean"
    island, street = mean_over_seeds(rows)
    assert (island.scene, island.psnr_db, street.psnr_spread_db) == ("island", 22, 0)
    assert (mean.seeds, island.seeds) == (2, 2) and "seeds" in table([mean])
    assert mean_rows(rows[:2])[0].psnr_spread_db is mean_rows(rows[:2])[0].seeds is None


def test_seeds_are_shown_where_there_are_several():
    assert "seed" not in table([scored("a", 1.0), scored("b", 2.0)])
    shown = table([scored("a", 1.0, one_mode_share=0.9876), scored("a", 2.0, 1)])
    assert "seed" in shown and "98.8%" in shown and "one mode" in shown


def test_the_edit_region_and_the_geometry_have_a_table_of_their_own():
    row = scored("a", 20.0, psnr_edited_db=19.25, depth_within=0.875)
    main, details = tables([row])
    assert "19.25" not in main and "20.00" in main and "20.00" not in details
    assert details.split()[:2] == ["method", "scene"] and "19.25" in details and "87.5%" in details
    assert markdown_table([row], details=True).count("\n") == 2
    assert (
        tables([scored("a", 20.0)]) == [table([scored("a", 20.0)])] and markdown_table([scored("a", 1.0)], True) == ""
    )


# --- bars


def exact_row(method, psnr_db, seed=0, editor="exact:K=4,s=0.12", **more):
    return scored(method, psnr_db, seed, **{"instruction": editor, "one_mode_share": 0.99, **more})


def held(rows):
    return {bar.name.split(", ")[0]: (bar.value, bar.bar, bar.holds) for bar in find_bars(rows)}


def test_psnr_is_held_as_a_mean_and_shares_and_evaluations_in_the_worst_run():
    rows = [
        exact_row("agreement", 31.0, one_mode_share=0.97, unet_evaluations=600),
        exact_row("agreement", 33.5, 1, unet_evaluations=701),
    ]
    assert held(rows) == {
        "PSNR of agreement (dB) at least": (32.25, 32, True),
        "pixels of agreement in one mode at least": (0.97, 0.98, False),
        "evaluations of agreement at most": (701, 700, False),
    }


@pytest.mark.parametrize("editor, bar", [("exact:K=8,s=0.05", 32), ("exact:K=8,s=0.25", 28), ("exact:K=4,s=0.4", None)])
def test_the_bar_is_the_spreads(editor, bar):
    found = held([exact_row("agreement", 30.0, editor=editor)]).get("PSNR of agreement (dB) at least")
    assert found == (bar and (30, bar, bar < 30))


def test_where_shapes_change_agreement_is_above_its_rivals_in_the_edit_region():
    editor = "exact:answers=shapes,K=3,s=0.12"
    rows = [
        exact_row("agreement", 20.0, editor=editor, psnr_edited_db=19.0),
        exact_row("agreement", 20.0, 1, editor=editor, psnr_edited_db=21.0),
        exact_row("faithful", 25.0, editor=editor, psnr_edited_db=20.5, unet_evaluations=90),
        exact_row("one-time", 12.0, editor=editor, psnr_edited_db=12.0),
    ]
    assert held(rows) == {
        "pixels of agreement in one mode at least": (0.99, 0.98, True),
        "evaluations of agreement at most": (4, 700, True),
        "PSNR of agreement in the edit region (dB) above faithful's": (20, 20.5, False),
        "PSNR of agreement in the edit region (dB) above one-time's": (20, 12, True),
        "PSNR of faithful (dB) above one-time's": (25, 12, True),
    }
    assert not any(
        "edit region" in name for name in held([exact_row("agreement", 20.0, psnr_edited_db=19.0), *rows[2:]])
    )


def test_a_learned_editor_holds_agreement_to_the_best_other_method():
    rows = [
        scored("unedited", 20.0, ssim=0.9, consistency=40.0),
        scored("agreement", 15.0, ssim=0.7, consistency=30.0),
        scored("one-time", 15.5, ssim=0.6, consistency=35.0),
        scored("unedited", 9.0, ssim=0.4, consistency=40.0, scene="street"),
        scored("agreement", 19.0, ssim=0.5, consistency=32.0, scene="street"),
        scored("one-time", 15.0, ssim=0.55, consistency=20.0, scene="street"),
    ]
    assert held(rows) == {
        "mean PSNR of agreement (dB) at least the best other's": (17, 15.25, True),
        "mean SSIM of agreement at least the best other's": (pytest.approx(0.6), pytest.approx(0.575), True),
        "PSNR of agreement above the best other's": (-0.5, -0.3, False),
        "consistency of agreement (dB) at least the best of those that reach the edit": (31, 27.5, True),
    }
    assert held(rows[2:3] + rows[5:]) == held(rows[:2]) == {}


def test_the_papers_order_is_held_where_it_was_measured():
    rows = [
        exact_row("faithful", 17.0, unet_evaluations=6000),
        exact_row("one-time", 14.0),
        exact_row("per-frame", 18.0),
    ]
    assert held(rows) == {
        "PSNR of faithful (dB) above one-time's": (17, 14, True),
        "PSNR of faithful (dB) above per-frame's": (17, 18, False),
    }


def test_each_scene_and_editor_is_held_by_itself_and_only_exact_ones():
    rows = [
        exact_row("agreement", 33.0),
        exact_row("agreement", 20.0, scene="street"),
        exact_row("agreement", 29.0, editor="exact:K=4,s=0.25"),
        exact_row("agreement", 29.0, editor="exact:answers=rendered,K=4,s=0.12"),
        scored("agreement", 20.0, instruction="make it gold"),
    ]
    found = {bar.name: bar.holds for bar in find_bars(rows) if bar.name.startswith("PSNR")}
    assert found == {
        "PSNR of agreement (dB) at least, island, exact:K=4,s=0.12": True,
        "PSNR of agreement (dB) at least, street, exact:K=4,s=0.12": False,
        "PSNR of agreement (dB) at least, island, exact:K=4,s=0.25": True,
    }


def test_means_are_over_the_scenes_of_one_editor():
    rows = [exact_row("a", 20.0), exact_row("a", 30.0, scene="street"), exact_row("a", 10.0, editor="exact:K=8,s=0.12")]
    assert [(row.instruction, row.psnr_db) for row in mean_rows([*rows, scored("a", 1.0), scored("a", 2.0)])] == [
        ("exact:K=4,s=0.12", 25),
        ("exact:K=8,s=0.12", 10),
        ("all", 1.5),
    ]


def test_bars_are_written_beside_the_rows(tmp_path):
    rows = [exact_row("agreement", 33.0)]
    written = read_json(write_results(rows, tmp_path, find_bars(rows)))
    assert written["bars"][0] == {
        "name": "PSNR of agreement (dB) at least, island, exact:K=4,s=0.12",
        "value": 33.0,
        "bar": 32.0,
        "holds": True,
    }
    assert [row["psnr_db"] for row in written["rows"]] == [33.0]


# --- the testbed itself, small


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """(results folder, rows by method and seed) of the island with two answers"""
    out = tmp_path_factory.mktemp("exact")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(nerf_settings.CPU, "draft", TINY)
        patch.setattr(testbed, "SEQUENCE_FRAMES", 2)
        run_testbed(request_for(out, methods=["unedited", "per-frame", "one-time", CEILING, OWN_MODE]), Reporter())
        run_testbed(request_for(out, methods=[OWN_MODE], seeds=2), Reporter())
    return out, {(row["method"], row["seed"]): row for row in read_json(out / "result.json")["rows"]}


def test_rows_tell_agreement_from_its_lack(ran):
    out, rows = ran
    ceiling, own, frames = rows[CEILING, 0], rows[OWN_MODE, 0], rows["per-frame", 0]
    assert set(rows) == {(name, 0) for name in ("unedited", "per-frame", "one-time", CEILING, OWN_MODE)} | {
        (OWN_MODE, 1)
    }
    assert ceiling["one_mode_share"] > own["one_mode_share"] and ceiling["unet_evaluations"] == 0
    assert own["psnr_db"] == pytest.approx(own["own_mode_psnr_db"]) and own["psnr_db"] > 28, "a spread of 0.1"
    assert own["consistency"] is None and ceiling["consistency"] > 5
    assert frames["own_mode_psnr_db"] > frames["psnr_db"], "its frames have different answers"
    assert own["one_mode_share"] < 0.9 and rows["unedited", 0]["unet_evaluations"] == 0
    assert own["unet_evaluations"] % 20 == 0 and own["nerf_steps"] == 0 < ceiling["nerf_steps"]


def test_another_exact_editor_shares_the_folder(ran, monkeypatch):
    out, rows = ran
    monkeypatch.setitem(nerf_settings.CPU, "draft", TINY)
    monkeypatch.setattr(testbed, "SEQUENCE_FRAMES", 2)
    before = (out / "workspaces" / "island" / "reconstruction" / "checkpoint.safetensors").stat().st_mtime_ns
    run_testbed(request_for(out, methods=[OWN_MODE], editor="exact:K=3,s=0.1"), Reporter())
    found = read_json(out / "result.json")["rows"]
    assert [row["instruction"] for row in found].count("exact:K=3,s=0.1") == 1 and len(found) == len(rows) + 1
    after = (out / "workspaces" / "island" / "reconstruction" / "checkpoint.safetensors").stat().st_mtime_ns
    assert before == after, "it is not reconstructed again"
    with pytest.raises(In2nError) as refused:
        run_testbed(request_for(out, methods=["unedited"], editor="miniature"), Reporter())
    assert refused.value.code == "other_testbed"


def test_a_table_and_a_sheet_are_written(ran):
    out, rows = ran
    assert (out / "island-exact-K-2-s-0.1.png").stat().st_size > 10_000
    written = (out / "table.md").read_text()
    assert "own mode (dB)" in written and written.count("| ceiling | island |") > 0, "though the last run was another"
    assert all(f"| {method} |" in written for method, _ in rows)


def test_a_run_that_is_stopped_keeps_its_rows_and_bars_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setitem(nerf_settings.CPU, "draft", TINY)
    monkeypatch.setattr(testbed, "SEQUENCE_FRAMES", 2)
    request, measured = request_for(tmp_path, methods=["faithful", "per-frame", OWN_MODE]), []

    def measure_some(case, *given):
        if len(measured) == 2:
            raise Cancelled
        measured.append(case.method)
        return real(case, *given)

    real = testbed._measure
    monkeypatch.setattr(testbed, "_measure", measure_some)
    with pytest.raises(Cancelled):
        run_testbed(request, Reporter())
    before = read_json(tmp_path / "result.json")
    assert [row["method"] for row in before["rows"]] == measured == ["faithful", "per-frame"]
    assert [bar["name"].partition(",")[0] for bar in before["bars"]] == ["PSNR of faithful (dB) above per-frame's"]
    assert "per-frame" in (tmp_path / "table.md").read_text()

    measured.clear()
    run_testbed(request, Reporter())
    after = read_json(tmp_path / "result.json")
    assert measured == [OWN_MODE] and after["rows"][:2] == before["rows"] and len(after["rows"]) == 3


def test_settings_are_kept_from_before_the_first_row(tmp_path):
    asked = iter(range(3))
    with pytest.raises(Cancelled):
        run_testbed(request_for(tmp_path), Reporter(cancelled=lambda: next(asked, None) is None))
    assert not (tmp_path / "result.json").exists()
    with pytest.raises(In2nError) as refused:
        run_testbed(request_for(tmp_path, steps=21), Reporter())
    assert refused.value.code == "other_testbed", "its workspaces were made with the earlier ones"
