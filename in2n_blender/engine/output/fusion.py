"""The surface on which the depths of many views agree, as a truncated signed distance on a grid of voxels.

Curless and Levoy 1996, "A volumetric method for building complex models from range images". A NeRF's density alone
makes jagged surfaces: it says how dense a place is, not where the light that reaches the cameras comes from. What only
few views see, or what others look through, is no surface: sky that a NeRF put somewhere, rags between an object's edge
and what is behind it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ...scene.camera import Camera
from ...scene.reporting import Reporter, seconds_left
from ...scene.visibility import in_picture
from ..nerf.scene import Scene

# Of the pictures that are fused: small photos are enlarged, as a scene is sharper than one pixel of theirs.
LONGEST_SIDE, MOST_ENLARGED = 512, 2.0
TRUNCATION = 4  # voxels on either side of a surface in which distances are told
AGREES, PASSES = 0.75, 1.5  # truncations: a view sees the surface here, or looks through it
FEWEST_AGREEING = 3  # views that see a surface
SHARE_AGREEING = 0.7  # of the views that see it or look through it
SAME_SURFACE = 0.02  # neighbouring depths that differ by a smaller share of their size are interpolated
STEEPEST = 0.05  # the cosine below which a surface is seen at no smaller weight
# Sparse points whose depth is missed by more than this share are hidden, or are not where they seem to be.
FARTHEST_POINT, FEWEST_POINTS = 0.05, 100
MOST_ABOUT = 4  # pixels about one, in which a surface's edge is looked for
BLOCK = 8  # voxels a side
VOXELS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class DepthView:
    """What a camera sees of a scene.

    Attributes:
        camera: Of the pictures' size, in capture coordinates.
        color_srgb: (height, width, 3) float32 in [0, 1].
        depth: (height, width) float32 along the camera's axis, in capture units.
    """

    camera: Camera
    color_srgb: np.ndarray
    depth: np.ndarray

    def facing(self) -> np.ndarray:
        """The cosines (height, width) float32 between the surfaces' normals and the rays that see them."""
        height, width = self.depth.shape
        origins, directions = self.camera.rays()
        points = (origins + directions * self.depth.reshape(-1, 1)).reshape(height, width, 3)
        if min(height, width) < 2:
            return np.ones((height, width), np.float32)
        normals = np.cross(np.gradient(points, axis=0), np.gradient(points, axis=1))
        rays = directions.reshape(height, width, 3)
        lengths = np.linalg.norm(normals, axis=-1) * np.linalg.norm(rays, axis=-1)
        return (np.abs((normals * rays).sum(-1)) / np.maximum(lengths, 1e-20)).astype(np.float32)


@dataclass(frozen=True)
class VoxelGrid:
    """Points origin + index * voxel.

    Attributes:
        origin: (3,) float64 in capture coordinates.
        voxel: The spacing in capture units.
        shape: How many points along each axis, at least two.
    """

    origin: np.ndarray
    voxel: float
    shape: tuple[int, int, int]

    def places(self, index: np.ndarray) -> np.ndarray:
        """(n, 3) float32 in capture coordinates of the points with these (n, 3) indices."""
        return (self.origin + np.asarray(index) * self.voxel).astype(np.float32)


