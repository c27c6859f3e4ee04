"""Which photos see which points: from every format that says it, through the import, and what is no such thing."""

import json
from dataclasses import replace

import numpy as np
import pycolmap
import pytest

from in2n_blender.scene.capture import MAXIMUM_POINTS, Capture, PinholeCapture, pinhole_capture
from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.readers import read as read_capture
from in2n_blender.scene.tracks import LOST, Tracks
from tests.scene.captures import write_png
from tests.scene.formats import HEIGHT, NAMES, POINTS, POSES, WIDTH, WRITERS, computer_vision

# Of each point, the numbers of the photos that see it, in no order; the last photo's file is not there.
SEEN = [sorted(np.random.default_rng(i).choice(len(NAMES), 2 + i % 4, replace=False).tolist()) for i in range(25)]
GONE = NAMES[-1][:-4]


def names_of(capture, point):
    """The photos that see a point."""
    photos = np.split(capture.tracks.photos, np.cumsum(capture.tracks.counts)[:-1])[point]
    return {capture.frames[photo].name for photo in photos}


def without_the_last(numbers):
    return {NAMES[number][:-4] for number in numbers if number != len(NAMES) - 1}


def model(folder, form):
    """A model by COLMAP's own library, whose images have ids that are not their places, later photos first."""
    found = pycolmap.Reconstruction()
    camera = pycolmap.Camera(model="PINHOLE", width=WIDTH, height=HEIGHT, params=[60, 60, 32, 24], camera_id=3)
    found.add_camera_with_trivial_rig(camera)
    of_photo = {number: [] for number in range(len(NAMES))}
    for point, seen in enumerate(SEEN):
        for number in seen:
            of_photo[number].append(point)
    for number in reversed(range(len(NAMES))):
        rotation, translation = computer_vision(POSES[number])
        image = pycolmap.Image(name=NAMES[number], camera_id=3, image_id=100 - 7 * number)
        image.points2D = pycolmap.Point2DList([pycolmap.Point2D(np.array([1.0, 2.0])) for _ in of_photo[number]])
        pose = pycolmap.Rigid3d(np.c_[rotation, translation])
        found.add_image_with_trivial_frame(image, pose)
    for point, seen in enumerate(SEEN):
        elements = [pycolmap.TrackElement(100 - 7 * n, of_photo[n].index(point)) for n in seen]
        number = found.add_point3D(POINTS[point], pycolmap.Track(elements), np.array([9, 8, 7], np.uint8))
        found.points3D[number].error = 0.1 * (point + 1)
    folder.mkdir(parents=True)
    (found.write_binary if form == "bin" else found.write_text)(folder)


def colmap(folder, form="bin"):
    for name in NAMES:
        write_png(folder / "images" / name, WIDTH, HEIGHT)
    model(folder / "sparse/0", form)
    return folder


def nerfstudio(folder):
    """COLMAP's points, moved, in a .ply that says nothing of who sees them."""
    applied = np.array([[0.0, 1, 0, 3], [1, 0, 0, 0], [0, 0, -1, 1]])
    model(folder / "colmap/sparse/0", "bin")
    found = read_points_of(folder / "colmap/sparse/0")
    moved = found @ applied[:, :3].T + applied[:, 3]
    rows = "".join(f"{x:.6f} {y:.6f} {z:.6f} 9 8 7\n" for x, y, z in moved)
    kinds = "".join(f"property float {axis}\n" for axis in "xyz")
    kinds += "".join(f"property uchar {color}\n" for color in ("red", "green", "blue"))
    head = f"ply\nformat ascii 1.0\nelement vertex {len(moved)}\n{kinds}end_header\n"
    (folder / "sparse_pc.ply").write_text(head + rows)
    frames = []
    for name, pose in zip(NAMES, POSES):
        write_png(folder / "images" / name, WIDTH, HEIGHT)
        frames.append({"file_path": f"images/{name}", "transform_matrix": pose.tolist()})
    table = {"w": WIDTH, "h": HEIGHT, "fl_x": 60, "ply_file_path": "sparse_pc.ply", "frames": frames[::-1]}
    (folder / "transforms.json").write_text(json.dumps({**table, "applied_transform": applied.tolist()}))
    return folder


def read_points_of(folder):
    found = pycolmap.Reconstruction(folder)
    return np.array([found.points3D[number].xyz for number in sorted(found.points3D)])


def meshroom(folder):
    path = WRITERS["meshroom"][0](folder).path
    table = json.loads(path.read_text())
    for landmark, seen in zip(table["structure"], SEEN):
        landmark["observations"] = [{"observationId": str(n), "featureId": "1", "x": ["1", "2"]} for n in seen]
    table["views"].reverse()
    path.write_text(json.dumps(table))
    return folder


def visualsfm(folder):
    path = WRITERS["visualsfm"][0](folder).path
    text = path.read_text()
    for point, seen in zip(POINTS.tolist(), SEEN):
        before = f"{' '.join(map(repr, point))} 9 8 7 1 0 0 1.5 2.5"
        assert before in text
        places = " ".join(f"{n} {n + 40} 1.5 2.5" for n in seen)
        text = text.replace(before, f"{' '.join(map(repr, point))} 9 8 7 {len(seen)} {places}")
    path.write_text(text)
    return folder


