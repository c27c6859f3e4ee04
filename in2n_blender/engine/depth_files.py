"""Pictures of depth and of its confidence: what PIL opens, EXR, and the compressed numbers of Record3D."""

from __future__ import annotations

import struct
from pathlib import Path

import lzfse
import numpy as np
import OpenEXR

from .pictures import MOST_PIXELS, opened

NUMBERS = {".depth": np.dtype("<f4"), ".conf": np.dtype("u1")}  # what Record3D's files are of
CHANNELS = ("Z", "depth", "R", "Y", "V")  # of an EXR, the first that is there
# LZFSE, as lzfse_internal.h of its reference has it: what a block may hold, and how far a match reaches
BLOCK_ENDS, STORED, SHORT, LONG = b"bvx$", b"bvx-", b"bvxn", b"bvx2"
MOST_OF_A_MATCH = 2359
MOST_BYTES = 1 << 30  # that a file could grow to


def one_channel(path: Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """The values of a picture of one channel.

    Args:
        path: A picture, an EXR, or a file of NUMBERS.
        shape: (width, height), up to a scale, where the file does not say it.

    Returns:
        (height, width) float64.

    Raises:
        ValueError: It has several channels, is too large, or of another shape.
        OSError, SyntaxError and others of `pictures.BROKEN`: It is broken.
    """
    if path.suffix.lower() in NUMBERS:
        return _numbers(path, NUMBERS[path.suffix.lower()], shape)
    if path.suffix.lower() == ".exr":
        return _exr(path)
    with opened(path) as picture:
        if len(picture.getbands()) != 1 or picture.mode == "P":
            raise ValueError("a picture of one channel is needed")
        return np.asarray(picture if picture.mode != "1" else picture.convert("L"), np.float64)


def _exr(path: Path) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        (left, top), (right, bottom) = OpenEXR.File(str(path), header_only=True).header()["dataWindow"]
        if (int(right) - int(left) + 1) * (int(bottom) - int(top) + 1) > MOST_PIXELS:
            raise ValueError("it has too many pixels")
        channels = OpenEXR.File(str(path), separate_channels=True).channels()
    except (KeyError, TypeError, MemoryError) as error:
        raise ValueError(f"it is no picture ({error})") from None
    name = next((name for name in CHANNELS if name in channels), next(iter(channels), None))
    if name is None:
        raise ValueError("it has no channel")
    pixels = channels[name].pixels
    if np.ndim(pixels) != 2:  # of a file that is cut short
        raise ValueError("its pixels cannot be read")
    return np.asarray(pixels, np.float64)


def _numbers(path: Path, kind: np.dtype, shape: tuple[int, int] | None) -> np.ndarray:
    if not shape:
        raise ValueError("its width and height are not known")
    packed = path.read_bytes()
    if _most_bytes(packed) > MOST_BYTES:
        raise ValueError("it would become too large")
    try:
        values = np.frombuffer(lzfse.decompress(packed), kind)
    except (lzfse.error, MemoryError):
        raise ValueError("it cannot be decompressed") from None
    width = round((len(values) * shape[0] / shape[1]) ** 0.5)
    if not width or len(values) % width or abs(len(values) // width * shape[0] - width * shape[1]) > max(shape):
        raise ValueError(f"it holds {len(values)} numbers, which is no picture of {shape[0]} x {shape[1]}")
    with np.errstate(invalid="ignore"):  # of what is no number
        return values.reshape(-1, width).astype(np.float64)


def _most_bytes(packed: bytes) -> int:
    """How much it can become. Its decoder takes memory as it goes, and believes no block's own word for it."""
    at = most = 0
    while (kind := packed[at : at + 4]) != BLOCK_ENDS:
        if kind == STORED:
            (size,) = struct.unpack_from("<I", packed, at + 4)
            at, most = at + 8 + size, most + size
        elif kind == SHORT:
            size, payload = struct.unpack_from("<2I", packed, at + 4)
            at, most = at + 12 + payload, most + size
        elif kind == LONG:
            one, two, three = struct.unpack_from("<3Q", packed, at + 8)
            bits = lambda value, first: value >> first & 0xFFFFF
            most += bits(one, 0) + bits(one, 40) * MOST_OF_A_MATCH
            at += max(three & 0xFFFFFFFF, 32) + bits(one, 20) + bits(two, 40)
        else:
            raise ValueError("it is cut short or not compressed as Record3D does")
    return most
