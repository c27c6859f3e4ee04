"""Rendering rays: proposal sampling, the field, and nerfacc's dense rendering integrals."""

from __future__ import annotations

from dataclasses import dataclass

import nerfacc
import torch
from torch import nn

from .camera_refinement import CameraRefinement
from .field import ProposalField, RadianceField
from .sampling import distance_to_spacing, resample, spacing_to_distance, uniform_edges
from .settings import NerfSettings

FAR = 1000.0


@dataclass
class RayBundle:
    """origins, directions: (rays, 3) float32 in normalised scene units, directions of unit length.

    views: (rays,) the training view that each ray belongs to, for its appearance; None: the views' mean.
    """

    origins: torch.Tensor
    directions: torch.Tensor
    views: torch.Tensor | None = None

    def __len__(self) -> int:
        return self.origins.shape[0]


@dataclass
class Rendered:
    """What a bundle shows. color (rays, 3) sRGB without background, alpha (rays,), distance (rays,) to the median weight;
    edges (rays, n + 1) in spacing, weights (rays, n) of the field, and the same of the proposal for its loss."""

    color: torch.Tensor
    alpha: torch.Tensor
    distance: torch.Tensor
    last_color: torch.Tensor
    edges: torch.Tensor
    weights: torch.Tensor
    proposal_edges: torch.Tensor
    proposal_weights: torch.Tensor


class NerfModel(nn.Module):
    """Proposal and field of one scene. near: in normalised scene units."""

    def __init__(self, settings: NerfSettings, near: float = 0.05):
        super().__init__()
        self.settings = settings
        self.proposal = ProposalField(settings)
        self.field = RadianceField(settings)
        self.refinement = CameraRefinement(settings.views) if settings.refine_cameras else None
        self.near = near

    def forward(self, bundle: RayBundle, jitter: torch.Generator | None = None, anneal: float = 1.0) -> Rendered:
        """anneal: exponent on the proposal's weights, below 1 early in training (Mip-NeRF 360, section 4)."""
        proposal_edges = uniform_edges(len(bundle), self.settings.proposal_samples, bundle.origins.device, jitter)
        positions, starts, ends = self._samples(bundle, proposal_edges)
        # The proposal only follows the field: what it has not learnt yet says nothing about a camera's pose.
        proposal_density = self.proposal(positions.detach()).view(starts.shape)
        proposal_weights, _, _ = nerfacc.render_weight_from_density(starts, ends, proposal_density)
        weights = proposal_weights.detach()
        edges = resample(proposal_edges, weights**anneal if anneal != 1 else weights, self.settings.samples, jitter)
        positions, starts, ends = self._samples(bundle, edges)
        density, color = self.field(positions, bundle.directions, bundle.views)
        weights, _, _ = nerfacc.render_weight_from_density(starts, ends, density.view(starts.shape))
        color = color.view(*weights.shape, 3)
        return Rendered(
            nerfacc.accumulate_along_rays(weights, color), weights.sum(-1).clamp(max=1), _median(weights, starts, ends), color[:, -1],
            edges, weights, proposal_edges, proposal_weights,
        )

    def _samples(self, bundle: RayBundle, edges: torch.Tensor):
        near = distance_to_spacing(torch.tensor(self.near))
        far = distance_to_spacing(torch.tensor(FAR))
        distances = spacing_to_distance(near + edges * (far - near))
        starts, ends = distances[:, :-1], distances[:, 1:]
        middle = (starts + ends) / 2
        positions = bundle.origins[:, None] + bundle.directions[:, None] * middle[..., None]
        return positions.reshape(-1, 3), starts.contiguous(), ends.contiguous()


@torch.no_grad()
def _median(weights: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """The distance at which half of a ray's weight is behind it: (rays,). Sharper at edges than the mean."""
    cumulative = weights.cumsum(-1)
    half = cumulative[:, -1:] / 2
    index = torch.searchsorted(cumulative.contiguous(), half.contiguous()).clamp(max=weights.shape[-1] - 1)
    inside = weights.gather(-1, index)
    fraction = ((half - (cumulative.gather(-1, index) - inside)) / inside.clamp(min=1e-8)).clamp(0, 1)
    start, end = starts.gather(-1, index), ends.gather(-1, index)
    return (start + fraction * (end - start)).squeeze(-1)
