"""How bright and how sharp photos are, compared where they show the same points.

What a photo shows decides how bright and how detailed it is, far more than how it was taken. So each photo is compared
with its neighbours at the points that both see: the median of the differences of log2 of the light, and of the finest
detail against coarser detail. From these differences follow levels of all photos, by least squares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .srgb import srgb_to_linear

DARKEST, BRIGHTEST = 0.03, 0.97  # sRGB; beyond them a photo's own limits show
WINDOW = 7  # pixels to each side, in which detail is measured
SMOOTH = 1e-5  # mean square of coarse detail: less is a plain wall, or noise
FEWEST = 12  # points that a photo shares with others, for it to be compared
ROUNDS = 5
ORDINARY = 0.05  # residual of a pair of photos; larger ones weigh less


@dataclass(frozen=True)
class PhotoSignals:
    """What is measured in one photo, at points that it sees; NaN where nothing can be told.

    Attributes:
        points: (n,) which points.
        light: (n, 3) log2 of linear red, green and blue.
        detail: (n,) log2 of the finest detail's share.
        own_detail: The median of the latter over the whole photo.
    """

    points: np.ndarray
    light: np.ndarray
    detail: np.ndarray
    own_detail: float


def measured(image: np.ndarray, points: np.ndarray, pixels: np.ndarray, counts: np.ndarray | None = None):
    """Measure a photo at points.

    Args:
        image: (height, width, 3 or 4) uint8 sRGB, with straight alpha where it has any.
        points: (n,) which points.
        pixels: (n, 2) where they are in the photo.
        counts: (height, width) bool, which pixels count; None: all.

    Returns:
        PhotoSignals.
    """
    colour = image[..., :3].astype(np.float32) / 255
    usable = np.ones(image.shape[:2], bool) if counts is None else counts.copy()
    if image.shape[2] == 4:
        usable &= image[..., 3] >= 250
    detail = _detail(colour.mean(-1))
    detail[_box(usable.astype(np.float32), 2) < 0.999] = np.nan  # an edge of a mask is no detail
    x, y = (np.clip(pixels[:, i].astype(np.int64), 0, image.shape[1 - i] - 1) for i in (0, 1))
    around = np.stack([_box(colour[..., channel], 1) for channel in range(3)], -1)[y, x]
    good = (around > DARKEST) & (around < BRIGHTEST)
    light = np.where(good.all(1) & usable[y, x], np.log2(srgb_to_linear(np.maximum(around, DARKEST))).T, np.nan).T
    told = detail[np.isfinite(detail)]
    own = float(np.median(told)) if told.size else np.nan
    return PhotoSignals(np.asarray(points), light.astype(np.float32), detail[y, x].astype(np.float32), own)


def photo_effects(signals: list[np.ndarray], points: list[np.ndarray], neighbours: np.ndarray) -> np.ndarray:
    """What of some measure is the photo's, and not what it shows.

    Args:
        signals: For each photo (n_i,) its measure at points, NaN where there is none.
        points: For each photo (n_i,) which points, ascending.
        neighbours: (photos, n) the photos that each is compared with.

    Returns:
        (photos,) with a median of 0; NaN for photos that share fewer than FEWEST points with any other.
    """
    pairs, differences, weights = [], [], []
    for one, near in enumerate(neighbours):
        for other in near:
            _, mine, theirs = np.intersect1d(points[one], points[other], assume_unique=True, return_indices=True)
            difference = signals[one][mine] - signals[other][theirs]
            difference = difference[np.isfinite(difference)]
            if len(difference) >= FEWEST:
                pairs.append((one, other))
                differences.append(np.median(difference))
                weights.append(np.sqrt(len(difference)) / (0.1 + np.median(np.abs(difference - differences[-1]))))
    effects = np.full(len(signals), np.nan)
    if not pairs:
        return effects
    compared = np.unique(pairs)
    found = _levelled(np.searchsorted(compared, pairs), np.array(differences), np.array(weights), len(compared))
    effects[compared] = found - np.median(found)
    return effects


def _levelled(pairs: np.ndarray, differences: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """(count,) levels whose differences are nearest those of pairs: least squares, of large residuals the first power
    (iteratively reweighted)."""
    one, other = pairs.T
    found, own = np.zeros(count), weights
    for _ in range(ROUNDS):
        matrix, right = np.eye(count) * 1e-6 * weights.mean(), np.zeros(count)
        for i, j, sign in ((one, one, 1), (other, other, 1), (one, other, -1), (other, one, -1)):
            np.add.at(matrix, (i, j), sign * own)
        np.add.at(right, one, own * differences)
        np.add.at(right, other, -own * differences)
        found = np.linalg.solve(matrix, right)
        residual = np.abs(found[one] - found[other] - differences)
        own = weights / np.maximum(residual / ORDINARY, 1.0)
    return found


def _detail(grey: np.ndarray) -> np.ndarray:
    """(height, width) log2 of how much of the detail around each pixel is of the finest; NaN where there is hardly any.

    The spectrum of what is photographed falls evenly (Field 1987), so that one octave tells how much is to be expected
    in the next; blur takes away the finer first.
    """
    fine, coarse = grey - _box(grey, 1), _box(grey, 1) - _box(grey, 3)
    fine, coarse = _box(fine * fine, WINDOW), _box(coarse * coarse, WINDOW)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(coarse > SMOOTH, np.log2((fine + 1e-7) / coarse), np.nan)


def _box(image: np.ndarray, reach: int) -> np.ndarray:
    """(height, width) the mean of (2 reach + 1) squared pixels, the border repeated."""
    for axis in (0, 1):
        padding = [(0, 0), (0, 0)]
        padding[axis] = (reach + 1, reach)
        sums = np.cumsum(np.pad(image, padding, mode="edge"), axis, dtype=np.float64)
        size = 2 * reach + 1
        upper, lower = (sums[size:], sums[:-size]) if axis == 0 else (sums[:, size:], sums[:, :-size])
        image = ((upper - lower) / size).astype(np.float32)
    return image
