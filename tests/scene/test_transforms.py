"""transforms.json in the forms of nerfstudio, instant-ngp and the Blender synthetic sets."""

import json
import math

import numpy as np
import pycolmap
import pytest

from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.readers import read as read_capture
from tests.scene.captures import ring, write_png, write_transforms

K = {"k1": -0.1, "k2": 0.02, "p1": 1e-3, "p2": -2e-3}


def only_lens(folder):
    lenses = {frame.lens for frame in read_capture(folder).frames}
    assert len(lenses) == 1
    return lenses.pop()


def edit(folder, change, name="transforms.json"):
    table = json.loads((folder / name).read_text())
    change(table)
    (folder / name).write_text(json.dumps(table))


def test_poses_and_shared_intrinsics(tmp_path):
    path = write_transforms(tmp_path / "dog", fl_x=11.0, fl_y=12.0, cx=5.5, cy=4.25)
    for given in (path, path.parent):
        capture = read_capture(given)
        assert (capture.name, capture.source, capture.missing) == ("dog", path, ())
        assert [f.name for f in capture.frames] == ["000", "001", "002", "003", "004"]
        for frame, pose in zip(capture.frames, ring(5)):
            np.testing.assert_allclose(frame.camera_to_world, pose, atol=1e-12)
            assert frame.lens.is_pinhole and frame.held_out is None and frame.orientation == 1
            k = frame.lens.intrinsics
            assert (k.width, k.height, k.fx, k.fy, k.cx, k.cy) == (12, 8, 11.0, 12.0, 5.5, 4.25)


@pytest.mark.parametrize(
    "model, keys, expected",
    [
        (None, K, ("brown", (-0.1, 0.02, 1e-3, -2e-3, 0.0, 0.0))),
        ("OPENCV", K | {"k3": 0.3, "k4": 0.4}, ("brown", (-0.1, 0.02, 1e-3, -2e-3, 0.3, 0.4))),
        ("SIMPLE_RADIAL", {"k1": -0.1}, ("brown", (-0.1, 0.0, 0.0, 0.0, 0.0, 0.0))),
        ("OPENCV_FISHEYE", {"k1": -0.1, "k2": 0.2, "k3": 0.3, "k4": 0.4}, ("opencv_fisheye", (-0.1, 0.2, 0.3, 0.4))),
        ("OPENCV_FISHEYE", {}, ("opencv_fisheye", (0.0,) * 4)),
        ("PINHOLE", {}, ("pinhole", ())),
        ("SIMPLE_PINHOLE", {"k1": 0.0}, ("pinhole", ())),
    ],
)
def test_camera_models(tmp_path, model, keys, expected):
    write_transforms(tmp_path, camera_model=model, **keys)
    lens = only_lens(tmp_path)
    assert (lens.model, lens.distortion) == expected


def test_instant_ngp_fisheye(tmp_path):
    write_transforms(tmp_path, is_fisheye=True, k1=0.01)
    assert only_lens(tmp_path).model == "opencv_fisheye"


def test_intrinsics_of_a_frame_go_before_the_files(tmp_path):
    write_transforms(tmp_path, camera_angle_x=1.0, k1=-0.1)
    edit(
        tmp_path,
        lambda t: t["frames"][2].update(
            fl_x=20.0, fl_y=21.0, cx=1.0, cy=2.0, w=24, h=16, k1=0.05, camera_model="OPENCV"
        ),
    )
    edit(tmp_path, lambda t: t["frames"][3].update(camera_angle_x=0.5))
    write_png(tmp_path / "images/002.png", 24, 16)
    lenses = [f.lens for f in read_capture(tmp_path).frames]
    assert lenses[0].intrinsics.fx == 10.0 and lenses[0].distortion[0] == -0.1
    k = lenses[2].intrinsics
    assert (k.width, k.height, k.fx, k.fy, k.cx, k.cy, lenses[2].distortion[0]) == (24, 16, 20.0, 21.0, 1.0, 2.0, 0.05)
    assert lenses[3].intrinsics.fx == lenses[3].intrinsics.fy == pytest.approx(6 / math.tan(0.25))


def test_camera_angle_alone_and_no_size(tmp_path):
    write_transforms(
        tmp_path, size=(30, 20), fl_x=None, fl_y=None, cx=None, cy=None, w=None, h=None, camera_angle_x=0.9
    )
    k = only_lens(tmp_path).intrinsics
    assert (k.width, k.height, k.cx, k.cy) == (30, 20, 15.0, 10.0)
    assert k.fx == k.fy == pytest.approx(15 / math.tan(0.45))


def test_both_camera_angles(tmp_path):
    write_transforms(tmp_path, size=(30, 20), fl_x=None, fl_y=None, camera_angle_x=0.9, camera_angle_y=0.8)
    k = only_lens(tmp_path).intrinsics
    assert (k.fx, k.fy) == pytest.approx((15 / math.tan(0.45), 10 / math.tan(0.4)))


