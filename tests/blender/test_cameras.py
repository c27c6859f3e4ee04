"""Captures into Blender and camera paths out of it: the same matrices and the same pixels."""

import math

import bpy
import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Euler, Matrix, Vector

from in2n_blender.blender import cameras, captured_objects, scene_state
from in2n_blender.scene.camera import Camera, Intrinsics
from in2n_blender.scene.capture import PinholeCapture, View
from in2n_blender.scene.errors import In2nError

LENSES = {
    "landscape": Intrinsics(640, 480, 500.0, 500.0, 320.0, 240.0),
    "off-centre": Intrinsics(640, 480, 500.0, 500.0, 287.3, 262.9),
    "portrait": Intrinsics(480, 640, 700.0, 700.0, 251.0, 305.5),
    "square": Intrinsics(256, 256, 300.0, 300.0, 120.0, 131.0),
    "tall pixels": Intrinsics(640, 480, 500.0, 430.0, 300.0, 250.0),
    "wide pixels": Intrinsics(480, 640, 420.0, 510.0, 251.0, 300.0),
    "portrait made landscape by its pixels": Intrinsics(500, 520, 400.0, 480.0, 240.0, 270.0),
}
PLACEMENTS = {
    "at the origin": Matrix.Identity(4),
    "moved, rotated, scaled": Matrix.LocRotScale(
        Vector((4.0, -2.0, 1.5)), Euler((0.4, -1.1, 2.0)), Vector((2.5, 2.5, 2.5))
    ),
}


def random_pose(rng, distance: float = 3.0) -> np.ndarray:
    """A camera-to-world at some distance of the origin, looking about at it, rolled at random."""
    position = rng.normal(size=3)
    position *= distance / np.linalg.norm(position)
    back = position / np.linalg.norm(position) + 0.1 * rng.normal(size=3)
    back /= np.linalg.norm(back)
    right = np.cross(rng.normal(size=3), back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(back, right), back], 1)
    pose[:3, 3] = position
    return pose


def capture_of(k: Intrinsics, count: int = 5) -> PinholeCapture:
    rng = np.random.default_rng(11)
    views = tuple(View(f"{i:03d}", f"images/{i:03d}.png", Camera(k, random_pose(rng))) for i in range(count))
    points = rng.normal(size=(40, 3)).astype(np.float32) * 0.3
    return PinholeCapture("room", "/nowhere", "standard", views, points, rng.integers(0, 256, (40, 3)).astype(np.uint8))


def place(empty, matrix):
    empty.matrix_world = matrix
    bpy.context.view_layer.update()


def export(scene, empty, start=1, end=1, step=1):
    return cameras.camera_path_from_scene(scene, empty, "path", start, end, step)


def project(k: Intrinsics, camera_to_world, points):
    """The textbook pinhole projection, (P, 2) pixels."""
    x, y, z = (np.linalg.inv(camera_to_world) @ np.concatenate([points, np.ones((len(points), 1))], 1).T)[:3]
    return np.stack([k.cx + k.fx * x / -z, k.cy - k.fy * y / -z], 1)


def assert_same_lens(got: Intrinsics, want: Intrinsics):
    assert (got.width, got.height) == (want.width, want.height)
    for name in ("fx", "fy", "cx", "cy"):
        assert getattr(got, name) == pytest.approx(getattr(want, name), abs=1e-3), name


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("lens", LENSES)
def test_round_trip(scene, lens, placement):
    k = LENSES[lens]
    capture = capture_of(k)
    empty = captured_objects.add_capture(scene, capture, {})
    cameras.set_resolution(scene, k)
    place(empty, PLACEMENTS[placement])
    points = np.random.default_rng(5).normal(size=(100, 3)) * 0.5
    for view, camera in zip(capture.views, scene_state.children(empty, "CAMERA"), strict=True):
        scene.camera = camera
        (frame,) = export(scene, empty).frames
        np.testing.assert_allclose(frame.camera.camera_to_world, view.camera.camera_to_world, atol=1e-5)
        assert_same_lens(frame.camera.intrinsics, k)

        wanted = project(k, view.camera.camera_to_world, points)
        seen = [world_to_camera_view(scene, camera, empty.matrix_world @ Vector(p)) for p in points]
        blender = np.array([(v.x * k.width, (1 - v.y) * k.height) for v in seen])
        near = (np.abs(wanted - (k.cx, k.cy)) < 2 * max(k.width, k.height)).all(1)
        assert near.sum() > 30
        assert np.abs(blender - wanted)[near].max() < 0.01
        assert (
            np.abs(project(frame.camera.intrinsics, frame.camera.camera_to_world, points) - wanted)[near].max() < 0.01
        )


