"""Bringing an edit that was made at a smaller size back to the photo's: enlarged, with the photo's own detail where the
edit left the photo alone.

Where it did, the edit is the photo with other colours: in every small window, a linear function of the photo's three
colours (the model of guided filters, He, Sun and Tang 2013). That function, fitted at the small size, is applied to the
detail that the photo loses when it is reduced (as fast guided filters do, He and Sun 2015); what it does not explain
there, such as a new shape, gets none of the photo's detail and is enlarged as it is.
"""

from __future__ import annotations

import torch
from torch.nn import functional

RADIUS = 4  # pixels of the small size, of the window in which colours are fitted
LEAST_CONTRAST = 0.01**2  # of a window, below which there is nothing to fit
LEAST_EXPLAINED, MOSTLY_EXPLAINED = 0.3, 0.8  # share of the edit's variance that is the photo's


def with_photo_detail(edited: torch.Tensor, photo: torch.Tensor) -> torch.Tensor:
    """An edit at its photo's size.

    Args:
        edited: (batch, 3, height, width) sRGB in [0, 1], smaller than the photo.
        photo: (batch, 3, photo height, photo width) sRGB in [0, 1].

    Returns:
        (batch, 3, photo height, photo width) sRGB in [0, 1].
    """
    small, large = tuple(edited.shape[-2:]), tuple(photo.shape[-2:])
    reduced = resized(photo, small)
    slopes = colour_slopes(reduced, edited)
    detail = photo - resized(reduced, large, clamp=False)
    slopes = functional.interpolate(slopes.flatten(1, 2), size=large, mode="bilinear").unflatten(1, (3, 3))
    return (resized(edited, large, clamp=False) + torch.einsum("beohw,bohw->behw", slopes, detail)).clamp(0, 1)


def colour_slopes(photo: torch.Tensor, edited: torch.Tensor) -> torch.Tensor:
    """How each colour of an edit follows those of its photo, window by window, 0 where it does not.

    Args:
        photo, edited: (batch, 3, height, width) in [0, 1].

    Returns:
        (batch, 3, 3, height, width): of the edit's colour by the photo's.
    """
    mean = lambda image: _window_means(image)
    photo_mean, edited_mean = mean(photo), mean(edited)
    outer = lambda a, b: (a[:, :, None] * b[:, None]).flatten(1, 2)
    spread = (mean(outer(photo, photo)) - outer(photo_mean, photo_mean)).unflatten(1, (3, 3))
    shared = (mean(outer(edited, photo)) - outer(edited_mean, photo_mean)).unflatten(1, (3, 3))
    variance = (mean(edited**2) - edited_mean**2).clamp_min(0)
    by_pixel = lambda matrix: matrix.permute(0, 3, 4, 1, 2)
    regular = by_pixel(spread) + LEAST_CONTRAST * torch.eye(3, dtype=photo.dtype, device=photo.device)
    slopes = torch.linalg.solve(regular, by_pixel(shared).mT).mT.permute(0, 3, 4, 1, 2)
    explained = (slopes * shared).sum(2) / (variance + LEAST_CONTRAST)
    trust = ((explained - LEAST_EXPLAINED) / (MOSTLY_EXPLAINED - LEAST_EXPLAINED)).clamp(0, 1)
    return slopes * mean(trust)[:, :, None]


def resized(image: torch.Tensor, size: tuple[int, int], clamp: bool = True) -> torch.Tensor:
    """Images of another size, bicubic; reduced without aliasing.

    Args:
        image: (batch, 3, height, width).
        size: (height, width) wanted.
        clamp: whether to [0, 1], which bicubic interpolation leaves.

    Returns:
        (batch, 3, *size); the images themselves where they have it.
    """
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    found = functional.interpolate(image, size=size, mode="bicubic", antialias=True)
    return found.clamp(0, 1) if clamp else found


def _window_means(image: torch.Tensor) -> torch.Tensor:
    """The mean of each pixel's window, as far as it lies in the image."""
    side = 2 * RADIUS + 1
    return functional.avg_pool2d(image, side, stride=1, padding=RADIUS, count_include_pad=False)
