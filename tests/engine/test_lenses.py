"""Cameras that were found, adjusted once more: a ring of cameras whose truth is known, with noise and wrong matches."""

import numpy as np
import pycolmap
import pytest

from in2n_blender.engine.poses.lenses import adjusted
from in2n_blender.scene.errors import Cancelled
from in2n_blender.scene.reporting import Reporter
from tests.engine.similarity import centre_errors
from tests.scene.captures import ring
from tests.scene.formats import computer_vision

SIZE, COUNT, POINTS = (480, 360), 16, 300


def seen(model, parameters, noise, wrong, seed=0):
    """A model as a mapper leaves it: its lens is OPENCV and off, and so are its cameras and points, by little."""
    rng = np.random.default_rng(seed)
    truth = pycolmap.Camera(model=model, width=SIZE[0], height=SIZE[1], params=parameters, camera_id=1)
    points = rng.uniform(-0.9, 0.9, (POINTS, 3))
    found = pycolmap.Reconstruction()
    off = [430, 436, 240, 180, -0.05, 0.05, 0.0, 0.0]
    camera = pycolmap.Camera(model="OPENCV", width=SIZE[0], height=SIZE[1], params=off, camera_id=1)
    found.add_camera_with_trivial_rig(camera)
    poses, tracks = [np.asarray(pose) for pose in ring(COUNT)], [[] for _ in points]
    for number, pose in enumerate(poses):
        rotation, translation = computer_vision(pose)
        pixels = np.array([truth.img_from_cam(at) for at in points @ rotation.T + translation])
        pixels += rng.normal(0, noise, pixels.shape)
        for one in rng.choice(POINTS, int(wrong * POINTS), replace=False):
            pixels[one] += rng.uniform(2, 4) * rng.choice([-1, 1], 2)
        image = pycolmap.Image(name=f"{number:02}.jpg", camera_id=1, image_id=number + 1)
        image.points2D = pycolmap.Point2DList([pycolmap.Point2D(at) for at in pixels])
        shifted = pycolmap.Rigid3d(np.c_[rotation, translation + rng.normal(0, 0.01, 3)])
        found.add_image_with_trivial_frame(image, shifted)
        for point in rng.choice(POINTS, POINTS // 2, replace=False):
            tracks[point].append(pycolmap.TrackElement(number + 1, int(point)))
    for at, track in zip(points, tracks):
        if len(track) >= 3:
            found.add_point3D(at + rng.normal(0, 0.01, 3), pycolmap.Track(track), np.zeros(3, np.uint8))
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    pycolmap.bundle_adjustment(found, options)  # as mappers end
    found.update_point_3d_errors()
    return found, poses


def placed(model):
    images = sorted(model.images.values(), key=lambda image: image.name)
    return [np.linalg.inv(np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]])) for image in images]


def test_wrong_matches_are_forgiven_and_a_straight_lens_stays_straight():
    found, poses = seen("SIMPLE_PINHOLE", [427, 240, 180], 0.4, 0.05)
    better = adjusted(found, Reporter())
    before, after = (centre_errors(placed(one), poses) for one in (found, better))
    assert after.mean() < 0.8 * before.mean() and after.max() < 0.002
    lens = better.cameras[1]
    assert lens.model.name == "SIMPLE_RADIAL" and lens.params[3] == 0
    assert abs(lens.params[0] - 427) < 2
    assert better.compute_mean_reprojection_error() <= found.compute_mean_reprojection_error()
    assert found.cameras[1].model.name == "OPENCV", "what was given stays as it was"


@pytest.mark.parametrize(
    "model, parameters, name",
    [
        ("SIMPLE_RADIAL", [427, 240, 180, -0.12], "SIMPLE_RADIAL"),
        ("OPENCV", [427, 450, 240, 180, -0.2, 0.1, 0.01, -0.01], "OPENCV"),
    ],
)
def test_a_lens_that_bends_keeps_what_bends_it(model, parameters, name):
    found, poses = seen(model, parameters, 0.3, 0.03, seed=1)
    better = adjusted(found, Reporter())
    lens, truth = better.cameras[1], pycolmap.Camera(model=model, width=SIZE[0], height=SIZE[1], params=parameters)
    assert lens.model.name == name
    at = np.stack(np.meshgrid(*(np.linspace(-side, side, 9) for side in (0.25, 0.2)), [1.0]), -1).reshape(-1, 3)
    off = np.array([lens.img_from_cam(one) for one in at]) - np.array([truth.img_from_cam(one) for one in at])
    assert np.abs(off).max() < 1.5
    assert centre_errors(placed(better), poses).max() < 0.003


def test_cancelled_it_ends():
    found, _ = seen("SIMPLE_PINHOLE", [427, 240, 180], 0.4, 0.05)
    with pytest.raises(Cancelled):
        adjusted(found, Reporter(lambda event: None, lambda: True))
