"""How lenses bend directions: the formulas of the models that `lens.Lens` knows, on the plane at depth 1.

All take and give x and y in OpenCV's axes (x right, y down), in units of the focal length. Where a model's home is
COLMAP, it is as in its src/colmap/sensor/models.h, parameters in its order.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.polynomial import Polynomial

from . import undistortion

# models that see an angle rather than a tangent: a pinhole view of them needs a limit
FISHEYES = (
    *("opencv_fisheye", "thin_prism_fisheye", "rad_tan_thin_prism_fisheye", "fisheye624"),
    *("fov", "division", "eucm"),
)
MOST_PARAMETERS = {
    "pinhole": 0,
    "opencv": 8,
    "brown": 7,
    "opencv_fisheye": 4,
    "thin_prism_fisheye": 9,
    "rad_tan_thin_prism_fisheye": 12,
    "fisheye624": 12,
    "fov": 1,
    "division": 1,
    "eucm": 2,
    "inverse_radial": 1,
    **undistortion.MODELS,
}
_STEPS = 2000  # at which the radius of a lens is looked at


def distorted(model: str, parameters: tuple[float, ...], x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a lens shows directions.

    Args:
        model: One of MOST_PARAMETERS.
        parameters: Its parameters; those that are not there are 0.
        x: To the right, at depth 1.
        y: Down, at depth 1.

    Returns:
        x and y in units of the focal length; NaN where the lens sees nothing.

    Raises:
        ValueError: More parameters than the model has.
    """
    return _FORMULAS[model](padded(parameters, MOST_PARAMETERS[model]), x, y)


def one_to_one(model: str, parameters: tuple[float, ...]) -> float:
    """The tangent of the angle from the axis up to which a lens maps different directions to different places.

    Args:
        model: One of MOST_PARAMETERS.
        parameters: Its parameters; tangential and prism terms are left out.

    Returns:
        The tangent; infinity for a pinhole lens.
    """
    d = padded(parameters, MOST_PARAMETERS[model])
    if model == "pinhole":
        return math.inf
    if model == "opencv_fisheye":
        polynomial = Polynomial([0, 1, 0, d[0], 0, d[1], 0, d[2], 0, d[3]])
        limit = min(_first_positive_root(polynomial.deriv()), math.pi / 2)
        return math.tan(min(limit, math.pi / 2 * (1 - 1e-9)))
    if model in ("opencv", "brown"):
        numerator, denominator = (Polynomial(c) for c in radial(model, d))
        # d/dr of r N(r^2) / D(r^2), times D^2, as a polynomial of u = r^2
        slope = numerator * denominator + Polynomial([0, 2]) * (
            numerator.deriv() * denominator - numerator * denominator.deriv()
        )
        return math.sqrt(min(_first_positive_root(slope), _first_positive_root(denominator)))
    angles = np.linspace(0, math.pi / 2, _STEPS, endpoint=False)
    bent = distorted(model, _radial_alone(model, d), np.tan(angles), np.zeros(_STEPS))[0]
    with np.errstate(invalid="ignore"):
        rising = np.diff(bent) > 0
    last = int(np.argmin(rising)) if not rising.all() else _STEPS - 1
    return math.tan(angles[last])


