"""What an artist sees of an import at once: upright, framed, in colours; and what she set stays as it was."""

import json
import shutil
import time
from dataclasses import replace

import bpy
import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Matrix, Vector

from in2n_blender.blender import (
    cameras,
    captured_objects,
    compare,
    full_photos,
    photos,
    render_worker,
    scene_state,
    views,
)
from in2n_blender.scene.camera import Camera, Intrinsics
from in2n_blender.scene.capture import PinholeCapture, View
from in2n_blender.workspace.files import write_json
from in2n_blender.workspace.layout import Workspace
from tests.scene.captures import ring, write_transforms
from tests.scene.test_upright import turned

LYING = turned((1, 0, 0), 160)  # as COLMAP leaves a capture: y down, askew


def write(folder, scale=1.0, laid=LYING, size=(64, 48), **table):
    """A capture all round of 12 photos and 80 coloured points near the origin, in units of the scale.

    Returns (80, 3) the points as the file has them.
    """
    poses = [laid @ pose for pose in ring(12, radius=4.0, height=1.5)]
    for pose in poses:
        pose[:3, 3] *= scale
    points = np.random.default_rng(1).uniform(-1, 1, (80, 3)) * scale @ laid[:3, :3].T
    write_transforms(folder, poses, size=size, fl_x=60.0, fl_y=60.0, ply_file_path="points.ply", **table)
    rows = [f"{x:.9g} {y:.9g} {z:.9g} {i} {255 - i} 90" for i, (x, y, z) in enumerate(points)]
    head = ["ply", "format ascii 1.0", f"element vertex {len(points)}", *(f"property float {a}" for a in "xyz")]
    head += [f"property uchar {c}" for c in ("red", "green", "blue")]
    (folder / "points.ply").write_text("\n".join([*head, "end_header", *rows, ""]))
    return points


def imported_from(folder):
    assert bpy.ops.in2n.import_capture(filepath=str(folder)) == {"FINISHED"}
    bpy.context.view_layer.update()
    return bpy.context.scene.in2n.capture


@pytest.fixture
def captured(scene, tmp_path):
    write(tmp_path / "well")
    return imported_from(tmp_path / "well")


def world_points(empty) -> np.ndarray:
    (shown,) = scene_state.children(empty, "POINTS")
    return np.array([shown.matrix_world @ vertex.co for vertex in shown.data.vertices])


def set_up_by_the_artist(scene):
    """A shot: a camera, a resolution, a frame range; returns what of them there is."""
    data = bpy.data.cameras.new("shot")
    scene.camera = bpy.data.objects.new("shot", data)
    scene.collection.objects.link(scene.camera)
    render = scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = 2048, 858, 50
    render.pixel_aspect_x, scene.frame_start, scene.frame_end, scene.frame_current = 1.0, 1001, 1100, 1003
    return shot_of(scene)


def shot_of(scene) -> tuple:
    render = scene.render
    names = ("resolution_x", "resolution_y", "resolution_percentage", "pixel_aspect_x", "pixel_aspect_y", "fps")
    frames = (scene.frame_start, scene.frame_end, scene.frame_current)
    return scene.camera, *(getattr(render, name) for name in names), *frames, render.film_transparent


def test_a_capture_that_lies_on_its_side_stands_up_by_its_empty_alone(captured, tmp_path):
    frames = json.loads((tmp_path / "well/transforms.json").read_text())["frames"]
    for camera, frame in zip(scene_state.children(captured, "CAMERA"), frames, strict=True):
        np.testing.assert_allclose(np.array(camera.matrix_local), frame["transform_matrix"], atol=1e-5)
        assert camera.matrix_world.col[2].z == pytest.approx(1.5 / np.hypot(4, 1.5), abs=1e-3), (
            "it looks down as it did"
        )
        assert abs(camera.matrix_world.col[0].z) < 1e-3 and camera.matrix_world.translation.z > 1
        pose = cameras.relative_pose(np.array(camera.matrix_world), np.array(captured.matrix_world))
        np.testing.assert_allclose(pose, frame["transform_matrix"], atol=1e-5)
    assert np.array(captured.matrix_world.translation).tolist() == [0, 0, 0]
    assert captured.matrix_world.to_scale()[:] == pytest.approx((1, 1, 1))


