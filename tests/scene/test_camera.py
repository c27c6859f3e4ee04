"""Cameras: rays, scaling, and the mapping to Blender's lens, sensor and shift."""

import itertools

import numpy as np
import pytest

from in2n_blender.scene.blender_lens import BlenderLens, blender_lens, intrinsics_from_blender
from in2n_blender.scene.camera import Camera, Intrinsics

SIZES = [(640, 480), (480, 640), (500, 500)]


def project(camera, points):
    """(P, 2) pixels of world points, written out independently of Camera.rays."""
    k = camera.intrinsics
    local = (np.c_[points, np.ones(len(points))] @ np.linalg.inv(camera.camera_to_world).T)[:, :3]
    depth = -local[:, 2]
    return np.c_[k.cx + k.fx * local[:, 0] / depth, k.cy - k.fy * local[:, 1] / depth]


def pose(seed):
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * np.linalg.det(rotation)
    matrix[:3, 3] = [1, -2, 3]
    return matrix


def test_rays_pass_through_the_pixel_centres_at_depth_one():
    camera = Camera(Intrinsics(5, 3, 4.0, 6.0, 2.1, 1.7), pose(1))
    origins, directions = camera.rays()
    assert origins.shape == directions.shape == (15, 3)
    pixels = project(camera, (origins + 7 * directions).astype(np.float64))
    expected = [(x + 0.5, y + 0.5) for y in range(3) for x in range(5)]
    np.testing.assert_allclose(pixels, expected, atol=1e-5)
    depth = (directions.astype(np.float64) @ camera.camera_to_world[:3, :3])[:, 2]
    np.testing.assert_allclose(depth, -1, atol=1e-6)


def test_scaling_keeps_the_view():
    whole = Intrinsics(400, 300, 350.0, 340.0, 190.0, 160.0)
    half = whole.scaled_to(200, 150)
    assert (half.fx, half.fy, half.cx, half.cy) == (175.0, 170.0, 95.0, 80.0)


def test_camera_json_round_trip():
    camera = Camera(Intrinsics(64, 48, 50.125, 50.25, 31.0, 25.0), pose(2))
    again = Camera.from_json(camera.to_json())
    assert again.intrinsics == camera.intrinsics
    np.testing.assert_array_equal(again.camera_to_world, camera.camera_to_world)


def blender_projection(lens: BlenderLens, width, height, x, y):
    """Pixel (y down) of the direction (x, y, -1), by Blender's frame: the picture plane in units of its fitted side."""
    aspect = (width * lens.pixel_aspect_x, height * lens.pixel_aspect_y)
    fit = lens.sensor_fit if lens.sensor_fit != "AUTO" else ("HORIZONTAL" if aspect[0] >= aspect[1] else "VERTICAL")
    sensor = lens.sensor_height if lens.sensor_fit == "VERTICAL" else lens.sensor_width
    span = aspect[0] if fit == "HORIZONTAL" else aspect[1]
    # as in bpy_extras.object_utils.world_to_camera_view: the frame's half extents at depth 1, moved by the shifts
    unit = sensor / lens.lens
    half_x, half_y = unit * aspect[0] / span / 2, unit * aspect[1] / span / 2
    left, bottom = -half_x + lens.shift_x * unit, -half_y + lens.shift_y * unit
    return (x - left) / (2 * half_x) * width, height - (y - bottom) / (2 * half_y) * height


@pytest.mark.parametrize("size, fit", itertools.product(SIZES, ["AUTO", "HORIZONTAL", "VERTICAL"]))
@pytest.mark.parametrize("focal", [(600.0, 600.0), (600.0, 480.0), (480.0, 600.0)])
def test_blender_lens_sees_the_same_and_maps_back(size, fit, focal):
    k = Intrinsics(*size, *focal, size[0] * 0.46, size[1] * 0.57)
    lens = blender_lens(k, 32.0, fit)
    assert min(lens.pixel_aspect_x, lens.pixel_aspect_y) == 1.0
    for x, y in [(0, 0), (0.3, -0.2), (-0.4, 0.35)]:
        expected = (k.cx + k.fx * x, k.cy - k.fy * y)
        np.testing.assert_allclose(blender_projection(lens, *size, x, y), expected, atol=1e-9)
    back = intrinsics_from_blender(lens, *size)
    np.testing.assert_allclose([back.fx, back.fy, back.cx, back.cy], [k.fx, k.fy, k.cx, k.cy], rtol=1e-12)


def test_an_unknown_sensor_fit_is_refused():
    with pytest.raises(ValueError):
        blender_lens(Intrinsics(4, 4, 1.0, 1.0, 2.0, 2.0), fit="DIAGONAL")
