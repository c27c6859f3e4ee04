"""Equirectangular photos cut into faces: against COLMAP's model, and nothing shows at the seams."""

import json

import numpy as np
import pycolmap
import pytest
from PIL import Image

from in2n_blender.engine.importing import normalise_capture
from in2n_blender.engine.photos import load_images
from in2n_blender.link.requests import ImportCapture
from in2n_blender.scene.camera import Intrinsics
from in2n_blender.scene.lens import EQUIRECTANGULAR, Lens, distort, pinhole_for
from in2n_blender.scene.panorama import FACES, face_rotation
from in2n_blender.scene.readers import read as read_capture
from in2n_blender.scene.reporting import Reporter
from in2n_blender.workspace.layout import Workspace
from tests.scene.captures import ring, write_png
from tests.scene.formats import metashape

WIDTH, HEIGHT = 256, 128
PHOTO = Intrinsics(WIDTH, HEIGHT, 1.0, 1.0, WIDTH / 2, HEIGHT / 2)


def colour(direction):
    """(..., 3) in [0, 255] of a unit direction in OpenCV's axes: smooth everywhere on the sphere."""
    x, y, z = np.moveaxis(direction, -1, 0)
    return 127 + 60 * np.stack([x + z * x, y - x * z, z + y * y * x], -1)


def panorama():
    """The photo, by COLMAP's own account of what its pixels see."""
    camera = pycolmap.Camera(model="EQUIRECTANGULAR", width=WIDTH, height=HEIGHT, params=[WIDTH, HEIGHT])
    centres = np.stack(np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5), -1).reshape(-1, 2)
    rays = np.stack([camera.cam_ray_from_img(pixel) for pixel in centres])
    return np.round(colour(rays)).astype(np.uint8).reshape(HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("face", FACES)
def test_a_face_sees_what_colmap_says(face):
    lens = Lens(EQUIRECTANGULAR, PHOTO, FACES[face])
    camera = pycolmap.Camera(model="EQUIRECTANGULAR", width=WIDTH, height=HEIGHT, params=[WIDTH, HEIGHT])
    directions = np.random.default_rng(0).uniform(-1, 1, (50, 2))
    rays = np.c_[directions, np.ones(50)] @ face_rotation(*FACES[face]).T
    expected = np.stack([camera.img_from_cam(ray) for ray in rays])
    off = distort(lens, directions) - expected
    off[:, 0] = (off[:, 0] + WIDTH / 2) % WIDTH - WIDTH / 2
    np.testing.assert_allclose(off, 0, atol=1e-9)
    k = pinhole_for(lens)
    assert (k.width, k.height, k.fx, k.cx) == (64, 64, 32, 32)


def test_the_faces_are_six_sides_of_a_cube():
    ahead = [face_rotation(*angles) @ [0, 0, 1] for angles in FACES.values()]
    np.testing.assert_allclose(
        np.array(ahead) @ np.array(ahead).T, np.eye(6) - np.eye(6)[[2, 3, 0, 1, 5, 4]], atol=1e-9
    )
    assert np.allclose(face_rotation(*FACES["up"]) @ [0, 0, 1], [0, -1, 0])
    assert np.allclose(face_rotation(*FACES["right"]) @ [0, 0, 1], [1, 0, 0])


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A ring of panoramas of a world of directions, imported."""
    root = tmp_path_factory.mktemp("panorama")
    (root / "capture/images").mkdir(parents=True)
    poses = ring(3)
    frames = []
    for number, pose in enumerate(poses):
        Image.fromarray(panorama()).save(root / f"capture/images/{number}.png")
        frames.append({"file_path": f"images/{number}.png", "transform_matrix": pose.tolist()})
    table = {"camera_model": "EQUIRECTANGULAR", "w": WIDTH, "h": HEIGHT, "fl_x": 64, "fl_y": 128, "frames": frames}
    (root / "capture/transforms.json").write_text(json.dumps(table))
    request = ImportCapture(workspace=str(root / "work"), source=str(root / "capture"), hold_out_every=0)
    capture = normalise_capture(request, Reporter())
    return poses, capture, load_images(Workspace(root / "work"), capture)


def test_every_pixel_of_a_face_shows_its_direction_and_so_do_its_borders(imported):
    poses, capture, images = imported
    assert len(images) == 18 and {view.name for view in capture.views} >= {"0_front", "2_down"}
    for view, image in zip(capture.views, images):
        pose = poses[int(view.name[0])]
        _, directions = view.camera.rays()
        in_panorama = directions @ pose[:3, :3] * [1, -1, -1]  # as the photo sees them, OpenCV's axes
        expected = colour(in_panorama / np.linalg.norm(in_panorama, axis=1, keepdims=True))
        off = np.abs(image.reshape(-1, 3) * 255 - expected)
        assert off.max() < 6 and off.mean() < 0.6, view.name


def test_neighbouring_faces_agree_along_their_seam(imported):
    """Also where the photo's left and right end meet, at the back."""
    _, capture, images = imported
    of = {view.name: image for view, image in zip(capture.views, images)}
    for left, right in (("front", "right"), ("right", "back"), ("back", "left"), ("left", "front")):
        a, b = of[f"0_{left}"][:, -1], of[f"0_{right}"][:, 0]
        assert np.abs(a - b).max() * 255 < 8, (left, right)
    assert np.abs(of["0_front"][0] - of["0_up"][-1]).max() * 255 < 8
    back = of["0_back"]
    assert np.abs(np.diff(back, axis=1)).max() * 255 < 8, "no seam in the middle of the back"


def test_panoramas_of_colmap_and_metashape(tmp_path):
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera(camera_id=1, model="EQUIRECTANGULAR", width=64, height=32, params=[64, 32])
    model.add_camera_with_trivial_rig(camera)
    for number in range(3):
        image = pycolmap.Image(name=f"{number}.png", camera_id=1, image_id=number + 1)
        pose = pycolmap.Rigid3d(pycolmap.Rotation3d(), np.array([number, 0.0, 0]))
        model.add_image_with_trivial_frame(image, pose)
        write_png(tmp_path / f"colmap/images/{number}.png", 64, 32)
    (tmp_path / "colmap/sparse").mkdir(parents=True)
    model.write_binary(str(tmp_path / "colmap/sparse"))
    frames = read_capture(tmp_path / "colmap").frames
    assert len(frames) == 18 and {frame.lens.model for frame in frames} == {EQUIRECTANGULAR}
    right = next(frame for frame in frames if frame.name == "0_right")
    np.testing.assert_allclose(-right.camera_to_world[:3, 2], [1, 0, 0], atol=1e-9)
    up = next(frame for frame in frames if frame.name == "1_up")
    np.testing.assert_allclose(-up.camera_to_world[:3, 2], [0, -1, 0], atol=1e-9)  # the model's y is down
    (tmp_path / "metashape").mkdir()
    written = metashape(tmp_path / "metashape")
    written.path.write_text(written.path.read_text().replace('type="frame"', 'type="spherical"'))
    assert len(read_capture(tmp_path / "metashape").frames) == 36