def test_a_capture_that_stands_is_not_turned(scene, tmp_path):
    write(tmp_path / "well", laid=np.eye(4))
    assert np.array(imported_from(tmp_path / "well").matrix_world).tolist() == np.eye(4).tolist()


def test_nothing_of_the_shot_changes_by_importing_and_looking(scene, tmp_path):
    before = set_up_by_the_artist(scene)
    write(tmp_path / "well")
    empty = imported_from(tmp_path / "well")
    assert shot_of(scene) == before
    photo = scene_state.children(empty, "CAMERA")
    space = views.main_area(bpy.context).spaces.active
    for direction, index in (("NEXT", 0), ("NEXT", 1), ("PREVIOUS", 0), ("PREVIOUS", 11), ("CURRENT", 11), ("NEXT", 0)):
        assert bpy.ops.in2n.look_through(direction=direction) == {"FINISHED"}
        assert space.use_local_camera and space.camera == photo[index]
        assert space.region_3d.view_perspective == "CAMERA" and shot_of(scene) == before
    bpy.ops.in2n.back_to_shot()
    assert not space.use_local_camera and space.region_3d.view_perspective == "CAMERA" and shot_of(scene) == before


def test_without_a_camera_of_her_own_the_scene_gets_none(captured, scene):
    assert scene.camera is None
    bpy.ops.in2n.look_through(direction="CURRENT")
    bpy.ops.in2n.back_to_shot()
    assert scene.camera is None
    assert views.main_area(bpy.context).spaces.active.region_3d.view_perspective == "PERSP"


def test_back_from_rendering_a_photo(captured, scene):
    own = bpy.data.objects.new("shot", bpy.data.cameras.new("shot"))
    scene.collection.objects.link(own)
    scene.camera = scene_state.children(captured, "CAMERA")[3]
    bpy.ops.in2n.back_to_shot()
    assert scene.camera == own


def test_rendering_from_a_photo_is_said(captured, scene, capsys):
    photos._warn_of_photo(scene)
    assert capsys.readouterr().out == ""
    scene.camera = scene_state.children(captured, "CAMERA")[0]
    scene.render.engine = "BLENDER_WORKBENCH" if bpy.app.version >= (5, 0) else "CYCLES"
    for handler in bpy.app.handlers.render_init:
        handler(scene)
    assert "“000” is a photo's camera" in capsys.readouterr().out


@pytest.mark.parametrize("size", [(64, 48), (48, 64)], ids=["landscape", "portrait"])
@pytest.mark.parametrize("shot", [(1920, 800), (500, 500), (600, 900), (1280, 960)], ids=str)
def test_the_photo_fits_whatever_the_shots_shape(scene, tmp_path, size, shot):
    """Where a point is in the photo as it is drawn in the frame: Blender's own projection against the pinhole's."""
    points = write(tmp_path / "well", size=size, cx=25.0, cy=29.0)
    empty = imported_from(tmp_path / "well")
    scene.render.resolution_x, scene.render.resolution_y = shot
    bpy.ops.in2n.look_through(direction="CURRENT")
    camera = scene_state.children(empty, "CAMERA")[0]
    (background,) = camera.data.background_images
    frame, photo = np.array(shot, float), np.array(size, float)
    ratios = frame / photo
    photo_scale = {"FIT": min(ratios), "CROP": max(ratios)}[background.frame_method]  # of the picture as it is drawn
    pose = np.array(camera.matrix_local, np.float64)
    for point, there in zip(points, world_points(empty), strict=True):
        seen = world_to_camera_view(scene, camera, Vector(there))
        drawn = ([seen.x - 0.5, 0.5 - seen.y] * frame) / photo_scale + photo / 2
        at = np.linalg.inv(pose) @ np.r_[point, 1]
        np.testing.assert_allclose(drawn, [25 + 60 * at[0] / -at[2], 29 + 60 * at[1] / at[2]], atol=0.02)


