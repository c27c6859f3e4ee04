"""The render engine IN2N: F12, its passes, border, blur and errors; with a worker that paints, and for real."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import bpy
import numpy as np
import pytest
from mathutils import Matrix

import in2n_blender
from in2n_blender.blender import compat, render_engine, render_settings, render_worker, viewport_render
from in2n_blender.blender import engine as blender_engine
from in2n_blender.blender.shot_requests import Place
from in2n_blender.blender.shots import Moment, shot_of
from in2n_blender.scene.errors import Cancelled
from in2n_blender.scene.shot import ORTHOGRAPHIC, Shot

SIZE = (24, 16)


@pytest.fixture
def shown(scene, imported, monkeypatch):
    """The scene is rendered by IN2N from a camera of its own."""
    data = bpy.data.cameras.new("shot")
    camera = bpy.data.objects.new("shot", data)
    camera.matrix_world = Matrix.Translation((1, -2, 3))
    scene.collection.objects.link(camera)
    scene.camera = camera
    scene.render.engine = "IN2N"
    scene.render.resolution_x, scene.render.resolution_y = SIZE
    scene.view_settings.view_transform = "Standard"
    yield scene
    render_worker.stop()


@pytest.fixture
def painter(shown, reconstructed, recording):
    """The worker paints: Combined is (x, y, 3/2, 1) over the picture, Depth 5, Position (x, y, 0)."""
    recording.answers(shot={"paint": True})
    return recording


def render(scene, tmp_path, **settings) -> dict[str, np.ndarray]:
    """F12, written as float EXR and read again: by channel, from the top."""
    scene.render.image_settings.file_format, scene.render.image_settings.color_depth = "OPEN_EXR", "32"
    scene.render.image_settings.color_mode = "RGBA"
    scene.render.filepath = str(tmp_path / "frame.exr")
    assert bpy.ops.render.render(write_still=True) == {"FINISHED"}
    return read(Path(scene.render.filepath))


def read(file: Path) -> np.ndarray:
    image = bpy.data.images.load(str(file))
    pixels = np.array(image.pixels[:]).reshape(image.size[1], image.size[0], -1)[::-1]
    bpy.data.images.remove(image)
    return pixels


def asked(recording) -> list[dict]:
    return [one for one in recording.asked if one["method"] == "shot"]


def test_f12_shows_what_the_engine_rendered(painter, shown, tmp_path):
    picture = render(shown, tmp_path)
    x, y = np.meshgrid(np.arange(SIZE[0]) / SIZE[0], np.arange(SIZE[1]) / SIZE[1])
    np.testing.assert_allclose(picture[..., 0], x, atol=1e-6)
    np.testing.assert_allclose(picture[..., 1], y, atol=1e-6)
    np.testing.assert_allclose(picture[..., 2:], np.broadcast_to([1.5, 1.0], (*x.shape, 2)))
    (request,) = asked(painter)
    assert request["edit"] is None and request["samples"] == 1 and request["passes"] == [] and not request["subject"]
    shot = Shot.from_json(request["shot"])
    np.testing.assert_allclose(shot.cameras[0].position, (1, -2, 3), atol=1e-6)
    assert shot.size == SIZE and not shot.is_blurred


def test_the_process_and_its_memory_stay_between_frames(painter, shown, tmp_path):
    render(shown, tmp_path)
    process = render_worker._worker.client._process
    render(shown, tmp_path)
    assert render_worker._worker.client._process is process and len(asked(painter)) == 2
    assert not list(render_worker._worker.folder.iterdir()), "pictures are removed once they are read"
    assert not blender_engine.is_running(), "the jobs' process is another"


def test_passes_and_metadata_are_in_a_multilayer_exr(painter, shown, tmp_path):
    OpenEXR = pytest.importorskip("OpenEXR")
    made = shown.in2n.edits.add()
    made.name, made.instruction = "snow", "make it snow"
    shown.in2n.shown = "AFTER"
    layer = shown.view_layers[0]
    layer.use_pass_z = layer.use_pass_normal = layer.use_pass_position = True
    compat.multilayer_exr(shown.render.image_settings)
    shown.render.image_settings.color_depth = "32"
    shown.render.filepath = str(tmp_path / "frame.exr")
    bpy.ops.render.render(write_still=True)
    file = OpenEXR.File(shown.render.filepath, separate_channels=True)
    channels = {name: channel for part in file.parts for name, channel in part.channels.items()}
    depth = next(channel.pixels for name, channel in channels.items() if name.endswith("Depth.Z"))
    assert (depth == 5).all()
    position = next(channel.pixels for name, channel in channels.items() if name.endswith("Position.X"))
    np.testing.assert_allclose(position[3], np.arange(SIZE[0]) / SIZE[0], atol=1e-6)
    assert any(name.endswith("Normal.X") for name in channels)
    header = {name: value for part in file.parts for name, value in part.header.items()}
    assert (header["IN2N Edit"], header["IN2N Instruction"]) == ("snow", "make it snow")
    assert header["IN2N Engine"] == f"in2n_blender {in2n_blender.__version__}"
    assert asked(painter)[0]["passes"] == ["Depth", "Normal", "Position"]


@pytest.mark.parametrize("crop", [True, False])
def test_a_border_is_rendered_where_it_is(painter, shown, tmp_path, crop):
    render_ = shown.render
    render_.use_border, render_.use_crop_to_border = True, crop
    render_.border_min_x, render_.border_max_x, render_.border_min_y, render_.border_max_y = 0.25, 0.8, 0.2, 0.6
    picture = render(shown, tmp_path)
    left, top, right, bottom = Shot.from_json(asked(painter)[0]["shot"]).border
    assert (left, right) == (6, 19) and bottom - top == int(0.6 * 16) - int(0.2 * 16)
    if crop:
        assert picture.shape[:2] == (bottom - top, right - left)
        assert (picture[..., 3] == 1).all()
        return
    assert picture.shape[:2] == SIZE[::-1]
    inside = np.zeros(SIZE[::-1], bool)
    inside[top:bottom, left:right] = True
    assert (picture[inside][:, 3] == 1).all() and not picture[~inside].any()


def test_resolution_scale_and_an_orthographic_camera_under_a_scaled_capture(painter, shown, imported, tmp_path):
    imported.matrix_world = Matrix.LocRotScale((0, 0, 1), None, (2, 2, 2))
    shown.render.resolution_percentage = 50
    shown.camera.data.type, shown.camera.data.ortho_scale = "ORTHO", 6.0
    assert render(shown, tmp_path).shape[:2] == (8, 12)
    (request,) = asked(painter)
    shot = Shot.from_json(request["shot"])
    assert shot.lens == ORTHOGRAPHIC and shot.cameras[0].intrinsics.fx == pytest.approx(12 / 3.0)
    np.testing.assert_allclose(shot.cameras[0].position, (0.5, -1, 1), atol=1e-6)
    np.testing.assert_allclose(np.reshape(request["to_scene"], (4, 4)), np.array(imported.matrix_world), atol=1e-6)


def test_motion_blur_follows_the_camera_and_leaves_the_frame(painter, shown, tmp_path):
    for frame, x in ((1, 0.0), (11, 10.0)):
        shown.camera.location.x = x
        shown.camera.keyframe_insert("location", frame=frame)
    for curve in compat.fcurves(shown.camera):
        for key in curve.keyframe_points:
            key.interpolation = "LINEAR"
    shown.frame_set(5)
    shown.render.use_motion_blur, shown.render.motion_blur_shutter = True, 0.5
    shown.render.motion_blur_position = "CENTER"
    render(shown, tmp_path)
    (request,) = asked(painter)
    cameras = Shot.from_json(request["shot"]).cameras
    np.testing.assert_allclose([camera.position[0] for camera in cameras], 4 + np.linspace(-0.25, 0.25, 9), atol=1e-5)
    assert request["samples"] == shown.in2n.render.blur_samples and shown.frame_current == 5
    assert shown.camera.matrix_world.translation.x == pytest.approx(4)
    shown.camera.animation_data_clear()
    render(shown, tmp_path)
    assert len(Shot.from_json(asked(painter)[1]["shot"]).cameras) == 1 and asked(painter)[1]["samples"] == 1


def test_depth_of_field_asks_for_more_rays(painter, shown, tmp_path):
    shown.camera.data.dof.use_dof, shown.camera.data.dof.focus_distance = True, 4.0
    render(shown, tmp_path)
    (request,) = asked(painter)
    shot = Shot.from_json(request["shot"])
    assert shot.is_blurred and shot.focus == pytest.approx(4) and request["samples"] == 24


def test_which_edit_and_what_of_it_is_rendered(painter, shown, imported, tmp_path):
    made = shown.in2n.edits.add()
    made.name, made.instruction = "snow", "make it snow"
    settings = shown.in2n.render
    render(shown, tmp_path)
    shown.in2n.shown = "AFTER"
    render(shown, tmp_path)
    settings.what = "ORIGINAL"
    render(shown, tmp_path)
    settings.what, settings.subject_only, shown.render.film_transparent = "EDIT", True, True
    render(shown, tmp_path)
    bpy.ops.mesh.primitive_cube_add(size=2)
    shown.in2n.region = bpy.context.object
    render(shown, tmp_path)
    requests = asked(painter)
    assert [request["edit"] for request in requests] == [None, "snow", None, "snow", "snow"]
    assert [request["transparent"] for request in requests] == [False, False, False, True, True]
    assert [request["subject"].get("type") for request in requests] == [None, None, None, "bounds", "mesh"]
    assert np.abs(requests[-1]["subject"]["vertices"]).max() == pytest.approx(1)


def test_the_device_comes_from_the_environment(painter, shown, tmp_path, monkeypatch):
    shown.in2n.device = "cuda"
    monkeypatch.setenv("IN2N_DEVICE", "cpu")
    render(shown, tmp_path)
    assert asked(painter)[0]["device"] == "cpu"


# --- the viewport


class View:
    """A viewport without a window: what a region and its data say, and a clock that the test turns."""

    def __init__(self, scene):
        self.render = viewport_render.ViewportRender()
        self.scene, self.angle = scene, 0.0

    @property
    def context(self):
        depsgraph = bpy.context.evaluated_depsgraph_get()
        window = self.scene.camera.calc_matrix_camera(depsgraph, x=96, y=64)
        turned = Matrix.Rotation(self.angle, 4, "Z") @ self.scene.camera.matrix_world
        data = SimpleNamespace(window_matrix=window, view_matrix=turned.inverted())
        return SimpleNamespace(region=SimpleNamespace(width=96, height=64), region_data=data)

    def draw(self) -> None:
        self.render.follow(self.context, bpy.context.evaluated_depsgraph_get())

    def until(self, condition, seconds=20) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain; {self.render.trouble}"
            self.render.take()
            time.sleep(0.005)


@pytest.fixture
def view(shown, monkeypatch):
    monkeypatch.setattr(viewport_render, "RAYS_A_SECOND", 2000.0)  # as `paint` says it had
    return View(shown)


def test_a_viewport_becomes_finer_until_it_is_whole(painter, view):
    view.draw()
    assert view.render.awaits and view.render.share == 0
    view.until(lambda: view.render.share == 1)
    sizes = [Shot.from_json(request["shot"]).size for request in asked(painter)]
    assert sizes[0] == (15, 10) and sizes[-1] == (96, 64) and sizes == sorted(sizes) and 2 < len(sizes) < 6
    assert view.render.fresh.shape == (64, 96, 4) and not view.render.awaits
    view.draw()
    assert not view.render.awaits, "nothing new, nothing asked"


def test_the_newest_view_wins_and_finer_pictures_of_others_are_given_up(painter, view, tmp_path):
    released = tmp_path / "released"
    released.touch()
    painter.answers(shot={"paint": True, "waits_when_wider": 20, "until_released": str(released)})
    view.draw()
    view.until(lambda: view.render.share > 0)
    coarse = view.render.share
    assert coarse < 1 and view.render.awaits, "the finer one is on its way, and takes its time"
    released.unlink()  # the painter is slower than the hand
    for view.angle in (0.1, 0.2, 0.3):
        view.draw()
    released.touch()
    view.until(lambda: view.render.share > 0)
    newest = Matrix.Rotation(view.angle, 4, "Z") @ view.scene.camera.matrix_world
    shots = [Shot.from_json(request["shot"]) for request in asked(painter)]
    first = [shot.cameras[0] for shot in shots if shot.size == shots[0].size]
    np.testing.assert_allclose(first[-1].position, newest.translation, atol=1e-5)
    assert view.render.share == pytest.approx(coarse) and len(first) <= 3, "the first, the newest, one in between"


def test_a_viewport_that_is_gone_gives_up_its_picture_and_leaves_no_file(painter, view):
    painter.answers(shot={"paint": True, "waits_when_wider": 20})
    view.draw()
    view.until(lambda: view.render.share > 0)
    assert view.render.awaits and not view.render.take(), "there is nothing new to draw"
    worker, view.render = render_worker._worker, None
    until = time.monotonic() + 10
    while worker.answers:
        assert time.monotonic() < until, "the picture goes on"
        time.sleep(0.01)
    assert not list(worker.folder.iterdir())


def test_f12_does_not_wait_for_the_viewport(painter, view, shown, tmp_path):
    painter.answers(shot={"paint": True, "waits_when_wider": 30})
    view.draw()
    view.until(lambda: view.render.share > 0)
    assert view.render.awaits, "a finer picture, which is never done"
    assert render(shown, tmp_path).shape == (16, 24, 4)
    view.render.take()
    assert view.render.awaits, "it is asked for again"


def test_what_the_viewport_shows_is_asked_for_again_when_it_is_another(painter, view):
    view.draw()
    view.until(lambda: view.render.share == 1)
    count = len(asked(painter))
    view.scene.in2n.render.subject_only = True
    view.draw()
    assert view.render.share == 0
    view.until(lambda: view.render.share == 1)
    assert all(request["subject"] for request in asked(painter)[count:]) and len(asked(painter)) > count


def test_the_viewport_says_why_it_shows_nothing(shown, view, recording, imported):
    recording.answers(shot={"error": {"code": "not_trained", "message": "Nothing here.", "hint": "Reconstruct."}})
    view.draw()
    view.until(lambda: view.render.trouble)
    assert view.render.trouble == "Nothing here. Reconstruct."
    view.draw()
    assert not view.render.awaits, "it is not asked for again and again"
    bpy.data.objects.remove(imported)
    view.draw()
    assert "The scene has no capture." in view.render.trouble


# --- nothing that is no picture is handed over as one


def refused(scene, file: Path) -> str:
    scene.render.filepath = str(file)
    with pytest.raises(RuntimeError) as error:
        bpy.ops.render.render(write_still=True)
    return str(error.value)


def test_without_an_engine_a_reconstruction_or_a_capture_the_reason_is_said(
    shown, imported, recording, tmp_path, monkeypatch
):
    file = tmp_path / "frame.png"
    recording.answers(shot={"error": {"code": "not_trained", "message": "Nothing here.", "hint": "Reconstruct."}})
    assert "Nothing here. Reconstruct." in refused(shown, file)
    monkeypatch.setenv("IN2N_ENGINE_PYTHON", str(tmp_path / "none"))
    assert "The engine is not installed." in refused(shown, file)
    shown.camera.data.type, shown.camera.data.panorama_type = "PANO", "MIRRORBALL"
    assert "Mirrorball panoramas are not rendered." in refused(shown, file)
    bpy.data.objects.remove(imported)
    assert "The scene has no capture." in refused(shown, file)
    assert not file.exists()


def test_a_frame_that_fails_ends_the_animation_and_is_not_written(painter, shown, tmp_path):
    painter.answers(shot={"paint": True, "fails_after": 2})
    shown.frame_start, shown.frame_end = 1, 4
    shown.render.filepath, shown.render.image_settings.file_format = str(tmp_path / "f_"), "PNG"
    with pytest.raises(RuntimeError, match="The disk is full"):
        bpy.ops.render.render(animation=True)
    assert sorted(file.name for file in tmp_path.glob("f_*")) == ["f_0001.png", "f_0002.png"]


def test_an_engine_that_dies_is_an_error_and_the_next_frame_begins_anew(painter, shown, tmp_path):
    painter.answers(shot={"crash": True})
    assert "engine" in refused(shown, tmp_path / "frame.png").lower()
    painter.answers(shot={"paint": True})
    render_worker.stop()
    assert render(shown, tmp_path).shape == (16, 24, 4)


# --- `blender -b`


def in_background(code: str, **environment) -> subprocess.CompletedProcess:
    root = Path(render_engine.__file__).parents[2]
    code = f"import sys; sys.path.insert(0, {str(root)!r}); import bpy\n{code}"
    environment = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)


EXITS = """
from in2n_blender.blender import written_frames
written_frames._is_blender_in_background = lambda: True
scene = bpy.context.scene
scene.render.filepath = {folder!r} + "/f_"
written_frames._begun(scene)
written_frames.begin(True, scene)
{then}
written_frames._written(scene)
"""


@pytest.mark.parametrize(
    "then, code",
    [("", 1), ("open({file!r}, 'w').close()", 0), ("open({file!r}, 'w').close(); written_frames.fail()", 1)],
    ids=["missing", "written", "failed"],
)
def test_blender_in_background_exits_with_what_became_of_the_frames(tmp_path, then, code):
    then = then.format(file=str(tmp_path / "f_0001.png"))
    done = in_background(EXITS.format(folder=str(tmp_path), then=then))
    assert done.returncode == code, done.stderr
    assert ("f_0001.png was not rendered" in done.stderr) == (code == 1)


def test_panels_of_blenders_own_show_themselves_and_go_again(scene):
    import bl_ui

    panel = bl_ui.properties_output.RENDER_PT_format
    assert "IN2N" in panel.COMPAT_ENGINES
    import in2n_blender

    in2n_blender.unregister()
    assert "IN2N" not in panel.COMPAT_ENGINES
    in2n_blender.register()


def test_a_picture_that_nobody_waits_for_any_more_is_given_up_at_once(painter, shown):
    painter.answers(shot={"until_cancelled": True})
    place = Place.of(render_settings.chosen(shown), bpy.context.evaluated_depsgraph_get())
    world = np.array(shown.camera.matrix_world)
    answer = render_worker.ask(place.request(shot_of([Moment(shown.camera, world, np.eye(4))], shown.render)))
    began = time.monotonic()
    with pytest.raises(Cancelled):
        render_worker.wait(answer, lambda: time.monotonic() - began > 0.3, lambda share: None)
    assert not list(render_worker._worker.folder.iterdir())


def test_stereoscopy_is_refused(painter, shown, tmp_path):
    shown.render.use_multiview = True
    assert "Stereoscopy is not rendered." in refused(shown, tmp_path / "frame.png")


# --- for real


@pytest.mark.slow
def test_a_real_reconstruction_is_rendered_and_two_processes_share_its_frames(shown, imported, engine, tmp_path):
    shown.in2n.device, shown.in2n.preset = "cpu", "draft"
    assert bpy.ops.in2n.reconstruct(steps=12) == {"FINISHED"}
    shown.camera.matrix_world = imported.children[0].matrix_world
    picture = render(shown, tmp_path)
    assert picture.shape == (16, 24, 4) and (picture[..., 3] == 1).all() and np.ptp(picture[..., 0]) > 1e-3
    shown.render.image_settings.file_format = "PNG"
    shown.render.filepath = "//frames/f_"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    range_ = """
import in2n_blender; in2n_blender.register()
bpy.ops.wm.open_mainfile(filepath={file!r})
bpy.context.scene.frame_start, bpy.context.scene.frame_end = {first}, {last}
bpy.ops.render.render(animation=True)
in2n_blender.unregister()
import os; os._exit(0)  # bpy 4.2, as a module, falls over at its end
"""
    root = Path(render_engine.__file__).parents[2]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r}); import bpy"
             + range_.format(file=str(tmp_path / "shot.blend"), first=first, last=first + 2)],
        )
        for first in (1, 4)
    ]  # fmt: skip
    assert [process.wait(120) for process in processes] == [0, 0]
    assert sorted(file.name for file in (tmp_path / "frames").iterdir()) == [f"f_{i:04d}.png" for i in range(1, 7)]
    assert json.loads((Path(shown.in2n.workspace) / "reconstruction" / "state.json").read_text())["done"]
