"""From where photos look, what they share, and what is said of it."""

import numpy as np
import pytest

from in2n_blender.scene.camera import Camera, Intrinsics
from in2n_blender.scene.capture import PinholeCapture, View
from in2n_blender.scene.coverage import coverage_of
from in2n_blender.scene.improvements import improvements
from in2n_blender.scene.photo_report import report_of
from in2n_blender.scene.visibility import parallaxes, projected, seen
from tests.scene.captures import look_at, ring

LENS = Intrinsics(400, 300, 400.0, 400.0, 200.0, 150.0)


def taken(poses, points=None):
    views = tuple(View(f"p{i:02}", f"images/p{i:02}.png", Camera(LENS, pose)) for i, pose in enumerate(poses))
    points = np.zeros((0, 3)) if points is None else points
    return PinholeCapture("c", "c", "draft", views, points.astype(np.float32), np.zeros(points.shape, np.uint8))


def cloud(count=2000, radius=1.0, seed=0):
    at = np.random.default_rng(seed).normal(size=(count, 3))
    return radius * at / np.linalg.norm(at, axis=1, keepdims=True)


def coverage(poses):
    return coverage_of([Camera(LENS, pose) for pose in poses], [f"p{i:02}" for i in range(len(poses))])


def test_a_point_is_projected_as_a_ray_says():
    camera = Camera(LENS, look_at((3, -2, 1)))
    origins, directions = camera.rays()
    pixels, depth = projected(camera, (origins + 2.5 * directions)[[0, 777, 5000]])
    assert depth == pytest.approx([2.5] * 3, abs=1e-4)
    assert pixels == pytest.approx(np.array([[n % 400 + 0.5, n // 400 + 0.5] for n in (0, 777, 5000)]), abs=1e-2)


def test_the_far_side_of_a_thing_is_not_seen():
    points, camera = cloud(), Camera(LENS, look_at((4, 0, 0)))
    numbers, _ = seen(camera, points)
    assert 0.2 < len(numbers) / len(points) < 0.6 and points[numbers, 0].mean() > 0.4
    assert len(seen(camera, points, solid=False)[0]) > 0.7 * len(points)


def test_all_around():
    found = coverage(ring(24))
    assert found.inward and found.gap_degrees == pytest.approx(15, abs=0.01) and found.heights_degrees < 0.01


def test_a_gap_is_found_between_its_photos():
    found = coverage(ring(24)[:18])
    assert found.gap_degrees == pytest.approx(105, abs=0.01) and set(found.gap_between) == {"p17", "p00"}


def test_a_room_is_looked_at_from_inside():
    poses = [
        look_at((0.2 * np.cos(a), 0.2 * np.sin(a), 1), (9 * np.cos(a), 9 * np.sin(a), 1)) for a in np.arange(12) / 2
    ]
    assert not coverage(poses).inward


def test_parallax_is_the_angle_between_rays():
    positions, point = np.array([[0.0, 0, 0], [1, 0, 0], [0.5, 0, 0]]), np.array([[0.0, 0, -2]])
    found = parallaxes(np.ones((3, 1), bool), positions, point)
    assert found == pytest.approx(np.degrees([np.arctan(0.5), np.arctan(0.5), np.arctan(0.25)]))


@pytest.mark.parametrize(
    "poses, points, said",
    [
        (ring(40) + ring(30, height=3.0), cloud(), "Nothing stands out"),
        (ring(40), cloud(), "about one height"),
        (ring(24)[:18] + ring(24, height=3.0)[:18], cloud(), "No photo looks from the 105° between"),
        (ring(30, turn=1.5), cloud(), "All photos are from one side (83° around)"),
        (ring(8, height=1.0), cloud(), "8 photos are few"),
        ([look_at((4 + 0.002 * i, 0.004 * i, 1)) for i in range(25)], cloud(), "step sideways"),
        (
            [look_at((0, i * 2.0, 0), (9, i * 2.0, 0)) for i in range(25)],
            np.random.default_rng(0).uniform((4, -2, -1.4), (4.5, 50, 1.4), (3000, 3)),
            "take more, in smaller steps",
        ),
    ],
)
def test_what_would_improve_it(poses, points, said):
    found = improvements(report_of(taken(poses, points)))
    assert any(said in line for line in found), found
    assert 1 <= len(found) <= 3
    if said != "Nothing stands out":
        assert not any("Nothing stands out" in line for line in found)


def test_without_points_the_cameras_tell():
    found = report_of(taken(ring(40)))
    assert not found.has_points and found.median("overlap") > 0.6 and found.median("parallax_degrees") > 20
    assert all(photo.points == 0 and photo.sharpness is None for photo in found.photos.values())


def test_points_are_counted_of_all_points():
    found = report_of(taken(ring(12), cloud(20_000)))
    numbers, _ = seen(Camera(LENS, ring(12)[0]), cloud(20_000).astype(np.float32))
    assert found.photos["p00"].points == pytest.approx(len(numbers), rel=0.12)
