"""Exact distances from points to a surface of triangles, by Warp."""

import numpy as np
import warp as wp


def distances(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """How far points are from a surface.

    Args:
        points: (n, 3).
        triangles: (t, 3, 3) their corners.

    Returns:
        (n,) float32.
    """
    corners = wp.array(triangles.reshape(-1, 3).astype(np.float32), dtype=wp.vec3, device="cpu")
    surface = wp.Mesh(corners, wp.array(np.arange(len(corners), dtype=np.int32), device="cpu"))
    places = wp.array(points.astype(np.float32), dtype=wp.vec3, device="cpu")
    found = wp.empty(len(points), dtype=wp.float32, device="cpu")
    wp.launch(_distances, len(points), inputs=[surface.id, places], outputs=[found], device="cpu")
    return found.numpy()


@wp.kernel
def _distances(surface: wp.uint64, points: wp.array(dtype=wp.vec3), found: wp.array(dtype=wp.float32)):
    i = wp.tid()
    nearest = wp.mesh_query_point_no_sign(surface, points[i], wp.float32(1e12))
    found[i] = wp.length(points[i] - wp.mesh_eval_position(surface, nearest.face, nearest.u, nearest.v))
