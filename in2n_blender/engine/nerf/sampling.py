"""Where samples lie along rays: scene contraction, spacing, and resampling by a proposal's weights.

Barron et al. 2022, "Mip-NeRF 360"; nerfstudio's nerfacto uses the same pieces.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch

from .constants import FAR, PADDING
from .kernels.launch import available, launch_over_rays, numbers, vec3s
from .kernels.sampling import sampling_kernels


def contract(positions: torch.Tensor) -> torch.Tensor:
    """Mip-NeRF 360's contraction (equation 10) with the infinity norm: [-1, 1] stays, all beyond goes into [-2, 2].

    Args:
        positions: (..., 3) in normalised scene units.

    Returns:
        (..., 3) in [-2, 2].
    """
    norm = positions.abs().amax(-1, keepdim=True).clamp(min=1)
    return (2 - 1 / norm) * (positions / norm)


def to_unit_cube(positions: torch.Tensor) -> torch.Tensor:
    """Positions contracted and mapped to [0, 1], as the grid encoding wants them.

    Args:
        positions: (..., 3) in normalised scene units.

    Returns:
        (..., 3) in [0, 1].
    """
    return (contract(positions) + 2) / 4


def distance_to_spacing(distance: torch.Tensor) -> torch.Tensor:
    """Nerfacto's piecewise spacing: linear up to distance 1, linear in disparity beyond.

    Args:
        distance: Of any shape, in normalised scene units.

    Returns:
        Of the same shape, in [0, 1).
    """
    return torch.where(distance < 1, distance / 2, 1 - 0.5 / distance.clamp(min=1e-6))


def spacing_to_distance(spacing: torch.Tensor) -> torch.Tensor:
    """The inverse of `distance_to_spacing`.

    Args:
        spacing: Of any shape, in [0, 1).

    Returns:
        Of the same shape, in normalised scene units.
    """
    return torch.where(spacing < 0.5, spacing * 2, 0.5 / (1 - spacing).clamp(min=1e-6))


def uniform_bins(rays: int, samples: int, device, jitter: torch.Generator | None = None) -> torch.Tensor:
    """Even intervals of [0, 1].

    Args:
        rays: Number of rays.
        samples: Intervals of a ray.
        device: Where they lie.
        jitter: Shifts the bins of each ray by up to half an interval; None: not.

    Returns:
        (rays, samples + 1) ascending.
    """
    bins = torch.linspace(0, 1, samples + 1, device=device).expand(rays, -1)
    if jitter is None:
        return bins
    shift = (torch.rand((rays, 1), device=device, generator=jitter) - 0.5) / samples
    return (bins + shift).clamp(0, 1)


@lru_cache
def spacing_range(near: float) -> tuple[float, float]:
    """The spacings between which the bins of a ray lie: a bin of 0 stands for `near`, a bin of 1 for FAR.

    Args:
        near: Where rays begin, in normalised scene units.

    Returns:
        The spacings of `near` and of FAR, in [0, 1).
    """
    low, high = distance_to_spacing(torch.tensor([near, FAR])).tolist()
    return low, high


@dataclass
class Samples:
    """Intervals along rays.

    Attributes:
        points: (rays * samples, 3) their middles in the unit cube.
        starts: (rays, samples) distances in normalised scene units.
        ends: (rays, samples) distances in normalised scene units.
    """

    points: torch.Tensor
    starts: torch.Tensor
    ends: torch.Tensor


def place_samples(origins: torch.Tensor, directions: torch.Tensor, bins: torch.Tensor, near: float) -> Samples:
    """The intervals between bins on rays; by a kernel, unless a gradient of the rays is asked for.

    Args:
        origins: (rays, 3) in normalised scene units.
        directions: (rays, 3) of unit length.
        bins: (rays, samples + 1) ascending in [0, 1].
        near: Where rays begin, in normalised scene units.

    Returns:
        A sample for each interval: its ends along the ray, and its middle in the unit cube.
    """
    if not available(origins.device) or origins.requires_grad or directions.requires_grad:
        return place_samples_torch(origins, directions, bins, near)
    rays, samples = len(bins), bins.shape[1] - 1
    empty = lambda *shape: torch.empty((rays, samples, *shape), device=bins.device)
    points, starts, ends = empty(3), empty(), empty()
    launch_over_rays(
        sampling_kernels()[0],
        [
            (origins.contiguous(), vec3s),
            (directions.contiguous(), vec3s),
            (bins.contiguous(), numbers),
            (points, vec3s),
            (starts, numbers),
            (ends, numbers),
        ],
        list(spacing_range(near)),
    )
    return Samples(points.view(-1, 3), starts, ends)


def place_samples_torch(origins: torch.Tensor, directions: torch.Tensor, bins: torch.Tensor, near: float) -> Samples:
    """The twin of `place_samples` in plain torch, differentiable in the rays.

    Args:
        origins: (rays, 3) in normalised scene units.
        directions: (rays, 3) of unit length.
        bins: (rays, samples + 1) ascending in [0, 1].
        near: Where rays begin, in normalised scene units.

    Returns:
        As `place_samples`.
    """
    low, high = spacing_range(near)
    distances = spacing_to_distance(low + bins * (high - low))
    starts, ends = distances[:, :-1], distances[:, 1:]
    points = origins[:, None] + directions[:, None] * ((starts + ends) / 2)[..., None]
    return Samples(to_unit_cube(points.reshape(-1, 3)).clamp(0, 1), starts, ends)


@torch.no_grad()
def resample(
    bins: torch.Tensor,
    weights: torch.Tensor,
    samples: int,
    jitter: torch.Generator | None = None,
    padding: float = PADDING,
) -> torch.Tensor:
    """Inverse transform sampling of a density that is constant in each interval.

    Args:
        bins: (rays, n + 1) ascending in [0, 1].
        weights: (rays, n) >= 0.
        samples: Number of new intervals.
        jitter: Shifts the new bins of each ray; None: not.
        padding: Part of a whole weight of 1 that is spread over all intervals, so that none is lost for good.

    Returns:
        (rays, samples + 1) ascending, a constant.
    """
    shifts = torch.full((len(bins), 1), 0.5, device=bins.device)
    if jitter is not None:
        shifts = torch.rand((len(bins), 1), device=bins.device, generator=jitter)
    if not available(bins.device):
        return resample_torch(bins, weights, samples, shifts, padding)
    resampled = torch.empty((len(bins), samples + 1), device=bins.device)
    launch_over_rays(
        sampling_kernels()[1],
        [(bins.contiguous(), numbers), (weights.contiguous(), numbers), (shifts, numbers), (resampled, numbers)],
        [padding],
    )
    return resampled


def resample_torch(
    bins: torch.Tensor, weights: torch.Tensor, samples: int, shifts: torch.Tensor, padding: float = PADDING
) -> torch.Tensor:
    """The twin of `resample` in plain torch.

    Args:
        bins: (rays, n + 1) ascending in [0, 1].
        weights: (rays, n) >= 0.
        samples: Number of new intervals.
        shifts: (rays, 1) in [0, 1], where a new bin lies within its part of the whole weight.
        padding: As for `resample`.

    Returns:
        (rays, samples + 1) ascending.
    """
    weights = weights + padding / weights.shape[-1]
    cumulative = torch.cumsum(weights / weights.sum(-1, keepdim=True), -1)
    cumulative = torch.cat([torch.zeros_like(cumulative[:, :1]), cumulative], -1).clamp(max=1)
    u = (torch.arange(samples + 1, device=bins.device) + shifts) / (samples + 1)
    above = torch.searchsorted(cumulative, u, right=True).clamp(1, bins.shape[-1] - 1)
    low, high = cumulative.gather(-1, above - 1), cumulative.gather(-1, above)
    start, end = bins.gather(-1, above - 1), bins.gather(-1, above)
    fraction = ((u - low) / (high - low).clamp(min=1e-8)).clamp(0, 1)
    return start + fraction * (end - start)
