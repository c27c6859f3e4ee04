"""Rendering without gradients: what `NerfModel.forward` renders, by two Warp kernels.

Rays end behind the first opaque surface: nothing is looked up there, and what torch would write to memory between its
operations stays in registers; CPU and CUDA from one source. Their twin is `NerfModel.forward`, each of whose own
kernels has one in plain torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch

from .kernels.launch import FEWEST_RAYS, launch_over_rays, numbers, side_by_side, vec3s, vectors
from .kernels.marching import march_kernels
from .rendering import NerfModel, RayBundle
from .sampling import spacing_range, uniform_bins

# Of so many rays the colour MLP's numbers stay in a CPU's caches.
RAYS_IN_CACHE = 512
# And of so many a GPU is fully at work, without memory for all samples' layers at once.
RAYS_AT_WORK = 2**14


@dataclass
class RenderedRays:
    """What a bundle shows, as in `Rendered`.

    Attributes:
        color: (rays, 3) sRGB without background.
        alpha: (rays,) in [0, 1].
        distance: (rays,) to the median weight, in normalised scene units.
        last_color: (rays, 3) sRGB of the last samples.
    """

    color: torch.Tensor
    alpha: torch.Tensor
    distance: torch.Tensor
    last_color: torch.Tensor

    @staticmethod
    def joined(parts: Sequence) -> RenderedRays:
        """Rays that were rendered in parts.

        Args:
            parts: In their order, each a `RenderedRays` or a `Rendered`.
        """
        names = [field.name for field in fields(RenderedRays)]
        return RenderedRays(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def march(model: NerfModel, bundle: RayBundle) -> RenderedRays:
    """`model(bundle)` without jitter and gradients, to within LEAST_TRANSMITTANCE.

    On a CPU every thread takes its part of the rays to the end.

    Args:
        model: On the bundle's device, which Warp must have.
        bundle: In normalised scene units.

    Returns:
        The rays' colours, alpha and distances, on the bundle's device.
    """
    encoding, proposal = model.field.encoding, model.proposal.encoding
    # Here, not in the threads: two that made the same kernels at once would get neither's.
    kernels = march_kernels(encoding.features, encoding.layout.levels, proposal.layout.levels)
    threads = encoding.threads if bundle.origins.device.type == "cpu" and len(bundle) >= FEWEST_RAYS else 1
    if threads == 1:
        return _march(model, bundle, kernels)
    parts = side_by_side(lambda part: _march(model, part, kernels), bundle.split(-(-len(bundle) // threads)))
    return RenderedRays.joined(parts)


@torch.no_grad()
def _march(model: NerfModel, bundle: RayBundle, kernels: tuple) -> RenderedRays:
    settings, device, rays = model.settings, bundle.origins.device, len(bundle)
    near, far = spacing_range(model.near)
    empty = lambda *shape: torch.empty((rays, *shape), device=device)
    proposal_weights, bins = empty(settings.proposal_samples), empty(settings.samples + 1)
    weights, alpha, distance = empty(settings.samples), empty(), empty()
    encoding, proposal = model.field.encoding, model.proposal.encoding
    encoded = empty(settings.samples, encoding.width)
    proposal_kernel, render_kernel = kernels
    rays_given = [(bundle.origins.contiguous(), vec3s), (bundle.directions.contiguous(), vec3s)]
    launch_over_rays(
        proposal_kernel,
        [*rays_given, (proposal_weights, numbers), (bins, numbers)],
        [
            numbers(uniform_bins(1, settings.proposal_samples, device).contiguous()),
            vectors(proposal.table.detach()),
            near,
            far,
        ],
        1,
    )
    launch_over_rays(
        render_kernel,
        [
            *rays_given,
            (bins, numbers),
            (weights, numbers),
            (alpha, numbers),
            (distance, numbers),
            (encoded.view(rays, settings.samples, -1, encoding.features), vectors),
        ],
        [vectors(encoding.table.detach()), near, far],
        1,
    )
    color, last_color = _colors(model, bundle, weights, encoded)
    return RenderedRays(color, alpha.clamp(max=1), distance, last_color)


def _colors(
    model: NerfModel, bundle: RayBundle, weights: torch.Tensor, encoded: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Colours summed along the rays (rays, 3) and the last samples' (rays, 3), by the colour MLP."""
    along_ray = model.field.along_ray(bundle.directions, bundle.views)
    few = RAYS_IN_CACHE if weights.device.type == "cpu" else RAYS_AT_WORK
    totals, lasts = [], []
    for first in range(0, len(bundle), few):
        rows = slice(first, first + few)
        colors = model.field.colors(encoded[rows], along_ray[rows])
        totals.append((weights[rows, None] @ colors)[:, 0])
        lasts.append(colors[:, -1])
    return torch.cat(totals), torch.cat(lasts)
