"""Where samples lie along rays: scene contraction, spacing, and resampling by a proposal's weights.

Barron et al. 2022, "Mip-NeRF 360"; nerfstudio's nerfacto uses the same pieces.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch

from .kernels import available, launch_over_rays, numbers, vec3s, warp

FAR = 1000.0  # where rays end, in normalised scene units
# Of the whole weight, spread evenly over a proposal's intervals, so that no interval is lost for good.
PADDING = 0.01


def contract(positions: torch.Tensor) -> torch.Tensor:
    """Mip-NeRF 360's contraction with the infinity norm: the unit cube stays, all space beyond goes into [-2, 2].

    positions: (..., 3) in normalised scene units. Returns (..., 3).
    """
    norm = positions.abs().amax(-1, keepdim=True).clamp(min=1)
    return (2 - 1 / norm) * (positions / norm)


def to_unit_cube(positions: torch.Tensor) -> torch.Tensor:
    """Contracted positions mapped to [0, 1]^3, as the grid encoding wants them."""
    return (contract(positions) + 2) / 4


def distance_to_spacing(distance: torch.Tensor) -> torch.Tensor:
    """Nerfacto's piecewise spacing: linear up to distance 1, linear in disparity beyond."""
    return torch.where(distance < 1, distance / 2, 1 - 0.5 / distance.clamp(min=1e-6))


def spacing_to_distance(spacing: torch.Tensor) -> torch.Tensor:
    return torch.where(spacing < 0.5, spacing * 2, 0.5 / (1 - spacing).clamp(min=1e-6))


def uniform_edges(rays: int, samples: int, device, jitter: torch.Generator | None = None) -> torch.Tensor:
    """Edges of `samples` even intervals of [0, 1]: (rays, samples + 1); with a generator, jittered once a ray."""
    edges = torch.linspace(0, 1, samples + 1, device=device).expand(rays, -1)
    if jitter is None:
        return edges
    shift = (torch.rand((rays, 1), device=device, generator=jitter) - 0.5) / samples
    return (edges + shift).clamp(0, 1)


@lru_cache
def spacing_range(near: float) -> tuple[float, float]:
    """The spacings of the distances `near` and FAR, which edges 0 and 1 stand for."""
    low, high = distance_to_spacing(torch.tensor([near, FAR])).tolist()
    return low, high


@dataclass
class Samples:
    """Intervals along rays. points: (rays * samples, 3) their middles in the unit cube; starts, ends: (rays, samples)
    distances."""

    points: torch.Tensor
    starts: torch.Tensor
    ends: torch.Tensor


def place_samples(origins: torch.Tensor, directions: torch.Tensor, edges: torch.Tensor, near: float) -> Samples:
    """The intervals between `edges` on rays.

    origins, directions: (rays, 3); edges: (rays, samples + 1) ascending in [0, 1]. By a kernel, unless a gradient of
    the rays is asked for.
    """
    if not available(origins.device) or origins.requires_grad or directions.requires_grad:
        return place_samples_torch(origins, directions, edges, near)
    rays, samples = len(edges), edges.shape[1] - 1
    empty = lambda *shape: torch.empty((rays, samples, *shape), device=edges.device)  # noqa: E731
    points, starts, ends = empty(3), empty(), empty()
    launch_over_rays(
        sampling_kernels()[0],
        [
            (origins.contiguous(), vec3s),
            (directions.contiguous(), vec3s),
            (edges.contiguous(), numbers),
            (points, vec3s),
            (starts, numbers),
            (ends, numbers),
        ],
        list(spacing_range(near)),
    )
    return Samples(points.view(-1, 3), starts, ends)


def place_samples_torch(origins: torch.Tensor, directions: torch.Tensor, edges: torch.Tensor, near: float) -> Samples:
    """The twin of `place_samples` in plain torch, differentiable in the rays."""
    low, high = spacing_range(near)
    distances = spacing_to_distance(low + edges * (high - low))
    starts, ends = distances[:, :-1], distances[:, 1:]
    points = origins[:, None] + directions[:, None] * ((starts + ends) / 2)[..., None]
    return Samples(to_unit_cube(points.reshape(-1, 3)).clamp(0, 1), starts, ends)


@torch.no_grad()
def resample(
    edges: torch.Tensor,
    weights: torch.Tensor,
    samples: int,
    jitter: torch.Generator | None = None,
    padding: float = PADDING,
) -> torch.Tensor:
    """Inverse-transform sampling of a piecewise constant density.

    edges: (rays, n + 1) ascending in [0, 1]; weights: (rays, n) >= 0, padded so that no interval is lost for good.
    Returns (rays, samples + 1) ascending edges.
    """
    shifts = torch.full((len(edges), 1), 0.5, device=edges.device)
    if jitter is not None:
        shifts = torch.rand((len(edges), 1), device=edges.device, generator=jitter)
    if not available(edges.device):
        return resample_torch(edges, weights, samples, shifts, padding)
    found = torch.empty((len(edges), samples + 1), device=edges.device)
    launch_over_rays(
        sampling_kernels()[1],
        [(edges.contiguous(), numbers), (weights.contiguous(), numbers), (shifts, numbers), (found, numbers)],
        [padding],
    )
    return found


