"""Rendering a shot: rays over pixels, lens and shutter, and the passes that Blender's compositor knows.

Colours are averaged as linear light with premultiplied alpha, so that an edge over another background is right. Depth,
normal and position are of the sharp ray through the pixel's centre, as Cycles gives them of its first sample: averages
across an edge would be places where nothing is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from ...scene.reporting import Reporter
from ...scene.shot import Shot, ShotRays
from .constants import FAR
from .regions import box_distances
from .rendering import RayBundle
from .scene import Scene, rays_a_chunk
from .subject import Subject

NOTHING = 1e10  # Blender's depth where a ray meets nothing
DATA_PASSES = ("Depth", "Normal", "Position")
CHANNELS = {"Combined": 4, "Depth": 1, "Normal": 3, "Position": 3}
SMOOTHINGS, SAME_SURFACE = 3, 4.0  # of normals: passes, and how many pixels' widths deeper is the same surface
# Roberts 2018, "The Unreasonable Effectiveness of Quasirandom Sequences": evenly spread, and the first of the first
# two is the middle of the pixel.
PIXEL_STEPS = (0.7548776662466927, 0.5698402909980532)
BLUR_STEPS = (0.8191725133961644, 0.6710436067037893, 0.5497004779019701)


@dataclass(frozen=True)
class ShotSettings:
    """How a shot is rendered.

    Attributes:
        samples: Rays a pixel.
        rays_at_once: Between two looks whether to go on; None: as many as are fastest.
        passes: Of DATA_PASSES, those that are wanted beside Combined.
        transparent: Whether what lies behind the scene is left out; a subject always stands before nothing.
        to_scene: (4, 4) float64 from the capture's coordinates to those that the passes are in: rotation, even scale
            and translation.
    """

    samples: int = 1
    rays_at_once: int | None = None
    passes: tuple[str, ...] = ()
    transparent: bool = False
    to_scene: np.ndarray = field(default_factory=lambda: np.eye(4))


class ShotRenderer:
    """Renders shots of one scene.

    Args:
        scene: What is rendered.
        subject: Of the scene, what alone is rendered; None: all of it.
    """

    def __init__(self, scene: Scene, subject: Subject | None = None):
        self.scene, self.subject = scene, subject

    @torch.no_grad()
    def render(self, shot: Shot, settings: ShotSettings, report: Reporter) -> dict[str, np.ndarray]:
        """Render a shot.

        Args:
            shot: In capture coordinates.
            settings: How.
            report: Told of every part of the picture, and asked whether to go on.

        Returns:
            Float32 arrays (height, width, channels) by pass, "Combined" first: linear Rec. 709 premultiplied with
            alpha, and the passes asked for, in the scene's units.

        Raises:
            Cancelled: The report said so.
        """
        width, height = shot.size
        pixels = width * height
        combined = np.empty((pixels, 4), np.float32)
        data = _Data.empty(pixels) if settings.passes else None
        chunk = settings.rays_at_once or rays_a_chunk(self.scene.model.settings, self.scene.device)
        for first in range(0, pixels, chunk):
            report.progress(first, pixels, "pixels", "Rendering", None)
            chosen = np.arange(first, min(first + chunk, pixels))
            rows = slice(first, first + len(chosen))
            combined[rows] = self._colors(shot, settings, chosen, report, data)
            if data is not None and shot.is_blurred:
                rays = shot.rays(*_centers(shot, chosen))
                data.take(chosen, rays, self._trace(rays, shot, settings), self.scene.transform.scale)
        self.scene.parts.tell(report)
        report.progress(pixels, pixels, "pixels", "Rendering", 0.0)
        passes = {"Combined": combined.reshape(height, width, 4)}
        return passes | (data.passes(settings, width, height) if data is not None else {})

    def _colors(self, shot: Shot, settings: ShotSettings, chosen: np.ndarray, report: Reporter, data) -> np.ndarray:
        """(pixels, 4) linear and premultiplied; where one ray tells both, `data` is filled, too."""
        total = torch.zeros((len(chosen), 4), device=self.scene.device)
        left, top = _corner(shot, chosen)
        for sample in range(settings.samples):
            report.check()
            over, down = _in_pixel(sample)
            rays = shot.rays(left + over, top + down, *(_blur(left, top, sample) if shot.is_blurred else ()))
            traced = self._trace(rays, shot, settings)
            total += traced.linear
            if data is not None and sample == 0 and not shot.is_blurred:
                data.take(chosen, rays, traced, self.scene.transform.scale)
        return (total / settings.samples).cpu().numpy()

    def _trace(self, rays: ShotRays, shot: Shot, settings: ShotSettings) -> _Traced:
        as_tensor = lambda values: torch.from_numpy(values.astype(np.float32)).to(self.scene.device)
        center = np.array(self.scene.transform.center)
        origins = as_tensor((rays.origins - center) * self.scene.transform.scale)
        directions = as_tensor(rays.directions)
        bundle = RayBundle(origins, directions)
        if self.subject is not None:  # rays begin where its region does
            rendered = self.subject.rays(bundle)
            return _Traced(_premultiplied(rendered.color, rendered.alpha), rendered.alpha, rendered.distance)
        begins, passes = _beginnings(origins, directions)
        rendered = self.scene.rays(RayBundle(origins + directions * begins[:, None], directions))
        alpha = rendered.alpha.clamp(0, 1).masked_fill(passes, 0)
        if settings.transparent:
            linear = _premultiplied(rendered.color.masked_fill(passes[:, None], 0), alpha)
        else:
            linear = torch.cat([to_linear(self.scene.over_background(rendered)), torch.ones_like(alpha)[:, None]], -1)
        return _Traced(linear, alpha, rendered.distance + begins)


def _premultiplied(color: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """(n, 4) linear light, of sRGB colours (n, 3) that are summed along the ray: straight only between."""
    alpha = alpha[:, None]
    return torch.cat([to_linear(color / alpha.clamp_min(1e-6)) * alpha, alpha], -1)


def _beginnings(origins: torch.Tensor, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where rays begin that come from outside of where the photos were taken: seen from there, a scene hides behind its
    own sky, and an orthographic camera stands anywhere along its axis.

    They begin where they enter the cube that all cameras are in. Those that pass it begin far behind it: what they show
    is what lies in that direction at infinity.

    Args:
        origins: (rays, 3) in normalised scene units.
        directions: (rays, 3).

    Returns:
        (rays,) the distances, 0 from within the cube; and (rays,) whether a ray passes it.
    """
    one = torch.ones(3, device=origins.device)
    enters, leaves = box_distances(origins, directions, -one, one)
    outside = origins.abs().amax(-1) > 1
    passes = outside & ((leaves < enters) | (leaves <= 0))
    begins = torch.where(outside, enters, 0.0).clamp_min(0)
    return torch.where(passes, origins.norm(dim=-1) + FAR / 10, begins), passes


