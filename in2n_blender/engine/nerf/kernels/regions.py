"""How far points are from a closed mesh, and on which side."""

from functools import lru_cache

from .launch import warp

# Warp's fast winding numbers take far triangles together from so many of their radii on; the default of 2 errs near
# corners.
ACCURACY = 3.0


@lru_cache
def signed_distance_kernel():
    """What `regions.InsideTest` launches over points.

    Returns:
        A Warp kernel (points, distances out, mesh, the farthest distance): negative inside, by the winding number
        (Barill et al. 2018, "Fast Winding Numbers for Soups and Clouds").
    """
    wp = warp()
    accuracy = wp.constant(ACCURACY)

    def signed_distance(
        points: wp.array(dtype=wp.vec3), distances: wp.array(dtype=wp.float32), mesh: wp.uint64, farthest: wp.float32
    ):
        i = wp.tid()
        found = wp.mesh_query_point_sign_winding_number(mesh, points[i], farthest, accuracy, 0.5)
        distance = farthest
        if found.result:
            nearest = wp.mesh_eval_position(mesh, found.face, found.u, found.v)
            distance = found.sign * wp.length(nearest - points[i])
        distances[i] = distance

    return wp.kernel(enable_backward=False, module="unique")(signed_distance)
