"""Iterative dataset update (Haque et al. 2023, "Instruct-NeRF2NeRF"): a NeRF trains on photos edited one by one.

Every `edit_rate` NeRF steps the next view of a seeded random order is rendered, its render noised and denoised by the
editor, conditioned on the *original* photo, and the result takes the view's place in the dataset.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from ...link.requests import Edit
from ...scene.errors import In2nError
from ...scene.reporting import Reporter
from ...workspace.successor import Successor
from ..diffusion.editor import Editor, OriginalLatent, join_originals, noise_generator
from ..measure import CostMeter
from ..nerf.checkpoint import Saver, save_checkpoint, weights_hash
from ..nerf.scene import Scene
from ..nerf.settings import NerfSettings
from ..nerf.training import Trainer
from ..photos import opaque
from ..pictures import not_finite, save_srgb
from .batches import AskedEdit, Batches
from .crewed import CrewedEditor
from .key_picture import KeyPicture
from .regions import Limit
from .schedule import Schedule

# Of all sittings together, in state.json; a cost before this sitting is added to, the largest memory kept.
COSTS = ("seconds", "cpu_seconds", "unet_evaluations", "peak_memory_mb")
DENOISING_STEPS = None  # the editor's own number: the paper's 20 for InstructPix2Pix


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
    in_batches = False  # whether views may be edited together; published is one by one
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
        self.batches = Batches(self._views_at_once() if self.in_batches else 1, report.log)
        self.originals: dict[int, OriginalLatent] = {}
        self.saver = Saver(self.save)
        self.cost, self.before = CostMeter(trainer.dataset.device), {key: state[key] for key in COSTS}

    def _together(self) -> int:
        """How many views are edited from one state of the scene. Halved batches count where nobody chose a number."""
        return self.request.views_together or self.batches.at_once

    def _views_at_once(self) -> int:
        return self.editor.views_at_once(max((image.shape[:2] for image in self.images), key=np.prod))

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
        """Edit the next view where one is due: every `edit_rate` steps, until the schedule has no more.

        Those of its batch are edited with it, before they are due; none of the next round is.
        """
        number, views = self.edit_number, self.schedule.views
        if self.schedule.is_due(number, self.trainer.step_count):
            together = self._together()
            self.edit_next_views(min(together - number % views % together, views - number % views))

    def step(self) -> None:
        """One optimiser step of the NeRF on the dataset as it now is."""
        self.trainer.step()

    @torch.no_grad()
    def edit_next_views(self, count: int = 1) -> None:
        """Render the schedule's next views, edit the renders, and put them in place of the views' photos.

        Args:
            count: How many.

        Raises:
            In2nError: "not_finite", "disk_full", "cannot_write".
            Cancelled: The dataset is as it was.
        """
        asked = [self.update(number) for number in range(self.edit_number, self.edit_number + count)]
        for one, edited in zip(asked, self.edited(asked)):
            self.put_update(one.view, one.start, edited)

    def update(self, number: int) -> AskedEdit:
        """An edit of the schedule.

        Args:
            number: Counted from 0.

        Raises:
            Cancelled.
        """
        view = self.schedule.view(number)
        draw = self.first_draw + number // self.schedule.views
        return AskedEdit(view, self.start(view), self.noise_level(number), draw)

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

    def edited(self, asked: Sequence[AskedEdit]) -> list[torch.Tensor]:
        """Edits of pictures of views, conditioned on the views' original photos.

        Args:
            asked: Which.

        Returns:
            (height, width, 3) sRGB each, on the editor's device.

        Raises:
            In2nError: "not_finite".
            Cancelled.
        """
        kind = lambda one: self.denoising_steps(one.level)
        if not isinstance(self.editor, CrewedEditor):
            return self.batches.run(asked, self._edited_together, kind)
        batches = self.batches.split(asked, kind)
        calls = [self._call([asked[number] for number in batch]) for batch in batches]
        found: dict[int, torch.Tensor] = {}
        for batch, edited in zip(batches, self.editor.edit_all(calls, self.report, self._say_edited)):
            found.update(zip(batch, self._checked([asked[number] for number in batch], edited)))
        return [found[number] for number in range(len(asked))]

    def _edited_together(self, asked: Sequence[AskedEdit]) -> list[torch.Tensor]:
        return self._checked(asked, self.editor.edit(**self._call(asked), report=only_checks(self.report)))

    def _call(self, asked: Sequence[AskedEdit]) -> dict:
        """What the editor is called with for edits of one size and number of steps."""
        return {
            "render": torch.stack([one.start.permute(2, 0, 1) for one in asked]),
            "original": join_originals([self.original(one.view) for one in asked]),
            "noise_level": [one.level for one in asked],
            "generators": [noise_generator(self.schedule.seed, one.view, one.draw) for one in asked],
            "steps": self.denoising_steps(asked[0].level),
            "guidance_text": self.request.guidance_text,
            "guidance_image": self.request.guidance_image,
        }

    def _checked(self, asked: Sequence[AskedEdit], edited: torch.Tensor) -> list[torch.Tensor]:
        for one, picture in zip(asked, edited):
            if not torch.isfinite(picture).all():
                raise not_finite(f"The edit of the photo {self.scene.capture.training_views[one.view].name}")
        return list(edited.permute(0, 2, 3, 1))

    def _say_edited(self, done: int, total: int) -> None:
        message = f"Editing views, {done} of {total} batches"
        self.report.progress(self.trainer.step_count, self.schedule.steps, "step", message)

    def denoising_steps(self, level: float) -> int | None:
        """Of one edit.

        Args:
            level: From which it starts.

        Returns:
            None: the editor's own number.
        """
        return DENOISING_STEPS

    def put(self, view: int, start: torch.Tensor, edited: torch.Tensor) -> None:
        """An edit takes its view's place in the dataset, but for what lies outside of a region or under a mask.

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
        picture = self.beside_mask(view, picture)
        save_srgb(self.successor.folder / "dataset" / f"{name}.png", picture.cpu())
        self.trainer.dataset.replace(view, self.as_photo(view, picture))
        if self.limit:
            self.limit.note(view, edited)
        self.state["edits_done"] += 1
        self.mark()
        self.show(view, start, picture.cpu())
        self.saver.maybe()

    def beside_mask(self, view: int, picture: torch.Tensor) -> torch.Tensor:
        """A picture of a view with the original photo where its mask covers it.

        Args:
            view: Of the dataset.
            picture: (height, width, 3) sRGB in [0, 1].

        Returns:
            (height, width, 3) on the picture's device.
        """
        counts = self.trainer.dataset.mask(view)
        if counts is None:
            return picture
        return torch.where(counts[..., None].to(picture.device), picture, self.photo(view).to(picture.device))

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
        self.report.artifact("image", file, self.scene.capture.training_views[view].name)

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
        tensors.update(self.trainer.dataset.saved(whole=self.state["done"]))
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


class Faithful(DatasetUpdate):
    """The published algorithm, unchanged: every noise level is drawn uniformly."""

    name = "faithful"
    noise = "uniform"
