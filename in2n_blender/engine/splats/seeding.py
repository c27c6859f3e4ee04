"""Splats as the field's surfaces have them: what its views see, merged to a budget, confirmed by the other views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ...scene.reporting import Reporter
from ..nerf.dataset import SceneTransform
from .rasterizer import View, draw
from .sources import Source
from .splat import COEFFICIENTS, COLUMNS, MEAN, OPACITY, ROTATION, SCALE, harmonics, quaternions_towards

FAR = 30.0  # normalised scene units: what lies farther is drawn on a shell of this radius
OUTLINE = 0.1  # of a depth, by which a neighbour is beyond at an outline
AT_OUTLINE = 0.02  # the weight of a pixel there
UNSTEADY = 0.02  # of a depth, which a neighbour on the same surface may be off
FEWEST_ALIKE = 3  # pixels of the nine around that are so
LEAST_ALPHA = 0.5  # of a pixel that shows a surface
# A view sees past a point where its depth is larger than the point's by this share, or by so many of its pixels.
BEHIND_SHARE, BEHIND_PIXELS = 0.01, 2.0
FEWEST_THERE = 2
MOST_PAST = 0.1  # of the views that see a point, or past it
OPAQUE = 0.9  # of a new splat
WIDTH, THICKNESS = 0.6, 0.15  # standard deviations of a splat across and along its normal, of the spacing
AT_ONCE = 50_000  # points whose neighbours are looked for between two looks whether the job was cancelled
SMOOTHING = 1.0  # how many observations a higher harmonic's prior counts as
FILL_SHARE = 0.25  # of the budget, for what is behind the holes that the others leave
HOLE = 0.3  # of what lies behind, shines through one
WRONG = 0.1  # sRGB: so far off a pixel has to be for its point at an outline to be a splat after all
LEAST_WEIGHT = 0.1  # of all pixels that see a point, for it to be a splat at once


def seed(
    sources: list[Source],
    transform: SceneTransform,
    budget: int,
    report: Reporter,
    inside: Callable[[torch.Tensor], torch.Tensor] | None = None,
    has_alpha: bool = False,
    nearest: float = 0.0,
) -> torch.Tensor:
    """Splats of what the sources see.

    Args:
        sources: The field from several views.
        transform: Of the scene.
        budget: How many splats there may be.
        report: Told how far it is, and asked whether the job was cancelled.
        inside: Which of points (n, 3) in capture coordinates are kept (n,), and nothing behind them; None: all, and
            what no view sees a surface in is filled in far away.
        has_alpha: Whether nothing is where the field is transparent.
        nearest: How far around every camera nothing is, in capture units: the field begins there, so that no view sees
            what lies nearer.

    Returns:
        (n, COLUMNS) splats in capture coordinates, none where nothing is seen.

    Raises:
        Cancelled.
    """
    stage = lambda done, what: report.progress(done, 5, "part", what)
    stage(0, "Gathering the surface")
    parts = []
    for source in sources:
        report.check()
        parts.append(seen_points(source, transform))
    seen = Seen.joined(parts)
    report.check()
    counts = torch.cat([source.alpha.view(-1) > LEAST_ALPHA for source in sources]) if has_alpha else None
    if inside is not None:
        counts = inside(seen.points) if counts is None else counts & inside(seen.points)
    open_ended = inside is None and not has_alpha
    steady = torch.cat([_steady(source.depth).view(-1) for source in sources])
    counts = steady if counts is None else counts & steady
    chosen = seen.chosen(counts)
    if not len(chosen.points):
        return torch.empty((0, COLUMNS))
    cell, means, sizes = merged(chosen, round(budget * (1 - FILL_SHARE)) if open_ended else budget, report)
    stage(1, "Confirming the surface")
    kept = confirmed(means.points, sources, report, nearest)
    stage(2, "Colouring the splats")
    colors = fitted_colors(chosen, cell, len(sizes), report)
    stage(3, "Shaping the splats")
    sure = kept & (means.weights > LEAST_WEIGHT) if open_ended else kept
    rows = torch.empty((0, COLUMNS))
    if sure.any():
        rows = splats_of(means.chosen(sure), sizes[sure], colors[sure], report)
    stage(4, "Filling the holes")
    if open_ended:
        stands = torch.zeros_like(counts)
        stands[counts] = kept[cell]
        split = stands.split([len(part.points) for part in parts])
        behind = _behind_holes(rows, sources, parts, split, transform, report)
        if len(behind.points):
            cell, means, sizes = merged(behind, budget - len(rows), report)
            colors = fitted_colors(behind, cell, len(sizes), report)
            rows = torch.cat([rows, splats_of(means, sizes, colors, report)])
    return rows.contiguous()


@dataclass
class Seen:
    """Surface points that pixels see.

    Attributes:
        points: (n, 3) in capture coordinates.
        normals: (n, 3) towards the camera, of unit length.
        directions: (n, 3) from the camera, of unit length.
        colors: (n, 3) sRGB.
        footprints: (n,) a pixel's width there, in capture units.
        weights: (n,) how much a pixel has to say: less of what it sees from the side or at an outline, where its colour
            is partly that of what is behind.
    """

    points: torch.Tensor
    normals: torch.Tensor
    directions: torch.Tensor
    colors: torch.Tensor
    footprints: torch.Tensor
    weights: torch.Tensor

    def chosen(self, which: torch.Tensor) -> Seen:
        """Some of them.

        Args:
            which: (n,) bool, or numbers.
        """
        return Seen(*(getattr(self, name)[which] for name in vars(self)))

    @staticmethod
    def joined(parts: list[Seen]) -> Seen:
        """Several as one.

        Args:
            parts: In their order.
        """
        return Seen(*(torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])))


def _behind_holes(
    rows: torch.Tensor, sources: list[Source], parts: list[Seen], kept, transform: SceneTransform, report: Reporter
) -> Seen:
    """What pixels see that are holes in the splats' picture: their own point where it was confirmed, else the shell."""
    found = []
    for source, part, stands in zip(sources, parts, kept):
        report.check()
        drawn = draw(rows, View.of(source.camera))
        wrong = (drawn.picture - source.rgb_srgb).abs().amax(-1).view(-1) > WRONG
        at_outline = stands & (part.weights <= LEAST_WEIGHT)
        hole = ((drawn.transmittance.view(-1) > HOLE) | (wrong & at_outline)).nonzero()[:, 0]
        origins, rays = (torch.from_numpy(values)[hole] for values in source.camera.rays())
        depth, stands, part = _shell_depth(origins, rays, transform), stands[hole], part.chosen(hole)
        part.points = torch.where(stands[:, None], part.points, origins + rays * depth[:, None])
        part.footprints = torch.where(stands, part.footprints, depth / source.camera.intrinsics.fx)
        part.normals = torch.where(stands[:, None], part.normals, -part.directions)
        part.weights = torch.ones_like(part.weights)
        found.append(part)
    return Seen.joined(found)


