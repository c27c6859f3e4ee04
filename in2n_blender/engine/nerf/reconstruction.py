"""Reconstructing a capture: the job that trains its NeRF, what it saves, and how good it is on the held-out views."""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ...link.requests import Reconstruct
from ...scene.capture import PinholeCapture
from ...scene.errors import In2nError
from ...scene.parallax import in_one_place
from ...scene.reporting import Reporter
from ...scene.visibility import in_picture
from ...workspace.imported import load_capture
from ...workspace.layout import Workspace
from ...workspace.provenance import PHOTOS, Provenance, photos_hash
from ...workspace.successor import Successor, settle
from ..device import describe_device, scene_device
from ..measure import psnr, psnr_after_color_fit
from ..photos import Photos, opaque
from ..pictures import save_srgb
from .checkpoint import Saver, diverged, read_checkpoint, save_checkpoint, settle_state, weights_hash
from .dataset import SceneTransform, training_rays
from .scene import Scene, build_model
from .settings import NerfSettings, kinds_for, settings_for, with_options
from .sightings import find_sightings
from .training import Trainer
from .unevenness import importance_of, measured_light


def near_plane(capture: PinholeCapture, transform: SceneTransform) -> float:
    """Where rays begin: half the depth of the nearest sparse points that the training views see.

    The nearest are at the 2nd percentile of the depths. Nerfacto's 0.05 where the capture has fewer than 100 points, or
    none is seen.

    Args:
        capture: Its sparse points and training views.
        transform: To normalised scene units.

    Returns:
        A distance in normalised scene units, in [0.01, 0.4].
    """
    if len(capture.points) < 100:
        return 0.05
    depths = np.concatenate([in_picture(view.camera, capture.points)[2] for view in capture.training_views])
    return float(np.clip(0.5 * np.percentile(depths, 2) * transform.scale, 0.01, 0.4)) if len(depths) else 0.05


def load_capture_and_images(workspace: Workspace, light: dict | None = None) -> tuple[PinholeCapture, Photos]:
    """The normalised capture, and its training views' images, read when they are asked for.

    Args:
        workspace: Where the capture was imported.
        light: Of a reconstruction's state: what its photos were evened by.

    Returns:
        The capture, and the images of `capture.training_views` in their order.

    Raises:
        In2nError: "no_capture", "bad_capture", "cannot_write".
    """
    capture = load_capture(workspace)
    return capture, Photos(workspace, capture.training_views, light)


def reconstruct(request: Reconstruct, report: Reporter) -> dict:
    """Train the NeRF of a workspace's capture, from its checkpoint if there is one of the same provenance.

    A reconstruction of other photos or settings stays where it is until the new one first saves; then it is kept as
    earlier/reconstruction-<n>/, or, with `restart`, until the new one is done (see `workspace.successor`).

    Args:
        request: The workspace and the settings.
        report: Told of every step, with pictures in between, and asked whether the job was cancelled.

    Returns:
        state.json: psnr_db on the held-out views (None without any), seconds, steps, device, settings, provenance.

    Raises:
        In2nError: "no_capture", "no_parallax", "diverged" and others; what was trained is saved.
        Cancelled: After saving.
    """
    workspace, device = Workspace(request.workspace), scene_device(request.device, report.log)
    capture = load_capture(workspace)
    _check_parallax(capture)
    settle(workspace, workspace.reconstruction)
    found = None if request.restart else read_checkpoint(workspace.reconstruction)
    settings, wanted, last_versions, reason = _wanted(request, workspace, capture, device, found)
    if found and reason:
        report.log(f"{reason} The reconstruction starts anew; the earlier one is kept in the folder “earlier”.")
        found = None
    if found and found[1]["done"]:
        settle_state(workspace.reconstruction, found[1])
        Successor(workspace, workspace.reconstruction, anew=False, keep=not request.restart).done()
        return found[1]

    light = found[1].get("light", {}) if found else measured_light(workspace, capture, report)
    images = Photos(workspace, capture.training_views, light)
    trainer, scene, state = start(capture, images, settings, request.seed, device, report)
    state["light"] = light
    importance = importance_of(workspace, capture.training_views, report)
    if importance is not None:
        trainer.dataset.importance = torch.from_numpy(importance).to(device)
    state.update(last_versions, preset=request.preset, provenance=wanted.to_json())
    if found:
        trainer.restore(*found)
        state["seconds"] = found[1]["seconds"]
    successor = Successor(workspace, workspace.reconstruction, anew=found is None, keep=not request.restart)
    _train(trainer, scene, workspace, successor, state, report)
    return state


