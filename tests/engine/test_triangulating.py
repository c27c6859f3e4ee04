"""Points that are found in photos whose cameras are known."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from in2n_blender.engine import known_photos
from in2n_blender.engine.importing import normalise_capture
from in2n_blender.engine.known_photos import LONGEST_SIDE, KnownPhoto, write_small
from in2n_blender.engine.poses import triangulating
from in2n_blender.engine.poses.triangulating import triangulate
from in2n_blender.link.requests import ImportCapture
from in2n_blender.scene.capture import PinholeCapture
from in2n_blender.scene.errors import Cancelled
from in2n_blender.scene.lens import Lens, directions_of
from in2n_blender.scene.reporting import Progress, Reporter
from in2n_blender.scene.visibility import in_picture
from in2n_blender.workspace.layout import Workspace
from in2n_blender.workspace.reported import capture_report
from tests.engine.textured_room import HEIGHT, LENS, SIDE, WIDTH, cameras, sharp_picture, textures

BARREL = (-0.2, 0.05, 1e-3, -1e-3)
COUNT = 6
MAP = np.array([421_000.0, 5_312_000.0, 0.0])


def bent(image, lens):
    """The photo of a lens of the scene that `image` shows without distortion."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    directions = directions_of(lens, np.stack([columns.ravel(), rows.ravel()], 1))
    at = directions * [LENS.fx, LENS.fy] + [LENS.cx, LENS.cy]
    grid = torch.from_numpy(at / [WIDTH, HEIGHT] * 2 - 1).float().view(1, HEIGHT, WIDTH, 2)
    source = torch.from_numpy(image).float().permute(2, 0, 1)[None]
    found = torch.nn.functional.grid_sample(source, grid, "bicubic", align_corners=False)
    return found[0].permute(1, 2, 0).clamp(0, 255).round().byte().numpy()


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    """A transforms.json without points, of a room, in map coordinates, by a lens with distortion."""
    folder, lens, walls, frames = tmp_path_factory.mktemp("room"), Lens("opencv", LENS, BARREL), textures(), []
    (folder / "images").mkdir()
    for number, camera in enumerate(cameras(COUNT + 1)):
        Image.fromarray(bent(sharp_picture(camera, walls), lens)).save(folder / "images" / f"{number}.png")
        pose = camera.camera_to_world.copy()
        pose[:3, 3] += MAP
        frames.append({"file_path": f"images/{number}.png", "transform_matrix": pose.tolist()})
    names = [frame["file_path"] for frame in frames]
    whole = {
        **{"w": WIDTH, "h": HEIGHT, "fl_x": LENS.fx, "fl_y": LENS.fy, "cx": LENS.cx, "cy": LENS.cy},
        **dict(zip(("k1", "k2", "p1", "p2"), BARREL)),
        "train_filenames": names[1:],
        "test_filenames": names[:1],
        "frames": frames,
    }
    (folder / "transforms.json").write_text(json.dumps(whole))
    return folder


def off_the_walls(points):
    """(n,) how far each point is from the nearest of the three walls."""
    return np.abs(points).min(1)


def imported(source, workspace, events=None):
    events = [] if events is None else events
    request = ImportCapture(workspace=str(workspace), source=str(source), preset="draft")
    return normalise_capture(request, Reporter(events.append)), events


@pytest.fixture(scope="module")
def room(capture, tmp_path_factory):
    """(its workspace, the imported capture, the events, the photos that points were found in)."""
    seen, find, workspace = [], triangulating.triangulate, tmp_path_factory.mktemp("workspace") / "ws"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triangulating, "triangulate", lambda photos, *rest: seen.extend(photos) or find(photos, *rest))
        return workspace, *imported(capture, workspace), seen


def test_a_capture_without_points_gets_those_of_its_photos(room):
    workspace, found, events, _ = room
    points = found.points + found.offset - MAP
    assert len(points) > 100
    off = off_the_walls(points)
    assert np.median(off) < 0.01 and np.percentile(off, 95) < 0.05  # of walls 6 long
    assert ((points > -0.1) & (points < SIDE + 0.1)).all(1).mean() > 0.98
    assert f"The capture came without points: {len(points)} were found in its photos." in events
    told = {event.message for event in events if isinstance(event, Progress)}
    assert {"Looking for features", "Comparing photos"} <= told
    assert {path.name for path in workspace.iterdir() if path.is_dir()} == {"images"}
    photos = capture_report(Workspace(workspace)).photos.values()  # measured where the points are
    assert all(photo.points > 0 and photo.exposure_ev is not None for photo in photos)
    kept = Workspace(workspace)
    assert len(json.loads(kept.capture_json.read_text())["points"]) == len(points)


def test_it_is_known_which_photos_see_them(room):
    workspace, found, _, _ = room
    tracks = PinholeCapture.load(Workspace(workspace).capture_json).tracks
    assert len(tracks) == len(found.points) and tracks.counts.min() >= triangulating.LEAST_VIEWS
    assert np.isfinite(tracks.errors).all() and 0 < np.median(tracks.errors) < tracks.errors.max() <= 2.0
    for number, view in enumerate(found.views):
        seen = tracks.seen_by(number)
        assert view.held_out == (not len(seen))
        assert set(seen) <= set(in_picture(view.camera, found.points)[0])


