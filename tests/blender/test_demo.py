"""The bundled capture fits its scene, the orbit closes, and the demo runs from end to end in small."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest

from in2n_blender.blender import cameras, demo
from in2n_blender.cli.arguments import add_demo, demo_line
from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.readers import read as read_capture
from in2n_blender.testbed.scenes import captured_scene
from in2n_blender.testbed.scenes.island import ISLAND, LOOK_AT

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_bundled_capture_has_training_and_held_out_views_and_points():
    capture = read_capture(demo.CAPTURE)
    held_out = [frame for frame in capture.frames if frame.held_out]
    assert (len(capture.frames) - len(held_out), len(held_out), capture.missing) == (40, 8, ())
    assert len(capture.points) == len(capture.point_colors) == 2000
    assert all(frame.photo.is_file() for frame in capture.frames)
    size = sum(file.stat().st_size for file in demo.CAPTURE.rglob("*") if file.is_file())
    assert size < 8e6


def test_the_photos_are_what_blender_sees_through_the_imported_cameras(tmp_path):
    """Rendering the scene through a camera made by the add-on's own mapping gives the photo; a degree off does not."""
    frame = next(f for f in read_capture(demo.CAPTURE).frames if f.held_out)
    scene = captured_scene.build_scene(ISLAND)
    camera = captured_scene.set_up_render(scene, ISLAND, 160, 12)
    cameras.set_lens(camera.data, frame.lens.intrinsics)
    pose = captured_scene.Matrix(frame.camera_to_world.tolist())
    turned = pose @ captured_scene.Matrix.Rotation(np.radians(1.0), 4, "X")
    shots = [captured_scene.Shot(name, matrix, True) for name, matrix in (("same", pose), ("turned", turned))]
    captured_scene.render_shots(scene, camera, shots, tmp_path)
    photo = captured_scene.read_png(frame.photo).reshape(160, 2, 160, 2, 3).mean((1, 3))
    same, turned = (psnr(captured_scene.read_png(tmp_path / f"{shot.name}.png"), photo) for shot in shots)
    assert same > 30 and same > turned + 6


def test_the_points_lie_on_what_the_photos_show():
    """Seen from the camera it was found in, a point's colour is the photo's; here: the nearest colour over all photos
    that see it."""
    capture = read_capture(demo.CAPTURE)
    points, colors = capture.points[:200].astype(float), capture.point_colors[:200].astype(float)
    nearest = np.full(len(points), np.inf)
    for frame in capture.frames:
        photo, k = captured_scene.read_png(frame.photo).astype(float), frame.lens.intrinsics
        seen = (points - frame.camera_to_world[:3, 3]) @ frame.camera_to_world[:3, :3]
        u = k.fx * seen[:, 0] / -seen[:, 2] + k.cx
        v = -k.fy * seen[:, 1] / -seen[:, 2] + k.cy
        inside = (u >= 0) & (v >= 0) & (u < k.width) & (v < k.height)
        difference = np.abs(photo[v[inside].astype(int), u[inside].astype(int)] - colors[inside]).max(1)
        nearest[inside] = np.minimum(nearest[inside], difference)
    assert np.mean(nearest < 2) > 0.97


def test_an_unknown_edit_of_the_capture_is_refused():
    with pytest.raises(ValueError, match="snow"):
        captured_scene.build_scene(ISLAND, "rain")


def test_the_viewed_center_is_where_the_optical_axes_meet():
    poses = np.array(
        [
            captured_scene.look_from(LOOK_AT, azimuth, elevation, 3.0)
            for azimuth, elevation in ((0, 20), (100, 40), (220, 20), (300, 35))
        ]
    )
    center, radius, height = demo.viewed_center(poses)
    assert np.allclose(center, LOOK_AT, atol=1e-5)
    assert radius == pytest.approx(3.0, abs=1e-5)
    assert 3.0 * np.sin(np.radians(20)) < height < 3.0 * np.sin(np.radians(40))


def test_the_orbit_looks_at_the_scene_and_closes(scene):
    bpy.ops.in2n.import_capture(filepath=str(demo.CAPTURE), preset="draft")
    demo.animate_orbit(scene, 12)
    camera = demo.animate_orbit(scene, 12)  # made anew, not a second time
    assert sum(o.name.startswith("Orbit") for o in scene.objects) == 3
    empty = next(o for o in scene.objects if o.in2n.role == "CAPTURE")
    path = cameras.camera_path_from_scene(scene, empty, "orbit", 1, 13)
    target = np.array(scene.objects["Orbit target"].location)
    for frame in path.frames:
        pose = frame.camera.camera_to_world
        towards = (target - pose[:3, 3]) / np.linalg.norm(target - pose[:3, 3])
        assert np.dot(towards, -pose[:3, 2]) > 0.99999
    steps = np.linalg.norm(np.diff([f.camera.position for f in path.frames], axis=0), axis=1)
    assert steps.max() < 2 * steps.min()
    assert np.allclose(path.frames[0].camera.camera_to_world, path.frames[-1].camera.camera_to_world, atol=1e-4)
    lenses = [f.camera.intrinsics.fx for f in path.frames]
    assert max(lenses) > 1.05 * min(lenses)
    assert camera is scene.camera


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        ({"instruction": " "}, "instruction is empty"),
        ({"preset": "huge"}, "no preset"),
        ({"device": "tpu"}, "no device"),
        ({"capture": Path("nowhere")}, "nowhere"),
        ({"frames": 0}, "at least one frame"),
    ],
)
def test_wrong_settings_are_told_before_anything_is_made(tmp_path, wrong, sentence):
    with pytest.raises(In2nError, match=sentence):
        demo.run_demo(demo.DemoSettings(tmp_path / "out", **wrong))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name", ["demo.blend", "demo.json", "mesh.glb", "frames/edited/0002.png", "demo.in2n/images/a"]
)
def test_what_the_demo_did_not_make_it_refuses_to_overwrite(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(In2nError) as refused:
        demo.run_demo(demo.DemoSettings(tmp_path, frames=2))
    assert refused.value.code == "not_ours" and name.split("/")[0] in refused.value.message
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]
    assert (tmp_path / name).read_text() == "mine"


