"""The grid encoding's kernels: interpolation, its gradient of the table and of the positions."""

from functools import lru_cache

from ..constants import HASH_PRIMES
from .launch import warp

RUN = 16  # points that a thread of a GPU adds up before it adds to the table


@lru_cache
def grid_functions():
    """The parts that all kernels on grids share.

    Returns:
        Warp functions: lowest_corner (of a point's cell), corner_rows (the table's rows of the cell's eight corners, x
        changes slowest), corner_weight (along an axis).
    """
    wp = warp()
    prime_y, prime_z = wp.constant(wp.uint32(HASH_PRIMES[1])), wp.constant(wp.uint32(HASH_PRIMES[2]))

    @wp.func
    def lowest_corner(p: wp.vec3, resolution: wp.int32):
        return wp.vec3i(
            wp.clamp(wp.int32(p[0]), 0, resolution - 2),
            wp.clamp(wp.int32(p[1]), 0, resolution - 2),
            wp.clamp(wp.int32(p[2]), 0, resolution - 2),
        )

    @wp.func
    def is_hashed(resolution: wp.int32, size: wp.int32):
        wide = wp.int64(resolution)  # 2048 cubed does not fit 32 bits
        return wp.int64(size) < wide * wide * wide

    eight = wp.types.vector(length=8, dtype=wp.int32)

    @wp.func
    def corner_rows(low: wp.vec3i, resolution: wp.int32, size: wp.int32, offset: wp.int32):
        found = eight()
        if is_hashed(resolution, size):
            mask = wp.uint32(size - 1)
            x0, y0, z0 = wp.uint32(low[0]), wp.uint32(low[1]) * prime_y, wp.uint32(low[2]) * prime_z
            x1, y1, z1 = x0 + wp.uint32(1), y0 + prime_y, z0 + prime_z
            found = eight(
                wp.int32((x0 ^ y0 ^ z0) & mask),
                wp.int32((x0 ^ y0 ^ z1) & mask),
                wp.int32((x0 ^ y1 ^ z0) & mask),
                wp.int32((x0 ^ y1 ^ z1) & mask),
                wp.int32((x1 ^ y0 ^ z0) & mask),
                wp.int32((x1 ^ y0 ^ z1) & mask),
                wp.int32((x1 ^ y1 ^ z0) & mask),
                wp.int32((x1 ^ y1 ^ z1) & mask),
            )
        else:
            a = (low[0] * resolution + low[1]) * resolution + low[2]
            b = a + resolution * resolution
            found = eight(a, a + 1, a + resolution, a + resolution + 1, b, b + 1, b + resolution, b + resolution + 1)
        return found + eight(offset)

    @wp.func
    def corner_weight(high: wp.int32, fraction: wp.float32):
        return wp.where(high == 1, fraction, 1.0 - fraction)

    return lowest_corner, corner_rows, corner_weight


@lru_cache
def interpolation(features: int):
    """Trilinear interpolation at one level.

    Args:
        features: Numbers in a row of the table.

    Returns:
        A Warp function (table, point in the unit cube, (resolution, size, offset)) -> features.
    """
    wp = warp()
    vector = wp.types.vector(length=features, dtype=wp.float32)
    lowest_corner, corner_rows, _ = grid_functions()

    @wp.func
    def interpolate(table: wp.array(dtype=vector), unit: wp.vec3, level: wp.vec3i):
        resolution, size, offset = level[0], level[1], level[2]
        p = unit * wp.float32(resolution - 1)
        low = lowest_corner(p, resolution)
        x, y, z = p[0] - wp.float32(low[0]), p[1] - wp.float32(low[1]), p[2] - wp.float32(low[2])
        rows = corner_rows(low, resolution, size, offset)
        x1y0, x1y1 = x * (1.0 - y), x * y
        x0y0, x0y1 = (1.0 - x) * (1.0 - y), (1.0 - x) * y
        z0 = 1.0 - z
        total = (x0y0 * z0) * table[rows[0]]
        total += (x0y0 * z) * table[rows[1]]
        total += (x0y1 * z0) * table[rows[2]]
        total += (x0y1 * z) * table[rows[3]]
        total += (x1y0 * z0) * table[rows[4]]
        total += (x1y0 * z) * table[rows[5]]
        total += (x1y1 * z0) * table[rows[6]]
        total += (x1y1 * z) * table[rows[7]]
        return total

    return interpolate


