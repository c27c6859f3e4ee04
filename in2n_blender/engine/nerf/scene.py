"""A trained NeRF as the rest of the engine sees it: rendered, measured and meshed in the capture's coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ...jobs.protocol import Reporter
from ...jobs.workspace import Workspace
from ...scene.camera import Camera
from ...scene.capture import PinholeCapture
from ...scene.errors import In2nError
from ..device import pick_device
from .checkpoint import model_weights, read_checkpoint
from .dataset import SceneTransform, camera_bundle
from .rendering import NerfModel
from .settings import NerfSettings


@dataclass
class RenderedView:
    """rgb_srgb (height, width, 3), alpha (height, width), depth (height, width) along the camera's z axis in capture units;
    float32 on the CPU. rgb_srgb is over the background (the last sample's colour, or white for captures with alpha)."""

    rgb_srgb: torch.Tensor
    alpha: torch.Tensor
    depth: torch.Tensor


class Scene:
    """A trained NeRF in the capture's coordinates."""

    def __init__(self, model: NerfModel, transform: SceneTransform, capture: PinholeCapture, device, has_alpha: bool):
        self.model, self.transform, self.capture = model.to(device), transform, capture
        self.device, self.has_alpha = torch.device(device), has_alpha

    @torch.no_grad()
    def render(self, camera: Camera, report: Reporter | None = None, chunk: int | None = None) -> RenderedView:
        """Render one camera without jitter, in chunks of rays; `report.check()` between chunks. Raises Cancelled."""
        bundle, cosine = camera_bundle(camera, self.transform, self.device)
        chunk = chunk or (4096 if self.device.type == "cpu" else 65536)
        parts = []
        for first in range(0, len(bundle), chunk):
            if report is not None:
                report.check()
            part = type(bundle)(bundle.origins[first:first + chunk], bundle.directions[first:first + chunk])
            rendered = self.model(part)
            parts.append((self.over_background(rendered).cpu(), rendered.alpha.cpu(), rendered.distance.cpu()))
        color, alpha, distance = (torch.cat(values) for values in zip(*parts))
        shape = (camera.intrinsics.height, camera.intrinsics.width)
        depth = distance * cosine / self.transform.scale
        return RenderedView(color.clamp(0, 1).view(*shape, 3), alpha.view(shape), depth.view(shape))

    def over_background(self, rendered) -> torch.Tensor:
        """(rays, 3) sRGB: white behind captures with alpha, else the last sample's colour."""
        missing = (1 - rendered.alpha)[:, None]
        return rendered.color + missing * (1.0 if self.has_alpha else rendered.last_color)

    @torch.no_grad()
    def density(self, points: torch.Tensor) -> torch.Tensor:
        """Points (n, 3) in capture coordinates -> density (n,) per capture unit."""
        return (self.model.field.density(self.transform.apply(points.to(self.device))) * self.transform.scale).cpu()

    @torch.no_grad()
    def color(self, points: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """Points and unit directions (n, 3) in capture coordinates -> sRGB (n, 3)."""
        _, color = self.model.field(self.transform.apply(points.to(self.device)), directions.to(self.device))
        return color.cpu()

    def bounds(self) -> np.ndarray:
        """(2, 3) box in capture coordinates around what the photos show, within the uncontracted region.

        From the sparse points where the capture has them, else from depths rendered through the middle of the training views.
        """
        points = self.capture.points if len(self.capture.points) >= 100 else self._seen_points()
        low, high = np.percentile(points, [1, 99], axis=0)
        margin = 0.03 * (high - low).max()
        center, reach = np.array(self.transform.center), 1 / self.transform.scale
        return np.stack([np.maximum(low - margin, center - reach), np.minimum(high + margin, center + reach)])

    def _seen_points(self) -> np.ndarray:
        views = self.capture.training_views
        points = []
        for view in views[:: max(1, len(views) // 12)]:
            k = view.camera.intrinsics
            small = Camera(k.scaled_to(max(8, k.width // 6), max(8, k.height // 6)), view.camera.camera_to_world)
            rendered = self.render(small)
            origins, directions = small.rays()
            seen = origins + directions * rendered.depth.numpy().reshape(-1, 1)
            height, width = rendered.depth.shape
            middle = np.zeros((height, width), bool)
            middle[height // 4: height - height // 4, width // 4: width - width // 4] = True
            points.append(seen[middle.ravel() & (rendered.alpha.numpy().ravel() > 0.5)])
        return np.concatenate(points)


def build_model(state: dict) -> tuple[NerfModel, SceneTransform]:
    """An untrained model and the transform as a checkpoint's state describes them."""
    transform = SceneTransform(tuple(state["transform"]["center"]), state["transform"]["scale"])
    return NerfModel(NerfSettings(**state["settings"]), near=state["near"]), transform


def load_scene(workspace: Workspace | str, edit: str | None, device: str = "auto") -> Scene:
    """The trained scene of an edit, or of the reconstruction where edit is None. Raises In2nError("not_trained")."""
    workspace = workspace if isinstance(workspace, Workspace) else Workspace(workspace)
    folder = workspace.edit(edit) if edit else workspace.reconstruction
    found = read_checkpoint(folder)
    if found is None:
        what = f"The edit “{edit}” has" if edit else "The capture has"
        raise In2nError("not_trained", f"{what} not been computed in {workspace.root}.", "Run the reconstruction (and the edit) first.")
    tensors, state = found
    model, transform = build_model(state)
    model.load_state_dict(model_weights(tensors))
    capture = PinholeCapture.load(workspace.capture_json)
    return Scene(model.eval(), transform, capture, pick_device(device), state["has_alpha"])
