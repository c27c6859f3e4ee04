"""Frames to normalised views: names, sizes, held-out views, sparse points, capture.json."""

import json
from pathlib import Path

import numpy as np
import pytest

from in2n_blender.scene.camera import Intrinsics
from in2n_blender.scene.capture import MAXIMUM_POINTS, Capture, Frame, PinholeCapture, map_offset, pinhole_capture
from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.lens import Lens, pinhole_for
from in2n_blender.scene.names import is_plain, unique_names
from in2n_blender.scene.readers import read as read_capture
from tests.scene.captures import ring, write_surveyed, write_transforms

LENS = Lens("opencv", Intrinsics(640, 480, 500.0, 520.0, 310.0, 250.0), (-0.2, 0.05))


def capture(count=16, lenses=(LENS,), held_out=None, **rest):
    frames = tuple(
        Frame(f"{i:02d}", Path(f"/photos/{i}.jpg"), lenses[i % len(lenses)], pose, held_out(i) if held_out else None)
        for i, pose in enumerate(ring(count))
    )
    return Capture("dog", Path("/photos"), frames, **rest)


def test_names():
    assert unique_names(["images/0001.jpg", "./images/0002.JPG"]) == ["0001", "0002"]
    assert unique_names(["train/r_0", "test/r_0", "test/r_1"]) == ["train_r_0", "test_r_0", "test_r_1"]
    assert unique_names(["a.b.png", "IMG 1 (2).jpeg"]) == ["a.b", "IMG_1__2_"]
    assert unique_names(["x/a/1.png", "y/a/1.png", "A/1.png"]) == ["a_1", "a_1_2", "A_1_3"]
    assert unique_names(["con.png", "图.png", "...", "aux.x.jpg"]) == ["view_con", "_", "view_", "view_aux.x"]
    long = unique_names(["a/" + "n" * 300 + ".png", "b/" + "n" * 300 + ".png"])
    assert len(set(long)) == 2 and max(map(len, long)) <= 64


@pytest.mark.parametrize(
    "size, side, expected",
    [
        ((640, 480), 240, (240, 180)),
        ((480, 640), 240, (180, 240)),
        ((640, 480), 1024, (640, 480)),
        ((640, 427), 240, (240, 160)),
        ((333, 1000), 512, (170, 512)),
        ((4000, 101), 240, (240, 6)),
    ],
)
def test_views_are_scaled_down_with_exactly_square_pixels(size, side, expected):
    lens = Lens("pinhole", Intrinsics(*size, 500.0, 500.0, size[0] * 0.48, size[1] * 0.53))
    k = pinhole_capture(capture(lenses=[lens]), side).views[0].camera.intrinsics
    assert (k.width, k.height) == expected and k.fx == k.fy
    _, (left, top, right, bottom) = pinhole_for(lens).fitted(side)
    # what is kept is the whole photo up to one pixel of the result, and fits its pixels exactly
    scale = k.fx / 500.0
    assert (left, top) == pytest.approx((size[0] - right, size[1] - bottom))
    assert min(left, top) == 0 and 0 <= max(left, top) * scale < 0.5
    np.testing.assert_allclose([(right - left) * scale, (bottom - top) * scale], expected, rtol=1e-9)
    np.testing.assert_allclose([k.cx, k.cy], [(size[0] * 0.48 - left) * scale, (size[1] * 0.53 - top) * scale])


def test_views_of_different_sizes_and_lenses():
    other = Lens("pinhole", Intrinsics(100, 300, 90.0, 90.0, 50.0, 150.0))
    views = pinhole_capture(capture(lenses=[LENS, other]), 240).views
    assert {(v.camera.intrinsics.width, v.camera.intrinsics.height) for v in views} == {(240, 180), (80, 240)}
    assert [v.image for v in views[:2]] == ["images/00.png", "images/01.png"]
    np.testing.assert_array_equal(views[3].camera.camera_to_world, ring(16)[3])


def test_held_out_views():
    chosen = lambda c: [v.name for v in c.held_out_views]
    assert chosen(pinhole_capture(capture(), 240, 8)) == ["04", "12"]
    assert chosen(pinhole_capture(capture(), 240, 0)) == []
    assert chosen(pinhole_capture(capture(3), 240, 8)) == []
    files_say = capture(held_out=lambda i: i in (1, 2))
    assert chosen(pinhole_capture(files_say, 240, 8)) == ["01", "02"]
    assert chosen(pinhole_capture(capture(held_out=lambda i: False), 240, 8)) == []


