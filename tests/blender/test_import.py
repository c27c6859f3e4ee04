"""Importing a capture: what it leaves in the scene, and what it says."""

import json
from pathlib import Path

import bpy
import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector
from panel_reader import Read

from in2n_blender.blender import cameras, panels, scene_state, workspaces
from in2n_blender.scene.capture import pinhole_capture
from in2n_blender.scene.readers import read as read_capture
from in2n_blender.workspace.layout import Workspace
from tests.scene.captures import write_colmap, write_png, write_surveyed
from tests.scene.formats import WRITERS


def run(**arguments):
    return bpy.ops.in2n.import_capture(**arguments)


def test_cameras_photos_and_numbers(imported, scene, capture_folder):
    found = scene_state.children(imported, "CAMERA")
    assert len(found) == 6 and imported.in2n.missing == 2
    assert scene.in2n.status == "Imported “garden”: 6 photos (64 x 48), 2 missing."
    frames = json.loads((capture_folder / "transforms.json").read_text())["frames"]
    for camera, frame in zip(found, frames):
        np.testing.assert_allclose(np.array(camera.matrix_local), frame["transform_matrix"], atol=1e-5)
        (background,) = camera.data.background_images
        assert Path(bpy.path.abspath(background.image.filepath)) == capture_folder / frame["file_path"]
        assert tuple(background.image.size) == (64, 48)
    assert sum(c.in2n.held_out for c in found) == 1


def test_import_through_the_scene_and_out_again(imported, scene, capture_folder):
    imported.location = (1, 2, 3)
    imported.scale = (2, 2, 2)
    frames = json.loads((capture_folder / "transforms.json").read_text())["frames"]
    for camera, frame in zip(scene_state.children(imported, "CAMERA"), frames):
        scene.camera = camera
        exported = cameras.camera_path_from_scene(scene, imported, "path", 1, 1).frames[0].camera
        np.testing.assert_allclose(exported.camera_to_world, frame["transform_matrix"], atol=1e-5)
        k = exported.intrinsics
        assert (k.fx, k.fy, k.cx, k.cy) == pytest.approx((60, 60, 30, 25), abs=1e-4)


def test_the_preset_scales(scene, capture_folder):
    data = json.loads((capture_folder / "transforms.json").read_text())
    scene.in2n.preset = "full"
    run(filepath=str(capture_folder / "transforms.json"), preset="draft")
    assert scene.in2n.capture.in2n.preset == scene.in2n.preset == "draft"
    camera = scene_state.children(scene.in2n.capture, "CAMERA")[0]
    assert camera.in2n.image_size[0] == data["w"]  # photos are never scaled up


@pytest.mark.parametrize(
    "spoil, said",
    [
        (lambda f: (f / "transforms.json").unlink(), "No capture was found"),
        (lambda f: (f / "transforms.json").write_text("{"), "not valid JSON"),
        (lambda f: [p.unlink() for p in (f / "images").iterdir()], "photo"),
    ],
)
def test_bad_captures_leave_nothing_behind(scene, capture_folder, spoil, said):
    spoil(capture_folder)
    with pytest.raises(RuntimeError, match=said):
        run(filepath=str(capture_folder))
    assert not scene.objects and not bpy.data.cameras and scene.in2n.capture is None


def test_an_unsaved_file_gets_a_scratch_folder(imported, scene, home):
    folder = Path(scene.in2n.workspace)
    assert folder.parent == home / "scratch" and workspaces.is_scratch(folder)
    assert not folder.exists()  # nothing is created before there is something to keep


def test_a_saved_file_keeps_its_workspace_beside_it(scene, capture_folder, tmp_path):
    (tmp_path / "work").mkdir()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "work" / "shot.blend"))
    run(filepath=str(capture_folder))
    assert scene.in2n.workspace == str(tmp_path / "work" / "shot.in2n")
    assert scene.in2n.capture.in2n.workspace == "//shot.in2n"
    run(filepath=str(capture_folder))
    assert scene.in2n.workspace == str(tmp_path / "work" / "shot-2.in2n"), "a second capture has a workspace of its own"

    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "elsewhere.blend"))
    assert Path(scene.in2n.workspace) == tmp_path / "work" / "shot-2.in2n", "saved elsewhere, it is still found"


