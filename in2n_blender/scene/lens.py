"""Lenses of real photos: pinhole, OpenCV (Brown-Conrady) and OpenCV fisheye (Kannala-Brandt) distortion.

Directions are points on the plane at depth 1 in OpenCV's axes (x right, y down). Pixels have their origin at the outer
corner of the upper-left pixel, as in `camera`, which is COLMAP's convention; OpenCV's own pixels are 0.5 less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.polynomial import Polynomial

from .camera import Intrinsics
from .errors import In2nError

MODELS = ("pinhole", "opencv", "brown", "opencv_fisheye")

FISHEYE_HALF_ANGLE = math.radians(60.0)
"""A pinhole view of a fisheye photo reaches at most this far from the axis, at its corners: beyond it stretches too
much."""


@dataclass(frozen=True)
class Lens:
    """A photo's lens in pixels of that photo. Distortion that is shorter than its model is padded with 0.

    model: "pinhole";
    "opencv" (distortion = k1, k2, p1, p2, k3, k4, k5, k6 of OpenCV's rational model);
    "brown" (k1, k2, p1, p2, k3, k4 with k4 the radial term of order 8, as nerfstudio has it; no denominator)
    or "opencv_fisheye" (k1, k2, k3, k4).
    """

    model: str
    intrinsics: Intrinsics
    distortion: tuple[float, ...] = ()

    @property
    def is_pinhole(self) -> bool:
        return self.model == "pinhole" or (self.model != "opencv_fisheye" and not any(self.distortion))

    @property
    def is_square_pinhole(self) -> bool:
        """Whether the photo already is what `pinhole_for` describes, so that no pixel has to move."""
        return self.is_pinhole and self.intrinsics.square_pixels

    def scaled_to(self, width: int, height: int) -> Lens:
        """The same lens for the same photo resampled to width x height pixels."""
        return replace(self, intrinsics=self.intrinsics.scaled_to(width, height))


def distort(lens: Lens, directions: np.ndarray) -> np.ndarray:
    """Pixels of the photo, (..., 2) float64, that see the directions (..., 2) at depth 1.

    OpenCV, "Detailed description" of calib3d and of its fisheye model.
    """
    directions = np.asarray(directions, np.float64)
    k = lens.intrinsics
    x, y = _distorted(lens, directions[..., 0], directions[..., 1])
    return np.stack([k.cx + k.fx * x, k.cy + k.fy * y], -1)


def undistort(lens: Lens, pixels: np.ndarray, iterations: int = 50) -> np.ndarray:
    """The directions (..., 2) at depth 1 that the pixels (..., 2) of the photo see: the inverse of `distort`.

    Newton's method with a numerical derivative. Where a lens has no such direction (beyond the range in which its
    formula is one to one) the result is NaN.
    """
    pixels = np.asarray(pixels, np.float64)
    k = lens.intrinsics
    target_x, target_y = (pixels[..., 0] - k.cx) / k.fx, (pixels[..., 1] - k.cy) / k.fy
    if lens.is_pinhole:
        return np.stack([target_x, target_y], -1)
    if lens.model == "opencv_fisheye":
        return _undistort_fisheye(lens, target_x, target_y)
    x, y = target_x.copy(), target_y.copy()
    step = 1e-6
    for _ in range(iterations):
        x0, y0 = _distorted(lens, x, y)
        xx, yx = (np.array(_distorted(lens, x + step, y)) - np.array(_distorted(lens, x - step, y))) / (2 * step)
        xy, yy = (np.array(_distorted(lens, x, y + step)) - np.array(_distorted(lens, x, y - step))) / (2 * step)
        determinant = xx * yy - xy * yx
        dx, dy = target_x - x0, target_y - y0
        move_x, move_y = (yy * dx - xy * dy) / determinant, (xx * dy - yx * dx) / determinant
        # a step never leaps over the image: far out the polynomial's slope can be almost flat
        shrink = np.minimum(1.0, 0.5 / np.maximum(np.hypot(move_x, move_y), 1e-12))
        x, y = x + shrink * move_x, y + shrink * move_y
        if np.nanmax(np.hypot(move_x, move_y), initial=0.0) < 1e-14:
            break
    error = np.hypot(*(np.array(_distorted(lens, x, y)) - np.array([target_x, target_y])))
    good = (error < 1e-9) & (np.hypot(x, y) <= one_to_one_radius(lens))
    return np.where(good[..., None], np.stack([x, y], -1), np.nan)


def one_to_one_radius(lens: Lens) -> float:
    """The distance from the axis at depth 1 up to which the lens maps different directions to different pixels.

    Beyond it a distortion polynomial turns back and would show a part of the photo twice. Tangential terms, which are
    small wherever a calibration made sense, are left out. Infinity for a pinhole lens.
    """
    if lens.model == "opencv_fisheye":
        return math.tan(min(_fisheye_limit(lens), math.pi / 2 * (1 - 1e-9)))
    if lens.is_pinhole:
        return math.inf
    numerator, denominator = (Polynomial(c) for c in _radial(lens))
    # d/dr of r N(r^2) / D(r^2), times D^2, as a polynomial of u = r^2
    slope = numerator * denominator + Polynomial([0, 2]) * (
        numerator.deriv() * denominator - numerator * denominator.deriv()
    )
    return math.sqrt(min(_first_positive_root(slope), _first_positive_root(denominator)))


def pinhole_for(lens: Lens) -> Intrinsics:
    """The pinhole camera with square pixels for the undistorted photo.

    It keeps the photo's size and the place of the principal point and has the shortest focal length with which every
    pixel still sees a part of the photo: no border without a picture, and as little as possible cut away (as OpenCV's
    alpha = 0, but without moving the centre). A lens that is already so is returned as it is. The view of a fisheye
    photo is limited to FISHEYE_HALF_ANGLE at the corners. Raises In2nError("bad_intrinsics") if there is no such
    camera.
    """
    k = lens.intrinsics
    if lens.is_square_pinhole:
        mean = (k.fx + k.fy) / 2
        return replace(k, fx=mean, fy=mean)
    border = _border(k.width, k.height) - [k.cx, k.cy]
    limit = one_to_one_radius(lens) * (1 - 1e-6)
    if lens.model == "opencv_fisheye":
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


def photo_pixels(lens: Lens, pinhole: Intrinsics, first_row: int, last_row: int) -> np.ndarray:
    """Where the pixel centres of rows first_row..last_row - 1 of the undistorted photo lie in the photo.

    Returns (rows, width, 2) float64 pixels of the photo.
    """
    x = (np.arange(pinhole.width) + 0.5 - pinhole.cx) / pinhole.fx
    y = (np.arange(first_row, last_row) + 0.5 - pinhole.cy) / pinhole.fy
    return distort(lens, np.stack(np.meshgrid(x, y), -1))


def _distorted(lens: Lens, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if lens.is_pinhole:
        return x, y
    if lens.model == "opencv_fisheye":
        radius = np.hypot(x, y)
        angle = np.arctan(radius)
        scale = np.where(radius > 1e-12, _fisheye_polynomial(lens)(angle) / np.maximum(radius, 1e-12), 1.0)
        return x * scale, y * scale
    numerator, denominator = _radial(lens)
    _, _, p1, p2 = _padded(lens.distortion, 8)[:4]
    square = x * x + y * y
    radial = _horner(numerator, square) / _horner(denominator, square)
    return (
        x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x),
        y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y,
    )


def _radial(lens: Lens) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Coefficients in r^2 of the numerator and the denominator of the radial factor."""
    k1, k2, _, _, k3, k4, k5, k6 = _padded(lens.distortion, 8)
    return ((1, k1, k2, k3, k4), (1,)) if lens.model == "brown" else ((1, k1, k2, k3), (1, k4, k5, k6))


