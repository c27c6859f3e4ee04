"""Iterative dataset update (Haque et al. 2023, "Instruct-NeRF2NeRF"): a NeRF trains on photos edited one by one.

Every `edit_rate` NeRF steps the next view of a seeded random order is rendered, its render noised and denoised by the
editor, conditioned on the *original* photo, and the result takes the view's place in the dataset.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from ...link.requests import Edit
from ...scene.errors import In2nError
from ...scene.reporting import Reporter
from ...workspace.files import write_json
from ...workspace.layout import KEY_VIEW, REGION_FILE, Workspace
from ...workspace.successor import Successor, settle
from ..device import describe_device, pick_device
from ..diffusion.editor import Editor, OriginalLatent, noise_generator
from ..diffusion.loading import load_editor
from ..measure import CostMeter
from ..nerf.checkpoint import Saver, limited_to, model_weights, save_checkpoint, settle_state, weights_hash
from ..nerf.dataset import training_rays
from ..nerf.reconstruction import load_capture_and_images
from ..nerf.scene import LocalScene, Scene, build_model, scene_of
from ..nerf.settings import NerfSettings, settings_for
from ..nerf.training import Trainer
from ..photos import opaque
from ..pictures import not_finite, save_srgb
from .key_picture import KeyPicture, read_key_picture
from .lineage import checkpoint_to_go_on_from, edit_provenance, edit_record, read_ground
from .regions import Limit, asked_region, region_record
from .schedule import Schedule
from .segments import Saved, apply_from_here, was_applying, with_saved_segments

# Of all sittings together, in state.json; a cost before this sitting is added to, the largest memory kept.
COSTS = ("seconds", "cpu_seconds", "unet_evaluations", "peak_memory_mb")
DENOISING_STEPS = None  # the editor's own number: the paper's 20 for InstructPix2Pix


def edit(request: Edit, report: Reporter, method: type[DatasetUpdate] | None = None) -> dict:
    """Edit the workspace's reconstruction by an instruction, from the edit's checkpoint if there is one.

    With a parent, its scene and its edited photos take the place of the reconstruction and the original photos.
    With `apply_from_here`, an edit that is not done goes on with this instruction, guidance and region (`segments`).
    An edit that is made anew (`restart`) takes its name when it first saves; the earlier one goes when it is done (see
    `workspace.successor`).

    Args:
        request: What to edit, and how.
        report: Told of every step, with pictures in between, and asked whether the job was cancelled.
        method: `DatasetUpdate`, or one of the methods that it is measured against (`baselines`).

    Returns:
        edits/<name>/state.json: rounds, unet_evaluations, seconds, cpu_seconds, peak_memory_mb, editor, instruction,
        device, provenance.

    Raises:
        In2nError: "edit_exists" where the name belongs to an edit that was made from something else, "edit_done" and
            "no_edit" where there is none to go on with, "not_finite", "diverged" and others; what was made is saved.
        Cancelled: After saving.
    """
    method = method or DatasetUpdate
    request.check()
    workspace, device = Workspace(request.workspace), pick_device(request.device)
    region = asked_region(request)
    reconstruction, parent = read_ground(request, workspace)
    editor = load_editor(request.editor, device, report)
    editor.prepare(request.instruction)
    capture, images = load_capture_and_images(workspace)
    settings = replace(
        NerfSettings.from_json(reconstruction[1]["settings"]),
        **_editing_sizes(settings_for(request.preset, device.type)),
    )
    if request.perceptual != "auto":
        settings = replace(settings, perceptual=request.perceptual)
    schedule = method.Schedule(
        len(images),
        request.rounds or method.default_rounds(settings),
        method.edit_rate(settings),
        request.seed,
        request.noise_schedule or method.noise,
    )
    key_picture = read_key_picture(request.key_view, capture) if request.key_view is not None else None
    chosen = region_record(region), key_picture and key_picture.to_json()
    record = edit_record(request, editor, reconstruction[1], schedule, method.name, *chosen)
    ground = (parent or reconstruction)[0]
    fixed = limited_to(region, ground) if region else {}
    folder = workspace.edit(request.name)
    settle(workspace, folder)
    provenance_of = lambda record: edit_provenance(workspace, editor, record)
    has_edits_left = lambda state: method.has_edits_left(state, schedule)
    if not request.restart:
        go_on = apply_from_here if request.apply_from_here or was_applying(folder, record) else with_saved_segments
        record = go_on(Saved(folder, has_edits_left, provenance_of, region, fixed), record)
    record["provenance"] = provenance_of(record).to_json()
    found = checkpoint_to_go_on_from(workspace, record, request.restart)
    if found and found[1]["done"]:
        settle_state(folder, found[1])
        Successor(workspace, folder, anew=False, keep=False).done()
        return found[1]

    dataset = training_rays(capture, images, device)
    if parent:
        dataset.restore(parent[0].get("dataset"))
        images = [dataset.image(view).cpu().numpy() for view in range(len(dataset))]
    state = {
        **{k: reconstruction[1][k] for k in ("transform", "near", "has_alpha")},
        **record,
        "settings": settings.to_json(),
        "device": describe_device(device),
        **dict.fromkeys(COSTS, 0),
        "edits_done": 0,
        "done": False,
    }
    model, transform = build_model(state)
    trainer = Trainer(
        model,
        dataset,
        request.seed,
        schedule.steps,
        loss="l1",
        learning_rate=settings.edit_learning_rate,
        log=report.log,
    )
    successor = Successor(workspace, folder, anew=found is None, keep=False)
    if found:
        trainer.restore(*found)
        dataset.restore(found[0].get("dataset"))
        state.update({key: found[1][key] for key in (*COSTS, *method.progress) if key in found[1]})
    else:
        model.load_state_dict(model_weights((parent or reconstruction)[0]))
        if region:
            write_json(successor.folder / REGION_FILE, region.to_json())
        if key_picture:
            save_srgb(successor.folder / KEY_VIEW, key_picture.image)
        write_json(successor.folder / "edit.json", record)
    scene = Scene(model, transform, capture, device, dataset.has_alpha)
    if region:
        scene = LocalScene(model, scene_of(ground, state, capture, device), region)
    limit = Limit(region, scene, dataset.cameras, report) if region else None
    if limit and found:
        limit.restore(found[0])
    del reconstruction, parent, found, ground
    about = request, report, successor, editor, schedule, trainer, scene, images, state
    method(*about, limit, fixed, key_picture).run()
    return state


class DatasetUpdate:
    """The loop, and what it saves.

    The methods that it is measured against (`baselines`) replace `before_step` or `step`.

    Args:
        request: The guidance, beside what is in the schedule.
        report: Told of every step, with pictures in between, and asked whether the job was cancelled.
        successor: The edit's folder, which takes the edit's name when it first saves.
        editor: Prepared with the instruction.
        schedule: Which view is edited when, and how many steps there are.
        trainer: With its dataset; where it has been restored, the loop goes on from there.
        scene: What the trainer trains, to be rendered.
        images: The original photos by training view, (height, width, 3 or 4) sRGB in [0, 1] each.
        state: What state.json says, with COSTS and "edits_done"; updated in place.
        limit: To a region; None: the edit acts everywhere.
        fixed: Tensors that its checkpoints hold beside those of the trainer.
    """

    name = "iterative"
    Schedule = Schedule
    noise = "falling"  # where the request names no schedule
    first_draw = 0  # the number of a view's noise in the first round
    progress = ("edits_done",)  # of state.json: what resuming goes on with

    @staticmethod
    def default_rounds(settings: NerfSettings) -> int:
        """How often every view is edited where the request does not say."""
        return settings.edit_rounds

    @staticmethod
    def edit_rate(settings: NerfSettings) -> int:
        """NeRF steps from one edit to the next."""
        return settings.edit_rate

    @staticmethod
    def has_edits_left(state: dict, schedule: Schedule) -> bool:
        """Whether a view is still to be edited.

        Args:
            state: A checkpoint's of this method.
            schedule: As the edit began with it.
        """
        return state["edits_done"] < schedule.edits

    def __init__(
        self,
        request: Edit,
        report: Reporter,
        successor: Successor,
        editor: Editor,
        schedule: Schedule,
        trainer: Trainer,
        scene: Scene,
        images: list[np.ndarray],
        state: dict,
        limit: Limit | None = None,
        fixed: dict[str, torch.Tensor] | None = None,
        key_picture: KeyPicture | None = None,
    ):
        self.request, self.report, self.successor, self.editor = request, report, successor, editor
        self.schedule, self.trainer, self.scene, self.images, self.state = schedule, trainer, scene, images, state
        self.limit, self.fixed, self.key_picture = limit, fixed or {}, key_picture
        self.originals: dict[int, OriginalLatent] = {}
        self.saver = Saver(self.save)
        self.cost, self.before = CostMeter(trainer.dataset.device), {key: state[key] for key in COSTS}

    def run(self) -> None:
        """Edit and train to the end of the schedule.

        Whatever ends it, what was made is saved, and nothing of a half-done edit is kept.

        Raises:
            In2nError: "not_finite", "diverged", "disk_full", "cannot_write".
            Cancelled: After saving.
        """
        with self.cost:
            with self.saver, self.back_to_the_last_whole_edit():
                while self.trainer.step_count < self.schedule.steps:
                    self.report_progress()
                    # An edit comes before the NeRF step, so that no training graph is alive beside the diffusion
                    # network.
                    self.before_step()
                    self.mark()
                    self.step()
                    self.mark()
                    self.saver.maybe()
            self.state["done"] = True
            self.save()
            self.successor.done()
        self.report.artifact("checkpoint", self.successor.folder / "checkpoint.safetensors")

    def mark(self) -> None:
        """Where work that fails or is cancelled goes back to: now."""
        progress = {key: self.state[key] for key in self.progress if key in self.state}
        self._marked = copy.deepcopy(progress), self.editor.unet_evaluations

    @contextmanager
    def back_to_the_last_whole_edit(self) -> Iterator[None]:
        """Around the loop: what a half-done edit changed in `state` and counted is as before it when the block fails.

        The edit is then done again with the same levels and noise.
        """
        self.mark()
        try:
            yield
        except BaseException:
            progress, self.editor.unet_evaluations = self._marked
            for key in self.progress:
                self.state.pop(key, None)
            self.state.update(progress)
            raise

    def before_step(self) -> None:
        """Edit the next view where one is due: every `edit_rate` steps, until the schedule has no more."""
        if self.schedule.is_due(self.edit_number, self.trainer.step_count):
            self.edit_next_view()

    def step(self) -> None:
        """One optimiser step of the NeRF on the dataset as it now is."""
        self.trainer.step()

    @torch.no_grad()
    def edit_next_view(self) -> None:
        """Render the schedule's next view, edit the render, and put it in place of the view's photo.

        Raises:
            In2nError: "not_finite", "disk_full", "cannot_write".
            Cancelled: The dataset is as it was.
        """
        number = self.edit_number
        view, edit_round = self.schedule.view(number), number // self.schedule.views
        start = self.start(view)
        edited = self.edited(view, start, self.noise_level(number), self.first_draw + edit_round)
        self.put_update(view, start, edited)

    @property
    def edit_number(self) -> int:
        """Of the schedule's next edit, counted from 0."""
        return self.state["edits_done"]

    def put_update(self, view: int, render: torch.Tensor, edited: torch.Tensor) -> None:
        """An edit of a render takes its view's place.

        Args:
            view: Of the dataset.
            render: (height, width, 3) what was edited, on the CPU.
            edited: (height, width, 3) sRGB in [0, 1].

        Raises:
            In2nError: "disk_full", "cannot_write".
        """
        self.put(view, render, edited)

    def start(self, view: int) -> torch.Tensor:
        """What of a view is edited next: what the scene now shows of it, beside a region the view's last edit.

        Args:
            view: Of the dataset.

        Returns:
            (height, width, 3) sRGB, on the CPU.

        Raises:
            Cancelled.
        """
        rendered = self.scene.render(self.trainer.dataset.cameras[view], self.report)
        return self.limit.start(view, rendered) if self.limit else rendered.rgb_srgb

    def latest(self, view: int) -> torch.Tensor:
        """A view's last edit, its photo where it has none; over white where it has alpha, beside a region too.

        Args:
            view: Of the dataset.

        Returns:
            (height, width, 3) sRGB in [0, 1], on the CPU.
        """
        if self.limit and view in self.limit.whole:
            return self.limit.whole[view].float() / 255
        return torch.from_numpy(opaque(self.trainer.dataset.image(view).cpu().numpy()))

    def noise_level(self, number: int) -> float:
        """From which level an edit of the schedule starts."""
        return self.schedule.noise_level(number)

    def edited(self, view: int, start: torch.Tensor, level: float, draw: int) -> torch.Tensor:
        """An edit of a picture of a view, conditioned on the view's original photo.

        Args:
            view: Of the dataset.
            start: (height, width, 3) sRGB in [0, 1], noised to `level`.
            level: In (0, 1].
            draw: Which noise of the view's.

        Returns:
            (height, width, 3) sRGB, on the editor's device.

        Raises:
            In2nError: "not_finite".
            Cancelled.
        """
        edited = self.editor.edit(
            start.permute(2, 0, 1)[None],
            self.original(view),
            noise_level=level,
            generators=[noise_generator(self.schedule.seed, view, draw)],
            steps=self.denoising_steps(),
            guidance_text=self.request.guidance_text,
            guidance_image=self.request.guidance_image,
            report=only_checks(self.report),
        )[0].permute(1, 2, 0)
        if not torch.isfinite(edited).all():
            raise not_finite(f"The edit of the photo {self.scene.capture.training_views[view].name}")
        return edited

    def denoising_steps(self) -> int | None:
        """Of one edit; None: the editor's own number."""
        return DENOISING_STEPS

    def put(self, view: int, start: torch.Tensor, edited: torch.Tensor) -> None:
        """An edit takes its view's place in the dataset, but for what lies outside of a region.

        It counts as done, is shown, and saved if it is time.

        What the next edit depends on is in `state`, under the names in `progress`, by then.

        Args:
            view: Of the dataset.
            start: (height, width, 3) what was edited, on the CPU.
            edited: (height, width, 3) sRGB in [0, 1].

        Raises:
            In2nError: "disk_full", "cannot_write".
        """
        name = self.scene.capture.training_views[view].name
        picture = self.limit.applied(view, edited, self.photo(view)) if self.limit else edited
        save_srgb(self.successor.folder / "dataset" / f"{name}.png", picture.cpu())
        self.trainer.dataset.replace(view, self.as_photo(view, picture))
        if self.limit:
            self.limit.note(view, edited)
        self.state["edits_done"] += 1
        self.mark()
        self.show(view, start, picture.cpu())
        self.saver.maybe()

    def show(self, view: int, *images: torch.Tensor) -> None:
        """Photo, render and edit side by side in preview.png: what an artist wants to watch.

        Args:
            view: Of the dataset.
            images: (height, width, 3) sRGB in [0, 1] each, on the CPU and of one size.
        """
        photo = resized(self.photo(view), images[0].shape[:2])
        file = self.successor.folder / "preview.png"
        try:
            save_srgb(file, torch.cat([photo[0].permute(1, 2, 0), *images], 1))
        except In2nError as error:  # a picture is not worth an edit
            self.report.log(error.message)
            return
        self.report.artifact("image", file)

    def save(self) -> None:
        """A checkpoint; none before there is anything in it that would be worth an earlier edit of the name."""
        if self.trainer.step_count == 0 and self.state["edits_done"] == 0:
            return
        now = {
            "seconds": self.cost.seconds,
            "cpu_seconds": self.cost.cpu_seconds,
            "unet_evaluations": self.editor.unet_evaluations,
        }
        self.state.update({key: round(self.before[key] + value, 2) for key, value in now.items()})
        self.state["peak_memory_mb"] = round(max(self.before["peak_memory_mb"], self.cost.peak_memory_mb))
        tensors, numbers = self.trainer.state()
        if self.state["done"]:
            tensors = {k: v for k, v in tensors.items() if k.startswith("model.")}
        # The dataset goes into the checkpoint too: the files in dataset/ may be ahead of the model's last save.
        tensors["dataset"] = self.trainer.dataset.colors.cpu()
        tensors.update(self.fixed)
        if self.limit and not self.state["done"]:
            tensors.update(self.limit.tensors())
        self.state.update(numbers, weights=weights_hash(tensors))
        save_checkpoint(self.successor.folder, tensors, self.state)
        self.successor.saved()

    def report_progress(self) -> None:
        """Report the steps that are done.

        Raises:
            Cancelled.
        """
        self.report.progress(self.trainer.step_count, self.schedule.steps, "step", self.progress_message())

    def progress_message(self) -> str:
        """What is being done, in a few words: the number of the edit and its noise level, or that the NeRF settles."""
        done = self.state["edits_done"]
        if done >= self.schedule.edits:
            return "Settling"
        return f"Edit {done + 1} of {self.schedule.edits}, noise {self.noise_level(done):.2f}"

    def original(self, view: int) -> OriginalLatent:
        """A view's original photo as the editor conditions on it, encoded once and kept on the CPU.

        Args:
            view: Of the dataset.

        Returns:
            A batch of one.
        """
        if view not in self.originals:
            self.originals[view] = self.editor.encode_original(self.photo(view).permute(2, 0, 1)[None]).to("cpu")
        return self.originals[view]

    def photo(self, view: int) -> torch.Tensor:
        """A view's original photo, over white where it has alpha.

        Args:
            view: Of the dataset.

        Returns:
            (height, width, 3) float32 sRGB in [0, 1], on the CPU.
        """
        return torch.from_numpy(opaque(self.images[view]))

    def as_photo(self, view: int, edited: torch.Tensor) -> torch.Tensor:
        """An edit, which is over white, as the dataset keeps photos: with the straight colour of the photo's alpha.

        Args:
            view: Of the dataset.
            edited: (height, width, 3) sRGB in [0, 1].

        Returns:
            (height, width, 3): what over white gives `edited` again; any colour where nothing is seen of it.
        """
        if not self.trainer.dataset.has_alpha:
            return edited
        alpha = self.trainer.dataset.image(view)[..., 3:].to(edited.device)
        return ((edited - (1 - alpha)) / alpha.clamp_min(1 / 255)).clamp(0, 1)


def resized(photo: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A photo as a batch of one, bilinearly resampled with antialiasing.

    Args:
        photo: (height, width, 3).
        size: (height, width) in pixels.

    Returns:
        (1, 3, *size).
    """
    return torch.nn.functional.interpolate(photo.permute(2, 0, 1)[None], size=size, mode="bilinear", antialias=True)


def only_checks(report: Reporter) -> Reporter:
    """A reporter for the inside of one edit: it cancels, but its many small steps are not the job's progress.

    Args:
        report: The job's.

    Returns:
        One that passes nothing on, and cancels as the job's does.
    """
    return Reporter(cancelled=report.is_cancelled)


def _editing_sizes(settings: NerfSettings) -> dict:
    names = ("edit_rounds", "edit_rate", "edit_learning_rate", "rays", "perceptual", "patches")
    return {name: getattr(settings, name) for name in names}


class Faithful(DatasetUpdate):
    """The published algorithm, unchanged: every noise level is drawn uniformly."""

    name = "faithful"
    noise = "uniform"
