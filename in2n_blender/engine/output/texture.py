"""A colour texture for a mesh: unwrapped by xatlas, painted with what the scene shows of every texel.

The field's renders from the capture's views are projected onto the surface, those counting most that see it squarely,
from near and unhidden: their mean over the views is the part of the colour that does not depend on the view. What no
view sees is asked of the field, looking at the surface along its normal.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ...scene.reporting import Reporter, seconds_left
from .fusion import DepthView
from .surface import Surface, surface_colors

PADDING = 4  # texels between charts
# A texel is hidden from a view where that sees something by so many voxels nearer, or by this share of the depth.
HIDDEN_VOXELS, HIDDEN_SHARE = 2.0, 0.01
GRAZING = 0.1  # the cosine from which a view counts
SQUARELY = 2  # the power of the cosine with which it counts
TEXELS_AT_ONCE = 1 << 18
FACES_AT_ONCE = 1 << 15


@dataclass(frozen=True)
class TexturedMesh:
    """A surface with a texture.

    Attributes:
        surface: Its vertices are doubled along the seams.
        uvs: (v, 2) float32 in [0, 1], v upwards.
        texture_srgb: (side, side, 3) float32 in [0, 1], the first row the highest v.
    """

    surface: Surface
    uvs: np.ndarray
    texture_srgb: np.ndarray


def textured(
    scene, surface: Surface, side: int, voxel: float, views: Sequence[DepthView], report: Reporter
) -> TexturedMesh:
    """Unwrap a mesh and paint it.

    Args:
        scene: Asked for what no view sees.
        surface: The mesh, in capture coordinates.
        side: Of the texture, in texels.
        voxel: How exactly the surface is known, in capture units.
        views: What the capture's views see of the scene.
        report: Told how far it is, and asked whether the job was cancelled.

    Returns:
        The same surface with a texture.

    Raises:
        Cancelled.
    """
    report.progress(0, 1, "mesh", f"Unwrapping {len(surface.faces):,} faces", None)
    origin, faces, uvs = unwrap(surface.vertices, surface.faces, side)
    report.check()
    surface = Surface(surface.vertices[origin], faces, surface.normals[origin])
    texels = rasterised(uvs, faces, side, report)
    corners = faces[texels.face]
    between = lambda values: (values[corners] * texels.weights[..., None]).sum(1, dtype=np.float32)
    places, normals = between(surface.vertices), between(surface.normals)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    texture = np.zeros((side, side, 3), np.float32)
    texture[texels.row, texels.column] = _painted(scene, places, normals, voxel, views, report)
    return TexturedMesh(surface, uvs, _filled(texture, texels))


def unwrap(vertices: np.ndarray, faces: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Charts of a mesh, packed into a square.

    Args:
        vertices: (v, 3).
        faces: (f, 3).
        side: Of the texture, in texels.

    Returns:
        (n,) which vertex each new one is, (f, 3) int64 faces of new ones, (n, 2) float32 their places in [0, 1].
    """
    import xatlas

    atlas = xatlas.Atlas()
    atlas.add_mesh(np.ascontiguousarray(vertices, np.float32), np.ascontiguousarray(faces, np.uint32))
    packing = xatlas.PackOptions()
    packing.resolution, packing.padding, packing.bilinear = side, PADDING, True
    atlas.generate(pack_options=packing)
    origin, corners, places = atlas[0]
    # xatlas aims at the resolution; where it takes more, or makes several sheets, the whole is scaled to one.
    return origin.astype(np.int64), corners.astype(np.int64), np.clip(places, 0, 1).astype(np.float32)


@dataclass(frozen=True)
class Texels:
    """The texels that faces cover.

    Attributes:
        row: (n,) counted from the top.
        column: (n,).
        face: (n,) which face lies there.
        weights: (n, 3) float32, how much each of its corners counts.
    """

    row: np.ndarray
    column: np.ndarray
    face: np.ndarray
    weights: np.ndarray


def rasterised(uvs: np.ndarray, faces: np.ndarray, side: int, report: Reporter) -> Texels:
    """Which face lies under which texel's centre.

    Args:
        uvs: (v, 2) in [0, 1], v upwards.
        faces: (f, 3).
        side: Of the texture, in texels.
        report: Asked whether the job was cancelled.

    Returns:
        Each covered texel once.

    Raises:
        Cancelled.
    """
    corners = (uvs[faces] * [side, -side] + [0, side] - 0.5).astype(np.float64)  # in texels, from the top left centre
    low = np.floor(corners.min(1)).astype(np.int64).clip(0, side - 1)
    extent = np.ceil(corners.max(1)).astype(np.int64).clip(0, side - 1) - low + 1
    parts = []
    size = 2 ** np.ceil(np.log2(extent.max(1))).astype(np.int64)
    for box in np.unique(size):  # faces of about one size together, so that few texels are tried in vain
        chosen = np.flatnonzero(size == box)
        at_once = max(1, FACES_AT_ONCE * 16 // int(box * box))
        for first in range(0, len(chosen), at_once):
            report.check()
            parts.append(_covered(corners, low, chosen[first : first + at_once], int(box), side))
    row, column, face, weights = (np.concatenate(columns) for columns in zip(*parts))
    _, first = np.unique(row * side + column, return_index=True)
    return Texels(row[first], column[first], face[first], weights[first])


def _covered(corners: np.ndarray, low: np.ndarray, chosen: np.ndarray, box: int, side: int) -> tuple:
    """Rows, columns, faces and weights of the texels in boxes of one size that lie in the chosen faces."""
    steps = np.stack(np.meshgrid(np.arange(box), np.arange(box), indexing="xy"), -1).reshape(-1, 2)
    texel = low[chosen, None] + steps  # (faces, texels, 2), across and down
    a, b, c = (corners[chosen, i, None] for i in range(3))
    cross = lambda one, other: one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0]
    area = cross(b - a, c - a)
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = np.stack([cross(b - texel, c - texel), cross(c - texel, a - texel), cross(a - texel, b - texel)], -1)
        weights = weights / area[..., None]
    inside = (weights >= -1e-9).all(-1) & (texel < side).all(-1)
    face, number = np.nonzero(inside)
    found = texel[face, number]
    return found[:, 1], found[:, 0], chosen[face], weights[face, number].astype(np.float32)