def seen_points(source: Source, transform: SceneTransform) -> Seen:
    """What a source's pixels see.

    Args:
        source: The field from one camera.
        transform: Of the scene: what is farther than FAR is pulled in to there.

    Returns:
        A point for every pixel, row by row; where the field is transparent, on the far shell.
    """
    height, width = source.depth.shape
    origins, rays = (torch.from_numpy(values) for values in source.camera.rays())
    depth = torch.where(source.alpha > LEAST_ALPHA, source.depth, torch.inf).view(-1)
    depth = torch.minimum(depth, _shell_depth(origins, rays, transform))
    points = origins + rays * depth[:, None]
    normals = _normals(points.view(height, width, 3)).view(-1, 3)
    directions = torch.nn.functional.normalize(rays, dim=-1)
    # Surfaces that are seen from the side are no thinner for it: beyond 75 degrees the normal turns to the camera.
    facing = -(normals * directions).sum(-1, keepdim=True)
    normals = torch.where(facing > 0.25, normals, -directions)
    weights = facing[:, 0].clamp(0.1, 1) * torch.where(_at_outline(source.depth).view(-1), AT_OUTLINE, 1.0)
    footprints = depth / source.camera.intrinsics.fx
    return Seen(points, normals, directions, source.rgb_srgb.view(-1, 3), footprints, weights)


def merged(seen: Seen, budget: int, report: Reporter, finest: float = 1.0) -> tuple[torch.Tensor, Seen, torch.Tensor]:
    """Points in cells of a size that grows with the pixels', one for each cell.

    Args:
        seen: Of all sources.
        budget: How many there may be.
        report: Asked whether the job was cancelled.
        finest: A cell's size at least, in pixels.

    Returns:
        Which cell each point is in (n,), the cells' means, and their sizes in capture units.

    Raises:
        Cancelled.
    """
    low, high, found = finest, finest, _cells(seen, finest)
    while len(found[1]) > budget:
        report.check()
        low, high = high, high * max(1.05, (len(found[1]) / budget) ** 0.5)  # of a surface they are as 1 / pixels^2
        found = _cells(seen, high)
    for _ in range(3 if high > low else 0):
        report.check()
        middle = (low * high) ** 0.5
        tried = _cells(seen, middle)
        if len(tried[1]) > budget:
            low = middle
        else:
            high, found = middle, tried
    cell, counts, sizes = found
    summed = lambda values: torch.zeros((len(counts), *values.shape[1:])).index_add_(0, cell, values)
    total = summed(seen.weights)
    mean = lambda values: summed(values * _column(seen.weights, values)) / _column(total, values)
    unit = lambda values: torch.nn.functional.normalize(values, dim=-1)
    return (
        cell,
        Seen(
            mean(seen.points), unit(mean(seen.normals)), unit(mean(seen.directions)), mean(seen.colors),
            mean(seen.footprints), total,
        ),
        sizes,
    )  # fmt: skip


