"""Photos as arrays: decoded upright, undistorted to square-pixel pinhole cameras, scaled; and read from a workspace."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pillow_heif
import torch
from PIL import ExifTags, Image

from ..scene.camera import Intrinsics
from ..scene.capture import PinholeCapture, View
from ..scene.errors import In2nError
from ..scene.lens import EQUIRECTANGULAR, Lens, photo_pixels, pinhole_for
from ..scene.reporting import Reporter
from ..scene.srgb import linear_to_srgb, srgb_to_linear
from ..workspace.layout import Workspace
from .pictures import BROKEN, opened

MAXIMUM_PIXELS = 105_000_000  # a medium-format camera has 102 million; more is a mistake or a decompression bomb
pillow_heif.register_heif_opener()
Image.MAX_IMAGE_PIXELS = MAXIMUM_PIXELS  # PIL warns above it, and refuses twice as many
LARGE_PIXELS = 1 << 25  # photos above it are worked on one at a time: each takes a gigabyte
HUGE_PIXELS = 1 << 26  # and those above this one channel by channel
PARTS = 8  # in which these are undistorted and scaled down, one after the other
LANCZOS_REACH = 3  # pixels of the result that each pixel of it depends on, to each side
OVERSAMPLED = 3  # times as many pixels a side as the result has: what a photo keeps that is scaled down
BAND_PIXELS = 1 << 19  # undistorted at a time: bounds the memory and how long a cancelled import goes on

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What undoes each: PIL turns TIFF, and it alone, by itself when it is loaded.
_BACK = {
    **_TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}


class UnreadablePhoto(Exception):
    """A photo that is there but cannot be used; the import goes on without it."""


def opaque(image: np.ndarray) -> np.ndarray:
    """An image over white where it has straight alpha: as scenes of captures with alpha are rendered.

    Args:
        image: (height, width, 3 or 4) float sRGB in [0, 1].

    Returns:
        (height, width, 3); the image itself where it has no alpha.
    """
    return image if image.shape[-1] == 3 else image[..., :3] * image[..., 3:] + 1 - image[..., 3:]


def evened(image: np.ndarray, stops: Sequence[float]) -> np.ndarray:
    """A photo as it would be with the others' exposure and white balance; what was clipped stays clipped.

    Args:
        image: (height, width, 3 or 4) float32 sRGB in [0, 1].
        stops: How much brighter its red, green and blue are than the others'.

    Returns:
        Of the same kind; alpha as it was.
    """
    factors = np.exp2(-np.asarray(stops, np.float32))
    color = np.clip(linear_to_srgb(srgb_to_linear(image[..., :3]) * factors), 0, 1).astype(np.float32)
    return np.concatenate([color, image[..., 3:]], -1)


def load_images(
    workspace: Workspace, capture: PinholeCapture, views: tuple[View, ...] | None = None
) -> list[np.ndarray]:
    """Read normalised photos of a workspace.

    Args:
        workspace: Where the capture was imported.
        capture: What `load_capture` returned.
        views: Which of its views; None: all.

    Returns:
        For each view (height, width, 3) float32 sRGB in [0, 1], or 4 channels with straight alpha.

    Raises:
        In2nError: "missing_file", "bad_image", "bad_capture".
    """
    return [
        _load_image(workspace.photo(view.image), view.camera.intrinsics)
        for view in (capture.views if views is None else views)
    ]


class Photos(Sequence):
    """The images of views as `load_images` gives them, each read when it is asked for: never all in memory.

    Args:
        workspace: Where the capture was imported.
        views: Of its capture.
        light: By a view's name, how many stops brighter than the others its red, green and blue are: it is made even.
    """

    def __init__(self, workspace: Workspace, views: Sequence[View], light: Mapping[str, Sequence[float]] | None = None):
        self._workspace, self._views, self._light = workspace, views, light or {}

    def __len__(self) -> int:
        return len(self._views)

    def __getitem__(self, index: int) -> np.ndarray:
        view = self._views[index]
        image = _load_image(self._workspace.photo(view.image), view.camera.intrinsics)
        return evened(image, self._light[view.name]) if view.name in self._light else image

    def mask(self, index: int) -> np.ndarray | None:
        """Which pixels of a view count.

        Args:
            index: Which of the views.

        Returns:
            (height, width) bool; None where all of them do.

        Raises:
            In2nError: "missing_file", "bad_image", "bad_capture".
        """
        view = self._views[index]
        return _load_mask(self._workspace, view) if view.mask else None

    def masks(self) -> list[np.ndarray | None]:
        """Which pixels of the views count.

        Returns:
            For each view (height, width) bool; None where all of them do.

        Raises:
            In2nError: "missing_file", "bad_image", "bad_capture".
        """
        return [self.mask(index) for index in range(len(self))]

    def reported(self, report: Reporter) -> Iterator[np.ndarray]:
        """All in turn, with progress in photos.

        Args:
            report: Told before each photo, and asked whether the job was cancelled.

        Yields:
            (height, width, 3 or 4) float32 sRGB in [0, 1].

        Raises:
            In2nError: "missing_file", "bad_image", "bad_capture".
            Cancelled: Between two photos.
        """
        for index in range(len(self)):
            report.progress(index, len(self), "photos", "Reading the photos")
            yield self[index]


def decode(path: Path, orientation: int = 1, size: tuple[int, int] | None = None) -> np.ndarray:
    """Decode a photo; 16 bits are reduced to 8, and so is float.

    Args:
        path: The photo.
        orientation: EXIF's, 1 to 8, to be applied; that of the file is not looked at.
        size: (width, height) that it should have, one way round or the other; None: any.

    Returns:
        (height, width, 3) uint8, or 4 channels where it has transparency.

    Raises:
        UnreadablePhoto: It is broken, or has more than MAXIMUM_PIXELS, or another number of pixels than `size`; that
            is known before it is decoded.
    """
    try:
        with opened(path, MAXIMUM_PIXELS) as image:
            if size and image.width * image.height != size[0] * size[1]:
                raise UnreadablePhoto(f"{image.width} x {image.height} pixels instead of {size[0]} x {size[1]}")
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) if image.format == "TIFF" else 1
            image.load()
            if orientation != turned:
                for turn in (_BACK.get(turned), _TRANSPOSE.get(orientation)):
                    image = image if turn is None else image.transpose(turn)
            if image.mode[0] in "IF":  # 16-bit or float grey; 16-bit colour is reduced by PIL itself
                grey = np.asarray(image, np.float32)
                grey = np.clip(grey / 257 if image.mode[0] == "I" else _unit_float(grey) * 255, 0, 255)
                return np.repeat(np.round(grey).astype(np.uint8)[..., None], 3, 2)
            transparent = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
            mode = "RGBA" if transparent else "RGB"
            return _in_bands(image, mode)
    except BROKEN as error:
        raise UnreadablePhoto(str(error)) from None


def _in_bands(image: Image.Image, mode: str) -> np.ndarray:
    """(height, width, 3 or 4) uint8 of a picture in a mode; band by band, since PIL makes two more copies of what it
    hands over at once."""
    array = np.empty((image.height, image.width, len(mode)), np.uint8)
    rows = max(1, LARGE_PIXELS // 8 // image.width)
    for first in range(0, image.height, rows):
        last = min(first + rows, image.height)
        array[first:last] = np.asarray(image.crop((0, first, image.width, last)).convert(mode))
    return array


def _unit_float(grey: np.ndarray) -> np.ndarray:
    """Grey of a float file in [0, 1]: programs leave it so, or in the numbers of the 8 or 16 bits that it was."""
    grey = np.nan_to_num(grey, nan=0.0, posinf=0.0, neginf=0.0)
    largest = float(grey.max(initial=0))
    return grey / (1 if largest <= 2 else 255 if largest <= 255 else 65535)


def normalise_photo(
    photo: np.ndarray, lens: Lens, target: Intrinsics, longest_side: int, check=lambda: None
) -> np.ndarray:
    """Undistort a photo, then scale it down.

    A photo that is much larger than that is first averaged over blocks of its pixels, to no less than OVERSAMPLED times
    the result. Colour is resampled weighted by its alpha, so that nothing that hides behind a transparent pixel shows
    at an edge.

    Args:
        photo: (H, W, 3 or 4) uint8, as the lens describes it.
        lens: In pixels of the photo.
        target: `pinhole_for(lens).fitted(longest_side)`.
        longest_side: Pixels.
        check: Called a few times a second; may raise.

    Returns:
        (target.height, target.width, 3 or 4) uint8; the photo itself where nothing is to be done.
    """
    full = pinhole_for(lens)
    if lens.is_square_pinhole and (target.width, target.height) == (full.width, full.height):
        return photo
    channels, box = photo.shape[2], full.fitted(longest_side)[1]
    block = _block(photo, full, target)
    if block > 1:
        photo = np.asarray(Image.fromarray(photo).reduce(block))
        lens = replace(lens, intrinsics=_in_blocks(lens.intrinsics, block))
        full, box = _in_blocks(full, block), tuple(side / block for side in box)
    at_once = channels if photo.shape[0] * photo.shape[1] <= HUGE_PIXELS else 1
    image = np.concatenate(
        [
            _resampled(_weighted(photo, range(first, first + at_once)), lens, full, target, box, check)
            for first in range(0, channels, at_once)
        ]
    )
    if channels == 4:
        image[:3] *= 255 / np.maximum(image[3], 1e-3)
        image[:3, image[3] < 0.5] = 0
    return np.round(np.clip(image, 0, 255)).astype(np.uint8).transpose(1, 2, 0)


def _weighted(photo: np.ndarray, channels: range) -> np.ndarray:
    """(C, H, W) float32: some channels of a photo (H, W, 3 or 4), colour times alpha where it has alpha."""
    image = np.stack([photo[..., channel] for channel in channels]).astype(np.float32)
    if photo.shape[2] == 4:
        image[: max(0, 3 - channels.start)] *= photo[..., 3] / np.float32(255)
    return image


def _block(photo: np.ndarray, full: Intrinsics, target: Intrinsics) -> int:
    """Over blocks of how many pixels a side the photo can be averaged: such that nothing is cut off, and the lens stays
    the same. Photos with alpha and masks stay whole."""
    sides = (*photo.shape[:2], full.width, full.height)
    most = max(full.width, full.height) // (OVERSAMPLED * max(target.width, target.height))
    blocks = range(most, 1, -1) if photo.shape[2] == 3 else ()
    return next((block for block in blocks if not any(side % block for side in sides)), 1)


def _in_blocks(k: Intrinsics, block: int) -> Intrinsics:
    """A lens in units of `block` pixels, which divide its width and height."""
    return k.scaled_to(k.width // block, k.height // block)


def _resampled(image: np.ndarray, lens: Lens, full: Intrinsics, target: Intrinsics, box, check) -> np.ndarray:
    """(C, H, W) float32 of the photo -> (C, target.height, target.width): undistorted as `full` sees it, and its box
    scaled down."""
    if (target.width, target.height) == (full.width, full.height):
        return image if lens.is_square_pinhole else _undistort(image, lens, full, check)
    parts = PARTS if not lens.is_square_pinhole and full.width * full.height > HUGE_PIXELS else 1
    made = []
    for first, last in itertools.pairwise(np.linspace(0, target.height, parts + 1).round().astype(int).tolist()):
        scale = (box[3] - box[1]) / target.height
        top, bottom = box[1] + first * scale, box[1] + last * scale
        margin = int(np.ceil(LANCZOS_REACH * max(scale, 1.0))) + 1
        rows = (max(0, int(top) - margin), min(full.height, int(np.ceil(bottom)) + margin))
        part = image[:, rows[0] : rows[1]] if lens.is_square_pinhole else _undistort(image, lens, full, check, rows)
        check()
        size, of_it = (target.width, last - first), (box[0], top - rows[0], box[2], bottom - rows[0])
        made.append([np.asarray(Image.fromarray(p).resize(size, Image.Resampling.LANCZOS, of_it)) for p in part])
    return np.stack([np.concatenate(planes) for planes in zip(*made)])


def _undistort(
    image: np.ndarray, lens: Lens, pinhole: Intrinsics, check, between: tuple[int, int] | None = None
) -> np.ndarray:
    """(C, H, W) float32 -> (C, pinhole.height, pinhole.width), bicubic; or only its rows from one to another."""
    begin, end = between or (0, pinhole.height)
    margin = 0
    if lens.model == EQUIRECTANGULAR:  # it goes on at its other end
        margin = lens.intrinsics.width // 8 + 4  # a face that looks backwards reaches an eighth beyond
        image = np.pad(image, ((0, 0), (0, 0), (margin, margin)), mode="wrap")
    source = torch.from_numpy(image)[None]
    result = np.empty((len(image), end - begin, pinhole.width), np.float32)
    rows = max(1, BAND_PIXELS // pinhole.width)
    for first in range(begin, end, rows):
        check()
        last = min(first + rows, end)
        grid = torch.from_numpy(_sampling_grid(lens, pinhole, first, last, margin))[None]
        band = torch.nn.functional.grid_sample(source, grid, mode="bicubic", padding_mode="border", align_corners=False)
        result[:, first - begin : last - begin] = band[0].numpy()
    return np.clip(result, 0, 255, out=result)


def forget_lenses() -> None:
    """Let go of what is kept of lenses between the photos of one capture."""
    _sampling_grid.cache_clear()


@lru_cache(maxsize=LARGE_PIXELS // BAND_PIXELS)  # all of a photo, 4 MiB each: most captures' photos share a lens
def _sampling_grid(lens: Lens, pinhole: Intrinsics, first: int, last: int, margin: int = 0) -> np.ndarray:
    """(rows, width, 2) float32 for grid_sample without align_corners: -1 and 1 are the outer edges of the photo, with
    a margin at its left and right."""
    pixels = photo_pixels(lens, pinhole, first, last) + [margin, 0]
    size = np.array([lens.intrinsics.width + 2 * margin, lens.intrinsics.height])
    return (pixels * (2 / size) - 1).astype(np.float32)


def _load_image(path: Path, intrinsics: Intrinsics) -> np.ndarray:
    if not path.is_file():
        raise In2nError("missing_file", f"{path} does not exist.", "Import the capture again.")
    try:
        image = decode(path, size=(intrinsics.width, intrinsics.height))
    except UnreadablePhoto as error:
        raise In2nError("bad_image", f"{path} cannot be read ({error}).", "Import the capture again.") from None
    if image.shape[:2] != (intrinsics.height, intrinsics.width):
        raise In2nError(
            "bad_image",
            f"{path} has {image.shape[1]} x {image.shape[0]} pixels instead of "
            f"{intrinsics.width} x {intrinsics.height}.",
            "Import the capture again.",
        )
    return image.astype(np.float32) / 255


def _load_mask(workspace: Workspace, view: View) -> np.ndarray:
    return _load_image(workspace.photo(view.mask), view.camera.intrinsics)[..., 0] >= 0.5
