"""The comparison with nerfacto without training anything: its clock, its captures, its bars and its pictures."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tiny_wheels import make_index, make_torch_pair, make_wheel

sys.path.insert(0, str(Path(__file__).resolve().parent))

import reconstruction
from against_nerfacto import captures, environment, report, timed_run

from in2n_blender.environment import installation
from in2n_blender.environment.pip import Pip
from in2n_blender.environment.uv import Uv
from in2n_blender.scene.camera import Camera, Intrinsics
from in2n_blender.scene.capture import PinholeCapture, View
from in2n_blender.scene.reporting import Reporter
from in2n_blender.workspace.files import write_json


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test moves."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(timed_run.time, "perf_counter", lambda: now.seconds)
    return now


def test_evaluating_does_not_count_as_training(clock, tmp_path):
    def step():
        clock.seconds += 2.0

    def render():
        clock.seconds += 50.0
        return {"a": {"rgb": np.full((3, 5, 3), 0.5), "depth": np.ones((3, 5))}}

    result = timed_run.TimedRun(tmp_path, step, render, 100, [4, 5, 9], seconds=20).run()
    assert [(p["seconds"], p["steps"]) for p in result["points"]] == [(4, 2), (6, 3), (10, 5), (20, 10)]
    assert result["rays_per_second"] == 50 and result["points"][0]["render_rays_per_second"] == 15 / 50
    assert report.rendered(tmp_path / "000005.npz")["a"]["rgb"].shape == (3, 5, 3)
    assert timed_run.TimedRun(tmp_path, step, render, 100, [1], steps=7).run()["seconds"] == 14


def test_spread_takes_even_views_and_never_too_many():
    assert timed_run.spread(6, 2) == [1, 4] and timed_run.spread(3, 9) == [0, 1, 2] and timed_run.spread(5, 0) == []


def make_capture(root: Path, count: int = 6) -> PinholeCapture:
    random = np.random.default_rng(0)
    views = []
    (root / "images").mkdir(parents=True)
    for number in range(count):
        pose = np.eye(4)
        pose[:3, 3] = random.normal(size=3)
        Image.fromarray(random.integers(0, 255, (20, 30, 3), np.uint8)).save(root / "images" / f"{number}.png")
        views.append(
            View(
                str(number),
                f"images/{number}.png",
                Camera(Intrinsics(30, 20, 25.0, 25.0, 14.0, 10.5), pose),
                number == 2,
            )
        )
    capture = PinholeCapture("noise", ".", "draft", tuple(views))
    write_json(root / "capture.json", capture.to_json())
    return capture


def test_nerfstudio_gets_the_same_images_cameras_and_split(tmp_path):
    capture = make_capture(tmp_path / "ws")
    captures.write_for_nerfstudio(capture, tmp_path / "ws", tmp_path / "other" / "data")
    written = json.loads((tmp_path / "other" / "data" / "transforms.json").read_text())
    assert len(written["frames"]) == 6 and len(written["train_filenames"]) == 5 and len(written["val_filenames"]) == 1
    for frame, view in zip(written["frames"], capture.views):
        assert (tmp_path / "other" / "data" / frame["file_path"]).resolve() == (tmp_path / "ws" / view.image).resolve()
        assert np.array_equal(frame["transform_matrix"], view.camera.camera_to_world)
        assert (frame["w"], frame["h"], frame["cx"], frame["cy"]) == (30, 20, 14.0, 10.5)
    assert written["val_filenames"] == [written["frames"][2]["file_path"]]


def test_a_capture_of_fewer_views_keeps_the_held_out_ones(tmp_path):
    capture = make_capture(tmp_path / "ws", 9)
    few = captures.fewer(capture, tmp_path / "ws", tmp_path / "few", 3)
    assert [view.name for view in few.held_out_views] == ["2"] and [view.name for view in few.training_views] == [
        "1",
        "5",
        "7",
    ]
    assert PinholeCapture.load(tmp_path / "few" / "capture.json").to_json() == few.to_json()
    assert sorted(file.name for file in (tmp_path / "few" / "images").iterdir()) == ["1.png", "2.png", "5.png", "7.png"]


def test_a_grown_capture_has_as_many_images_as_asked_for(tmp_path):
    capture = make_capture(tmp_path / "ws")
    captures.grown(capture, tmp_path / "ws", tmp_path / "grown", 12, 60)
    grown = PinholeCapture.load(tmp_path / "grown" / "capture.json")
    assert len(grown.training_views) == 12
    k = grown.views[11].camera.intrinsics
    with Image.open(tmp_path / "grown" / grown.views[11].image) as image:
        assert image.size == (60, 40) == (k.width, k.height)
    assert k.cx == 28 and not np.array_equal(grown.views[0].camera.position, grown.views[5].camera.position)


def compared(tmp_path, engine_error: float, nerfacto_error: float) -> reconstruction.Compared:
    """Both sides render the held-out photo, off by a constant that is halved half-way through."""
    capture = make_capture(tmp_path / "ws")
    photo = np.asarray(Image.open(tmp_path / "ws" / "images" / "2.png"), np.float32) / 255

    def result(name, error, seconds, speed):
        points, inside = [], np.where(photo > 0.5, -1, 1)
        for number, share in ((1, 2), (2, 1)):
            file = tmp_path / name / f"{number}.npz"
            file.parent.mkdir(exist_ok=True)
            np.savez(file, **{"2/rgb": photo + share * error * inside, "2/depth": np.ones((20, 30)) + photo[..., 0]})
            points.append(
                {
                    "seconds": seconds * number / 2,
                    "steps": number,
                    "file": file.name,
                    "render_rays_per_second": 10 * speed,
                }
            )
        return {
            "points": points,
            "seconds": seconds,
            "steps": 2,
            "rays_per_second": speed,
            "peak_memory_mb": 900,
            "folder": str(tmp_path / name),
        }

    return reconstruction.Compared(
        "noise",
        tmp_path / "ws",
        capture,
        {"standard": result("own", engine_error, 100, 6000)},
        {"small": result("peer", nerfacto_error, 1200, 1000), "tuning: x": result("tuned", nerfacto_error, 60, 900)},
        "small",
    )


def by_name(found: list[dict], words: str) -> dict:
    return next(bar for bar in found if words in bar["name"])


def test_bars_hold_and_fail_as_the_numbers_say(tmp_path):
    on = compared(tmp_path, engine_error=0.01, nerfacto_error=0.02)
    growth = [
        {"images": n, "side": 240, "pixels_mb": n / 10, "rays_per_second": 5000 - n, "peak_memory_mb": 900 + n / 5}
        for n in (10, 100, 500)
    ]
    found = report.bars([on], growth, "cpu", 1200, quick=False)
    time_bar = by_name(found, "time to nerfacto's")
    assert time_bar["value"] == pytest.approx(50 / 1200, abs=1e-4) and time_bar["holds"], "0.02 off is reached half-way"
    assert by_name(found, "training rays a second, times") == {
        "name": by_name(found, "training rays a second, times")["name"],
        "value": 6,
        "bar": 5,
        "holds": True,
    }
    assert by_name(found, "rendering rays")["holds"] is False
    gain = by_name(found, "held-out PSNR above")
    assert gain["value"] == pytest.approx(20 * np.log10(2), abs=0.01) and gain["holds"]
    assert by_name(found, "most images")["value"] == pytest.approx(4500 / 4990, abs=1e-3)
    assert by_name(found, "an added image")["value"] == pytest.approx(2)
    assert (
        by_name(found, "28 dB on a GPU")["holds"] is None and "not measured" in by_name(found, "28 dB on a GPU")["note"]
    )

    worse = report.bars([compared(tmp_path / "worse", 0.04, 0.01)], [], "cpu", 1200, quick=False)
    assert (
        by_name(worse, "time to nerfacto's")["holds"] is False
        and by_name(worse, "held-out PSNR above")["holds"] is False
    )
    assert by_name(worse, "most images")["holds"] is None


def test_without_nerfacto_its_bars_are_not_measured(tmp_path):
    on = compared(tmp_path, 0.01, 0.02)
    on.nerfacto.clear()
    found = report.bars([on], [], "cpu", 1200, quick=False)
    assert all(
        by_name(found, words)["holds"] is None
        for words in ("time to nerfacto's", "training rays a second, times", "held-out PSNR above")
    )
    assert by_name(found, "peak memory")["holds"] is True


def test_report_writes_every_file(tmp_path):
    on = compared(tmp_path, 0.01, 0.02)
    growth = [
        {"images": n, "side": 240, "pixels_mb": n / 10, "rays_per_second": 5000, "peak_memory_mb": 900}
        for n in (10, 100)
    ]
    found = report.bars([on], growth, "cpu", 1200, quick=False)
    report.write_report(tmp_path, [on], growth, found, ["A note."])
    assert {"psnr_against_time.png", "growth.png", "sheet.png", "table.md", "result.json"} <= {
        p.name for p in tmp_path.iterdir()
    }
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "this engine, standard" in table and "tuning" not in table and "- A note." in table
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["bars"] == json.loads(json.dumps(found)) and len(written["rows"]) == 2
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 4 * sheet.height, "photo, two renders, two depths side by side"


def test_a_part_is_run_once_and_its_failure_is_noted(tmp_path, monkeypatch):
    started = []

    def run_process(command, log, threads, seconds):
        started.append(command)
        job = json.loads(Path(command[2]).read_text())
        if job["preset"] == "broken":
            return "failed with exit code 1"
        write_json(Path(job["out"]) / "result.json", {"points": []})
        return ""

    monkeypatch.setattr(reconstruction, "run_process", run_process)
    bench = reconstruction.Bench(tmp_path, None, "cpu", None)
    assert bench.engine("a", tmp_path, "draft")["folder"] == str(tmp_path / "runs" / "a")
    bench.engine("a", tmp_path, "draft")
    assert len(started) == 1
    bench.engine("a", tmp_path, "standard")
    assert len(started) == 2, "another job is another result"
    assert bench.engine("b", tmp_path, "broken") is None and "failed with exit code 1" in bench.notes[0]
    assert bench.nerfacto("c", tmp_path, reconstruction.DEFAULTS, 10) is None and len(started) == 3


def test_other_captures_are_trained_side_by_side_for_as_many_steps(tmp_path, monkeypatch):
    started = []

    def run_process(command, log, threads, seconds):
        job = json.loads(Path(command[2]).read_text())
        started.append((Path(command[1]).name, job["steps"] if "steps" in job else job["preset"], threads))
        write_json(Path(job["out"]) / "result.json", {"points": [], "seconds": 9})
        return ""

    monkeypatch.setattr(reconstruction, "run_process", run_process)
    bench = reconstruction.Bench(tmp_path, Path("python"), "cpu", None)
    others = [reconstruction.Compared(name, tmp_path / name, None) for name in ("a", "b")]
    variant = reconstruction.Variant("small", 2, reconstruction.SMALL)
    assert len(list(reconstruction.compare_others(bench, others, variant, 50, at_once=2))) == 2
    assert sorted(started, key=str) == [("engine.py", "standard", 1)] * 2 + [("nerfacto.py", 50, 1)] * 2
    assert all(
        on.best == "small" and not on.nerfacto["small"]["alone"] and not on.engine["standard"]["alone"] for on in others
    )


def test_times_are_not_said_of_runs_that_were_not_alone(tmp_path):
    on = compared(tmp_path, 0.01, 0.02)
    on.engine["standard"]["alone"] = False
    beside, alone = (report.row(on, who, result) for who, result in report.runs(on))
    assert beside["seconds"] is None and beside["training_rays_per_second"] is None and beside["psnr_db"] == 40
    assert alone["seconds"] == 1200
    assert "| – | 2 | – | – | 40.00 |" in report.table([beside], [], [])


def test_a_process_that_takes_too_long_is_ended(tmp_path):
    command = [sys.executable, "-c", "import time; print('  1 s, step 1, 0 evaluations', flush=True); time.sleep(60)"]
    assert reconstruction.run_process(command, tmp_path / "log.txt", 1, 1.0) == "not finished in time"
    assert "step 1" in (tmp_path / "log.txt").read_text()
    assert (
        reconstruction.run_process([sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "log.txt", None, None)
        == "failed with exit code 3"
    )


def test_nerfstudio_that_is_not_there_is_said(tmp_path):
    with pytest.raises(environment.NotInstalled, match="run without --quick"):
        environment.nerfstudio_python(None, tmp_path, False, Reporter())
    with pytest.raises(environment.NotInstalled, match="does not work"):
        environment.nerfstudio_python(sys.executable, tmp_path, False, Reporter())


@pytest.fixture
def tiny_nerfstudio(tmp_path, monkeypatch):
    """An index with as much of nerfstudio as is imported, a torch and a torchvision; and where find-links points, a
    torch of another build that this torchvision cannot load."""
    index, stray = tmp_path / "index", tmp_path / "stray"
    make_torch_pair(index, stray)
    files = {"nerfstudio/__init__.py": "", "nerfstudio/models/__init__.py": "", "nerfstudio/models/nerfacto.py": ""}
    make_wheel(index / "nerfstudio", "nerfstudio", environment.VERSION, files)
    make_index(index)
    monkeypatch.setattr(
        environment, "PACKAGES", (f"nerfstudio=={environment.VERSION}", "torch==1.0", "torchvision==1.0")
    )
    monkeypatch.setattr(environment, "PYTHONS", (sys.version_info[:2],))
    monkeypatch.setattr(environment, "DISK_GB", 0)
    monkeypatch.setattr(Uv, "_own_index_serves", lambda self, torch: False)
    for name in [n for n in os.environ if n.startswith(("PIP_", "UV_")) and n != "UV_CACHE_DIR"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"):
        monkeypatch.setenv(name, index.as_uri())
    for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS"):
        monkeypatch.setenv(name, str(stray))


@pytest.mark.parametrize("by_uv", [True, False])
def test_nerfstudio_gets_a_torch_that_its_torchvision_loads(
    uv_wheel, tiny_nerfstudio, by_uv, home, tmp_path, monkeypatch
):
    if not by_uv:
        monkeypatch.setattr(installation, "find_uv", lambda home: None)
        monkeypatch.setattr(Pip, "install_uv", lambda self: None)
    folder, said = tmp_path / "nerfstudio", []
    python = environment.nerfstudio_python(None, folder, True, Reporter(said.append))
    asked = [str(python), "-c", "import torchvision, torch; print(torch.build)"]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip() == "index"
    assert any("do not fit" in str(line) for line in said)
    assert environment.nerfstudio_python(None, folder, False, Reporter()) == python


def test_nerfstudio_is_not_installed_into_a_folder_of_other_things(home, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(environment.NotInstalled, match="an empty folder"):
        environment.nerfstudio_python(None, tmp_path, True, Reporter())
    assert (tmp_path / "photo.jpg").read_bytes() == b"mine"
