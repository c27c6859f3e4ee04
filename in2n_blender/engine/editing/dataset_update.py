"""Iterative dataset update (Haque et al. 2023, "Instruct-NeRF2NeRF"): the NeRF trains on while its photos are edited
one by one.

Every `edit_rate` NeRF steps the next view of a seeded random order is rendered, its render noised and denoised by the
editor, conditioned on the *original* photo, and the result takes the view's place in the dataset.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ...link.requests import Edit
from ...scene.errors import Cancelled, In2nError
from ...scene.reporting import Reporter
from ...workspace.files import read_json, write_json
from ...workspace.layout import Workspace
from ..device import describe_device, pick_device
from ..diffusion.editor import Editor, OriginalLatent, noise_generator
from ..diffusion.loading import load_editor
from ..measure import CostMeter
from ..nerf.checkpoint import Saver, model_weights, read_checkpoint, save_checkpoint
from ..nerf.dataset import training_rays
from ..nerf.reconstruction import load_capture_and_images
from ..nerf.scene import Scene, build_model
from ..nerf.settings import NerfSettings, settings_for
from ..nerf.training import SETTLING, Trainer
from ..photos import opaque
from ..pictures import save_srgb

NOISE_LEVELS = (0.02, 0.98)
# How far down its range "falling" goes. Lower levels keep what a render shows, half-way edits included.
FALL = 0.4
# Of all sittings together, in state.json; a cost before this sitting is added to, the largest memory kept.
COSTS = ("seconds", "cpu_seconds", "unet_evaluations", "peak_memory_mb")
DENOISING_STEPS = None  # the editor's own number: the paper's 20 for InstructPix2Pix


@dataclass(frozen=True)
class Schedule:
    """Which view is edited when, and from which noise level; all of it follows from the seed.

    noise: "uniform" draws every level from [0.02, 0.98] as the paper does; "falling" goes from the top of that range
    down with the rounds (Kim et al. 2024, "DreamCatalyst"), which agrees in far fewer edits.
    """

    views: int
    rounds: int
    edit_rate: int
    seed: int
    noise: str

    @property
    def edits(self) -> int:
        """How many dataset images are edited in all."""
        return self.views * self.rounds

    @property
    def steps(self) -> int:
        """NeRF steps: `edit_rate` for every edit, and those in which all of them settle."""
        return max(1, round(self.views * self.rounds * self.edit_rate / (1 - SETTLING)))

    def view(self, edit: int) -> int:
        """One random permutation of the views, cycled."""
        order = np.random.default_rng(np.random.SeedSequence([self.seed, 0])).permutation(self.views)
        return int(order[edit % self.views])

    def noise_level(self, edit: int) -> float:
        if self.noise == "uniform":
            return self.uniform_level(edit)
        low, high = NOISE_LEVELS
        # Round by round from the top to the bottom of the range, spread within the round so that no two are alike.
        position = (edit // self.views + self._drawn(edit)) / max(self.rounds, 1)
        return high - (high - low) * FALL * position

    def uniform_level(self, number: int) -> float:
        low, high = NOISE_LEVELS
        return low + (high - low) * self._drawn(number)

    def _drawn(self, number: int) -> float:
        """Uniform in [0, 1)."""
        return np.random.default_rng(np.random.SeedSequence([self.seed, 1, number])).random()


def edit(request: Edit, report: Reporter, method: type[DatasetUpdate] | None = None) -> dict:
    """Edit the workspace's reconstruction by an instruction, from the edit's checkpoint if there is one.

    With a parent, its scene and its edited photos take the place of the reconstruction and the original photos.
    method: `DatasetUpdate`, or one of the methods that it is measured against (`baselines`).
    Returns edits/<name>/state.json: rounds, unet_evaluations, seconds, cpu_seconds, peak_memory_mb, editor,
    instruction, device. Raises In2nError, Cancelled (after saving).
    """
    method = method or DatasetUpdate
    request.check()
    workspace, device = Workspace(request.workspace), pick_device(request.device)
    folder = workspace.edit(request.name)
    reconstruction = read_checkpoint(workspace.reconstruction)
    if reconstruction is None or not reconstruction[1]["done"]:
        raise In2nError(
            "not_trained",
            f"The capture in {workspace.root} has not been reconstructed to the end.",
            "Run the reconstruction first.",
        )
    editor = load_editor(request.editor, device, report)
    editor.prepare(request.instruction)
    capture, images = load_capture_and_images(workspace)
    settings = replace(
        NerfSettings(**reconstruction[1]["settings"]), **_editing_sizes(settings_for(request.preset, device.type))
    )
    if request.perceptual != "auto":
        settings = replace(settings, perceptual=request.perceptual)
    parent = _parent(request, workspace, reconstruction[1])
    schedule = method.Schedule(
        len(images), request.rounds or settings.edit_rounds, settings.edit_rate, request.seed, request.noise_schedule
    )
    record = _record(request, editor, reconstruction[1], schedule, method)
    found = _resumable(folder, record, request.restart)
    if found and found[1]["done"]:
        return found[1]

    dataset = training_rays(capture, images, device)
    if parent:
        dataset.colors.copy_(parent[0]["dataset"])
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
    if found:
        trainer.restore(*found)
        dataset.colors.copy_(found[0]["dataset"])
        state.update({key: found[1][key] for key in (*COSTS, "edits_done")})
    else:
        model.load_state_dict(model_weights((parent or reconstruction)[0]))
        write_json(folder / "edit.json", record)
    del reconstruction, parent, found
    scene = Scene(model, transform, capture, device, dataset.has_alpha)
    method(request, report, folder, editor, schedule, trainer, scene, images, state).run()
    return state


class DatasetUpdate:
    """The loop, and what it saves. The methods that it is measured against (`baselines`) replace `before_step` or
    `step`."""

    name = "iterative"
    Schedule = Schedule

    def __init__(
        self,
        request: Edit,
        report: Reporter,
        folder: Path,
        editor: Editor,
        schedule: Schedule,
        trainer: Trainer,
        scene: Scene,
        images: list[np.ndarray],
        state: dict,
    ):
        self.request, self.report, self.folder, self.editor = request, report, folder, editor
        self.schedule, self.trainer, self.scene, self.images, self.state = schedule, trainer, scene, images, state
        self.originals: dict[int, OriginalLatent] = {}
        self.cost, self.before = CostMeter(trainer.dataset.device), {key: state[key] for key in COSTS}

    def run(self) -> None:
        """Edit and train to the end of the schedule. Raises Cancelled after saving; nothing of a half-done edit is
        kept."""
        saver = Saver(self.save)
        with self.cost:
            try:
                while self.trainer.step_count < self.schedule.steps:
                    self.report_progress()
                    # An edit comes before the NeRF step, so that no training graph is alive beside the diffusion
                    # network.
                    self.before_step()
                    self.step()
                    saver.maybe()
            except Cancelled:
                saver.now()
                raise
            self.state["done"] = True
            self.save()
        self.report.artifact("checkpoint", self.folder / "checkpoint.safetensors")

    def before_step(self) -> None:
        if self.trainer.step_count // self.schedule.edit_rate >= self.state["edits_done"] < self.schedule.edits:
            self.edit_next_view()

    def step(self) -> None:
        self.trainer.step()

    @torch.no_grad()
    def edit_next_view(self) -> None:
        number = self.state["edits_done"]
        view, edit_round = self.schedule.view(number), number // self.schedule.views
        camera = self.trainer.dataset.cameras[view]
        render = self.scene.render(camera, self.report).rgb_srgb.permute(2, 0, 1)[None]
        edited = self.editor.edit(
            render,
            self.original(view),
            noise_level=self.schedule.noise_level(number),
            generators=[noise_generator(self.schedule.seed, view, edit_round)],
            steps=DENOISING_STEPS,
            guidance_text=self.request.guidance_text,
            guidance_image=self.request.guidance_image,
            report=only_checks(self.report),
        )[0].permute(1, 2, 0)
        self.trainer.dataset.replace(view, edited)
        self.state["edits_done"] = number + 1
        name = self.scene.capture.training_views[view].name
        save_srgb(self.folder / "dataset" / f"{name}.png", edited.cpu())
        self.show(view, render[0].permute(1, 2, 0), edited.cpu())

    def show(self, view: int, *images: torch.Tensor) -> None:
        """Photo, render and edit side by side: what an artist wants to watch. images: (height, width, 3) each, of one
        size."""
        photo = resized(self.photo(view), images[0].shape[:2])
        save_srgb(self.folder / "preview.png", torch.cat([photo[0].permute(1, 2, 0), *images], 1))
        self.report.artifact("image", self.folder / "preview.png")

    def save(self) -> None:
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
        self.state.update(numbers)
        save_checkpoint(self.folder, tensors, self.state)

    def report_progress(self) -> None:
        self.report.progress(self.trainer.step_count, self.schedule.steps, "step", self.progress_message())

    def progress_message(self) -> str:
        done = self.state["edits_done"]
        if done >= self.schedule.edits:
            return "Settling"
        return f"Edit {done + 1} of {self.schedule.edits}, noise {self.schedule.noise_level(done):.2f}"

    def original(self, view: int) -> OriginalLatent:
        if view not in self.originals:
            self.originals[view] = self.editor.encode_original(self.photo(view).permute(2, 0, 1)[None]).to("cpu")
        return self.originals[view]

    def photo(self, view: int) -> torch.Tensor:
        """(height, width, 3) the original photo, over white where it has alpha."""
        return torch.from_numpy(opaque(self.images[view]))


def resized(photo: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(1, 3, *size) of a (height, width, 3) photo."""
    return torch.nn.functional.interpolate(photo.permute(2, 0, 1)[None], size=size, mode="bilinear", antialias=True)


