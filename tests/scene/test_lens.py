"""Distortion against OpenCV; the pinhole camera of the undistorted photo."""

import cv2
import numpy as np
import pytest

from in2n_blender.scene.camera import Intrinsics
from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.lens import (
    FISHEYE_HALF_ANGLE,
    Lens,
    directions_of,
    distort,
    one_to_one_radius,
    photo_pixels,
    pinhole_for,
)
from tests.scene.opencv_lens import camera_matrix, opencv_distort, opencv_undistort

SHAPE = Intrinsics(640, 480, 500.0, 520.0, 310.0, 250.0)
BARREL = (-0.28, 0.11, 1e-3, -7e-4, -0.02)
LENSES = {
    "barrel": Lens("opencv", SHAPE, BARREL),
    "pincushion": Lens("opencv", SHAPE, (0.12, 0.03, -2e-3, 1e-3)),
    "moustache": Lens("opencv", SHAPE, (-0.2, 0.25, 0.0, 0.0, 0.02)),
    "rational": Lens("opencv", SHAPE, (0.3, -0.1, 5e-4, 1e-3, 0.02, 0.6, -0.1, 0.05)),
    "fisheye": Lens("opencv_fisheye", Intrinsics(640, 480, 300.0, 310.0, 330.0, 235.0), (-0.03, 0.01, -0.004, 0.001)),
}


@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES)
def test_distort_is_opencv(lens):
    directions = np.random.default_rng(0).uniform(-0.6, 0.6, (200, 2))
    directions[0] = 0
    np.testing.assert_allclose(distort(lens, directions), opencv_distort(lens, directions), atol=1e-9)


@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES)
def test_opencv_undoes_distort(lens):
    directions = np.random.default_rng(1).uniform(-0.5, 0.5, (100, 2))
    np.testing.assert_allclose(opencv_undistort(lens, distort(lens, directions)), directions, atol=1e-6)


@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES)
def test_directions_are_what_distort_came_from(lens):
    directions = np.random.default_rng(3).uniform(-0.6, 0.6, (200, 2))
    np.testing.assert_allclose(directions_of(lens, distort(lens, directions)), directions, atol=1e-8)


def test_directions_of_pixels_that_see_none():
    """Where a polynomial turns back, a pixel beyond what it reaches is seen from nowhere."""
    lens = Lens("opencv", SHAPE, (-0.4,))
    reached = distort(lens, [one_to_one_radius(lens) * 0.99, 0.0])
    found = directions_of(lens, np.stack([reached, reached + [60, 0]]))
    assert np.isfinite(found[0]).all() and np.isnan(found[1]).all()
    plain = Lens("pinhole", SHAPE)
    np.testing.assert_allclose(directions_of(plain, [[SHAPE.cx + SHAPE.fx, SHAPE.cy]]), [[1.0, 0.0]])


def test_the_radius_up_to_which_a_lens_is_one_to_one():
    turning = 1 / np.sqrt(3 * 0.4)
    lens = Lens("opencv", SHAPE, (-0.4,))
    assert one_to_one_radius(lens) == pytest.approx(turning)
    x = np.linspace(0, 2 * turning, 1001)
    pixels = distort(lens, np.stack([x, 0 * x], 1))[:, 0]
    assert x[pixels.argmax()] == pytest.approx(turning, abs=2e-3)
    assert one_to_one_radius(Lens("pinhole", SHAPE)) == np.inf
    assert one_to_one_radius(Lens("opencv_fisheye", SHAPE)) > 1e6  # up to a right angle
    angle = 1 / np.sqrt(3 * 0.2)
    assert one_to_one_radius(Lens("opencv_fisheye", SHAPE, (-0.2,))) == pytest.approx(np.tan(angle))


def test_brown_is_a_polynomial_of_order_eight():
    lens = Lens("brown", SHAPE, (-0.2, 0.05, 0.0, 0.0, 0.01, -0.003))
    x = 0.5
    u = x * x
    expected = x * (1 - 0.2 * u + 0.05 * u**2 + 0.01 * u**3 - 0.003 * u**4)
    np.testing.assert_allclose(distort(lens, [x, 0.0]), [SHAPE.cx + SHAPE.fx * expected, SHAPE.cy], atol=1e-12)
    without = Lens("brown", SHAPE, BARREL)
    points = np.random.default_rng(2).uniform(-0.5, 0.5, (20, 2))
    np.testing.assert_allclose(distort(without, points), distort(LENSES["barrel"], points), atol=1e-12)


