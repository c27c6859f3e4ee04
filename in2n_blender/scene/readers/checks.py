"""What a capture's files say, checked: numbers, poses, and whether enough photos are left."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import In2nError

FEWEST_PHOTOS = 3
MOST_PIXELS = 1 << 20  # along a side


def check_enough(usable: int, listed: int, source: Path | str, unusable: Mapping[str, str] | None = None) -> None:
    """Check that enough photos can be used.

    Args:
        usable: How many can be used.
        listed: How many the capture lists.
        source: The file or folder that lists them, for messages.
        unusable: Why others cannot, by their names.

    Raises:
        In2nError: "too_few_photos" where fewer than FEWEST_PHOTOS can be used.
    """
    if usable < FEWEST_PHOTOS:
        count = {0: "None", 1: "Only one", 2: "Only two"}[usable]
        name, why = next(iter((unusable or {}).items()), ("", ""))
        raise In2nError(
            "too_few_photos",
            f"{count} of the {listed} photos of {source} can be used; at least {FEWEST_PHOTOS} are needed.",
            f"{name}: {why}" if why else "Add photos: twenty or more, from all around, give a good reconstruction.",
        )


def checked_pose(matrix: object, label: str) -> np.ndarray:
    """A pose, made exactly rigid: a uniform scale and rounding of the rotation are taken out.

    Args:
        matrix: Anything; (4, 4) or (3, 4) numbers, camera-to-world.
        label: The photo, for messages.

    Returns:
        (4, 4) float64.

    Raises:
        In2nError: "bad_matrix" for a wrong shape, a number that is not finite, a mirror or a sheared matrix.
    """

    def bad(reason: str) -> In2nError:
        return In2nError(
            "bad_matrix",
            f"The camera matrix of {label} {reason}.",
            "Export the capture again: each camera needs a 4 x 4 camera-to-world matrix.",
        )

    try:
        pose = np.array(matrix, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise bad("is not a matrix of numbers") from None
    if pose.shape == (3, 4):
        pose = np.vstack([pose, [0, 0, 0, 1]])
    if pose.shape != (4, 4):
        raise bad(f"has the shape {' x '.join(map(str, pose.shape)) or 'of a single number'}, not 4 x 4")
    if not np.isfinite(pose).all():
        raise bad("has a number that is not finite (NaN or infinity)")
    try:
        with np.errstate(all="ignore"):  # of numbers beyond all sense
            u, lengths, vt = np.linalg.svd(pose[:3, :3])
    except np.linalg.LinAlgError:
        raise bad("is not a rotation and a position") from None
    if not (lengths[2] > 0 and lengths[0] <= 1.05 * lengths[2]) or not np.allclose(pose[3], [0, 0, 0, 1], atol=1e-6):
        raise bad("is not a rotation and a position")
    if np.linalg.det(pose[:3, :3]) < 0:
        raise bad("mirrors the scene")
    pose[:3, :3] = u @ vt
    return pose


def positive(value: object, what: str, label: str) -> float:
    """The value as a number, finite and above 0.

    Args:
        value: Anything.
        what: What it is called in the files, for messages.
        label: The photo, for messages.

    Raises:
        In2nError: "bad_intrinsics" for anything else.
    """
    number = finite(value, what, label)
    if number <= 0:
        raise In2nError(
            "bad_intrinsics",
            f"{what} of {label} is {number:g}, which must be above 0.",
            "Check the camera's intrinsics in the capture.",
        )
    return number


def photo_size(width: object, height: object, label: str) -> tuple[int, int]:
    """The size of a photo as the files give it.

    Args:
        width: Anything.
        height: Anything.
        label: The photo, for messages.

    Returns:
        (width, height) in whole pixels, 1 at least.

    Raises:
        In2nError: "bad_intrinsics" for what is no number above 0, and for more than MOST_PIXELS.
    """
    sides = positive(width, "The width", label), positive(height, "The height", label)
    if max(sides) > MOST_PIXELS:
        raise In2nError(
            "bad_intrinsics",
            f"{label} is said to have {sides[0]:g} x {sides[1]:g} pixels, which no photo has.",
            "Check the camera's size in the capture.",
        )
    return max(1, round(sides[0])), max(1, round(sides[1]))


def finite(value: object, what: str, label: str) -> float:
    """The value as a finite number.

    Args:
        value: Anything.
        what: What it is called in the files, for messages.
        label: The photo, for messages.

    Raises:
        In2nError: "bad_intrinsics" for anything else.
    """
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise In2nError(
            "bad_intrinsics",
            f"{what} of {label} is not a number ({value!r:.60}).",
            "Check the camera's intrinsics in the capture.",
        )
    return number