def resample_torch(
    edges: torch.Tensor, weights: torch.Tensor, samples: int, shifts: torch.Tensor, padding: float = PADDING
) -> torch.Tensor:
    """The twin of `resample` in plain torch. shifts: (rays, 1) in [0, 1], how far in its share of the whole weight each
    edge lies."""
    weights = weights + padding / weights.shape[-1]
    cumulative = torch.cumsum(weights / weights.sum(-1, keepdim=True), -1)
    cumulative = torch.cat([torch.zeros_like(cumulative[:, :1]), cumulative], -1).clamp(max=1)
    u = (torch.arange(samples + 1, device=edges.device) + shifts) / (samples + 1)
    above = torch.searchsorted(cumulative, u, right=True).clamp(1, edges.shape[-1] - 1)
    low, high = cumulative.gather(-1, above - 1), cumulative.gather(-1, above)
    edge_low, edge_high = edges.gather(-1, above - 1), edges.gather(-1, above)
    fraction = ((u - low) / (high - low).clamp(min=1e-8)).clamp(0, 1)
    return edge_low + fraction * (edge_high - edge_low)


@lru_cache
def sampling_functions():
    """Warp functions (unit_point, distance_of, resample_ray): a point of a ray contracted into the unit cube, the
    distance of a spacing, and the resampling of one ray, whose edges are in the row `edge_row`."""
    wp = warp()

    @wp.func
    def unit_point(origin: wp.vec3, direction: wp.vec3, distance: wp.float32):
        p = origin + direction * distance
        norm = wp.max(wp.max(wp.abs(p[0]), wp.abs(p[1])), wp.max(wp.abs(p[2]), 1.0))
        contracted = (2.0 - 1.0 / norm) * (p / norm)
        return wp.vec3(
            wp.clamp((contracted[0] + 2.0) * 0.25, 0.0, 1.0),
            wp.clamp((contracted[1] + 2.0) * 0.25, 0.0, 1.0),
            wp.clamp((contracted[2] + 2.0) * 0.25, 0.0, 1.0),
        )

    @wp.func
    def distance_of(spacing: wp.float32):
        return wp.where(spacing < 0.5, spacing * 2.0, 0.5 / wp.max(1.0 - spacing, 1e-6))

    @wp.func
    def resample_ray(
        edges: wp.array2d(dtype=wp.float32),
        edge_row: wp.int32,
        weights: wp.array2d(dtype=wp.float32),
        ray: wp.int32,
        shift: wp.float32,
        padding: wp.float32,
        found: wp.array2d(dtype=wp.float32),
    ):
        before, after = weights.shape[1], found.shape[1]
        least, total = padding / wp.float32(before), wp.float32(0.0)
        for i in range(before):
            total += weights[ray, i] + least
        above = wp.int32(1)
        low, high = wp.float32(0.0), (weights[ray, 0] + least) / total
        for k in range(after):
            u = (wp.float32(k) + shift) / wp.float32(after)
            while above < before and high <= u:
                low = high
                high = high + (weights[ray, above] + least) / total
                above = above + 1
            fraction = wp.clamp((u - low) / wp.max(high - low, 1e-8), 0.0, 1.0)
            start = edges[edge_row, above - 1]
            found[ray, k] = start + fraction * (edges[edge_row, above] - start)

    return unit_point, distance_of, resample_ray


@lru_cache
def sampling_kernels():
    """(place, resample) Warp kernels over rays."""
    wp = warp()
    unit_point, distance_of, resample_ray = sampling_functions()

    def place(
        origins: wp.array(dtype=wp.vec3),
        directions: wp.array(dtype=wp.vec3),
        edges: wp.array2d(dtype=wp.float32),
        points: wp.array2d(dtype=wp.vec3),
        starts: wp.array2d(dtype=wp.float32),
        ends: wp.array2d(dtype=wp.float32),
        near: wp.float32,
        far: wp.float32,
    ):
        ray = wp.tid()
        start = distance_of(near + edges[ray, 0] * (far - near))
        for i in range(starts.shape[1]):
            end = distance_of(near + edges[ray, i + 1] * (far - near))
            points[ray, i] = unit_point(origins[ray], directions[ray], (start + end) * 0.5)
            starts[ray, i] = start
            ends[ray, i] = end
            start = end

    def resample_rays(
        edges: wp.array2d(dtype=wp.float32),
        weights: wp.array2d(dtype=wp.float32),
        shifts: wp.array2d(dtype=wp.float32),
        found: wp.array2d(dtype=wp.float32),
        padding: wp.float32,
    ):
        ray = wp.tid()
        resample_ray(edges, ray, weights, ray, shifts[ray, 0], padding, found)

    unique = wp.kernel(enable_backward=False, module="unique")
    return unique(place), unique(resample_rays)
