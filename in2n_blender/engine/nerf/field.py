"""The radiance field and the proposal: densities and colours read from grid encodings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .constants import DENSITY_SCALE, DENSITY_SHIFT
from .encoding import GridEncoding, GridLayout
from .settings import NerfSettings


def _density(features: torch.Tensor) -> torch.Tensor:
    return F.softplus(features - DENSITY_SHIFT) * DENSITY_SCALE


def spherical_harmonics(directions: torch.Tensor) -> torch.Tensor:
    """Real spherical harmonics up to degree 2.

    Args:
        directions: (n, 3) of unit length.

    Returns:
        (n, 9).
    """
    x, y, z = directions.unbind(-1)
    return torch.stack(
        [
            torch.full_like(x, 0.28209479),
            0.48860251 * y,
            0.48860251 * z,
            0.48860251 * x,
            1.09254843 * x * y,
            1.09254843 * y * z,
            0.31539157 * (3 * z * z - 1),
            1.09254843 * x * z,
            0.54627421 * (x * x - y * y),
        ],
        -1,
    )


class ProposalField(nn.Module):
    """Density alone, from one feature a level: it says where the field is worth sampling.

    Args:
        settings: The sizes of its grids.
    """

    def __init__(self, settings: NerfSettings):
        super().__init__()
        layout = GridLayout.growing(
            settings.proposal_levels, settings.coarsest, settings.proposal_finest, settings.log2_table
        )
        self.encoding = GridEncoding(layout, 1)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """The density at points.

        Args:
            points: (n, 3) in the unit cube.

        Returns:
            (n,) per normalised scene unit.
        """
        return _density(self.encoding(points).sum(-1))


class RadianceField(nn.Module):
    """Density from the encoding alone, colour from encoding and direction through a small MLP.

    With settings.appearance, colour also depends on an embedding of the training view, which takes up its exposure and
    white balance (Martin-Brualla et al. 2021, "NeRF in the Wild").

    Attributes:
        narrow: Whether training computes the MLP in bfloat16, as GPUs do several times faster; its weights and
            gradients, and all that is rendered, stay in float32.
    """

    def __init__(self, settings: NerfSettings):
        super().__init__()
        layout = GridLayout.growing(settings.levels, settings.coarsest, settings.finest, settings.log2_table)
        self.encoding = GridEncoding(layout, settings.features)
        self.appearance = (
            nn.Parameter(torch.zeros(settings.views, settings.appearance)) if settings.appearance else None
        )
        widths = [self.encoding.width + 9 + settings.appearance] + [settings.hidden] * settings.hidden_layers
        layers: list[nn.Module] = []
        for before, after in zip(widths, widths[1:]):
            layers += [nn.Linear(before, after), nn.ReLU(inplace=True)]
        self.color = nn.Sequential(*layers, nn.Linear(widths[-1], 3))
        self.narrow = False

    def forward(self, points: torch.Tensor, directions: torch.Tensor, views: torch.Tensor | None = None):
        """Density and colour at the samples of rays.

        Args:
            points: (n, 3) in the unit cube; n is a multiple of rays, the samples of a ray lie together.
            directions: (rays, 3) of unit length.
            views: (rays,) training views; None: the mean of their appearances, a constant.

        Returns:
            Densities (n,) per normalised scene unit and sRGB colours (n, 3) in [0, 1].
        """
        encoded = self.encoding(points)
        along_ray = self.along_ray(directions, views)
        with torch.autocast(points.device.type, torch.bfloat16, enabled=self.narrow and torch.is_grad_enabled()):
            colors = self.colors(encoded.view(len(directions), -1, self.encoding.width), along_ray)
        return _density(encoded.sum(-1)), colors.flatten(0, 1)

    def density(self, points: torch.Tensor) -> torch.Tensor:
        """The density at points.

        Args:
            points: (n, 3) in the unit cube.

        Returns:
            (n,) per normalised scene unit.
        """
        return _density(self.encoding(points).sum(-1))

    def along_ray(self, directions: torch.Tensor, views: torch.Tensor | None) -> torch.Tensor:
        """What direction and appearance, the same all along a ray, add to the first layer of the colour MLP.

        Args:
            directions: (rays, 3) of unit length.
            views: (rays,) training views; None: the mean of their appearances.

        Returns:
            (rays, hidden), the layer's bias included.
        """
        inputs = [spherical_harmonics(directions)]
        if self.appearance is not None:
            mean = lambda: self.appearance.detach().mean(0).expand(len(directions), -1)
            inputs.append(mean() if views is None else self.appearance[views])
        return F.linear(torch.cat(inputs, -1), self.color[0].weight[:, self.encoding.width :], self.color[0].bias)

    def colors(self, encoded: torch.Tensor, along_ray: torch.Tensor) -> torch.Tensor:
        """The colour MLP.

        Args:
            encoded: (rays, samples, width) encodings.
            along_ray: (rays, hidden) of `along_ray`.

        Returns:
            (rays, samples, 3) sRGB in [0, 1].
        """
        units = F.linear(encoded, self.color[0].weight[:, : self.encoding.width]).add_(along_ray[:, None])
        return torch.sigmoid(self.color[1:](units).float())
