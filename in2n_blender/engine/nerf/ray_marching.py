"""Rendering without gradients: what `NerfModel.forward` shows, with two Warp kernels over rays that end where nothing
more is seen.

Nothing is looked up behind an opaque surface, and what torch would write to memory between its operations stays in
registers; CPU and CUDA from one source. Their twin is `NerfModel.forward`, each of whose own kernels has one in plain
torch.
"""

from dataclasses import dataclass, fields
from functools import lru_cache

import torch

from .encoding import GridLayout, interpolation
from .field import DENSITY_SCALE, DENSITY_SHIFT
from .kernels import FEWEST_RAYS, launch_over_rays, numbers, side_by_side, vec3s, vectors, warp
from .rendering import NerfModel, RayBundle
from .sampling import PADDING, sampling_functions, spacing_range, uniform_edges

# A ray ends when less than this of its light is left, far below what an 8-bit image can show.
LEAST_TRANSMITTANCE = 1e-4
# Of so many rays the colour MLP's numbers stay in a CPU's caches.
RAYS_IN_CACHE = 512


@dataclass
class Seen:
    """What a bundle shows, as in `Rendered`: color (rays, 3) sRGB without background, alpha (rays,), distance (rays,),
    last_color (rays, 3)."""

    color: torch.Tensor
    alpha: torch.Tensor
    distance: torch.Tensor
    last_color: torch.Tensor


