"""What the cameras of a testbed scene see of its surfaces, exactly: by ray casts into Blender's meshes.

    PYTHON-WITH-BPY -m tests.benchmarks.visible_surfaces --scene NAME --size PIXELS --views N --out FILE.npz

FILE holds points and normals (n, 3), of random rays of all views; triangles (t, 3, 3), of the faces that any ray meets;
and depth_<view> (size, size) along the camera's axis, 0 where there is the sky.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import bpy  # noqa: F401  (mathutils comes with it)
import numpy as np
from mathutils import Vector
from mathutils.bvhtree import BVHTree
from mathutils.geometry import tessellate_polygon

from in2n_blender.testbed.scenes.captured_scene import build_scene
from in2n_blender.testbed.scenes.reshaping import surfaces
from in2n_blender.testbed.scenes.testbed import SCENES, choose_shots

RAYS = 15_000  # a view


def visible_surfaces(name: str, size: int, views: int) -> dict[str, np.ndarray]:
    """Cast rays.

    Args:
        name: The scene's.
        size: Pixels a side.
        views: How many training views the testbed has.

    Returns:
        "points", "normals", "triangles" and "depth_<view>".
    """
    captured = SCENES[name]
    vertices, faces = surfaces(build_scene(captured))
    tree, focal = BVHTree.FromPolygons(vertices, faces), captured.focal_length(size)
    random, points, normals, found, met = np.random.default_rng(0), [], [], {}, set()
    for shot in choose_shots(captured, views):
        origin, turn = shot.camera_to_world.translation, shot.camera_to_world.to_3x3()
        forward = turn @ Vector((0, 0, -1))
        ray = lambda x, y, turn=turn: turn @ Vector(((x - size / 2) / focal, -(y - size / 2) / focal, -1.0))
        depth = np.zeros((size, size), np.float32)
        for row in range(size):
            for column in range(size):
                hit, _, face, _ = tree.ray_cast(origin, ray(column + 0.5, row + 0.5))
                if hit is not None:
                    met.add(face)
                    depth[row, column] = (hit - origin).dot(forward)
        found[f"depth_{shot.name}"] = depth
        for x, y in random.random((RAYS, 2)) * size:
            hit, normal, face, _ = tree.ray_cast(origin, ray(x, y))
            if hit is not None:
                met.add(face)
                points.append(tuple(hit))
                normals.append(tuple(-normal if normal.dot(ray(x, y)) > 0 else normal))
    corners = [[vertices[number] for number in faces[face]] for face in sorted(met)]
    triangles = [[tuple(face[i]) for i in three] for face in corners for three in tessellate_polygon([face])]
    surfaces_met = {"points": points, "normals": normals, "triangles": triangles}
    return {name: np.array(values, np.float32) for name, values in surfaces_met.items()} | found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scene", choices=SCENES, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--views", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    found = visible_surfaces(given.scene, given.size, given.views)
    with open(given.out.with_suffix(".part"), "wb") as file:
        np.savez_compressed(file, **found)
    given.out.with_suffix(".part").replace(given.out)


if __name__ == "__main__":
    main()
