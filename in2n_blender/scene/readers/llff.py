"""LLFF's poses_bounds.npy (github.com/Fyusion/LLFF, "Using your own poses without running COLMAP").

A row of 17 numbers a photo, in the order of the photos' names: a 3 x 5 matrix, row by row, of camera-to-world, whose
axes are down, right and backwards, and (height, width, focal length); then the nearest and farthest depth.
"""

from __future__ import annotations

from pathlib import Path
from tokenize import TokenError

import numpy as np

from ..camera import Intrinsics
from ..capture import Capture
from ..lens import Lens
from .checks import photo_size, positive
from .contents import bad_file
from .finding import REDUCED, photos_in
from .listing import ListedPhoto, build_capture, natural_order
from .masks import MaskFinder

NAME = "poses_bounds.npy"

# what numpy raises on headers that are damaged
_BROKEN = (ValueError, OSError, EOFError, TypeError, MemoryError, OverflowError, SyntaxError, TokenError)


def find(path: Path) -> Path | None:
    """poses_bounds.npy in a path.

    Args:
        path: A file or a folder.

    Returns:
        The file, None where there is none.
    """
    file = path if path.is_file() else path / NAME
    return file if file.name == NAME and file.is_file() else None


def read(path: Path) -> Capture:
    """Read the poses, and take the photos of images/, or of images_4/ and the like where only these are there.

    Args:
        path: The file.

    Returns:
        The capture, in the file's units.

    Raises:
        In2nError: "bad_capture" and what `build_capture` raises.
    """
    try:
        rows = np.load(path, allow_pickle=False)
        table = np.array(rows, np.float64).reshape(-1, 17)
    except _BROKEN as error:
        raise bad_file(path, str(error).splitlines()[0] if str(error) else "it is no array") from None
    folder, photos = _photos(path.parent, len(table))
    if len(photos) != len(table):
        raise bad_file(path, f"it has {len(table)} poses, {folder} {len(photos)} photos")
    masks = MaskFinder(folder)
    listed = [_listed(photo, row[:15].reshape(3, 5), masks) for photo, row in zip(photos, table, strict=True)]
    return build_capture(path, path.parent, listed, np.zeros((0, 3)), np.zeros((0, 3), np.uint8))


def _photos(folder: Path, count: int) -> tuple[Path, list[Path]]:
    """The folder with as many photos as there are poses, else the first with any."""
    places = [folder / name for name in ("images", *REDUCED, "rgb", "")]
    found = [(place, sorted(photos_in(place), key=lambda p: natural_order(p.name))) for place in places]
    found = [(place, photos) for place, photos in found if photos]
    return next((one for one in found if len(one[1]) == count), found[0] if found else (folder / "images", []))


def _listed(photo: Path, matrix: np.ndarray, masks: MaskFinder) -> ListedPhoto:
    down, right, back, position, (height, width, focal) = matrix.T
    size = lambda: photo_size(width, height, photo.name)
    return ListedPhoto(
        photo.name,
        photo,
        np.stack([right, -down, back, position], -1),
        size,
        lambda w, h: Lens("pinhole", _intrinsics(w, h, positive(focal, "The focal length", photo.name))),
        mask=masks.find(photo),
    )


def _intrinsics(width: int, height: int, focal: float) -> Intrinsics:
    return Intrinsics(width, height, focal, focal, width / 2, height / 2)