def test_imported_again_a_capture_finds_its_workspace(scene, capture_folder, tmp_path):
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    run(filepath=str(capture_folder))
    folder = Path(scene.in2n.workspace)
    folder.mkdir()
    capture = pinhole_capture(read_capture(capture_folder), 512)
    (folder / "capture.json").write_text(json.dumps(capture.to_json()))
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    run(filepath=str(capture_folder / "transforms.json"))
    assert Path(bpy.context.scene.in2n.workspace) == folder
    other = tmp_path / "other"
    capture_folder.rename(other)
    run(filepath=str(other))
    assert bpy.context.scene.in2n.workspace == str(tmp_path / "shot-2.in2n"), "another capture does not write into it"


@pytest.mark.parametrize("content", ["[]", "{", '{"source": 3}'])
def test_a_folder_whose_capture_json_is_not_ours_is_left_alone(scene, capture_folder, tmp_path, content):
    (tmp_path / "shot.in2n").mkdir()
    (tmp_path / "shot.in2n/capture.json").write_text(content)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    run(filepath=str(capture_folder))
    assert scene.in2n.workspace == str(tmp_path / "shot-2.in2n")


def test_saved_and_opened_again(scene, capture_folder, tmp_path):
    blend = tmp_path / "shot.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(blend))
    run(filepath=str(capture_folder))
    for thing in (*bpy.data.objects, *bpy.data.cameras):
        thing.name = "renamed"
    bpy.ops.wm.save_mainfile()
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    scene = bpy.context.scene
    capture = scene_state.active_capture(scene)
    assert capture is not None and scene.in2n.workspace == str(tmp_path / "shot.in2n")
    assert sorted(c.in2n.photo for c in scene_state.children(capture, "CAMERA")) == [f"{i:03d}" for i in range(6)]


def test_a_deleted_capture_does_not_count(imported, scene):
    assert scene_state.active_capture(scene) == imported
    for collection in imported.users_collection:
        collection.objects.unlink(imported)
    assert scene_state.active_capture(scene) is None and scene.in2n.workspace == ""


def test_import_is_one_undo_step(scene, capture_folder):
    bpy.ops.ed.undo_push(message="before")
    run(filepath=str(capture_folder))
    bpy.ops.ed.undo_push(message="import")  # what a window does after an operator with UNDO
    assert len(bpy.context.scene.objects) == 8
    bpy.ops.ed.undo()
    assert len(bpy.context.scene.objects) == 0
    bpy.ops.ed.redo()
    capture = bpy.context.scene.in2n.capture
    assert capture is not None and len(scene_state.children(capture, "CAMERA")) == 6


UTM = np.array([500_000.37, 5_000_000.81, 300.25])


def test_a_surveyed_capture_keeps_its_millimetres(scene, tmp_path):
    """Poses and points in map coordinates: Blender's float32 has half a metre there."""
    points, poses = write_surveyed(tmp_path, UTM)
    run(filepath=str(tmp_path / "transforms.json"))
    bpy.context.view_layer.update()
    empty = scene.in2n.capture
    offset = cameras.offset_of(empty)
    assert np.array(empty.matrix_world).tolist() == np.eye(4).tolist() and np.abs(offset - UTM).max() < 10
    (shown,) = scene_state.children(empty, "POINTS")
    kept = np.array([vertex.co for vertex in shown.data.vertices], np.float64)
    assert np.abs(kept + offset - points).max() < 1e-3
    for camera, pose in zip(scene_state.children(empty, "CAMERA"), poses, strict=True):
        assert np.abs(np.array(camera.matrix_world.translation, np.float64) + offset - pose[:3, 3]).max() < 1e-3
        k, (width, height) = camera.in2n.intrinsics, camera.in2n.image_size
        scene.camera, scene.render.resolution_x, scene.render.resolution_y = camera, width, height
        for point in points:
            at = np.linalg.inv(pose) @ np.r_[point, 1]
            seen = world_to_camera_view(scene, camera, empty.matrix_world @ Vector(point - offset))
            wanted = k[2] + k[0] * at[0] / -at[2], k[3] - k[1] * at[1] / -at[2]
            assert np.hypot(seen.x * width - wanted[0], (1 - seen.y) * height - wanted[1]) < 0.1