def _column(values: torch.Tensor, beside: torch.Tensor) -> torch.Tensor:
    return values[:, None] if beside.dim() > 1 else values


def _cells(seen: Seen, pixels: float):
    """(n,) the points' cells, and the number of points and the size of each cell."""
    level = (2 * (seen.footprints * pixels).log2()).round()
    size = 2 ** (level / 2)
    place = (seen.points / size[:, None]).floor().to(torch.int64)
    # 20 bits of each number are enough to tell neighbours apart: cells fall together that are a million cells apart.
    key = level.to(torch.int64) + 128
    for axis in range(3):
        key = key * (1 << 18) + (place[:, axis] & ((1 << 18) - 1))
    _, cell, counts = torch.unique(key, return_inverse=True, return_counts=True)
    sizes = torch.empty(len(counts)).index_copy_(0, cell, size)
    return cell, counts.float(), sizes


def confirmed(points: torch.Tensor, sources: list[Source], report: Reporter, nearest: float = 0.0) -> torch.Tensor:
    """Which points stand where the views say that something stands: nearly all of those that have a say.

    A view sees past a point where its depth there, and in all pixels around, is well beyond the point's; it sees the
    point where both agree; and where something is nearer it says nothing.

    Args:
        points: (n, 3) in capture coordinates.
        sources: The field from the views.
        report: Asked whether the job was cancelled.
        nearest: As `seed` takes it.

    Returns:
        (n,) bool.

    Raises:
        Cancelled.
    """
    past, there = torch.zeros(len(points)), torch.zeros(len(points))
    free = torch.zeros(len(points), dtype=torch.bool)
    for source in sources:
        report.check()
        k, pose = source.camera.intrinsics, torch.from_numpy(source.camera.camera_to_world).float()
        place = (points - pose[:3, 3]) @ pose[:3, :3]
        depth = -place[:, 2]
        free |= place.norm(dim=-1) < nearest
        column = (k.fx * place[:, 0] / depth + k.cx).floor()
        row = (k.cy - k.fy * place[:, 1] / depth).floor()
        inside = (depth > 0) & (column >= 0) & (column < k.width) & (row >= 0) & (row < k.height)
        at = inside.nonzero()[:, 0]
        seen = torch.where(source.alpha > LEAST_ALPHA, source.depth, torch.inf)
        closest = -torch.nn.functional.max_pool2d(-seen[None, None], 3, 1, 1)[0, 0]
        pixel = row[at].long() * k.width + column[at].long()
        tolerance = torch.maximum(BEHIND_SHARE * depth[at], BEHIND_PIXELS * depth[at] / k.fx)
        past[at] += (closest.view(-1)[pixel] - depth[at] > tolerance).float()
        there[at] += ((seen.view(-1)[pixel] - depth[at]).abs() <= tolerance).float()
    return ~free & (there >= FEWEST_THERE) & (past <= MOST_PAST * (past + there))


