"""What an edit is limited to: how much of each view lies in the region, and pictures that change nowhere else.

A pixel belongs to the region by the point that it shows, so what stands before the region hides it. All other pixels
keep the original photo, and the scene itself shows the edited field within the region alone (`LocalScene`).
The editor works on whole pictures, edited throughout: of one whose greater part is as it was, a model that answers for
the whole (all of it red, or all of it blue) would not know which answer it had begun with.
"""

from __future__ import annotations

import torch

from ...link.requests import Edit
from ...scene.camera import Camera
from ...scene.readers.regions import read_region
from ...scene.region import Region
from ...scene.reporting import Reporter
from ...workspace.layout import REGION_FILE
from ..nerf.checkpoint import bad_checkpoint
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

    Attributes:
        whole: The views' last edits as the editor made them, by view, (height, width, 3) uint8 on the CPU.
    """

    def __init__(self, region: Region, scene: LocalScene, cameras: list[Camera], report: Reporter):
        self.ground, self.cameras, self.report = scene.ground, cameras, report
        self.inside = InsideTest(region, scene.device)
        self.whole: dict[int, torch.Tensor] = {}
        self._before: dict[int, torch.Tensor] = {}
        self._now: dict[int, torch.Tensor] = {}

    def start(self, view: int, rendered: RenderedView) -> torch.Tensor:
        """What the editor is given of a view: the render, outside of the region the view's last edit, if there is one.

        Args:
            view: Of the dataset.
            rendered: The view as the edited scene now shows it; noted for `mask`.

        Returns:
            (height, width, 3) sRGB in [0, 1], on the CPU.

        Raises:
            Cancelled.
        """
        self._now[view] = seen_inside(self.inside, self.cameras[view], rendered)
        if view not in self.whole:
            return rendered.rgb_srgb
        return torch.lerp(self.whole[view].float() / 255, rendered.rgb_srgb, self.mask(view)[..., None])

    def note(self, view: int, edited: torch.Tensor) -> None:
        """Keep a view's edit as the editor made it.

        Args:
            view: Of the dataset.
            edited: (height, width, 3) sRGB in [0, 1].
        """
        self.whole[view] = (edited.clamp(0, 1) * 255).round().to(torch.uint8).cpu().contiguous()

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a checkpoint holds of it, for `restore`."""
        return {f"whole.{view}": picture for view, picture in self.whole.items()}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Go on from a checkpoint.

        Args:
            tensors: Its tensors; others than those of `tensors` are ignored.

        Raises:
            In2nError: "bad_checkpoint" where a picture is not of its view's size.
        """
        for name, picture in tensors.items():
            kind, _, view = name.partition(".")
            if kind == "whole":
                k = self.cameras[int(view)].intrinsics if view.isdigit() and int(view) < len(self.cameras) else None
                if k is None or picture.shape != (k.height, k.width, 3) or picture.dtype != torch.uint8:
                    raise bad_checkpoint("The checkpoint's edited pictures do not fit the capture.")
                self.whole[int(view)] = picture

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
