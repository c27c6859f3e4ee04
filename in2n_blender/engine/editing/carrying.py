"""Carrying an edit from view to view: through the depth of the scene, to wherever the same surface is seen.

A pixel goes out to its depth and into a view that is edited already. It takes that view's colour where both see the
same surface: where the depth that the other camera sees there is its own distance from it, from both sides. Several
views are blended, the ones that look from a similar direction most.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from ...scene.camera import Camera

# Two depths of one point agree within this share: the surface that is seen, not one before or behind it.
DEPTH_TOLERANCE = 0.03
# Views from directions this far apart, in radians, count half.
HALF_ANGLE = 0.1
MOST_SOURCES = 8  # views that are carried from; more add blur, not pixels
TO_IDENTITY = 1e-3  # how much the change of colour is drawn to none, as a share of the pixels


@dataclass(frozen=True)
class SeenView:
    """A view with what it shows.

    Attributes:
        camera: Its camera.
        depth: (height, width) along the camera's axis in capture units, float32 on the CPU.
        image: (3, height, width) sRGB in [0, 1]; None while it is not edited.
    """

    camera: Camera
    depth: torch.Tensor
    image: torch.Tensor | None = None

    def scaled(self, longest_side: int) -> SeenView:
        """The same view in fewer pixels, without its image."""
        k = self.camera.intrinsics
        scale = min(1.0, longest_side / max(k.width, k.height))
        width, height = max(1, round(k.width * scale)), max(1, round(k.height * scale))
        depth = functional.interpolate(self.depth[None, None], (height, width), mode="nearest-exact")[0, 0]
        return SeenView(self.camera.scaled_to(width, height), depth)


@dataclass(frozen=True)
class Carried:
    """What was carried into a view.

    Attributes:
        image: (3, height, width) sRGB in [0, 1]; 0 where nothing was.
        covered: (height, width) bool, where something was.
    """

    image: torch.Tensor
    covered: torch.Tensor

    def filled(self, photo: torch.Tensor) -> torch.Tensor:
        """The view with what was carried, and elsewhere its photo, recoloured as the edit recoloured what was carried.

        The change of colour is the affine map that fits best from photo to carried picture, by least squares, drawn a
        little to the identity.

        Args:
            photo: (3, height, width) the original photo, sRGB in [0, 1].

        Returns:
            (3, height, width) sRGB in [0, 1].
        """
        if not self.covered.any():
            return photo
        change = Recolouring.fitted(photo[:, self.covered], self.image[:, self.covered])
        return torch.where(self.covered, self.image, change(photo))


@dataclass(frozen=True)
class Recolouring:
    """How an edit changes colours, as far as that is one affine map of them.

    Attributes:
        change: (3, 4) from red, green, blue and one to what is added.
    """

    change: torch.Tensor

    @staticmethod
    def fitted(before: torch.Tensor, after: torch.Tensor) -> Recolouring:
        """The map that fits best, by least squares, drawn a little to the identity.

        Args:
            before: (3, pixels) sRGB in [0, 1].
            after: The same pixels, edited.
        """
        given = torch.cat([before, torch.ones_like(before[:1])]).double()
        ridge = TO_IDENTITY * given.shape[1] * torch.eye(4, dtype=torch.float64)
        wanted = given @ (after - before).double().T
        return Recolouring(torch.linalg.solve(given @ given.T + ridge, wanted).T.float())

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """The image recoloured.

        Args:
            image: (3, height, width) sRGB in [0, 1].

        Returns:
            Of the same shape and range.
        """
        given = torch.cat([image, torch.ones_like(image[:1])])
        return (image + torch.einsum("ij,jhw->ihw", self.change, given)).clamp(0, 1)


def carry(target: SeenView, sources: list[SeenView]) -> Carried:
    """Carry the images of edited views into a view.

    Args:
        target: The view; its image plays no part.
        sources: Views with images, at most `MOST_SOURCES` of which make sense.

    Returns:
        The colours, each a mean over the sources that see the pixel's surface, weighted by 1 / (1 + (angle /
        HALF_ANGLE)^2) of the two lines of sight.
    """
    colors = torch.zeros(3, *target.depth.shape)
    weights = torch.zeros_like(target.depth)
    for source in sources:
        where, same, angle = _correspondence(target, source)
        if not same.any():
            continue
        sampled = functional.grid_sample(
            source.image[None], where[None], mode="bilinear", padding_mode="border", align_corners=False
        )[0]
        weight = same / (1 + (angle / HALF_ANGLE) ** 2)
        colors += weight * sampled
        weights += weight
    covered = weights > 0
    return Carried(torch.where(covered, colors / weights.clamp_min(1e-9), 0.0), covered)


def visible(target: SeenView, source: SeenView) -> torch.Tensor:
    """Which of the target's pixels show a surface that the source sees too.

    Args:
        target: A view with its depth.
        source: Another one.

    Returns:
        (height, width) bool.
    """
    return _correspondence(target, source)[1]


def _correspondence(target: SeenView, source: SeenView) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where the source sees the target's surfaces.

    Returns:
        (height, width, 2) places in the source as grid_sample takes them; (height, width) bool, whether both see the
        same surface there; (height, width) the angle between their lines of sight, in radians.
    """
    height, width = target.depth.shape
    origins, directions = (torch.from_numpy(array).double() for array in target.camera.rays())
    points = origins + directions * target.depth.reshape(-1, 1).double()
    x, y, depth = _project(points, source.camera)
    k = source.camera.intrinsics
    inside = (depth > 0) & (x >= 0) & (x <= k.width) & (y >= 0) & (y <= k.height)
    where = torch.stack([2 * x / k.width - 1, 2 * y / k.height - 1], -1).nan_to_num(0, 0, 0).clamp(-2, 2).float()
    where = where.reshape(height, width, 2)
    there = functional.grid_sample(
        source.depth[None, None], where[None], mode="nearest", padding_mode="border", align_corners=False
    )[0, 0]
    agree = ((there.double().reshape(-1) - depth).abs() <= DEPTH_TOLERANCE * depth) & inside
    from_source = points - torch.from_numpy(source.camera.position)
    cosine = functional.cosine_similarity(directions, from_source, dim=-1).clamp(-1, 1)
    return where, agree.reshape(height, width), cosine.acos().float().reshape(height, width)


def _project(points: torch.Tensor, camera: Camera) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points (n, 3) in capture coordinates to pixels x, y (n,) and depth along the axis (n,), negative behind it."""
    pose, k = torch.from_numpy(camera.camera_to_world).double(), camera.intrinsics
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    depth = -local[:, 2]
    return k.cx + k.fx * local[:, 0] / depth, k.cy - k.fy * local[:, 1] / depth, depth
