"""Rendering rays: proposal sampling, the field, and what its samples add up to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat

import torch
from torch import nn

from .camera_refinement import CameraRefinement
from .compositing import ray_weights
from .field import ProposalField, RadianceField
from .sampling import Samples, place_samples, resample, uniform_bins
from .settings import NerfSettings


@dataclass
class RayBundle:
    """Rays in normalised scene units.

    Attributes:
        origins: (rays, 3) float32.
        directions: (rays, 3) float32 of unit length.
        views: (rays,) the training view that each ray belongs to, for its appearance; None: the views' mean.
    """

    origins: torch.Tensor
    directions: torch.Tensor
    views: torch.Tensor | None = None

    def __len__(self) -> int:
        return self.origins.shape[0]

    def part(self, first: int, last: int) -> RayBundle:
        """The rays from `first` up to, but without, `last`.

        Args:
            first: Counted from 0.
            last: The one behind the last.

        Returns:
            A view of this bundle's memory; the bundle itself where that is all of it.
        """
        return self if (first, last) == (0, len(self)) else self.chosen(slice(first, last))

    def split(self, rays: int) -> list[RayBundle]:
        """The bundle in parts, in order.

        Args:
            rays: Of a part at most.

        Returns:
            Views of this bundle's memory.
        """
        views = repeat(None) if self.views is None else self.views.split(rays)
        return [RayBundle(*part) for part in zip(self.origins.split(rays), self.directions.split(rays), views)]

    def chosen(self, rays: torch.Tensor | slice) -> RayBundle:
        """Some of the rays.

        Args:
            rays: (rays,) bool, or a slice.

        Returns:
            A bundle of its own; of a slice, a view of this bundle's memory.
        """
        return RayBundle(self.origins[rays], self.directions[rays], None if self.views is None else self.views[rays])


@dataclass
class Rendered:
    """What a bundle shows, and what the losses need of it.

    Attributes:
        color: (rays, 3) sRGB without background.
        alpha: (rays,) the summed weight, at most 1.
        last_color: (rays, 3) sRGB of the last samples.
        bins: (rays, n + 1) in spacing from 0 to 1, the field's.
        starts: (rays, n) distances in normalised scene units.
        ends: (rays, n) distances in normalised scene units.
        weights: (rays, n).
        proposal_bins: (rays, m + 1) in spacing.
        proposal_weights: (rays, m).
    """

    color: torch.Tensor
    alpha: torch.Tensor
    last_color: torch.Tensor
    bins: torch.Tensor
    starts: torch.Tensor
    ends: torch.Tensor
    weights: torch.Tensor
    proposal_bins: torch.Tensor
    proposal_weights: torch.Tensor

    @property
    def distance(self) -> torch.Tensor:
        """(rays,) to the median weight, in normalised scene units."""
        return _median(self.weights, self.starts, self.ends)


class NerfModel(nn.Module):
    """Proposal and field of one scene (Barron et al. 2022, "Mip-NeRF 360", with grids for its MLPs).

    Args:
        settings: Its sizes.
        near: Where rays begin, in normalised scene units.
    """

    def __init__(self, settings: NerfSettings, near: float = 0.05):
        super().__init__()
        self.settings = settings
        self.proposal = ProposalField(settings)
        self.field = RadianceField(settings)
        self.refinement = CameraRefinement(settings.views) if settings.refine_cameras else None
        self.near = near

    def forward(self, bundle: RayBundle, jitter: torch.Generator | None = None, anneal: float = 1.0) -> Rendered:
        """Render rays, differentiably.

        Args:
            bundle: In normalised scene units.
            jitter: Of where the samples lie; None: in the middle, always the same.
            anneal: Exponent on the proposal's weights, below 1 early in training (Mip-NeRF 360, section 4).

        Returns:
            Colours, distances and weights of the rays, on their device.
        """
        return render_rays(
            bundle,
            self.settings,
            self.near,
            lambda samples: self.proposal(samples.points),
            lambda samples: self.field(samples.points, bundle.directions, bundle.views),
            jitter,
            anneal,
        )


def render_rays(
    bundle: RayBundle,
    settings: NerfSettings,
    near: float,
    proposal: Callable[[Samples], torch.Tensor],
    field: Callable[[Samples], tuple[torch.Tensor, torch.Tensor]],
    jitter: torch.Generator | None = None,
    anneal: float = 1.0,
) -> Rendered:
    """Render rays through any proposal and field.

    Args:
        bundle: In normalised scene units.
        settings: How many samples there are.
        near: Where rays begin, in normalised scene units.
        proposal: From samples to their densities (rays * samples,).
        field: From samples to their densities (rays * samples,) and colours (rays * samples, 3).
        jitter: As `NerfModel.forward` takes it.
        anneal: Likewise.

    Returns:
        Colours, distances and weights of the rays, on their device.
    """
    proposal_bins = uniform_bins(len(bundle), settings.proposal_samples, bundle.origins.device, jitter)
    # The proposal only follows the field: what it has not learnt yet says nothing about a camera's pose.
    coarse = place_samples(bundle.origins.detach(), bundle.directions.detach(), proposal_bins, near)
    proposal_weights = ray_weights(coarse.starts, coarse.ends, proposal(coarse).view_as(coarse.starts))
    weights = proposal_weights.detach()
    bins = resample(proposal_bins, weights**anneal if anneal != 1 else weights, settings.samples, jitter)
    fine = place_samples(bundle.origins, bundle.directions, bins, near)
    density, color = field(fine)
    weights = ray_weights(fine.starts, fine.ends, density.view_as(fine.starts))
    color = color.view(*weights.shape, 3)
    return Rendered(
        (weights[:, None] @ color)[:, 0],
        weights.sum(-1).clamp(max=1),
        color[:, -1],
        bins,
        fine.starts,
        fine.ends,
        weights,
        proposal_bins,
        proposal_weights,
    )


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
