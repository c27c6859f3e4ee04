"""Photos without cameras, imported from Blender: the engine finds their cameras, which arrive one after another."""

import json

import bpy
import numpy as np
import pytest
from PIL import Image

from in2n_blender.blender import arriving, workspaces
from in2n_blender.blender.scene_state import active_capture, children
from tests.engine.textured_room import cameras, sharp_picture, textures

COUNT = 8


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder, walls = tmp_path_factory.mktemp("shoot"), textures()
    for number, camera in enumerate(cameras(COUNT)):
        Image.fromarray(sharp_picture(camera, walls)).save(folder / f"IMG_{number:02}.jpg", quality=95)
    return folder


def test_photos_become_cameras(engine, scene, photos, tmp_path):
    camera, size = scene.camera, (scene.render.resolution_x, scene.render.resolution_y)
    folder = tmp_path / "found.in2n"
    assert bpy.ops.in2n.import_photos(filepath=str(photos), workspace=str(folder), preset="draft") == {"FINISHED"}
    capture = active_capture(scene)
    found = children(capture, "CAMERA")
    assert [obj.in2n.photo for obj in found] == [f"IMG_{number:02}" for number in range(COUNT)]
    assert capture.in2n.video_frames and not capture.in2n.split_changed, "nothing is to be imported again"
    assert len(children(capture, "POINTS")[0].data.vertices) > 100 and workspaces.resolve(capture) == folder
    assert (scene.camera, (scene.render.resolution_x, scene.render.resolution_y)) == (camera, size)
    assert str(COUNT) in scene.in2n.status and all(obj.data.background_images for obj in found)
    bpy.context.view_layer.update()
    ups = np.array([np.array(obj.matrix_world)[:3, 1] for obj in found])
    assert ups[:, 2].min() > 0.5, "it stands upright"

    arrived = arriving.read(folder / "poses" / "cameras.json")
    placed = np.array([obj.matrix_world.translation for obj in found])
    np.testing.assert_allclose(arrived.positions, placed, atol=1e-4 * np.ptp(placed))
    assert len(arrived.lines) == 16 * COUNT and len(arrived.points) == len(arrived.colors) > 100


def test_what_is_asked_for(scene, recording, photos, tmp_path):
    one = photos / "IMG_03.jpg"
    arguments = {"preset": "full", "hold_out_every": 5, "video_frames": 33, "workspace": str(tmp_path / "ws")}
    with pytest.raises(RuntimeError):  # the recorded worker makes no capture
        bpy.ops.in2n.import_photos(filepath=str(one), **arguments)
    asked = recording.asked[-1]
    assert asked["source"] == str(photos) and asked["workspace"] == str(tmp_path / "ws")
    assert (asked["preset"], asked["hold_out_every"], asked["video_frames"]) == ("full", 5, 33)


def test_a_folder_without_photos_is_told(scene, recording, tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(RuntimeError, match="neither photos nor a video"):
        bpy.ops.in2n.import_photos(filepath=str(tmp_path))
    assert not recording.asked


def test_a_file_that_is_being_written_is_no_arrival(tmp_path):
    file = tmp_path / "cameras.json"
    assert arriving.read(file) is None
    for text in ("{", "[]", json.dumps({"cameras": [], "points": [], "colors": []}), json.dumps({"cameras": [{}]})):
        file.write_text(text)
        assert arriving.read(file) is None
