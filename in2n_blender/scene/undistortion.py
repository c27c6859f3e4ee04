"""Lenses whose formula leads from the photo to the straight picture, as AliceVision has those of 3DEqualizer.

Places are relative to the plate's middle, in units of half its diagonal (aliceVision/camera/Undistortion*.cpp; SDV's
"Lens Distortion Plugin Kit" for the models themselves). Where a straight place is in the photo is found by Newton's
method.
"""

from __future__ import annotations

import numpy as np

# model -> its parameters: where the plate's units are (see `bent`), its pixels' aspect, then its coefficients
MODELS = {"3de_anamorphic4": 18, "3de_classic": 10, "3de_radial4": 13, "radial_undistortion": 8}
PLATE = 5
_STEPS, _NEAR, _SHIFT = 30, 1e-9, 1e-6


def bent(model: str, d: tuple[float, ...], x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a lens shows directions.

    Args:
        model: One of MODELS.
        d: All of its parameters. In the plate's units a place x, y of the straight picture, which is in units of the
            focal length, is d[0] x + d[1], d[2] y + d[3].
        x: To the right, at depth 1.
        y: Down, at depth 1.

    Returns:
        x and y in units of the focal length; NaN where the lens sees nothing.
    """
    straight = d[0] * x + d[1], d[2] * y + d[3]
    across, down = straight
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        for _ in range(_STEPS):
            at = straightened(model, d, across, down)
            off = at[0] - straight[0], at[1] - straight[1]
            if not np.nanmax(np.abs(off), initial=0.0) > _NEAR * 0.01:
                break
            right, below = (
                straightened(model, d, across + _SHIFT, down),
                straightened(model, d, across, down + _SHIFT),
            )
            (a, c), (b, e) = ([(new - old) / _SHIFT for new, old in zip(moved, at)] for moved in (right, below))
            determinant = a * e - b * c
            across = across - (e * off[0] - b * off[1]) / determinant
            down = down - (a * off[1] - c * off[0]) / determinant
        at = straightened(model, d, across, down)
        right = (np.abs(at[0] - straight[0]) < _NEAR) & (np.abs(at[1] - straight[1]) < _NEAR)
    return np.where(right, (across - d[1]) / d[0], np.nan), np.where(right, (down - d[3]) / d[2], np.nan)


def straightened(model: str, d: tuple[float, ...], x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a place of the photo is in the straight picture, both in the plate's units.

    Args:
        model: One of MODELS.
        d: All of its parameters.
        x: To the right.
        y: Down.
    """
    return _FORMULAS[model](d[4], d[PLATE:], x, y)


def _anamorphic4(aspect, d, x, y):
    *c, phi, squeeze_x, squeeze_y = d
    cos, sin, x = np.cos(phi), np.sin(phi), x / aspect
    x, y = cos * x - sin * y, sin * x + cos * y
    x, y = x * _by_angle(c[0::2], x, y) * aspect * squeeze_x, y * _by_angle(c[1::2], x, y) * squeeze_y
    return cos * x + sin * y, cos * y - sin * x


def _by_angle(c, x, y):
    """1 + c0 r2 + c1 r2 cos(2 t) + c2 r4 + c3 r4 cos(2 t) + c4 r4 cos(4 t), t the angle from the x axis."""
    xx, yy = x * x, y * y
    square, double = xx + yy, xx - yy  # r2, r2 cos(2 t)
    four = double * double - 4 * xx * yy  # r4 cos(4 t)
    return 1 + c[0] * square + c[1] * double + c[2] * square * square + c[3] * square * double + c[4] * four


def _classic(aspect, d, x, y):
    two, squeeze, curve_x, curve_y, four = d
    xx, yy = x * x, y * y
    fourth = four * (xx + yy) ** 2
    return (
        x * (1 + (two * xx + (two + curve_x) * yy + fourth) / squeeze),
        y * (1 + (two + curve_y) * xx + two * yy + fourth),
    )


def _radial4(aspect, d, x, y):
    c2, u1, v1, c4, u3, v3, phi, bending = d
    square = x * x + y * y
    factor, u, v = 1 + c2 * square + c4 * square * square, u1 + u3 * square, v1 + v3 * square
    x, y = (
        x * factor + (square + 2 * x * x) * u + 2 * x * y * v,
        y * factor + (square + 2 * y * y) * v + 2 * x * y * u,
    )
    q, cos, sin = np.sqrt(1 + bending), np.cos(phi), np.sin(phi)
    mixed = (q - 1 / q) * cos * sin
    return (cos * cos * q + sin * sin / q) * x + mixed * y, mixed * x + (cos * cos / q + sin * sin * q) * y


def _radial(aspect, d, x, y):
    square = x * x + y * y
    factor = 1 + square * (d[0] + square * (d[1] + square * d[2]))
    return x * factor, y * factor


_FORMULAS = {
    "3de_anamorphic4": _anamorphic4,
    "3de_classic": _classic,
    "3de_radial4": _radial4,
    "radial_undistortion": _radial,
}