def fitted_colors(seen: Seen, cell: torch.Tensor, count: int, report: Reporter) -> torch.Tensor:
    """Spherical harmonics of the colours that a cell's points have from where they are seen.

    Ridge regression: least squares, with the higher harmonics drawn towards 0 as if SMOOTHING observations said so.

    Args:
        seen: All points.
        cell: (n,) which cell each is in.
        count: How many cells there are.
        report: Asked whether the job was cancelled.

    Returns:
        (count, 9 * 3) coefficients, in the order of a splat's row.

    Raises:
        Cancelled.
    """
    basis = harmonics(seen.directions)
    left = torch.zeros((count, COEFFICIENTS * (COEFFICIENTS + 1) // 2))
    upper = torch.triu_indices(COEFFICIENTS, COEFFICIENTS)
    right = torch.zeros((count, COEFFICIENTS * 3))
    for part in torch.arange(len(basis)).split(1 << 18):
        report.check()
        one, weighted = basis[part], basis[part] * seen.weights[part, None]
        left.index_add_(0, cell[part], weighted[:, upper[0]] * one[:, upper[1]])
        right.index_add_(0, cell[part], (weighted[:, :, None] * (seen.colors[part, None] - 0.5)).flatten(1))
    prior = torch.full((COEFFICIENTS,), SMOOTHING)
    prior[0] = 1e-4
    found = torch.empty_like(right)
    for part in torch.arange(count).split(1 << 16):
        report.check()
        square = torch.zeros((len(part), COEFFICIENTS, COEFFICIENTS))
        square[:, upper[0], upper[1]] = left[part]
        square[:, upper[1], upper[0]] = left[part]
        square += torch.diag(prior)
        found[part] = torch.linalg.solve(square, right[part].view(-1, COEFFICIENTS, 3)).flatten(1)
    return found


def splats_of(means: Seen, sizes: torch.Tensor, colors: torch.Tensor, report: Reporter) -> torch.Tensor:
    """Flat disks on the surface, as wide as their neighbours are apart.

    Args:
        means: Of the cells.
        sizes: (n,) of the cells, in capture units.
        colors: (n, 27) harmonics.
        report: Asked whether the job was cancelled.

    Returns:
        (n, COLUMNS) splats.

    Raises:
        Cancelled.
    """
    spacing = torch.minimum(torch.maximum(spacings(means.points, report), 0.7 * sizes), 3 * sizes)
    rows = torch.empty((len(sizes), COLUMNS))
    rows[:, MEAN] = means.points
    rows[:, SCALE] = (spacing[:, None] * torch.tensor([WIDTH, WIDTH, THICKNESS])).log()
    rows[:, ROTATION] = quaternions_towards(means.normals)
    rows[:, OPACITY] = float(np.log(OPAQUE / (1 - OPAQUE)))
    rows[:, 11:] = colors
    return rows


def spacings(points: torch.Tensor, report: Reporter) -> torch.Tensor:
    """How far points are from their three nearest neighbours, on average.

    Args:
        points: (n, 3).
        report: Asked whether the job was cancelled.

    Returns:
        (n,) in their units; of a single point 0.

    Raises:
        Cancelled.
    """
    from scipy.spatial import cKDTree  # here, for it takes a while

    places, found = points.double().numpy(), []
    tree = cKDTree(places)
    for part in np.array_split(places, -(-len(places) // AT_ONCE)):
        report.check()
        away, _ = tree.query(part, k=min(4, len(places)), workers=torch.get_num_threads())
        found.append(away.reshape(len(part), -1)[:, 1:].sum(1) / max(1, min(4, len(places)) - 1))
    return torch.from_numpy(np.concatenate(found)).float()


def _steady(depth: torch.Tensor) -> torch.Tensor:
    """Which pixels (height, width) have the depth of some around: others show an outline, a bit of both sides of it."""
    around = torch.nn.functional.pad(depth[None, None], (1, 1, 1, 1), mode="replicate")[0, 0].unfold(0, 3, 1)
    around = around.unfold(1, 3, 1).flatten(2)
    return ((around - depth[..., None]).abs() < UNSTEADY * depth[..., None]).sum(-1) > FEWEST_ALIKE


def _at_outline(depth: torch.Tensor) -> torch.Tensor:
    """Which pixels (height, width) have one beside them that sees past their surface."""
    farthest = torch.nn.functional.max_pool2d(depth[None, None], 3, 1, 1)[0, 0]
    return farthest > (1 + OUTLINE) * depth


def _normals(points: torch.Tensor) -> torch.Tensor:
    """Of a picture of points (height, width, 3), from the nearer neighbour in each direction, towards the camera."""

    def slope(dim: int) -> torch.Tensor:
        step = points.diff(dim=dim)
        before = torch.cat([step.narrow(dim, 0, 1), step], dim)
        after = torch.cat([step, step.narrow(dim, step.shape[dim] - 1, 1)], dim)
        nearer = before.norm(dim=-1, keepdim=True) < after.norm(dim=-1, keepdim=True)
        return torch.where(nearer, before, after)

    return torch.nn.functional.normalize(torch.linalg.cross(slope(0), slope(1)), dim=-1)


def _shell_depth(origins: torch.Tensor, rays: torch.Tensor, transform: SceneTransform) -> torch.Tensor:
    """How far along the rays the shell of radius FAR lies: (n,)."""
    from_center = origins - torch.tensor(transform.center, dtype=torch.float32)
    a, b = (rays**2).sum(-1), (from_center * rays).sum(-1)
    c = (from_center**2).sum(-1) - (FAR / transform.scale) ** 2
    return (-b + (b**2 - a * c).clamp_min(0).sqrt()) / a
