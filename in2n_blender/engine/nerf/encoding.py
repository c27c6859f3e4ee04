"""Multi-resolution grid encoding (Müller et al. 2022, "Instant Neural Graphics Primitives").

Levels whose grid fits into the table are stored densely, finer ones are hashed. One Warp source serves CPU and CUDA;
`encode_torch` is its twin in plain torch, used where Warp has no device (a Mac's GPU) and in tests.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn

from .kernels import available, launch_all, launch_over_rays, vec3s, vectors, warp

_PRIMES = (1, 2654435761, 805459861)


@dataclass(frozen=True)
class GridLayout:
    """Where each level lives in the flat table.

    resolutions[l]: grid points along one axis; offsets[l], sizes[l]: first row and rows of level l; a level is hashed
    when sizes[l] < resolutions[l] ** 3 (then sizes[l] is a power of two).
    """

    resolutions: tuple[int, ...]
    sizes: tuple[int, ...]

    @staticmethod
    def growing(levels: int, coarsest: int, finest: int, log2_table: int) -> "GridLayout":
        """Resolutions growing geometrically from coarsest to finest, at most 2**log2_table rows a level."""
        growth = (finest / coarsest) ** (1 / max(levels - 1, 1))
        resolutions = tuple(round(coarsest * growth**level) for level in range(levels))
        return GridLayout(resolutions, tuple(min(r**3, 2**log2_table) for r in resolutions))

    @property
    def offsets(self) -> tuple[int, ...]:
        return tuple(sum(self.sizes[:level]) for level in range(len(self.sizes)))

    @property
    def rows(self) -> int:
        return sum(self.sizes)

    @property
    def levels(self) -> list[tuple[int, int, int]]:
        """(resolution, size, offset) of every level."""
        return list(zip(self.resolutions, self.sizes, self.offsets))


def encode_torch(positions: torch.Tensor, table: torch.Tensor, layout: GridLayout) -> torch.Tensor:
    """Trilinear interpolation at every level, in plain torch.

    positions: (points, 3) in [0, 1]; table: (layout.rows, features). Returns (points, levels * features).
    """
    encoded = []
    for resolution, size, offset in zip(layout.resolutions, layout.sizes, layout.offsets):
        scaled = positions.clamp(0, 1) * (resolution - 1)
        low = scaled.floor().clamp(max=resolution - 2)
        fraction, low = scaled - low, low.long()
        features = 0.0
        for corner in range(8):
            shift = torch.tensor([corner >> 2 & 1, corner >> 1 & 1, corner & 1], device=positions.device)
            weight = torch.where(shift.bool(), fraction, 1 - fraction).prod(-1, keepdim=True)
            features = features + weight * table[offset + _rows(low + shift, resolution, size)]
        encoded.append(features)
    return torch.cat(encoded, -1)


def _rows(corner: torch.Tensor, resolution: int, size: int) -> torch.Tensor:
    if size == resolution**3:
        return (corner[:, 0] * resolution + corner[:, 1]) * resolution + corner[:, 2]
    mixed = corner[:, 0] * _PRIMES[0] ^ corner[:, 1] * _PRIMES[1] ^ corner[:, 2] * _PRIMES[2]
    return mixed & (size - 1)


@lru_cache
def grid_functions():
    """Warp functions (lowest_corner, rows, share): the lower corner of a point's cell, the table's rows of the cell's
    eight corners (x changes slowest), and a corner's weight along an axis."""
    wp = warp()
    prime_y, prime_z = wp.constant(wp.uint32(_PRIMES[1])), wp.constant(wp.uint32(_PRIMES[2]))

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
    def rows(low: wp.vec3i, resolution: wp.int32, size: wp.int32, offset: wp.int32):
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
    def share(high: wp.int32, fraction: wp.float32):
        return wp.where(high == 1, fraction, 1.0 - fraction)

    return lowest_corner, rows, share


@lru_cache
def interpolation(features: int):
    """A Warp function (table, point in the unit cube, level) -> trilinear features; what the corners share is computed
    once."""
    wp = warp()
    vector = wp.types.vector(length=features, dtype=wp.float32)
    lowest_corner, rows, _ = grid_functions()

    @wp.func
    def interpolate(table: wp.array(dtype=vector), unit: wp.vec3, level: wp.vec3i):
        resolution, size, offset = level[0], level[1], level[2]
        p = unit * wp.float32(resolution - 1)
        low = lowest_corner(p, resolution)
        x, y, z = p[0] - wp.float32(low[0]), p[1] - wp.float32(low[1]), p[2] - wp.float32(low[2])
        at = rows(low, resolution, size, offset)
        x1y0, x1y1 = x * (1.0 - y), x * y
        x0y0, x0y1 = (1.0 - x) * (1.0 - y), (1.0 - x) * y
        z0 = 1.0 - z
        total = (x0y0 * z0) * table[at[0]]
        total += (x0y0 * z) * table[at[1]]
        total += (x0y1 * z0) * table[at[2]]
        total += (x0y1 * z) * table[at[3]]
        total += (x1y0 * z0) * table[at[4]]
        total += (x1y0 * z) * table[at[5]]
        total += (x1y1 * z0) * table[at[6]]
        total += (x1y1 * z) * table[at[7]]
        return total

    return interpolate


