"""Rows and tables, scores and costs, and the evaluate job on a tiny capture with the tiny random editor."""

import dataclasses
import json
import math
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from in2n_blender.cli import commands
from in2n_blender.cli import main as cli
from in2n_blender.engine.diffusion.miniature.operations import OPERATIONS
from in2n_blender.engine.editing import dataset_update, methods
from in2n_blender.engine.evaluation import scoring
from in2n_blender.engine.evaluation.evaluate import evaluate, find_truths, opaque, picture_operation
from in2n_blender.engine.evaluation.metrics import sequence_consistency, ssim
from in2n_blender.engine.evaluation.results import Row, markdown_table, mean_rows, table, write_results
from in2n_blender.engine.evaluation.scoring import neighbour_order, score_sequence, score_views
from in2n_blender.engine.measure import CostMeter, psnr
from in2n_blender.engine.nerf.scene import RenderedView, load_scene
from in2n_blender.link.requests import Evaluate
from in2n_blender.scene.capture import View
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Artifact, Progress, Reporter
from in2n_blender.workspace.layout import Workspace
from tests.engine.analytic_scene import BallScene, camera_at
from tests.engine.test_clip_metrics import folder as clip_folder  # noqa: F401 (a fixture)
from tests.engine.test_dataset_update import made, request_for, stop_when, tiny  # noqa: F401 (fixtures)


def row(method="iterative", scene="ball", instruction="make it night", **more):
    scores = dict.fromkeys(
        ("psnr_db", "ssim", "lpips", "consistency", "clip_direction", "clip_consistency", "clip_consistency_printed")
    )
    return Row(
        method, scene, instruction, **{**scores, "unet_evaluations": 12, "nerf_steps": 100, "seconds": 3.5, **more}
    )


# --- rows


def test_table_is_aligned_and_leaves_out_what_nobody_measured():
    text = table([row(psnr_db=24.126), row("one-time", psnr_db=None, unet_evaluations=4)])
    lines = text.splitlines()
    assert (
        lines[0].split()[:4] == ["method", "scene", "instruction", "PSNR"] and "SSIM" not in text and "peak" not in text
    )
    assert lines[2].index("24.13") + len("24.13") == lines[0].index("PSNR (dB)") + len("PSNR (dB)"), (
        "numbers end where their title ends"
    )
    assert lines[3].startswith("one-time  ") and len({line.index("100") for line in lines[2:]}) == 1


def test_markdown_table():
    lines = markdown_table([row(instruction="a | b", ssim=0.5)]).splitlines()
    assert lines[0] == "| method | scene | instruction | SSIM | UNet evaluations | NeRF steps | seconds |"
    assert lines[1] == "| --- | --- | --- | --: | --: | --: | --: |"
    assert lines[2] == "| iterative | ball | a \\| b | 0.500 | 12 | 100 | 3.5 |"


def test_means_are_one_row_a_method_over_what_is_known():
    rows = [
        row(psnr_db=20.0, unet_evaluations=10),
        row("one-time", psnr_db=1.0),
        row(scene="garden", psnr_db=30.0, unet_evaluations=15),
        row(instruction="make it gold", psnr_db=None, unet_evaluations=12),
    ]
    first, second = mean_rows(rows)
    assert (first.method, first.scene, first.instruction, second.method) == ("iterative", "all", "all", "one-time")
    assert first.psnr_db == 25.0 and first.unet_evaluations == 12 and first.ssim is None and second.psnr_db == 1.0


