"""Where samples lie along rays: scene contraction, spacing, and resampling by a proposal's weights.

Barron et al. 2022, "Mip-NeRF 360"; nerfstudio's nerfacto uses the same pieces.
"""

from __future__ import annotations

import torch


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


@torch.no_grad()
def resample(edges: torch.Tensor, weights: torch.Tensor, samples: int, jitter: torch.Generator | None = None,
             padding: float = PADDING) -> torch.Tensor:
    """Inverse-transform sampling of a piecewise constant density.

    edges: (rays, n + 1) ascending in [0, 1]; weights: (rays, n) >= 0, padded so that no interval is lost for good.
    Returns (rays, samples + 1) ascending edges.
    """
    weights = weights + padding / weights.shape[-1]
    cumulative = torch.cumsum(weights / weights.sum(-1, keepdim=True), -1)
    cumulative = torch.cat([torch.zeros_like(cumulative[:, :1]), cumulative], -1).clamp(max=1)
    u = torch.linspace(0, 1 - 1 / (samples + 1), samples + 1, device=edges.device).expand(edges.shape[0], -1)
    if jitter is None:
        u = u + 0.5 / (samples + 1)
    else:
        u = u + torch.rand((edges.shape[0], 1), device=edges.device, generator=jitter) / (samples + 1)
    above = torch.searchsorted(cumulative, u.contiguous(), right=True).clamp(1, edges.shape[-1] - 1)
    low, high = cumulative.gather(-1, above - 1), cumulative.gather(-1, above)
    edge_low, edge_high = edges.gather(-1, above - 1), edges.gather(-1, above)
    fraction = ((u - low) / (high - low).clamp(min=1e-8)).clamp(0, 1)
    return edge_low + fraction * (edge_high - edge_low)