@pytest.mark.parametrize("scale", [0.01, 1.0, 1000.0])
def test_captures_of_every_size_are_within_the_clip_distances(scene, tmp_path, scale):
    write(tmp_path / "well", scale=scale)
    area = views.main_area(bpy.context)
    area.spaces.active.clip_start, area.spaces.active.clip_end = 0.01, 1000
    empty = imported_from(tmp_path / "well")
    points = np.c_[world_points(empty), np.ones(80)]
    for camera in scene_state.children(empty, "CAMERA"):
        depth = -(points @ np.array(camera.matrix_world.inverted()).T)[:, 2]
        assert ((depth > camera.data.clip_start) & (depth < camera.data.clip_end)).all()
        assert camera.data.display_size <= max(0.25 * scale, 0.01), "drawn small; Blender draws none below 0.01"
    space = area.spaces.active
    depth = -(points @ np.linalg.inv(eye_of(space.region_3d)).T)[:, 2]
    assert ((depth > 2 * space.clip_start) & (depth < space.clip_end / 2)).all()
    assert space.clip_end / space.clip_start <= 1e8, "a depth buffer tells surfaces apart"
    if scale == 1.0:
        assert (round(space.clip_start, 4), space.clip_end) == (0.01, 1000), "what she set is enough: it stays"


def test_a_capture_scaled_by_a_distance_is_still_seen_whole(captured, scene):
    first, second = scene_state.children(captured, "CAMERA")[:2]
    size, start = first.data.display_size, first.data.clip_start
    for thing in (first, second):
        thing.select_set(True)
    distance = (first.matrix_world.translation - second.matrix_world.translation).length
    assert bpy.ops.in2n.set_scale(distance=1000 * distance) == {"FINISHED"}
    bpy.context.view_layer.update()
    assert (first.data.display_size, first.data.clip_start) == pytest.approx((1000 * size, 1000 * start))
    eye = first.matrix_world.normalized().inverted()
    depth = -(np.c_[world_points(captured), np.ones(80)] @ np.array(eye).T)[:, 2]
    assert ((depth > first.data.clip_start) & (depth < first.data.clip_end)).all()
    assert views.main_area(bpy.context).spaces.active.clip_end > 8000


def eye_of(view) -> np.ndarray:
    """(4, 4) where a view stands and how it is turned. Without a graphics card it does not compute its own matrices."""
    turned = view.view_rotation.to_matrix()
    location = view.view_location + turned @ Vector((0, 0, view.view_distance))
    return np.array(Matrix.Translation(location) @ turned.to_4x4(), np.float64)


def seen_in(area, points: np.ndarray) -> np.ndarray:
    """(n, 2) where a view shows points, from -1 to 1: as a camera whose sensor is twice as wide as usual."""
    view, region = area.spaces.active.region_3d, next(r for r in area.regions if r.type == "WINDOW")
    data = bpy.data.cameras.new("view")
    data.lens, data.sensor_width = area.spaces.active.lens, 72
    if view.view_perspective == "ORTHO":
        data.type, data.ortho_scale = "ORTHO", view.view_distance * 72 / data.lens
    viewer = bpy.data.objects.new("view", data)
    viewer.matrix_world = Matrix(eye_of(view).tolist())
    scene = bpy.data.scenes.new("view")
    scene.render.resolution_x, scene.render.resolution_y = region.width, region.height
    seen = [world_to_camera_view(scene, viewer, Vector(point)) for point in points]
    assert all(at.z > 0 for at in seen) or view.view_perspective == "ORTHO"
    return 2 * np.array(seen)[:, :2] - 1


