"""From what a capture's files list to frames: photos found and measured, lenses at the photo's size, poses checked."""

from __future__ import annotations

import math
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

FEWEST_PHOTOS = 3


@dataclass(frozen=True)
class ListedPhoto:
    """One photo as a capture's files list it.

    label: the photo as the files name it. photo: its file, None if it is not there. camera_to_world: anything,
    unchecked, OpenGL axes. listed_size: (width, height) that the files give, None if they do not. lens: makes the lens
    for a photo of the given (width, height), which is the listed size wherever there is one.
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

    Raises In2nError: "bad_matrix", "bad_intrinsics", "size_mismatch", "no_photos", "too_few_photos".
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


def check_enough(usable: int, listed: int, source: Path | str) -> None:
    """Raises In2nError("too_few_photos")."""
    if usable < FEWEST_PHOTOS:
        count = {0: "None", 1: "Only one", 2: "Only two"}[usable]
        raise In2nError(
            "too_few_photos",
            f"{count} of the {listed} photos of {source} can be used; at least {FEWEST_PHOTOS} are needed.",
            "Add photos: twenty or more, from all around, give a good reconstruction.",
        )


def checked_pose(matrix: object, label: str) -> np.ndarray:
    """(4, 4) float64, made exactly rigid: a uniform scale and rounding of the rotation are taken out.

    Raises In2nError("bad_matrix") for a wrong shape, a number that is not finite, a mirror or a sheared matrix.
    """

    def bad(reason: str) -> In2nError:
        return In2nError(
            "bad_matrix",
            f"The camera matrix of {label} {reason}.",
            "Export the capture again: each camera needs a 4 x 4 camera-to-world matrix.",
        )

    try:
        pose = np.array(matrix, np.float64)
    except (TypeError, ValueError):
        raise bad("is not a matrix of numbers") from None
    if pose.shape == (3, 4):
        pose = np.vstack([pose, [0, 0, 0, 1]])
    if pose.shape != (4, 4):
        raise bad(f"has the shape {' x '.join(map(str, pose.shape)) or 'of a single number'}, not 4 x 4")
    if not np.isfinite(pose).all():
        raise bad("has a number that is not finite (NaN or infinity)")
    u, lengths, vt = np.linalg.svd(pose[:3, :3])
    if lengths[2] <= 0 or lengths[0] / lengths[2] > 1.05 or not np.allclose(pose[3], [0, 0, 0, 1], atol=1e-6):
        raise bad("is not a rotation and a position")
    if np.linalg.det(pose[:3, :3]) < 0:
        raise bad("mirrors the scene")
    pose[:3, :3] = u @ vt
    return pose


def natural_order(label: str) -> list:
    """Sort key: digits by their value."""
    return [(0, int(part), part) if part.isdigit() else (1, 0, part) for part in re.findall(r"[0-9]+|[^0-9]+", label)]


def positive(value: object, what: str, label: str) -> float:
    """Raises In2nError("bad_intrinsics") unless the value is a finite number above 0."""
    number = finite(value, what, label)
    if number <= 0:
        raise In2nError(
            "bad_intrinsics",
            f"{what} of {label} is {number:g}, which must be above 0.",
            "Check the camera's intrinsics in the capture.",
        )
    return number


def finite(value: object, what: str, label: str) -> float:
    """Raises In2nError("bad_intrinsics") unless the value is a finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise In2nError(
            "bad_intrinsics",
            f"{what} of {label} is not a number ({value!r}).",
            "Check the camera's intrinsics in the capture.",
        )
    return number


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
    """The (width, height) of the photo as the capture means it, and the EXIF orientation that gets it there.

    The listed size decides: a match with the stored pixels means that the poses belong to those, since COLMAP,
    instant-ngp and nerfstudio ignore EXIF; a match with the upright photo means that it is to be turned. Where the size
    cannot tell, because none is listed or the photo is square, the photo is shown upright. A listed size that differs
    by a plain scale counts as a match (photos scaled down after the calibration). Raises In2nError("size_mismatch").
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
