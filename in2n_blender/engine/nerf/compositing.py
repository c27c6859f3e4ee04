"""What each interval of a ray adds to what is seen (Max 1995, "Optical Models for Direct Volume Rendering")."""

from functools import lru_cache

import nerfacc
import torch

from .kernels import available, launch_over_rays, numbers, warp


def ray_weights(starts: torch.Tensor, ends: torch.Tensor, densities: torch.Tensor) -> torch.Tensor:
    """Weights w_i = T_i (1 - exp(-sigma_i (end_i - start_i))), T_i the light that the intervals before let through.

    starts, ends, densities: (rays, samples), densities >= 0. Returns (rays, samples), differentiable in densities
    alone.
    """
    if available(densities.device):
        return _RayWeights.apply(starts.contiguous(), ends.contiguous(), densities.contiguous())
    return ray_weights_torch(starts, ends, densities)


def ray_weights_torch(starts: torch.Tensor, ends: torch.Tensor, densities: torch.Tensor) -> torch.Tensor:
    """The twin of `ray_weights` by nerfacc's dense rendering in plain torch."""
    weights, _, _ = nerfacc.render_weight_from_density(starts, ends, densities)
    return weights


@lru_cache
def compositing_kernels():
    """(forward, backward) Warp kernels over rays."""
    wp = warp()

    def forward(
        starts: wp.array2d(dtype=wp.float32),
        ends: wp.array2d(dtype=wp.float32),
        densities: wp.array2d(dtype=wp.float32),
        weights: wp.array2d(dtype=wp.float32),
    ):
        ray = wp.tid()
        light = wp.float32(1.0)
        for i in range(weights.shape[1]):
            passes = wp.exp(-densities[ray, i] * (ends[ray, i] - starts[ray, i]))
            weights[ray, i] = light * (1.0 - passes)
            light = light * passes

    def backward(
        starts: wp.array2d(dtype=wp.float32),
        ends: wp.array2d(dtype=wp.float32),
        densities: wp.array2d(dtype=wp.float32),
        weights: wp.array2d(dtype=wp.float32),
        gradient: wp.array2d(dtype=wp.float32),
        density_gradient: wp.array2d(dtype=wp.float32),
    ):
        ray = wp.tid()
        behind = wp.float32(0.0)
        for i in range(weights.shape[1]):
            behind += gradient[ray, i] * weights[ray, i]
        light = wp.float32(1.0)
        for i in range(weights.shape[1]):
            width = ends[ray, i] - starts[ray, i]
            light = light * wp.exp(-densities[ray, i] * width)
            behind -= gradient[ray, i] * weights[ray, i]
            density_gradient[ray, i] = width * (gradient[ray, i] * light - behind)

    unique = wp.kernel(enable_backward=False, module="unique")
    return unique(forward), unique(backward)


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
