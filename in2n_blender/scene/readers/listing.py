"""From what a capture's files list to frames: photos found and measured, lenses at the photo's size, poses checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..capture import Capture, DepthMap, Frame, PhotoMask
from ..errors import In2nError
from ..lens import Lens, pinhole_for
from ..names import unique_names
from ..parallax import in_one_place
from ..photo_header import ImageHeader, foreign_format, read_image_header
from ..tracks import LOST, Tracks
from .checks import check_enough, checked_pose
from .finding import is_foreign
from .leave import refuse_outside


@dataclass(frozen=True)
class ListedPhoto:
    """One photo as a capture's files list it.

    Attributes:
        label: The photo as the files name it.
        photo: Its file, None if it is not there.
        camera_to_world: Anything, unchecked; OpenGL axes, the capture's units.
        listed_size: (width, height) in pixels that the files give, None if they do not; or makes it, and may raise.
        lens: Makes the lens for a photo of (width, height), which is the listed size wherever there is one.
        held_out: Whether the files hold it out, None if they do not say.
        problem: What is wrong with its entry in the files, so that it cannot be used.
        mask: What of it is to be left alone; its file may not be there.
        depth: How far away its pixels are; its files may not be there.
    """

    label: str
    photo: Path | None
    camera_to_world: object
    listed_size: tuple[int, int] | None | Callable[[], tuple[int, int] | None]
    lens: Callable[[int, int], Lens]
    held_out: bool | None = None
    problem: In2nError | None = None
    mask: PhotoMask | None = None
    depth: DepthMap | None = None


def build_capture(
    source: Path,
    folder: Path,
    listed: list[ListedPhoto],
    points: np.ndarray,
    point_colors: np.ndarray,
    notes: tuple[str, ...] = (),
    tracks: Tracks | None = None,
) -> Capture:
    """Frames in the natural order of their labels (2 before 10), each with a unique name.

    A photo that is broken, or whose pose or lens is none, costs itself and not the capture.

    Args:
        source: The file or folder that was read.
        folder: The capture's folder, after which it is named.
        listed: Its photos, in any order.
        points: (P, 3) float64 sparse points, in the capture's units.
        point_colors: (P, 3) uint8.
        notes: What the user should know of it, a sentence each.
        tracks: Which photos see which points, by their numbers in `listed`; None where the files do not say.

    Returns:
        The capture; photos that are not there or cannot be used are among its `missing` and `unusable`.

    Raises:
        In2nError: "outside_photos", "no_photos", "too_few_photos"; what is wrong with the first photo, such as
            "bad_matrix", "bad_intrinsics" or "size_mismatch", where something is with all of them.
    """
    if not listed:
        raise In2nError("no_photos", f"{source} lists no photos.", "Choose the files of a finished capture.")
    refuse_outside(source, folder, [named for entry in listed for named in _named(entry)])
    order = sorted(range(len(listed)), key=lambda i: natural_order(listed[i].label))
    listed, numbers = [listed[i] for i in order], np.full(len(listed), LOST)
    frames, missing, unusable, errors = [], [], {}, []
    for number, name, entry in zip(order, unique_names([p.label for p in listed]), listed):
        if entry.photo is None and entry.problem is None:
            missing.append(name)
            continue
        try:
            frames.append(_frame(name, entry))
            numbers[number] = len(frames) - 1
        except UnusablePhoto as error:
            unusable[name] = str(error)
        except In2nError as error:
            unusable[name] = error.message
            errors.append(error)
    if not frames and errors and len(errors) == len(listed) - len(missing):
        raise errors[0]
    if not frames and not unusable:
        raise In2nError(
            "no_photos",
            f"None of the {len(listed)} photos that {source} lists was found, for instance {listed[0].label}.",
            "Put the photos where the file says they are, or choose the folder that holds both.",
        )
    check_enough(len(frames), len(listed), source, unusable)
    lost = [entry.mask.path for entry in listed if entry.mask and not entry.mask.path.is_file()]
    if lost:
        notes = (*notes, f"{len(lost)} masks that the capture lists were not found, for instance {lost[0]}.")
    inside = folder.parent.resolve()
    elsewhere = [frame.photo for frame in frames if not frame.photo.resolve().is_relative_to(inside)]
    if elsewhere:
        notes = (*notes, f"{len(elsewhere)} photos lie elsewhere than the capture, for instance {elsewhere[0]}.")
    if in_one_place(np.array([frame.camera_to_world[:3, 3] for frame in frames]), points):
        notes = (*notes, ONE_PLACE)
    about = (tuple(missing), unusable, notes, tracks and tracks.with_photos(numbers))
    return Capture(folder.name or "capture", source, tuple(frames), points, point_colors, *about)


def _named(entry: ListedPhoto) -> Iterator[tuple[Path, bool]]:
    """The files of a photo, and whether each is named so that it leads out of the capture's folder."""
    if entry.photo:
        yield entry.photo, is_foreign(entry.label) or ".." in entry.photo.parts
    depth = (entry.depth.path, entry.depth.confidence) if entry.depth else ()
    for path in filter(None, (entry.mask and entry.mask.path, *depth)):
        yield path, ".." in path.parts


