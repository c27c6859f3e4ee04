"""A trained NeRF as the rest of the engine sees it: rendered, measured and meshed in the capture's coordinates."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ...scene.camera import Camera
from ...scene.capture import PinholeCapture
from ...scene.errors import In2nError
from ...scene.region import Region
from ...scene.reporting import Reporter
from ...scene.visibility import FEWEST_POINTS, in_picture
from ...workspace.imported import load_capture
from ...workspace.layout import Workspace
from ..device import free_bytes, scene_device
from .checkpoint import ground_of, model_weights, read_checkpoint, region_of
from .dataset import SceneTransform, camera_bundle
from .kernels.launch import available
from .parts import Parts
from .ray_marching import RenderedRays, march
from .regions import InsideTest
from .rendering import NerfModel, RayBundle, render_rays
from .sampling import Samples, to_unit_cube
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
        self.parts = Parts(self.device)

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
            rendered = self.rays(part)
            parts.append((self.over_background(rendered).cpu(), rendered.alpha.cpu(), rendered.distance.cpu()))
        self.parts.tell(report)
        color, alpha, distance = (torch.cat(values) for values in zip(*parts))
        shape = (camera.intrinsics.height, camera.intrinsics.width)
        depth = distance * cosine / self.transform.scale
        return RenderedView(color.clamp(0, 1).view(*shape, 3), alpha.view(shape), depth.view(shape))

    def rays(self, bundle: RayBundle):
        """Render rays without jitter and gradients, at once where there is memory for it.

        Args:
            bundle: In normalised scene units.

        Returns:
            `RenderedRays`, or a `Rendered`, on the scene's device.
        """
        found = self.parts.run(len(bundle), lambda first, last: self._rays(bundle.part(first, last)))
        return found[0] if len(found) == 1 else RenderedRays.joined(found)

    def _rays(self, bundle: RayBundle):
        return march(self.model, bundle) if available(self.device) else self.model(bundle)

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
        density = lambda first, last: self.density_at(self._normalised(points[first:last])).cpu()
        return torch.cat(self.parts.run(len(points), density)) * self.transform.scale

    @torch.no_grad()
    def color(self, points: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """The colour of points as seen in a direction.

        Args:
            points: (n, 3) in capture coordinates.
            directions: (n, 3) of unit length.

        Returns:
            (n, 3) sRGB in [0, 1], on the CPU.
        """

        def color(first: int, last: int) -> torch.Tensor:
            return self.field_at(self._normalised(points[first:last]), directions[first:last].to(self.device))[1].cpu()

        return torch.cat(self.parts.run(len(points), color))

    def _normalised(self, points: torch.Tensor) -> torch.Tensor:
        return self.transform.apply(points.to(self.device))

    def proposal_at(self, places: torch.Tensor) -> torch.Tensor:
        """The proposal's density at places.

        Args:
            places: (n, 3) in normalised scene units, on the scene's device.

        Returns:
            (n,) per normalised scene unit.
        """
        return self.model.proposal(to_unit_cube(places))

    def density_at(self, places: torch.Tensor) -> torch.Tensor:
        """The density at places.

        Args:
            places: (n, 3) in normalised scene units, on the scene's device.

        Returns:
            (n,) per normalised scene unit.
        """
        return self.model.field.density(to_unit_cube(places))

    def field_at(
        self, places: torch.Tensor, directions: torch.Tensor, views: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Density and colour at places.

        Args:
            places: (n, 3) in normalised scene units, on the scene's device; n is a multiple of rays, the places on a
                ray lie together.
            directions: (rays, 3) of unit length.
            views: (rays,) training views; None: the mean of their appearances.

        Returns:
            (n,) per normalised scene unit and (n, 3) sRGB.
        """
        return self.model.field(to_unit_cube(places), directions, views)

    def bounds(self) -> np.ndarray:
        """The box around what the photos show, within the uncontracted region.

        From the sparse points where the capture has them. Else from depths rendered in some of the training views, of
        what at least half as many views show as the middle of the capture, so that the subject is in it whole and a
        wall behind it is not all of it; the whole region where these show nothing.

        Returns:
            (2, 3) the lowest and the highest corner in capture coordinates.
        """
        center, reach = np.array(self.transform.center), 1 / self.transform.scale
        if len(self.capture.points) >= FEWEST_POINTS:
            points, outliers, margin = self.capture.points, 1.0, 0.03
        else:
            points, outliers, margin = self._looked_at(self._surface_points()), 0.2, 0.1
        if not len(points):
            return np.stack([center - reach, center + reach])
        low, high = np.percentile(points, [outliers, 100 - outliers], axis=0)
        margin = margin * (high - low).max()
        return np.stack([np.maximum(low - margin, center - reach), np.minimum(high + margin, center + reach)])

    def _surface_points(self) -> np.ndarray:
        views = self.capture.training_views
        points = []
        for view in views[:: max(1, len(views) // 12)]:
            k = view.camera.intrinsics
            small = view.camera.scaled_to(max(8, k.width // 4), max(8, k.height // 4))
            rendered = self.render(small)
            origins, directions = small.rays()
            surface = origins + directions * rendered.depth.numpy().reshape(-1, 1)
            points.append(surface[rendered.alpha.numpy().ravel() > 0.5])
        return np.concatenate(points) if points else np.zeros((0, 3))

    def _looked_at(self, points: np.ndarray) -> np.ndarray:
        """Those of the points (p, 3) that lie in at least half as many pictures as most of them do."""
        shown = np.zeros(len(points), np.int64)
        for view in self.capture.training_views:
            shown[in_picture(view.camera, points)[0]] += 1
        return points[shown >= np.quantile(shown, 0.9) / 2] if len(points) else points


class LocalScene(Scene):
    """A scene that was edited in a region alone: the edited field within it, the unedited scene everywhere else.

    Densities and colours are blended by the region's soft edge, in space, so that the unedited scene hides what is
    behind it and the edited one stands where it stands. A ray that passes the region shows what it showed before.

    Args:
        model: The edited field and proposal, moved to the device.
        ground: The unedited scene, of the same device, transform and capture.
        region: In capture coordinates.
    """

    def __init__(self, model: NerfModel, ground: Scene, region: Region):
        super().__init__(model, ground.transform, ground.capture, ground.device, ground.has_alpha)
        self.ground = ground
        self.inside = InsideTest(region.transformed(ground.transform.matrix), ground.device)

    @torch.no_grad()
    def _rays(self, bundle: RayBundle):
        """Only rays that may meet the region are rendered through both fields."""
        meets = self.inside.may_meet(bundle.origins, bundle.directions)
        if not meets.any():
            return self.ground.rays(bundle)
        if meets.all():
            return self._blended(bundle)
        before, after = self.ground.rays(bundle.chosen(~meets)), self._blended(bundle.chosen(meets))
        rays = {}
        for name in ("color", "alpha", "distance", "last_color"):
            one, other = getattr(before, name), getattr(after, name)
            rays[name] = one.new_empty((len(bundle), *one.shape[1:]))
            rays[name][~meets], rays[name][meets] = one, other
        return RenderedRays(**rays)

    def _blended(self, bundle: RayBundle):
        def places(samples: Samples) -> torch.Tensor:
            middles = (samples.starts + samples.ends)[..., None] / 2
            return (bundle.origins[:, None] + bundle.directions[:, None] * middles).view(-1, 3)

        return render_rays(
            bundle,
            self.model.settings,
            self.model.near,
            lambda samples: self.proposal_at(places(samples)),
            lambda samples: self.field_at(places(samples), bundle.directions, bundle.views),
        )

    def proposal_at(self, places: torch.Tensor) -> torch.Tensor:
        """As `Scene.proposal_at`."""
        return self._density(places, self.ground.proposal_at, super().proposal_at)

    def density_at(self, places: torch.Tensor) -> torch.Tensor:
        """As `Scene.density_at`."""
        return self._density(places, self.ground.density_at, super().density_at)

    def _density(self, places: torch.Tensor, before: Callable, after: Callable) -> torch.Tensor:
        density, (chosen, share) = before(places), self._inside(places)
        if len(chosen):
            density[chosen] = torch.lerp(density[chosen], after(places[chosen]), share)
        return density

    def field_at(
        self, places: torch.Tensor, directions: torch.Tensor, views: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `Scene.field_at`. What shines is blended: a colour counts as much as there is of what has it."""
        density, color = self.ground.field_at(places, directions, views)
        chosen, share = self._inside(places)
        if not len(chosen):
            return density, color
        ray = chosen // (len(places) // len(directions))
        after, new_color = super().field_at(places[chosen], directions[ray], None if views is None else views[ray])
        old, new = density[chosen] * (1 - share), after * share
        density[chosen] = old + new
        light = color[chosen] * old[:, None] + new_color * new[:, None]
        color[chosen] = light / (old + new).clamp_min(torch.finfo(light.dtype).tiny)[:, None]
        return density, color

    def _inside(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The numbers of the places in the region, and how much of the edit each gets."""
        share = self.inside.membership(places)
        chosen = share.nonzero()[:, 0]
        return chosen, share[chosen]


# Rays of a view that are rendered at once at most: more bring no speed.
MOST_RAYS = {"cpu": 16384}
MOST_RAYS_GPU = 2**17


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

    Marched rays hold less: their positions stay in registers, and the MLP takes some of the rays after the others.

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
    return free_bytes(device) / 2**21 if device.type == "cuda" else 1024


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
        device: As for `scene_device`.

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
    return scene_of(*found, load_capture(workspace), scene_device(device))


def scene_of(tensors: dict[str, torch.Tensor], state: dict, capture: PinholeCapture, device: torch.device) -> Scene:
    """The scene that a checkpoint holds.

    Args:
        tensors: As `read_checkpoint` returns them.
        state: Likewise.
        capture: What it was trained on.
        device: What is rendered on.

    Returns:
        A `LocalScene` where an edit was limited to a region.
    """
    model, transform = build_model(state)
    model.load_state_dict(model_weights(tensors))
    region = region_of(tensors)
    if region is None:
        return Scene(model.eval(), transform, capture, device, state["has_alpha"])
    return LocalScene(model.eval(), scene_of(ground_of(tensors), state, capture, device), region)
