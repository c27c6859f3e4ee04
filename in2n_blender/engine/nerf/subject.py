"""A scene's subject alone, for a matte: within a region there is what there is, outside of it nothing."""

from __future__ import annotations

from dataclasses import replace

import torch

from ...scene.region import Region
from .ray_marching import RenderedRays
from .regions import InsideTest
from .rendering import RayBundle, render_rays
from .sampling import Samples
from .scene import Scene


class Subject:
    """What of a scene lies within a region.

    A ray's samples all lie where it is in the region's box, so that they are not wasted on the way there, and densities
    are multiplied by the region's membership: what the photos showed before and behind it never gets into the alpha.

    Args:
        scene: Of which it is the subject.
        region: In capture coordinates.
    """

    def __init__(self, scene: Scene, region: Region):
        self.scene = scene
        self.inside = InsideTest(region.transformed(scene.transform.matrix), scene.device)

    @torch.no_grad()
    def rays(self, bundle: RayBundle) -> RenderedRays:
        """Render rays without jitter and gradients, before nothing.

        Args:
            bundle: In normalised scene units.

        Returns:
            Colours, alpha and distances on the scene's device; alpha and colour 0 and the distance infinite where a ray
            passes the region. last_color is black.
        """
        meets = self.inside.may_meet(bundle.origins, bundle.directions)
        rays = len(bundle)
        color, alpha = bundle.origins.new_zeros((rays, 3)), bundle.origins.new_zeros(rays)
        distance = torch.full_like(alpha, torch.inf)
        if meets.any():
            part = bundle.chosen(meets)
            skipped = (self.inside.enters(part.origins, part.directions) - self.scene.model.near).clamp_min(0)
            moved = replace(part, origins=part.origins + part.directions * skipped[:, None])
            rendered = self._rendered(moved)
            color[meets], alpha[meets] = rendered.color, rendered.alpha
            distance[meets] = rendered.distance + skipped
        return RenderedRays(color, alpha, distance, torch.zeros_like(color))

    def _rendered(self, bundle: RayBundle):
        def places(samples: Samples) -> torch.Tensor:
            middles = (samples.starts + samples.ends)[..., None] / 2
            return (bundle.origins[:, None] + bundle.directions[:, None] * middles).view(-1, 3)

        def proposal(samples: Samples) -> torch.Tensor:
            at = places(samples)
            return self.scene.proposal_at(at) * self.inside.membership(at)

        def field(samples: Samples) -> tuple[torch.Tensor, torch.Tensor]:
            at = places(samples)
            density, color = self.scene.field_at(at, bundle.directions, bundle.views)
            return density * self.inside.membership(at), color

        return render_rays(bundle, self.scene.model.settings, self.scene.model.near, proposal, field)
