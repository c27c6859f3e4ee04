"""A trained NeRF as the rest of the engine sees it: rendered, measured and meshed in the capture's coordinates."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import torch

from ...scene.camera import Camera
from ...scene.capture import PinholeCapture
from ...scene.errors import In2nError
from ...scene.reporting import Reporter
from ...workspace.imported import load_capture
from ...workspace.layout import Workspace
from ..device import pick_device
from .checkpoint import model_weights, read_checkpoint
from .dataset import SceneTransform, camera_bundle
from .kernels.launch import available
from .ray_marching import march
from .rendering import NerfModel
from .sampling import to_unit_cube
from .settings import NerfSettings


@dataclass
class RenderedView:
    """A view of a scene, float32 on the CPU.

    Attributes:
        rgb_srgb: (height, width, 3) over the background: the last sample's colour, or white for captures with alpha.
        alpha: (height, width) in [0, 1].
        depth: (height, width) along the camera's z axis, in capture units.
    """

    rgb_srgb: torch.Tensor
    alpha: torch.Tensor
    depth: torch.Tensor


class Scene:
    """A trained NeRF in the capture's coordinates.

    Args:
        model: Moved to the device.
        transform: From the capture to normalised scene units.
        capture: What the model was trained on.
        device: What is rendered on.
        has_alpha: Whether the photos have an alpha, and white lies behind the scene.
    """

    def __init__(self, model: NerfModel, transform: SceneTransform, capture: PinholeCapture, device, has_alpha: bool):
        self.model, self.transform, self.capture = model.to(device), transform, capture
        self.device, self.has_alpha = torch.device(device), has_alpha

    @torch.no_grad()
    def render(
        self, camera: Camera, report: Reporter | None = None, chunk: int | None = None, view: int | None = None
    ) -> RenderedView:
        """Render a camera without jitter.

        Args:
            camera: In capture units.
            report: Asked between chunks whether to go on.
            chunk: Rays at once; None: what `rays_a_chunk` says.
            view: The training view whose appearance it gets; None: their mean.

        Returns:
            Colours, alpha and depth on the CPU, of the camera's size.

        Raises:
            Cancelled: The report said so.
        """
        bundle, cosine = camera_bundle(camera, self.transform, self.device)
        if view is not None:
            bundle.views = torch.full((len(bundle),), view, device=self.device)
        parts = []
        for part in bundle.split(chunk or rays_a_chunk(self.model.settings, self.device)):
            if report is not None:
                report.check()
            rendered = march(self.model, part) if available(self.device) else self.model(part)
            parts.append((self.over_background(rendered).cpu(), rendered.alpha.cpu(), rendered.distance.cpu()))
        color, alpha, distance = (torch.cat(values) for values in zip(*parts))
        shape = (camera.intrinsics.height, camera.intrinsics.width)
        depth = distance * cosine / self.transform.scale
        return RenderedView(color.clamp(0, 1).view(*shape, 3), alpha.view(shape), depth.view(shape))

    def over_background(self, rendered) -> torch.Tensor:
        """Rendered rays over white behind captures with alpha, else over the last sample's colour.

        Args:
            rendered: A `Rendered` or `RenderedRays`, of which color, alpha and last_color are used.

        Returns:
            (rays, 3) sRGB.
        """
        missing = (1 - rendered.alpha)[:, None]
        return rendered.color + missing * (1.0 if self.has_alpha else rendered.last_color)

    @torch.no_grad()
    def density(self, points: torch.Tensor) -> torch.Tensor:
        """The density at points.

        Args:
            points: (n, 3) in capture coordinates.

        Returns:
            (n,) per capture unit, on the CPU.
        """
        return (self.model.field.density(self._in_unit_cube(points)) * self.transform.scale).cpu()

    @torch.no_grad()
    def color(self, points: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """The colour of points as seen in a direction.

        Args:
            points: (n, 3) in capture coordinates.
            directions: (n, 3) of unit length.

        Returns:
            (n, 3) sRGB in [0, 1], on the CPU.
        """
        _, color = self.model.field(self._in_unit_cube(points), directions.to(self.device))
        return color.cpu()

    def _in_unit_cube(self, points: torch.Tensor) -> torch.Tensor:
        return to_unit_cube(self.transform.apply(points.to(self.device)))

    def bounds(self) -> np.ndarray:
        """The box around what the photos show, within the uncontracted region.

        From the sparse points where the capture has them, else from depths rendered through the middle of the training
        views; the whole region where these show nothing.

        Returns:
            (2, 3) the lowest and the highest corner in capture coordinates.
        """
        points = self.capture.points if len(self.capture.points) >= 100 else self._surface_points()
        center, reach = np.array(self.transform.center), 1 / self.transform.scale
        if not len(points):
            return np.stack([center - reach, center + reach])
        low, high = np.percentile(points, [1, 99], axis=0)
        margin = 0.03 * (high - low).max()
        return np.stack([np.maximum(low - margin, center - reach), np.minimum(high + margin, center + reach)])

    def _surface_points(self) -> np.ndarray:
        views = self.capture.training_views
        points = []
        for view in views[:: max(1, len(views) // 12)]:
            k = view.camera.intrinsics
            small = Camera(k.scaled_to(max(8, k.width // 6), max(8, k.height // 6)), view.camera.camera_to_world)
            rendered = self.render(small)
            origins, directions = small.rays()
            surface = origins + directions * rendered.depth.numpy().reshape(-1, 1)
            height, width = rendered.depth.shape
            middle = np.zeros((height, width), bool)
            middle[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
            points.append(surface[middle.ravel() & (rendered.alpha.numpy().ravel() > 0.5)])
        return np.concatenate(points) if points else np.zeros((0, 3))


# Rays of a view that are rendered at once at most: more bring no speed.
MOST_RAYS = {"cpu": 16384}
MOST_RAYS_GPU = 65536


def rays_a_chunk(settings: NerfSettings, device: torch.device, memory_mb: float | None = None) -> int:
    """How many rays to render at once.

    Args:
        settings: The model's.
        device: What is rendered on.
        memory_mb: MiB that may be used; None: the environment variable IN2N_RENDER_MEMORY_MB, else half of what is free
            on a CUDA device, else 1024.

    Returns:
        At least 1, at most MOST_RAYS or MOST_RAYS_GPU.
    """
    if memory_mb is None:
        memory_mb = float(os.environ.get("IN2N_RENDER_MEMORY_MB") or _usual_memory_mb(device))
    fits = int(memory_mb * 2**20 / bytes_a_ray(settings))
    return max(1, min(fits, MOST_RAYS.get(device.type, MOST_RAYS_GPU)))


def bytes_a_ray(settings: NerfSettings) -> int:
    """What rendering a ray holds at its peak: its samples' positions in a few forms, encodings and layers of the MLP.

    Args:
        settings: The model's.

    Returns:
        Bytes, all numbers being float32.
    """
    encoded = settings.levels * settings.features
    sample = 16 + 2 * encoded + 18 + settings.appearance + 2 * settings.hidden * settings.hidden_layers
    proposal_sample = 16 + 2 * settings.proposal_levels
    return 4 * (settings.samples * sample + settings.proposal_samples * proposal_sample)


def _usual_memory_mb(device: torch.device) -> float:
    return torch.cuda.mem_get_info(device)[0] / 2**21 if device.type == "cuda" else 1024


def build_model(state: dict) -> tuple[NerfModel, SceneTransform]:
    """An untrained model and the transform as a checkpoint's state describes them.

    Args:
        state: "settings", "transform" and "near" as `reconstruction.start` makes and `read_checkpoint` returns them.

    Returns:
        The model on the CPU, and the transform into normalised scene units.
    """
    transform = SceneTransform(tuple(state["transform"]["center"]), state["transform"]["scale"])
    return NerfModel(NerfSettings.from_json(state["settings"]), near=state["near"]), transform


def load_scene(workspace: Workspace | str, edit: str | None, device: str = "auto") -> Scene:
    """The trained scene of an edit or of the reconstruction.

    Args:
        workspace: Or its folder.
        edit: The edit's name; None: the reconstruction.
        device: As for `pick_device`.

    Returns:
        The scene on its device, ready to be rendered.

    Raises:
        In2nError: "not_trained" where it has not been computed, "bad_checkpoint" where its file is damaged.
    """
    workspace = workspace if isinstance(workspace, Workspace) else Workspace(workspace)
    folder = workspace.edit(edit) if edit else workspace.reconstruction
    found = read_checkpoint(folder)
    if found is None:
        what = f"The edit “{edit}” has" if edit else "The capture has"
        raise In2nError(
            "not_trained",
            f"{what} not been computed in {workspace.root}.",
            "Run the reconstruction (and the edit) first.",
        )
    tensors, state = found
    model, transform = build_model(state)
    model.load_state_dict(model_weights(tensors))
    capture = load_capture(workspace)
    return Scene(model.eval(), transform, capture, pick_device(device), state["has_alpha"])