def _painted(
    scene, places: np.ndarray, normals: np.ndarray, voxel: float, views: Sequence[DepthView], report: Reporter
) -> np.ndarray:
    """(n, 3) sRGB colours of places on the surface."""
    colors, started = np.zeros((len(places), 3), np.float32), time.monotonic()
    pictures = [_Projector.of(view, getattr(scene, "device", "cpu"), voxel) for view in views]
    unseen = np.ones(len(places), bool)
    for first in range(0, len(places), TEXELS_AT_ONCE):
        left = seconds_left(started, first, len(places))
        report.progress(first, len(places), "texel", "Painting the texture", left)
        part = slice(first, first + TEXELS_AT_ONCE)
        at, facing = (torch.from_numpy(values[part]) for values in (places, normals))
        total, weight = torch.zeros((len(at), 3)), torch.zeros(len(at))
        for picture in pictures:
            report.check()
            picture.paint(at, facing, total, weight)
        colors[part] = (total / weight.clamp_min(1e-12)[:, None]).numpy()
        unseen[part] = (weight <= 0).numpy()
    if unseen.any():
        colors[unseen] = surface_colors(scene, places[unseen], normals[unseen], voxel, report)
    return np.clip(colors, 0, 1)


@dataclass(frozen=True)
class _Projector:
    """A view's picture, to be projected onto surfaces: color and depth (1, channels, height, width)."""

    view: DepthView
    device: torch.device | str
    color: torch.Tensor
    depth: torch.Tensor
    voxel: float

    @staticmethod
    def of(view: DepthView, device: torch.device | str, voxel: float) -> _Projector:
        color = torch.as_tensor(view.color_srgb, device=device).permute(2, 0, 1)[None].contiguous()
        return _Projector(view, device, color, torch.as_tensor(view.depth, device=device)[None, None], voxel)

    def paint(self, places: torch.Tensor, normals: torch.Tensor, total: torch.Tensor, weight: torch.Tensor) -> None:
        """Add colours and weights of places that the view sees, on the CPU."""
        camera = self.view.camera
        k, pose = camera.intrinsics, torch.as_tensor(camera.camera_to_world, dtype=torch.float32)
        toward = pose[:3, 3] - places
        distance = toward.norm(dim=1).clamp_min(1e-9)
        facing = (normals * toward).sum(1) / distance
        numbers = (facing > GRAZING).nonzero()[:, 0]
        local = -toward[numbers] @ pose[:3, :3]
        depth = -local[:, 2]
        safe = depth.clamp_min(1e-9)
        across, down = k.fx * local[:, 0] / safe + k.cx, k.cy - k.fy * local[:, 1] / safe
        inside = (depth > 1e-9) & (across > 0.5) & (across < k.width - 0.5) & (down > 0.5) & (down < k.height - 0.5)
        numbers, depth = numbers[inside], depth[inside]
        at = torch.stack([across[inside] / k.width * 2 - 1, down[inside] / k.height * 2 - 1], -1)[None, None]
        at = at.to(self.device)
        seen = F.grid_sample(self.depth, at, "bilinear", "border", align_corners=False)[0, 0, 0].cpu()
        shown = depth - seen < torch.maximum(depth * HIDDEN_SHARE, torch.tensor(HIDDEN_VOXELS * self.voxel))
        color = F.grid_sample(self.color, at, "bilinear", "border", align_corners=False)[0, :, 0].T.cpu()[shown]
        numbers = numbers[shown]
        counts = facing[numbers] ** SQUARELY / depth[shown] ** 2
        total[numbers] += color * counts[:, None]
        weight[numbers] += counts


def _filled(texture: np.ndarray, texels: Texels) -> np.ndarray:
    """With the nearest covered texel's colour where no face lies, so that no foreign colour is filtered in at seams."""
    from scipy.ndimage import distance_transform_edt

    empty = np.ones(texture.shape[:2], bool)
    empty[texels.row, texels.column] = False
    row, column = distance_transform_edt(empty, return_distances=False, return_indices=True)
    return texture[row, column]
