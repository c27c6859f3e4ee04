"""What an edit is limited to: how much of each view lies in the region, and pictures that change nowhere else.

A pixel belongs to the region by the point that it shows, so what stands before the region hides it. The picture's other
pixels keep the original photo, and the scene itself shows the edited field within the region alone (`LocalScene`).
"""

from __future__ import annotations

import torch

from ...link.requests import Edit
from ...scene.camera import Camera
from ...scene.readers.regions import read_region
from ...scene.region import Region
from ...scene.reporting import Reporter
from ...workspace.layout import REGION_FILE
from ..nerf.regions import InsideTest
from ..nerf.scene import LocalScene, RenderedView

OPAQUE = 0.5  # alpha from which on a pixel shows a surface


def asked_region(request: Edit) -> Region | None:
    """The region that an edit is limited to.

    Args:
        request: With `region` and `soft_edge`.

    Returns:
        In capture coordinates; None where the edit acts everywhere.

    Raises:
        In2nError: As `read_region`.
    """
    return None if request.region is None else read_region(request.region, request.soft_edge)


def region_record(region: Region | None) -> dict | None:
    """What edit.json says of a region, whose surface lies beside it.

    Args:
        region: What the edit is limited to.

    Returns:
        "file", "hash" of the surface and its soft edge, and "soft_edge" in capture units; None without a region.
    """
    return None if region is None else {"file": REGION_FILE, "hash": region.hash, "soft_edge": region.soft_edge}


class Limit:
    """An edit's limit while it is made.

    Args:
        region: In capture coordinates.
        scene: The scene that is edited; its ground is the unedited one.
        cameras: Of the dataset's views.
        report: Asked whether the job was cancelled.
    """

    def __init__(self, region: Region, scene: LocalScene, cameras: list[Camera], report: Reporter):
        self.ground, self.cameras, self.report = scene.ground, cameras, report
        self.inside = InsideTest(region, scene.device)
        self._before: dict[int, torch.Tensor] = {}
        self._now: dict[int, torch.Tensor] = {}

    def seen(self, view: int, rendered: RenderedView) -> None:
        """Note what a view of the edited scene shows, as that is about to be edited.

        Args:
            view: Of the dataset.
            rendered: The view.
        """
        self._now[view] = seen_inside(self.inside, self.cameras[view], rendered)

    def mask(self, view: int) -> torch.Tensor:
        """How much of the edit each pixel of a view gets.

        That is by the surface which the unedited scene shows or by the one which the edited scene showed last,
        whichever gets more: what the edit takes away is edited, and what it adds.

        Args:
            view: Of the dataset.

        Returns:
            (height, width) in [0, 1], on the CPU.

        Raises:
            Cancelled.
        """
        if view not in self._before:
            unedited = self.ground.render(self.cameras[view], self.report)
            self._before[view] = seen_inside(self.inside, self.cameras[view], unedited)
        before = self._before[view]
        return torch.maximum(before, self._now[view]) if view in self._now else before

    def applied(self, view: int, edited: torch.Tensor, photo: torch.Tensor) -> torch.Tensor:
        """An edited picture within the region, the original one outside.

        Args:
            view: Of the dataset.
            edited: (height, width, 3) sRGB in [0, 1].
            photo: (height, width, 3) the original, on the CPU.

        Returns:
            (height, width, 3) on the edited picture's device.

        Raises:
            Cancelled.
        """
        mask = self.mask(view).to(edited.device)[..., None]
        return torch.lerp(photo.to(edited.device), edited, mask)


def seen_inside(inside: InsideTest, camera: Camera, rendered: RenderedView) -> torch.Tensor:
    """How much of an edit each pixel gets by the surface that a view shows there.

    Args:
        inside: The region's, in capture coordinates.
        camera: In capture units.
        rendered: Its view; alpha and depth count.

    Returns:
        (height, width) in [0, 1], on the CPU; 0 where no surface is seen.
    """
    origins, directions = (torch.from_numpy(array) for array in camera.rays())
    points = origins + directions * rendered.depth.reshape(-1, 1)
    members = inside.membership(points.to(inside.device)).cpu().view(rendered.depth.shape)
    return torch.where(rendered.alpha >= OPAQUE, members, 0.0)
