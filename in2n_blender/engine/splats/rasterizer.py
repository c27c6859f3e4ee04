"""Splats drawn, and the gradients of the picture: EWA projection, tiles sorted by depth, front-to-back compositing.

Kerbl et al. 2023, "3D Gaussian Splatting for Real-Time Radiance Field Rendering". By Warp kernels on a CPU and on CUDA;
their twin in plain torch is `twin.draw`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from ...scene.camera import Camera
from ..nerf.kernels.launch import FEWEST_RAYS, launch_all, launch_over_rays, numbers, side_by_side, warp
from .kernels import (
    LEAST_ALPHA,
    PROJECTED,
    composite_kernels,
    depth_kernel,
    pairs_kernel,
    project_kernel,
    sum_kernel,
)

TILE = 16  # pixels a side
SHAPE_LIMIT = 1.3  # times the tangent of half the field of view: beyond, a splat's shape is the one that it has there


@dataclass(frozen=True)
class View:
    """A camera as the kernels take it: it looks along z, y down.

    Attributes:
        rotation: (3, 3) float32, from the capture's axes to the camera's, on the CPU.
        position: (3,) float32, in capture units, on the CPU.
        lens: fx, fy, cx, cy in pixels.
        width: In pixels.
        height: In pixels.
    """

    rotation: torch.Tensor
    position: torch.Tensor
    lens: tuple[float, float, float, float]
    width: int
    height: int

    @staticmethod
    def of(camera: Camera) -> View:
        """A camera of the capture.

        Args:
            camera: In capture units, with OpenGL's axes.
        """
        k = camera.intrinsics
        rotation = torch.from_numpy(np.array(camera.camera_to_world[:3, :3].T * [[1], [-1], [-1]], np.float32))
        position = torch.from_numpy(np.array(camera.position, np.float32))
        return View(rotation, position, (k.fx, k.fy, k.cx, k.cy), k.width, k.height)

    @property
    def limits(self) -> tuple[float, float]:
        """The tangents up to which a splat's shape is followed, across and down."""
        fx, fy = self.lens[:2]
        return SHAPE_LIMIT * 0.5 * self.width / fx, SHAPE_LIMIT * 0.5 * self.height / fy


