"""Weights along rays, and their gradient of the densities."""

from functools import lru_cache

from .launch import warp


@lru_cache
def compositing_kernels():
    """What `compositing.ray_weights` launches over rays.

    Returns:
        Warp kernels: forward, backward (to the densities).
    """
    wp = warp()

    def forward(
        starts: wp.array2d(dtype=wp.float32),
        ends: wp.array2d(dtype=wp.float32),
        densities: wp.array2d(dtype=wp.float32),
        weights: wp.array2d(dtype=wp.float32),
    ):
        ray = wp.tid()
        transmittance = wp.float32(1.0)
        for i in range(weights.shape[1]):
            interval_transmittance = wp.exp(-densities[ray, i] * (ends[ray, i] - starts[ray, i]))
            weights[ray, i] = transmittance * (1.0 - interval_transmittance)
            transmittance = transmittance * interval_transmittance

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
        transmittance = wp.float32(1.0)
        for i in range(weights.shape[1]):
            width = ends[ray, i] - starts[ray, i]
            transmittance = transmittance * wp.exp(-densities[ray, i] * width)
            behind -= gradient[ray, i] * weights[ray, i]
            density_gradient[ray, i] = width * (gradient[ray, i] * transmittance - behind)

    unique = wp.kernel(enable_backward=False, module="unique")
    return unique(forward), unique(backward)