@lru_cache
def encoding_kernels(features: int):
    """(forward, backward, backward_positions) Warp kernels for a number of features a level.

    The first two are launched over (points, levels), the last, which adds up all levels, over points.
    """
    wp = warp()
    vector = wp.types.vector(length=features, dtype=wp.float32)

    lowest_corner, rows, share = grid_functions()
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
        at = rows(low, resolution, size, offset)
        for corner in range(8):
            i, j, k = corner // 4, corner // 2 % 2, corner % 2
            weight = (
                share(i, p[0] - wp.float32(low[0]))
                * share(j, p[1] - wp.float32(low[1]))
                * share(k, p[2] - wp.float32(low[2]))
            )
            wp.atomic_add(table_gradient, at[corner], weight * gradient[point, level])

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
            at = rows(low, resolution, size, offset)
            for corner in range(8):
                i, j, k = corner // 4, corner // 2 % 2, corner % 2
                x, y, z = (
                    share(i, p[0] - wp.float32(low[0])),
                    share(j, p[1] - wp.float32(low[1])),
                    share(k, p[2] - wp.float32(low[2])),
                )
                slope = scale * wp.dot(gradient[point, level], table[at[corner]])
                total += slope * wp.vec3(
                    wp.float32(2 * i - 1) * y * z, x * wp.float32(2 * j - 1) * z, x * y * wp.float32(2 * k - 1)
                )
        position_gradient[point] = total

    unique = wp.kernel(enable_backward=False, module="unique")
    return unique(forward), unique(backward), unique(backward_positions)


class _WarpEncoding(torch.autograd.Function):
    """The Warp kernels as a function that is differentiable in positions and table."""

    @staticmethod
    def forward(ctx, positions, table, levels, level_count, threads):
        encoded = torch.empty((positions.shape[0], level_count, table.shape[1]), device=positions.device)
        kernel = encoding_kernels(table.shape[1])[0]
        parts = threads if positions.device.type == "cpu" and positions.shape[0] >= 4096 else 1
        chunks = zip(positions.detach().chunk(parts), encoded.chunk(parts))
        launch_all(
            kernel,
            [
                ((len(p), level_count), [vec3s(p), vectors(table.detach()), levels, 0, vectors(e)])
                for p, e in chunks
                if len(p)
            ],
            positions.device,
        )
        ctx.save_for_backward(positions.detach(), table)
        ctx.levels, ctx.threads = levels, threads
        return encoded.flatten(1)

    @staticmethod
    def backward(ctx, gradient):
        positions, table = ctx.saved_tensors
        gradient = gradient.contiguous().view(positions.shape[0], -1, table.shape[1])
        position_gradient = (
            _WarpEncoding._position_gradient(ctx, positions, table, gradient) if ctx.needs_input_grad[0] else None
        )
        table_gradient = (
            _WarpEncoding._table_gradient(ctx, positions, table, gradient) if ctx.needs_input_grad[1] else None
        )
        return position_gradient, table_gradient, None, None, None

    @staticmethod
    def _table_gradient(ctx, positions, table, gradient):
        table_gradient = torch.zeros_like(table)
        kernel = encoding_kernels(table.shape[1])[1]
        levels = gradient.shape[1]
        split = positions.device.type == "cpu" and ctx.threads > 1
        # Levels never share rows, so splitting by level needs no atomics between threads.
        parts = [(level, 1) for level in reversed(range(levels))] if split else [(0, levels)]
        launch_all(
            kernel,
            [
                (
                    (positions.shape[0], count),
                    [vec3s(positions), vectors(gradient), ctx.levels, first, vectors(table_gradient)],
                )
                for first, count in parts
            ],
            positions.device,
            ctx.threads,
        )
        return table_gradient

    @staticmethod
    def _position_gradient(ctx, positions, table, gradient):
        position_gradient = torch.empty_like(positions)
        launch_over_rays(
            encoding_kernels(table.shape[1])[2],
            [(positions, vec3s), (gradient, vectors), (position_gradient, vec3s)],
            [vectors(table.detach()), ctx.levels],
            ctx.threads,
        )
        return position_gradient


class GridEncoding(nn.Module):
    """A table of features read at points in [0, 1]^3.

    forward: (points, 3) float32 -> (points, levels * features) float32, differentiable in points and table.
    threads: on a CPU; None: as many as torch uses. The numbers are the same with any.
    """

    def __init__(self, layout: GridLayout, features: int, initial_range: float = 1e-4, threads: int | None = None):
        super().__init__()
        self.layout = layout
        self.features = features
        self.threads = threads or torch.get_num_threads()
        self.table = nn.Parameter(torch.empty(layout.rows, features).uniform_(-initial_range, initial_range))
        self._levels: dict[str, object] = {}

    @property
    def width(self) -> int:
        return len(self.layout.sizes) * self.features

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        if not available(positions.device):
            return encode_torch(positions, self.table, self.layout)
        positions = positions.contiguous().clamp(0, 1)
        return _WarpEncoding.apply(
            positions, self.table, self._levels_on(positions.device), len(self.layout.sizes), self.threads
        )

    def _levels_on(self, device):
        key = str(device)
        if key not in self._levels:
            wp = warp()
            self._levels[key] = wp.array(self.layout.levels, dtype=wp.vec3i, device=key)
        return self._levels[key]
