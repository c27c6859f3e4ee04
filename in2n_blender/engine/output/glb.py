"""A mesh with vertex colours or a texture as binary glTF 2.0.

Written here because trimesh writes neither glTF's linear colours in more than 8 bits nor an unlit material beside them.
"""

from __future__ import annotations

import json
import struct

import numpy as np

from ...scene.srgb import srgb_to_linear
from .surface import Surface

FLOAT, UNSIGNED_SHORT, UNSIGNED_INT = 5126, 5123, 5125
VERTICES, INDICES = 34962, 34963
LINEAR, LINEAR_MIPMAP_LINEAR, CLAMP = 9729, 9987, 33071


def colored_glb(mesh: Surface, colors_srgb: np.ndarray, name: str) -> bytes:
    """A GLB file (glTF 2.0) with one unlit mesh of vertex colours: the colours of a capture hold its light already.

    Written with y up, as glTF wants, so that Blender's importer, which turns y up into z up, gives the capture's
    coordinates back.

    Args:
        mesh: z up, as in the capture.
        colors_srgb: (vertices, 3) in [0, 1]; in the file linear, in 16 bits.
        name: Of the node, the mesh and the material.

    Returns:
        The file's content.
    """
    linear = np.round(srgb_to_linear(np.clip(colors_srgb, 0, 1)) * 65535).astype("<u2")
    opaque = np.column_stack([linear, np.full(len(linear), 65535, "<u2")])
    return _glb(mesh, "COLOR_0", (opaque, UNSIGNED_SHORT, "VEC4", VERTICES), None, name)


def textured_glb(mesh: Surface, uvs: np.ndarray, png: bytes, name: str) -> bytes:
    """A GLB file as `colored_glb` makes, with a texture.

    Args:
        mesh: z up, as in the capture.
        uvs: (vertices, 2) in [0, 1], v upwards.
        png: The texture as an 8-bit sRGB PNG file, its first row the highest v.
        name: Of the node, the mesh, the material and the picture.

    Returns:
        The file's content.
    """
    downwards = np.ascontiguousarray(np.stack([uvs[:, 0], 1 - uvs[:, 1]], 1), "<f4")
    return _glb(mesh, "TEXCOORD_0", (downwards, FLOAT, "VEC2", VERTICES), png, name)


def _glb(mesh: Surface, attribute: str, values: tuple, png: bytes | None, name: str) -> bytes:
    arrays = (
        (_y_up(mesh.vertices), FLOAT, "VEC3", VERTICES),
        (_y_up(mesh.normals), FLOAT, "VEC3", VERTICES),
        values,
        (np.ascontiguousarray(mesh.faces, "<u4").reshape(-1), UNSIGNED_INT, "SCALAR", INDICES),
    )
    views, accessors, offset = [], [], 0
    for array, component, kind, target in arrays:
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": array.nbytes, "target": target})
        accessors.append({"bufferView": len(views) - 1, "componentType": component, "count": len(array), "type": kind})
        offset += array.nbytes  # every array's size is a multiple of 4, as alignment wants
    accessors[0] |= {"min": arrays[0][0].min(0).tolist(), "max": arrays[0][0].max(0).tolist()}
    if values[1] == UNSIGNED_SHORT:
        accessors[2]["normalized"] = True
    primitive = {"attributes": {"POSITION": 0, "NORMAL": 1, attribute: 2}, "indices": 3, "material": 0}
    surface = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    document = {
        "asset": {"version": "2.0", "generator": "in2n_blender"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": name}],
        "meshes": [{"name": name, "primitives": [primitive]}],
        "materials": [
            {
                "name": name,
                "pbrMetallicRoughness": surface,
                "extensions": {"KHR_materials_unlit": {}},
                "doubleSided": True,
            }
        ],
        "extensionsUsed": ["KHR_materials_unlit"],
        "bufferViews": views,
        "accessors": accessors,
    }
    binary = b"".join(array.tobytes() for array, *_ in arrays)
    if png is not None:
        surface["baseColorTexture"] = {"index": 0}
        document["textures"] = [{"source": 0, "sampler": 0}]
        document["samplers"] = [
            {"magFilter": LINEAR, "minFilter": LINEAR_MIPMAP_LINEAR, "wrapS": CLAMP, "wrapT": CLAMP}
        ]
        document["images"] = [{"bufferView": len(views), "mimeType": "image/png", "name": name}]
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": len(png)})
        binary += png
    document["buffers"] = [{"byteLength": len(binary)}]
    return _container(json.dumps(document).encode(), binary)


def _y_up(vectors: np.ndarray) -> np.ndarray:
    x, y, z = np.asarray(vectors, np.float32).T
    return np.ascontiguousarray(np.stack([x, z, -y], 1), "<f4")


def _container(document: bytes, binary: bytes) -> bytes:
    document += b" " * (-len(document) % 4)
    binary += b"\0" * (-len(binary) % 4)
    total = 12 + 8 + len(document) + 8 + len(binary)
    return b"".join(
        [
            struct.pack("<4sII", b"glTF", 2, total),
            struct.pack("<I4s", len(document), b"JSON"),
            document,
            struct.pack("<I4s", len(binary), b"BIN\0"),
            binary,
        ]
    )
