"""What the cameras of a testbed scene see of its surfaces, exactly: points with normals, and depths, by ray casts.

    PYTHON-WITH-BPY -m tests.benchmarks.visible_surfaces --scene NAME --size PIXELS --views N --out FILE.npz

FILE holds points and normals (n, 3), of random rays of all views, and depth_<view> (size, size) along the camera's
axis, 0 where there is the sky.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import bpy  # noqa: F401  (mathutils comes with it)
import numpy as np
from mathutils import Vector

from in2n_blender.testbed.scenes.captured_scene import build_scene
from in2n_blender.testbed.scenes.reshaping import surface_tree
from in2n_blender.testbed.scenes.testbed import SCENES, choose_shots

RAYS = 15_000  # a view


def visible_surfaces(name: str, size: int, views: int) -> dict[str, np.ndarray]:
    """Cast rays.

    Args:
        name: The scene's.
        size: Pixels a side.
        views: How many training views the testbed has.

    Returns:
        "points", "normals" and "depth_<view>".
    """
    captured = SCENES[name]
    tree, focal = surface_tree(build_scene(captured)), captured.focal_length(size)
    random, points, normals, found = np.random.default_rng(0), [], [], {}
    for shot in choose_shots(captured, views):
        origin, turn = shot.camera_to_world.translation, shot.camera_to_world.to_3x3()
        forward = turn @ Vector((0, 0, -1))
        ray = lambda x, y, turn=turn: turn @ Vector(((x - size / 2) / focal, -(y - size / 2) / focal, -1.0))
        depth = np.zeros((size, size), np.float32)
        for row in range(size):
            for column in range(size):
                hit = tree.ray_cast(origin, ray(column + 0.5, row + 0.5))[0]
                if hit is not None:
                    depth[row, column] = (hit - origin).dot(forward)
        found[f"depth_{shot.name}"] = depth
        for x, y in random.random((RAYS, 2)) * size:
            hit, normal, _, _ = tree.ray_cast(origin, ray(x, y))
            if hit is not None:
                points.append(tuple(hit))
                normals.append(tuple(-normal if normal.dot(ray(x, y)) > 0 else normal))
    return {"points": np.array(points, np.float32), "normals": np.array(normals, np.float32), **found}


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