def bundler(folder):
    written = WRITERS["bundler"][0](folder)
    path = folder / "bundle/bundle.out"
    head, *rest = path.read_text().split("9 8 7\n2 0 3 1.5 -2.5 1 4 0.5 0.5\n")
    for seen, text in zip(SEEN, rest):
        head += f"9 8 7\n{len(seen)} " + " ".join(f"{n} {n + 40} 1.5 -2.5" for n in seen) + f"\n{text}"
    path.write_text(head)
    return written.path


FORMATS = {
    "colmap": colmap,
    "colmap as text": lambda folder: colmap(folder, "txt"),
    "nerfstudio": nerfstudio,
    "meshroom": meshroom,
    "visualsfm": visualsfm,
    "bundler": bundler,
}


@pytest.mark.parametrize("name", FORMATS)
def test_who_sees_a_point_is_read(tmp_path, name):
    folder = FORMATS[name](tmp_path)
    next(tmp_path.rglob(NAMES[-1])).unlink()
    capture = read_capture(folder)
    assert len(capture.frames) == len(NAMES) - 1 and len(capture.tracks) == len(capture.points) == len(POINTS)
    for point, seen in enumerate(SEEN):
        assert names_of(capture, point) == without_the_last(seen)
    known = "colmap" in name or name == "nerfstudio"
    np.testing.assert_allclose(capture.tracks.errors, 0.1 * np.arange(1, 26) if known else np.nan, rtol=1e-6)


def test_points_of_another_model_are_seen_by_nobody_known(tmp_path):
    folder = nerfstudio(tmp_path)
    text = (folder / "sparse_pc.ply").read_text()
    head, rows = text.split("end_header\n")
    (folder / "sparse_pc.ply").write_text(head + "end_header\n" + "".join(rows.splitlines(True)[::-1]))
    capture = read_capture(folder)
    assert capture.tracks is None and len(capture.points) == len(POINTS)


def test_they_go_through_the_import_and_capture_json(tmp_path):
    capture = read_capture(colmap(tmp_path))
    kept = pinhole_capture(capture, 64)
    again = PinholeCapture.from_json(json.loads(json.dumps(kept.to_json())))
    for name in ("counts", "photos", "errors"):
        np.testing.assert_allclose(getattr(again.tracks, name), getattr(capture.tracks, name), rtol=1e-3)
    views = kept.views[1:4][::-1]
    fewer = kept.with_views(views)
    for number, view in enumerate(views):
        before = next(i for i, one in enumerate(kept.views) if one.name == view.name)
        assert fewer.tracks.seen_by(number).tolist() == kept.tracks.seen_by(before).tolist() != []
    assert len(fewer.tracks) == len(kept.points)
    none = replace(kept, tracks=None)
    assert "tracks" not in none.to_json() and PinholeCapture.from_json(none.to_json()).tracks is None


def test_of_too_many_points_those_that_stay_keep_their_photos(tmp_path):
    capture = read_capture(colmap(tmp_path))
    count = MAXIMUM_POINTS + 1000
    places = np.random.default_rng(0).normal(size=(count, 3)).round(3)
    photo = np.arange(count) % 5  # which sees a point: told by its place
    places[:, 0] = photo
    tracks = Tracks(np.ones(count, np.int64), photo, np.zeros(count, np.float32))
    many = Capture("c", capture.source, capture.frames, places, np.zeros((count, 3), np.uint8), tracks=tracks)
    kept = pinhole_capture(many, 64)
    assert len(kept.points) == len(kept.tracks) == MAXIMUM_POINTS
    for number in range(5):
        assert (kept.points[kept.tracks.seen_by(number)][:, 0] == number).all()


def test_arithmetic():
    tracks = Tracks.of([[2, 0, 2], [], [1], [0, 1, 2]], [0.5, 1.0, np.nan, 2.0])
    assert tracks.counts.tolist() == [2, 0, 1, 3] and tracks.photos.tolist() == [0, 2, 1, 0, 1, 2]
    assert tracks.points.tolist() == [0, 0, 2, 3, 3, 3] and tracks.seen_by(1).tolist() == [2, 3]
    moved = tracks.with_photos(np.array([5, LOST, 3]))
    assert moved.counts.tolist() == [2, 0, 0, 2] and moved.photos.tolist() == [5, 3, 5, 3]
    some = tracks.of_points(np.array([3, 0]))
    assert (
        some.counts.tolist() == [3, 2] and some.photos.tolist() == [0, 1, 2, 0, 2] and some.errors.tolist() == [2, 0.5]
    )
    assert tracks.of_points(np.array([True, False, True, False])).photos.tolist() == [0, 2, 1]
    both = some.followed_by(tracks)
    assert len(both) == 6 and both.seen_by(0).tolist() == [0, 1, 2, 5]
    assert len(Tracks().followed_by(tracks)) == 4 and not len(Tracks().seen_by(0))


@pytest.mark.parametrize(
    "change",
    [
        {"counts": [1] * 24},
        {"photos": [99] * 1000},
        {"counts": [-1] * 25},
        {"counts": [0.5] * 25},
        {"errors": [-1.0] * 25},
        {"errors": [1.0]},
        {"photos": ["x"]},
        {"photos": None},
        {"counts": [1e400] * 25},
    ],
)
def test_tracks_of_a_stranger_are_not_believed(tmp_path, change):
    data = pinhole_capture(read_capture(colmap(tmp_path)), 64).to_json()
    data["tracks"] |= change
    with pytest.raises(In2nError) as caught:
        PinholeCapture.from_json(data)
    assert caught.value.code == "bad_capture"
