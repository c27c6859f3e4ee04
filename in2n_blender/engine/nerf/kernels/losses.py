"""The losses of rays, with their gradients."""

from functools import lru_cache

from ..constants import TINY_WEIGHT
from .launch import warp


@lru_cache
def loss_kernel():
    """What `losses.ray_losses` launches over rays.

    Returns:
        A Warp kernel: the three losses of a ray (rays, 3), and their gradients with respect to each weight.
    """
    wp = warp()
    tiny = wp.constant(TINY_WEIGHT)

    def losses_of_rays(
        bins: wp.array2d(dtype=wp.float32),
        weights: wp.array2d(dtype=wp.float32),
        proposal_bins: wp.array2d(dtype=wp.float32),
        proposal_weights: wp.array2d(dtype=wp.float32),
        losses: wp.array2d(dtype=wp.float32),
        distortion_gradient: wp.array2d(dtype=wp.float32),
        nearness_gradient: wp.array2d(dtype=wp.float32),
        interlevel_gradient: wp.array2d(dtype=wp.float32),
    ):
        ray = wp.tid()
        samples, coarse = weights.shape[1], proposal_weights.shape[1]
        all_weight, all_moment = wp.float32(0.0), wp.float32(0.0)
        for i in range(samples):
            all_weight += weights[ray, i]
            all_moment += weights[ray, i] * (bins[ray, i] + bins[ray, i + 1]) * 0.5
        before, moment_before = wp.float32(0.0), wp.float32(0.0)
        distortion, nearness, interlevel = wp.float32(0.0), wp.float32(0.0), wp.float32(0.0)
        low, high = wp.int32(0), wp.int32(0)
        for i in range(samples):
            weight, start, end = weights[ray, i], bins[ray, i], bins[ray, i + 1]
            middle, width = (start + end) * 0.5, end - start
            behind = all_weight - before - weight
            moment_behind = all_moment - moment_before - weight * middle
            distortion += 2.0 * weight * (middle * before - moment_before) + weight * weight * width / 3.0
            distortion_gradient[ray, i] = (
                2.0 * (middle * before - moment_before + moment_behind - middle * behind) + 2.0 * weight * width / 3.0
            )
            nearness += weight * (1.0 - middle)
            nearness_gradient[ray, i] = 1.0 - middle
            before += weight
            moment_before += weight * middle
            # The proposal's intervals [low, high) touch this one.
            while low < coarse and proposal_bins[ray, wp.min(low + 1, coarse)] <= start:
                low = low + 1
            while high < coarse and proposal_bins[ray, high] < end:
                high = high + 1
            bound = wp.float32(0.0)
            for j in range(low, high):
                bound += proposal_weights[ray, j]
            if weight > bound:
                lacking = (weight - bound) / (weight + tiny)
                interlevel += lacking * (weight - bound)
                for j in range(low, high):
                    interlevel_gradient[ray, j] = interlevel_gradient[ray, j] - 2.0 * lacking
        losses[ray, 0] = interlevel
        losses[ray, 1] = distortion
        losses[ray, 2] = nearness

    return wp.kernel(enable_backward=False, module="unique")(losses_of_rays)