def only_checks(report: Reporter) -> Reporter:
    """A reporter for the inside of one edit: cancels, but its many small steps are not the job's progress."""
    return Reporter(cancelled=report.is_cancelled)


def _editing_sizes(settings: NerfSettings) -> dict:
    names = ("edit_rounds", "edit_rate", "edit_learning_rate", "rays", "perceptual", "patches")
    return {name: getattr(settings, name) for name in names}


def _record(
    request: Edit, editor: Editor, reconstruction: dict, schedule: Schedule, method: type[DatasetUpdate]
) -> dict:
    """edit.json: everything that the result depends on."""
    choose = lambda given, default: default if given is None else given  # noqa: E731
    return {
        "name": request.name,
        "method": method.name,
        "instruction": request.instruction.strip(),
        "editor": editor.name,
        "seed": request.seed,
        "guidance_text": choose(request.guidance_text, editor.guidance_text),
        "guidance_image": choose(request.guidance_image, editor.guidance_image),
        "rounds": schedule.rounds,
        "noise_schedule": schedule.noise,
        "perceptual": request.perceptual,
        "preset": request.preset,
        "parent": request.parent,
        "reconstruction": _made_from(reconstruction),
        "region": None,
    }


def _parent(request: Edit, workspace: Workspace, reconstruction: dict):
    """The checkpoint of the edit to build on, None without one. Raises In2nError("no_parent",
    "other_reconstruction")."""
    if request.parent is None:
        return None
    found = read_checkpoint(workspace.edit(request.parent))
    if found is None or not found[1]["done"]:
        raise In2nError(
            "no_parent",
            f"The edit “{request.parent}” to build on is not there or not finished.",
            "Finish that edit first, or choose another.",
        )
    if found[1]["reconstruction"] != _made_from(reconstruction):
        raise In2nError(
            "other_reconstruction",
            f"The edit “{request.parent}” was made from an earlier reconstruction.",
            "Edit it again before you build on it.",
        )
    return found


def _made_from(reconstruction: dict) -> dict:
    return {key: reconstruction[key] for key in ("capture", "seed", "total_steps")}


def _resumable(folder: Path, record: dict, restart: bool):
    """The checkpoint to go on from. Raises In2nError("edit_exists") when the name belongs to another edit."""
    if restart or not (folder / "edit.json").is_file():
        return None
    if read_json(folder / "edit.json") != json.loads(json.dumps(record)):
        raise In2nError(
            "edit_exists",
            f"There already is an edit named “{record['name']}”, made with other settings.",
            "Choose another name, or restart the edit to replace it.",
        )
    return read_checkpoint(folder)
