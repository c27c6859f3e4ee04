"""Photos made ready for features to be found in them: upright, in one format, not too large, with plain names."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from ...scene.capture import PhotoMask
from ...scene.names import unique_names
from ...scene.photo_header import read_image_header
from ...scene.readers.masks import MaskFinder
from ...scene.reporting import Reporter
from ...workspace.files import atomic_path
from ..masks import counting_pixels
from ..photos import UnreadablePhoto, decode
from ..pictures import size_within, write_scaled

LONGEST_SIDE = 1600  # pixels, in which features are found
FILM_DIAGONAL = 43.2666  # mm: a focal length "in 35 mm film" is meant for this diagonal (CIPA DCG-001)
LARGEST_35MM = 1000.0  # mm; beyond it, or at 0, EXIF does not know


@dataclass(frozen=True)
class PreparedPhoto:
    """A photo in the folder of the search.

    Attributes:
        name: Plain and unique.
        photo: The user's file.
        orientation: EXIF's, 1 to 8, by which it is turned upright.
        size: (width, height) upright, in its own pixels.
        file: The name of the prepared picture.
        prepared_size: (width, height) of that.
        camera: The same for photos that were taken with one lens and one zoom.
        focal: The focal length by EXIF, in pixels of the prepared picture; None where it does not tell.
        mask: What of the photo is to be left alone.
        masked: Whether there is a prepared mask: of that, or of transparent pixels.
    """

    name: str
    photo: Path
    orientation: int
    size: tuple[int, int]
    file: str
    prepared_size: tuple[int, int]
    camera: str
    focal: float | None
    mask: PhotoMask | None
    masked: bool = False


@dataclass(frozen=True)
class Prepared:
    """All photos of a search.

    Attributes:
        images: The folder of the prepared pictures.
        masks: That of their masks, black where features do not count.
        photos: Those that can be used.
        unusable: Name -> why, of the others.
    """

    images: Path
    masks: Path
    photos: tuple[PreparedPhoto, ...]
    unusable: dict[str, str] = field(default_factory=dict)


def prepare(photos: tuple[Path, ...], root: Path, folder: Path, report: Reporter) -> Prepared:
    """Write prepared pictures into folder/images, masks into folder/masks; those that are there are kept.

    Args:
        photos: The user's files.
        root: The folder under which they lie.
        folder: Of the search.
        report: Told of every photo.

    Returns:
        What was prepared.

    Raises:
        In2nError: "disk_full", "cannot_write".
        Cancelled: Between two photos.
    """
    found, unusable, masks = [], {}, MaskFinder(root)
    labels = [photo.relative_to(root).with_suffix("").as_posix() for photo in photos]
    for number, (name, photo) in enumerate(zip(unique_names(labels), photos)):
        report.progress(number, len(photos), "photos", f"Reading {name}")
        try:
            found.append(_prepare(name, photo, f"{number:06}.jpg", masks.find(photo), folder))
        except UnreadablePhoto as error:
            unusable[name] = f"The photo cannot be read: {error}."
    return Prepared(folder / "images", folder / "masks", tuple(found), unusable)


def _prepare(name: str, photo: Path, file: str, mask: PhotoMask | None, folder: Path) -> PreparedPhoto:
    orientation, focal_mm, maker = _exif(photo)
    is_there = (folder / "images" / file).is_file()
    upright = _upright_size(photo, orientation) if is_there else None
    image = decode(photo, orientation) if upright is None else None
    width, height = upright or image.shape[1::-1]
    size = size_within(width, height, LONGEST_SIDE)
    if not is_there:
        _write_mask(mask, orientation, image, size, folder / "masks" / f"{file}.png")  # first: the picture ends it
        write_scaled(image, size, folder / "images" / file)
    focal = focal_mm and focal_mm / FILM_DIAGONAL * float(np.hypot(*size))
    camera = f"{photo.parent.name}/{maker}/{width}x{height}/{focal_mm or 0:g}"
    masked = (folder / "masks" / f"{file}.png").is_file()
    return PreparedPhoto(name, photo, orientation, (width, height), file, size, camera, focal, mask, masked)


def _write_mask(mask: PhotoMask | None, orientation: int, image: np.ndarray, size: tuple[int, int], path: Path) -> None:
    """Of the photo's mask, and of what is transparent in it; none where there is neither."""
    parts = [counting_pixels(mask, orientation)] if mask else []
    if image.shape[2] == 4 and (image[..., 3] < 128).any():
        parts.append(image[..., 3] >= 128)
    if not parts:
        return
    pictures = [Image.fromarray(np.where(part, np.uint8(255), np.uint8(0))) for part in parts]
    counts = np.minimum.reduce([np.asarray(p.resize(size, Image.Resampling.NEAREST)) for p in pictures])
    with atomic_path(path) as temporary:
        Image.fromarray(counts).save(temporary, "PNG")


def _upright_size(photo: Path, orientation: int) -> tuple[int, int] | None:
    """Without decoding; None where the header does not tell."""
    try:
        header = read_image_header(photo)
    except (OSError, ValueError):
        return None
    return header.upright_size if header and header.orientation == orientation else None


def _exif(photo: Path) -> tuple[int, float | None, str]:
    """The orientation, the focal length in mm of 35 mm film, and maker and model; what is not there or not right is 1,
    None and ""."""
    try:
        with Image.open(photo) as opened:
            exif = opened.getexif()
            details = exif.get_ifd(ExifTags.IFD.Exif)
            orientation = exif.get(ExifTags.Base.Orientation, 1)
            focal = float(details.get(ExifTags.Base.FocalLengthIn35mmFilm) or 0)
            maker = f"{exif.get(ExifTags.Base.Make, '')} {exif.get(ExifTags.Base.Model, '')}".strip()
    except (OSError, ValueError, SyntaxError, TypeError, ZeroDivisionError, Image.DecompressionBombError):
        return 1, None, ""
    known = np.isfinite(focal) and 0 < focal <= LARGEST_35MM
    return orientation if orientation in range(1, 9) else 1, focal if known else None, maker