@pytest.mark.parametrize("perspective", ["PERSP", "ORTHO", "CAMERA"])
@pytest.mark.parametrize("scale", [0.01, 1.0, 1000.0])
def test_the_view_is_filled_by_half(scene, tmp_path, scale, perspective):
    area = views.main_area(bpy.context)
    area.spaces.active.region_3d.view_perspective = perspective
    area.spaces.active.region_3d.view_rotation = (0.8, 0.46, 0.18, 0.33)
    write(tmp_path / "well", scale=scale)
    empty = imported_from(tmp_path / "well")
    positions = np.array([c.matrix_world.translation for c in scene_state.children(empty, "CAMERA")])
    points, at = (seen_in(area, places) for places in (world_points(empty), positions))
    assert np.abs(at).max() < 0.95 and np.abs(at).max() > 0.75, "the cameras are seen too"
    assert 0.3 < ((points.max(0) - points.min(0)) / 2).max() < 0.7, "and what they saw fills about half"
    assert np.abs((points.max(0) + points.min(0)) / 2).max() < 0.3, "in the middle"


def test_a_capture_from_one_side_is_seen_from_there(scene, tmp_path):
    write_transforms(tmp_path / "front", ring(9, turn=1.5, height=0.5))
    empty = imported_from(tmp_path / "front")
    view = views.main_area(bpy.context).spaces.active.region_3d
    back = view.view_rotation.to_matrix().col[2]
    mean = sum((c.matrix_world.col[2].to_3d() for c in scene_state.children(empty, "CAMERA")), Vector()).normalized()
    assert 0.5 < back.dot(mean) < 0.99 and back.z > 0.2
    assert (np.abs(seen_in(views.main_area(bpy.context), np.array([[0.0, 0, 0]]))) < 0.9).all()


def test_points_show_their_colours_in_solid_shading(captured):
    """Solid shading shows the active colours of meshes, and of nothing else."""
    (points,) = scene_state.children(captured, "POINTS")
    evaluated = points.evaluated_get(bpy.context.evaluated_depsgraph_get())
    shown = evaluated.data
    assert evaluated.type == "MESH" and len(shown.polygons) == 8 * 80
    assert len(shown.vertices) == 6 * 80, "no loose vertices, which are drawn as black dots"
    colors = shown.color_attributes.active_color
    assert colors is not None and colors.name == "Col"
    found = {tuple(round(255 * channel) for channel in datum.color_srgb[:3]) for datum in colors.data}
    assert found == {(i, 255 - i, 90) for i in range(80)}
    shading = views.main_area(bpy.context).spaces.active.shading
    assert (shading.color_type, shading.light, shading.show_object_outline) == ("VERTEX", "FLAT", False)
    shading.light = "STUDIO"
    views.show_colors(bpy.context)
    assert shading.light == "STUDIO", "she has chosen her light by now"


def test_cameras_have_a_collection_to_be_hidden_by(captured, scene):
    (collection,) = captured.users_collection
    (inside,) = collection.children
    assert {o.in2n.role for o in inside.objects if o.type == "CAMERA"} == {"CAMERA"}
    assert not any(o.type == "CAMERA" for o in collection.objects)
    layer = bpy.context.view_layer.layer_collection.children[collection.name].children[inside.name]
    layer.hide_viewport = True
    bpy.context.view_layer.update()
    assert not any(c.visible_get() for c in scene_state.children(captured, "CAMERA"))
    assert all(p.visible_get() for p in scene_state.children(captured, "POINTS"))


def test_no_lines_run_from_the_cameras_to_the_empty(captured):
    """Blender draws one to every parent that is visible."""
    for camera in scene_state.children(captured, "CAMERA"):
        assert not camera.parent.visible_get() and camera.parent.parent == captured
    assert captured.visible_get()


def test_how_many_photos_are_held_out_is_chosen(scene, tmp_path, recording):
    write(tmp_path / "well")
    for every, held_out in ((8, 1), (3, 4), (0, 0)):
        bpy.ops.in2n.import_capture(filepath=str(tmp_path / "well"), hold_out_every=every)
        empty = scene.in2n.capture
        assert sum(c.in2n.held_out for c in scene_state.children(empty, "CAMERA")) == held_out
        bpy.ops.in2n.reconstruct()
        assert [r["hold_out_every"] for r in recording.asked if r["method"] == "import"][-1] == every


