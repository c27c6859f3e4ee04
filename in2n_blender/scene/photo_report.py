"""A capture's report: what can be said of each photo and of all, and what would improve it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from .capture import PinholeCapture
from .coverage import Coverage, coverage_of
from .photo_signals import PhotoSignals, photo_effects
from .visibility import FEWEST_POINTS, overlaps, parallaxes, seen, stand_ins

MOST_POINTS, MOST_SIGHTINGS = 4000, 2_000_000  # points that are looked at: fewer where there are many photos
PARALLAX_POINTS = 400


@dataclass(frozen=True)
class PhotoReport:
    """One photo among the others.

    Attributes:
        sharpness: How much of its finest detail it has, against other photos of the same points; 1 is usual, 0.5 has
            half the contrast in it. At the size that is trained on. None where nothing can be told.
        exposure_ev: How much brighter it is than other photos of the same points, in stops; the median photo is at 0.
            None where nothing can be told.
        points: About how many of the capture's sparse points it sees; 0 where there are none.
        overlap: The share of what it sees that its nearest photos see, too, 0 to 1.
        parallax_degrees: From how different a direction others see what it sees.
        balance_ev: How much brighter red and blue are than green, against other photos, in stops; None as exposure.
    """

    sharpness: float | None
    exposure_ev: float | None
    points: int
    overlap: float
    parallax_degrees: float
    balance_ev: tuple[float, float] | None = None


@dataclass(frozen=True)
class CaptureReport:
    """All photos of a capture.

    Attributes:
        photos: By the view's name.
        left_out: Names of photos that are missing or cannot be used.
        coverage: From where the photos look.
        has_points: Whether there are sparse points; else overlap and parallax are by the cameras alone.
    """

    photos: dict[str, PhotoReport]
    left_out: tuple[str, ...]
    coverage: Coverage
    has_points: bool

    @property
    def exposure_spread(self) -> float | None:
        """Stops between all but the darkest and the brightest twentieth of the photos; None where nobody tells."""
        known = [photo.exposure_ev for photo in self.photos.values() if photo.exposure_ev is not None]
        return float(np.ptp(np.percentile(known, (5, 95)))) if len(known) > 1 else None

    def median(self, what: str) -> float | None:
        """The median of one measure.

        Args:
            what: The field of `PhotoReport`.

        Returns:
            The median over the photos of which it is known; None where it is of none.
        """
        known = [value for photo in self.photos.values() if (value := getattr(photo, what)) is not None]
        return float(np.median(known)) if known else None

    def to_json(self) -> dict:
        return {
            "photos": {name: asdict(photo) for name, photo in self.photos.items()},
            "left_out": list(self.left_out),
            "coverage": asdict(self.coverage),
            "has_points": self.has_points,
        }

    @staticmethod
    def from_json(data: object) -> CaptureReport:
        """What `to_json` wrote.

        Args:
            data: Parsed JSON.

        Raises:
            ValueError, TypeError, KeyError: For anything else.
        """
        photos = {str(name): _photo(one) for name, one in data["photos"].items()}
        coverage = Coverage(**{**data["coverage"], "gap_between": tuple(data["coverage"]["gap_between"])})
        return CaptureReport(photos, tuple(map(str, data["left_out"])), coverage, bool(data["has_points"]))


def _photo(data: dict) -> PhotoReport:
    def number(key: str) -> float | None:
        value = data[key]
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{key} is not finite")
        return value

    balance = data.get("balance_ev")
    return PhotoReport(
        number("sharpness"), number("exposure_ev"), int(data["points"]), float(data["overlap"]),
        float(data["parallax_degrees"]), None if balance is None else (float(balance[0]), float(balance[1])),
    )  # fmt: skip


class Sightings:
    """Which points the photos of a capture see: sparse ones, or stand-ins where there are hardly any.

    Args:
        capture: As it is in a workspace.
    """

    def __init__(self, capture: PinholeCapture):
        self.cameras = [view.camera for view in capture.views]
        self.has_points = len(capture.points) >= FEWEST_POINTS
        points = np.asarray(capture.points, np.float64) if self.has_points else stand_ins(self.cameras)
        self.all_points = len(capture.points)
        most = max(500, min(MOST_POINTS, MOST_SIGHTINGS // len(self.cameras)))
        if len(points) > most:
            points = points[np.sort(np.random.default_rng(0).choice(len(points), most, replace=False))]
        self.points = points

    def of(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """What one photo sees.

        Args:
            number: Which view of the capture.

        Returns:
            (n,) the points' numbers, and (n, 2) their pixels.
        """
        return seen(self.cameras[number], self.points, solid=self.has_points)


def report_of(capture: PinholeCapture, signals: Sequence[PhotoSignals | None] | None = None) -> CaptureReport:
    """The report of a capture.

    Args:
        capture: As it is in a workspace.
        signals: What was measured in its photos, at `Sightings(capture).of`; None for those that could not be read, or
            for all, where only the cameras are looked at.

    Returns:
        The report; what no picture was looked at for is None.
    """
    sightings = Sightings(capture)
    sees = np.zeros((len(capture.views), len(sightings.points)), bool)
    for number in range(len(capture.views)):
        sees[number, sightings.of(number)[0]] = True
    shares, neighbours = overlaps(sees, sightings.cameras, sightings.points)
    some = slice(None, None, -(-len(sightings.points) // PARALLAX_POINTS))
    positions = np.array([camera.position for camera in sightings.cameras])
    angles = parallaxes(sees[:, some], positions, sightings.points[some])
    ratio = sightings.all_points / len(sightings.points) if sightings.has_points else 0
    given = list(signals) if signals is not None else [None] * len(capture.views)
    sharp, light = _sharpness(given, neighbours, sightings.has_points), _light(given, neighbours, sightings.has_points)
    photos = {
        view.name: PhotoReport(
            _known(sharp[i]),
            _known(light[i].mean()),
            round(int(sees[i].sum()) * ratio),
            round(float(shares[i]), 4),
            round(float(angles[i]), 3),
            None if np.isnan(light[i]).any() else tuple(round(float(light[i, c] - light[i, 1]), 4) for c in (0, 2)),
        )
        for i, view in enumerate(capture.views)
    }
    names = [view.name for view in capture.views]
    return CaptureReport(photos, tuple(capture.missing), coverage_of(sightings.cameras, names), sightings.has_points)


def _known(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def _sharpness(signals: list[PhotoSignals | None], neighbours: np.ndarray, has_points: bool) -> np.ndarray:
    """(n,) NaN where nothing can be told."""
    own = np.array([np.nan if one is None else one.own_detail for one in signals])
    effects = np.full(len(signals), np.nan)
    if has_points:
        effects = photo_effects(*_at_points(signals, lambda one: one.detail), neighbours)
    for i in np.flatnonzero(np.isnan(effects)):
        around = own[[i, *neighbours[i]]]
        if np.isfinite(own[i]) and np.isfinite(around).sum() > 2:
            effects[i] = own[i] - np.nanmedian(around)
    return np.exp2(effects / 2)  # the signal is of squares


def _light(signals: list[PhotoSignals | None], neighbours: np.ndarray, has_points: bool) -> np.ndarray:
    """(n, 3) stops of red, green and blue, NaN where nothing can be told."""
    if not has_points:
        return np.full((len(signals), 3), np.nan)
    channels = [_at_points(signals, lambda one, channel=c: one.light[:, channel]) for c in range(3)]
    return np.stack([photo_effects(*channel, neighbours) for channel in channels], 1)


def _at_points(signals: list[PhotoSignals | None], of) -> tuple[list[np.ndarray], list[np.ndarray]]:
    empty = np.zeros(0)
    values = [empty if one is None else of(one) for one in signals]
    return values, [empty.astype(np.int64) if one is None else one.points for one in signals]
