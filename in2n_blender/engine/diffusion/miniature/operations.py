"""The edits that are exact functions of the picture, and so have a right answer for every picture.

Each takes and returns sRGB images (batch, 3, height, width) in [0, 1], float32, on any device.
Snow and sunset are no such functions: Blender renders them (`in2n_blender/testbed/scenes/lighting.py`).
"""

import torch
from torch.nn import functional

LUMA = (0.2126, 0.7152, 0.0722)
GOLD_RAMP = ((0.06, 0.03, 0.01), (0.48, 0.28, 0.04), (0.92, 0.70, 0.18), (1.0, 0.97, 0.74))
PENCIL_BLUR = 2.0


def luma(images: torch.Tensor) -> torch.Tensor:
    """Rec. 709 luma.

    Args:
        images: (batch, 3, height, width) sRGB in [0, 1].

    Returns:
        (batch, 1, height, width) in [0, 1].
    """
    weights = torch.tensor(LUMA, dtype=images.dtype, device=images.device)[:, None, None]
    return (images * weights).sum(dim=1, keepdim=True)


def night(images: torch.Tensor) -> torch.Tensor:
    """Dark, nearly colourless, blue."""
    grey = luma(images)
    faded = grey + 0.45 * (images - grey)
    return (
        0.42 * faded.clamp(0, 1) ** 1.3 * _colour(images, (0.50, 0.72, 1.25)) + _colour(images, (0.01, 0.02, 0.07))
    ).clamp(0, 1)


def gold(images: torch.Tensor) -> torch.Tensor:
    """The luma through a ramp from dark bronze over gold to pale yellow, evenly spaced."""
    position = luma(images) * (len(GOLD_RAMP) - 1)
    result = torch.zeros_like(images)
    for index, stop in enumerate(GOLD_RAMP):
        result = result + _colour(images, stop) * (1 - (position - index).abs()).clamp(min=0)
    return result


def autumn(images: torch.Tensor) -> torch.Tensor:
    """Greens turn orange, everything a little warmer."""
    red, green, blue = images.unbind(dim=1)
    greenness = ((green - torch.maximum(blue, 0.85 * red)) * 6).clamp(0, 1)[:, None]
    leaf = _colour(images, (1.35, 0.62, 0.12)) * green[:, None]
    warm = images * _colour(images, (1.10, 0.94, 0.70)) + _colour(images, (0.03, 0.0, 0.0))
    return (warm + greenness * (leaf - warm)).clamp(0, 1)


def pencil_sketch(images: torch.Tensor) -> torch.Tensor:
    """Dark lines on paper: luma against its blurred self, relative to its brightness, with a little shading."""
    grey = luma(images)
    soft = gaussian_blur(grey, PENCIL_BLUR)
    drawn = 0.86 + 0.16 * (soft - 0.5) + 1.3 * (grey - soft) / (soft + 0.3)
    return (drawn * _colour(images, (1.0, 0.99, 0.96))).clamp(0, 1)


def black_and_white(images: torch.Tensor) -> torch.Tensor:
    """The luma, with a little more contrast."""
    return (0.5 + 1.1 * (luma(images) - 0.5)).clamp(0, 1).expand_as(images).clone()


def red_tint(images: torch.Tensor) -> torch.Tensor:
    """Mostly shades of red."""
    return _tint(images, (1.15, 0.22, 0.20))


def blue_tint(images: torch.Tensor) -> torch.Tensor:
    """Mostly shades of blue."""
    return _tint(images, (0.20, 0.42, 1.25))


def old_photograph(images: torch.Tensor) -> torch.Tensor:
    """A faded sepia print."""
    grey = luma(images)
    faded = 0.2 + 0.62 * (grey + 0.15 * (images - grey))
    return (faded * _colour(images, (1.08, 0.94, 0.72))).clamp(0, 1)


OPERATIONS = {
    "night": night,
    "gold": gold,
    "autumn": autumn,
    "pencil sketch": pencil_sketch,
    "black and white": black_and_white,
    "red tint": red_tint,
    "blue tint": blue_tint,
    "old photograph": old_photograph,
}


def gaussian_blur(images: torch.Tensor, deviation: float) -> torch.Tensor:
    """Separable Gaussian blur, edges repeated.

    Args:
        images: (batch, channels, height, width).
        deviation: standard deviation in pixels; the window reaches three of them to each side.

    Returns:
        Of the same shape.
    """
    radius = int(3 * deviation)
    position = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-0.5 * (position / deviation) ** 2)
    kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, -1)
    padded = functional.pad(images, (radius,) * 4, mode="replicate")
    rows = functional.conv2d(padded, kernel[:, :, None], groups=images.shape[1])
    return functional.conv2d(rows, kernel[:, :, :, None], groups=images.shape[1])


def _tint(images: torch.Tensor, colour) -> torch.Tensor:
    grey = luma(images)
    return (0.3 * images * _colour(images, colour) + 0.7 * grey**0.8 * _colour(images, colour)).clamp(0, 1)


def _colour(images: torch.Tensor, colour) -> torch.Tensor:
    return torch.tensor(colour, dtype=images.dtype, device=images.device)[:, None, None]
