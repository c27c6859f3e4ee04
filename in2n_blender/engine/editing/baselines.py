"""What iterative dataset update is measured against: the ablations of Haque et al. 2023, "Instruct-NeRF2NeRF".

Section 4.2 there. All methods begin with the same reconstruction, editor, instruction and seed, and end as an
`EditedScene` that renders any camera:

    scene = run_method("one-time", Edit(workspace, name, "make it snow"), report)
    view = scene.render(camera, report)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...link.requests import Edit
from ...scene.camera import Camera
from ...scene.errors import In2nError
from ...scene.reporting import Reporter
from ..device import pick_device
from ..diffusion.editor import Editor, noise_generator
from ..diffusion.loading import load_editor
from ..nerf.dataset import camera_bundle
from ..nerf.regions import InsideTest
from ..nerf.scene import RenderedView, Scene, load_scene
from .dataset_update import DatasetUpdate, only_checks, resized
from .methods import METHODS as EDITING
from .methods import edit
from .regions import asked_region, seen_inside
from .schedule import PURE_NOISE, Schedule

# Score distillation needs the gradient of a whole view, so it renders small ones, of about this many times the rays of
# a step.
DISTILLATION_RAYS = 4


@dataclass(frozen=True)
class OneTimeSchedule(Schedule):
    """Every view once, from pure noise.

    As many NeRF steps as the iterative update takes in the same number of rounds.
    """

    @property
    def edits(self) -> int:
        return self.views

    def noise_level(self, edit: int) -> float:
        return PURE_NOISE


class OneTimeUpdate(DatasetUpdate):
    """One-time dataset update: all photos are edited as InstructPix2Pix edits photos, then the NeRF trains on them.

    The network starts from noise and sees the original photo, so what is rendered meanwhile plays no part.
    """

    name = "one-time"
    Schedule = OneTimeSchedule
    in_batches = True

    def before_step(self) -> None:
        """Edit every view that is not edited yet: all of them before the first step."""
        while left := self.schedule.edits - self.state["edits_done"]:
            self.report_progress()
            self.edit_next_views(min(self.batches.at_once, left))


@dataclass(frozen=True)
class DistillationSchedule(Schedule):
    """No photo is edited; whole views are rendered, one a step.

    About as many rays as the iterative update trains on in the same number of rounds.
    """

    @property
    def edits(self) -> int:
        return 0

    @property
    def steps(self) -> int:
        return max(1, super().steps // DISTILLATION_RAYS)

    def noise_level(self, edit: int) -> float:
        """Uniform in the paper's range for every step.

        Args:
            edit: Counts the steps, from 0.

        Returns:
            A level in [0.02, 0.98).
        """
        return self.uniform_level(edit)


class ScoreDistillation(DatasetUpdate):
    """Score distillation sampling (Poole et al. 2023, "DreamFusion") with InstructPix2Pix, given the original photos.

    Every step renders a whole view, small, and descends along the gradient that the editor gives for it.
    """

    name = "score-distillation"
    Schedule = DistillationSchedule

    def before_step(self) -> None:
        """Nothing: no photo is edited."""
        pass

    def step(self) -> None:
        """One optimiser step along the editor's gradient for one view."""
        with self.trainer.random_state_kept_on_failure():
            self._distil()

    def _distil(self) -> None:
        trainer, number = self.trainer, self.trainer.step_count
        view = self.schedule.view(number)
        camera = _with_pixels(trainer.dataset.cameras[view], DISTILLATION_RAYS * trainer.settings.rays)
        size = camera.intrinsics.height, camera.intrinsics.width
        bundle, cosine = camera_bundle(camera, trainer.dataset.transform, trainer.dataset.device)
        rendered = trainer.model(bundle, trainer.generator)
        color = self.scene.over_background(rendered).view(*size, 3).permute(2, 0, 1)[None]
        if self.limit:  # elsewhere the editor sees the scene, and moves nothing
            depth = rendered.distance.cpu() * cosine / trainer.dataset.transform.scale
            shown = RenderedView(color, rendered.alpha.detach().cpu().view(size), depth.view(size))
            color = torch.lerp(color.detach(), color, seen_inside(self.limit.inside, camera, shown).to(color.device))
        counts = trainer.dataset.mask(view)
        if counts is not None:
            small = torch.nn.functional.interpolate(counts[None, None].float(), size=size, mode="area") == 1
            color = torch.where(small, color, color.detach())
        loss = self.editor.distillation_loss(
            color,
            resized(self.photo(view), size),
            noise_level=self.schedule.noise_level(number),
            generators=[noise_generator(self.schedule.seed, view, number)],
            guidance_text=self.request.guidance_text,
            guidance_image=self.request.guidance_image,
            report=only_checks(self.report),
        )
        trainer.descend(loss.to(trainer.dataset.device) + trainer.regularisers(rendered))
        if number % self.schedule.edit_rate == 0:
            self.show(view, color[0].detach().cpu().permute(1, 2, 0))

    def progress_message(self) -> str:
        return f"Distilling, noise {self.schedule.noise_level(self.trainer.step_count):.2f}"