def radial(model: str, d: tuple[float, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Coefficients in r^2 of the numerator and the denominator of the radial factor of "opencv" or "brown".

    Args:
        model: Which of the two.
        d: All of its parameters.
    """
    if model == "brown":
        k1, k2, _, _, k3, k4 = d[:6]
        return (1, k1, k2, k3, k4), (1,)
    k1, k2, _, _, k3, k4, k5, k6 = d
    return (1, k1, k2, k3), (1, k4, k5, k6)


def padded(parameters: tuple[float, ...], length: int) -> tuple[float, ...]:
    """Parameters with 0 for those that are not there.

    Args:
        parameters: The first ones.
        length: How many there are to be.

    Raises:
        ValueError: There are more.
    """
    if len(parameters) > length:
        raise ValueError(f"{len(parameters)} distortion parameters, at most {length} are known")
    return tuple(parameters) + (0.0,) * (length - len(parameters))


def _radial_alone(model: str, d: tuple[float, ...]) -> tuple[float, ...]:
    if model == "thin_prism_fisheye":
        return (d[0], d[1], 0, 0, d[4], d[5])
    return d[:6] if model in ("rad_tan_thin_prism_fisheye", "fisheye624") else d


def _pinhole(d, x, y):
    return x, y


def _brown_conrady(model):
    def bent(d, x, y):
        numerator, denominator = radial(model, d)
        square = x * x + y * y
        factor = _horner(numerator, square) / _horner(denominator, square)
        x, y = x * factor + _tangential(d[2], d[3], x, y)[0], y * factor + _tangential(d[2], d[3], x, y)[1]
        return (x + d[6] * y, y) if model == "brown" else (x, y)

    return bent


def _opencv_fisheye(d, x, y):
    return _thin_prism_fisheye((d[0], d[1], 0, 0, d[2], d[3], 0, 0, 0), x, y)


def _thin_prism_fisheye(d, x, y):
    """COLMAP's, and a skew behind it, which Metashape's fisheye has."""
    k1, k2, p1, p2, k3, k4, sx, sy, skew = d
    x, y = _by_angle(x, y)
    square = x * x + y * y
    factor, (dx, dy) = _horner((1, k1, k2, k3, k4), square), _tangential(p1, p2, x, y)
    x, y = x * factor + dx + sx * square, y * factor + dy + sy * square
    return x + skew * y, y


def _rad_tan_thin_prism_fisheye(d, x, y):
    """Of Project Aria (Fisheye62 with thin prism): tangential and prism terms act on the radially bent place."""
    x, y = _by_angle(x, y)
    factor = _horner((1, *d[:6]), x * x + y * y)
    x, y = x * factor, y * factor
    square, (dx, dy) = x * x + y * y, _tangential(d[7], d[6], x, y)
    return x + dx + square * (d[8] + d[9] * square), y + dy + square * (d[10] + d[11] * square)


def _fisheye624(d, x, y):
    """OpenSfM's, of geometry/camera_distortions_functions.h: k1 to k6, p1, p2, s0 to s3; tangential and prism terms act
    on the place that is not bent yet."""
    x, y = _by_angle(x, y)
    square, (dx, dy) = x * x + y * y, _tangential(d[6], d[7], x, y)
    factor = _horner((1, *d[:6]), square)
    x, y = x * factor + dx + square * (d[8] + d[9] * square), y * factor + dy + square * (d[10] + d[11] * square)
    return x, y


def _fov(d, x, y):
    """Devernay and Faugeras 2001, "Straight lines have to be straight"."""
    omega, radius = d[0], np.hypot(x, y)
    if abs(omega) < 1e-9:
        return x, y
    half = 2 * math.tan(omega / 2)
    factor = np.where(radius > 1e-9, np.arctan(radius * half) / np.maximum(radius, 1e-9), half) / omega
    return x * factor, y * factor


def _division(d, x, y):
    with np.errstate(invalid="ignore"):
        factor = 2 / (1 + np.sqrt(1 - 4 * d[0] * (x * x + y * y)))
    return x * factor, y * factor


def _eucm(d, x, y):
    """Khomutenko et al. 2016, "An Enhanced Unified Camera Model"."""
    alpha, beta = d
    depth = alpha * np.sqrt(beta * (x * x + y * y) + 1) + 1 - alpha
    return x / depth, y / depth


def _inverse_radial(d, x, y):
    """VisualSFM's: the place in the photo times 1 + d r^2, with r that place's radius, is the direction."""
    wanted = np.hypot(x, y)
    radius = wanted.astype(np.float64)
    for _ in range(30):  # Newton's method
        slope = 1 + 3 * d[0] * radius**2
        radius = radius - (radius * (1 + d[0] * radius**2) - wanted) / np.where(np.abs(slope) < 1e-6, 1e-6, slope)
    off = np.abs(radius * (1 + d[0] * radius**2) - wanted) > 1e-6 * (1 + wanted)
    radius = np.where(off | (1 + 3 * d[0] * radius**2 <= 0), np.nan, radius)
    factor = np.where(wanted > 1e-12, radius / np.maximum(wanted, 1e-12), 1.0)
    return x * factor, y * factor


def _by_angle(x, y):
    """Directions with the angle from the axis for their radius, where it was its tangent."""
    radius = np.hypot(x, y)
    scale = np.where(radius > 1e-12, np.arctan(radius) / np.maximum(radius, 1e-12), 1.0)
    return x * scale, y * scale


def _tangential(p1, p2, x, y):
    square = x * x + y * y
    return 2 * p1 * x * y + p2 * (square + 2 * x * x), p1 * (square + 2 * y * y) + 2 * p2 * x * y


def _horner(coefficients: tuple[float, ...], x: np.ndarray):
    value = coefficients[-1]
    for c in coefficients[-2::-1]:
        value = value * x + c
    return value


def _first_positive_root(polynomial: Polynomial) -> float:
    try:
        roots = polynomial.trim().roots()
    except np.linalg.LinAlgError:  # coefficients beyond all sense
        return 0.0
    real = roots.real[(np.abs(roots.imag) < 1e-9 * (1 + np.abs(roots.real))) & (roots.real > 0)]
    return float(real.min()) if len(real) else math.inf


_FORMULAS = {
    "pinhole": _pinhole,
    "opencv": _brown_conrady("opencv"),
    "brown": _brown_conrady("brown"),
    "opencv_fisheye": _opencv_fisheye,
    "thin_prism_fisheye": _thin_prism_fisheye,
    "rad_tan_thin_prism_fisheye": _rad_tan_thin_prism_fisheye,
    "fisheye624": _fisheye624,
    "fov": _fov,
    "division": _division,
    "eucm": _eucm,
    "inverse_radial": _inverse_radial,
    **{model: (lambda d, x, y, model=model: undistortion.bent(model, d, x, y)) for model in undistortion.MODELS},
}
