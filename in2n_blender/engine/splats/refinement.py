"""Splats moved, turned, sized and coloured until their pictures are the field's."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache

import torch

from ...scene.reporting import Reporter, seconds_left
from ..nerf.kernels.launch import launch_over_rays, numbers
from .kernels import adam_kernel
from .rasterizer import Drawn, View, draw, integers
from .splat import COLOR, COLUMNS, MEAN, OPACITY, ROTATION, SCALE

# Learning rates at the first step; at the last they are LAST_RATE of them. The mean's is in a splat's spacings.
RATES = {"mean": 0.2, "scale": 0.07, "rotation": 0.04, "opacity": 0.15, "color": 0.05, "harmonics": 0.008}
LAST_RATE = 0.1
DECAYS = 0.9, 0.99
STRUCTURE = 0.2  # the share of 1 - SSIM in the loss


class Adam:
    """Adam (Kingma and Ba 2015) on the splats that a picture shows; the others keep their moments.

    Args:
        rows: (n, COLUMNS) splats, changed in place.
        sizes: (n,) what the mean's learning rate is relative to, in capture units.
    """

    def __init__(self, rows: torch.Tensor, sizes: torch.Tensor):
        self.rows, self.sizes = rows, sizes.contiguous()
        self._first, self._second = torch.zeros_like(rows), torch.zeros_like(rows)
        self._moved = torch.zeros(len(rows), dtype=torch.int32, device=rows.device)
        rates = torch.empty(COLUMNS, device=rows.device)
        for part, name in ((MEAN, "mean"), (SCALE, "scale"), (ROTATION, "rotation"), (OPACITY, "opacity")):
            rates[part] = RATES[name]
        rates[COLOR] = RATES["harmonics"]
        rates[COLOR.start : COLOR.start + 3] = RATES["color"]
        self._rates = rates

    def step(self, chosen: torch.Tensor, gradients: torch.Tensor, share: float) -> None:
        """Move some splats.

        Args:
            chosen: (m,) their numbers, each once.
            gradients: (m, COLUMNS).
            share: What all learning rates are multiplied by.
        """
        launch_over_rays(
            adam_kernel(COLUMNS),
            [(chosen.to(torch.int32), integers), (gradients, numbers)],
            [numbers(self.rows), numbers(self._first), numbers(self._second), integers(self._moved)]
            + [numbers(self._rates * share), numbers(self.sizes), *DECAYS],
        )


@dataclass(frozen=True)
class Target:
    """What a picture of the splats should be.

    Attributes:
        view: From where.
        color: (height, width, 3) sRGB before nothing.
        cover: (height, width), how much of what is behind it hides.
        weight: (height, width), how much a pixel counts; None: all alike.
    """

    view: View
    color: torch.Tensor
    cover: torch.Tensor
    weight: torch.Tensor | None = None

    def over(self, background: float) -> torch.Tensor:
        """The picture before a grey background.

        Args:
            background: sRGB from 0 to 1.

        Returns:
            (height, width, 3).
        """
        return self.color + background * (1 - self.cover[..., None])


def loss_gradients(drawn: Drawn, target: Target, background: float, structure: float = STRUCTURE):
    """The gradients of how far a picture is off its target.

    Args:
        drawn: The splats.
        target: What they should show.
        background: What lies behind both, sRGB.
        structure: The share of 1 - SSIM in the loss; the rest is L1.

    Returns:
        Those of the picture (height, width, 3) and of the transmittance (height, width).
    """
    picture, wanted = drawn.over(background).requires_grad_(), target.over(background)
    off = (picture - wanted).abs()
    if target.weight is not None:
        off = off * target.weight[..., None]
    loss = (1 - structure) * off.mean()
    if structure:
        seen = picture if target.weight is None else torch.lerp(wanted, picture, target.weight[..., None])
        loss = loss + structure * (1 - similarity(seen, wanted)) / 2
    (of_picture,) = torch.autograd.grad(loss, picture)
    return of_picture, background * of_picture.sum(-1)


def similarity(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """SSIM (Wang et al. 2004) with a Gaussian window of 11 pixels and a deviation of 1.5.

    Args:
        one: (height, width, 3) from 0 to 1.
        other: (height, width, 3).

    Returns:
        Its mean, a number.
    """
    x, y = one.permute(2, 0, 1), other.permute(2, 0, 1)
    down, across = (_window(side, x.device) for side in x.shape[1:])
    means = down @ torch.cat([x, y, x * x, y * y, x * y]) @ across
    mx, my, xx, yy, xy = means.split(3)
    top = (2 * mx * my + 0.01**2) * (2 * (xy - mx * my) + 0.03**2)
    bottom = (mx * mx + my * my + 0.01**2) * (xx - mx * mx + yy - my * my + 0.03**2)
    return (top / bottom).mean()


@lru_cache(maxsize=8)
def _window(side: int, device: torch.device) -> torch.Tensor:
    """(side, side), which blurs a row of numbers, with nothing beyond its ends: ten times as fast as convolving it."""
    away = torch.arange(side, device=device)[:, None] - torch.arange(side, device=device)
    taps = torch.exp(-((torch.arange(-5, 6, device=device) / 1.5) ** 2) / 2)
    return torch.where(away.abs() <= 5, torch.exp(-((away / 1.5) ** 2) / 2), 0.0) / taps.sum()


def refine(rows: torch.Tensor, targets: list[Target], steps: int, report: Reporter) -> None:
    """Let splats show what they should, one picture a step.

    Args:
        rows: (n, COLUMNS) splats, changed in place.
        targets: The pictures, on the splats' device.
        steps: How many.
        report: Told how far it is, and asked whether the job was cancelled.

    Raises:
        Cancelled: The splats are changed.
    """
    optimizer = Adam(rows, rows[:, SCALE].amax(1).exp())
    generator = torch.Generator().manual_seed(0)
    started, order = time.monotonic(), []
    for step in range(steps):
        left = seconds_left(started, step, steps)
        report.progress(step, steps, "step", "Refining the splats", left)
        order = order or torch.randperm(len(targets), generator=generator).tolist()
        target = targets[order.pop()]
        drawn = draw(rows, target.view)
        # Now before black, now before white: what should be opaque must not shine through, nor be black for it.
        chosen, gradients = drawn.gradients(*loss_gradients(drawn, target, float(step % 2)))
        optimizer.step(chosen, gradients, LAST_RATE ** (step / steps))
