"""Rendering without gradients: what `NerfModel.forward` shows, with two Warp kernels over rays that end where nothing more is seen.

Nothing is looked up behind an opaque surface, and what torch would write to memory between its operations stays in registers;
CPU and CUDA from one source. The twin in plain torch is `NerfModel.forward`.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F

from .encoding import _grid_of, _launch_all, _rows_of, _vec3, _warp, grid_functions
from .field import DENSITY_SCALE, DENSITY_SHIFT, spherical_harmonics
from .rendering import FAR, NerfModel, RayBundle
from .sampling import PADDING, distance_to_spacing

# A ray ends when less than this of its light is left, far below what an 8-bit image can show.
LEAST_TRANSMITTANCE = 1e-4
# Of so many rays the colour MLP's numbers stay in a CPU's caches.
RAYS_IN_CACHE = 512


@dataclass
class Seen:
    """What a bundle shows, as in `Rendered`: color (rays, 3) sRGB without background, alpha (rays,), distance (rays,), last_color (rays, 3)."""

    color: torch.Tensor
    alpha: torch.Tensor
    distance: torch.Tensor
    last_color: torch.Tensor


def can_march(device: torch.device) -> bool:
    """Whether Warp has this kind of device."""
    return device.type in ("cpu", "cuda")


@torch.no_grad()
def march(model: NerfModel, bundle: RayBundle) -> Seen:
    """`model(bundle)` without jitter, to within LEAST_TRANSMITTANCE."""
    settings, device, rays = model.settings, bundle.origins.device, len(bundle)
    origins, directions = bundle.origins.contiguous(), bundle.directions.contiguous()
    near, far = (float(distance_to_spacing(torch.tensor(value))) for value in (model.near, FAR))
    empty = lambda *shape: torch.empty(shape, device=device)  # noqa: E731
    proposal_weights, edges = empty(rays, settings.proposal_samples), empty(rays, settings.samples + 1)
    weights, alpha, distance = empty(rays, settings.samples), empty(rays), empty(rays)
    encoding, proposal = model.field.encoding, model.proposal.encoding
    encoded = empty(rays, settings.samples, encoding.width)
    parts = encoding.threads if device.type == "cpu" and rays >= 256 else 1
    split = [(values.chunk(parts)) for values in (origins, directions, proposal_weights, edges, weights, alpha, distance, encoded)]

    propose, see = march_kernels(encoding.features)
    proposal_table, table = _rows_of(proposal.table.detach()), _rows_of(encoding.table.detach())
    proposal_levels, levels = proposal._level_shapes(device), encoding._level_shapes(device)
    pieces = list(zip(*split))
    _launch_all(propose, [
        (len(o), [_vec3(o), _vec3(d), proposal_table, proposal_levels, near, far, _numbers(pw), _numbers(e)])
        for o, d, pw, e, *_ in pieces], device, parts)
    _launch_all(see, [
        (len(o), [_vec3(o), _vec3(d), _numbers(e), table, levels, near, far, _numbers(w), _numbers(a), _numbers(t),
                  _grid_of(x.view(len(o) * settings.samples, -1, encoding.features))])
        for o, d, _, e, w, a, t, x in pieces], device, parts)
    color, last_color = _colors(model, bundle, weights, encoded)
    return Seen(color, alpha.clamp(max=1), distance, last_color)


def _colors(model: NerfModel, bundle: RayBundle, weights: torch.Tensor, encoded: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Colours summed along the rays (rays, 3) and the last samples' (rays, 3), by the colour MLP."""
    layers, width = model.field.color, model.field.encoding.width
    along_ray, of_input = _along_ray(model, bundle)[:, None], layers[0].weight[:, :width].t()
    few = RAYS_IN_CACHE if weights.device.type == "cpu" else len(bundle)
    totals, lasts = [], []
    for first in range(0, len(bundle), few):
        rows = slice(first, first + few)
        units = encoded[rows].reshape(-1, width) @ of_input
        units = units.view(-1, weights.shape[1], units.shape[-1]).add_(along_ray[rows])
        colors = torch.sigmoid(layers[1:](units))
        totals.append((weights[rows, None] @ colors)[:, 0])
        lasts.append(colors[:, -1])
    return torch.cat(totals), torch.cat(lasts)


def _along_ray(model: NerfModel, bundle: RayBundle) -> torch.Tensor:
    """(rays, hidden) what direction and appearance, the same all along a ray, add to the first layer of the colour MLP, with its bias."""
    field, first = model.field, model.field.color[0]
    inputs = [spherical_harmonics(bundle.directions)]
    if field.appearance is not None:
        inputs.append(field._appearances(bundle.views, len(bundle)))
    return F.linear(torch.cat(inputs, -1), first.weight[:, field.encoding.width:], first.bias)


def _numbers(values: torch.Tensor):
    return _warp().from_torch(values, dtype=_warp().float32)


