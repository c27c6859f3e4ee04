"""A mesh with vertex colours as binary glTF 2.0.

Written here because trimesh writes neither glTF's linear colours in more than 8 bits nor an unlit material beside them.
"""

from __future__ import annotations

import json
import struct

import numpy as np

from ...scene.srgb import srgb_to_linear

FLOAT, UNSIGNED_SHORT, UNSIGNED_INT = 5126, 5123, 5125
VERTICES, INDICES = 34962, 34963


def glb_bytes(
    positions: np.ndarray, normals: np.ndarray, colors_srgb: np.ndarray, faces: np.ndarray, name: str
) -> bytes:
    """A GLB file (glTF 2.0) with one unlit mesh: the colours of a capture hold its light already.

    Written with y up, as glTF wants, so that Blender's importer, which turns y up into z up, gives the capture's
    coordinates back.

    Args:
        positions: (vertices, 3) with z up, as in the capture.
        normals: (vertices, 3) with z up, of unit length.
        colors_srgb: (vertices, 3) in [0, 1]; in the file linear, in 16 bits.
        faces: (faces, 3) indices of vertices.
        name: Of the node, the mesh and the material.

    Returns:
        The file's content.
    """
    linear = np.round(srgb_to_linear(np.clip(colors_srgb, 0, 1)) * 65535).astype("<u2")
    opaque = np.column_stack([linear, np.full(len(linear), 65535, "<u2")])
    arrays = (
        (_y_up(positions), FLOAT, "VEC3", VERTICES),
        (_y_up(normals), FLOAT, "VEC3", VERTICES),
        (opaque, UNSIGNED_SHORT, "VEC4", VERTICES),
        (np.ascontiguousarray(faces, "<u4").reshape(-1), UNSIGNED_INT, "SCALAR", INDICES),
    )
    views, accessors, offset = [], [], 0
    for array, component, kind, target in arrays:
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": array.nbytes, "target": target})
        accessors.append({"bufferView": len(views) - 1, "componentType": component, "count": len(array), "type": kind})
        offset += array.nbytes  # every array's size is a multiple of 4, as alignment wants
    accessors[0] |= {"min": arrays[0][0].min(0).tolist(), "max": arrays[0][0].max(0).tolist()}
    accessors[2]["normalized"] = True
    primitive = {"attributes": {"POSITION": 0, "NORMAL": 1, "COLOR_0": 2}, "indices": 3, "material": 0}
    document = {
        "asset": {"version": "2.0", "generator": "in2n_blender"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": name}],
        "meshes": [{"name": name, "primitives": [primitive]}],
        "materials": [
            {
                "name": name,
                "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0},
                "extensions": {"KHR_materials_unlit": {}},
            }
        ],
        "extensionsUsed": ["KHR_materials_unlit"],
        "buffers": [{"byteLength": offset}],
        "bufferViews": views,
        "accessors": accessors,
    }
    return _container(json.dumps(document).encode(), b"".join(array.tobytes() for array, *_ in arrays))


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
