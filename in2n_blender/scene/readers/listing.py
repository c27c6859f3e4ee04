"""From what a capture's files list to frames: photos found and measured, lenses at the photo's size, poses checked."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..capture import Capture, Frame
from ..errors import In2nError
from ..lens import Lens
from ..names import unique_names
from ..photo_header import ImageHeader, read_image_header
from .checks import check_enough, checked_pose


@dataclass(frozen=True)
class ListedPhoto:
    """One photo as a capture's files list it.

    Attributes:
        label: The photo as the files name it.
        photo: Its file, None if it is not there.
        camera_to_world: Anything, unchecked; OpenGL axes, the capture's units.
        listed_size: (width, height) in pixels that the files give, None if they do not.
        lens: Makes the lens for a photo of (width, height), which is the listed size wherever there is one.
        held_out: Whether the files hold it out, None if they do not say.
    """

    label: str
    photo: Path | None
    camera_to_world: object
    listed_size: tuple[int, int] | None
    lens: Callable[[int, int], Lens]
    held_out: bool | None = None


def build_capture(
    source: Path, folder: Path, listed: list[ListedPhoto], points: np.ndarray, point_colors: np.ndarray
) -> Capture:
    """Frames in the natural order of their labels (2 before 10), each with a unique name.

    Args:
        source: The file or folder that was read.
        folder: The capture's folder, after which it is named.
        listed: Its photos, in any order.
        points: (P, 3) float64 sparse points, in the capture's units.
        point_colors: (P, 3) uint8.

    Returns:
        The capture; photos that are not there or broken are among its `missing` and `unreadable`.

    Raises:
        In2nError: "bad_matrix", "bad_intrinsics", "size_mismatch", "no_photos", "too_few_photos".
    """
    if not listed:
        raise In2nError("no_photos", f"{source} lists no photos.", "Choose the files of a finished capture.")
    listed = sorted(listed, key=lambda p: natural_order(p.label))
    frames, missing, unreadable = [], [], []
    for name, entry in zip(unique_names([p.label for p in listed]), listed):
        pose = checked_pose(entry.camera_to_world, entry.label)
        if entry.photo is None:
            missing.append(name)
            continue
        frame = _frame(name, entry, pose)
        if frame is None:
            unreadable.append(name)
        else:
            frames.append(frame)
    if not frames and not unreadable:
        raise In2nError(
            "no_photos",
            f"None of the {len(listed)} photos that {source} lists was found, for instance {listed[0].label}.",
            "Put the photos where the file says they are, or choose the folder that holds both.",
        )
    check_enough(len(frames), len(listed), source)
    return Capture(
        folder.name or "capture", source, tuple(frames), points, point_colors, tuple(missing), tuple(unreadable)
    )


def natural_order(label: str) -> list:
    """Sort key of a label: digits by their value, so that 2 comes before 10."""
    return [(0, int(part), part) if part.isdigit() else (1, 0, part) for part in re.findall(r"[0-9]+|[^0-9]+", label)]


def _frame(name: str, entry: ListedPhoto, pose: np.ndarray) -> Frame | None:
    """None if the photo cannot be read."""
    try:
        header = read_image_header(entry.photo)
    except (OSError, ValueError):
        return None
    if header is None:  # another format: the engine will open it, here the files must say its size
        if entry.listed_size is None:
            return None
        header = ImageHeader(*entry.listed_size)
    size, orientation = oriented_size(header, entry.listed_size, entry.label)
    lens = entry.lens(*(entry.listed_size or size))
    return Frame(name, entry.photo, lens.scaled_to(*size), pose, entry.held_out, orientation)


def oriented_size(header: ImageHeader, listed: tuple[int, int] | None, label: str) -> tuple[tuple[int, int], int]:
    """The size of the photo as the capture means it, and the EXIF orientation that gets it there.

    The listed size decides: a match with the stored pixels means that the poses belong to those, since COLMAP,
    instant-ngp and nerfstudio ignore EXIF; a match with the upright photo means that it is to be turned. Where the size
    cannot tell, because none is listed or the photo is square, the photo is shown upright. A listed size that differs
    by a plain scale counts as a match (photos scaled down after the calibration).

    Args:
        header: The photo's own.
        listed: (width, height) in pixels, None where the files give none.
        label: The photo, for messages.

    Returns:
        ((width, height) in pixels, EXIF orientation 1 to 8).

    Raises:
        In2nError: "size_mismatch".
    """
    stored, upright = (header.width, header.height), header.upright_size
    if listed is None or (stored[0] == stored[1] and _same_shape(listed, stored)):
        return upright, header.orientation
    if _same_shape(listed, stored):
        return stored, 1
    if _same_shape(listed, upright):
        return upright, header.orientation
    raise In2nError(
        "size_mismatch",
        f"{label} has {stored[0]} x {stored[1]} pixels, but the capture says {listed[0]} x {listed[1]}.",
        "Use the photos that the capture was calibrated with, whole or scaled, not cropped.",
    )


def _same_shape(listed: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether the sizes agree up to a scale and one pixel of rounding."""
    (w, h), (width, height) = listed, size
    return abs(width - height * w / h) <= 1.01 or abs(height - width * h / w) <= 1.01