def _fisheye_polynomial(lens: Lens) -> Polynomial:
    k1, k2, k3, k4 = _padded(lens.distortion, 4)
    return Polynomial([0, 1, 0, k1, 0, k2, 0, k3, 0, k4])


def _fisheye_limit(lens: Lens) -> float:
    """The angle from the axis, in radians, at which the fisheye polynomial turns back, at most 90 degrees."""
    return min(_first_positive_root(_fisheye_polynomial(lens).deriv()), math.pi / 2)


def _undistort_fisheye(lens: Lens, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    polynomial = _fisheye_polynomial(lens)
    slope, limit, radius = polynomial.deriv(), _fisheye_limit(lens), np.hypot(x, y)
    low, high = np.zeros_like(radius), np.full_like(radius, limit)
    angle = np.minimum(radius, limit)
    for _ in range(60):
        value = polynomial(angle) - radius
        low, high = np.where(value < 0, angle, low), np.where(value < 0, high, angle)
        newton = angle - value / np.where(slope(angle) > 1e-9, slope(angle), 1e-9)
        angle = np.where((newton > low) & (newton < high), newton, (low + high) / 2)
    scale = np.where(radius > 1e-12, np.tan(angle) / np.maximum(radius, 1e-12), 1.0)
    good = (np.abs(polynomial(angle) - radius) < 1e-9) & (angle < math.pi / 2)
    return np.where(good[..., None], np.stack([x * scale, y * scale], -1), np.nan)


def _first_positive_root(polynomial: Polynomial) -> float:
    roots = polynomial.trim().roots()
    real = roots.real[(np.abs(roots.imag) < 1e-9 * (1 + np.abs(roots.real))) & (roots.real > 0)]
    return float(real.min()) if len(real) else math.inf


def _border(width: int, height: int, samples: int = 129) -> np.ndarray:
    """(4 * samples, 2) points along the outer edge of the picture."""
    x, y, one = np.linspace(0, width, samples), np.linspace(0, height, samples), np.ones(samples)
    return np.concatenate([np.c_[x, 0 * one], np.c_[x, height * one], np.c_[0 * one, y], np.c_[width * one, y]])


def _horner(coefficients: tuple[float, ...], x: np.ndarray):
    value = coefficients[-1]
    for c in coefficients[-2::-1]:
        value = value * x + c
    return value


def _padded(distortion: tuple[float, ...], length: int) -> tuple[float, ...]:
    if len(distortion) > length:
        raise ValueError(f"{len(distortion)} distortion parameters, at most {length} are known")
    return tuple(distortion) + (0.0,) * (length - len(distortion))
