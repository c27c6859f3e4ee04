"""Lenses of real photos: what a photo's pixels see, and the pinhole camera that takes their place.

Directions are points on the plane at depth 1 in OpenCV's axes (x right, y down). Pixels have their origin at the outer
corner of the upper-left pixel, as in `camera`, which is COLMAP's convention; OpenCV's own pixels are 0.5 less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from .camera import Intrinsics
from .distortion import FISHEYES, distorted, one_to_one
from .errors import In2nError
from .panorama import MODEL as EQUIRECTANGULAR
from .panorama import face_camera, panorama_pixels

UNSEEN = 1e-3  # of a photo's longer side: what a pixel may be off its place and the photo still fits its camera
NEWTON_STEPS = 10
FISHEYE_HALF_ANGLE = math.radians(60.0)
"""A pinhole view of a fisheye photo reaches at most this far from the axis, at its corners: beyond it stretches too
much."""


@dataclass(frozen=True)
class Lens:
    """A photo's lens in pixels of that photo.

    Attributes:
        model: "pinhole";
            "opencv" (distortion = k1, k2, p1, p2, k3, k4, k5, k6 of OpenCV's rational model);
            "brown" (k1, k2, p1, p2, k3, k4 with k4 the radial term of order 8, as nerfstudio has it; no denominator;
            then a skew in focal lengths, as Metashape has it);
            "opencv_fisheye" (k1, k2, k3, k4); another of `distortion.MOST_PARAMETERS`, with parameters as there;
            or "equirectangular" (the yaw and pitch of a face in degrees, see `panorama`).
        intrinsics: In pixels of the photo.
        distortion: Without units; shorter than its model, it is padded with 0.
    """

    model: str
    intrinsics: Intrinsics
    distortion: tuple[float, ...] = ()

    @property
    def is_pinhole(self) -> bool:
        if self.model in ("opencv", "brown", "fov", "division", "inverse_radial"):
            return not any(self.distortion)
        return self.model == "pinhole"

    @property
    def is_square_pinhole(self) -> bool:
        """Whether the photo already is what `pinhole_for` describes, so that no pixel has to move."""
        return self.is_pinhole and self.intrinsics.square_pixels

    def scaled_to(self, width: int, height: int) -> Lens:
        """The same lens for the same photo resampled to another size.

        Args:
            width: Of the resampled photo, in pixels.
            height: Of the resampled photo, in pixels.

        Returns:
            The lens in pixels of the resampled photo.
        """
        return replace(self, intrinsics=self.intrinsics.scaled_to(width, height))


def distort(lens: Lens, directions: np.ndarray) -> np.ndarray:
    """The pixels of the photo that see some directions (OpenCV, "Detailed Description" of calib3d and of its fisheye).

    Args:
        lens: The photo's lens.
        directions: (..., 2) x and y at depth 1, OpenCV's axes.

    Returns:
        (..., 2) float64, pixels of the photo.
    """
    directions = np.asarray(directions, np.float64)
    k = lens.intrinsics
    if lens.model == EQUIRECTANGULAR:
        return panorama_pixels(k, *lens.distortion, directions)
    x, y = distorted(lens.model, lens.distortion, directions[..., 0], directions[..., 1])
    return np.stack([k.cx + k.fx * x, k.cy + k.fy * y], -1)


def directions_of(lens: Lens, pixels: np.ndarray) -> np.ndarray:
    """The directions that some pixels of the photo see: what `distort` undoes, by Newton's method.

    Args:
        lens: The photo's lens, not an equirectangular one.
        pixels: (n, 2) pixels of the photo.

    Returns:
        (n, 2) x and y at depth 1, OpenCV's axes; NaN where no direction was found.
    """
    k = lens.intrinsics
    wanted = np.asarray(pixels, np.float64)
    found = (wanted - [k.cx, k.cy]) / [k.fx, k.fy]
    if lens.is_pinhole:
        return found
    step = 1e-6
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        for _ in range(NEWTON_STEPS):
            off = distort(lens, found) - wanted
            along_x, along_y = ((distort(lens, found + shift) - wanted - off) / step for shift in step * np.eye(2))
            determinant = along_x[:, 0] * along_y[:, 1] - along_y[:, 0] * along_x[:, 1]
            change_x = (along_y[:, 1] * off[:, 0] - along_y[:, 0] * off[:, 1]) / determinant
            change_y = (along_x[:, 0] * off[:, 1] - along_x[:, 1] * off[:, 0]) / determinant
            found = found - np.stack([change_x, change_y], -1)
        radius = np.linalg.norm(found, axis=-1)
        right = np.linalg.norm(distort(lens, found) - wanted, axis=-1) < 0.01
        return np.where((right & (radius < one_to_one_radius(lens)))[:, None], found, np.nan)


def one_to_one_radius(lens: Lens) -> float:
    """The distance from the axis at depth 1 up to which the lens maps different directions to different pixels.

    Beyond it a distortion polynomial turns back and would show a part of the photo twice. Tangential terms, which are
    small wherever a calibration made sense, are left out.

    Args:
        lens: The photo's lens.

    Returns:
        The tangent of the angle from the axis; infinity for a pinhole lens.
    """
    if lens.model == EQUIRECTANGULAR or lens.is_pinhole:
        return math.inf
    return one_to_one(lens.model, lens.distortion)


@lru_cache(maxsize=4096)  # readers ask it for every photo, and so does what follows
def pinhole_for(lens: Lens) -> Intrinsics:
    """The pinhole camera with square pixels for the undistorted photo.

    Of an equirectangular photo it is a face of a cube. Else it keeps the photo's size and the place of the principal
    point and has the shortest focal length with which every pixel still sees a part of the photo: no border without a
    picture, and as little as possible cut away (as OpenCV's alpha = 0, but without moving the centre). The view of a
    fisheye photo is limited to FISHEYE_HALF_ANGLE at the corners.

    Args:
        lens: The photo's lens, in pixels of the photo at its full size.

    Returns:
        Intrinsics with fx = fy, in pixels of a photo of that size; those of the lens where it is already so.

    Raises:
        In2nError: "bad_intrinsics" if there is no such camera.
    """
    k = lens.intrinsics
    if lens.model == EQUIRECTANGULAR:
        return face_camera(k)
    if lens.is_square_pinhole:
        mean = (k.fx + k.fy) / 2
        return replace(k, fx=mean, fy=mean)
    border = _border(k.width, k.height) - [k.cx, k.cy]
    limit = one_to_one_radius(lens) * (1 - 1e-6)
    if lens.model in FISHEYES:
        limit = min(limit, math.tan(FISHEYE_HALF_ANGLE))
    farthest = np.hypot(*border.T).max()

    def shows_only_the_photo(focal: float) -> bool:
        if farthest / focal > limit:
            return False
        pixels = distort(lens, border / focal)
        return bool((pixels >= -1e-6).all() and (pixels <= np.array([k.width, k.height]) + 1e-6).all())

    valid = max(k.fx, k.fy)
    for _ in range(12):
        if shows_only_the_photo(valid):
            break
        valid *= 1.5
    else:
        raise In2nError(
            "bad_intrinsics",
            f"The lens of a {k.width} x {k.height} photo cannot be undistorted (fx {k.fx:g}, fy {k.fy:g}, "
            f"centre {k.cx:g}, {k.cy:g}, distortion {', '.join(f'{d:g}' for d in lens.distortion)}).",
            "Check the camera's intrinsics in the capture, or calibrate it again.",
        )
    invalid = valid
    for _ in range(40):
        invalid /= 1.5
        if not shows_only_the_photo(invalid):
            break
        valid = invalid
    while valid - invalid > 1e-12 * valid:
        middle = (valid + invalid) / 2
        if shows_only_the_photo(middle):
            valid = middle
        else:
            invalid = middle
    return replace(k, fx=valid, fy=valid)


def shows_as_pinhole(lens: Lens) -> bool:
    """Whether a photo as it is can hardly be told from the undistorted one of `pinhole_for`.

    Args:
        lens: The photo's.

    Returns:
        True where no pixel is farther from its place than UNSEEN of the photo's longer side.
    """
    k = pinhole_for(lens)
    if lens.model == EQUIRECTANGULAR:
        return False
    x, y = (np.linspace(0, side, 17) for side in (k.width, k.height))
    wanted = np.stack(np.meshgrid(x, y), -1)
    found = distort(lens, (wanted - [k.cx, k.cy]) / [k.fx, k.fy])
    return bool(np.linalg.norm(found - wanted, axis=-1).max() <= UNSEEN * max(k.width, k.height))


def photo_pixels(lens: Lens, pinhole: Intrinsics, first_row: int, last_row: int) -> np.ndarray:
    """Where the pixel centres of some rows of the undistorted photo lie in the photo.

    Args:
        lens: The photo's lens.
        pinhole: The undistorted photo's intrinsics, as `pinhole_for` makes them.
        first_row: The first row, from 0.
        last_row: The row after the last.

    Returns:
        (last_row - first_row, pinhole.width, 2) float64, pixels of the photo.
    """
    x = (np.arange(pinhole.width) + 0.5 - pinhole.cx) / pinhole.fx
    y = (np.arange(first_row, last_row) + 0.5 - pinhole.cy) / pinhole.fy
    return distort(lens, np.stack(np.meshgrid(x, y), -1))


def _border(width: int, height: int, samples: int = 129) -> np.ndarray:
    """(4 * samples, 2) points along the outer edge of the picture."""
    x, y, one = np.linspace(0, width, samples), np.linspace(0, height, samples), np.ones(samples)
    return np.concatenate([np.c_[x, 0 * one], np.c_[x, height * one], np.c_[0 * one, y], np.c_[width * one, y]])
