"""sRGB and the light that it stands for."""

from __future__ import annotations

import numpy as np


def srgb_to_linear(srgb: np.ndarray) -> np.ndarray:
    """Display-referred sRGB to linear light (IEC 61966-2-1).

    Args:
        srgb: Of any shape, in [0, 1].

    Returns:
        float32 of the same shape, in [0, 1].
    """
    srgb = np.asarray(srgb)
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(np.float32)


def linear_to_srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light to display-referred sRGB: the inverse of `srgb_to_linear`.

    Args:
        linear: Of any shape, from 0 upwards.

    Returns:
        float32 of the same shape; what is brighter than white stays so.
    """
    linear = np.asarray(linear)
    curved = 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, linear * 12.92, curved).astype(np.float32)
