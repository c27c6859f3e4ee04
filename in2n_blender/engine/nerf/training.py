"""Training the NeRF, its checkpoints, and the scene that renders and meshes are made from."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ...link.requests import Reconstruct
from ...scene.camera import Camera
from ...scene.capture import PinholeCapture
from ...scene.errors import Cancelled, In2nError
from ...scene.reporting import Reporter
from ...workspace.layout import Workspace
from ..device import describe_device, pick_device
from ..measure import psnr
from ..photos import Photos, opaque
from ..pictures import save_srgb
from .checkpoint import Saver, model_weights, read_checkpoint, save_checkpoint
from .dataset import PixelBank, SceneTransform, training_bank
from .losses import perceptual_loss, ray_losses
from .rendering import NerfModel
from .scene import Scene, build_model
from .settings import NerfSettings, settings_for, with_options

PATCH_SIDE = 32
# The last part of an edit's steps: nothing is edited any more and the learning rate falls, so that the noise of its
# steps dies down.
SETTLING = 0.2
PER_VIEW = ("field.appearance", "refinement.raw")


class Trainer:
    """Trains a model on a bank of pixels; everything that the next step depends on is in `save` and `load`.

    loss: "mse" while reconstructing, "l1" (with LPIPS patches where set) while editing.
    """

    def __init__(
        self,
        model: NerfModel,
        bank: PixelBank,
        seed: int,
        total_steps: int,
        loss: str = "mse",
        learning_rate: float = 1.0,
        log=print,
    ):
        self.model, self.bank, self.settings = model.to(bank.device), bank, model.settings
        bank.refinement = model.refinement
        self.loss, self.learning_rate, self.total_steps, self.step_count = loss, learning_rate, total_steps, 0
        self.generator = torch.Generator(bank.device).manual_seed(seed)
        grids = [p for n, p in model.named_parameters() if n.endswith("table")]
        mlps = [p for n, p in model.named_parameters() if not n.endswith("table") and n not in PER_VIEW]
        groups = [
            {"params": grids, "lr": self.settings.learning_rate_grid * learning_rate},
            {"params": mlps, "lr": self.settings.learning_rate_mlp * learning_rate},
        ]
        groups += self._groups_of_views()
        self.fused = bank.device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15, fused=self.fused)
        self._base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.perceptual = None
        if loss == "l1":
            self.perceptual = perceptual_loss(self.settings.perceptual, log)
            if self.perceptual is not None:
                self.perceptual.to(bank.device)

    def _groups_of_views(self) -> list[dict]:
        """What each view has of its own is learnt while reconstructing; editing keeps the poses and sees the mean
        appearance."""
        rates = {
            "field.appearance": self.settings.learning_rate_appearance,
            "refinement.raw": self.settings.learning_rate_cameras,
        }
        found = {name: parameter for name, parameter in self.model.named_parameters() if name in PER_VIEW}
        for parameter in found.values():
            parameter.requires_grad_(self.loss == "mse")
        return [{"params": [p], "lr": rates[name] * self.learning_rate} for name, p in found.items() if p.requires_grad]

    def step(self) -> float:
        """One optimiser step; returns the photometric loss."""
        self._set_learning_rate()
        patches = self._patch_pixels()
        pixels = torch.cat(
            [patches, self.bank.sample(max(self.settings.rays - len(patches), self.settings.rays // 2), self.generator)]
        )
        rays = self.bank.rays(pixels)
        if self.loss != "mse":
            rays.views = None
        rendered = self.model(rays, self.generator, self._anneal())
        color, target = self._compared(rendered, self.bank.targets(pixels))
        photometric = (color - target).abs().mean() if self.loss == "l1" else ((color - target) ** 2).mean()
        loss = photometric
        if len(patches):
            as_images = lambda c: c[: len(patches)].view(-1, PATCH_SIDE, PATCH_SIDE, 3).permute(0, 3, 1, 2)  # noqa: E731
            loss = loss + self.perceptual(as_images(color), as_images(target))
        self.descend(loss + self.regularisers(rendered))
        return float(photometric.detach())

    def regularisers(self, rendered) -> torch.Tensor:
        """The proposal's loss and the weighted penalties on the rays' weights, a scalar."""
        interlevel, distortion, nearness = ray_losses(
            rendered.edges, rendered.weights, rendered.proposal_edges, rendered.proposal_weights
        )
        return interlevel + self.settings.distortion * distortion + self.settings.nearness * nearness

    def descend(self, loss: torch.Tensor) -> None:
        """One optimiser step down `loss`, counted."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.step_count += 1

    def _patch_pixels(self) -> torch.Tensor:
        if self.perceptual is None:
            return torch.empty(0, dtype=torch.long, device=self.bank.device)
        return self.bank.sample_patches(self.settings.patches, PATCH_SIDE, self.generator)

    def _compared(self, rendered, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Rendered and target colours over the same background: random where photos have alpha, else the last
        sample's."""
        missing = (1 - rendered.alpha)[:, None]
        if not self.bank.has_alpha:
            return rendered.color + missing * rendered.last_color, target
        background = torch.rand(target[:, :3].shape, generator=self.generator, device=target.device)
        alpha = target[:, 3:]
        return rendered.color + missing * background, target[:, :3] * alpha + background * (1 - alpha)

    def _anneal(self) -> float:
        if self.loss != "mse":
            return 1.0
        done = min(1.0, self.step_count / (0.1 * self.total_steps + 1))
        return 10 * done / (9 * done + 1)

    def _set_learning_rate(self) -> None:
        if self.loss == "mse":
            done = min(1.0, self.step_count / max(self.total_steps, 1))
            factor = min(1.0, (self.step_count + 1) / 50) * self.settings.learning_rate_decay**done
        else:
            settling = max(0.0, self.step_count / max(self.total_steps, 1) - (1 - SETTLING)) / SETTLING
            factor = self.settings.learning_rate_decay ** min(1.0, settling)
        for group, base in zip(self.optimizer.param_groups, self._base_rates):
            group["lr"] = base * factor

    def state(self) -> tuple[dict[str, torch.Tensor], dict]:
        """Tensors (model, optimiser moments, random state) and numbers, from which `restore` goes on exactly."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for index, parameter in enumerate(self._parameters()):
            for name, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
        tensors["generator"] = self.generator.get_state()
        return {k: v.detach().cpu().contiguous() for k, v in tensors.items()}, {
            "step": self.step_count,
            "total_steps": self.total_steps,
        }

    def restore(self, tensors: dict[str, torch.Tensor], numbers: dict) -> None:
        self.model.load_state_dict(model_weights(tensors))
        for index, parameter in enumerate(self._parameters()):
            prefix = f"optimizer.{index}."
            found = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
            if found:
                # As torch's own load_state_dict: a step counter is on the device only where Adam is fused.
                place = lambda name: "cpu" if name == "step" and not self.fused else parameter.device  # noqa: E731
                self.optimizer.state[parameter] = {name: value.to(place(name)).clone() for name, value in found.items()}
        self.generator.set_state(tensors["generator"])
        self.step_count = int(numbers["step"])

    def _parameters(self):
        return [p for group in self.optimizer.param_groups for p in group["params"]]


def near_plane(capture: PinholeCapture, transform: SceneTransform) -> float:
    """Half the depth of the nearest sparse point that a view sees (2nd percentile), else nerfacto's 0.05; normalised
    units."""
    if len(capture.points) < 100:
        return 0.05
    points = np.concatenate([capture.points, np.ones((len(capture.points), 1))], -1)
    depths = []
    for view in capture.training_views:
        local = points @ np.linalg.inv(view.camera.camera_to_world).T
        k = view.camera.intrinsics
        depth = -local[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            x, y = k.cx + k.fx * local[:, 0] / depth, k.cy - k.fy * local[:, 1] / depth
        depths.append(depth[(depth > 0) & (x > 0) & (x < k.width) & (y > 0) & (y < k.height)])
    depths = np.concatenate(depths)
    return float(np.clip(0.5 * np.percentile(depths, 2) * transform.scale, 0.01, 0.4)) if len(depths) else 0.05


def load_capture_and_images(workspace: Workspace) -> tuple[PinholeCapture, Photos]:
    """The normalised capture and its training views' images, read when they are asked for. Raises
    In2nError("no_capture")."""
    if not workspace.capture_json.is_file():
        raise In2nError(
            "no_capture", f"There is no capture in {workspace.root}.", "Import a capture into this workspace first."
        )
    capture = PinholeCapture.load(workspace.capture_json)
    return capture, Photos(workspace, capture.training_views)


def reconstruct(request: Reconstruct, report: Reporter) -> dict:
    """Train the NeRF of a workspace's capture, from its checkpoint if there is one.

    Returns state.json: psnr_db on the held-out views (None without any), seconds, steps, device, settings.
    Raises In2nError, Cancelled (after saving).
    """
    workspace, device = Workspace(request.workspace), pick_device(request.device)
    capture, images = load_capture_and_images(workspace)
    settings = with_options(
        settings_for(request.preset, device.type), request.appearance, request.refine_cameras, len(images)
    )
    if request.steps:
        settings = replace(settings, steps=request.steps)
    folder = workspace.reconstruction
    identity = {"settings": settings.to_json(), "seed": request.seed, "capture": capture_fingerprint(capture)}
    found = None if request.restart else read_checkpoint(folder)
    if found and not _belongs(found[1], identity):
        report.log("The settings or the capture changed: the reconstruction starts anew.")
        found = None
    if found and found[1]["done"]:
        return found[1]

    trainer, scene, state = start(capture, images, settings, request.seed, device, report)
    state.update(identity, preset=request.preset)
    if found:
        trainer.restore(*found)
        state["seconds"] = found[1]["seconds"]
    _train(trainer, scene, folder, state, report)
    return state


def _belongs(state: dict, identity: dict) -> bool:
    """Whether a checkpoint's state is of this identity; settings that came later were at their defaults then."""
    try:
        settings = NerfSettings(**state["settings"]).to_json()
    except (KeyError, TypeError):
        return False
    return {**{key: state.get(key) for key in identity}, "settings": settings} == identity


def start(
    capture: PinholeCapture, images: Photos, settings: NerfSettings, seed: int, device: torch.device, report: Reporter
) -> tuple[Trainer, Scene, dict]:
    """An untrained reconstruction: its trainer, the scene that it trains, and the state that goes with its
    checkpoints."""
    bank = training_bank(capture, images.reported(report), device)
    torch.manual_seed(seed)
    state = {
        "settings": settings.to_json(),
        "seed": seed,
        "transform": {"center": list(bank.transform.center), "scale": bank.transform.scale},
        "near": near_plane(capture, bank.transform),
        "has_alpha": bank.has_alpha,
        "device": describe_device(device),
        "seconds": 0.0,
        "done": False,
        "psnr_db": None,
    }
    model, transform = build_model(state)
    trainer = Trainer(model, bank, seed, settings.steps, log=report.log)
    return trainer, Scene(model, transform, capture, device, bank.has_alpha), state


def _train(trainer: Trainer, scene: Scene, folder: Path, state: dict, report: Reporter) -> None:
    started, before = time.monotonic(), state["seconds"]

    def save():
        state["seconds"] = round(before + time.monotonic() - started, 2)
        tensors, numbers = trainer.state()
        save_checkpoint(folder, tensors, {**state, **numbers})

    saver, preview = Saver(save), Saver(lambda: _preview(scene, folder, report), seconds=15)
    try:
        for _ in range(trainer.step_count, trainer.total_steps):
            report.progress(trainer.step_count, trainer.total_steps, "step", "Reconstructing")
            trainer.step()
            saver.maybe()
            preview.maybe()
        report.progress(trainer.total_steps, trainer.total_steps, "step", "Measuring the held-out views")
        state["seconds"] = round(before + time.monotonic() - started, 2)
        state["psnr_db"] = held_out_psnr(scene, folder.parent, report)
    except Cancelled:
        saver.now()
        raise
    _preview(scene, folder, report)
    state["done"] = True
    tensors, numbers = trainer.state()
    state.update(numbers)
    save_checkpoint(folder, {k: v for k, v in tensors.items() if k.startswith("model.")}, state)
    report.artifact("checkpoint", folder / "checkpoint.safetensors")


def held_out_psnr(scene: Scene, workspace_root: Path, report: Reporter) -> float | None:
    """Mean PSNR over the held-out views in dB; captures with alpha are compared over white."""
    views = scene.capture.held_out_views
    if not views:
        return None
    values = []
    for view, image in zip(views, Photos(Workspace(workspace_root), views)):
        values.append(psnr(scene.render(view.camera, report).rgb_srgb, opaque(image)))
    return round(float(np.mean(values)), 3)


def _preview(scene: Scene, folder: Path, report: Reporter) -> None:
    view = (scene.capture.held_out_views or scene.capture.views)[0]
    k = view.camera.intrinsics
    shrink = min(1.0, 192 / max(k.width, k.height))
    camera = Camera(
        k.scaled_to(max(1, round(k.width * shrink)), max(1, round(k.height * shrink))), view.camera.camera_to_world
    )
    save_srgb(folder / "preview.png", scene.render(camera, report).rgb_srgb)
    report.artifact("image", folder / "preview.png")


def capture_fingerprint(capture: PinholeCapture) -> str:
    """Changes when the views' cameras, images' names or split change."""
    text = json.dumps([(v.name, v.image, v.held_out, v.camera.to_json()) for v in capture.views])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