@lru_cache
def interpolation(features: int):
    """A Warp function (table, point in the unit cube, level) -> trilinear features; what the corners share is computed once."""
    wp = _warp()
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
def march_kernels(features: int):
    """(propose, see) Warp kernels over rays, for a number of features a level of the field.

    propose: densities of the proposal at even intervals, its weights, and the intervals resampled by them.
    see: encodings, weights, summed weight and median distance of the field in those intervals.
    """
    wp = _warp()
    vector = wp.types.vector(length=features, dtype=wp.float32)
    single = wp.types.vector(length=1, dtype=wp.float32)
    interpolate, interpolate_single = interpolation(features), interpolation(1)
    shift, scale = wp.constant(DENSITY_SHIFT), wp.constant(DENSITY_SCALE)
    least, padding = wp.constant(LEAST_TRANSMITTANCE), wp.constant(PADDING)

    @wp.func
    def place(origin: wp.vec3, direction: wp.vec3, distance: wp.float32):
        p = origin + direction * distance
        norm = wp.max(wp.max(wp.abs(p[0]), wp.abs(p[1])), wp.max(wp.abs(p[2]), 1.0))
        contracted = (2.0 - 1.0 / norm) * (p / norm)
        return wp.vec3(wp.clamp((contracted[0] + 2.0) * 0.25, 0.0, 1.0), wp.clamp((contracted[1] + 2.0) * 0.25, 0.0, 1.0),
                       wp.clamp((contracted[2] + 2.0) * 0.25, 0.0, 1.0))

    @wp.func
    def distance_of(spacing: wp.float32):
        return wp.where(spacing < 0.5, spacing * 2.0, 0.5 / wp.max(1.0 - spacing, 1e-6))

    @wp.func
    def density_of(total: wp.float32):
        softplus = total - shift
        if softplus < -10.0:  # most of empty space: the logarithm would change nothing
            softplus = wp.exp(softplus)
        elif softplus < 20.0:
            softplus = wp.log(1.0 + wp.exp(softplus))
        return scale * softplus

    def propose(origins: wp.array(dtype=wp.vec3), directions: wp.array(dtype=wp.vec3), table: wp.array(dtype=single),
                levels: wp.array(dtype=wp.vec3i), near: wp.float32, far: wp.float32, weights: wp.array2d(dtype=wp.float32),
                edges: wp.array2d(dtype=wp.float32)):
        ray = wp.tid()
        samples, finer = weights.shape[1], edges.shape[1] - 1
        step = 1.0 / wp.float32(samples)
        light, total = wp.float32(1.0), wp.float32(0.0)
        start = distance_of(near)
        for i in range(samples):
            weight = wp.float32(0.0)
            if light > least:
                end = distance_of(near + wp.float32(i + 1) * step * (far - near))
                unit = place(origins[ray], directions[ray], (start + end) * 0.5)
                feature = wp.float32(0.0)
                for level in range(levels.shape[0]):
                    value = interpolate_single(table, unit, levels[level])
                    feature += value[0]
                passes = wp.exp(-density_of(feature) * (end - start))
                weight = light * (1.0 - passes)
                light = light * passes
                start = end
            weight = weight + padding * step
            weights[ray, i] = weight
            total += weight
        above = wp.int32(1)
        low_sum, high_sum = wp.float32(0.0), weights[ray, 0] / total
        for k in range(finer + 1):
            u = (wp.float32(k) + 0.5) / wp.float32(finer + 1)
            while above < samples and high_sum <= u:
                low_sum = high_sum
                high_sum = high_sum + weights[ray, above] / total
                above = above + 1
            fraction = wp.clamp((u - low_sum) / wp.max(high_sum - low_sum, 1e-8), 0.0, 1.0)
            edges[ray, k] = (wp.float32(above - 1) + fraction) * step

    def see(origins: wp.array(dtype=wp.vec3), directions: wp.array(dtype=wp.vec3), edges: wp.array2d(dtype=wp.float32),
            table: wp.array(dtype=vector), levels: wp.array(dtype=wp.vec3i), near: wp.float32, far: wp.float32,
            weights: wp.array2d(dtype=wp.float32), alpha: wp.array(dtype=wp.float32), distance: wp.array(dtype=wp.float32),
            encoded: wp.array2d(dtype=vector)):
        ray = wp.tid()
        samples = weights.shape[1]
        light, total = wp.float32(1.0), wp.float32(0.0)
        start = distance_of(near + edges[ray, 0] * (far - near))
        for i in range(samples):
            weight = wp.float32(0.0)
            if light > least:
                end = distance_of(near + edges[ray, i + 1] * (far - near))
                unit = place(origins[ray], directions[ray], (start + end) * 0.5)
                feature = wp.float32(0.0)
                for level in range(levels.shape[0]):
                    value = interpolate(table, unit, levels[level])
                    encoded[ray * samples + i, level] = value
                    for f in range(wp.static(features)):
                        feature += value[f]
                passes = wp.exp(-density_of(feature) * (end - start))
                weight = light * (1.0 - passes)
                light = light * passes
                start = end
            else:
                for level in range(levels.shape[0]):
                    encoded[ray * samples + i, level] = vector()
            weights[ray, i] = weight
            total += weight
        alpha[ray] = total
        # The distance at which half of the weight is passed.
        half, passed, found = total * 0.5, wp.float32(0.0), wp.int32(0)
        for i in range(samples):
            if found == 0 and (passed + weights[ray, i] >= half or i == samples - 1):
                begins = distance_of(near + edges[ray, i] * (far - near))
                ends = distance_of(near + edges[ray, i + 1] * (far - near))
                fraction = wp.clamp((half - passed) / wp.max(weights[ray, i], 1e-8), 0.0, 1.0)
                distance[ray] = begins + fraction * (ends - begins)
                found = wp.int32(1)
            passed += weights[ray, i]

    unique = wp.kernel(enable_backward=False, module="unique")
    return unique(propose), unique(see)