def test_the_offset_outlives_the_file(scene, tmp_path):
    write_surveyed(tmp_path / "site", UTM)
    run(filepath=str(tmp_path / "site/transforms.json"))
    before = cameras.offset_of(scene.in2n.capture)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "a.blend"))
    assert cameras.offset_of(bpy.context.scene.in2n.capture).tolist() == before.tolist() == [500_000, 5_000_000, 300]


@pytest.mark.parametrize("offset", [(500_000, 5_000_000, 300), (500_010, 4_999_990, 300), (0, 0, 0)])
def test_a_path_is_relative_to_the_workspaces_offset(scene, tmp_path, offset):
    _points, poses = write_surveyed(tmp_path / "site", UTM)
    run(filepath=str(tmp_path / "site"), workspace=str(tmp_path / "work"))
    empty, workspace = scene.in2n.capture, Workspace(tmp_path / "work")
    made = pinhole_capture(read_capture(tmp_path / "site"), 240)
    workspace.root.mkdir()
    workspace.capture_json.write_text(json.dumps({**made.to_json(), "offset": offset}))
    scene.camera = scene_state.children(empty, "CAMERA")[0]
    path = cameras.camera_path_from_scene(scene, empty, "path", 1, 1)
    (frame,) = cameras.relative_to_workspace(path, empty, workspace).frames
    np.testing.assert_allclose(frame.camera.position + offset, poses[0][:3, 3], atol=1e-4)


def test_an_ordinary_capture_has_no_offset(imported):
    assert cameras.offset_of(imported).tolist() == [0, 0, 0]


def test_what_was_found_in_the_capture_is_said_and_stays(scene, tmp_path, capsys):
    names = [f"{i}.png" for i in range(8)]
    write_colmap(tmp_path / "sparse/0", names[:3])
    write_colmap(tmp_path / "sparse/1", names[3:])
    for name in names:
        write_png(tmp_path / "images" / name)
    for name in names[4:6]:
        write_png(tmp_path / "masks" / name)
    run(filepath=str(tmp_path))
    empty = scene.in2n.capture
    assert scene.in2n.status.endswith("5 photos (12 x 8), 2 masks.") and empty.in2n.masks == 2
    assert "sparse/0 (3 photos)" in empty.in2n.notes and "sparse/0 (3 photos)" in capsys.readouterr().out
    drawn = Read(panels.IN2N_PT_capture).text
    assert "2 masks" in drawn and "sparse/0 (3 photos)" in drawn, "the panel says so, too"


def test_unusable_photos_are_listed_with_the_reason(scene, tmp_path, capsys):
    write_colmap(tmp_path / "sparse/0", [f"{i}.png" for i in range(5)])
    for i in range(5):
        write_png(tmp_path / f"images/{i}.png")
    (tmp_path / "images/4.png").write_bytes(b"\x76\x2f\x31\x01" + bytes(40))
    run(filepath=str(tmp_path))
    assert scene.in2n.capture.in2n.missing == 1
    capsys.readouterr()
    assert bpy.ops.in2n.show_missing() == {"FINISHED"}
    assert "4: OpenEXR" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["metashape", "llff"])
def test_a_capture_of_another_program(scene, tmp_path, name):
    written = WRITERS[name][0](tmp_path)
    run(filepath=str(written.path))
    assert len(scene_state.children(scene.in2n.capture, "CAMERA")) == len(written.pixels)