def test_photos_elsewhere_are_taken_by_the_artists_leave_alone(scene, tmp_path, recording):
    write(tmp_path / "well")
    (tmp_path / "disk").mkdir()
    (tmp_path / "well/images").rename(tmp_path / "disk/images")
    table = json.loads((tmp_path / "well/transforms.json").read_text())
    for frame in table["frames"]:
        frame["file_path"] = str(tmp_path / "disk" / frame["file_path"])
    (tmp_path / "well/transforms.json").write_text(json.dumps(table))
    with pytest.raises(RuntimeError, match="Photos Outside the Folder"):
        bpy.ops.in2n.import_capture(filepath=str(tmp_path / "well"))
    assert scene.in2n.capture is None
    assert bpy.ops.in2n.import_capture(filepath=str(tmp_path / "well"), outside_photos=True) == {"FINISHED"}
    assert len(scene_state.children(scene.in2n.capture, "CAMERA")) == len(table["frames"])
    bpy.ops.in2n.reconstruct()
    assert [r["outside_photos"] for r in recording.asked if r["method"] == "import"] == [True]


def test_a_final_reconstruction_may_use_all_photos(scene, tmp_path, recording):
    """Changed after the import, the photos are brought in anew with the other split; unchanged they are not."""
    write(tmp_path / "well")
    empty = imported_from(tmp_path / "well")
    splits = [{**_undistorted(tmp_path / "well", every)} for every in (8, 0)]
    for split, every, held_out in zip(splits, (8, 0), (1, 0)):
        made = {"files": {"capture.json": json.dumps(split)}, "copies": {}}
        made["copies"] = {"images/000.png": str(tmp_path / "well/images/000.png")}
        recording.answers(import_=made, reconstruct={"result": {}})
        if every != empty.in2n.hold_out_every:
            empty.in2n.hold_out_every = every
        for _ in range(2):
            assert bpy.ops.in2n.reconstruct() == {"FINISHED"}
        assert sum(c.in2n.held_out for c in scene_state.children(empty, "CAMERA")) == held_out
    asked = [(r["method"], r.get("hold_out_every")) for r in recording.asked]
    once = [("reconstruct", None)] * 2
    assert asked == [("import", 8), *once, ("import", 0), *once]


@pytest.mark.parametrize("distortion, original", [({}, True), ({"k1": 1e-5}, True), ({"k1": -0.2}, False)])
def test_photos_without_distortion_stay_the_backgrounds(scene, tmp_path, recording, distortion, original):
    table = {"camera_model": "OPENCV", **distortion} if distortion else {}
    write(tmp_path / "well", **table)
    empty = imported_from(tmp_path / "well")
    camera = scene_state.children(empty, "CAMERA")[0]
    made = {"files": {"capture.json": json.dumps(_undistorted(tmp_path / "well"))}}
    made["copies"] = {"images/000.png": str(tmp_path / "well/images/000.png")}
    (tmp_path / "x").mkdir()
    recording.answers(import_=made, reconstruct={"result": {}})
    assert bpy.ops.in2n.reconstruct() == {"FINISHED"}
    shown = bpy.path.abspath(camera.data.background_images[0].image.filepath)
    assert shown.startswith(str(tmp_path / "well")) == original, shown
    assert len(camera.data.background_images) == 1


