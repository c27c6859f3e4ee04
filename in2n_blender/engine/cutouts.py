"""What the transparent pixels of photos mean: nothing is there, or what is there is to be left alone.

Things cut out of their photos (renders before nothing, turntables) are transparent all around: there the scene is
empty, and learnt so. Anywhere else alpha is a mask, as photogrammetry programs write it, of what walked through.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from ..scene.capture import View
from ..workspace.files import atomic_path
from .masks import COUNTS

CUT_OUT = 0.5  # share of a photo's border that is transparent, from which on it is a thing cut out
MOSTLY = 0.5  # share of the photos that must be


@dataclass(frozen=True)
class Alpha:
    """Of one photo.

    Attributes:
        used: Whether any pixel is transparent.
        around: The share of the border that is.
    """

    used: bool
    around: float

    @staticmethod
    def of(image: np.ndarray) -> Alpha | None:
        """What alpha a photo has.

        Args:
            image: (height, width, 3 or 4) uint8.

        Returns:
            None where it has none.
        """
        if image.shape[2] != 4:
            return None
        clear = image[..., 3] < COUNTS
        border = np.concatenate([clear[0], clear[-1], clear[:, 0], clear[:, -1]])
        return Alpha(bool(clear.any()), float(border.mean()))


def cut_out(found: dict[str, Alpha], photos: int) -> bool:
    """Whether photos show a thing cut out.

    Args:
        found: Of those that have an alpha, by name.
        photos: How many there are in all.
    """
    around = [alpha.around >= CUT_OUT for alpha in found.values() if alpha.used]
    return sum(around) > MOSTLY * photos


def as_masks(views: tuple[View, ...], found: dict[str, Alpha], staging: Path, check: Callable[[], None]):
    """Take the alpha out of photos, and write it as their masks, with what these covered already.

    Args:
        views: Of the capture.
        found: Of those that have an alpha, by name.
        staging: Where images/ and masks/ are.
        check: Called before every photo; may raise.

    Returns:
        The views, with their masks.

    Raises:
        In2nError: "disk_full", "cannot_write".
    """
    return tuple(_with_mask(view, found[view.name], staging, check) if view.name in found else view for view in views)


def _with_mask(view: View, alpha: Alpha, staging: Path, check: Callable[[], None]) -> View:
    check()
    with Image.open(staging / view.image) as opened:
        image = np.asarray(opened.convert("RGBA"))
    with atomic_path(staging / view.image) as temporary:
        Image.fromarray(np.ascontiguousarray(image[..., :3])).save(temporary, "PNG", compress_level=4)
    if not alpha.used:
        return view
    # what is beside a transparent pixel is mixed with nothing, and resampled with it
    counting = Image.fromarray(np.where(image[..., 3] >= COUNTS, np.uint8(255), np.uint8(0)))
    counts = np.asarray(counting.filter(ImageFilter.MinFilter(3)))
    if view.mask:
        with Image.open(staging / view.mask) as opened:
            counts = np.minimum(counts, np.asarray(opened.convert("L")))
    view = replace(view, mask=f"masks/{view.name}.png")
    with atomic_path(staging / view.mask) as temporary:
        Image.fromarray(counts).save(temporary, "PNG", compress_level=4)
    return view