@lru_cache
def encoding_kernels(features: int):
    """The encoding at all levels, and its gradients.

    Args:
        features: Numbers in a row of the table.

    Returns:
        Warp kernels: forward and backward (to the table), launched over (points, levels); backward_positions, which
        adds up all levels, launched over points; and for GPUs forward_by_level, launched over (levels, points), and
        backward_runs, launched over (levels, runs of points).
    """
    wp = warp()
    vector = wp.types.vector(length=features, dtype=wp.float32)

    lowest_corner, corner_rows, corner_weight = grid_functions()
    interpolate = interpolation(features)

    def forward(
        positions: wp.array(dtype=wp.vec3),
        table: wp.array(dtype=vector),
        levels: wp.array(dtype=wp.vec3i),
        first_level: wp.int32,
        encoded: wp.array2d(dtype=vector),
    ):
        point, shifted = wp.tid()
        level = first_level + shifted
        encoded[point, level] = interpolate(table, positions[point], levels[level])

    def backward(
        positions: wp.array(dtype=wp.vec3),
        gradient: wp.array2d(dtype=vector),
        levels: wp.array(dtype=wp.vec3i),
        first_level: wp.int32,
        table_gradient: wp.array(dtype=vector),
    ):
        point, shifted = wp.tid()
        level = first_level + shifted
        resolution, size, offset = levels[level][0], levels[level][1], levels[level][2]
        p = positions[point] * wp.float32(resolution - 1)
        low = lowest_corner(p, resolution)
        rows = corner_rows(low, resolution, size, offset)
        for corner in range(8):
            i, j, k = corner // 4, corner // 2 % 2, corner % 2
            weight = (
                corner_weight(i, p[0] - wp.float32(low[0]))
                * corner_weight(j, p[1] - wp.float32(low[1]))
                * corner_weight(k, p[2] - wp.float32(low[2]))
            )
            wp.atomic_add(table_gradient, rows[corner], weight * gradient[point, level])

    def backward_positions(
        positions: wp.array(dtype=wp.vec3),
        gradient: wp.array2d(dtype=vector),
        position_gradient: wp.array(dtype=wp.vec3),
        table: wp.array(dtype=vector),
        levels: wp.array(dtype=wp.vec3i),
    ):
        point = wp.tid()
        total = wp.vec3()
        for level in range(levels.shape[0]):
            resolution, size, offset = levels[level][0], levels[level][1], levels[level][2]
            scale = wp.float32(resolution - 1)
            p = positions[point] * scale
            low = lowest_corner(p, resolution)
            rows = corner_rows(low, resolution, size, offset)
            for corner in range(8):
                i, j, k = corner // 4, corner // 2 % 2, corner % 2
                x, y, z = (
                    corner_weight(i, p[0] - wp.float32(low[0])),
                    corner_weight(j, p[1] - wp.float32(low[1])),
                    corner_weight(k, p[2] - wp.float32(low[2])),
                )
                slope = scale * wp.dot(gradient[point, level], table[rows[corner]])
                total += slope * wp.vec3(
                    wp.float32(2 * i - 1) * y * z, x * wp.float32(2 * j - 1) * z, x * y * wp.float32(2 * k - 1)
                )
        position_gradient[point] = total

    def forward_by_level(
        positions: wp.array(dtype=wp.vec3),
        table: wp.array(dtype=vector),
        levels: wp.array(dtype=wp.vec3i),
        encoded: wp.array2d(dtype=vector),
    ):
        # Threads side by side read one level's table, at points that lie together on a ray.
        level, point = wp.tid()
        encoded[point, level] = interpolate(table, positions[point], levels[level])

    corners = wp.types.matrix(shape=(8, features), dtype=wp.float32)

    def backward_runs(
        positions: wp.array(dtype=wp.vec3),
        gradient: wp.array2d(dtype=vector),
        levels: wp.array(dtype=wp.vec3i),
        table_gradient: wp.array(dtype=vector),
        run_length: wp.int32,
    ):
        # Points that follow each other on a ray are often in one cell: what they add to it is summed before it is added
        # to the table, for additions that others may make at the same time are what a step waits for.
        level, run = wp.tid()
        resolution, size, offset = levels[level][0], levels[level][1], levels[level][2]
        sums = corners()
        cell = wp.vec3i(-1, -1, -1)
        for k in range(run_length):
            point = run * run_length + k
            if point < positions.shape[0]:
                p = positions[point] * wp.float32(resolution - 1)
                low = lowest_corner(p, resolution)
                if low[0] != cell[0] or low[1] != cell[1] or low[2] != cell[2]:
                    if cell[0] >= 0:
                        rows = corner_rows(cell, resolution, size, offset)
                        for corner in range(8):
                            wp.atomic_add(table_gradient, rows[corner], sums[corner])
                    sums = corners()
                    cell = low
                x, y, z = p[0] - wp.float32(low[0]), p[1] - wp.float32(low[1]), p[2] - wp.float32(low[2])
                value = gradient[point, level]
                for corner in range(8):
                    weight = (
                        corner_weight(corner // 4, x) * corner_weight(corner // 2 % 2, y) * corner_weight(corner % 2, z)
                    )
                    sums[corner] = sums[corner] + weight * value
        if cell[0] >= 0:
            rows = corner_rows(cell, resolution, size, offset)
            for corner in range(8):
                wp.atomic_add(table_gradient, rows[corner], sums[corner])

    unique = wp.kernel(enable_backward=False, module="unique")
    return tuple(unique(kernel) for kernel in (forward, backward, backward_positions, forward_by_level, backward_runs))
