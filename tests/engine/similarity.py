"""Cameras that were found, held to the true ones: where the origin, axes and scale are, photos do not tell."""

from __future__ import annotations

import numpy as np


def centre_errors(placed, truth) -> np.ndarray:
    """How far centres are off after the best similarity (Umeyama 1991), as shares of the true ones' extent.

    Args:
        placed: (4, 4) camera-to-world, one a camera.
        truth: Those of the same cameras.

    Returns:
        (n,), one a camera.
    """
    a, b = (np.array([pose[:3, 3] for pose in poses]) for poses in (placed, truth))
    from_middle, to_middle = a - a.mean(0), b - b.mean(0)
    u, s, vt = np.linalg.svd(to_middle.T @ from_middle)
    signs = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    scale = (s * signs).sum() / (from_middle**2).sum()
    moved = scale * from_middle @ (u @ np.diag(signs) @ vt).T
    return np.linalg.norm(moved - to_middle, axis=1) / np.linalg.norm(np.ptp(b, axis=0))