def write_synthetic(folder):
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        frames = [
            {"file_path": f"./{split}/r_{i}", "rotation": 0.1, "transform_matrix": p.tolist()}
            for i, p in enumerate(ring(count))
        ]
        folder.mkdir(exist_ok=True)
        (folder / f"transforms_{split}.json").write_text(json.dumps({"camera_angle_x": 0.69, "frames": frames}))
        for i in range(count):
            write_png(folder / f"{split}/r_{i}.png", 10, 10, rgba=True)


def test_blender_synthetic_set(tmp_path):
    write_synthetic(tmp_path / "lego")
    capture = read_capture(tmp_path / "lego")
    assert {f.name: f.held_out for f in capture.frames} == {f"train_r_{i}": False for i in range(4)} | {
        f"test_r_{i}": True for i in range(3)
    }
    assert capture.name == "lego" and capture.frames[0].photo.suffix == ".png"
    assert capture.frames[0].lens.intrinsics.fx == pytest.approx(5 / math.tan(0.345))
    alone = read_capture(tmp_path / "lego/transforms_train.json")
    assert [f.name for f in alone.frames] == ["r_0", "r_1", "r_2", "r_3"] and alone.frames[0].held_out is None


def test_split_lists_of_nerfstudio(tmp_path):
    names = [f"images/{i:03d}.png" for i in range(5)]
    write_transforms(tmp_path, train_filenames=names[:3], val_filenames=["./" + names[3]], test_filenames=[names[0]])
    assert {f.name: f.held_out for f in read_capture(tmp_path).frames} == {
        "000": False,
        "001": False,
        "002": False,
        "003": True,
    }
    edit(tmp_path, lambda t: t.pop("train_filenames"))
    assert {f.name for f in read_capture(tmp_path).frames if f.held_out} == {"000", "003"}


def test_photos_in_natural_order_and_backslashes(tmp_path):
    write_transforms(tmp_path, photos=False)
    names = ["a\\10.png", "a\\9.png", "a\\2.png", "b\\2.png", "a\\1.png"]
    edit(tmp_path, lambda t: [f.update(file_path=n) for f, n in zip(t["frames"], names)])
    for name in names:
        write_png(tmp_path / name.replace("\\", "/"))
    assert [f.name for f in read_capture(tmp_path).frames] == ["a_1", "a_2", "a_9", "a_10", "b_2"]


def write_ply(path, points, colors, form):
    header = (
        f"ply\nformat {form} 1.0\ncomment by hand\nelement vertex {len(points)}\nproperty float x\nproperty "
        "float y\nproperty float z\n"
    )
    header += (
        "property uint8 red\nproperty uint8 green\nproperty uint8 blue\nelement face 0\nproperty list uchar "
        "int vertex_indices\nend_header\n"
    )
    if form == "ascii":
        body = "".join(f"{x} {y} {z} {r} {g} {b}\n" for (x, y, z), (r, g, b) in zip(points, colors)).encode()
    else:
        order = "<" if "little" in form else ">"
        table = np.zeros(len(points), [("p", order + "f4", 3), ("c", "u1", 3)])
        table["p"], table["c"] = points, colors
        body = table.tobytes()
    path.write_bytes(header.encode() + body)


POINTS = np.array([[1.5, 2, 3], [-4, 5.25, 6], [0, 0, 1]], np.float32)
COLORS = np.array([[1, 2, 3], [255, 0, 128], [9, 9, 9]], np.uint8)
APPLIED = [[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0.5]]


