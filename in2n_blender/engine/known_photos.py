"""Sparse points for captures that came with cameras but without points: the photos, as they are found in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..scene.capture import Frame, PinholeCapture
from ..scene.lens import EQUIRECTANGULAR, Lens
from ..scene.visibility import FEWEST_POINTS
from .pictures import size_within, write_scaled

MOST_PHOTOS = 300  # evenly chosen from more: their points serve all
LONGEST_SIDE = 1000  # pixels of the pictures in which features are looked for


@dataclass(frozen=True)
class KnownPhoto:
    """A photo whose camera is known.

    Attributes:
        picture: A file that `write_small` wrote.
        lens: In pixels of the photo itself.
        camera_to_world: (4, 4) float64, OpenGL axes.
    """

    picture: Path
    lens: Lens
    camera_to_world: np.ndarray


def write_small(photo: np.ndarray, path: Path) -> None:
    """A photo, still distorted, as features are looked for in it.

    Args:
        photo: (height, width, 3 or 4) uint8.
        path: Of a JPEG file.

    Raises:
        In2nError: "disk_full", "cannot_write".
    """
    height, width = photo.shape[:2]
    write_scaled(photo, size_within(width, height, LONGEST_SIDE), path)


def small_pictures(capture: PinholeCapture, frames: tuple[Frame, ...], folder: Path) -> dict[str, Path]:
    """Which training photos points are to be found in, and where `write_small` is to put them.

    Args:
        capture: As it is about to be imported.
        frames: As its reader returned them.
        folder: Is made where there is anything to be put into it.

    Returns:
        File by view; none where the capture has points.
    """
    if len(capture.points) >= FEWEST_POINTS:
        return {}
    flat = {frame.name for frame in frames if frame.lens.model != EQUIRECTANGULAR}  # a panorama's faces share a photo
    names = [view.name for view in capture.training_views if view.name in flat]
    chosen = names[:: -(-len(names) // MOST_PHOTOS)] if names else []
    if chosen:
        folder.mkdir()
    return {name: folder / f"{number:06}.jpg" for number, name in enumerate(chosen)}
