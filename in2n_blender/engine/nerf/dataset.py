"""The training pixels of a capture, the rays through them, and the transform into normalised scene units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...scene.camera import Camera, look_at_point
from ...scene.capture import PinholeCapture
from ...scene.errors import In2nError
from .camera_refinement import CameraRefinement
from .checkpoint import bad_checkpoint
from .rendering import RayBundle


@dataclass(frozen=True)
class SceneTransform:
    """From the capture's coordinates to normalised scene units, without rotation: directions are the same in both.

    normalised = (capture point - center) * scale

    Attributes:
        center: In capture units.
        scale: Normalised scene units in a unit of the capture.
    """

    center: tuple[float, float, float]
    scale: float

    @staticmethod
    def of(cameras: list[Camera]) -> SceneTransform:
        """What the cameras look at goes to the origin, the farthest camera to distance 1: contraction leaves it alone.

        The look-at point is the least-squares point nearest to all optical axes; where it would lie behind the cameras
        (they look outwards), the mean camera position is the center.

        Args:
            cameras: All of the capture's.

        Returns:
            The center in capture units, and 1 / the farthest camera's distance from it.
        """
        positions = np.stack([c.position for c in cameras])
        forward = np.stack([-c.camera_to_world[:3, 2] for c in cameras])
        center = look_at_point(positions, forward)
        in_front = ((center - positions) * forward).sum(-1) > 0
        if in_front.mean() < 0.8:
            center = positions.mean(0)
        farthest = np.linalg.norm(positions - center, axis=1).max()
        return SceneTransform(tuple(float(c) for c in center), float(1 / max(farthest, 1e-6)))

    @property
    def matrix(self) -> np.ndarray:
        """(4, 4) float64, of points in capture coordinates."""
        matrix = np.diag([self.scale] * 3 + [1.0])
        matrix[:3, 3] = -self.scale * np.array(self.center)
        return matrix

    def apply(self, points: torch.Tensor) -> torch.Tensor:
        """Points in normalised scene units.

        Args:
            points: (n, 3) in capture coordinates.

        Returns:
            (n, 3) in normalised scene units, on the same device.
        """
        return (points - torch.tensor(self.center, device=points.device)) * self.scale


def camera_bundle(camera: Camera, transform: SceneTransform, device) -> tuple[RayBundle, torch.Tensor]:
    """Rays through the centres of all pixels of a camera, row by row.

    Args:
        camera: In capture units.
        transform: To normalised scene units.
        device: Where the rays go.

    Returns:
        The bundle, and each ray's cosine to the optical axis (rays,), on the CPU.
    """
    origins, directions = (torch.from_numpy(a) for a in camera.rays())
    length = directions.norm(dim=-1, keepdim=True)
    return RayBundle(transform.apply(origins).to(device), (directions / length).to(device)), (1 / length[:, 0])


DATASET, DATASET_VIEWS = "dataset", "dataset.views"  # names of tensors in an edit's checkpoint


class RayDataset:
    """The rays through all pixels of the training views, with their colours, any of which can be replaced.

    The colours are one flat 8-bit tensor, so that the views can be of any sizes.

    Args:
        cameras: The views' cameras.
        images: Per view a (height, width, 3 or 4) float32 array, sRGB in [0, 1] (alpha not premultiplied); taken one at
            a time. With an alpha in one view all have one, 1 where it is missing.
        transform: From the capture to normalised scene units.
        device: Where the pixels lie.
        masks: Per view (height, width) bool, whether a pixel counts, or None where all do; None: all do everywhere.

    Attributes:
        refinement: Corrections of the poses, which `cameras` and `rays` then include; set by the trainer.
        sizes: (height, width) of every view.
        starts: (views + 1,) the first pixel of every view, and the number of all.
        colors: (pixels, 3 or 4) uint8.
        changed: The views whose pixels are others than those that it was made of.
        importance: (views,) float32 in (0, 1], how much a view's pixels count while reconstructing; None: all alike.
    """

    def __init__(
        self,
        cameras: list[Camera],
        images: Iterable[np.ndarray],
        transform: SceneTransform,
        device,
        masks: Sequence[np.ndarray | None] | None = None,
    ):
        self._given_cameras, self.transform, self.device = cameras, transform, torch.device(device)
        self.refinement: CameraRefinement | None = None
        self.importance: torch.Tensor | None = None
        self.changed: set[int] = set()
        self.sizes = [(c.intrinsics.height, c.intrinsics.width) for c in cameras]
        self.starts = np.concatenate([[0], np.cumsum([h * w for h, w in self.sizes])])
        self.colors = torch.empty((int(self.starts[-1]), 3), dtype=torch.uint8, device=device)
        for view, image in enumerate(images):
            if image.shape[-1] == 4 and not self.has_alpha:
                self.colors = torch.cat([self.colors, torch.full_like(self.colors[:, :1], 255)], -1)
            self.replace(view, torch.from_numpy(np.ascontiguousarray(image)))
        self.changed.clear()
        as_tensor = lambda values: torch.tensor(values, dtype=torch.float32, device=device)
        self._lens = as_tensor([[k.fx, k.fy, k.cx, k.cy] for k in (c.intrinsics for c in cameras)])
        self._poses = as_tensor(np.stack([c.camera_to_world for c in cameras]))
        self._origins = transform.apply(self._poses[:, :3, 3])
        self._widths = torch.tensor([w for _, w in self.sizes], device=device)
        self._starts = torch.tensor(self.starts, device=device)
        self._counts, self._counting = self._masked(masks)

    def _masked(self, masks: Sequence[np.ndarray | None] | None) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """(pixels,) bool, and the indices of those that count; None where all do."""
        if masks is None or all(mask is None for mask in masks):
            return None, None
        counts = torch.ones(self.colors.shape[0], dtype=torch.bool, device=self.device)
        for view, mask in enumerate(masks):
            if mask is not None:
                counts[self.starts[view] : self.starts[view + 1]] = torch.from_numpy(mask).flatten().to(self.device)
        found = counts.nonzero()[:, 0]
        if not len(found):
            raise In2nError(
                "all_masked",
                "The masks of this capture cover all of its photos.",
                "In most masks black is what to ignore: swap black and white, and import the capture again.",
            )
        return counts, found.to(torch.int32) if len(counts) < 2**31 else found

    def __len__(self) -> int:
        return len(self._given_cameras)

    @property
    def cameras(self) -> list[Camera]:
        """The views' cameras, refined where there is a refinement."""
        if self.refinement is None:
            return self._given_cameras
        return self.refinement.cameras(self._given_cameras, self.transform.scale)

    @property
    def has_alpha(self) -> bool:
        """Whether the colours have an alpha."""
        return self.colors.shape[1] == 4

    def replace(self, view: int, image: torch.Tensor) -> None:
        """Replace a view's pixels.

        Args:
            view: Index of the training view.
            image: (height, width, 3 or 4) in [0, 1], sRGB; without alpha the view keeps its own.

        Raises:
            ValueError: The image has another number of pixels.
        """
        pixels = (image.reshape(-1, image.shape[-1]).clamp(0, 1) * 255).round().to(torch.uint8).to(self.device)
        rows = self.colors[self.starts[view] : self.starts[view + 1]]
        if pixels.shape[0] != rows.shape[0]:
            raise ValueError(f"view {view} has {rows.shape[0]} pixels, the image {pixels.shape[0]}")
        rows[:, : pixels.shape[1]] = pixels
        self.changed.add(view)

    def saved(self, whole: bool) -> dict[str, torch.Tensor]:
        """What a checkpoint of an edit holds of the pixels: gigabytes where there are many photos.

        Args:
            whole: Whether all views are wanted; else those that were changed, where some were not.

        Returns:
            "dataset", the pixels on the CPU, and where they are not of all views "dataset.views", which they are of.
        """
        if whole or len(self.changed) == len(self):
            return {DATASET: self.colors.cpu()}
        views = sorted(self.changed)
        parts = [self.colors[self.starts[view] : self.starts[view + 1]] for view in views]
        pixels = torch.cat([self.colors[:0], *parts])
        return {DATASET: pixels.cpu(), DATASET_VIEWS: torch.tensor(views, dtype=torch.int64)}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Replace the pixels of views by those in a checkpoint of an edit.

        Args:
            tensors: As `saved` gives them, among others.

        Raises:
            In2nError: "bad_checkpoint" where they are missing, not as many, or of another kind.
        """
        colors, views = tensors.get(DATASET), tensors.get(DATASET_VIEWS)
        chosen = list(range(len(self))) if views is None else views.tolist()
        fits = all(type(view) is int and 0 <= view < len(self) for view in chosen) and len(set(chosen)) == len(chosen)
        counts = [int(self.starts[view + 1] - self.starts[view]) for view in chosen] if fits else []
        shape = (sum(counts), self.colors.shape[1])
        if not fits or colors is None or colors.shape != shape or colors.dtype != self.colors.dtype:
            raise bad_checkpoint("The checkpoint's edited photos do not fit the capture.")
        for view, pixels in zip(chosen, colors.split(counts)):
            self.colors[self.starts[view] : self.starts[view + 1]] = pixels.to(self.device)
        self.changed = set(chosen)

    def image(self, view: int) -> torch.Tensor:
        """A view as it stands now.

        Args:
            view: Index of the training view.

        Returns:
            (height, width, 3 or 4) float32 sRGB in [0, 1], alpha not premultiplied.
        """
        return self.colors[self.starts[view] : self.starts[view + 1]].view(*self.sizes[view], -1).float() / 255

    def sample(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Random pixels of all views, each pixel that counts as likely as any other.

        Args:
            count: Number of pixels.
            generator: On the dataset's device.

        Returns:
            (count,) indices; one may come twice.
        """
        choices = self.colors.shape[0] if self._counting is None else len(self._counting)
        chosen = torch.randint(choices, (count,), generator=generator, device=self.device)
        return chosen if self._counting is None else self._counting[chosen].long()

    def count(self, pixels: torch.Tensor) -> torch.Tensor | None:
        """Whether pixels count: what a mask covers is not trained on.

        Args:
            pixels: (pixels,) indices.

        Returns:
            (pixels,) bool; None where the dataset has no masks.
        """
        return None if self._counts is None else self._counts[pixels]

    def mask(self, view: int) -> torch.Tensor | None:
        """Which pixels of a view count.

        Args:
            view: Index of the training view.

        Returns:
            (height, width) bool; None where the dataset has no masks.
        """
        if self._counts is None:
            return None
        return self._counts[self.starts[view] : self.starts[view + 1]].view(*self.sizes[view])

    def sample_patches(self, count: int, side: int, generator: torch.Generator) -> torch.Tensor:
        """Indices of random square patches; views smaller than a patch are skipped.

        Args:
            count: Number of patches.
            side: Pixels along a side.
            generator: On the dataset's device.

        Returns:
            (count * side * side,) row by row, patch by patch; (0,) where all views are too small.
        """
        fitting = [view for view, (h, w) in enumerate(self.sizes) if min(h, w) >= side]
        if not fitting:
            return torch.empty(0, dtype=torch.long, device=self.device)
        random = torch.rand((count, 3), generator=generator, device=self.device).cpu().numpy()
        patches = []
        for choice, down, right in random:
            view = fitting[int(choice * len(fitting))]
            height, width = self.sizes[view]
            row, column = int(down * (height - side + 1)), int(right * (width - side + 1))
            rows = torch.arange(row, row + side, device=self.device)[:, None] * width
            patches.append(
                (int(self.starts[view]) + rows + torch.arange(column, column + side, device=self.device)).flatten()
            )
        return torch.cat(patches)

    def view_of(self, pixels: torch.Tensor) -> torch.Tensor:
        """The views that pixels belong to.

        Args:
            pixels: (pixels,) indices.

        Returns:
            (pixels,) indices of training views.
        """
        return torch.searchsorted(self._starts, pixels, right=True) - 1

    def rays(self, pixels: torch.Tensor) -> RayBundle:
        """The rays through the centres of pixels.

        Args:
            pixels: (rays,) indices.

        Returns:
            Rays in normalised scene units, each with its view; refined where there is a refinement.
        """
        view = self.view_of(pixels)
        inside = pixels - self._starts[view]
        x, y = inside % self._widths[view] + 0.5, inside // self._widths[view] + 0.5
        fx, fy, cx, cy = self._lens[view].unbind(-1)
        local = torch.stack([(x - cx) / fx, -(y - cy) / fy, -torch.ones_like(x)], -1)
        directions = (self._poses[view, :3, :3] @ local[..., None]).squeeze(-1)
        origins, directions = self._origins[view], torch.nn.functional.normalize(directions, dim=-1)
        if self.refinement is not None:
            origins, directions = self.refinement.apply(view, origins, directions)
        return RayBundle(origins, directions, view)

    def targets(self, pixels: torch.Tensor) -> torch.Tensor:
        """The colours of pixels.

        Args:
            pixels: (pixels,) indices.

        Returns:
            (pixels, 3 or 4) float32 sRGB in [0, 1], alpha not premultiplied.
        """
        return self.colors[pixels].float() / 255


def training_rays(
    capture: PinholeCapture, images: Iterable[np.ndarray], device, masks: Sequence[np.ndarray | None] | None = None
) -> RayDataset:
    """The rays of a capture's training views.

    Args:
        capture: Normalised.
        images: As `RayDataset` takes them, in the order of capture.training_views.
        device: Where the pixels lie.
        masks: As `RayDataset` takes them, of the same views.

    Returns:
        Rays of the training views alone; the transform is by the cameras of all views.

    Raises:
        In2nError: "all_masked".
    """
    cameras = [view.camera for view in capture.training_views]
    return RayDataset(cameras, images, SceneTransform.of([view.camera for view in capture.views]), device, masks)