def test_their_colours_are_the_photos(room):
    found = room[1]
    walls, points = textures(), found.points + found.offset - MAP
    floor = points[:, 2] < 0.01
    place = (points[floor][:, [1, 0]] / SIDE * 512).astype(int).clip(0, 511)
    off = np.abs(walls[0][place[:, 0], place[:, 1]].astype(float) - found.point_colors[floor]).mean()
    shuffled = np.abs(walls[0][place[:, 0], place[:, 1]].astype(float) - found.point_colors[floor][::-1]).mean()
    assert floor.sum() > 20 and off < 0.7 * shuffled


def test_held_out_photos_are_not_looked_at(capture, room):
    seen = room[3]
    assert len(seen) == COUNT
    held_out = json.loads((capture / "transforms.json").read_text())["frames"][0]["transform_matrix"]
    apart = [np.linalg.norm(photo.camera_to_world[:3, 3] - np.array(held_out)[:3, 3]) for photo in seen]
    assert min(apart) > 0.1


def test_points_that_came_with_a_capture_are_kept(capture, tmp_path):
    """None are looked for where there are enough, and few are better than none."""
    data = json.loads((capture / "transforms.json").read_text())
    rows = "".join(f"{x} {x} 0 255 0 0\n" for x in range(known_photos.FEWEST_POINTS))
    header = "ply\nformat ascii 1.0\nelement vertex 100\n" + "".join(
        f"property {kind} {name}\n"
        for name, kind in zip(("x", "y", "z", "red", "green", "blue"), ["float"] * 3 + ["uchar"] * 3)
    )
    for number in range(COUNT + 1):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / f"{number}.png").write_bytes((capture / "images" / f"{number}.png").read_bytes())
    (tmp_path / "points.ply").write_text(header + "end_header\n" + rows)
    (tmp_path / "transforms.json").write_text(json.dumps({**data, "ply_file_path": "points.ply"}))
    found, events = imported(tmp_path, tmp_path / "ws")
    assert len(found.points) == 100 and (found.point_colors == [255, 0, 0]).all()
    assert not any(isinstance(event, Progress) and event.message == "Looking for features" for event in events)


def test_photos_in_which_nothing_is_found_stay_without_points(capture, tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(COUNT + 1):
        Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 150)).save(tmp_path / "images" / f"{number}.png")
    (tmp_path / "transforms.json").write_bytes((capture / "transforms.json").read_bytes())
    found, events = imported(tmp_path, tmp_path / "ws")
    assert len(found.points) == 0 and len(found.views) == COUNT + 1
    assert not any("came without points" in event for event in events if isinstance(event, str))


@pytest.mark.parametrize("message", ["Looking for features", "Comparing photos"])
def test_cancelled_while_points_are_found_nothing_is_left(capture, tmp_path, message):
    cancelled = []

    def watch(event):
        if isinstance(event, Progress) and event.message == message:
            cancelled.append(True)

    request = ImportCapture(workspace=str(tmp_path / "ws"), source=str(capture), preset="draft")
    with pytest.raises(Cancelled):
        normalise_capture(request, Reporter(watch, cancelled=lambda: bool(cancelled)))
    assert not (tmp_path / "ws").exists()


def test_large_photos_are_looked_at_smaller(tmp_path):
    write_small(np.zeros((300, 1500, 4), np.uint8), tmp_path / "a.jpg")
    write_small(np.zeros((30, 40, 3), np.uint8), tmp_path / "b.jpg")
    sizes = [Image.open(tmp_path / name).size for name in ("a.jpg", "b.jpg")]
    assert sizes == [(LONGEST_SIDE, 200), (40, 30)]


def test_photos_are_compared_with_those_beside_them_that_look_the_same_way():
    photos = [KnownPhoto(None, Lens("pinhole", LENS), camera.camera_to_world) for camera in cameras(40)]
    back = photos[0].camera_to_world.copy()
    back[:3, 0] *= -1
    back[:3, 2] *= -1  # beside the first, looking the other way
    photos.append(replace(photos[0], camera_to_world=back))
    pairs = triangulating._pairs(photos, list(range(41)))
    assert all(i < j for i, j in pairs) and len(set(pairs)) == len(pairs)
    assert not any(40 in pair for pair in pairs)
    assert {(i, i + 1) for i in range(39)} <= set(pairs)
    assert max(j - i for i, j in pairs) <= 2 * triangulating.NEIGHBOURS


def test_two_photos_are_too_few_for_points_that_three_see(tmp_path):
    walls, photos = textures(), []
    for number, camera in enumerate(cameras(2)):
        write_small(sharp_picture(camera, walls), tmp_path / f"{number}.jpg")
        photos.append(KnownPhoto(tmp_path / f"{number}.jpg", Lens("pinhole", LENS), camera.camera_to_world))
    points, colors, tracks = triangulate(photos, tmp_path, Reporter())
    assert points.shape == (0, 3) and colors.shape == (0, 3)
