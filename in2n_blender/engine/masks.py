"""Masks of photos, normalised as their photos are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from ..scene.camera import Intrinsics
from ..scene.capture import DARK, Frame, PhotoMask
from .photos import UnreadablePhoto, decode, normalise_photo

COUNTS = 250  # of 255: a normalised pixel into which anything of an ignored one was mixed is ignored too


def normalised_mask(frame: Frame, target: Intrinsics, check: Callable[[], None] = lambda: None) -> np.ndarray:
    """Which pixels of the normalised photo count.

    Args:
        frame: With its mask, which may be of another size than the photo, but not of another shape.
        target: The normalised photo's, as `pinhole_for(lens).fitted(longest_side)`.
        check: Called a few times a second; may raise.

    Returns:
        (target.height, target.width) bool.

    Raises:
        UnreadablePhoto: The mask is broken, or of another shape.
    """
    counts, k = counting_pixels(frame.mask, frame.orientation), frame.lens.intrinsics
    height, width = counts.shape
    if not k.has_shape(width, height):
        raise UnreadablePhoto(f"{width} x {height} pixels, where the photo has {k.width} x {k.height}")
    picture = np.where(counts, np.uint8(255), np.uint8(0))
    if (width, height) != (k.width, k.height):
        picture = np.asarray(Image.fromarray(picture).resize((k.width, k.height), Image.Resampling.NEAREST))
    longest, given = max(target.width, target.height), picture[..., None]
    made = normalise_photo(given, frame.lens, target, longest, check)
    if made is given:
        return counts if counts.shape == made.shape[:2] else made[..., 0] > 0
    # resampling leaves traces of a pixel beside it, as ringing: what is beside an ignored pixel is ignored too
    counting = Image.fromarray(np.where(made[..., 0] >= COUNTS, np.uint8(255), np.uint8(0)))
    return np.asarray(counting.filter(ImageFilter.MinFilter(3))) > 0


def counting_pixels(mask: PhotoMask, orientation: int) -> np.ndarray:
    """Which pixels count, as the mask says. JPEG leaves no colour as it was.

    Args:
        mask: The file, and what in it is to be left alone.
        orientation: EXIF's, by which the photo is turned.

    Returns:
        (height, width) bool, of the mask's own size.

    Raises:
        UnreadablePhoto: The mask is broken.
    """
    image = decode(mask.path, orientation)
    grey = image[..., :3].max(-1)
    least = 128 if mask.path.suffix.lower() in (".jpg", ".jpeg") else 1
    return grey >= least if mask.ignores == DARK else grey < least
