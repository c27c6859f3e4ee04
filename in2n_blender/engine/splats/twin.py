"""Splats drawn in plain torch: what `rasterizer.draw` draws, slowly, and differentiably."""

from __future__ import annotations

import torch

from .kernels import LEAST_ALPHA, LEAST_TRANSMITTANCE, LOW_PASS, MOST_ALPHA
from .rasterizer import View
from .splat import COEFFICIENTS, COLOR, MEAN, OPACITY, ROTATION, SCALE, harmonics, rotations


def draw(rows: torch.Tensor, view: View) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw splats, each at every pixel.

    Args:
        rows: (n, COLUMNS), in capture coordinates, all before the camera.
        view: From where.

    Returns:
        (height, width, 3) sRGB before nothing, and the transmittance (height, width).
    """
    away = rows[:, MEAN] - view.position
    place = away @ view.rotation.T
    rows, away, place = (values[place[:, 2].argsort(stable=True)] for values in (rows, away, place))
    z = place[:, 2]
    fx, fy, cx, cy = view.lens
    across, down = ((place[:, axis] / z).clamp(-limit, limit) for axis, limit in enumerate(view.limits))
    none = torch.zeros_like(z)
    jacobian = torch.stack(
        [torch.stack([fx / z, none, -fx * across / z], -1), torch.stack([none, fy / z, -fy * down / z], -1)], 1
    )
    axes = jacobian @ view.rotation @ (rotations(rows[:, ROTATION]) * rows[:, None, SCALE].exp())
    covariance = axes @ axes.transpose(1, 2) + LOW_PASS * torch.eye(2)
    direction = torch.nn.functional.normalize(away, dim=-1)
    color = (harmonics(direction)[..., None] * rows[:, COLOR].view(-1, COEFFICIENTS, 3)).sum(1) + 0.5

    x, y = torch.arange(view.width) + 0.5, torch.arange(view.height) + 0.5
    pixels = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).view(-1, 2)
    off = pixels - torch.stack([fx * place[:, 0] / z + cx, fy * place[:, 1] / z + cy], -1)[:, None]
    power = -0.5 * torch.einsum("npi,nij,npj->np", off, torch.linalg.inv(covariance), off)
    alpha = (rows[:, OPACITY].sigmoid()[:, None] * power.exp()).clamp(max=MOST_ALPHA)
    alpha = torch.where(alpha >= LEAST_ALPHA, alpha, 0.0)
    left = (1 - alpha).cumprod(0)
    alpha = torch.where(left >= LEAST_TRANSMITTANCE, alpha, 0.0)
    left = (1 - alpha).cumprod(0)
    weights = alpha * torch.cat([torch.ones_like(left[:1]), left[:-1]])
    shape = (view.height, view.width)
    return (weights.T @ color.clamp_min(0)).view(*shape, 3), left[-1].view(shape)