def test_the_original_lens_stays_on_the_camera_whatever_its_name(scene):
    k = LENSES["off-centre"]
    empty = captured_objects.add_capture(scene, capture_of(k), {})
    for i, camera in enumerate(scene_state.children(empty, "CAMERA")):
        camera.name = "renamed"
        assert camera.in2n.photo == f"{i:03d}"
        assert tuple(camera.in2n.intrinsics) == pytest.approx((k.fx, k.fy, k.cx, k.cy), rel=1e-6)
        assert tuple(camera.in2n.image_size) == (k.width, k.height)
    assert len(scene_state.children(empty, "CAMERA")) == 5


@pytest.mark.parametrize("scale", [1.0, 2.0, 0.25])
def test_depth_of_a_path_in_its_units_is_blenders_own(scene, scale):
    """A point of the capture, seen by a camera of the scene, whose Empty was scaled by a distance."""
    empty = captured_objects.add_capture(scene, capture_of(LENSES["landscape"]), {})
    place(empty, Matrix.LocRotScale(Vector((1.0, 2.0, 3.0)), Euler((0.3, 0.2, 0.1)), Vector((scale,) * 3)))
    scene.camera = scene_state.children(empty, "CAMERA")[0]
    cameras.set_resolution(scene, LENSES["landscape"])
    path = export(scene, empty)
    point = np.array([0.2, -0.1, 0.3])
    pose = path.frames[0].camera.camera_to_world
    depth = -(np.linalg.inv(pose) @ np.append(point, 1))[2]
    in_blender = world_to_camera_view(scene, scene.camera, empty.matrix_world @ Vector(point)).z
    assert path.unit_scale == pytest.approx(scale, rel=1e-5)
    assert depth * path.unit_scale == pytest.approx(in_blender, rel=1e-4)


def test_points_carry_positions_and_colors(scene):
    capture = capture_of(LENSES["square"])
    empty = captured_objects.add_capture(scene, capture, {})
    (points,) = scene_state.children(empty, "POINTS")
    got = np.empty(40 * 3, np.float32)
    points.data.vertices.foreach_get("co", got)
    np.testing.assert_allclose(got.reshape(-1, 3), capture.points)
    colors = np.empty(40 * 4, np.float32)
    points.data.color_attributes["Col"].data.foreach_get("color_srgb", colors)
    np.testing.assert_allclose(colors.reshape(-1, 4)[:, :3] * 255, capture.point_colors, atol=0.6)
    assert points.parent == empty


@pytest.fixture
def animated(scene):
    """A camera of the user's own, not a child of the capture, with animated place, lens and shift."""
    empty = captured_objects.add_capture(scene, capture_of(LENSES["landscape"]), {})
    place(empty, Matrix.Identity(4))
    cameras.set_resolution(scene, LENSES["landscape"])
    data = bpy.data.cameras.new("mine")
    camera = bpy.data.objects.new("mine", data)
    scene.collection.objects.link(camera)
    scene.camera = camera
    for frame, x, lens, shift in ((1, 0.0, 35.0, 0.0), (11, 2.0, 70.0, 0.2)):
        camera.location = (x, -3, 0.5)
        camera.rotation_euler = (math.radians(80), 0, 0.2 * x)
        data.lens, data.shift_x, data.shift_y = lens, shift, -shift / 2
        camera.keyframe_insert("location", frame=frame)
        camera.keyframe_insert("rotation_euler", frame=frame)
        for path in ("lens", "shift_x", "shift_y"):
            data.keyframe_insert(path, frame=frame)
    return scene, empty, camera


