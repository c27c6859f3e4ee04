"""Which folder the photos of a COLMAP model lie in: several may hold files of the same names."""

from __future__ import annotations

from pathlib import Path

from ..errors import In2nError
from ..photo_header import read_image_header
from .colmap_files import ListedCamera, read_cameras
from .finding import REDUCED, PhotoFinder, in_their_code_page
from .listing import same_shape

NAMES = ("images", "input", "", "photos", *REDUCED)
LOOKED_AT = 8  # photos whose size is compared with their camera's
EXACT, SCALED, OTHER = 2, 1, 0  # how a photo's size fits its camera's


def photo_folder(model: Path, photos: list[tuple[str, ListedCamera | None]]) -> tuple[PhotoFinder, tuple[str, ...]]:
    """Of the usual places, the one that holds the photos of which a model is.

    Where most of them are found decides, then whether their sizes are the cameras', then whether they are distorted as
    the model says (gaussian-splatting's convert.py leaves photos in input/ and undistorted ones, of the same names, in
    images/), then which is nearest.

    Args:
        model: The folder of the model.
        photos: The names of its images, and the camera of each, None where it is not listed.

    Returns:
        Finds files in that place; and what the user should know of it.
    """
    distorted = is_distorted([camera for _, camera in photos if camera])
    places = [base / name for base in (model, *model.parents[:3]) for name in NAMES]
    best, best_merit, doubtful = PhotoFinder(places[0]), None, False
    for number, place in enumerate(places):
        if not place.is_dir():
            continue
        finder = PhotoFinder(place)
        names = in_their_code_page([name for name, _ in photos], lambda name, f=finder: f.find(name) is not None)
        found = [(finder.find(name), camera) for name, (_, camera) in zip(names, photos, strict=True)]
        found = [(photo, camera) for photo, camera in found if photo]
        if not found:
            continue
        size, stranger = _size_fits(found), _of_another_model(place, model, distorted)
        merit = (size > OTHER, len(found), size, not stranger, -number)
        if best_merit is None or merit > best_merit:
            best, best_merit, doubtful = finder, merit, stranger
    if not doubtful:
        return best, ()
    state = ("undistorted", "as they were taken") if distorted else ("as they were taken", "undistorted")
    return best, (
        f"The photos in {best.folder} seem to be {state[0]}, but the model in {model} is of photos {state[1]}.",
    )


def is_distorted(cameras: list[ListedCamera]) -> bool:
    """Whether any of some cameras has a lens that bends straight lines.

    Args:
        cameras: As a model lists them.
    """
    return any(
        camera.model.lens != "pinhole" and any(camera.parameters[camera.model.focal_lengths + 2 :])
        for camera in cameras
    )


def _size_fits(found: list[tuple[Path, ListedCamera | None]]) -> int:
    step = max(1, len(found) // LOOKED_AT)
    fits = [_fit(photo, camera) for photo, camera in found[::step] if camera]
    return sorted(fits)[len(fits) // 2] if fits else SCALED


def _fit(photo: Path, camera: ListedCamera) -> int:
    try:
        header = read_image_header(photo)
    except (OSError, ValueError):
        return SCALED
    if header is None:
        return SCALED
    listed = (camera.width, camera.height)
    sizes = ((header.width, header.height), header.upright_size)
    if listed in sizes:
        return EXACT
    return SCALED if any(same_shape(listed, size) for size in sizes) else OTHER


def _of_another_model(place: Path, model: Path, distorted: bool) -> bool:
    """Whether the photos of a place belong to another model beside it, which is distorted where ours is not."""
    if place.name != "images":
        return False
    base = place.parent
    folders = [base / "sparse", *(base / "sparse").glob("[0-9]*")] if (base / "sparse").is_dir() else []
    if any(folder == model for folder in folders):
        return False
    for folder in folders:
        for file in (folder / "cameras.bin", folder / "cameras.txt"):
            if file.is_file():
                try:
                    return is_distorted(list(read_cameras(file).values())) != distorted
                except In2nError:  # it says nothing of the photos
                    return False
    return False
