"""Whether cameras stand in different places: without that, photos do not tell how far away anything is."""

from __future__ import annotations

import numpy as np

LEAST_PARALLAX = 1e-3  # of the distance to what is seen: less moves nothing by a pixel
LEAST_SPREAD = 1e-5  # capture units, where nothing tells how far away things are


def in_one_place(positions: np.ndarray, points: np.ndarray) -> bool:
    """Whether all cameras stand in what is one place for what they see.

    Args:
        positions: (n, 3) camera centres, in the capture's units.
        points: (p, 3) sparse points, none where the capture has none.

    Returns:
        True where the cameras' extent is less than LEAST_PARALLAX of the distance to the points.
    """
    positions = np.asarray(positions, np.float64)
    middle = np.median(positions, 0)
    spread = float(np.linalg.norm(positions - middle, axis=1).max())
    if len(points) < 10:
        return spread < LEAST_SPREAD + 1e-12 * float(np.linalg.norm(middle))
    return spread < LEAST_PARALLAX * float(np.median(np.linalg.norm(np.asarray(points, np.float64) - middle, axis=1)))
