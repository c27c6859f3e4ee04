"""What each interval of a ray adds to its colour (Max 1995, "Optical Models for Direct Volume Rendering")."""

import nerfacc
import torch

from .kernels.compositing import compositing_kernels
from .kernels.launch import available, launch_over_rays, numbers


def ray_weights(starts: torch.Tensor, ends: torch.Tensor, densities: torch.Tensor) -> torch.Tensor:
    """Weights of the intervals along rays (Max 1995, "Optical Models for Direct Volume Rendering").

    w_i = T_i (1 - exp(-sigma_i (end_i - start_i))), the transmittance T_i being what the intervals before let through.

    Args:
        starts: (rays, samples) distances in normalised scene units.
        ends: (rays, samples) distances in normalised scene units.
        densities: (rays, samples) per normalised scene unit, >= 0.

    Returns:
        (rays, samples), differentiable in the densities alone.
    """
    if available(densities.device):
        return _RayWeights.apply(starts.contiguous(), ends.contiguous(), densities.contiguous())
    return ray_weights_torch(starts, ends, densities)


def ray_weights_torch(starts: torch.Tensor, ends: torch.Tensor, densities: torch.Tensor) -> torch.Tensor:
    """The twin of `ray_weights`: nerfacc's dense rendering in plain torch.

    Args:
        starts: (rays, samples) distances in normalised scene units.
        ends: (rays, samples) distances in normalised scene units.
        densities: (rays, samples) per normalised scene unit, >= 0.

    Returns:
        (rays, samples).
    """
    weights, _, _ = nerfacc.render_weight_from_density(starts, ends, densities)
    return weights


class _RayWeights(torch.autograd.Function):
    @staticmethod
    def forward(ctx, starts, ends, densities):
        weights = torch.empty_like(densities)
        given = (starts, ends, densities.detach(), weights)
        launch_over_rays(compositing_kernels()[0], [(values, numbers) for values in given], [])
        ctx.save_for_backward(*given)
        return weights

    @staticmethod
    def backward(ctx, gradient):
        density_gradient = torch.empty_like(gradient, memory_format=torch.contiguous_format)
        given = (*ctx.saved_tensors, gradient.contiguous(), density_gradient)
        launch_over_rays(compositing_kernels()[1], [(values, numbers) for values in given], [])
        return None, None, density_gradient
