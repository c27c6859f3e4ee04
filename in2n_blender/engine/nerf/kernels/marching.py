"""Rays marched until their transmittance is used up."""

from functools import lru_cache

from ..constants import DENSITY_SCALE, DENSITY_SHIFT, LEAST_TRANSMITTANCE, PADDING
from .encoding import interpolation
from .launch import warp
from .sampling import sampling_functions


@lru_cache
def march_kernels(features: int, levels: tuple, proposal_levels: tuple):
    """What `ray_marching.march` launches over rays.

    Args:
        features: Numbers in a row of the field's table; the proposal's has one.
        levels: (resolution, size, offset) of every level of the field's grid, constants of the kernels, which saves a
            tenth of the time.
        proposal_levels: Those of the proposal's grid.

    Returns:
        Warp kernels: proposal (its weights at even intervals, and the bins resampled by them), render (encodings,
        weights, summed weight and median distance of the field in these bins).
    """
    wp = warp()
    vector = wp.types.vector(length=features, dtype=wp.float32)
    single = wp.types.vector(length=1, dtype=wp.float32)
    interpolate, interpolate_single = interpolation(features), interpolation(1)
    level_count, proposal_level_count = len(levels), len(proposal_levels)
    levels, proposal_levels = (
        wp.constant(wp.types.matrix(shape=(len(grid), 3), dtype=wp.int32)(grid)) for grid in (levels, proposal_levels)
    )
    shift, scale = wp.constant(DENSITY_SHIFT), wp.constant(DENSITY_SCALE)
    least, padding = wp.constant(LEAST_TRANSMITTANCE), wp.constant(PADDING)

    unit_point, distance_of, resample_ray = sampling_functions()

    @wp.func
    def density_of(total: wp.float32):
        softplus = total - shift
        if softplus < -10.0:  # most of empty space: the logarithm would change nothing
            softplus = wp.exp(softplus)
        elif softplus < 20.0:
            softplus = wp.log(1.0 + wp.exp(softplus))
        return scale * softplus

    def proposal(
        origins: wp.array(dtype=wp.vec3),
        directions: wp.array(dtype=wp.vec3),
        weights: wp.array2d(dtype=wp.float32),
        bins: wp.array2d(dtype=wp.float32),
        even: wp.array2d(dtype=wp.float32),
        table: wp.array(dtype=single),
        near: wp.float32,
        far: wp.float32,
    ):
        ray = wp.tid()
        transmittance = wp.float32(1.0)
        start = distance_of(near + even[0, 0] * (far - near))
        for i in range(weights.shape[1]):
            weight = wp.float32(0.0)
            if transmittance > least:
                end = distance_of(near + even[0, i + 1] * (far - near))
                unit = unit_point(origins[ray], directions[ray], (start + end) * 0.5)
                feature = wp.float32(0.0)
                for level in range(wp.static(proposal_level_count)):
                    value = interpolate_single(table, unit, proposal_levels[level])
                    feature += value[0]
                interval_transmittance = wp.exp(-density_of(feature) * (end - start))
                weight = transmittance * (1.0 - interval_transmittance)
                transmittance = transmittance * interval_transmittance
                start = end
            weights[ray, i] = weight
        resample_ray(even, 0, weights, ray, 0.5, padding, bins)

    def render(
        origins: wp.array(dtype=wp.vec3),
        directions: wp.array(dtype=wp.vec3),
        bins: wp.array2d(dtype=wp.float32),
        weights: wp.array2d(dtype=wp.float32),
        alpha: wp.array(dtype=wp.float32),
        distance: wp.array(dtype=wp.float32),
        encoded: wp.array3d(dtype=vector),
        table: wp.array(dtype=vector),
        near: wp.float32,
        far: wp.float32,
    ):
        ray = wp.tid()
        samples = weights.shape[1]
        transmittance, total = wp.float32(1.0), wp.float32(0.0)
        start = distance_of(near + bins[ray, 0] * (far - near))
        for i in range(samples):
            weight = wp.float32(0.0)
            if transmittance > least:
                end = distance_of(near + bins[ray, i + 1] * (far - near))
                unit = unit_point(origins[ray], directions[ray], (start + end) * 0.5)
                feature = wp.float32(0.0)
                for level in range(wp.static(level_count)):
                    value = interpolate(table, unit, levels[level])
                    encoded[ray, i, level] = value
                    for f in range(wp.static(features)):
                        feature += value[f]
                interval_transmittance = wp.exp(-density_of(feature) * (end - start))
                weight = transmittance * (1.0 - interval_transmittance)
                transmittance = transmittance * interval_transmittance
                start = end
            else:
                for level in range(wp.static(level_count)):
                    encoded[ray, i, level] = vector()
            weights[ray, i] = weight
            total += weight
        alpha[ray] = total
        # The distance at which half of the weight is passed.
        half, passed, found = total * 0.5, wp.float32(0.0), wp.int32(0)
        for i in range(samples):
            if found == 0 and (passed + weights[ray, i] >= half or i == samples - 1):
                begins = distance_of(near + bins[ray, i] * (far - near))
                ends = distance_of(near + bins[ray, i + 1] * (far - near))
                fraction = wp.clamp((half - passed) / wp.max(weights[ray, i], 1e-8), 0.0, 1.0)
                distance[ray] = begins + fraction * (ends - begins)
                found = wp.int32(1)
            passed += weights[ray, i]

    unique = wp.kernel(enable_backward=False, module="unique")
    return unique(proposal), unique(render)
