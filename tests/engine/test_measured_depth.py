"""Depth that came with a capture becomes sparse points."""

import json
import struct
import zipfile

import lzfse
import numpy as np
import OpenEXR
import pytest
from PIL import Image

from in2n_blender.engine.depth_files import MOST_BYTES, one_channel
from in2n_blender.engine.importing import normalise_capture
from in2n_blender.engine.measured_depth import STEEPEST, believed_depth
from in2n_blender.link.requests import ImportCapture
from in2n_blender.scene.capture import DepthMap
from in2n_blender.scene.reporting import Progress, Reporter
from in2n_blender.scene.visibility import in_picture
from in2n_blender.workspace.layout import Workspace
from in2n_blender.workspace.reported import capture_report
from tests.engine.textured_room import HEIGHT, LENS, SIDE, WIDTH, cameras, sharp_picture, textures, walls_hit
from tests.scene.captures import quaternion

COUNT, DEPTH_SIZE = 5, (80, 60)


def room_depth(camera, size):
    """(height, width) along the camera's axis, to the nearest wall; 0 beside the walls."""
    small = camera.scaled_to(*size)
    *_, (_, _, _, nearest) = walls_hit(small)
    forward = -camera.camera_to_world[:3, 2]
    depth = np.where(np.isfinite(nearest), nearest * (small.rays()[1] @ forward), 0)
    return depth.reshape(size[::-1])


def write_depth(path, depth, unit=1e-3):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.round(depth / unit).astype(np.uint16)).save(path)


@pytest.fixture(scope="module")
def recorded():
    walls = textures()
    return [(camera, sharp_picture(camera, walls), room_depth(camera, DEPTH_SIZE)) for camera in cameras(COUNT)]


def transforms(folder, recorded, **listed):
    """nerfstudio's or instant-ngp's way, as `listed` names the depths."""
    (folder / "images").mkdir(parents=True)
    frames = []
    for number, (camera, image, depth) in enumerate(recorded):
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
        write_depth(folder / "depths" / f"{number}.png", depth, listed.get("integer_depth_scale", 1e-3))
        named = {"depth_path" if "integer_depth_scale" in listed else "depth_file_path": f"depths/{number}.png"}
        frames.append(
            {"file_path": f"images/{number}.png", "transform_matrix": camera.camera_to_world.tolist(), **named}
        )
    lens = {"w": WIDTH, "h": HEIGHT, "fl_x": LENS.fx, "fl_y": LENS.fy, "cx": LENS.cx, "cy": LENS.cy}
    (folder / "transforms.json").write_text(json.dumps({**lens, **listed, "frames": frames}))
    return folder


