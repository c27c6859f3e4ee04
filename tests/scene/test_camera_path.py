"""A path through the views: near them, looking where they look, smooth, at an even pace."""

import json

import numpy as np
import pytest

from in2n_blender.scene.camera import Camera, Intrinsics
from in2n_blender.scene.camera_path import CameraPath, through_views
from in2n_blender.scene.capture import PinholeCapture, View
from in2n_blender.scene.errors import In2nError
from tests.scene.captures import look_at, ring

LENS = Intrinsics(240, 160, 200.0, 200.0, 118.0, 83.0)


def capture(poses, lens=LENS, held_out=()):
    views = tuple(View(f"{i:03d}", f"images/{i:03d}.png", Camera(lens, p), i in held_out) for i, p in enumerate(poses))
    return PinholeCapture("dog", "dog", "draft", views)


def parts(path):
    poses = np.stack([f.camera.camera_to_world for f in path.frames])
    return poses[:, :3, 3], -poses[:, :3, 2], poses[:, :3, 1]


def assert_smooth(path, closed):
    positions, forward, up = parts(path)
    poses = np.stack([f.camera.camera_to_world for f in path.frames])
    np.testing.assert_allclose(
        np.swapaxes(poses[:, :3, :3], 1, 2) @ poses[:, :3, :3],
        np.broadcast_to(np.eye(3), (len(poses), 3, 3)),
        atol=1e-9,
    )
    assert (np.linalg.det(poses[:, :3, :3]) > 0).all()
    if closed:
        positions, forward, up = (np.vstack([v, v[:1]]) for v in (positions, forward, up))
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    assert steps.max() < 1.6 * np.median(steps)
    assert (np.einsum("ij,ij->i", forward[1:], forward[:-1]) > 0.97).all()
    assert (np.einsum("ij,ij->i", up[1:], up[:-1]) > 0.97).all()
    turns = np.diff(positions, n=2, axis=0)
    assert np.linalg.norm(turns, axis=1).max() < 0.5 * np.median(steps)


def shaken(poses, amount, seed=0):
    rng = np.random.default_rng(seed)
    return [look_at(p[:3, 3] + rng.normal(scale=amount, size=3), rng.normal(scale=amount, size=3)) for p in poses]


def test_a_ring_becomes_a_closed_orbit():
    path = through_views(capture(shaken(ring(40, radius=4, height=1), 0.1)), 48, fps=30)
    positions, forward, _ = parts(path)
    assert (path.fps, len(path.frames), [f.number for f in path.frames[:2]]) == (30, 48, [1, 2])
    assert_smooth(path, closed=True)
    np.testing.assert_allclose(np.hypot(positions[:, 0], positions[:, 1]), 4, atol=0.25)
    np.testing.assert_allclose(positions[:, 2], 1, atol=0.25)
    toward = -positions / np.linalg.norm(positions, axis=1, keepdims=True)
    assert (np.einsum("ij,ij->i", forward, toward) > 0.99).all()


def test_random_views_of_a_hemisphere_become_an_orbit_among_them():
    rng = np.random.default_rng(3)
    directions = rng.normal(size=(100, 3))
    directions[:, 2] = np.abs(directions[:, 2])
    poses = [look_at(4 * d / np.linalg.norm(d)) for d in directions]
    path = through_views(capture(poses), 60)
    positions, forward, _ = parts(path)
    assert_smooth(path, closed=True)
    assert (np.linalg.norm(positions, axis=1) > 2.8).all()
    assert (np.einsum("ij,ij->i", forward, -positions) / np.linalg.norm(positions, axis=1) > 0.97).all()
    azimuth = np.unwrap(np.arctan2(positions[:, 1], positions[:, 0]))
    assert abs(azimuth[-1] - azimuth[0]) > 5.9


def test_an_arc_is_swept_from_end_to_end():
    path = through_views(capture(shaken(ring(30, turn=2.0), 0.05)), 24)
    positions, _, _ = parts(path)
    assert_smooth(path, closed=False)
    azimuth = np.unwrap(np.arctan2(positions[:, 1], positions[:, 0]))
    assert abs(azimuth[-1] - azimuth[0]) == pytest.approx(2.0 * 29 / 30, abs=0.15)


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_walk_goes_along_the_photos(shuffled):
    along = np.linspace(0, 20, 60)
    poses = [look_at((x, np.sin(x / 4), 1.6), (x + 1, np.sin(x / 4) + 0.2, 1.5)) for x in along]
    if shuffled:
        poses = [poses[i] for i in np.random.default_rng(0).permutation(60)]
    path = through_views(capture(poses), 50)
    positions, _, _ = parts(path)
    assert_smooth(path, closed=False)
    assert np.ptp(positions[:, 0]) > 17
    np.testing.assert_allclose(positions[:, 1], np.sin(positions[:, 0] / 4), atol=0.15)