@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES)
def test_pinhole_shows_only_the_photo_and_cuts_as_little_as_possible(lens):
    pinhole = pinhole_for(lens)
    k = lens.intrinsics
    assert pinhole.fx == pinhole.fy
    assert (pinhole.width, pinhole.height, pinhole.cx, pinhole.cy) == (k.width, k.height, k.cx, k.cy)
    size = np.array([k.width, k.height])

    def corners_and_edges(focal):
        x, y = np.linspace(0, k.width, 301), np.linspace(0, k.height, 301)
        border = np.concatenate(
            [np.c_[x, 0 * x], np.c_[x, 0 * x + k.height], np.c_[0 * y, y], np.c_[0 * y + k.width, y]]
        )
        return distort(lens, (border - [k.cx, k.cy]) / focal), np.hypot(*(border - [k.cx, k.cy]).T).max() / focal

    inside, _ = corners_and_edges(pinhole.fx)
    assert (inside > -0.01).all() and (inside < size + 0.01).all()
    outside, reach = corners_and_edges(pinhole.fx * 0.999)
    limit = min(one_to_one_radius(lens), np.tan(FISHEYE_HALF_ANGLE) if lens.model == "opencv_fisheye" else np.inf)
    assert (outside < 0).any() or (outside > size).any() or reach > limit


def test_a_square_pinhole_lens_stays_as_it_is():
    square = Intrinsics(640, 480, 500.0, 500.0, 300.0, 260.0)
    for lens in (Lens("pinhole", square), Lens("opencv", square, (0.0, 0.0, 0.0, 0.0)), Lens("brown", square)):
        assert lens.is_square_pinhole and pinhole_for(lens) == square
    assert not Lens("opencv_fisheye", square).is_square_pinhole


def test_unequal_focal_lengths_are_resampled_to_the_longer():
    assert pinhole_for(Lens("pinhole", SHAPE)).fx == pytest.approx(520.0, rel=1e-8)


def test_a_wide_fisheye_is_limited():
    lens = Lens("opencv_fisheye", Intrinsics(800, 800, 240.0, 240.0, 400.0, 400.0))
    pinhole = pinhole_for(lens)
    assert np.arctan(np.hypot(400, 400) / pinhole.fx) == pytest.approx(FISHEYE_HALF_ANGLE, abs=1e-5)


def test_a_lens_that_turns_back_does_not_show_the_photo_twice():
    lens = Lens("opencv", Intrinsics(640, 480, 300.0, 300.0, 320.0, 240.0), (-0.35,))
    pinhole = pinhole_for(lens)
    assert np.hypot(320, 240) / pinhole.fx < one_to_one_radius(lens)


@pytest.mark.parametrize(
    "k", [Intrinsics(64, 48, 50.0, 55.0, -30.0, 24.0), Intrinsics(64, 48, 50.0, 50.0, 400.0, 24.0)]
)
def test_a_lens_that_cannot_be_undistorted_is_an_error(k):
    with pytest.raises(In2nError) as caught:
        pinhole_for(Lens("opencv", k, (-0.1,)))
    assert caught.value.code == "bad_intrinsics"


@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES)
def test_photo_pixels_are_opencvs_undistortion_map(lens):
    pinhole = pinhole_for(lens)
    k, new, size = camera_matrix(lens.intrinsics), camera_matrix(pinhole), (pinhole.width, pinhole.height)
    undistort_map = (
        cv2.fisheye.initUndistortRectifyMap if lens.model == "opencv_fisheye" else cv2.initUndistortRectifyMap
    )
    x, y = undistort_map(k, np.array(lens.distortion), np.eye(3), new, size, cv2.CV_32FC1)
    ours = np.concatenate([photo_pixels(lens, pinhole, 0, 100), photo_pixels(lens, pinhole, 100, 480)])
    np.testing.assert_allclose(ours - 0.5, np.stack([x, y], -1), atol=1e-3)
