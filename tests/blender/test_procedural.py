"""Procedural scenes: repeatable, edits that change light and material only, and the testbed's captures and truth."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("bpy")
from mathutils import Vector

from in2n_blender.models import exact
from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.readers import read as read_capture
from in2n_blender.testbed.scenes import captured_scene, reshaping, testbed

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


def test_the_shape_tells_where_snow_lies(cache):
    for view in pictures(cache):
        original, snow, shape = view["original"], view["snow"], view["shape"]
        covered, bare = shape[..., 0] > 0.99, shape[..., 0] < 0.01
        assert covered.any()
        # What is all white shows the light alone, bluish in the shade; what is bare differs by reflected light alone.
        assert np.ptp(snow[covered], axis=1).mean() < 0.25 and snow[covered].mean() > 0.5
        assert np.abs(snow - original)[bare].mean() < 0.5 * np.abs(snow - original)[covered].mean()
        faces_up, sky = shape[..., 1] > 0.98, shape[..., 2] < 0.02
        assert covered[faces_up].all() and not covered[sky].any()


def test_a_white_plane_is_as_bright_as_the_white_level_says(tmp_path):
    """Rendered by Cycles under an even sky, in linear light, with a white of the albedo 1."""
    lines = (
        "import math, sys, bpy",
        "from in2n_blender.testbed.scenes.lighting import Lighting, apply_lighting, white_level",
        "from in2n_blender.testbed.scenes.materials import plain_material",
        "from in2n_blender.testbed.scenes.render_pairs import configure_render",
        "bpy.ops.wm.read_factory_settings(use_empty=True)",
        "scene = bpy.context.scene",
        "bpy.ops.mesh.primitive_plane_add(size=50)",
        "white = plain_material('White', (1, 1, 1), roughness=1.0)",
        "white.node_tree.nodes['Principled BSDF'].inputs['Specular IOR Level'].default_value = 0.0",
        "bpy.context.object.data.materials.append(white)",
        "sky = (0.3, 0.4, 0.5)",
        "light = Lighting(1.0, math.radians(40), 0.9, (1.0, 0.9, 0.8), horizon=sky, zenith=sky, sky_strength=0.5)",
        "apply_lighting(scene, light)",
        "camera = bpy.data.objects.new('Camera', bpy.data.cameras.new('Camera'))",
        "camera.location.z = 5",
        "scene.collection.objects.link(camera)",
        "scene.camera = camera",
        "configure_render(scene, 8, 64, 1)",
        "scene.view_settings.view_transform = 'Raw'",
        "scene.render.filepath = sys.argv[1]",
        "bpy.ops.render.render(write_still=True)",
        "print('white level', white_level(light))",
    )
    command = [sys.executable, "-c", "\n".join(lines), str(tmp_path / "white.png")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    level = float(done.stdout.split("white level")[1].split()[0])
    rendered = np.asarray(Image.open(tmp_path / "white.png"), dtype=float).mean() / 255
    assert 0.2 < level < 0.8 and rendered == pytest.approx(level, rel=0.05)


def test_every_kind_of_place_is_drawn_and_can_be_seen_in_a_camera_exposure():
    lines = (
        "import random, bpy",
        "from in2n_blender.testbed.scenes import random_scenes",
        "seen = set()",
        "for place in random_scenes.PLACES:",
        "    random_scenes.PLACES = {place: 1.0}",
        "    scene, light, views = random_scenes.build_scene(11)",
        "    low, high = random_scenes.WHITE_LEVELS",
        "    assert low - 1e-6 <= random_scenes.white_level(light) <= high + 1e-6, place",
        "    camera = random_scenes.random_camera(scene, random.Random(3), views)",
        "    assert random_scenes._view_is_free(scene, camera, views.nearest), place",
        "    assert sum(o.type == 'MESH' for o in scene.objects) >= 5, place",
        "    seen.add(tuple(sorted(o.name for o in scene.objects)))",
        "assert len(seen) == 4",
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]


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
    assert [line["done"] for line in progress] == list(range(1, 15)) and progress[-1]["total"] == 14
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


@pytest.fixture(scope="module")
def reshaped(tiny_testbed, tmp_path_factory):
    """The same folder with the pictures of more edits, of training views too"""
    folder = tmp_path_factory.mktemp("reshaped") / "scene"
    shutil.copytree(tiny_testbed, folder)
    edits = ("--edit", "night", "--edit", "winter-night", "--edit", "dunes")
    render_testbed(folder, *TINY, "--truth", "all", *edits)
    return folder


def picture(folder: Path, kind: str, name: str) -> np.ndarray:
    return np.asarray(Image.open(folder / kind / f"{name}.png"), float) / 255


def test_truths_of_all_views_are_rendered_for_every_edit_that_is_asked_for(reshaped):
    names = {frame.photo.stem for frame in read_capture(reshaped).frames}
    for edit in ("night", "winter-night", "dunes"):
        assert {path.stem for path in (reshaped / "truth" / edit).iterdir()} == names and len(names) == 8
    assert {path.stem for path in (reshaped / "depth" / "dunes").iterdir()} == names
    assert not (reshaped / "depth" / "night").exists(), "light moves nothing"
    assert len(list((reshaped / "truth" / "snow").iterdir())) == 2, "only what was asked for"


def test_night_is_dark_and_snow_shows_in_it(reshaped):
    for frame in read_capture(reshaped).frames:
        day, night, winter = (
            picture(reshaped, kind, frame.photo.stem) for kind in ("images", "truth/night", "truth/winter-night")
        )
        assert night.mean() < 0.55 * day.mean() and night[..., 2].mean() > night[..., 0].mean()
        assert winter.mean() > 1.15 * night.mean()


def test_depths_are_where_rays_meet_the_scene(tiny_testbed):
    """The capture's points were found by Blender's own rays: none is seen in front of the depths, some are on them"""
    capture, on = read_capture(tiny_testbed), 0
    for frame in (frame for frame in capture.frames if frame.held_out):
        depth, k = np.load(tiny_testbed / "depth" / "before" / f"{frame.photo.stem}.npy"), frame.lens.intrinsics
        pose = np.asarray(frame.camera_to_world)
        x, y, z = ((capture.points - pose[:3, 3]) @ pose[:3, :3] * (1, -1, -1)).T
        column, row = np.floor(k.fx * x / z + k.cx), np.floor(k.fy * y / z + k.cy)
        seen = (z > 0) & (column >= 1) & (row >= 1) & (column < k.width - 1) & (row < k.height - 1)
        column, row, z = column[seen].astype(int), row[seen].astype(int), z[seen]
        # A point lies anywhere in its pixel, so that it may be on what the pixel beside it shows.
        around = np.stack([depth[row + i, column + j] for i in (-1, 0, 1) for j in (-1, 0, 1)])
        known = (around > 0).all(0)
        assert (z[known] > 0.97 * around.min(0)[known]).mean() > 0.98 and known.sum() > 100
        on += (np.abs(depth[row, column] / z - 1)[known] < 0.02).sum()
    assert on > 300


def test_a_cover_lies_on_what_looks_up_and_things_come_and_go(reshaped):
    nearer = []
    for frame in read_capture(reshaped).frames:
        before, after = (np.load(reshaped / "depth" / edit / f"{frame.photo.stem}.npy") for edit in ("before", "dunes"))
        both = (before > 0) & (after > 0)
        nearer.append((after[both] < before[both] * 0.995).mean())
        assert (
            np.abs(
                picture(reshaped, "truth/dunes", frame.photo.stem) - picture(reshaped, "images", frame.photo.stem)
            ).mean()
            > 0.05
        )
    assert min(nearer) > 0.2


@pytest.mark.parametrize("edit", reshaping.SHAPES)
def test_a_reshaped_scene_is_put_back(edit):
    scene = captured_scene.build_scene(testbed.SCENES["courtyard"])
    visible = lambda: {thing.name for thing in scene.objects if not thing.hide_render}
    before, down = visible(), Vector((0, 0, -1))

    def height():
        surfaces = reshaping.surface_tree(scene)
        return [surfaces.ray_cast(Vector((x, -1.3, 9)), down)[0].z for x in (0, 1, 2)]

    low = height()
    captured_scene.apply_edit(scene, testbed.SCENES["courtyard"], edit)
    assert before - visible() and visible() - before, "some are gone, others are new"
    thickness = reshaping.OF_SCENES["courtyard"][edit].thickness
    assert all(0.3 * thickness < b - a < 1.6 * thickness for a, b in zip(low, height()))
    captured_scene.apply_edit(scene, testbed.SCENES["courtyard"], "night")
    assert visible() == before and height() == low and len(scene.objects) == len(before)


@pytest.mark.parametrize("name", testbed.SCENES)
def test_every_scene_has_every_shape_of_the_surfaces_that_it_has(name):
    assert tuple(reshaping.OF_SCENES[name]) == reshaping.SHAPES
    for shape in reshaping.OF_SCENES[name].values():
        assert set(shape.gone) <= set(testbed.SCENES[name].surfaces) and shape.gone and shape.new


def test_every_answer_of_the_exact_editor_is_an_edit_that_is_rendered():
    assert exact.PICTURES[exact.SHAPES] == reshaping.SHAPES
    assert set(exact.PICTURES[exact.RENDERED]) == set(captured_scene.LOOKS)


def test_two_scenes_in_one_process_have_a_sun_each():
    first, second = (captured_scene.build_scene(testbed.SCENES["street"]) for _ in range(2))
    for scene in (first, second, second):
        captured_scene.apply_edit(scene, testbed.SCENES["street"], "sunset")
        suns = [thing for thing in scene.objects if thing.type == "LIGHT"]
        assert len(suns) == 1 and suns[0].data.color[2] < 0.2


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
