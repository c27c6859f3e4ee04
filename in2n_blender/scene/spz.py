"""Gaussian splats as .spz (Niantic, github.com/nianticlabs/spz), version 3: a tenth of the .ply, read by Blender 5.3.

One gzip stream: a header of 16 bytes, then all positions (24 bits a coordinate, fixed point), opacities, colours,
logarithms of scales, rotations (their three smallest numbers, 10 bits each) and higher harmonics, a byte each.
"""

from __future__ import annotations

import gzip
import struct

import numpy as np

from .splats import DIRECT, ROTATION, SCALES, Splats

MAGIC, VERSION = 0x5053474E, 3
MOST_FRACTION_BITS = 20
COLOR_SCALE = 0.15
DEGREES = {0: 0, 9: 1, 24: 2, 45: 3}  # by the number of higher harmonics
# .spz is right, up, back, as glTF; the capture's z is up.
Z_UP_TO_Y_UP = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


def spz_bytes(splats: Splats) -> bytes:
    """Splats as a .spz file.

    Args:
        splats: With z up, in the coordinates that they are written in, below 4 million units from the origin.

    Returns:
        The file's content; y is up in it.
    """
    splats = splats.transformed(Z_UP_TO_Y_UP)
    rest = [name for name in splats.columns if name.startswith("f_rest_")]
    degree, count = DEGREES[len(rest)], len(splats)
    farthest = float(np.abs(splats.means).max(initial=1e-3))
    bits = int(np.clip(np.floor(23 - np.log2(farthest * 1.001)), 1, MOST_FRACTION_BITS))
    header = struct.pack("<IIIBBBB", MAGIC, VERSION, count, degree, bits, 0, 0)
    sections = [
        _fixed_point(splats.means, bits),
        _bytes(splats.opacities * 255),
        _bytes(_columns(splats, DIRECT) * COLOR_SCALE * 255 + 127.5),
        _bytes((_columns(splats, SCALES) + 10) * 16),
        _smallest_three(_columns(splats, ROTATION)),
    ]
    if rest:  # channel after channel there, coefficient after coefficient here
        values = _columns(splats, [f"f_rest_{i}" for i in range(len(rest))]).reshape(count, 3, -1)
        sections.append(_bytes(values.transpose(0, 2, 1) * 128 + 128))
    return gzip.compress(header + b"".join(section.tobytes() for section in sections), 6, mtime=0)


def _columns(splats: Splats, names) -> np.ndarray:
    return np.stack([splats.columns[name] for name in names], -1)


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _fixed_point(means: np.ndarray, bits: int) -> np.ndarray:
    fixed = np.clip(np.round(means.astype(np.float64) * (1 << bits)), -(1 << 23), (1 << 23) - 1)
    return np.ascontiguousarray(fixed.astype("<i4")[..., None].view(np.uint8)[..., :3])


def _smallest_three(quaternions: np.ndarray) -> np.ndarray:
    """Which of x, y, z, w is largest, and the others over 1 / sqrt(2): a sign and 9 bits each."""
    turned = np.roll(quaternions, -1, axis=1).astype(np.float64)
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    largest = np.abs(turned).argmax(1)
    turned *= np.where(np.take_along_axis(turned, largest[:, None], 1) < 0, -1.0, 1.0)
    packed = largest.astype(np.uint32)
    size = np.minimum(np.round(np.abs(turned) * np.sqrt(2) * 511), 511).astype(np.uint32)
    for axis in range(4):
        more = packed << np.uint32(10) | (turned[:, axis] < 0).astype(np.uint32) << np.uint32(9) | size[:, axis]
        packed = np.where(largest == axis, packed, more)
    return packed.astype("<u4")