@dataclass
class _Traced:
    """linear: (n, 4) premultiplied. alpha: (n,). distance: (n,) in normalised scene units."""

    linear: torch.Tensor
    alpha: torch.Tensor
    distance: torch.Tensor


@dataclass
class _Data:
    """What pixels show, in capture coordinates. distance: infinite where there is nothing."""

    distance: np.ndarray
    rays: ShotRays

    @staticmethod
    def empty(pixels: int) -> _Data:
        rays = ShotRays(np.zeros((pixels, 3)), np.zeros((pixels, 3)), np.zeros(pixels))
        return _Data(np.full(pixels, np.inf), rays)

    def take(self, chosen: np.ndarray, rays: ShotRays, traced: _Traced, scale: float) -> None:
        distance = torch.where(traced.alpha < 0.5, torch.inf, traced.distance).cpu().numpy()
        self.distance[chosen] = distance.astype(np.float64) / scale
        for name in ("origins", "directions", "cosines"):
            getattr(self.rays, name)[chosen] = getattr(rays, name)

    def passes(self, settings: ShotSettings, width: int, height: int) -> dict[str, np.ndarray]:
        """The passes, in the scene's units and axes."""
        unit = abs(np.linalg.det(settings.to_scene[:3, :3])) ** (1 / 3)
        turn = settings.to_scene[:3, :3] / unit
        something = np.isfinite(self.distance)
        reach = np.where(something, self.distance, 0.0)
        found = {}
        if "Depth" in settings.passes:
            found["Depth"] = np.where(something, reach * self.rays.cosines * unit, NOTHING)
        place = self.rays.origins + self.rays.directions * reach[:, None]
        if "Normal" in settings.passes:
            towards = (-self.rays.directions).reshape(height, width, 3)
            normal = normals(place.reshape(height, width, 3), something.reshape(height, width), towards)
            found["Normal"] = normal.reshape(-1, 3) @ turn.T
        if "Position" in settings.passes:
            placed = place @ settings.to_scene[:3, :3].T + settings.to_scene[:3, 3]
            found["Position"] = np.where(something[:, None], placed, 0.0)
        return {n: np.ascontiguousarray(v, np.float32).reshape(height, width, -1) for n, v in found.items()}


