"""A picture of a mesh, from where a photo of it was taken, lit from there: colours alone would look like the photo."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ...scene.camera import Camera
from ...scene.visibility import in_picture
from ..warp_devices import warp
from .surface import ColoredMesh

LONGEST_SIDE = 256
RAYS_ALONG = 3  # a pixel's side
UNLIT = 0.5  # of a colour, where the surface is seen from its side
BACKGROUND = 1.0
LOOKED_AT = 2000  # vertices, by which it is seen how much of a mesh a camera sees


def picture_of_mesh(mesh: ColoredMesh, cameras: Sequence[Camera]) -> np.ndarray:
    """A mesh as the one of some cameras sees it that sees most of it.

    Args:
        mesh: In capture coordinates.
        cameras: At least one, in capture coordinates.

    Returns:
        (height, width, 3) float32 sRGB in [0, 1], LONGEST_SIDE pixels long, white where there is no mesh.
    """
    some = mesh.vertices[:: max(1, len(mesh.vertices) // LOOKED_AT)]  # a capture may have a thousand cameras
    camera = max(cameras, key=lambda camera: len(in_picture(camera, some)[0]))
    k = camera.intrinsics
    scale = LONGEST_SIDE / max(k.width, k.height)
    width, height = (max(1, round(side * scale)) for side in (k.width, k.height))
    origins, directions = camera.scaled_to(width * RAYS_ALONG, height * RAYS_ALONG).rays()
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    face, weights = first_hits(mesh.vertices, mesh.faces, origins, directions)
    hits = np.flatnonzero(face >= 0)
    corners, weights = mesh.faces[face[hits]], weights[hits, :, None]
    a, b, c = (mesh.vertices[corners[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)
    lit = UNLIT + (1 - UNLIT) * np.abs((directions[hits] * normals).sum(1, keepdims=True))
    picture = np.full((len(face), 3), BACKGROUND, np.float32)
    picture[hits] = (mesh.colors_srgb[corners] * weights).sum(1) * lit
    return picture.reshape(height, RAYS_ALONG, width, RAYS_ALONG, 3).mean((1, 3))


def first_hits(
    vertices: np.ndarray, faces: np.ndarray, origins: np.ndarray, directions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What of a mesh rays meet first. Computed on the CPU.

    Args:
        vertices: (v, 3).
        faces: (f, 3).
        origins: (n, 3).
        directions: (n, 3) of unit length.

    Returns:
        (n,) int32 the faces' numbers, -1 where there is none; (n, 3) float32 how much each corner of it counts there.
    """
    wp, count = warp(), len(origins)
    vectors = lambda values: wp.array(np.asarray(values, np.float32), dtype=wp.vec3, device="cpu")
    mesh = wp.Mesh(vectors(vertices), wp.array(np.asarray(faces, np.int32).ravel(), dtype=wp.int32, device="cpu"))
    face = wp.empty(count, dtype=wp.int32, device="cpu")
    weights = wp.empty(count, dtype=wp.vec3, device="cpu")
    given = [mesh.id, vectors(origins), vectors(directions)]
    wp.launch(_first_hit_kernel(), count, inputs=given, outputs=[face, weights], device="cpu")
    return face.numpy(), weights.numpy()


@lru_cache
def _first_hit_kernel():
    wp = warp()

    def first_hit(
        mesh: wp.uint64,
        origins: wp.array(dtype=wp.vec3),
        directions: wp.array(dtype=wp.vec3),
        face: wp.array(dtype=wp.int32),
        weights: wp.array(dtype=wp.vec3),
    ):
        ray = wp.tid()
        hit = wp.mesh_query_ray(mesh, origins[ray], directions[ray], 1.0e30)
        face[ray] = -1
        if hit.result:
            face[ray] = hit.face
            weights[ray] = wp.vec3(hit.u, hit.v, 1.0 - hit.u - hit.v)

    return wp.kernel(enable_backward=False, module="unique")(first_hit)