def test_one_place_and_one_direction():
    path = through_views(capture([look_at((1, 2, 3))] * 4), 5)
    for frame in path.frames:
        np.testing.assert_allclose(frame.camera.camera_to_world, look_at((1, 2, 3)), atol=1e-9)


def test_a_panorama_turns_on_the_spot():
    poses = [look_at((0, 0, 0), (np.cos(a), np.sin(a), 0)) for a in np.linspace(0, 3, 30)]
    positions, forward, _ = parts(through_views(capture(poses), 20))
    np.testing.assert_allclose(positions, 0, atol=1e-9)
    angle = np.unwrap(np.arctan2(forward[:, 1], forward[:, 0]))
    assert (np.abs(np.diff(angle)) < 0.25).all() and abs(angle[-1] - angle[0]) > 2.3


def test_held_out_views_do_not_matter():
    poses = ring(20)
    poses[5] = look_at((50, 50, 50))
    positions, _, _ = parts(through_views(capture(poses, held_out=(5,)), 12))
    assert np.linalg.norm(positions, axis=1).max() < 4.3


def test_lens_and_size():
    views = capture(ring(6))
    assert through_views(views, 2).frames[0].camera.intrinsics == LENS
    k = through_views(views, 2, width=480, height=480).frames[0].camera.intrinsics
    assert (k.width, k.height, k.fx, k.fy, k.cx, k.cy) == (480, 480, 600.0, 600.0, 234.0, 249.0)


def test_json_round_trip(tmp_path):
    path = through_views(capture(ring(6)), 3)
    (tmp_path / "p.json").write_text(__import__("json").dumps(path.to_json()))
    assert CameraPath.load(tmp_path / "p.json").to_json() == path.to_json()


def stored(**changed):
    """A camera path's JSON with some of its entries, or its only frame's, changed."""
    data = through_views(capture(ring(8, radius=4, height=1)), 1).to_json()
    frame = {**data["frames"][0], **{key: value for key, value in changed.items() if key in data["frames"][0]}}
    return {**data, "frames": [frame], **{key: value for key, value in changed.items() if key not in frame}}


def test_a_path_is_read_as_it_was_written(tmp_path):
    path = CameraPath("a b.c", 23.976, through_views(capture(ring(8, radius=4, height=1)), 3).frames, 2.5)
    (tmp_path / "p.json").write_text(json.dumps(path.to_json()))
    read = CameraPath.load(tmp_path / "p.json")
    assert read.to_json() == path.to_json() and read.unit_scale == 2.5
    last_version = stored()
    del last_version["unit_scale"]
    assert CameraPath.from_json(last_version).unit_scale == 1.0


POSE = np.eye(4).tolist()


@pytest.mark.parametrize(
    "data",
    [
        [],
        None,
        {},
        stored(name="../up"),
        stored(name="a/b"),
        stored(name=""),
        stored(name=3),
        stored(fps=0),
        stored(fps=float("nan")),
        stored(fps="24"),
        stored(unit_scale=0),
        stored(unit_scale=-1.0),
        stored(unit_scale=float("inf")),
        stored(frames=[]),
        stored(frames={}),
        stored(frames=[7]),
        stored(frames=stored()["frames"] * 2),
        stored(number="1"),
        stored(number=1.5),
        stored(number=1 << 40),
        stored(width=0),
        stored(height=1 << 20),
        stored(width=True),
        stored(fx=float("nan")),
        stored(fy=0.0),
        stored(cx="left"),
        stored(cx=10**400),
        stored(camera_to_world=POSE[:3]),
        stored(camera_to_world=[[0.0] * 4] * 4),
        stored(camera_to_world=[[float("inf")] * 4] * 4),
        stored(camera_to_world="x"),
    ],
)
def test_a_path_that_is_none_is_refused(data, tmp_path):
    with pytest.raises(In2nError) as refused:
        CameraPath.from_json(data)
    assert refused.value.code == "bad_camera_path" and refused.value.hint


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 5000])
def test_a_file_that_is_no_json_is_no_path(content, tmp_path):
    (tmp_path / "p.json").write_bytes(content)
    with pytest.raises(In2nError) as refused:
        CameraPath.load(tmp_path / "p.json")
    assert refused.value.code == "bad_camera_path"