def normals(place: np.ndarray, something: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """The normals of what is seen, from its places alone: what a surface's grid of pixels spans.

    Across an edge two pixels lie on different surfaces, so that in each direction the nearer neighbour counts. What the
    depth's noise makes of it is averaged with neighbours that are a few pixels' widths deeper or less deep at most.

    Args:
        place: (height, width, 3).
        something: (height, width) whether there is something.
        towards: (height, width, 3) unit vectors to where the pixel is seen from.

    Returns:
        (height, width, 3) of unit length, on the camera's side; 0 where there is nothing.
    """
    across, down = _step(place, something, 1), _step(place, something, 0)
    normal = np.cross(across, down)
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    known = np.isfinite(length) & (length > 0)
    normal = np.where(known, normal / np.where(known, length, 1), towards)
    normal *= np.where((normal * towards).sum(-1, keepdims=True) < 0, -1.0, 1.0)
    normal = np.where(something[..., None], normal, 0.0)
    depth = -(place * towards).sum(-1)
    beside = np.linalg.norm(across - (across * towards).sum(-1, keepdims=True) * towards, axis=-1)  # a pixel's width
    for _ in range(SMOOTHINGS):
        normal = _smoothed(normal, depth, SAME_SURFACE * np.nan_to_num(beside, nan=0.0))
    return np.where(something[..., None], normal, 0.0)


def _smoothed(normal: np.ndarray, depth: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Averages of 3 x 3 pixels, those counting less that lie deeper or less deep by more than `reach`."""
    total, padded = normal.copy(), np.pad(normal, ((1, 1), (1, 1), (0, 0)))
    depths = np.pad(depth, 1, mode="edge")
    height, width = depth.shape
    narrow = np.maximum(reach, 1e-30) ** -2
    for down, over in ((y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)):
        part = (slice(down, down + height), slice(over, over + width))
        total += padded[part] * np.exp(-((depths[part] - depth) ** 2) * narrow)[..., None]
    return total / np.maximum(np.linalg.norm(total, axis=-1, keepdims=True), 1e-30)


def _step(place: np.ndarray, something: np.ndarray, axis: int) -> np.ndarray:
    """(height, width, 3) from each pixel's place to the neighbour's that is nearer, NaN where there is none."""
    shown = np.where(something[..., None], place, np.nan)
    nothing = np.full_like(shown.take([0], axis), np.nan)
    between = np.diff(shown, axis=axis)
    after, before = np.concatenate([between, nothing], axis), np.concatenate([nothing, between], axis)
    length = [np.nan_to_num(np.linalg.norm(step, axis=-1, keepdims=True), nan=np.inf) for step in (after, before)]
    return np.where(length[0] <= length[1], after, before)


def to_linear(srgb: torch.Tensor) -> torch.Tensor:
    """Display-referred sRGB to linear light (IEC 61966-2-1); what is brighter than white stays so.

    Args:
        srgb: Of any shape, from 0 upwards.

    Returns:
        Of the same shape.
    """
    srgb = srgb.clamp_min(0)
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _corner(shot: Shot, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The upper left corners of pixels, counted row by row within the border, in the whole picture."""
    left, top, right, _bottom = shot.box
    down, over = np.divmod(chosen, right - left)
    return (left + over).astype(np.float64), (top + down).astype(np.float64)


def _centers(shot: Shot, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    left, top = _corner(shot, chosen)
    return left + 0.5, top + 0.5


def _in_pixel(sample: int) -> tuple[float, float]:
    return tuple((0.5 + sample * step) % 1.0 for step in PIXEL_STEPS)


def _blur(left: np.ndarray, top: np.ndarray, sample: int) -> tuple[np.ndarray, np.ndarray]:
    """When (n,) and where on the lens (n, 2) the rays of a pixel pass: evenly spread over its samples, and each pixel's
    shifted by its own amount, so that what is left of the pattern is noise."""
    number = (top.astype(np.uint64) * np.uint64(65536) + left.astype(np.uint64)) + np.uint64(1)
    time, radius, angle = ((_hash(number, i) + sample * step) % 1.0 for i, step in enumerate(BLUR_STEPS))
    radius, angle = np.sqrt(radius), 2 * np.pi * angle
    return time, np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)


def _hash(numbers: np.ndarray, which: int) -> np.ndarray:
    """(n,) in [0, 1), as good as random: SplitMix64's finaliser (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        value = numbers * np.uint64(3) + np.uint64(which)
        value = value * np.uint64(0x9E3779B97F4A7C15)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        value ^= value >> np.uint64(31)
    return (value >> np.uint64(11)).astype(np.float64) / 2.0**53