@pytest.mark.parametrize(
    "given, side, every, code",
    [
        (capture(4), 240, 1, "bad_setting"),
        (capture(4), 240, -2, "bad_setting"),
        (capture(4), 0, 8, "bad_setting"),
        (capture(4, held_out=lambda i: i > 1), 240, 8, "too_few_photos"),
        (capture(4, held_out=lambda i: True), 240, 8, "too_few_photos"),
    ],
)
def test_settings_that_leave_nothing_to_train_on(given, side, every, code):
    with pytest.raises(In2nError) as caught:
        pinhole_capture(given, side, every)
    assert caught.value.code == code


def test_sparse_points_are_a_seeded_subset():
    points = np.arange(3 * (MAXIMUM_POINTS + 500), dtype=np.float32).reshape(-1, 3)
    colors = (points % 251).astype(np.uint8)
    one, two = (pinhole_capture(capture(points=points, point_colors=colors), 240) for _ in range(2))
    assert len(one.points) == MAXIMUM_POINTS == len(np.unique(one.points[:, 0]))
    np.testing.assert_array_equal(one.points, two.points)
    np.testing.assert_array_equal(one.point_colors, (one.points % 251).astype(np.uint8))
    few = pinhole_capture(capture(points=points[:9], point_colors=colors[:9]), 240)
    np.testing.assert_array_equal(few.points, points[:9])


def test_capture_json_round_trip(tmp_path):
    write_transforms(tmp_path, ring(6))
    (tmp_path / "images/002.png").unlink()
    (tmp_path / "images/004.png").write_bytes(b"")
    normalised = pinhole_capture(read_capture(tmp_path), 8, 4, preset="draft")
    (tmp_path / "capture.json").write_text(json.dumps(normalised.to_json()))
    again = PinholeCapture.load(tmp_path / "capture.json")
    assert again.to_json() == normalised.to_json()
    assert (again.source, again.preset, again.missing) == (
        (tmp_path / "transforms.json").as_posix(),
        "draft",
        ("002", "004"),
    )
    assert [v.name for v in again.views] == ["000", "001", "003", "005"]
    np.testing.assert_array_equal(again.views[1].camera.camera_to_world, normalised.views[1].camera.camera_to_world)


@pytest.mark.parametrize(
    "content, code",
    [(None, "missing_file"), ("", "bad_capture"), ("{", "bad_capture"), ("[]", "bad_capture"), ("{}", "bad_capture")],
)
def test_a_broken_capture_json(tmp_path, content, code):
    if content is not None:
        (tmp_path / "capture.json").write_text(content)
    with pytest.raises(In2nError) as caught:
        PinholeCapture.load(tmp_path / "capture.json")
    assert caught.value.code == code


@pytest.fixture
def written():
    """capture.json of three views, as an import writes it."""
    return pinhole_capture(capture(3, points=np.ones((2, 3)), point_colors=np.zeros((2, 3), np.uint8)), 64).to_json()


def refused(folder, data):
    (folder / "capture.json").write_text(data if isinstance(data, str) else json.dumps(data))
    with pytest.raises(In2nError) as caught:
        PinholeCapture.load(folder / "capture.json")
    assert caught.value.code == "bad_capture" and "capture.json" in caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    "name", ["../../../x", "a/b", "a\\b", "C:x", "/x", "..", ".", "", "a.", "con", "nul.x", "a ", "é", "a\0", 7, None]
)
def test_a_view_named_so_that_it_could_leave_its_folder(tmp_path, written, name):
    assert not is_plain(name)
    written["views"][1]["name"] = name
    assert "view 2" in refused(tmp_path, written)


def test_views_whose_names_are_one_on_windows(tmp_path, written):
    written["views"][0]["name"], written["views"][2]["name"] = "Dog", "dOG"
    assert "dOG" in refused(tmp_path, written)


@pytest.mark.parametrize(
    "image",
    ["/etc/x.png", "../x.png", "images/../../x.png", "..\\x.png", "C:/x.png", "C:x.png", "//host/x", "", 3],
)
def test_an_image_outside_the_workspace(tmp_path, written, image):
    written["views"][1]["image"] = image
    refused(tmp_path, written)


@pytest.mark.parametrize(
    "key, value",
    [
        ("width", 0),
        ("height", -3),
        ("width", 2.5),
        ("width", True),
        ("width", "64"),
        ("height", 10**9),
        ("fx", 0),
        ("fy", -1.0),
        ("fx", float("nan")),
        ("cx", float("inf")),
        ("cy", None),
        ("cx", 10**400),
        ("held_out", "no"),
        ("camera_to_world", [[1, 0], [0, 1]]),
        ("camera_to_world", np.diag([1.0, 1, -1, 1]).tolist()),
        ("camera_to_world", np.diag([2.0, 2, 2, 1]).tolist()),
        ("camera_to_world", np.full((4, 4), np.nan).tolist()),
        ("camera_to_world", [*np.eye(4)[:3].tolist(), [0, 0, 1, 1]]),
    ],
)
def test_a_camera_that_is_none(tmp_path, written, key, value):
    written["views"][1][key] = value
    assert written["views"][1]["name"] in refused(tmp_path, written)