@dataclass(frozen=True)
class FusedDepths:
    """What many depths say of a grid's points.

    Attributes:
        grid: The points.
        distance: `grid.shape` float32, to the surface in truncations, positive before it: in [-1, 1]; 1 where no view
            sees anything near.
        seen: `grid.shape` bool, whether a view sees the point, or looks at most a truncation deep into what hides it.
        agreeing: `grid.shape` uint8, how many views see a surface about here.
        passing: `grid.shape` uint8, how many look through here.
    """

    grid: VoxelGrid
    distance: np.ndarray
    seen: np.ndarray
    agreeing: np.ndarray
    passing: np.ndarray

    def is_surface(self, views: int) -> np.ndarray:
        """Where a surface may be: (`grid.shape`) bool.

        Args:
            views: How many there were.
        """
        fewest = max(1, min(FEWEST_AGREEING, views // 3))
        agreeing = self.agreeing.astype(np.float32)
        return (self.agreeing >= fewest) & (agreeing >= SHARE_AGREEING * (agreeing + self.passing))


def depth_views(scene: Scene, report: Reporter) -> list[DepthView]:
    """Colours and depths of the training views, as the scene now shows them.

    Where sparse points tell how deep surfaces are, the depths are corrected by how much they are off in the middle: a
    NeRF's surfaces are soft, and half of a ray's weight is passed a little behind them.

    Args:
        scene: In capture coordinates.
        report: Told how far it is, and asked whether the job was cancelled.

    Returns:
        In the views' order, at most LONGEST_SIDE pixels long and MOST_ENLARGED as large as the photos.

    Raises:
        Cancelled.
    """
    found, cameras, started = [], [view.camera for view in scene.capture.training_views], time.monotonic()
    for number, camera in enumerate(cameras):
        left = seconds_left(started, number, len(cameras))
        report.progress(number, len(cameras), "view", "Looking at the scene from its views", left)
        k = camera.intrinsics
        scale = min(MOST_ENLARGED, LONGEST_SIDE / max(k.width, k.height))
        camera = camera.scaled_to(max(1, round(k.width * scale)), max(1, round(k.height * scale)))
        seen = scene.render(camera, report)
        found.append(DepthView(camera, seen.rgb_srgb.numpy(), seen.depth.numpy()))
    correction = 1 / (1 + depth_bias(found, np.asarray(scene.capture.points)))
    return [DepthView(view.camera, view.color_srgb, view.depth * np.float32(correction)) for view in found]


def depth_bias(views: Sequence[DepthView], points: np.ndarray) -> float:
    """By which share depths are too large, as sparse points tell.

    Args:
        views: The depths.
        points: (p, 3) in capture coordinates.

    Returns:
        The median over all points in all views in which the depth is about theirs; 0 where these are few.
    """
    errors = []
    for view in views if len(points) else ():
        _, pixels, depth = in_picture(view.camera, points)
        column, row = pixels.astype(np.int64).T
        error = view.depth[row, column] / depth - 1
        errors.append(error[np.abs(error) < FARTHEST_POINT])
    errors = np.concatenate(errors) if errors else np.zeros(0)
    return float(np.median(errors)) if len(errors) >= FEWEST_POINTS else 0.0


def fuse(views: Sequence[DepthView], grid: VoxelGrid, device: torch.device | str, report: Reporter) -> FusedDepths:
    """Average the truncated signed distances of many views' depths.

    Only voxels near some view's surface are looked at. Views count by how squarely they see a surface and by how near
    they are.

    Args:
        views: The depths.
        grid: Where distances are wanted.
        device: What is computed on.
        report: Told how far it is, and asked whether the job was cancelled.

    Returns:
        The distances, on the CPU.

    Raises:
        Cancelled.
    """
    truncation = TRUNCATION * grid.voxel
    blocks = _blocks_near_surfaces(views, grid, truncation)
    pictures = [_Picture.of(view, grid.voxel, device) for view in views]
    distance, seen = np.ones(grid.shape, np.float32), np.zeros(grid.shape, bool)
    agreeing, passing = np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, np.uint8)
    within = np.stack(np.meshgrid(*[np.arange(BLOCK)] * 3, indexing="ij"), -1).reshape(-1, 3)
    at_once, started = max(1, VOXELS_AT_ONCE // BLOCK**3), time.monotonic()
    for first in range(0, len(blocks), at_once):
        left = seconds_left(started, first, len(blocks))
        report.progress(first, len(blocks), "block", "Fusing the depths", left)
        index = (blocks[first : first + at_once, None] * BLOCK + within).reshape(-1, 3)
        index = index[(index < grid.shape).all(1)]
        told = _Told.nothing(torch.from_numpy(grid.places(index)).to(device))
        for picture in pictures:
            report.check()
            told.take(picture, truncation)
        at = tuple(index.T)
        weight = told.weight.cpu().numpy()
        seen[at] = weight > 0
        distance[at] = np.where(weight > 0, told.total.cpu().numpy() / np.maximum(weight, 1e-20), 1.0)
        agreeing[at], passing[at] = told.agreeing.cpu().numpy(), told.passing.cpu().numpy()
    return FusedDepths(grid, distance, seen, agreeing, passing)


def _blocks_near_surfaces(views: Sequence[DepthView], grid: VoxelGrid, truncation: float) -> np.ndarray:
    """(b, 3) numbers of the grid's blocks in which, or beside which, some view sees a surface."""
    from scipy.ndimage import binary_dilation

    counts = -(-np.array(grid.shape) // BLOCK)
    marked = np.zeros(counts + 2, bool)  # with a border, so that surfaces just outside count
    for view in views:
        origins, directions = view.camera.rays()
        deeper = truncation / np.linalg.norm(directions, axis=1, keepdims=True)
        for step in (-1, 0, 1):
            places = origins + directions * (view.depth.reshape(-1, 1) + step * deeper)
            block = np.floor((places - grid.origin) / (grid.voxel * BLOCK)) + 1
            inside = ((block >= 0) & (block < counts + 2)).all(1)
            marked[tuple(block[inside].astype(np.int64).T)] = True
    return np.argwhere(binary_dilation(marked, iterations=1)[1:-1, 1:-1, 1:-1])


@dataclass(frozen=True)
class _Picture:
    """A depth view on the device: rows of the world-to-camera transform, and pictures (1, 1, height, width).

    Attributes:
        nearest: The smallest depth about each pixel: a ray that passes close by a surface's edge does not look
            through it.
    """

    camera: Camera
    turn: torch.Tensor
    shift: torch.Tensor
    depth: torch.Tensor
    facing: torch.Tensor
    nearest: torch.Tensor

    @staticmethod
    def of(view: DepthView, voxel: float, device: torch.device | str) -> _Picture:
        as_tensor = lambda values: torch.as_tensor(np.asarray(values, np.float32), device=device)
        to_camera = np.linalg.inv(view.camera.camera_to_world)
        depth, facing = (as_tensor(picture)[None, None] for picture in (view.depth, view.facing()))
        pixels = voxel * view.camera.intrinsics.fx / max(float(np.median(view.depth)), 1e-9)
        about = int(min(max(np.ceil(pixels), 1), MOST_ABOUT))
        nearest = -F.max_pool2d(-depth, 2 * about + 1, stride=1, padding=about)
        turn, shift = as_tensor(to_camera[:3, :3]), as_tensor(to_camera[:3, 3])
        return _Picture(view.camera, turn, shift, depth, facing, nearest)

    def look(self, places: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The numbers (n,) of the places (p, 3) in the picture, their depths, those of what is seen there and the
        smallest about it, and how squarely that is seen."""
        k = self.camera.intrinsics
        local = places @ self.turn.T + self.shift
        depth = -local[:, 2]
        safe = depth.clamp_min(1e-9)
        across, down = k.fx * local[:, 0] / safe + k.cx, k.cy - k.fy * local[:, 1] / safe
        inside = (depth > 1e-9) & (across > 0.5) & (across < k.width - 0.5) & (down > 0.5) & (down < k.height - 0.5)
        numbers = inside.nonzero()[:, 0]
        at = torch.stack([across[numbers] / k.width * 2 - 1, down[numbers] / k.height * 2 - 1], -1)[None, None]
        read = lambda picture, mode: F.grid_sample(picture, at, mode, "border", align_corners=False)[0, 0, 0]
        nearest, between = read(self.depth, "nearest"), read(self.depth, "bilinear")
        surface = torch.where((between - nearest).abs() < SAME_SURFACE * nearest, between, nearest)
        return numbers, depth[numbers], surface, read(self.nearest, "nearest"), read(self.facing, "nearest")


@dataclass
class _Told:
    """What the views said of places (n, 3) so far: all (n,)."""

    places: torch.Tensor
    total: torch.Tensor
    weight: torch.Tensor
    agreeing: torch.Tensor
    passing: torch.Tensor

    @staticmethod
    def nothing(places: torch.Tensor) -> _Told:
        zeros = lambda dtype: torch.zeros(len(places), dtype=dtype, device=places.device)
        return _Told(places, zeros(torch.float32), zeros(torch.float32), zeros(torch.uint8), zeros(torch.uint8))

    def take(self, picture: _Picture, truncation: float) -> None:
        numbers, depth, surface, nearest, facing = picture.look(self.places)
        before = (surface - depth) / truncation
        passes = (nearest - depth) / truncation >= PASSES
        weight = torch.where(before > -1, facing.clamp_min(STEEPEST) / surface.clamp_min(1e-9) ** 2, 0)
        self.total[numbers] += weight * before.clamp(-1, 1)
        self.weight[numbers] += weight
        for count, holds in ((self.agreeing, before.abs() < AGREES), (self.passing, passes)):
            count[numbers] = torch.where(holds & (count[numbers] < 255), count[numbers] + 1, count[numbers])