def test_animated_lens_shift_and_place(animated):
    scene, empty, camera = animated
    place(empty, PLACEMENTS["moved, rotated, scaled"])
    scene.frame_set(4)
    path = export(scene, empty, 1, 11, 5)
    assert [f.number for f in path.frames] == [1, 6, 11]
    assert path.fps == pytest.approx(scene.render.fps / scene.render.fps_base)
    points = np.random.default_rng(6).normal(size=(200, 3))
    for frame in path.frames:
        scene.frame_set(frame.number)
        k = frame.camera.intrinsics
        assert k.fx == pytest.approx(640 * camera.data.lens / 36, rel=1e-5)
        seen = [world_to_camera_view(scene, camera, empty.matrix_world @ Vector(p)) for p in points]
        front = np.array([v.z > 0.5 for v in seen])
        blender = np.array([(v.x * k.width, (1 - v.y) * k.height) for v in seen])
        ours = project(k, frame.camera.camera_to_world, points)
        assert front.sum() > 20
        assert np.abs(blender - ours)[front].max() < 0.01
    first, middle, last = (f.camera.intrinsics for f in path.frames)
    assert first.fx < middle.fx < last.fx
    assert (
        first.cx == pytest.approx(320)
        and last.cx == pytest.approx(320 - 0.2 * 640)
        and last.cy == pytest.approx(240 - 0.1 * 640)
    )


def test_constraints_and_parents_count(animated):
    scene, empty, camera = animated
    camera.animation_data_clear()
    dolly = bpy.data.objects.new("dolly", None)
    target = bpy.data.objects.new("target", None)
    for made in (dolly, target):
        scene.collection.objects.link(made)
    camera.parent = dolly
    dolly.location = (0, 0, 1)
    dolly.keyframe_insert("location", frame=1)
    dolly.location = (0, 0, 5)
    dolly.keyframe_insert("location", frame=3)
    camera.constraints.new("TRACK_TO").target = target
    for frame in export(scene, empty, 1, 3).frames:
        pose = frame.camera.camera_to_world
        looking = -pose[:3, 2]
        to_target = -pose[:3, 3] / np.linalg.norm(pose[:3, 3])
        np.testing.assert_allclose(looking, to_target, atol=1e-5)
    assert pose[2, 3] == pytest.approx(5.5)


def test_markers_switch_cameras(animated):
    scene, empty, mine = animated
    other = scene_state.children(empty, "CAMERA")[2]
    scene.timeline_markers.new("a", frame=1).camera = mine
    scene.timeline_markers.new("b", frame=5).camera = other
    before, now, after = export(scene, empty, 4, 6).frames
    want = capture_of(LENSES["landscape"]).views[2].camera.camera_to_world
    np.testing.assert_allclose(now.camera.camera_to_world, want, atol=1e-5)
    np.testing.assert_allclose(after.camera.camera_to_world, want, atol=1e-5)
    assert np.abs(before.camera.camera_to_world - want).max() > 0.1


def test_the_current_frame_is_restored(animated):
    scene, empty, _ = animated
    scene.frame_set(7, subframe=0.25)
    export(scene, empty, 1, 3)
    assert (scene.frame_current, scene.frame_subframe) == (7, pytest.approx(0.25))
    scene.camera.data.type = "ORTHO"
    with pytest.raises(In2nError):
        export(scene, empty, 1, 3)
    assert scene.frame_current == 7


def test_resolution_percentage_scales_the_lens(animated):
    scene, empty, _ = animated
    scene.render.resolution_percentage = 50
    k = export(scene, empty).frames[0].camera.intrinsics
    assert (k.width, k.height) == (320, 240) and k.fx == pytest.approx(320 * 35 / 36)


@pytest.mark.parametrize(
    "spoil, code",
    [
        (lambda scene, empty, camera: setattr(camera.data, "type", "ORTHO"), "not_perspective"),
        (lambda scene, empty, camera: setattr(camera.data, "type", "PANO"), "not_perspective"),
        (lambda scene, empty, camera: setattr(scene, "camera", None), "no_camera"),
        (lambda scene, empty, camera: setattr(scene, "camera", empty), "not_perspective"),
        (lambda scene, empty, camera: setattr(empty, "scale", (1, 2, 1)), "uneven_scale"),
        (lambda scene, empty, camera: setattr(empty, "scale", (-1, 1, 1)), "uneven_scale"),
    ],
)
def test_what_a_pinhole_cannot_do_is_refused(animated, spoil, code):
    scene, empty, camera = animated
    spoil(scene, empty, camera)
    with pytest.raises(In2nError) as raised:
        export(scene, empty)
    assert raised.value.code == code


def test_no_frames(animated):
    scene, empty, _ = animated
    with pytest.raises(In2nError) as raised:
        export(scene, empty, 5, 4)
    assert raised.value.code == "no_frames"