@pytest.mark.parametrize(
    "key, value",
    [
        ("name", 5),
        ("source", None),
        ("preset", ["draft"]),
        ("views", {}),
        ("views", []),
        ("views", ["a"]),
        ("missing", "ab"),
        ("missing", [1]),
        ("points", [[1, 2, 3], [1, 2]]),
        ("points", [[1, 2, float("nan")], [0, 0, 0]]),
        ("points", [[1, 2, 3]]),
        ("points", "x"),
        ("point_colors", [[0, 0, 256], [0, 0, 0]]),
        ("point_colors", [[0, 0, -1], [0, 0, 0]]),
    ],
)
def test_a_capture_json_with_something_wrong_in_it(tmp_path, written, key, value):
    written[key] = value
    refused(tmp_path, written)


@pytest.mark.parametrize("text", ["[" * 100_000, "\ufeff{}", "nul"])
def test_text_that_is_no_capture_json(tmp_path, text):
    refused(tmp_path, text)


def test_a_capture_json_that_is_a_folder(tmp_path):
    (tmp_path / "capture.json").mkdir()
    with pytest.raises(In2nError) as caught:
        PinholeCapture.load(tmp_path / "capture.json")
    assert caught.value.code == "bad_capture"


# -- map coordinates

UTM = np.array([500_000.0, 5_000_000.0, 300.0])


def test_map_coordinates_keep_their_millimetres(tmp_path):
    points, poses = write_surveyed(tmp_path, UTM + [0.37, -0.12, 1.06])
    read = read_capture(tmp_path)
    np.testing.assert_allclose(read.points, points, atol=1e-9)
    made = pinhole_capture(read, 240)
    (tmp_path / "capture.json").write_text(json.dumps(made.to_json()))
    for kept in (made, PinholeCapture.load(tmp_path / "capture.json")):
        assert kept.offset.dtype == np.float64 and kept.points.dtype == np.float32
        assert np.abs(kept.points + kept.offset - points).max() < 1e-6
        positions = np.array([view.camera.position for view in kept.views])
        assert np.abs(positions + kept.offset - poses[:, :3, 3]).max() < 1e-9
        assert np.abs(positions).max() < 10 and (kept.offset == np.round(kept.offset)).all()


@pytest.mark.parametrize("at", [(0, 0, 0), (30, -20, 5), (0.5, 0, 0)])
def test_ordinary_coordinates_stay_exactly_as_they_are(tmp_path, at):
    points, poses = write_surveyed(tmp_path, np.array(at, np.float64))
    made = pinhole_capture(read_capture(tmp_path), 240)
    assert (made.offset == 0).all()
    np.testing.assert_array_equal(made.points, points.astype(np.float32))
    np.testing.assert_array_equal([view.camera.camera_to_world[:3, 3] for view in made.views], poses[:, :3, 3])


@pytest.mark.parametrize("cameras", [1e-4, 1e-2, 1.0, 1e3])
def test_the_offset_is_a_round_number_near_the_cameras(cameras):
    positions = np.random.default_rng(0).normal(size=(30, 3)) * cameras + UTM
    positions[7] = 0  # one that went astray
    offset = map_offset(positions, np.zeros((0, 3)))
    assert np.linalg.norm(offset - UTM) < 12 * cameras
    assert map_offset(positions - UTM, np.zeros((0, 3))).tolist() == [0, 0, 0]


def test_the_offset_of_photos_from_one_place():
    points = np.random.default_rng(0).normal(size=(500, 3)) * 3
    near, far = np.ones((8, 3)), np.ones((8, 3)) + UTM
    assert map_offset(near, points).tolist() == [0, 0, 0]
    assert np.abs(map_offset(far, points + UTM) - UTM).max() <= 10
    assert map_offset(near, points[:0]).tolist() == [0, 0, 0]


def test_a_capture_json_without_an_offset_is_at_the_origin(tmp_path, written):
    assert written.pop("offset") == [0, 0, 0]
    (tmp_path / "capture.json").write_text(json.dumps(written))
    assert (PinholeCapture.load(tmp_path / "capture.json").offset == 0).all()
    for wrong in ([0, 0], [0, 0, float("nan")], "abc", None):
        refused(tmp_path, {**written, "offset": wrong})