def _wanted(
    request: Reconstruct,
    workspace: Workspace,
    capture: PinholeCapture,
    device: torch.device,
    found: tuple[dict, dict] | None,
) -> tuple[NerfSettings, Provenance, dict, str | None]:
    """The settings of a request, what it makes, in two ways, and why a checkpoint is not of it: None where it is.

    What was begun on another kind of device, such as a GPU whose memory ended, has that one's sizes and goes on with
    them. Only what a CPU has made to the end is made anew, and larger, where there is a GPU now.
    """
    kinds = kinds_for(device.type)
    if not found or (device.type == "cuda" and found[1]["done"]):
        kinds = kinds[:1]
    inputs = {PHOTOS: photos_hash(workspace)}
    for kind in kinds:
        settings = with_options(
            settings_for(request.preset, kind), request.appearance, request.refine_cameras, len(capture.training_views)
        )
        if request.steps:
            settings = replace(settings, steps=request.steps)
        wanted = Provenance("reconstruction", {"nerf": settings.to_json(), "seed": request.seed}, inputs)
        last_versions = {"settings": settings.to_json(), "seed": request.seed, "capture": capture_fingerprint(capture)}
        reason = _why_not(found[1], wanted, last_versions) if found else None
        if kind == kinds[0]:
            of_this_kind = settings, wanted, last_versions, reason
        if reason is None:
            return settings, wanted, last_versions, None
    return of_this_kind


def _check_parallax(capture: PinholeCapture) -> None:
    if in_one_place(np.array([view.camera.position for view in capture.views]), capture.points):
        raise In2nError(
            "no_parallax",
            "All cameras of this capture stand in one place, so its photos do not tell how far away anything is.",
            "Take photos from different places; views cut from one panorama cannot be reconstructed.",
        )


def _why_not(state: dict, wanted: Provenance, last_versions: dict) -> str | None:
    """Why a checkpoint is not of this provenance, in one sentence; None where it is.

    Settings that came later were at their defaults then. A state of the last version has no provenance: what it said
    of itself, without the photos' pixels, is compared instead.
    """
    made = Provenance.from_json(state.get("provenance"))
    try:
        settings = NerfSettings(**(made.settings["nerf"] if made else state["settings"])).to_json()
    except (KeyError, TypeError):
        return "Made with other settings."
    if made:
        return wanted.why_not(replace(made, settings={**made.settings, "nerf": settings}))
    same = {**{key: state.get(key) for key in last_versions}, "settings": settings} == last_versions
    return None if same else "The settings or the capture changed."


def start(
    capture: PinholeCapture, images: Photos, settings: NerfSettings, seed: int, device: torch.device, report: Reporter
) -> tuple[Trainer, Scene, dict]:
    """An untrained reconstruction.

    Args:
        capture: Normalised.
        images: Of its training views.
        settings: The NeRF's sizes, and how it is trained.
        seed: Of the first weights, the pixels, the jitter and the backgrounds.
        device: What it trains on.
        report: Told of every photo that is read, and asked whether the job was cancelled.

    Returns:
        Its trainer, the scene that it trains, and the state that goes with its checkpoints.

    Raises:
        In2nError: "bad_capture" where the cameras lie too far apart for float32, "all_masked", "missing_file",
            "bad_image".
        Cancelled.
    """
    scale = SceneTransform.of([view.camera for view in capture.views]).scale
    if not np.finfo(np.float32).tiny <= scale <= np.finfo(np.float32).max:
        raise In2nError(
            "bad_capture",
            "The capture's cameras lie too far apart to be computed with.",
            "Check their positions: one of them is probably wrong.",
        )
    dataset = training_rays(capture, images.reported(report), device, images.masks())
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
        "light": {},
    }
    model, transform = build_model(state)
    sightings = find_sightings(capture, dataset)
    trainer = Trainer(model, dataset, seed, settings.steps, log=report.log, sightings=sightings)
    return trainer, Scene(model, transform, capture, device, dataset.has_alpha), state


