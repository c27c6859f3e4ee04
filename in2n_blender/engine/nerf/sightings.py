"""Where training views see the capture's sparse points: how far away some of their pixels are.

Few photos leave open how far away plain things are. Sparse points say it for some pixels (Deng et al. 2022,
"Depth-supervised NeRF: Fewer Views and Faster Training for Free").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ...scene.capture import PinholeCapture, View
from ...scene.visibility import in_picture
from .dataset import RayDataset

# Training photos, from which on they tell by themselves where surfaces are, and more finely than points do: with 10 or
# 11 photos points gain 0.5 to 7 dB (draft preset, four captures), with 40 of a thing before the sky they lose 1.4 dB.
FEW_PHOTOS = 20
FEWEST_POINTS = 50  # of a capture; fewer say too little of it
MOST_IN_A_VIEW = 4000
# A point is hidden where another is nearer by this share of its depth, in the same cell or one beside it of a grid that
# has as many cells as there are points in the picture. Of 5,000 sightings so found in three rendered scenes 1% were
# wrong, against 15% to 50% of all points in the picture.
NEARER = 0.04
# How far the colour of a point may be off the photo's, sRGB from 0 to 1: here its weight is 1 / e.
COLOR_TOLERANCE = 0.1
LEAST_WEIGHT = 0.05


@dataclass(frozen=True)
class Sightings:
    """Pixels of the training views that show a sparse point.

    Attributes:
        pixels: (n,) indices of a `RayDataset`.
        distances: (n,) float32 to the point along the pixel's ray, in normalised scene units.
        weights: (n,) float32 in (0, 1]: how surely the pixel shows this very point.
    """

    pixels: torch.Tensor
    distances: torch.Tensor
    weights: torch.Tensor

    def __len__(self) -> int:
        return len(self.pixels)


def find_sightings(capture: PinholeCapture, dataset: RayDataset) -> Sightings | None:
    """The pixels of the training views that show sparse points.

    Where the capture says which photos see which points, these count, the more the less a point is off where photos
    show it. Where it does not, a point counts as seen where no other hides it and the photo has its colour there.

    Args:
        capture: With its sparse points.
        dataset: Of its training views.

    Returns:
        On the dataset's device; None where there are more than FEW_PHOTOS photos, or fewer than FEWEST_POINTS points,
        or none is seen.
    """
    if len(capture.points) < FEWEST_POINTS or len(dataset) > FEW_PHOTOS:
        return None
    found = [_sightings_in(view, number, capture, dataset) for number, view in enumerate(capture.training_views)]
    pixels, distances, weights = (np.concatenate(values) for values in zip(*found))
    if not len(pixels):
        return None
    on_device = lambda values: torch.from_numpy(values).to(dataset.device)
    return Sightings(on_device(pixels), on_device(distances.astype(np.float32)), on_device(weights.astype(np.float32)))


def _sightings_in(
    view: View, number: int, capture: PinholeCapture, dataset: RayDataset
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels, distances and weights of what one training view sees."""
    k = view.camera.intrinsics
    numbers, places, depth = in_picture(view.camera, capture.points)
    if capture.tracks is None:
        seen = ~hidden(*places.T, depth, k.width, k.height)
    else:
        seen = np.isin(numbers, capture.tracks.seen_by(_number_of(view, capture)))
    numbers, (column, row) = numbers[seen], places[seen].astype(np.int64).T
    pixels = dataset.starts[number] + row * k.width + column
    if capture.tracks is None:
        weights = _likeness(dataset, pixels, capture.point_colors[numbers] if len(capture.point_colors) else None)
    else:
        weights = _likeness(dataset, pixels, None) * _exactness(capture.tracks.errors)[numbers]
    kept = np.nonzero(weights >= LEAST_WEIGHT)[0]
    kept = kept[:: max(1, len(kept) // MOST_IN_A_VIEW)]
    away = np.asarray(capture.points, np.float64)[numbers[kept]] - view.camera.position
    return pixels[kept], np.linalg.norm(away, axis=1) * dataset.transform.scale, weights[kept]


def _number_of(view: View, capture: PinholeCapture) -> int:
    return next(number for number, one in enumerate(capture.views) if one is view)


def _exactness(errors: np.ndarray) -> np.ndarray:
    """(p,) weights: by how far a point is off where photos show it, against the mean, as Deng et al. weight theirs; 1
    at most, and where nothing is known of it."""
    known = np.isfinite(errors)
    mean = max(float(errors[known].mean()), 1e-6) if known.any() else 1.0
    return np.where(known, np.minimum(1.0, 2 * np.exp(-((np.where(known, errors, 0.0) / mean) ** 2))), 1.0)


def hidden(column: np.ndarray, row: np.ndarray, depth: np.ndarray, width: int, height: int) -> np.ndarray:
    """Which points others hide from a camera, judged by the points alone.

    Args:
        column: (n,) pixels from the left, within the picture.
        row: (n,) pixels from the top.
        depth: (n,) along the camera's axis.
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.

    Returns:
        (n,) bool.
    """
    cell = max(1.0, np.sqrt(width * height / max(len(depth), 1)))
    shape = int(height / cell) + 1, int(width / cell) + 1
    down, right = (row / cell).astype(np.int64), (column / cell).astype(np.int64)
    nearest = np.full((shape[0] + 2, shape[1] + 2), np.inf)  # with a border of a cell
    np.minimum.at(nearest, (down + 1, right + 1), depth)
    around = np.min([nearest[i : i + shape[0], j : j + shape[1]] for i in range(3) for j in range(3)], axis=0)
    return around[down, right] < depth * (1 - NEARER)


def _likeness(dataset: RayDataset, pixels: np.ndarray, colors: np.ndarray | None) -> np.ndarray:
    """(n,) from 0 to 1: how well the photo's colours agree with the points' own, if they have some, and 0 where a mask
    covers the pixel."""
    at = torch.from_numpy(pixels).to(dataset.device)
    weights = np.ones(len(pixels))
    if colors is not None:
        off = np.abs(dataset.targets(at)[:, :3].cpu().numpy() - colors / 255).mean(1)
        weights = np.exp(-((off / COLOR_TOLERANCE) ** 2))
    counts = dataset.count(at)
    return weights if counts is None else weights * counts.cpu().numpy()