class PerFrameScene:
    """Every rendered frame of the unedited scene edited by itself, with no NeRF to make them agree.

    Args:
        scene: The reconstruction.
        editor: Prepared with the instruction.
        request: Its seed and guidance.
        inside: The region that it is limited to, in capture coordinates; None: everywhere.
    """

    def __init__(self, scene: Scene, editor: Editor, request: Edit, inside: InsideTest | None = None):
        self.scene, self.editor, self.request, self.frames = scene, editor, request, 0
        self.inside = inside

    def render(self, camera: Camera, report: Reporter | None = None) -> RenderedView:
        """The edited frame, with the unedited scene's alpha and depth.

        Args:
            camera: In capture units.
            report: Asked whether the job was cancelled.

        Returns:
            Colours, alpha and depth on the CPU, of the camera's size.

        Raises:
            Cancelled.
        """
        report = report or Reporter()
        view = self.scene.render(camera, report)
        render = view.rgb_srgb.permute(2, 0, 1)[None]
        edited = self.editor.edit(
            render,
            render,
            noise_level=PURE_NOISE,
            generators=[noise_generator(self.request.seed, self.frames, 0)],
            guidance_text=self.request.guidance_text,
            guidance_image=self.request.guidance_image,
            report=only_checks(report),
        )
        self.frames += 1
        picture = edited[0].permute(1, 2, 0)
        if self.inside:
            mask = seen_inside(self.inside, camera, view).to(picture.device)[..., None]
            picture = torch.lerp(view.rgb_srgb.to(picture.device), picture, mask)
        return RenderedView(picture, view.alpha, view.depth)


@dataclass
class EditedScene:
    """What a method made.

    Attributes:
        scene: What renders it.
        state: The edit's state.json, with what it cost so far (step, unet_evaluations, seconds, cpu_seconds,
            peak_memory_mb); empty where nothing was trained.
        editor: What edits the frames while they are rendered; None where nothing does.
    """

    scene: Scene | PerFrameScene
    state: dict
    editor: Editor | None = None

    def render(self, camera: Camera, report: Reporter | None = None) -> RenderedView:
        """A view of the edited scene.

        Args:
            camera: In capture units.
            report: Asked whether the job was cancelled.

        Returns:
            Colours, alpha and depth on the CPU, of the camera's size.

        Raises:
            Cancelled.
        """
        return self.scene.render(camera, report)

    @property
    def unet_evaluations(self) -> int:
        """Those of the frames rendered so far included."""
        return self.state.get("unet_evaluations", 0) + (self.editor.unet_evaluations if self.editor else 0)


def per_frame(request: Edit, report: Reporter) -> EditedScene:
    """The reconstruction, whose frames are edited when they are rendered: no edit is made or stored.

    Args:
        request: The workspace, the editor, the instruction, the guidance and the seed.
        report: Told of a download, and asked whether the job was cancelled.

    Returns:
        Its `render` gives edited frames, and counts what they cost.

    Raises:
        In2nError: "not_trained", and as `load_scene`, `load_editor` and `Editor.prepare`.
        Cancelled.
    """
    scene = load_scene(request.workspace, None, request.device)
    editor = load_editor(request.editor, pick_device(request.device), report, request.memory_plan)
    editor.model.check_negative_prompt(request.negative_prompt, request.guidance_text)
    editor.prepare(request.instruction, request.negative_prompt)
    region = asked_region(request)
    inside = InsideTest(region, scene.device) if region else None
    return EditedScene(PerFrameScene(scene, editor, request, inside), {}, editor)


def unedited(request: Edit, report: Reporter) -> EditedScene:
    """The reconstruction as it is: what doing nothing scores.

    Args:
        request: The workspace and the device; the rest plays no part.
        report: Not used.

    Returns:
        Its `render` gives frames as they are; it has cost nothing.

    Raises:
        In2nError: "not_trained", and as `load_scene`.
    """
    return EditedScene(load_scene(request.workspace, None, request.device), {})


def _with_nerf(method: type[DatasetUpdate]):
    def run(request: Edit, report: Reporter) -> EditedScene:
        state = edit(request, report, method)
        return EditedScene(load_scene(request.workspace, request.name, request.device), state)

    return run


METHODS = {
    "unedited": unedited,
    "per-frame": per_frame,
    **{method.name: _with_nerf(method) for method in (OneTimeUpdate, ScoreDistillation, *EDITING.values())},
}


def run_method(method: str, request: Edit, report: Reporter) -> EditedScene:
    """Edit the workspace's reconstruction by one of METHODS; those with a NeRF go on from their checkpoint.

    Args:
        method: The method's name.
        request: What to edit, and how.
        report: Told how far it is, and asked whether the job was cancelled.

    Returns:
        What the method made, with its cost.

    Raises:
        In2nError: "unknown_method", and what the method raises.
        Cancelled.
    """
    if method not in METHODS:
        raise In2nError("unknown_method", f"There is no method “{method}”.", f"Choose one of: {', '.join(METHODS)}.")
    return METHODS[method](request, report)


def _with_pixels(camera: Camera, count: int) -> Camera:
    """The camera with its image scaled down to about `count` pixels; never up."""
    k = camera.intrinsics
    shrink = min(1.0, (count / (k.width * k.height)) ** 0.5)
    return camera.scaled_to(max(1, round(k.width * shrink)), max(1, round(k.height * shrink)))