def test_a_photo_that_is_looked_through_comes_undistorted_at_its_full_size(scene, tmp_path, recording, window):
    write(tmp_path / "well", camera_model="OPENCV", k1=-0.2)
    empty = imported_from(tmp_path / "well")
    camera, other = scene_state.children(empty, "CAMERA")[:2]
    workspace, full = Workspace(scene.in2n.workspace), Workspace(scene.in2n.workspace).full / "000-1.jpg"
    for folder in (workspace.images, workspace.full):
        folder.mkdir(parents=True)
    workspace.capture_json.write_text(json.dumps(_undistorted(tmp_path / "well")))
    shutil.copy(tmp_path / "well/images/000.png", workspace.photo("images/000.png"))
    recording.answers(
        photo={"copies": {"full/000-1.jpg": str(tmp_path / "well/images/000.png")}, "result": {"file": str(full)}}
    )

    def shown(of=camera) -> str:
        return bpy.path.abspath(of.data.background_images[0].image.filepath)

    def settled() -> None:
        until = time.monotonic() + 20
        while full_photos.is_asked_for(camera) or full_photos.is_asked_for(other):
            assert time.monotonic() < until
            full_photos.take()
            time.sleep(0.01)

    asked = lambda: [(one["method"], one["photo"]) for one in recording.asked]
    bpy.ops.in2n.look_through(direction="CURRENT")
    assert not full_photos.is_asked_for(camera), "it is not known what the photos were made from"
    workspace.originals.write_text("{}")
    bpy.ops.in2n.look_through(direction="CURRENT")
    assert full_photos.is_asked_for(camera)
    settled()
    assert shown() == str(full) and asked() == [("photo", "000")]
    compare.show_photos(empty, workspace, None)
    assert shown() == str(full), "it stays"
    bpy.ops.in2n.look_through(direction="CURRENT")
    assert not full_photos.is_asked_for(camera), "it is there"
    before = shown(other)
    recording.answers(photo={"error": {"code": "no_original", "message": "It is gone.", "hint": ""}})
    render_worker.stop()
    bpy.ops.in2n.look_through(direction="NEXT")
    settled()
    assert asked()[-1] == ("photo", "001") and shown(other) == before, "the smaller one stays"
    full.unlink()
    compare.show_photos(empty, workspace, None)
    assert shown() == str(workspace.photo("images/000.png"))
    render_worker.stop()


def _undistorted(folder, hold_out_every=8) -> dict:
    from in2n_blender.scene.capture import pinhole_capture
    from in2n_blender.scene.readers import read

    return pinhole_capture(read(folder), 512, hold_out_every).to_json()


def test_a_capture_without_points_is_framed_too(scene, tmp_path):
    write_transforms(tmp_path / "bare")
    empty = imported_from(tmp_path / "bare")
    assert not scene_state.children(empty, "POINTS")
    positions = np.array([c.matrix_world.translation for c in scene_state.children(empty, "CAMERA")])
    at = seen_in(views.main_area(bpy.context), positions)
    assert 0.6 < (at.max(0) - at.min(0)).max() / 2 < 0.95


def test_the_extent_of_odd_captures_is_usable():
    k = Intrinsics(64, 48, 60.0, 60.0, 32.0, 24.0)
    same = PinholeCapture("x", "x", "", tuple(View(str(i), f"{i}.png", Camera(k, np.eye(4))) for i in range(4)))
    assert captured_objects.extent_of(same) == 1.0


def test_points_that_only_the_engine_found_are_shown_once(scene, tmp_path):
    """A capture came without points; its photos tell some when they are brought into the workspace."""
    k = Intrinsics(64, 48, 60.0, 60.0, 32.0, 24.0)
    views_of = tuple(View(str(i), f"images/{i}.png", Camera(k, pose)) for i, pose in enumerate(ring(6)))
    bare = PinholeCapture("bare", "/nowhere", "draft", views_of)
    empty = captured_objects.add_capture(scene, bare, {})
    assert scene_state.children(empty, "POINTS") == []
    workspace = Workspace(tmp_path / "ws")
    workspace.root.mkdir()
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (200, 3)).astype(np.float32)
    colors = np.tile(np.array([[200, 40, 40]], np.uint8), (200, 1))
    write_json(workspace.capture_json, replace(bare, points=points, point_colors=colors).to_json())
    captured_objects.note_import(empty, workspace)
    (shown,) = scene_state.children(empty, "POINTS")
    found = np.array([vertex.co for vertex in shown.data.vertices])
    np.testing.assert_allclose(found, points, atol=1e-5)
    assert shown.parent == empty and shown.hide_render
    bpy.data.objects.remove(shown)
    captured_objects.note_import(empty, workspace)
    assert scene_state.children(empty, "POINTS") == [], "what the user deleted stays deleted"