def test_results_file(tmp_path):
    path = write_results([row(psnr_db=20.5)], tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "result.json"
    assert json.loads(path.read_text()) == {"rows": [dataclasses.asdict(row(psnr_db=20.5))]}


# --- cost


def test_cost_of_a_block():
    with CostMeter("cpu") as cost:
        before = cost.peak_memory_mb
        block = np.ones(100_000_000, np.uint8)
        time.sleep(0.5)  # many samples, on a busy machine too
        during = cost.seconds
        del block
    assert cost.peak_memory_mb - before > 90, "the block was freed again, its peak stays"
    assert 0.1 <= during <= cost.seconds
    seconds, cpu = cost.seconds, cost.cpu_seconds
    sum(i * i for i in range(300_000))
    assert (cost.seconds, cost.cpu_seconds) == (seconds, cpu), "what comes after does not count"
    with CostMeter("cpu") as later:
        pass
    assert later.peak_memory_mb < cost.peak_memory_mb - 50, "an earlier peak is not inherited"


def test_cpu_seconds_count_every_thread():
    from threading import Thread

    def work():
        end = time.thread_time() + 0.1
        while time.thread_time() < end:
            pass

    with CostMeter() as cost:
        threads = [Thread(target=work) for _ in range(2)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    assert cost.cpu_seconds >= 0.2


# --- scores


def ball_views(angles):
    cameras = [camera_at(angle, 80, 60) for angle in angles]
    return [BallScene().render(camera) for camera in cameras], cameras


def test_scores_are_means_over_the_views_with_a_truth():
    views, cameras = ball_views([0.0, 0.1, 0.2])
    truths = [views[0].rgb_srgb.numpy() * 0.9, None, views[2].rgb_srgb.numpy() ** 2]
    notes = []
    scores = score_views(views, cameras, truths, note=notes.append)
    pairs = [(views[i].rgb_srgb.numpy(), truths[i]) for i in (0, 2)]
    assert scores.psnr_db == pytest.approx(np.mean([psnr(*pair) for pair in pairs]))
    assert scores.ssim == pytest.approx(np.mean([ssim(*pair) for pair in pairs]))
    assert scores.consistency == pytest.approx(sequence_consistency(views, cameras)) and scores.clip_direction is None
    assert scores.lpips is not None or len(notes) == 1, "said once, not for every view"


def test_lpips_is_split_between_what_an_edit_changes_and_what_it_keeps(monkeypatch):
    views, cameras = ball_views([0.0])
    original = views[0].rgb_srgb.numpy()
    truth, where = original.copy(), np.zeros((60, 80), bool)
    where[:, :30] = True
    truth[where] = 0.2 * original[where]
    monkeypatch.setattr(scoring, "lpips", lambda *given: 0.3)
    monkeypatch.setattr(scoring, "lpips_map", lambda *given: np.where(where, 0.75, 0.25))
    scores = score_views(views, cameras, [truth], originals=[original])
    assert (scores.lpips, scores.lpips_edited) == (0.3, pytest.approx(0.75))
    assert scores.lpips_kept == pytest.approx(0.25)


def test_equal_images_are_a_number_and_no_truth_is_none():
    views, cameras = ball_views([0.0, 0.1])
    assert score_views(views, cameras, [view.rgb_srgb.numpy() for view in views]).psnr_db == 100.0
    unknown = score_views(views, cameras, None)
    assert (unknown.psnr_db, unknown.ssim, unknown.lpips) == (None, None, None) and unknown.consistency > 30
    with pytest.raises(ValueError):
        score_views(views, cameras, [np.zeros((5, 5, 3))] * 2)


def test_held_out_views_are_compared_from_neighbour_to_neighbour():
    angles = [0.0, 0.3, 0.1, 0.4, 0.2]
    views, cameras = ball_views(angles)
    order = neighbour_order(cameras)
    assert [angles[i] for i in order] in ([0.0, 0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1, 0.0])
    expected = sequence_consistency([views[i] for i in order], [cameras[i] for i in order])
    assert score_views(views, cameras, None).consistency == pytest.approx(expected)
    assert neighbour_order(cameras[:1]) == [0]


def test_consistency_is_measured_on_the_sequence_where_there_is_one():
    views, cameras = ball_views([0.0, 3.0])
    sequence = ball_views([0.0, 0.05, 0.1])
    assert score_views(views, cameras, None).consistency is None, "they see opposite sides"
    assert score_views(views, cameras, None, sequence=sequence).consistency == pytest.approx(score_sequence(*sequence))


class MeanColour:
    """Stands for a CLIP: embeds a picture as its mean colour, a caption as the colour it names."""

    def embed_images(self, images, report=None):
        return torch.stack([torch.as_tensor(np.asarray(image)).reshape(-1, 3).mean(0) for image in images])

    def embed_texts(self, texts):
        return torch.tensor(
            [{"grey": [0.3, 0.3, 0.3], "red": [0.8, 0.3, 0.3], "blue": [0.3, 0.3, 0.8]}[text] for text in texts]
        )


def flat(*colour):
    shape = (12, 16)
    return SimpleNamespace(
        rgb_srgb=torch.tensor(colour).expand(*shape, 3), alpha=torch.ones(shape), depth=torch.ones(shape)
    )


def test_clip_scores_by_an_embedding_that_is_known():
    cameras = [camera_at(angle, 16, 12) for angle in (0.0, 0.1)]
    grey, red, blue = flat(0.3, 0.3, 0.3), flat(0.6, 0.3, 0.3), flat(0.3, 0.3, 0.6)
    originals = [grey.rgb_srgb.numpy()] * 2
    asked = dict(originals=originals, clip=MeanColour(), captions=("grey", "red"))
    steady = score_views([red, red], cameras, None, **asked)
    assert steady.clip_direction == pytest.approx(1.0) and steady.clip_consistency == pytest.approx(1.0)
    assert steady.clip_consistency_printed == pytest.approx(0.0), "equal frames have no difference to multiply with"
    torn = score_views([red, blue], cameras, None, **asked)
    assert torn.clip_direction == pytest.approx(0.5, abs=1e-6) and torn.clip_consistency == pytest.approx(0.0, abs=1e-6)
    # (0.3, 0, 0) . (-0.3, 0, 0.3)
    assert torn.clip_consistency_printed == pytest.approx(-0.09)


def test_clip_scores_that_miss_something_say_what():
    cameras = [camera_at(angle, 16, 12) for angle in (0.0, 0.1)]
    views, notes = [flat(0.6, 0.3, 0.3)] * 2, []
    scores = score_views(views, cameras, None, clip=MeanColour(), note=notes.append)
    assert scores.clip_direction is None and scores.clip_consistency is None
    assert len(notes) == 2 and "caption" in notes[0] and "unedited" in notes[1]


def test_scoring_is_cancelled_between_views(monkeypatch):
    views, cameras = ball_views([0.0, 0.1, 0.2])
    measured, real = [], scoring.ssim
    monkeypatch.setattr(scoring, "ssim", lambda *pair: measured.append(1) or real(*pair))
    with pytest.raises(Cancelled):
        score_views(
            views, cameras, [view.rgb_srgb.numpy() for view in views], report=Reporter(cancelled=lambda: bool(measured))
        )
    assert len(measured) == 1


# --- truth


def test_the_truth_of_a_picture_operation_is_known_by_any_paraphrase():
    assert picture_operation("Turn it to night!") is OPERATIONS["night"]
    assert picture_operation("make it snow") is None, "Blender renders that one"
    assert picture_operation("add a moustache") is None


def test_photos_with_alpha_lie_over_white():
    image = np.dstack([np.full((2, 3, 3), 0.5, np.float32), np.full((2, 3), 0.25, np.float32)])
    assert opaque(image) == pytest.approx(0.25 * 0.5 + 0.75) and opaque(image).shape == (2, 3, 3)


def test_truths_from_a_folder(tmp_path):
    views = tuple(View(name, "", camera_at(0.0, 16, 12)) for name in ("a", "b"))
    with pytest.raises(In2nError) as missing:
        find_truths(str(tmp_path), "make it snow", views, [])
    assert missing.value.code == "missing_truth" and "a.png" in missing.value.hint
    Image.new("RGB", (16, 12), (255, 0, 51)).save(tmp_path / "b.png")
    notes = []
    none, found = find_truths(str(tmp_path), "make it snow", views, [], notes.append)
    assert (
        none is None
        and found.shape == (12, 16, 3)
        and found[0, 0] == pytest.approx([1.0, 0.0, 0.2])
        and "a.png" in notes[0]
    )
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(In2nError, match="8 x 8"):
        find_truths(str(tmp_path), "make it snow", views, [])
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(In2nError) as bad:
        find_truths(str(tmp_path), "make it snow", views, [])
    assert bad.value.code == "bad_truth"


# --- the job


@pytest.fixture(scope="module")
def edited(made):
    """The workspace with an edit "night", one round."""
    workspace, editor = made
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset_update, "DENOISING_STEPS", 2)
        methods.edit(request_for(workspace, editor, "night", rounds=1), Reporter())
    return workspace


def held_out(workspace):
    """(camera, photo (height, width, 3)) of the one held-out view."""
    view = load_scene(str(workspace), None, "cpu").capture.held_out_views[0]
    return view.camera, np.asarray(Image.open(workspace / view.image).convert("RGB"), np.float32) / 255


def test_an_edit_is_measured_against_the_photo_as_its_instruction_changes_it(edited, tmp_path):
    events = []
    result = evaluate(
        Evaluate(workspace=str(edited), edit="night", frames=3, out=str(tmp_path / "out"), device="cpu"),
        Reporter(events.append),
    )
    (found,) = result["rows"]
    camera, photo = held_out(edited)
    truth = OPERATIONS["night"](torch.from_numpy(photo).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    assert found["psnr_db"] == pytest.approx(
        psnr(load_scene(str(edited), "night", "cpu").render(camera).rgb_srgb, truth)
    )
    assert found["ssim"] < 1 and found["lpips"] is None and found["clip_direction"] is None
    state = json.loads((Workspace(edited).edit("night") / "state.json").read_text())
    assert (found["unet_evaluations"], found["nerf_steps"], found["seconds"]) == (
        state["unet_evaluations"],
        state["step"],
        state["seconds"],
    )
    assert found["instruction"] == "make it night" and found["scene"] == "ball" and math.isfinite(found["consistency"])
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == {"rows": result["rows"]}
    assert (
        "make it night" in result["table"]
        and "LPIPS" not in result["table"].splitlines()[0]
        and any("LPIPS" in note for note in result["notes"])
    )
    assert {event.path for event in events if isinstance(event, Artifact)} == {
        str(tmp_path / "out" / name) for name in ("result.json", "sheet.png")
    }
    last = [event for event in events if isinstance(event, Progress)][-1]
    assert last.done == last.total


def test_sheet_shows_photo_edit_and_truth(edited, tmp_path):
    evaluate(Evaluate(workspace=str(edited), edit="night", frames=2, out=str(tmp_path), device="cpu"), Reporter())
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.height > 2.5 * sheet.width * 16 / 24, "three rows of a wide picture"
    evaluate(Evaluate(workspace=str(edited), edit=None, frames=2, out=str(tmp_path), device="cpu"), Reporter())
    assert Image.open(tmp_path / "sheet.png").height < 0.8 * sheet.height, "two rows: the photo is the truth"


def test_the_reconstruction_is_measured_against_its_photos(edited):
    (found,) = evaluate(Evaluate(workspace=str(edited), frames=2, device="cpu"), Reporter())["rows"]
    state = json.loads((Workspace(edited).reconstruction / "state.json").read_text())
    assert found["psnr_db"] == pytest.approx(state["psnr_db"], abs=0.001) and found["method"] == "reconstruction"
    assert found["unet_evaluations"] == 0 and found["nerf_steps"] == 30


def test_a_given_truth_goes_first_and_an_unknown_one_is_said(edited, tmp_path):
    camera, _ = held_out(edited)
    view = load_scene(str(edited), "night", "cpu").render(camera).rgb_srgb
    Image.fromarray(np.round(view.numpy() * 255).astype(np.uint8)).save(tmp_path / "4.png")
    (found,) = evaluate(
        Evaluate(workspace=str(edited), edit="night", truth=str(tmp_path), frames=2, device="cpu"), Reporter()
    )["rows"]
    assert found["psnr_db"] > 45, "its own render is a near truth"
    notes = []
    assert (
        find_truths(None, "add a moustache", (), [], notes.append) is None
        and "moustache" in notes[0]
        and "--truth" in notes[0]
    )


def test_clip_is_measured_by_a_model_in_a_folder(edited, clip_folder):
    request = Evaluate(
        workspace=str(edited),
        edit="night",
        clip=str(clip_folder),
        source_caption="a ball",
        target_caption="a ball at night",
        frames=3,
        device="cpu",
    )
    (found,) = evaluate(request, Reporter())["rows"]
    assert (
        -1 <= found["clip_direction"] <= 1
        and -1 <= found["clip_consistency"] <= 1
        and found["clip_consistency_printed"] is not None
    )
    (found,) = evaluate(dataclasses.replace(request, source_caption=None, target_caption=None), Reporter())["rows"]
    assert found["clip_direction"] is None and found["clip_consistency"] is not None


def test_evaluation_is_cancelled_while_it_renders(edited, tmp_path):
    reporter, events = stop_when(
        lambda event: isinstance(event, Progress) and "path" in event.message and event.done == 1
    )
    with pytest.raises(Cancelled):
        evaluate(
            Evaluate(workspace=str(edited), edit="night", frames=8, out=str(tmp_path / "out"), device="cpu"), reporter
        )
    assert events[-1].done == 1 and not (tmp_path / "out").exists()


def test_what_cannot_be_measured_is_refused(edited):
    with pytest.raises(In2nError) as refused:
        evaluate(Evaluate(workspace=str(edited), edit="no-such-edit", device="cpu"), Reporter())
    assert refused.value.code == "not_trained"
    for more, code in [
        (dict(source_caption="a ball"), "bad_captions"),
        (dict(source_caption="a", target_caption=" a"), "bad_captions"),
        (dict(edit=None, clip="x/y"), "nothing_edited"),
        (dict(edit=None, truth="."), "nothing_edited"),
    ]:
        with pytest.raises(In2nError) as refused:
            Evaluate(**{"workspace": str(edited), "edit": "night", **more}).check()
        assert refused.value.code == code


def test_a_capture_without_held_out_views(edited, tmp_path):
    import shutil

    shutil.copytree(edited, tmp_path / "ws")
    capture = json.loads((tmp_path / "ws" / "capture.json").read_text())
    for view in capture["views"]:
        view["held_out"] = False
    (tmp_path / "ws" / "capture.json").write_text(json.dumps(capture))
    with pytest.raises(In2nError) as refused:
        evaluate(Evaluate(workspace=str(tmp_path / "ws"), edit="night", device="cpu"), Reporter())
    assert refused.value.code == "no_held_out_views"


def test_the_command_prints_the_table_and_writes_where_it_was_told(edited, tmp_path, monkeypatch, capsys):
    @contextmanager
    def engine(interruption):
        yield lambda request: evaluate(request, Reporter())

    monkeypatch.setattr(commands, "engine_for", engine)
    monkeypatch.chdir(tmp_path)
    assert (
        cli.main(["evaluate", str(edited), "--edit", "night", "--frames", "2", "--device", "cpu", "--out", "here"]) == 0
    )
    printed = capsys.readouterr().out
    assert "PSNR (dB)" in printed and "make it night" in printed and (tmp_path / "here" / "result.json").is_file()
    assert cli.main(["evaluate", str(edited), "--edit", "original", "--frames", "2", "--device", "cpu"]) == 0
    assert "reconstruction" in capsys.readouterr().out
    assert cli.main(["evaluate", str(edited), "--edit", "night", "--truth", str(tmp_path / "nowhere")]) == 2
    assert cli.main(["evaluate", str(edited), "--edit", "night", "--target-caption", "x"]) == 2


def test_what_is_to_change_and_what_is_to_stay_are_scored_apart():
    before = np.full((32, 32, 3), 0.5, np.float32)
    truth, image = before.copy(), before.copy()
    truth[:16] = 0.8
    image[:16], image[16:] = 0.7, 0.51
    depth = torch.ones(32, 32)
    view, camera = RenderedView(torch.from_numpy(image), depth, depth), camera_at(0)
    scores = score_views([view], [camera], [truth], originals=[before])
    assert scores.psnr_edited_db == pytest.approx(20, abs=1e-3) and scores.psnr_kept_db == pytest.approx(40, abs=1e-3)
    assert scores.ssim_kept > scores.ssim_edited
    unedited = score_views([view], [camera], [before], originals=[before])
    assert unedited.psnr_edited_db is None and unedited.psnr_kept_db == pytest.approx(unedited.psnr_db)
