"""What splats should show: the field's pictures, or of them what is kept."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ...scene.reporting import Reporter
from .rasterizer import View, draw
from .refinement import Target
from .seeding import LEAST_ALPHA
from .sources import Source
from .splat import C0, COLOR, MEAN

BEFORE = 0.03  # as a share of the splats' depth: so much nearer a surface is that hides them


def targets_of(
    sources: list[Source],
    rows: torch.Tensor,
    has_alpha: bool,
    report: Reporter,
    inside: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> list[Target]:
    """The pictures that splats are refined to.

    Args:
        sources: The field from several views.
        rows: (n, COLUMNS) the splats to be refined.
        has_alpha: Whether the field's pictures are over white, which is no part of the scene.
        report: Asked whether the job was cancelled.
        inside: Which of points (n, 3) in capture coordinates are kept (n,); None: all.

    Returns:
        A target for every source. Where what is kept is hidden by what is not, nobody knows what it looks like: there
        pixels do not count.

    Raises:
        Cancelled.
    """
    found = []
    for source in sources:
        report.check()
        found.append(_target(source, rows, has_alpha, inside))
    return found


def _target(source: Source, rows: torch.Tensor, has_alpha: bool, inside: Callable | None) -> Target:
    view, device = View.of(source.camera), rows.device
    cover = source.alpha if has_alpha else torch.ones_like(source.alpha)
    color = source.rgb_srgb - (1 - cover[..., None])
    if inside is None:
        return Target(view, color.to(device), cover.to(device))
    origins, rays = (torch.from_numpy(values) for values in source.camera.rays())
    kept = inside(origins + rays * source.depth.view(-1, 1)).view_as(cover) & (source.alpha > LEAST_ALPHA)
    cover = cover * kept
    weight = (~_hides(source, view, rows) | kept).float()
    return Target(view, (color * kept[..., None]).to(device), cover.to(device), weight.to(device))


def _hides(source: Source, view: View, rows: torch.Tensor) -> torch.Tensor:
    """Which pixels (height, width) of a source show a surface that is before the splats."""
    away = (rows[:, MEAN] - view.position.to(rows.device)) @ view.rotation[2].to(rows.device)
    farthest = float(away.max().clamp_min(1e-9))
    of_depth = rows.clone()
    of_depth[:, COLOR] = 0
    of_depth[:, COLOR.start] = (away / farthest - 0.5) / C0  # as red
    drawn = draw(of_depth, view)
    hidden = 1 - drawn.transmittance.cpu()
    depth = drawn.picture[..., 0].cpu() * farthest / hidden.clamp_min(1e-6)
    return (hidden > 0.5) & (source.depth < (1 - BEFORE) * depth)