def _train(
    trainer: Trainer, scene: Scene, workspace: Workspace, successor: Successor, state: dict, report: Reporter
) -> None:
    """Train to the end, saving on the way and whatever ends it."""
    started, before = time.monotonic(), state["seconds"]

    def save() -> None:
        if trainer.step_count == 0:  # nothing that would be worth an earlier reconstruction
            return
        state["seconds"] = round(before + time.monotonic() - started, 2)
        tensors, numbers = trainer.state()
        state.update(numbers, weights=weights_hash(tensors))
        if state["done"]:
            tensors = {name: value for name, value in tensors.items() if name.startswith("model.")}
        save_checkpoint(successor.folder, tensors, state)
        successor.saved()

    def show() -> None:
        if _preview(scene, successor.folder, report):
            report.artifact("image", successor.folder / "preview.png", _shown_view(scene).name)

    preview = Saver(show, seconds=15)
    with Saver(save) as saver:
        while trainer.step_count < trainer.total_steps:
            report.progress(trainer.step_count, trainer.total_steps, "step", "Reconstructing")
            trainer.step()
            saver.maybe()
            preview.maybe()
        report.progress(trainer.total_steps, trainer.total_steps, "step", "Measuring the held-out views")
        state["color_fit"] = bool(state["light"]) or bool(trainer.settings.appearance)
        state["psnr_db"] = held_out_psnr(scene, workspace, report, state["color_fit"])
    state["done"] = True
    drawn = _preview(scene, successor.folder, report)  # before the save, after which nothing is made up for any more
    save()
    successor.done()
    if drawn:
        report.artifact("image", successor.folder / "preview.png", _shown_view(scene).name)
    report.artifact("checkpoint", successor.folder / "checkpoint.safetensors")


def held_out_psnr(scene: Scene, workspace: Workspace, report: Reporter, color_fit: bool = False) -> float | None:
    """Mean PSNR over the held-out views, of what no mask covers; captures with alpha are compared over white.

    Args:
        scene: The trained scene.
        workspace: Where its photos are.
        report: Asked whether the job was cancelled.
        color_fit: Photos differ in exposure, and that of a held-out one is unknown: see `psnr_after_color_fit`.

    Returns:
        dB; None where there are no held-out views, or where every pixel of one is the photo's.

    Raises:
        In2nError: "diverged" where the renders hold numbers that are none, "missing_file", "bad_image", "bad_capture".
        Cancelled.
    """
    views = scene.capture.held_out_views
    if not views:
        return None
    values = []
    photos = Photos(workspace, views)
    for view, image, mask in zip(views, photos, photos.masks(), strict=True):
        if mask is None or mask.any():
            counts = np.ones(image.shape[:2], bool) if mask is None else mask
            rendered = scene.render(view.camera, report).rgb_srgb
            truth = opaque(image)
            if color_fit:
                values.append(psnr_after_color_fit(rendered.numpy(), truth, counts))
            else:
                values.append(psnr(rendered[torch.from_numpy(counts)], truth[counts]))
    if not values:
        return None
    mean = float(np.mean(values))
    if math.isnan(mean):
        raise diverged()
    return round(mean, 3) if math.isfinite(mean) else None


def _shown_view(scene: Scene):
    """The view that preview.png shows: one that is not trained on, where there is one."""
    return (scene.capture.held_out_views or scene.capture.views)[0]


def _preview(scene: Scene, folder: Path, report: Reporter) -> bool:
    """A small picture of the scene in preview.png; whether there was place for it."""
    view = _shown_view(scene)
    k = view.camera.intrinsics
    shrink = min(1.0, 192 / max(k.width, k.height))
    camera = view.camera.scaled_to(max(1, round(k.width * shrink)), max(1, round(k.height * shrink)))
    try:
        save_srgb(folder / "preview.png", scene.render(camera, report).rgb_srgb)
    except In2nError as error:  # a picture is not worth a reconstruction
        report.log(error.message)
        return False
    return True


def capture_fingerprint(capture: PinholeCapture) -> str:
    """How the last version knew its captures: it changes with the views' cameras, names, images' names or split.

    Args:
        capture: Normalised.

    Returns:
        16 hexadecimal digits.
    """
    text = json.dumps([(v.name, v.image, v.held_out, v.camera.to_json()) for v in capture.views])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
