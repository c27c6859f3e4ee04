"""A textured mesh from a GLB file, drawn by ray casts: written for the benchmarks, apart from what makes the file."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from in2n_blender.engine.output.mesh_picture import first_hits
from in2n_blender.scene.camera import Camera


@dataclass(frozen=True)
class DrawnMesh:
    """positions (v, 3) z up, faces (f, 3), uvs (v, 2) v downwards, texture (height, width, 3) in [0, 1]."""

    positions: np.ndarray
    faces: np.ndarray
    uvs: np.ndarray
    texture: np.ndarray

    @staticmethod
    def read(file: Path) -> DrawnMesh:
        content = file.read_bytes()
        size = int.from_bytes(content[12:16], "little")
        document, binary = json.loads(content[20 : 20 + size]), content[28 + size :]
        part = lambda view: binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
        views, accessors = document["bufferViews"], document["accessors"]
        primitive = document["meshes"][0]["primitives"][0]
        array = lambda number, kind, width: np.frombuffer(part(views[accessors[number]["bufferView"]]), kind).reshape(
            -1, width
        )
        x, y, z = array(primitive["attributes"]["POSITION"], "<f4", 3).T
        picture = Image.open(io.BytesIO(part(views[document["images"][0]["bufferView"]])))
        return DrawnMesh(
            np.ascontiguousarray(np.stack([x, -z, y], 1)),
            array(primitive["indices"], "<u4", 3).astype(np.int32),
            array(primitive["attributes"]["TEXCOORD_0"], "<f4", 2),
            np.asarray(picture, np.float32) / 255,
        )

    def drawn(self, camera: Camera, samples: int = 4) -> tuple[np.ndarray, np.ndarray]:
        """(height, width, 3) sRGB, and (height, width) where the mesh covers the pixel wholly.

        Args:
            camera: From where.
            samples: A side of a pixel: photos show what lies anywhere in it.
        """
        height, width = camera.intrinsics.height, camera.intrinsics.width
        colors, covers = self._rays(camera.scaled_to(width * samples, height * samples))
        parts = (height, samples, width, samples)
        return colors.reshape(*parts, 3).mean((1, 3)), covers.reshape(parts).all((1, 3))

    def _rays(self, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
        origins, directions = camera.rays()
        directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        hit, weights = first_hits(self.positions, self.faces, origins, directions)
        corners = self.uvs[self.faces[np.maximum(hit, 0)]]
        colors = _bilinear(self.texture, (corners * weights[..., None]).sum(1))
        shape = (camera.intrinsics.height, camera.intrinsics.width)
        return colors.reshape(*shape, 3), (hit >= 0).reshape(shape)


def _bilinear(texture: np.ndarray, at: np.ndarray) -> np.ndarray:
    height, width = texture.shape[:2]
    x, y = (at * [width, height] - 0.5).clip(0, [width - 1.001, height - 1.001]).T
    column, row = x.astype(int), y.astype(int)
    across, down = (x - column)[:, None], (y - row)[:, None]
    above = texture[row, column] * (1 - across) + texture[row, column + 1] * across
    below = texture[row + 1, column] * (1 - across) + texture[row + 1, column + 1] * across
    return above * (1 - down) + below * down
