"""Reconstructing a capture: the job that trains its NeRF, what it saves, and how good it is on the held-out views."""

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
from ...scene.errors import Cancelled
from ...scene.reporting import Reporter
from ...workspace.imported import load_capture
from ...workspace.layout import Workspace
from ..device import describe_device, pick_device
from ..measure import psnr
from ..photos import Photos, opaque
from ..pictures import save_srgb
from .checkpoint import Saver, read_checkpoint, save_checkpoint
from .dataset import SceneTransform, training_rays
from .scene import Scene, build_model
from .settings import NerfSettings, settings_for, with_options
from .training import Trainer


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
    capture = load_capture(workspace)
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
    dataset = training_rays(capture, images.reported(report), device)
    torch.manual_seed(seed)
    state = {
        "settings": settings.to_json(),
        "seed": seed,
        "transform": {"center": list(dataset.transform.center), "scale": dataset.transform.scale},
        "near": near_plane(capture, dataset.transform),
        "has_alpha": dataset.has_alpha,
        "device": describe_device(device),
        "seconds": 0.0,
        "done": False,
        "psnr_db": None,
    }
    model, transform = build_model(state)
    trainer = Trainer(model, dataset, seed, settings.steps, log=report.log)
    return trainer, Scene(model, transform, capture, device, dataset.has_alpha), state


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
