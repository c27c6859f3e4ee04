"""Which photos of a capture see which of its sparse points, as the program that found these knows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

LOST = -1  # instead of the number of a photo that is not in the capture


def _none() -> np.ndarray:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class Tracks:
    """Sightings, ordered by point.

    Attributes:
        counts: (p,) int64, how many photos see each point.
        photos: (n,) int64, the numbers of these photos, point after point.
        errors: (p,) float32, how far each point appears from where photos show it, in pixels on average; NaN where
            that is not known.
    """

    counts: np.ndarray = field(default_factory=_none)
    photos: np.ndarray = field(default_factory=_none)
    errors: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    @staticmethod
    def of(tracks: Sequence[Iterable[int]], errors: Sequence[float] | None = None) -> Tracks:
        """From the photos of each point.

        Args:
            tracks: Of each point, the numbers of the photos that see it; one that is there twice counts once.
            errors: Of each point, in pixels; None where they are not known.

        Returns:
            The same as arrays.
        """
        sets = [sorted(set(track)) for track in tracks]
        photos = np.array([photo for one in sets for photo in one], np.int64)
        errors = np.full(len(sets), np.nan) if errors is None else errors
        return Tracks(np.array([len(one) for one in sets], np.int64), photos, np.asarray(errors, np.float32))

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def points(self) -> np.ndarray:
        """(n,) int64, the number of the point of each sighting."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def seen_by(self, photo: int) -> np.ndarray:
        """The points that a photo sees.

        Args:
            photo: Its number.

        Returns:
            (k,) int64 numbers of points, ascending.
        """
        return self.points[self.photos == photo]

    def of_points(self, chosen: np.ndarray) -> Tracks:
        """The tracks of some of the points.

        Args:
            chosen: (q,) numbers of points, or (p,) bool.

        Returns:
            Of these points, in this order.
        """
        starts = np.concatenate([[0], np.cumsum(self.counts)])
        numbers = np.arange(len(self.counts))[chosen]
        counts = self.counts[numbers]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return Tracks(counts, self.photos[np.repeat(starts[numbers], counts) + within], self.errors[numbers])

    def with_photos(self, numbers: np.ndarray) -> Tracks:
        """The same with photos renumbered, or gone.

        Args:
            numbers: (f,) the new number of each photo, LOST of those that are gone.

        Returns:
            Without the sightings of photos that are gone.
        """
        numbers = np.asarray(numbers, np.int64)
        known = (self.photos >= 0) & (self.photos < len(numbers))
        new = np.where(known, numbers[np.where(known, self.photos, 0)] if len(numbers) else LOST, LOST)
        kept = new != LOST
        return Tracks(np.bincount(self.points[kept], minlength=len(self)), new[kept], self.errors)

    def followed_by(self, other: Tracks) -> Tracks:
        """The tracks of these points and of others behind them.

        Args:
            other: Of the others.
        """
        return Tracks(*(np.concatenate(pair) for pair in zip(self._arrays(), other._arrays())))

    def _arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.counts, self.photos, self.errors

    def to_json(self) -> dict:
        known = np.isfinite(self.errors)
        errors = [round(float(e), 3) if k else None for e, k in zip(self.errors, known)] if known.any() else []
        return {"counts": self.counts.tolist(), "photos": self.photos.tolist(), "errors": errors}

    @staticmethod
    def from_json(data: object, points: int, photos: int) -> Tracks:
        """What `to_json` wrote, or a stranger.

        Args:
            data: Parsed JSON.
            points: How many points the capture has.
            photos: How many photos.

        Raises:
            ValueError: For what does not fit these.
            KeyError, TypeError, OverflowError: For what is something else.
        """
        counts, seen = (np.array(data[key], np.float64).reshape(-1) for key in ("counts", "photos"))
        errors = np.array(data["errors"] or [None] * points, np.float32).reshape(-1)
        whole = all((values == np.floor(values)).all() and (values >= 0).all() for values in (counts, seen))
        if not whole or len(counts) != points or counts.sum() != len(seen) or len(errors) != points:
            raise ValueError("its tracks do not fit its points")
        if (seen >= photos).any() or (errors < 0).any():
            raise ValueError("its tracks name photos that it does not have")
        return Tracks(counts.astype(np.int64), seen.astype(np.int64), errors)