ONE_PLACE = (
    "All cameras stand in one place, so the photos do not tell how far away anything is; they cannot be reconstructed."
)


class UnusablePhoto(Exception):
    """Why the file of a photo cannot be used, in a sentence."""


def natural_order(label: str) -> list:
    """Sort key of a label: digits by their value, so that 2 comes before 10. There may be more than `int` takes."""
    parts = re.findall(r"[0-9]+|[^0-9]+", label)
    values = [part.lstrip("0") for part in parts]
    return [(0, len(value), value, part) if part.isdigit() else (1, 0, "", part) for part, value in zip(parts, values)]


def _frame(name: str, entry: ListedPhoto) -> Frame:
    """Raises UnusablePhoto or In2nError."""
    if entry.problem:
        raise entry.problem
    pose = checked_pose(entry.camera_to_world, entry.label)
    listed_size = entry.listed_size() if callable(entry.listed_size) else entry.listed_size
    header = _header(entry.photo, listed_size)
    size, orientation = oriented_size(header, listed_size, entry.label)
    lens = entry.lens(*(listed_size or size)).scaled_to(*size)
    with np.errstate(all="ignore"):  # of numbers beyond all sense
        pinhole_for(lens)  # raises where there is none
    mask = entry.mask if entry.mask and entry.mask.path.is_file() else None
    depth = entry.depth if entry.depth and entry.depth.path.is_file() else None
    return Frame(name, entry.photo, lens, pose, entry.held_out, orientation, mask, depth)


def _header(photo: Path, listed_size: tuple[int, int] | None) -> ImageHeader:
    try:
        header = read_image_header(photo)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UnusablePhoto(f"The photo cannot be read: {reason}.") from None
    if header:
        return header
    form = foreign_format(photo)
    if form and form != "HEIC":
        raise UnusablePhoto(f"{form} pictures cannot be read; convert them to PNG or JPEG.")
    if listed_size is None:  # another format: the engine will open it, here the files must say its size
        raise UnusablePhoto(
            f"The photo is {form or 'of no known format'} and the files do not say its size; convert it to PNG."
        )
    return ImageHeader(*listed_size)


def oriented_size(header: ImageHeader, listed: tuple[int, int] | None, label: str) -> tuple[tuple[int, int], int]:
    """The size of the photo as the capture means it, and the EXIF orientation that gets it there.

    The listed size decides: a match with the stored pixels, as of every square photo, means that the poses belong to
    those, since COLMAP, instant-ngp and nerfstudio ignore EXIF; a match with the upright photo means that it is to be
    turned. Where none is listed the photo is shown upright. A listed size that differs by a plain scale counts as a
    match (photos scaled down after the calibration).

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
    if listed is None:
        return upright, header.orientation
    if same_shape(listed, stored):
        return stored, 1
    if same_shape(listed, upright):
        return upright, header.orientation
    raise In2nError(
        "size_mismatch",
        f"{label} has {stored[0]} x {stored[1]} pixels, but the capture says {listed[0]} x {listed[1]}.",
        "Use the photos that the capture was calibrated with, whole or scaled, not cropped.",
    )


def same_shape(listed: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether two sizes agree up to a scale and one pixel of rounding.

    Args:
        listed: (width, height) in pixels.
        size: (width, height) in pixels.
    """
    (w, h), (width, height) = listed, size
    return abs(width - height * w / h) <= 1.01 or abs(height - width * h / w) <= 1.01
