"""Samples along rays, placed and resampled."""

from functools import lru_cache

from .launch import warp


@lru_cache
def sampling_functions():
    """The parts that all kernels on rays share.

    Returns:
        Warp functions: unit_point (of a ray, contracted into the unit cube), distance_of (a spacing), resample_ray (one
        ray, whose bins are in the row `bins_row`).
    """
    wp = warp()

    @wp.func
    def unit_point(origin: wp.vec3, direction: wp.vec3, distance: wp.float32):
        p = origin + direction * distance
        norm = wp.max(wp.max(wp.abs(p[0]), wp.abs(p[1])), wp.max(wp.abs(p[2]), 1.0))
        contracted = (2.0 - 1.0 / norm) * (p / norm)
        return wp.vec3(
            wp.clamp((contracted[0] + 2.0) * 0.25, 0.0, 1.0),
            wp.clamp((contracted[1] + 2.0) * 0.25, 0.0, 1.0),
            wp.clamp((contracted[2] + 2.0) * 0.25, 0.0, 1.0),
        )

    @wp.func
    def distance_of(spacing: wp.float32):
        return wp.where(spacing < 0.5, spacing * 2.0, 0.5 / wp.max(1.0 - spacing, 1e-6))

    @wp.func
    def resample_ray(
        bins: wp.array2d(dtype=wp.float32),
        bins_row: wp.int32,
        weights: wp.array2d(dtype=wp.float32),
        ray: wp.int32,
        shift: wp.float32,
        padding: wp.float32,
        resampled: wp.array2d(dtype=wp.float32),
    ):
        before, after = weights.shape[1], resampled.shape[1]
        least, total = padding / wp.float32(before), wp.float32(0.0)
        for i in range(before):
            total += weights[ray, i] + least
        above = wp.int32(1)
        low, high = wp.float32(0.0), (weights[ray, 0] + least) / total
        for k in range(after):
            u = (wp.float32(k) + shift) / wp.float32(after)
            while above < before and high <= u:
                low = high
                high = high + (weights[ray, above] + least) / total
                above = above + 1
            fraction = wp.clamp((u - low) / wp.max(high - low, 1e-8), 0.0, 1.0)
            start = bins[bins_row, above - 1]
            resampled[ray, k] = start + fraction * (bins[bins_row, above] - start)

    return unit_point, distance_of, resample_ray


@lru_cache
def sampling_kernels():
    """What `sampling.place_samples` and `sampling.resample` launch over rays.

    Returns:
        Warp kernels: place, resample_rays.
    """
    wp = warp()
    unit_point, distance_of, resample_ray = sampling_functions()

    def place(
        origins: wp.array(dtype=wp.vec3),
        directions: wp.array(dtype=wp.vec3),
        bins: wp.array2d(dtype=wp.float32),
        points: wp.array2d(dtype=wp.vec3),
        starts: wp.array2d(dtype=wp.float32),
        ends: wp.array2d(dtype=wp.float32),
        near: wp.float32,
        far: wp.float32,
    ):
        ray = wp.tid()
        start = distance_of(near + bins[ray, 0] * (far - near))
        for i in range(starts.shape[1]):
            end = distance_of(near + bins[ray, i + 1] * (far - near))
            points[ray, i] = unit_point(origins[ray], directions[ray], (start + end) * 0.5)
            starts[ray, i] = start
            ends[ray, i] = end
            start = end

    def resample_rays(
        bins: wp.array2d(dtype=wp.float32),
        weights: wp.array2d(dtype=wp.float32),
        shifts: wp.array2d(dtype=wp.float32),
        resampled: wp.array2d(dtype=wp.float32),
        padding: wp.float32,
    ):
        ray = wp.tid()
        resample_ray(bins, ray, weights, ray, shifts[ray, 0], padding, resampled)

    unique = wp.kernel(enable_backward=False, module="unique")
    return unique(place), unique(resample_rays)
