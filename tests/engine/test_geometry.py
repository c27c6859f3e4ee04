"""Geometry against what is known: depths, hidden points, and the mesh of a ball."""

import numpy as np
import pytest

from in2n_blender.engine.evaluation import geometry
from in2n_blender.engine.evaluation.geometry import (
    chamfer,
    chamfer_percent,
    depth_scores,
    not_hidden,
    points_on,
    read_depths,
    visible_points,
)
from in2n_blender.scene.errors import Cancelled
from in2n_blender.scene.reporting import Reporter
from tests.engine.analytic_scene import CENTER, RADIUS, BallScene, camera_at


def ball_depths(angles=(0.0, 1.0, 2.0, 3.0, 4.0, 5.0), scene=None):
    """(Blender's depths, cameras) of a ball before the sky"""
    cameras = {f"view {angle}": camera_at(angle, 80, 60) for angle in angles}
    views = {name: (scene or BallScene()).render(camera) for name, camera in cameras.items()}
    return {name: np.where(view.alpha > 0, view.depth, 0).astype(np.float32) for name, view in views.items()}, cameras


def test_depth_errors_are_shares_of_the_truth_where_there_is_no_sky():
    truth = np.array([[2.0, 4.0], [0.0, 8.0]])
    depth = np.array([[2.2, 2.0], [9.0, 8.0]])
    before = np.array([[2.0, 4.0], [3.0, 4.0]])
    error, within, moved = depth_scores([depth], [truth], [before])
    assert error == pytest.approx((0.1 + 0.5 + 0) / 3) and within == pytest.approx(2 / 3)
    assert moved == 0, "the surface moved in the last pixel alone, and there the depth is right"
    assert depth_scores([depth, depth], [truth, 0 * truth], [before] * 2)[0] == error, "all sky: left out"
    assert depth_scores([depth], [truth], [truth])[2] is None and depth_scores([], [], []) == (None, None, None)


def test_a_factor_is_the_same_both_ways():
    truth = np.full((2, 2), 1.0)
    for factor, within in ((1.24, 1), (1.26, 0), (1 / 1.24, 1), (1 / 1.26, 0), (0, 0)):
        assert depth_scores([truth * factor], [truth], [truth])[1] == within


def test_depths_are_read_where_there_are_some(tmp_path):
    np.save(tmp_path / "test_001.npy", np.eye(3, dtype=np.float32))
    found = read_depths(tmp_path, ["test_000", "test_001"])
    assert list(found) == ["test_001"] and (found["test_001"] == np.eye(3)).all()
    assert read_depths(tmp_path / "none", ["a"]) == {}


def test_chamfer_is_the_mean_of_both_directions():
    square = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], float)
    assert chamfer(square, square) == 0
    assert chamfer(square, square + [0, 0, 0.25]) == pytest.approx(0.25)
    assert chamfer(square, square[:1]) == pytest.approx((0 + (0 + 1 + 1 + 2**0.5) / 4) / 2)


def test_visible_points_lie_on_the_ball():
    depths, cameras = ball_depths()
    for name, depth in depths.items():
        points = visible_points(depth, cameras[name])
        assert len(points) == (depth > 0).sum() > 500
        np.testing.assert_allclose(np.linalg.norm(points - CENTER, axis=1), RADIUS, atol=1e-4)


def test_what_lies_behind_for_all_cameras_is_hidden():
    depths, cameras = ball_depths((0.0, 3.1))
    away = np.array([[1.2, 0, 0], [1.0, 0, 0], [0.5, 0, 0], [0, 0, 0], [-1.0, 0, 0], [0, 1.1, 0.2], [0, 0, 9]])
    assert not_hidden(CENTER + away, depths, cameras).tolist() == [True, True, False, False, True, True, False]
    assert not_hidden(CENTER + away[4:5], {"view 0.0": depths["view 0.0"]}, cameras).tolist() == [False]


def test_points_are_even_by_area():
    vertices = np.array([[0, 0, 0], [3, 0, 0], [0, 3, 0], [0, 0, 1], [1, 0, 1], [0, 1, 1]], float)
    points = points_on(vertices, np.array([[0, 1, 2], [3, 4, 5]]), 20_000)
    low = points[:, 2] == 0
    assert low.mean() == pytest.approx(0.9, abs=0.01)
    np.testing.assert_allclose(points[low].mean(0), [1, 1, 0], atol=0.03)


def test_the_mesh_of_a_ball_is_near_to_the_ball_and_far_from_a_moved_one(monkeypatch):
    monkeypatch.setattr(geometry, "RESOLUTION", 48)
    depths, cameras = ball_depths()
    same = chamfer_percent(BallScene(), depths, cameras, Reporter())
    # 3.0 x 2.6 x 2.8 units have a diagonal of 4.86; a voxel is 1.3% of it.
    assert 0 < same < 1.0
    nearer = {name: depth * 0.93 for name, depth in depths.items()}
    moved = chamfer_percent(BallScene(), nearer, cameras, Reporter())
    assert moved > same + 2, "some 0.2 units of 4.86"


def test_floaters_are_counted_and_hidden_insides_are_not(monkeypatch):
    monkeypatch.setattr(geometry, "RESOLUTION", 48)
    monkeypatch.setattr(geometry, "without_floaters", lambda vertices, faces: (vertices, faces))
    depths, cameras = ball_depths()
    plain, floating = (chamfer_percent(BallScene(floaters=f), depths, cameras, Reporter()) for f in (False, True))
    assert floating > plain


def test_no_mesh_is_no_number_and_cancelling_stops_it():
    depths, cameras = ball_depths((0.0,))
    empty = BallScene()
    empty.density = lambda points: points[:, 0] * 0
    assert chamfer_percent(empty, depths, cameras, Reporter()) is None
    with pytest.raises(Cancelled):
        chamfer_percent(BallScene(), depths, cameras, Reporter(cancelled=lambda: True))
