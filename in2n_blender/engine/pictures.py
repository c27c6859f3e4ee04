"""Rendered views as image files: 8-bit sRGB PNG, and EXR with linear colour, alpha and depth.

A file can carry the hash of what it was made from (`workspace.provenance`), so that it is known again by itself.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import OpenEXR
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from ..scene.errors import In2nError
from ..scene.srgb import srgb_to_linear
from ..workspace.files import atomic_path

# Blender's own depth where a ray meets nothing.
NOTHING = 1e10
MOST_PIXELS = 1 << 25  # of a picture that is no photo, such as a preview or a frame
# what PIL raises on files that are cut short or not what they seem
BROKEN = (OSError, ValueError, SyntaxError, EOFError, RuntimeError, struct.error, Image.DecompressionBombError)
PROVENANCE = "in2n_provenance"  # the name of a PNG's text and of an EXR's attribute


@dataclass(frozen=True)
class Picture:
    """A rendered view ready for files.

    Attributes:
        rgb_srgb: (height, width, 3) float32 in [0, 1], not premultiplied.
        alpha: (height, width) float32.
        depth: (height, width) float32 along the camera's z axis, in capture units until `scaled`; NOTHING where a ray
            meets nothing.
    """

    rgb_srgb: np.ndarray
    alpha: np.ndarray
    depth: np.ndarray

    @staticmethod
    def of(view, transparent: bool) -> Picture:
        """From a RenderedView, whose colours are over its background.

        Args:
            view: With rgb_srgb (height, width, 3), alpha and depth (height, width).
            transparent: Whether the capture has alpha. Its background is white and is taken out of the colours again;
                any other capture shows its own background, so that its pictures are opaque.

        Returns:
            Straight colours, and NOTHING as the depth where a transparent capture's alpha is below one half.

        Raises:
            In2nError: "not_finite".
        """
        rgb, alpha, depth = (np.asarray(array, np.float32) for array in (view.rgb_srgb, view.alpha, view.depth))
        if not (np.isfinite(rgb).all() and np.isfinite(alpha).all()):
            raise not_finite("A rendered view")
        if not transparent:
            return Picture(rgb, np.ones_like(alpha), depth)
        foreground = rgb - (1 - alpha)[..., None]
        straight = np.clip(foreground / np.maximum(alpha, 1e-4)[..., None], 0, 1)
        return Picture(straight, alpha, np.where(alpha < 0.5, np.float32(NOTHING), depth))

    def scaled(self, unit_scale: float) -> Picture:
        """The picture with its depth in other units.

        Args:
            unit_scale: Of the other units to a capture unit.

        Returns:
            The picture itself for 1; NOTHING stays NOTHING.
        """
        if unit_scale == 1:
            return self
        depth = np.where(self.depth < NOTHING, self.depth * np.float32(unit_scale), self.depth)
        return replace(self, depth=depth)

    def over(self, background: float = 1.0) -> np.ndarray:
        """The picture over a grey.

        Args:
            background: The grey, sRGB in [0, 1]; 1 is white.

        Returns:
            (height, width, 3) sRGB in [0, 1].
        """
        return self.rgb_srgb * self.alpha[..., None] + background * (1 - self.alpha[..., None])


def not_finite(what: str) -> In2nError:
    """The error for a picture with infinite values or none at all.

    Args:
        what: The picture, as the beginning of a sentence: "A rendered view".

    Returns:
        In2nError "not_finite", to be raised.
    """
    return In2nError(
        "not_finite",
        f"{what} has values that are no numbers.",
        "The model, the guidance or the reconstruction may be damaged: choose other ones.",
    )


def to_bytes(image: np.ndarray) -> np.ndarray:
    """An image in 8 bits, rounded.

    Args:
        image: Of any shape, in [0, 1]; what lies outside is clipped.

    Returns:
        uint8 of the same shape.
    """
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


class _AsLongAsItIs(io.BufferedReader):
    """A file of which no more is asked for than is there: a chunk says how long it is, up to 4 GiB, and as much memory
    would be taken before anything is read."""

    def __init__(self, file):
        super().__init__(file)
        self._length = os.fstat(file.fileno()).st_size

    def read(self, size: int | None = -1) -> bytes:
        left = max(self._length - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


@contextmanager
def opened(path: Path, most: int = MOST_PIXELS) -> Iterator[Image.Image]:
    """A picture that is not decoded yet, and is not so large that it would fill the memory.

    Args:
        path: Of an image file, which may be a stranger's.
        most: Pixels.

    Yields:
        The picture, as PIL opens it.

    Raises:
        ValueError: It has more pixels.
        OSError, SyntaxError, PIL.Image.DecompressionBombError: It cannot be read.
    """
    with open(path, "rb", buffering=0) as file, _AsLongAsItIs(file) as bounded, Image.open(bounded) as picture:
        if picture.width * picture.height > most:
            raise ValueError(f"{picture.width} x {picture.height} pixels, more than {most // 10**6} million")
        yield picture


def size_within(width: int, height: int, longest_side: int) -> tuple[int, int]:
    """The size of a picture scaled down, never up, to at most so many pixels on its longer side.

    Args:
        width: In pixels.
        height: In pixels.
        longest_side: In pixels.

    Returns:
        (width, height), at least 1 each.
    """
    scale = min(1.0, longest_side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def write_scaled(photo: np.ndarray, size: tuple[int, int], path: Path) -> None:
    """A photo as features are looked for in it: scaled down, as JPEG, without alpha.

    Args:
        photo: (height, width, 3 or 4) uint8.
        size: (width, height) of what is written.
        path: Of the file.

    Raises:
        In2nError: "disk_full", "cannot_write".
    """
    picture = Image.fromarray(np.ascontiguousarray(photo[..., :3])).resize(size, Image.Resampling.LANCZOS)
    with atomic_path(path) as temporary:
        write_jpeg(picture, temporary, quality=95)


def write_jpeg(picture: Image.Image, file: Path, **how) -> None:
    """Write a JPEG. PIL lets one be cut short where the disk fills up, and says nothing.

    Args:
        picture: RGB or grey.
        file: Written directly: see `atomic_path`.
        how: As PIL has it: quality, subsampling.

    Raises:
        OSError: The file cannot be written whole.
    """
    whole = io.BytesIO()
    picture.save(whole, "JPEG", **how)
    file.write_bytes(whole.getbuffer())


def read_srgb(path: Path) -> np.ndarray:
    """Read a picture, whatever its alpha.

    Args:
        path: Of an image file.

    Returns:
        (height, width, 3) float32 sRGB in [0, 1].

    Raises:
        OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError: It cannot be read.
    """
    with opened(path) as picture:
        return np.asarray(picture.convert("RGB"), np.float32) / 255


def save_srgb(path: Path, image, made_from: str | None = None) -> None:
    """Write a picture as 8-bit PNG.

    Args:
        path: The file; replaced whole.
        image: (height, width, 3) sRGB array or tensor in [0, 1], on the CPU.
        made_from: A provenance's hash, to go into the file.

    Raises:
        In2nError: "disk_full", "cannot_write".
    """
    _save_png(path, to_bytes(np.asarray(image)), made_from)


def png_bytes(image_srgb: np.ndarray) -> bytes:
    """An image as an 8-bit PNG file.

    Args:
        image_srgb: (height, width, 3) float in [0, 1].

    Returns:
        The file's content.
    """
    content = io.BytesIO()
    Image.fromarray(to_bytes(image_srgb)).save(content, "png")
    return content.getvalue()


def write_png(path: Path, picture: Picture, made_from: str | None = None) -> None:
    """Write a rendered view as 8-bit sRGB PNG: RGB where it is opaque, else RGBA not premultiplied.

    Args:
        path: The file; replaced whole.
        picture: The view.
        made_from: A provenance's hash, to go into the file.

    Raises:
        In2nError: "disk_full", "cannot_write".
    """
    pixels = to_bytes(picture.rgb_srgb)
    if picture.alpha.min() < 1:
        pixels = np.dstack([pixels, to_bytes(picture.alpha)])
    _save_png(path, pixels, made_from)


def _save_png(path: Path, pixels: np.ndarray, made_from: str | None) -> None:
    text = PngImagePlugin.PngInfo()
    if made_from:
        text.add_text(PROVENANCE, made_from)
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, pnginfo=text)


def write_exr(path: Path, picture: Picture, made_from: str | None = None) -> None:
    """Write a rendered view as one-part EXR: R, G, B, A (half, linear Rec. 709, premultiplied) and Depth.Z (float).

    Blender's Image node offers this as Combined, Alpha and Depth; as a texture, and from 4.5 on as a strip, it is a
    plain image.

    Args:
        path: The file; replaced whole.
        picture: The view; its depth is written as it is.
        made_from: A provenance's hash, to go into the file.

    Raises:
        In2nError: "disk_full", "cannot_write".
    """
    linear = srgb_to_linear(picture.rgb_srgb) * picture.alpha[..., None]
    rgba = np.dstack([linear, picture.alpha]).astype(np.float16)
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    if made_from:
        header[PROVENANCE] = made_from
    with atomic_path(path) as temporary:
        channels = {
            "RGBA": np.ascontiguousarray(rgba),
            "Depth.Z": np.ascontiguousarray(picture.depth, dtype=np.float32),
        }
        OpenEXR.File(header, channels).write(str(temporary))


def provenance_of(path: Path) -> str | None:
    """The provenance's hash that a PNG or EXR file carries.

    Args:
        path: The file, an EXR where its name ends in .exr.

    Returns:
        40 hexadecimal digits; None where the file carries none, is damaged or not there.
    """
    try:
        if path.suffix == ".exr":
            found = OpenEXR.File(str(path), header_only=True).header().get(PROVENANCE) if path.is_file() else None
        else:
            with Image.open(path) as image:
                found = image.info.get(PROVENANCE)
    except BROKEN:
        return None
    return found if isinstance(found, str) else None


BACKGROUND, INK = (24, 24, 26), (225, 225, 225)
GAP, LABEL_HEIGHT = 6, 26


def contact_strip(images: Sequence[np.ndarray], labels: Sequence[str], side: int) -> Image.Image:
    """Pictures side by side, each with its label in a corner.

    Args:
        images: (height, width, 3) sRGB each, float in [0, 1] or uint8.
        labels: As many.
        side: Pixels of each picture's longer side.

    Returns:
        An RGB image, as high as the highest of the pictures.
    """
    pictures = [fitted(image, side) for image in images]
    strip = Image.new(
        "RGB", (sum(p.width for p in pictures) + GAP * (len(pictures) - 1), max(p.height for p in pictures)), BACKGROUND
    )
    draw, font, left = ImageDraw.Draw(strip), ImageFont.load_default(size=14), 0
    for picture, label in zip(pictures, labels):
        strip.paste(picture, (left, 0))
        plate = draw.textbbox((left + 14, 12), label, font)
        draw.rounded_rectangle((plate[0] - 7, plate[1] - 5, plate[2] + 7, plate[3] + 5), 5, BACKGROUND)
        draw.text((left + 14, 12), label, INK, font)
        left += picture.width + GAP
    return strip


def fitted(image: np.ndarray, side: int) -> Image.Image:
    """An image resampled so that its longer side has so many pixels.

    Args:
        image: (height, width, 3) sRGB, float in [0, 1] or uint8.
        side: Pixels of the longer side; by Lanczos where that is fewer than now, bicubic where it is more.

    Returns:
        An RGB image; unchanged where it has that size.
    """
    image = np.asarray(image)
    picture = Image.fromarray(image if image.dtype == np.uint8 else to_bytes(image))
    scale = side / max(picture.size)
    if scale == 1:
        return picture
    size = tuple(max(1, round(length * scale)) for length in picture.size)
    return picture.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)