def test_the_line_that_the_command_passes_on_is_read_as_it_was_meant():
    parser = argparse.ArgumentParser()
    add_demo(parser)
    line = [
        "--out=-x y",
        "--editor",
        "a/b",
        "--seed",
        "3",
        "--steps",
        "7",
        "--mesh-resolution",
        "20",
        "--splats",
        "5000",
    ]
    asked = demo.parse(demo_line(parser.parse_args(line)))
    assert asked == demo.DemoSettings(Path("-x y"), editor="a/b", seed=3, steps=7, resolution=20, splats=5000)
    assert demo.parse(demo_line(parser.parse_args([]))) == demo.DemoSettings(Path("demo"))


def test_the_demo_runs_from_end_to_end(tmp_path, extension):
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "in2n_blender.blender.demo",
        "--out",
        str(out),
        "--capture",
        str(small_capture(tmp_path)),
        "--device",
        "cpu",
        "--steps",
        "30",
        "--rounds",
        "1",
        "--frames",
        "2",
        "--mesh-resolution",
        "24",
        "--splats",
        "2000",
    ]
    environment = {**os.environ, "IN2N_HOME": str(tmp_path / "home"), "OMP_WAIT_POLICY": "passive"}
    first = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert first.returncode == 0, first.stdout + first.stderr
    names = [
        "demo.blend",
        "frames/edited/0001.png",
        "frames/edited/0002.exr",
        "before_after.gif",
        "mesh.glb",
        "splats.ply",
        "contact_sheet.png",
    ]
    assert [name for name in names if not (out / name).is_file()] == []
    report = json.loads((out / "report.json").read_text())
    assert report["frames"]["count"] == 2 and report["edit"]["instruction"] == demo.INSTRUCTION
    again = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert again.returncode == 0 and again.stdout.splitlines().count("done before") == 7, again.stdout + again.stderr
    other = subprocess.run([*command, "--seed", "1"], cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert other.returncode == 0 and "done before" not in other.stdout, other.stdout + other.stderr
    assert [folder.name for folder in (out / "demo.in2n" / "earlier").iterdir()] == ["reconstruction-1"]
    bpy.ops.wm.open_mainfile(filepath=str(out / "demo.blend"))
    assert {o.in2n.role for o in bpy.context.scene.objects} >= {"CAPTURE", "CAMERA", "POINTS", "MESH"}
    shown = bpy.context.scene.camera.data.background_images[0].image
    assert shown.source == "SEQUENCE" and shown.filepath.startswith("//")
    assert shown_of(bpy.context.scene) == {"edited"}
    bpy.context.scene.in2n.shown = "BEFORE"
    assert shown_of(bpy.context.scene) == {"original"}


def shown_of(scene) -> set[str]:
    """Of which edits the mesh, the frames and the photos are that are to be seen; each must be there."""
    meshes = [o.in2n.edit for o in scene.objects if o.in2n.role == "MESH" and not o.hide_get() and not o.hide_render]
    backgrounds = [b for b in scene.camera.data.background_images if b.show_background_image]
    frames = [b.image["in2n_frames"].partition("/")[0] for b in backgrounds if b.image.get("in2n_frames")]
    assert len(meshes) == len(frames) == 1
    assert all(Path(bpy.path.abspath(b.image.filepath)).is_file() for b in backgrounds)
    return {*meshes, *frames}


def small_capture(folder: Path) -> Path:
    """Three training views and one held-out view of the bundled capture, at an eighth of the size."""
    table = json.loads((demo.CAPTURE / "transforms.json").read_text())
    table["train_filenames"], table["test_filenames"] = table["train_filenames"][::14], table["test_filenames"][:1]
    names = table["train_filenames"] + table["test_filenames"]
    table["frames"] = [frame for frame in table["frames"] if frame["file_path"] in names]
    for key in ("w", "h", "fl_x", "fl_y", "cx", "cy"):
        table[key] /= 8
    (folder / "images").mkdir()
    for name in names:
        image = bpy.data.images.load(str(demo.CAPTURE / name))
        image.scale(40, 40)
        image.filepath_raw = str(folder / name)
        image.save()
        bpy.data.images.remove(image)
    (folder / "points.ply").write_bytes((demo.CAPTURE / "points.ply").read_bytes())
    (folder / "transforms.json").write_text(json.dumps(table))
    return folder / "transforms.json"


@pytest.mark.parametrize(
    "trained, expected", [((240, 240), (320, 320)), ((160, 120), (320, 240)), ((512, 512), (512, 512))]
)
def test_frames_are_as_large_as_the_photos_where_that_is_no_more_than_the_demo_needs(trained, expected):
    k = demo.Intrinsics(*trained, trained[0], trained[0], trained[0] / 2, trained[1] / 2)
    found = demo.frame_lens(k, demo.CAPTURE)
    assert (found.width, found.height) == expected
    assert found.fx / found.width == pytest.approx(1) and found.cx / found.width == pytest.approx(0.5)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((a / 255.0 - b / 255.0) ** 2) + 1e-12))
