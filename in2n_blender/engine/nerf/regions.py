"""Where points lie with respect to a region: how far in, and how much of an edit they get.

By Warp's mesh queries on a CPU and on CUDA, asked only near the surface; their twin in plain torch serves elsewhere.
"""

from __future__ import annotations

import math

import torch

from ...scene.region import Region
from .kernels.launch import available, launch_over_rays, numbers, vec3s, warp
from .kernels.regions import signed_distance_kernel

CELLS = 32  # along the region's longest extent: of most of them one distance says which side all their points are on
FARTHEST = 1e9
PAIRS_AT_ONCE = 2**22  # of points and triangles, in the twin


class InsideTest:
    """Tests points against a region.

    Args:
        region: In the coordinates of the points.
        device: Where the points are.
    """

    def __init__(self, region: Region, device: torch.device | str):
        self.device, self.soft_edge = torch.device(device), region.soft_edge
        self.vertices = torch.tensor(region.vertices, dtype=torch.float32, device=self.device)
        self.faces = torch.tensor(region.faces, dtype=torch.int32, device=self.device)
        self.low, self.high = self.vertices.amin(0), self.vertices.amax(0)
        self._mesh = None
        if available(self.device):
            wp = warp()
            self._mesh = wp.Mesh(vec3s(self.vertices), wp.from_torch(self.faces.view(-1)), support_winding_number=True)
        self._cell = float((self.high - self.low).max()) / CELLS
        self._counts = ((self.high - self.low) / self._cell).ceil().clamp_min(1).long()
        self._cells = self._distances_of_cells()

    def signed_distance(self, points: torch.Tensor) -> torch.Tensor:
        """The distance to the surface.

        Args:
            points: (n, 3) float32.

        Returns:
            (n,) negative inside.
        """
        if self._mesh is None:
            return signed_distance_torch(points, self.vertices, self.faces)
        distances = torch.empty(len(points), device=self.device)
        if len(points):
            launch_over_rays(
                signed_distance_kernel(),
                [(points.contiguous(), vec3s), (distances, numbers)],
                [self._mesh.id, FARTHEST],
            )
        return distances

    def membership(self, points: torch.Tensor) -> torch.Tensor:
        """How much of an edit points get.

        Args:
            points: (n, 3) float32.

        Returns:
            (n,) 0 outside and on the surface, 1 from the soft edge's width inside on, and between them smoothly more;
            without a soft edge 1 everywhere inside.
        """
        members = torch.zeros(len(points), device=self.device)
        near = ((points > self.low) & (points < self.high)).all(-1).nonzero()[:, 0]
        if not len(near):
            return members
        x, y, z = torch.minimum(((points[near] - self.low) / self._cell).long(), self._counts - 1).unbind(-1)
        center = self._cells[x, y, z]
        reach = self._cell * math.sqrt(3) / 2 * 1.001  # from a cell's centre to its farthest point
        members[near[center < -(reach + self.soft_edge)]] = 1.0
        unsure = near[(center <= reach) & (center >= -(reach + self.soft_edge))]
        members[unsure] = soft(-self.signed_distance(points[unsure]), self.soft_edge)
        return members

    def may_meet(self, origins: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """Which rays meet the box round the region; all others are certain to pass it.

        Args:
            origins: (rays, 3).
            directions: (rays, 3).

        Returns:
            (rays,) bool.
        """
        enters, leaves = box_distances(origins, directions, self.low, self.high)
        return (leaves >= enters) & (leaves > 0)

    def enters(self, origins: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """Where rays that meet the box round the region enter it.

        Args:
            origins: (rays, 3).
            directions: (rays, 3).

        Returns:
            (rays,) distances, negative from within.
        """
        return box_distances(origins, directions, self.low, self.high)[0]

    def _distances_of_cells(self) -> torch.Tensor:
        """(cells along x, y, z) the signed distances of the cells' centres."""
        axes = [torch.arange(count, device=self.device) + 0.5 for count in self._counts.tolist()]
        centers = self.low + self._cell * torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
        return self.signed_distance(centers.view(-1, 3)).view(centers.shape[:3])


def box_distances(
    origins: torch.Tensor, directions: torch.Tensor, low: torch.Tensor, high: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where rays enter and leave a box.

    Args:
        origins: (rays, 3).
        directions: (rays, 3).
        low: (3,) or (rays, 3) the box's lowest corner.
        high: Its highest corner.

    Returns:
        (rays,) each, in lengths of the directions; a ray that leaves before it enters passes the box.
    """
    steep = torch.where(directions.abs() < 1e-12, 1e-12, directions)
    first, second = (low - origins) / steep, (high - origins) / steep
    return torch.minimum(first, second).amax(-1), torch.maximum(first, second).amin(-1)


def soft(inside: torch.Tensor, soft_edge: float) -> torch.Tensor:
    """How much of an edit there is at a distance inside the surface: smoothstep over the soft edge.

    Args:
        inside: Distances inside the surface, negative outside.
        soft_edge: The edge's width; 0: none.

    Returns:
        Of the same shape, in [0, 1].
    """
    if soft_edge == 0:
        return (inside > 0).float()
    t = (inside / soft_edge).clamp(0, 1)
    return t * t * (3 - 2 * t)


def signed_distance_torch(points: torch.Tensor, vertices: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """The twin of `InsideTest.signed_distance` in plain torch: every point against every triangle.

    Args:
        points: (n, 3).
        vertices: (v, 3).
        faces: (m, 3) int, closed and counter-clockwise from outside.

    Returns:
        (n,) negative inside, by the solid angles' sum (Van Oosterom and Strackee 1983).
    """
    corners = vertices[faces.long()]
    parts = points.split(max(1, PAIRS_AT_ONCE // len(faces)))
    return torch.cat([_signed_distance(part, corners) for part in parts]) if len(points) else points.new_empty(0)


def _signed_distance(points: torch.Tensor, corners: torch.Tensor) -> torch.Tensor:
    a, b, c = (corners[None, :, i] - points[:, None] for i in range(3))  # seen from the points
    squares = torch.stack([_to_segment(a, b), _to_segment(b, c), _to_segment(c, a), _to_inside(a, b, c)])
    lengths = [side.norm(dim=-1) for side in (a, b, c)]
    dot = lambda one, other: (one * other).sum(-1)
    volume = dot(a, torch.linalg.cross(b, c))
    below = (
        lengths[0] * lengths[1] * lengths[2] + dot(a, b) * lengths[2] + dot(b, c) * lengths[0] + dot(c, a) * lengths[1]
    )
    winding = torch.atan2(volume, below).sum(-1) / (2 * math.pi)
    return torch.where(winding > 0.5, -1.0, 1.0) * squares.amin((0, 2)).sqrt()


def _to_segment(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The origin's squared distance to segments."""
    along = b - a
    t = (-(a * along).sum(-1, keepdim=True) / (along * along).sum(-1, keepdim=True).clamp_min(1e-30)).clamp(0, 1)
    return ((a + t * along) ** 2).sum(-1)


def _to_inside(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """The origin's squared distance to the planes of triangles, infinite where its foot lies beside the triangle."""
    normal = torch.linalg.cross(b - a, c - a)
    square = (normal * normal).sum(-1).clamp_min(1e-30)
    distance = (a * normal).sum(-1)
    foot = normal * (distance / square)[..., None]
    inside = torch.ones_like(distance, dtype=torch.bool)
    for one, other in ((a, b), (b, c), (c, a)):
        inside &= (torch.linalg.cross(other - one, foot - one) * normal).sum(-1) >= 0
    return torch.where(inside, distance**2 / square, torch.inf)
