"""The size and EXIF orientation of a photo from the first bytes of its file: PNG, JPEG, TIFF, WebP, BMP and GIF.

Blender's Python has no image library, and cameras must be placed before the engine exists.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

ORIENTATION, IMAGE_WIDTH, IMAGE_LENGTH = 0x0112, 0x0100, 0x0101

RAW = (".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2")  # some of them begin as TIFF does

_START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}


@dataclass(frozen=True)
class ImageHeader:
    """What a photo's file says of it.

    Attributes:
        width: Pixels as stored.
        height: Pixels as stored.
        orientation: EXIF's 1 to 8, what a viewer does to show the photo upright (1: nothing).
    """

    width: int
    height: int
    orientation: int = 1

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) after the orientation was applied; 5 to 8 are quarter turns."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_image_header(path: Path) -> ImageHeader | None:
    """Read the header of a PNG, JPEG, TIFF, WebP, BMP or GIF.

    Args:
        path: The photo.

    Returns:
        The header, None for other formats.

    Raises:
        ValueError: The file is cut short or broken.
        OSError: It cannot be read.
    """
    with open(path, "rb") as file:
        start = file.read(30)
        file.seek(0)
        try:
            if start[:8] == b"\x89PNG\r\n\x1a\n":
                header = _read_png(file)
            elif start[:3] == b"\xff\xd8\xff":
                header = _read_jpeg(file)
            elif start[:4] in (b"II*\x00", b"MM\x00*") and Path(path).suffix.lower() not in RAW:
                header = _read_tiff(file.read())
            elif start[:4] == b"RIFF" and start[8:12] == b"WEBP":
                header = _read_webp(start, file)
            elif start[:6] in (b"GIF87a", b"GIF89a"):
                header = ImageHeader(*struct.unpack_from("<HH", start, 6))
            elif start[:2] == b"BM":
                header = _read_bmp(start)
            elif not start:
                raise ValueError("the file is empty")
            else:
                return None
        except (struct.error, IndexError):
            raise ValueError("the file is cut short") from None
    if header.width < 1 or header.height < 1:
        raise ValueError("the image has no pixels")
    return header


def _read_png(file: BinaryIO) -> ImageHeader:
    file.seek(8)
    size, orientation = (0, 0), 1
    while True:
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"IHDR":
            size = struct.unpack(">II", file.read(8))
            file.seek(length - 8 + 4, 1)
        elif kind == b"eXIf":
            orientation = _exif_orientation(file.read(length))
            file.seek(4, 1)
        elif kind in (b"IDAT", b"IEND"):
            return ImageHeader(*size, orientation)
        else:
            file.seek(length + 4, 1)


def _read_webp(start: bytes, file: BinaryIO) -> ImageHeader:
    """RFC 9649: lossy (VP8), lossless (VP8L) or extended (VP8X), which may carry EXIF at its end."""
    kind = start[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", start, 26)
        return ImageHeader(width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", start, 21)
        return ImageHeader((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind != b"VP8X":
        raise ValueError("not a valid WebP")
    width, height = (int.from_bytes(start[at : at + 3], "little") + 1 for at in (24, 27))
    orientation = 1
    if start[20] & 0x08:  # it has EXIF
        file.seek(12)
        while len(head := file.read(8)) == 8:
            name, length = struct.unpack("<4sI", head)
            if name == b"EXIF":
                orientation = _exif_orientation(file.read(length).removeprefix(b"Exif\x00\x00"))
                break
            file.seek(length + length % 2, 1)
    return ImageHeader(width, height, orientation)


def _read_bmp(start: bytes) -> ImageHeader:
    (size,) = struct.unpack_from("<I", start, 14)
    layout = "<HH" if size == 12 else "<ii"  # the height is negative where the rows go down
    width, height = struct.unpack_from(layout, start, 18)
    return ImageHeader(width, abs(height))


def foreign_format(path: Path) -> str | None:
    """What a picture is whose size nothing here reads. HEIC the engine can open.

    Args:
        path: The file.

    Returns:
        "OpenEXR", "HEIC", "JPEG XL" or "Camera raw"; None for anything else.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError:
        return None
    if start[:4] == b"\x76\x2f\x31\x01":
        return "OpenEXR"
    if start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"):
        return "HEIC"
    if start[:2] == b"\xff\x0a" or start[4:8] == b"JXL ":
        return "JPEG XL"
    return "Camera raw" if Path(path).suffix.lower() in RAW else None


def _read_jpeg(file: BinaryIO) -> ImageHeader:
    file.seek(2)
    orientation = 1
    while True:
        if file.read(1) != b"\xff":
            raise ValueError("not a valid JPEG")
        marker = 0xFF
        while marker == 0xFF:
            marker = file.read(1)[0]
        if marker in _WITHOUT_LENGTH:
            continue
        if marker in (0xD9, 0xDA):
            raise ValueError("a JPEG without a frame")
        (length,) = struct.unpack(">H", file.read(2))
        if marker in _START_OF_FRAME:
            _, height, width = struct.unpack(">BHH", file.read(5))
            return ImageHeader(width, height, orientation)
        body = file.read(length - 2)
        if marker == 0xE1 and body.startswith(b"Exif\x00\x00"):
            orientation = _exif_orientation(body[6:])


def _read_tiff(data: bytes) -> ImageHeader:
    entries = _first_directory(data)
    return (
        ImageHeader(entries[IMAGE_WIDTH], entries[IMAGE_LENGTH], _valid_orientation(entries))
        if {IMAGE_WIDTH, IMAGE_LENGTH} <= entries.keys()
        else ImageHeader(0, 0)
    )


def _exif_orientation(tiff: bytes) -> int:
    try:
        return _valid_orientation(_first_directory(tiff))
    except (struct.error, ValueError):  # a photo with broken EXIF is still a photo
        return 1


def _valid_orientation(entries: dict[int, int]) -> int:
    value = entries.get(ORIENTATION, 1)
    return value if 1 <= value <= 8 else 1


def _first_directory(tiff: bytes) -> dict[int, int]:
    """Tag -> value of the short and long single-value entries of the first image file directory (TIFF 6.0, section
    2)."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        raise ValueError("not a TIFF structure")
    (offset,) = struct.unpack_from(order + "I", tiff, 4)
    (count,) = struct.unpack_from(order + "H", tiff, offset)
    entries = {}
    for i in range(count):
        at = offset + 2 + 12 * i
        tag, kind, number = struct.unpack_from(order + "HHI", tiff, at)
        if number == 1 and kind in (3, 4):
            (entries[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), tiff, at + 8)
    return entries