def march(model: NerfModel, bundle: RayBundle) -> Seen:
    """`model(bundle)` without jitter, to within LEAST_TRANSMITTANCE. On a CPU every thread takes its share of the rays
    to the end."""
    threads = model.field.encoding.threads if bundle.origins.device.type == "cpu" and len(bundle) >= FEWEST_RAYS else 1
    if threads == 1:
        return _march(model, bundle)
    seen = side_by_side(lambda part: _march(model, part), bundle.split(-(-len(bundle) // threads)))
    return Seen(*(torch.cat([getattr(part, field.name) for part in seen]) for field in fields(Seen)))


@torch.no_grad()
def _march(model: NerfModel, bundle: RayBundle) -> Seen:
    settings, device, rays = model.settings, bundle.origins.device, len(bundle)
    near, far = spacing_range(model.near)
    empty = lambda *shape: torch.empty((rays, *shape), device=device)  # noqa: E731
    proposal_weights, edges = empty(settings.proposal_samples), empty(settings.samples + 1)
    weights, alpha, distance = empty(settings.samples), empty(), empty()
    encoding, proposal = model.field.encoding, model.proposal.encoding
    encoded = empty(settings.samples, encoding.width)
    propose, see = march_kernels(encoding.features, encoding.layout, proposal.layout)
    rays_given = [(bundle.origins.contiguous(), vec3s), (bundle.directions.contiguous(), vec3s)]
    launch_over_rays(
        propose,
        [*rays_given, (proposal_weights, numbers), (edges, numbers)],
        [
            numbers(uniform_edges(1, settings.proposal_samples, device).contiguous()),
            vectors(proposal.table.detach()),
            near,
            far,
        ],
        1,
    )
    launch_over_rays(
        see,
        [
            *rays_given,
            (edges, numbers),
            (weights, numbers),
            (alpha, numbers),
            (distance, numbers),
            (encoded.view(rays, settings.samples, -1, encoding.features), vectors),
        ],
        [vectors(encoding.table.detach()), near, far],
        1,
    )
    color, last_color = _colors(model, bundle, weights, encoded)
    return Seen(color, alpha.clamp(max=1), distance, last_color)


def _colors(
    model: NerfModel, bundle: RayBundle, weights: torch.Tensor, encoded: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Colours summed along the rays (rays, 3) and the last samples' (rays, 3), by the colour MLP."""
    along_ray = model.field.along_ray(bundle.directions, bundle.views)
    few = RAYS_IN_CACHE if weights.device.type == "cpu" else len(bundle)
    totals, lasts = [], []
    for first in range(0, len(bundle), few):
        rows = slice(first, first + few)
        colors = model.field.colors(encoded[rows], along_ray[rows])
        totals.append((weights[rows, None] @ colors)[:, 0])
        lasts.append(colors[:, -1])
    return torch.cat(totals), torch.cat(lasts)


@lru_cache
def march_kernels(features: int, layout: GridLayout, proposal_layout: GridLayout):
    """(propose, see) Warp kernels over rays, for the field's grid of so many features a level and the proposal's of
    one.

    propose: densities of the proposal at even intervals, its weights, and the intervals resampled by them.
    see: encodings, weights, summed weight and median distance of the field in those intervals.
    The grids' levels are constants of the kernels, which saves a tenth of the time.
    """
    wp = warp()
    vector = wp.types.vector(length=features, dtype=wp.float32)
    single = wp.types.vector(length=1, dtype=wp.float32)
    interpolate, interpolate_single = interpolation(features), interpolation(1)
    levels, proposal_levels = (
        wp.constant(wp.types.matrix(shape=(len(grid.sizes), 3), dtype=wp.int32)(grid.levels))
        for grid in (layout, proposal_layout)
    )
    level_count, proposal_level_count = len(layout.sizes), len(proposal_layout.sizes)
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

    def propose(
        origins: wp.array(dtype=wp.vec3),
        directions: wp.array(dtype=wp.vec3),
        weights: wp.array2d(dtype=wp.float32),
        edges: wp.array2d(dtype=wp.float32),
        even: wp.array2d(dtype=wp.float32),
        table: wp.array(dtype=single),
        near: wp.float32,
        far: wp.float32,
    ):
        ray = wp.tid()
        light = wp.float32(1.0)
        start = distance_of(near + even[0, 0] * (far - near))
        for i in range(weights.shape[1]):
            weight = wp.float32(0.0)
            if light > least:
                end = distance_of(near + even[0, i + 1] * (far - near))
                unit = unit_point(origins[ray], directions[ray], (start + end) * 0.5)
                feature = wp.float32(0.0)
                for level in range(wp.static(proposal_level_count)):
                    value = interpolate_single(table, unit, proposal_levels[level])
                    feature += value[0]
                passes = wp.exp(-density_of(feature) * (end - start))
                weight = light * (1.0 - passes)
                light = light * passes
                start = end
            weights[ray, i] = weight
        resample_ray(even, 0, weights, ray, 0.5, padding, edges)

    def see(
        origins: wp.array(dtype=wp.vec3),
        directions: wp.array(dtype=wp.vec3),
        edges: wp.array2d(dtype=wp.float32),
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
        light, total = wp.float32(1.0), wp.float32(0.0)
        start = distance_of(near + edges[ray, 0] * (far - near))
        for i in range(samples):
            weight = wp.float32(0.0)
            if light > least:
                end = distance_of(near + edges[ray, i + 1] * (far - near))
                unit = unit_point(origins[ray], directions[ray], (start + end) * 0.5)
                feature = wp.float32(0.0)
                for level in range(wp.static(level_count)):
                    value = interpolate(table, unit, levels[level])
                    encoded[ray, i, level] = value
                    for f in range(wp.static(features)):
                        feature += value[f]
                passes = wp.exp(-density_of(feature) * (end - start))
                weight = light * (1.0 - passes)
                light = light * passes
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
                begins = distance_of(near + edges[ray, i] * (far - near))
                ends = distance_of(near + edges[ray, i + 1] * (far - near))
                fraction = wp.clamp((half - passed) / wp.max(weights[ray, i], 1e-8), 0.0, 1.0)
                distance[ray] = begins + fraction * (ends - begins)
                found = wp.int32(1)
            passed += weights[ray, i]

    unique = wp.kernel(enable_backward=False, module="unique")
    return unique(propose), unique(see)
