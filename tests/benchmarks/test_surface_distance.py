import numpy as np

from tests.benchmarks.surface_distance import distances


def test_a_distance_is_to_the_nearest_point_of_a_triangle_not_to_its_corners():
    triangles = np.array([[[0, 0, 0], [4, 0, 0], [0, 4, 0]]], np.float32)
    points = np.array([[1, 1, 0.5], [-3, -4, 0], [2, -1, 0], [4, 4, 0], [0, 0, 0]])
    np.testing.assert_allclose(distances(points, triangles), [0.5, 5, 1, 8**0.5, 0], atol=1e-6)