def polycam(folder, recorded):
    """Keyframes, y up, with confidence."""
    z_up = np.array([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    for number, (camera, image, depth) in enumerate(recorded):
        for kind in ("cameras", "images", "depth", "confidence"):
            (folder / "keyframes" / kind).mkdir(parents=True, exist_ok=True)
        pose = np.linalg.inv(z_up) @ camera.camera_to_world
        table = {f"t_{r}{c}": pose[r, c] for r in range(3) for c in range(4)}
        table |= {"width": WIDTH, "height": HEIGHT, "fx": LENS.fx, "fy": LENS.fy, "cx": LENS.cx, "cy": LENS.cy}
        (folder / "keyframes" / "cameras" / f"{number}.json").write_text(json.dumps(table))
        Image.fromarray(image).save(folder / "keyframes" / "images" / f"{number}.jpg", quality=95)
        sure = np.full(depth.shape, 255, np.uint8)
        wrong = depth.copy()
        wrong[:, :40], sure[:, :40] = 9.0, 54
        write_depth(folder / "keyframes" / "depth" / f"{number}.png", wrong)
        Image.fromarray(sure).save(folder / "keyframes" / "confidence" / f"{number}.png")
    return folder


def stray(folder, recorded):
    """OpenCV's axes, y up."""
    z_up = np.array([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    rows = ["timestamp, frame, x, y, z, qx, qy, qz, qw"]
    (folder / "rgb").mkdir(parents=True)
    for number, (camera, image, depth) in enumerate(recorded):
        pose = np.linalg.inv(z_up) @ camera.camera_to_world @ np.diag([1.0, -1, -1, 1])
        w, x, y, z = quaternion(pose[:3, :3])
        rows.append(", ".join(map(str, (number, f"{number:06}", *pose[:3, 3], x, y, z, w))))
        Image.fromarray(image).save(folder / "rgb" / f"{number:06}.png")
        write_depth(folder / "depth" / f"{number:06}.png", depth)
    (folder / "odometry.csv").write_text("\n".join(rows))
    k = f"{LENS.fx},0,{LENS.cx}\n0,{LENS.fy},{LENS.cy}\n0,0,1\n"
    (folder / "camera_matrix.csv").write_text(k)
    return folder


def record3d(folder, recorded):
    """A folder rgb/ with a pose for each photo, y up; its depth is written by whoever calls this."""
    z_up, poses = np.array([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]), []
    (folder / "rgb").mkdir(parents=True)
    for number, (camera, image, _) in enumerate(recorded):
        pose = np.linalg.inv(z_up) @ camera.camera_to_world
        w, x, y, z = quaternion(pose[:3, :3])
        poses.append([x, y, z, w, *pose[:3, 3]])
        Image.fromarray(image).save(folder / "rgb" / f"{number}.jpg", quality=95)
    k = [LENS.fx, 0, 0, 0, LENS.fy, 0, LENS.cx, LENS.cy, 1]  # column by column
    table = {"w": WIDTH, "h": HEIGHT, "K": k, "poses": poses, "dw": DEPTH_SIZE[0], "dh": DEPTH_SIZE[1]}
    (folder / "metadata").write_text(json.dumps(table))
    return folder


def r3d(folder, recorded):
    """As the app saves it: rgbd/ with compressed depth in metres and its confidence, all in one archive."""
    record3d(folder, recorded)
    (folder / "rgb").rename(folder / "rgbd")
    for number, (_, _, depth) in enumerate(recorded):
        wrong, sure = np.where(depth > 0, depth, np.nan).astype("<f4"), np.full(depth.shape, 2, np.uint8)
        wrong[:, :40], sure[:, :40] = 9.0, 1
        for kind, values in (("depth", wrong), ("conf", sure)):
            (folder / "rgbd" / f"{number}.{kind}").write_bytes(lzfse.compress(values.tobytes()))
    with zipfile.ZipFile(folder.with_suffix(".r3d"), "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, file.relative_to(folder).as_posix())
    return folder.with_suffix(".r3d")


def record3d_exr(folder, recorded):
    """As the app exports it: rgb/ and depth/ of EXR pictures."""
    record3d(folder, recorded)
    (folder / "depth").mkdir()
    for number, (_, _, depth) in enumerate(recorded):
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        values = {"R": np.ascontiguousarray(depth, np.float32), "A": np.ones(depth.shape, np.float32)}
        OpenEXR.File(header, values).write(str(folder / "depth" / f"{number}.exr"))
    return folder


def imported(source, workspace):
    log = []
    request = ImportCapture(workspace=str(workspace), source=str(source), preset="draft", hold_out_every=0)
    return normalise_capture(request, Reporter(log.append)), log


def off_the_walls(points):
    return np.abs(points).min(1)


KINDS = {
    "nerfstudio": transforms,
    "instant-ngp": lambda folder, recorded: transforms(folder, recorded, integer_depth_scale=2e-4),
    "Polycam": polycam,
    "Stray Scanner": stray,
    "Record3D": r3d,
    "Record3D, exported": record3d_exr,
}


@pytest.mark.parametrize("kind", KINDS)
def test_points_lie_where_depth_says(kind, recorded, tmp_path):
    found, log = imported(KINDS[kind](tmp_path / "capture", recorded), tmp_path / "ws")
    assert len(found.points) > 5000
    off = off_the_walls(found.points)
    assert np.median(off) < 0.002 and np.percentile(off, 99) < 0.02  # of walls 6 long, in millimetres
    for number, view in enumerate(found.views):  # whoever measured a point sees it, and nobody else is known to
        assert set(found.tracks.seen_by(number)) <= set(in_picture(view.camera, found.points)[0])
    assert (found.tracks.counts == 1).all() and np.isnan(found.tracks.errors).all()
    assert min(len(found.tracks.seen_by(number)) for number in range(COUNT)) > 300
    said = [event for event in log if isinstance(event, str)]
    assert f"{len(found.points)} points come from the depth that was measured with {COUNT} photos." in said
    assert not any(isinstance(event, Progress) and event.message == "Looking for features" for event in log)
    assert all(photo.points > 0 for photo in capture_report(Workspace(tmp_path / "ws")).photos.values())


def test_they_have_the_photos_colours(recorded, tmp_path):
    found, _ = imported(transforms(tmp_path / "capture", recorded), tmp_path / "ws")
    floor = found.points[:, 2] < 0.005
    place = (found.points[floor][:, [1, 0]] / SIDE * 512).astype(int).clip(0, 511)
    truth, colors = textures()[0][place[:, 0], place[:, 1]].astype(float), found.point_colors[floor]
    assert np.abs(truth - colors).mean() < 0.6 * np.abs(truth - colors[::-1]).mean()


def test_held_out_photos_say_nothing_and_broken_depths_are_named(recorded, tmp_path):
    folder = transforms(tmp_path / "capture", recorded)
    (folder / "depths" / "1.png").write_bytes(b"no picture")
    Image.new("RGB", DEPTH_SIZE).save(folder / "depths" / "2.png")
    Image.new("I;16", (60, 60)).save(folder / "depths" / "3.png")
    (folder / "depths" / "4.png").unlink()
    found, log = imported(folder, tmp_path / "ws")
    said = [event for event in log if isinstance(event, str)]
    assert any(line.startswith("3 depths cannot be read, for instance 1.png (") for line in said)
    assert any("measured with 1 photo." in line for line in said) and len(found.points) > 1000
    first = recorded[0][0]
    local = (found.points - first.position) @ first.camera_to_world[:3, :3]
    assert (local[:, 2] < 0).all()  # all before the one camera whose depth is right


def test_what_is_not_believed(tmp_path):
    depth = np.full((6, 8), 2.0)
    depth[:, 4:] = 3.0  # an edge
    depth[0, 0] = 0.0
    write_depth(tmp_path / "d.png", depth)
    found = believed_depth(DepthMap(tmp_path / "d.png"))
    assert (found[:, 3:5] == 0).all() and found[0, 0] == found[0, 1] == found[1, 0] == 0
    assert (found[2:, :3] == 2.0).all() and (found[:, 5:] == 3.0).all()
    slope = np.broadcast_to(2.0 * (1 + 0.9 * STEEPEST) ** np.arange(8), (6, 8))
    write_depth(tmp_path / "s.png", slope, 1e-4)
    assert (believed_depth(DepthMap(tmp_path / "s.png", 1e-4)) > 0).all()
    sure = np.full((6, 8), 2, np.uint8)
    sure[:, :2] = 1
    Image.fromarray(sure).save(tmp_path / "c.png")
    plain = np.full((6, 8), 2.0)
    write_depth(tmp_path / "p.png", plain)
    found = believed_depth(DepthMap(tmp_path / "p.png", 1e-3, tmp_path / "c.png", 2))
    assert (found[:, :2] == 0).all() and (found[:, 3:] == 2).all()
    Image.fromarray(sure[:3]).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match="different sizes"):
        believed_depth(DepthMap(tmp_path / "p.png", 1e-3, tmp_path / "small.png", 2))


def test_numbers_without_a_header_take_their_shape_from_the_photo(tmp_path):
    """Old recordings do not say how large depth is."""
    depth = np.random.default_rng(0).integers(1, 9, (256, 192)).astype("<f4")
    (tmp_path / "0.depth").write_bytes(lzfse.compress(depth.tobytes()))
    np.testing.assert_array_equal(one_channel(tmp_path / "0.depth", (720, 960)), depth)
    for shape in ((100, 100), (16, 9), None):
        with pytest.raises(ValueError):
            one_channel(tmp_path / "0.depth", shape)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no depth",
        lzfse.compress(np.arange(192 * 256, dtype="<f4").tobytes())[:-300],
        b"bvx2" + struct.pack("<I3Q", 4, 0, 0, 32),
        (b"bvx2" + struct.pack("<I3Q", 4, 0xFFFFF << 40, 0, 32)) * 9 + b"bvx$",
    ],
    ids=["empty", "text", "cut", "never ends", "a bomb"],
)
def test_numbers_that_are_damaged_are_one_sentence(tmp_path, data):
    (tmp_path / "0.depth").write_bytes(data)
    with pytest.raises((ValueError, struct.error)) as caught:
        one_channel(tmp_path / "0.depth", (192, 256))
    assert str(caught.value)


def test_a_bomb_is_told_by_what_its_blocks_could_become(tmp_path):
    block = b"bvx2" + struct.pack("<I3Q", 4, 10_000 << 40, 0, 32)
    (tmp_path / "0.depth").write_bytes(block * (MOST_BYTES // 20_000_000) + b"bvx$")
    with pytest.raises(ValueError, match="too large"):
        one_channel(tmp_path / "0.depth", (192, 256))
