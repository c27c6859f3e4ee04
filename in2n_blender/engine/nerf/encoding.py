"""Multi-resolution grid encoding (Müller et al. 2022, "Instant Neural Graphics Primitives").

Levels whose grid fits into the table are stored densely, finer ones are hashed. One Warp source serves CPU and CUDA;
`encode_torch` is its twin in plain torch, used where Warp has no device (a Mac's GPU) and in tests.
"""

from dataclasses import dataclass

import torch
from torch import nn

from .constants import HASH_PRIMES
from .kernels.encoding import RUN, encoding_kernels
from .kernels.launch import available, launch_all, launch_over_rays, vec3s, vectors, warp


@dataclass(frozen=True)
class GridLayout:
    """Where each level lies in the flat table.

    Attributes:
        resolutions: Grid points along an axis of each level.
        sizes: Rows of each level. A level is hashed when they are fewer than resolution ** 3; then a power of two.
    """

    resolutions: tuple[int, ...]
    sizes: tuple[int, ...]

    @staticmethod
    def growing(levels: int, coarsest: int, finest: int, log2_table: int) -> "GridLayout":
        """Resolutions that grow geometrically.

        Args:
            levels: Number of levels.
            coarsest: Grid points along an axis of the first level.
            finest: Grid points along an axis of the last level.
            log2_table: A level has at most 2**log2_table rows.

        Returns:
            Each level's points along an axis, and its table's rows.
        """
        growth = (finest / coarsest) ** (1 / max(levels - 1, 1))
        resolutions = tuple(round(coarsest * growth**level) for level in range(levels))
        return GridLayout(resolutions, tuple(min(r**3, 2**log2_table) for r in resolutions))

    @property
    def offsets(self) -> tuple[int, ...]:
        """The first row of every level."""
        return tuple(sum(self.sizes[:level]) for level in range(len(self.sizes)))

    @property
    def rows(self) -> int:
        """The rows of all levels."""
        return sum(self.sizes)

    @property
    def levels(self) -> tuple[tuple[int, int, int], ...]:
        """(resolution, size, offset) of every level."""
        return tuple(zip(self.resolutions, self.sizes, self.offsets))


def encode_torch(positions: torch.Tensor, table: torch.Tensor, layout: GridLayout) -> torch.Tensor:
    """Trilinear interpolation at every level: the twin of `GridEncoding.forward` in plain torch.

    Args:
        positions: (points, 3) in [0, 1].
        table: (layout.rows, features).
        layout: Of the table.

    Returns:
        (points, levels * features), differentiable in positions and table.
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
    mixed = corner[:, 0] * HASH_PRIMES[0] ^ corner[:, 1] * HASH_PRIMES[1] ^ corner[:, 2] * HASH_PRIMES[2]
    return mixed & (size - 1)


def runs_by_level(device: torch.device) -> bool:
    """Whether the kernels for GPUs are taken: level after level, and gradients summed along runs of points.

    Args:
        device: Where the points are.
    """
    return device.type == "cuda"


def read_by_level(positions: torch.Tensor, table: torch.Tensor, levels, encoded: torch.Tensor) -> None:
    """Fill in the encodings of points, as a GPU does.

    Args:
        positions: (points, 3) in [0, 1], contiguous.
        table: (rows, features), contiguous.
        levels: A Warp array of (resolution, size, offset).
        encoded: (points, levels, features), contiguous; filled.
    """
    if encoded.numel():
        inputs = [vec3s(positions, True), vectors(table, True), levels, vectors(encoded, True)]
        size = (encoded.shape[1], len(positions))
        launch_all(encoding_kernels(table.shape[1])[3], [(size, inputs)], positions.device, 1)


def add_by_runs(positions: torch.Tensor, gradient: torch.Tensor, levels, table_gradient: torch.Tensor) -> None:
    """Add the gradients of points to those of the table, as a GPU does.

    Args:
        positions: (points, 3) in [0, 1], contiguous.
        gradient: (points, levels, features), contiguous.
        levels: A Warp array of (resolution, size, offset).
        table_gradient: (rows, features), contiguous; added to.
    """
    if gradient.numel():
        inputs = [vec3s(positions, True), vectors(gradient, True), levels, vectors(table_gradient, True), RUN]
        size = (gradient.shape[1], -(-len(positions) // RUN))
        launch_all(encoding_kernels(table_gradient.shape[1])[4], [(size, inputs)], positions.device, 1)


class _WarpEncoding(torch.autograd.Function):
    """The Warp kernels as a function that is differentiable in positions and table."""

    @staticmethod
    def forward(ctx, positions, table, levels, level_count, threads):
        encoded = torch.empty((positions.shape[0], level_count, table.shape[1]), device=positions.device)
        if runs_by_level(positions.device):
            read_by_level(positions.detach(), table.detach(), levels, encoded)
        else:
            kernel = encoding_kernels(table.shape[1])[0]
            parts = threads if positions.shape[0] >= 4096 else 1
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
        if runs_by_level(positions.device):
            add_by_runs(positions, gradient, ctx.levels, table_gradient)
            return table_gradient
        kernel = encoding_kernels(table.shape[1])[1]
        levels = gradient.shape[1]
        split = ctx.threads > 1
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
    """A table of features read at points of the unit cube (Müller et al. 2022, section 3).

    Args:
        layout: Of the table.
        features: Numbers in a row.
        initial_range: Features start uniform in [-initial_range, initial_range].
        threads: On a CPU; None: as many as torch uses. The numbers are the same with any.
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
        """Numbers in an encoding: levels * features."""
        return len(self.layout.sizes) * self.features

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        """Trilinear interpolation at every level.

        Args:
            positions: (points, 3) float32; what lies outside [0, 1] is clamped.

        Returns:
            (points, levels * features) float32, differentiable in positions and table.
        """
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
            self._levels[key] = wp.array(list(self.layout.levels), dtype=wp.vec3i, device=key)
        return self._levels[key]