@pytest.mark.parametrize("form", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_points_of_ply_file_path_share_the_poses_coordinates(tmp_path, form):
    write_transforms(tmp_path, ply_file_path="sparse_pc.ply", applied_transform=APPLIED)
    write_ply(tmp_path / "sparse_pc.ply", POINTS, COLORS, form)
    capture = read_capture(tmp_path)
    np.testing.assert_array_equal(capture.points, POINTS)
    np.testing.assert_array_equal(capture.point_colors, COLORS)


def test_applied_transform_moves_colmaps_points_and_nothing_else(tmp_path):
    """As nerfstudio writes it: poses = applied_transform @ COLMAP's poses, the COLMAP model lies beside it
    unchanged."""
    applied = np.vstack([APPLIED, [0, 0, 0, 1]]).astype(float)
    write_transforms(tmp_path, [applied @ p for p in ring(5)], applied_transform=APPLIED)
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(
        pycolmap.Camera(camera_id=1, model="SIMPLE_PINHOLE", width=12, height=8, params=[10, 6, 4])
    )
    for point, color in zip(POINTS, COLORS):
        model.add_point3D(point, pycolmap.Track(), color)
    (tmp_path / "colmap/sparse/0").mkdir(parents=True)
    model.write_binary(str(tmp_path / "colmap/sparse/0"))
    capture = read_capture(tmp_path)
    np.testing.assert_allclose(capture.frames[0].camera_to_world, applied @ ring(5)[0], atol=1e-12)
    moved = {tuple(c): p for c, p in zip(COLORS, np.c_[POINTS, np.ones(3)] @ applied[:3].T)}
    np.testing.assert_allclose(capture.points, [moved[tuple(c)] for c in capture.point_colors], atol=1e-6)
    # a camera sees them where COLMAP's camera would
    local = np.linalg.inv(capture.frames[0].camera_to_world) @ np.r_[capture.points[0], 1]
    original = np.linalg.inv(ring(5)[0]) @ np.linalg.inv(applied) @ np.r_[capture.points[0], 1]
    np.testing.assert_allclose(local, original, atol=1e-9)


@pytest.mark.parametrize(
    "stored, orientation, listed, size, applied",
    [
        ((12, 8), 6, (8, 12), (8, 12), 6),  # the poses belong to the upright photo
        ((12, 8), 6, (12, 8), (12, 8), 1),  # the poses belong to the stored pixels
        ((12, 8), 6, None, (8, 12), 6),
        ((9, 9), 8, (9, 9), (9, 9), 1),
        ((12, 8), 3, None, (12, 8), 3),
        ((12, 8), 6, (80, 120), (8, 12), 6),  # scaled down after the calibration
        ((12, 8), 6, (120, 80), (12, 8), 1),
    ],
)
def test_exif_rotation_is_decided_by_the_listed_size(tmp_path, stored, orientation, listed, size, applied):
    w, h = listed or (None, None)
    write_transforms(
        tmp_path, photos=False, w=w, h=h, fl_x=10.0 if listed is None else h / 1.0, fl_y=None, cx=None, cy=None
    )
    for i in range(5):
        write_png(tmp_path / f"images/{i:03d}.png", *stored, orientation=orientation)
    frame = read_capture(tmp_path).frames[0]
    k = frame.lens.intrinsics
    assert ((k.width, k.height), frame.orientation) == (size, applied)
    assert (k.cx, k.cy) == (size[0] / 2, size[1] / 2)
    assert k.fx == k.fy == pytest.approx(10.0 if listed is None else size[1])


def test_scaled_down_photos_scale_the_intrinsics(tmp_path):
    write_transforms(tmp_path, size=(12, 8), w=97, h=64, fl_x=97.0, fl_y=64.0, cx=48.5, cy=16.0, k1=-0.1)
    lens = only_lens(tmp_path)
    k = lens.intrinsics
    assert (k.width, k.height, k.fx, k.fy, k.cx, k.cy) == pytest.approx((12, 8, 12.0, 8.0, 6.0, 2.0))
    assert lens.distortion[0] == -0.1


def test_missing_photos_are_counted_and_unreadable_ones_named(tmp_path):
    write_transforms(tmp_path, ring(8))
    (tmp_path / "images/003.png").unlink()
    (tmp_path / "images/005.png").write_bytes(b"not an image of any kind")
    (tmp_path / "images/006.png").write_bytes(b"")
    (tmp_path / "images/007.png").write_bytes((tmp_path / "images/000.png").read_bytes()[:20])
    edit(tmp_path, lambda t: [t.pop(key) for key in "wh"])
    capture = read_capture(tmp_path)
    assert [f.name for f in capture.frames] == ["000", "001", "002", "004"]
    assert (capture.missing, tuple(capture.unusable)) == (("003",), ("005", "006", "007"))
    assert all(why.endswith(".") for why in capture.unusable.values())


def test_a_uniform_scale_and_rounding_are_taken_out_of_poses(tmp_path):
    poses = [
        p @ np.diag([2, 2, 2, 1]) + np.r_[np.random.default_rng(0).normal(scale=1e-5, size=(3, 4)), np.zeros((1, 4))]
        for p in ring(3)
    ]
    write_transforms(tmp_path, poses)
    for frame, pose in zip(read_capture(tmp_path).frames, poses):
        rotation = frame.camera_to_world[:3, :3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        np.testing.assert_allclose(rotation, pose[:3, :3] / 2, atol=1e-4)
        np.testing.assert_array_equal(frame.camera_to_world[:3, 3], pose[:3, 3])


def set_matrix(value):
    return lambda t: t["frames"][1].update(transform_matrix=value)


def with_entry(row, column, value):
    matrix = ring(5)[1]
    matrix[row, column] = value
    return matrix.tolist()


BAD = {
    "nan": (set_matrix(with_entry(0, 3, math.nan)), "bad_matrix"),
    "infinity": (set_matrix(with_entry(1, 1, math.inf)), "bad_matrix"),
    "2 x 2": (set_matrix([[1, 0], [0, 1]]), "bad_matrix"),
    "ragged": (set_matrix([[1, 0], [0]]), "bad_matrix"),
    "a word": (set_matrix("identity"), "bad_matrix"),
    "nothing": (set_matrix(None), "bad_matrix"),
    "zero": (set_matrix(np.zeros((4, 4)).tolist()), "bad_matrix"),
    "sheared": (set_matrix((np.eye(4) + np.eye(4, k=1)).tolist()), "bad_matrix"),
    "mirrored": (set_matrix(np.diag([1, 1, -1, 1]).tolist()), "bad_matrix"),
    "projective": (set_matrix(with_entry(3, 0, 0.5)), "bad_matrix"),
    "no matrix": (lambda t: t["frames"][1].pop("transform_matrix"), "bad_capture"),
    "no file_path": (lambda t: t["frames"][1].pop("file_path"), "bad_capture"),
    "a frame is a number": (lambda t: t["frames"].append(3), "bad_capture"),
    "no frames": (lambda t: t.pop("frames"), "bad_capture"),
    "empty frames": (lambda t: t["frames"].clear(), "no_photos"),
    "unknown model": (lambda t: t.update(camera_model="MAGIC"), "unknown_camera_model"),
    "unknown model of a frame": (lambda t: t["frames"][1].update(camera_model="FOV"), "unknown_camera_model"),
    "no focal length": (lambda t: [t.pop(k) for k in ("fl_x", "fl_y")], "bad_intrinsics"),
    "negative focal length": (lambda t: t.update(fl_x=-3), "bad_intrinsics"),
    "focal length is a word": (lambda t: t.update(fl_x="long"), "bad_intrinsics"),
    "nan distortion": (lambda t: t.update(k1=math.nan), "bad_intrinsics"),
    "wide camera angle": (lambda t: (t.pop("fl_x"), t.pop("fl_y"), t.update(camera_angle_x=3.5)), "bad_intrinsics"),
    "cropped photos": (lambda t: t.update(w=12, h=12), "size_mismatch"),
    "two images": (lambda t: t.update(frames=t["frames"][:2]), "too_few_photos"),
    "bad applied_transform": (lambda t: t.update(applied_transform=[[1, 2]]), None),
}


OF_ONE_FRAME = {name for name, (_, code) in BAD.items() if code == "bad_matrix"} | {
    "no matrix",
    "no file_path",
    "a frame is a number",
    "unknown model of a frame",
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_one_sentence(tmp_path, name):
    change, code = BAD[name]
    write_transforms(tmp_path)
    edit(tmp_path, change)
    if name in OF_ONE_FRAME:  # it costs itself
        capture = read_capture(tmp_path)
        usable = 5 if name == "a frame is a number" else 4
        assert len(capture.frames) == usable and len(capture.unusable) == 1
        return
    if code is None:  # not needed, so not an error
        assert len(read_capture(tmp_path).frames) == 5
        return
    with pytest.raises(In2nError) as caught:
        read_capture(tmp_path)
    assert caught.value.code == code
    assert caught.value.message.endswith(".") and caught.value.hint and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", '{"frames": [', "not json", b"\xff\xfe\x00\x81", b"\x89PNG\r\n"])
def test_truncated_or_wrong_json(tmp_path, content):
    (tmp_path / "transforms.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(In2nError) as caught:
        read_capture(tmp_path)
    assert caught.value.code == "bad_json"


def test_a_list_instead_of_an_object(tmp_path):
    (tmp_path / "transforms.json").write_text("[1, 2]")
    with pytest.raises(In2nError) as caught:
        read_capture(tmp_path)
    assert caught.value.code == "bad_capture"


def test_missing_and_empty_places(tmp_path):
    for path, code in ((tmp_path / "nowhere", "missing_file"), (tmp_path, "not_a_capture")):
        with pytest.raises(In2nError) as caught:
            read_capture(path)
        assert caught.value.code == code


def test_no_photo_at_all(tmp_path):
    write_transforms(tmp_path, photos=False)
    with pytest.raises(In2nError, match="None of the 5 photos") as caught:
        read_capture(tmp_path)
    assert caught.value.code == "no_photos"


@pytest.mark.parametrize(
    "data",
    [
        b"plywood",
        (
            b"ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float "
            b"z\nend_header\n1 2 3\n"
        ),
        b"ply\nformat binary_little_endian 1.0\nelement vertex 9\nproperty float x\nend_header\n",
    ],
)
def test_broken_points(tmp_path, data):
    write_transforms(tmp_path, ply_file_path="p.ply")
    (tmp_path / "p.ply").write_bytes(data)
    with pytest.raises(In2nError) as caught:
        read_capture(tmp_path)
    assert caught.value.code == "bad_points"
