"""Procedural scenes: repeatable, edits that change light and material only, and the testbed's captures and truth."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("bpy")
from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.readers import read as read_capture
from in2n_blender.testbed.scenes import testbed

ROOT = Path(__file__).resolve().parents[2]


def render(cache: Path, *arguments: str) -> list[dict]:
    """Run `render_pairs`; returns its progress lines."""
    command = [sys.executable, "-m", "in2n_blender.testbed.scenes.render_pairs", "--cache", str(cache), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    progress = render(folder, "--scenes", "1", "--first", "2", "--cameras", "2", "--size", "48", "--samples", "4")
    assert progress[-1] == {"done": 1, "total": 1}
    return folder


def pictures(cache: Path) -> list[dict]:
    index = json.loads((cache / "index.json").read_text())
    return [
        {edit: np.asarray(Image.open(cache / name), dtype=float) / 255 for edit, name in row.items()}
        for rows in index["scenes"].values()
        for row in rows
    ]


def test_snow_whitens_and_sunset_warms_every_view(cache):
    views = pictures(cache)
    assert len(views) == 2
    for view in views:
        original, snow, sunset = view["original"], view["snow"], view["sunset"]
        assert original.shape == (48, 48, 3) and original.std() > 0.02
        changed = np.abs(snow - original).max(axis=2) > 0.08
        assert changed.mean() > 0.1
        # Where snow fell it is brighter and paler than what it covers.
        assert snow[changed].mean() > original[changed].mean()
        assert np.ptp(snow[changed], axis=1).mean() < np.ptp(original[changed], axis=1).mean() + 0.05
        warmth = [np.mean(picture[..., 0] - picture[..., 2]) for picture in (original, sunset)]
        assert warmth[1] > warmth[0] + 0.1


def test_a_second_run_renders_nothing_again(cache):
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*.png")}
    render(cache, "--scenes", "1", "--first", "2", "--cameras", "2", "--size", "48", "--samples", "4")
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.png")} == before


def test_a_scene_is_the_same_every_time(cache, tmp_path):
    render(tmp_path, "--scenes", "1", "--first", "2", "--cameras", "1", "--size", "48", "--samples", "4")
    assert np.abs(pictures(tmp_path)[0]["original"] - pictures(cache)[0]["original"]).max() < 0.02


def render_testbed(out: Path, *arguments: str, scene: str = "courtyard") -> list[dict]:
    """Run `testbed`; returns its progress lines."""
    command = [
        sys.executable,
        "-m",
        "in2n_blender.testbed.scenes.testbed",
        "--scene",
        scene,
        "--out",
        str(out),
        *arguments,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


TINY = ("--size", "32", "--samples", "4", "--views", "6")


@pytest.fixture(scope="module")
def tiny_testbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("testbed")
    progress = render_testbed(folder, *TINY, "--truth", "held-out")
    assert [line["done"] for line in progress] == list(range(1, 13)) and progress[-1]["total"] == 12
    return folder


def test_a_testbed_scene_is_a_capture_with_held_out_views(tiny_testbed):
    capture = read_capture(tiny_testbed)
    assert sorted(frame.held_out for frame in capture.frames) == [False] * 6 + [True] * 2
    assert capture.missing == () and len(capture.points) == testbed.POINTS
    assert all(np.asarray(Image.open(frame.photo)).std() > 10 for frame in capture.frames)


def test_the_truth_of_an_edit_is_what_the_held_out_cameras_see_of_it(tiny_testbed):
    names = {frame.photo.name for frame in read_capture(tiny_testbed).frames if frame.held_out}
    for edit in ("snow", "sunset"):
        assert {path.name for path in (tiny_testbed / "truth" / edit).iterdir()} == names
    for name in names:
        original, snow, sunset = (
            np.asarray(Image.open(tiny_testbed / folder / name), float) / 255
            for folder in ("images", "truth/snow", "truth/sunset")
        )
        assert snow.mean() > original.mean() + 0.1
        assert np.mean(sunset[..., 0] - sunset[..., 2]) > np.mean(original[..., 0] - original[..., 2]) + 0.1


def test_a_second_run_of_the_testbed_renders_only_what_is_missing(tiny_testbed):
    missing = next((tiny_testbed / "truth" / "snow").iterdir())
    missing.unlink()
    before = {path: path.stat().st_mtime_ns for path in tiny_testbed.rglob("*.p*")}
    render_testbed(tiny_testbed, *TINY, "--truth", "held-out")
    after = {path: path.stat().st_mtime_ns for path in tiny_testbed.rglob("*.p*")}
    assert after.pop(missing) and after == before


def test_pictures_of_other_settings_are_not_mixed(tiny_testbed):
    with pytest.raises(In2nError, match="other settings"):
        testbed.render_testbed(tiny_testbed, testbed.Settings("street", 32, 4, 6, False))


def test_the_island_is_the_bundled_capture(tmp_path):
    settings = testbed.Settings("island", testbed.BUNDLED_SIZE, 1, 40, bundled_photos=True)
    testbed.render_testbed(tmp_path, settings)
    copies = [path for path in testbed.BUNDLED.rglob("*") if path.is_file()]
    for path in copies:
        copy = tmp_path / path.relative_to(testbed.BUNDLED)
        if path.suffix == ".json":
            assert_same_numbers(json.loads(copy.read_text()), json.loads(path.read_text()))
        else:
            assert copy.read_bytes() == path.read_bytes()
    assert len(copies) == 50


def assert_same_numbers(a: dict, b: dict) -> None:
    poses = [np.array([frame["transform_matrix"] for frame in table["frames"]]) for table in (a, b)]
    assert np.allclose(*poses, atol=1e-6)
    assert {k: v for k, v in a.items() if k != "frames"} == {k: v for k, v in b.items() if k != "frames"}
    assert [frame["file_path"] for frame in a["frames"]] == [frame["file_path"] for frame in b["frames"]]


@pytest.mark.parametrize("name", testbed.SCENES)
def test_every_held_out_view_lies_between_training_views(name):
    """Its nearest training views look the same way, and surround it: none is beyond all of them."""
    shots = testbed.SCENES[name].shots()
    training, held_out = ([s for s in shots if s.held_out == flag] for flag in (False, True))
    assert (len(training), len(held_out)) == (40, 8) and len({s.name for s in shots}) == 48
    places = np.array([s.camera_to_world.translation for s in training])
    forward = np.array([-s.camera_to_world.col[2].xyz for s in training])
    for shot in held_out:
        distances = np.linalg.norm(places - np.array(shot.camera_to_world.translation), axis=1)
        near = np.argsort(distances)[:4]
        assert (forward[near] @ np.array(-shot.camera_to_world.col[2].xyz)).max() > np.cos(np.radians(15))
        towards = (places[near] - np.array(shot.camera_to_world.translation)) / distances[near, None]
        assert (towards @ towards.T).min() < -0.5


def test_more_views_than_a_scene_has_are_refused():
    with pytest.raises(In2nError, match="40 training views"):
        testbed.choose_shots(testbed.SCENES["street"], 41)