@dataclass
class Drawn:
    """A picture of splats, and what its gradients need.

    Attributes:
        picture: (height, width, 3) sRGB, before nothing: black shines through.
        transmittance: (height, width), what of a background shines through.
        numbers: (n,) the rows of the splats that may be in the picture, nearest first.
    """

    picture: torch.Tensor
    transmittance: torch.Tensor
    numbers: torch.Tensor
    _view: View
    _rows: torch.Tensor
    _flat: torch.Tensor
    _boxes: torch.Tensor
    _begins: torch.Tensor  # (n + 1,) of the splats' pairs
    _tile_begins: torch.Tensor
    _splats: torch.Tensor
    _unsorted: torch.Tensor

    def over(self, background: float) -> torch.Tensor:
        """The picture before a grey background.

        Args:
            background: sRGB from 0 to 1.

        Returns:
            (height, width, 3).
        """
        return self.picture + background * self.transmittance[..., None]

    def gradients(self, of_picture: torch.Tensor, of_transmittance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The gradients of the splats' numbers.

        Args:
            of_picture: (height, width, 3), those of the picture.
            of_transmittance: (height, width), those of the transmittance.

        Returns:
            The rows of the splats that have some (m,), nearest first, and these (m, COLUMNS).
        """
        device = self._rows.device
        behind = (of_picture * self.picture).sum(-1) + of_transmittance * self.transmittance
        of_pairs = torch.zeros((len(self._splats), 9), device=device)  # those behind opaque ones are never reached
        _over_tiles(
            composite_kernels(TILE)[1],
            len(self._tile_begins) - 1,
            [numbers(self._flat), integers(self._boxes), integers(self._tile_begins), integers(self._splats)]
            + [integers(self._unsorted), _columns(self._view), numbers(of_picture.contiguous())]
            + [numbers(behind), numbers(torch.ones_like(behind)), numbers(of_pairs)],
            device,
        )
        of_flat = torch.zeros_like(self._flat)
        if len(of_flat):
            launch_over_rays(
                sum_kernel(),
                [(of_flat, numbers), (self._begins[:-1], integers), (self._begins[1:], integers)],
                [numbers(of_pairs)],
            )
        moved = (of_flat != 0).any(1).nonzero()[:, 0]  # most are hidden
        rows, of_flat = self._rows[moved], of_flat[moved]
        of_rows = torch.zeros_like(rows)
        _project(self._view, rows, torch.empty_like(of_flat), (of_rows, of_flat))
        return self.numbers[moved], of_rows


@torch.no_grad()
def draw(rows: torch.Tensor, view: View) -> Drawn:
    """Draw splats.

    Args:
        rows: (n, COLUMNS) float32, contiguous, in capture coordinates.
        view: From where.

    Returns:
        The picture, on the rows' device.
    """
    device = rows.device
    chosen = _in_front(rows, view)
    seen = rows[chosen]
    flat = torch.empty((len(seen), PROJECTED), device=device)
    _project(view, seen, flat)
    boxes, tile_boxes = _boxes(flat, view)
    across = tile_boxes[:, 2:] - tile_boxes[:, :2]
    ends = (across[:, 0] * across[:, 1]).cumsum(0, dtype=torch.int32)
    begins = torch.cat([ends.new_zeros(1), ends])
    tiles, splats = (torch.empty(int(begins[-1]), dtype=torch.int32, device=device) for _ in range(2))
    if len(seen):
        launch_over_rays(
            pairs_kernel(),
            [(tile_boxes, integers), (begins[:-1], integers)],
            [_columns(view), integers(tiles), integers(splats)],
            1,
        )
    count = _columns(view) * -(-view.height // TILE)
    unsorted = _by_tile(tiles, count)
    tile_begins = torch.cat([ends.new_zeros(1), torch.bincount(tiles, minlength=count).cumsum(0, dtype=torch.int32)])
    splats = splats[unsorted.long()]
    picture = torch.zeros((view.height, view.width, 3), device=device)
    transmittance = torch.ones((view.height, view.width), device=device)
    _over_tiles(
        composite_kernels(TILE)[0],
        count,
        [numbers(flat), integers(boxes), integers(tile_begins), integers(splats), _columns(view), numbers(picture)]
        + [numbers(transmittance)],
        device,
    )
    return Drawn(picture, transmittance.abs_(), chosen, view, seen, flat, boxes, begins, tile_begins, splats, unsorted)


def integers(values: torch.Tensor, bare: bool = False):
    """A tensor's memory as a Warp array of integers.

    Args:
        values: int32 of any shape, contiguous.
        bare: As for `vec3s`.
    """
    return warp().from_torch(values, dtype=warp().int32, return_ctype=bare)


def _columns(view: View) -> int:
    return -(-view.width // TILE)


def _in_front(rows: torch.Tensor, view: View) -> torch.Tensor:
    """The numbers of the splats that may reach into the picture, nearest first."""
    depth = torch.empty(len(rows), device=rows.device)
    if len(rows):
        fx, fy, cx, cy = view.lens
        borders = [(-cx - 2) / fx, (view.width + 2 - cx) / fx, (-cy - 2) / fy, (view.height + 2 - cy) / fy]
        launch_over_rays(
            depth_kernel(),
            [(depth, numbers), (rows, numbers)],
            [*_pose(view), warp().vec4(*borders), math.log(LEAST_ALPHA / (1 - LEAST_ALPHA))],
        )
    chosen = depth.nonzero()[:, 0]
    return chosen[depth[chosen].argsort(stable=True)]


def _pose(view: View) -> list:
    return [warp().mat33(*view.rotation.flatten().tolist()), warp().vec3(*view.position.tolist())]


def _project(view: View, rows: torch.Tensor, flat: torch.Tensor, gradients: tuple | None = None) -> None:
    """Fills `flat`; or, given (a tensor of zeros like rows, those of flat), the gradients of the rows."""
    if not len(rows):
        return
    wp, device = warp(), rows.device
    common = [*_pose(view), wp.vec4(*view.lens), wp.vec2(*view.limits)]
    if gradients is None:
        launch_over_rays(project_kernel(), [(flat, numbers), (rows, numbers)], common)
        return
    stream = wp.stream_from_torch(torch.cuda.current_stream(device)) if device.type == "cuda" else None

    def launch(part: tuple) -> None:
        flat, rows, of_flat, of_rows = (numbers(values) for values in part)
        wp.launch(
            project_kernel(),
            dim=len(part[0]),
            inputs=[flat, rows, *common],
            adj_inputs=[of_flat, of_rows, *common],
            device=str(device),
            stream=stream,
            adjoint=True,
            record_tape=False,
        )

    pieces = torch.get_num_threads() if device.type == "cpu" and len(rows) >= FEWEST_RAYS else 1
    parts = list(zip(*(values.chunk(pieces) for values in (flat, rows, gradients[1], gradients[0]))))
    if pieces == 1:
        launch(parts[0])
    else:
        side_by_side(launch, parts)


def _boxes(flat: torch.Tensor, view: View) -> tuple[torch.Tensor, torch.Tensor]:
    """The pixels and the tiles (n, 4) that splats may reach: first column and row, and the ones behind the last."""
    determinant = (flat[:, 2] * flat[:, 4] - flat[:, 3] ** 2).clamp_min(1e-12)
    reach = (2 * (flat[:, 5] / LEAST_ALPHA).log().clamp_min(0))[:, None]
    reach = (reach * flat[:, [4, 2]] / determinant[:, None]).sqrt() + 0.01
    size = torch.tensor([view.width, view.height], device=flat.device, dtype=torch.float32)
    low = (flat[:, :2] - reach - 0.5).ceil().clamp_min(0)
    high = torch.minimum((flat[:, :2] + reach - 0.5).floor() + 1, size)
    high = torch.where((high > low).all(1, keepdim=True), high, low)
    boxes = torch.cat([low, high], 1).nan_to_num(0).to(torch.int32)
    first, last = boxes[:, :2] // TILE, -(-boxes[:, 2:] // TILE)
    last = torch.where((boxes[:, 2:] > boxes[:, :2]).all(1, keepdim=True), last, first)
    return boxes, torch.cat([first, last], 1).contiguous()


def _by_tile(tiles: torch.Tensor, count: int) -> torch.Tensor:
    """The order of pairs by their tile, those of a tile as they were: int32."""
    if tiles.device.type == "cpu" and count < 2**16:  # numpy sorts numbers of 16 bits by radix
        order = np.argsort(tiles.numpy().astype(np.uint16), kind="stable")
        return torch.from_numpy(order.astype(np.int32))
    return torch.sort(tiles, stable=True).indices.to(torch.int32)


def _over_tiles(kernel, count: int, rest: list, device: torch.device) -> None:
    """Launch a kernel over tiles; on a CPU in pieces, each with tiles from all over the picture."""
    pieces = min(count, 4 * torch.get_num_threads()) if device.type == "cpu" else 1
    every = torch.arange(count, dtype=torch.int32, device=device)
    parts = [every[first::pieces].contiguous() for first in range(pieces)]
    launch_all(kernel, [(len(part), [integers(part), *rest]) for part in parts], device, torch.get_num_threads())
