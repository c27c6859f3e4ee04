"""What `gpu` measures of the scene: training, rendering, memory, a mesh."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from in2n_blender.engine.jobs import import_capture
from in2n_blender.engine.measure import psnr
from in2n_blender.engine.nerf.checkpoint import save_checkpoint, weights_hash
from in2n_blender.engine.nerf.dataset import RayDataset, SceneTransform, camera_bundle
from in2n_blender.engine.nerf.ray_marching import march
from in2n_blender.engine.nerf.reconstruction import held_out_psnr, load_capture_and_images, start
from in2n_blender.engine.nerf.rendering import NerfModel
from in2n_blender.engine.nerf.scene import Scene, load_scene
from in2n_blender.engine.nerf.settings import CPU, GPU, NerfSettings
from in2n_blender.engine.nerf.training import Trainer
from in2n_blender.engine.output.mesh import extract_mesh
from in2n_blender.link.requests import ExtractMesh, ImportCapture
from in2n_blender.scene.camera import Camera
from in2n_blender.scene.reporting import Reporter
from in2n_blender.workspace.layout import Workspace
from tests.benchmarks.gpu_parts import DEMO, Measuring, free, seconds_of, synchronised
from tests.engine.ball import TINY, ring, sphere_image

MB = 1e6
FRAME = 960, 540
PROFILED = 3  # steps
TOP = 12  # kernels by time


def presets(device: torch.device) -> dict[str, NerfSettings]:
    """The presets of a device's kind.

    Args:
        device: which.
    """
    return GPU if device.type == "cuda" else CPU


def small_trainer(device: torch.device) -> tuple[Trainer, Scene, Camera]:
    """A tiny trainer of painted pictures, to compile all kernels with.

    Args:
        device: what it computes on.

    Returns:
        The trainer, its scene and a camera.
    """
    cameras = ring(3)
    dataset = RayDataset(cameras, [sphere_image(camera) for camera in cameras], SceneTransform.of(cameras), device)
    settings = replace(presets(device)["standard"], rays=256, log2_table=12) if device.type == "cuda" else TINY
    trainer = Trainer(NerfModel(settings), dataset, 0, 100)
    return trainer, Scene(trainer.model, dataset.transform, None, device, False), cameras[0]


def imported(m: Measuring, source: Path, preset: str) -> Workspace:
    """A capture in a workspace of its own; one that is there is taken as it is.

    Args:
        m: where it goes.
        source: the capture.
        preset: of its photos' size.

    Returns:
        The workspace.
    """
    workspace = Workspace(m.work / f"{source.name}-{preset}.in2n")
    if not workspace.capture_json.exists():
        import_capture(ImportCapture(workspace=str(workspace.root), source=str(source), preset=preset), Reporter())
    return workspace


def peak_mb(device: torch.device) -> int | None:
    """The most that torch had allocated since the last question; None but on CUDA.

    Args:
        device: which.
    """
    if device.type != "cuda":
        return None
    peak = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return round(peak / MB)


def training(m: Measuring) -> None:
    """Rays, launches and milliseconds a step, memory by part, and PSNR against seconds on the bundled capture.

    Args:
        m: leaves a trained scene for `rendering` in its folder for work.
    """
    preset = "draft" if m.tiny else "standard"
    workspace = imported(m, DEMO, preset)
    settings = replace(presets(m.device)[preset], rays=128) if m.tiny else presets(m.device)[preset]
    peak_mb(m.device)
    trainer, scene, state = _begun(workspace, settings, m.device)
    m.note(preset=preset, rays=settings.rays, photos_and_model_mb=peak_mb(m.device))
    trainer.step()
    m.note(first_steps_mb=peak_mb(m.device))
    few = 3 if m.tiny else 200
    for _ in range(2 if m.tiny else 30):
        trainer.step()
    step = seconds_of(m.device, trainer.step, few)
    m.note(step_ms=round(1000 * step, 3), rays_a_second=round(settings.rays / step), step_mb=peak_mb(m.device))
    m.attempt("profile", _profile, trainer, m.device)
    del trainer, scene, state
    free(m.device)

    budgets = (0.5,) if m.tiny else (10.0, 5.0, 30.0)
    for budget in budgets:
        if m.left < 2.5 * budget + 8:
            continue
        m.attempt(f"psnr_after_{budget:g}_s", _psnr_after, m, workspace, settings, budget, step, "demo")
        free(m.device)
    if not m.tiny:
        m.attempt("other_presets", _other_presets, m, workspace)
        m.attempt("variants", _variants, m, workspace, settings)


def other_capture(m: Measuring) -> None:
    """PSNR against seconds on a capture of the user's.

    Args:
        m: with the capture.
    """
    preset = "draft" if m.tiny else "standard"
    workspace = imported(m, Path(m.capture).absolute(), preset)
    settings = replace(presets(m.device)[preset], rays=128) if m.tiny else presets(m.device)[preset]
    trainer, scene, state = _begun(workspace, settings, m.device)
    for _ in range(3 if m.tiny else 30):
        trainer.step()
    step = seconds_of(m.device, trainer.step, 3 if m.tiny else 100)
    m.note(step_ms=round(1000 * step, 3), rays_a_second=round(settings.rays / step), views=len(trainer.dataset))
    del trainer, scene, state
    free(m.device)
    for budget in (0.5,) if m.tiny else (15.0, 30.0):
        if m.left > 2 * budget:
            m.attempt(f"psnr_after_{budget:g}_s", _psnr_after, m, workspace, settings, budget, step, None)


def _begun(workspace: Workspace, settings: NerfSettings, device: torch.device) -> tuple[Trainer, Scene, dict]:
    capture, images = load_capture_and_images(workspace)
    return start(capture, images, settings, 0, device, Reporter())


def _psnr_after(
    m: Measuring, workspace: Workspace, settings: NerfSettings, budget: float, step: float, kept: str | None
) -> dict:
    """A whole training of as many steps as a time allows, for the learning rates fall with the steps.

    The steps' number is that of the time at the speed that was measured; what it really took is told beside it.
    """
    steps = max(2, round(budget / step))
    trainer, scene, state = _begun(workspace, replace(settings, steps=steps), m.device)
    trainer.step()  # what is allocated once
    began = synchronised(m.device)
    while trainer.step_count < steps:
        trainer.step()
    seconds = synchronised(m.device) - began
    found = {"steps": steps, "seconds": round(seconds, 2), "db": held_out_psnr(scene, workspace, Reporter())}
    if kept:
        tensors, numbers = trainer.state()
        tensors = {name: value for name, value in tensors.items() if name.startswith("model.")}
        state.update(numbers, weights=weights_hash(tensors), done=True)
        save_checkpoint(workspace.reconstruction, tensors, state)
    return found


def _profile(trainer: Trainer, device: torch.device) -> dict:
    """Launches, synchronisations and torch's operations of a step, and which kernels take the time."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    with profile(activities=activities) as profiled:
        for _ in range(PROFILED):
            trainer.step()
        synchronised(device)
    calls, on_device, kernels = Counter(), Counter(), 0
    for event in profiled.events():
        calls[event.name] += 1
        if str(event.device_type).endswith("CUDA"):
            on_device[event.name] += event.time_range.elapsed_us()
            kernels += not event.name.startswith(("Memcpy", "Memset"))
    a_step = lambda *names: round(sum(n for name, n in calls.items() if any(w in name for w in names)) / PROFILED, 1)
    return {
        "operations": a_step("aten::"),
        "launches_of_torch": a_step("cudaLaunchKernel"),
        "kernels": round(kernels / PROFILED, 1),
        "synchronisations": a_step("cudaStreamSynchronize", "cudaDeviceSynchronize", "aten::_local_scalar_dense"),
        "copies": a_step("cudaMemcpyAsync"),
        "kernels_ms": {name[:90]: round(us / 1000 / PROFILED, 3) for name, us in on_device.most_common(TOP)},
        "kernels_ms_all": round(sum(on_device.values()) / 1000 / PROFILED, 3),
    }


def _other_presets(m: Measuring, workspace: Workspace) -> dict:
    """Milliseconds and peak memory of a step, of each preset and while editing."""
    found = {}
    for name, settings in presets(m.device).items():
        for loss in ("mse", "l1"):
            if m.left < 12:
                return found
            capture, images = load_capture_and_images(workspace)
            trainer, _, _ = start(capture, images, settings, 0, m.device, Reporter())
            if loss == "l1":
                trainer = Trainer(trainer.model, trainer.dataset, 0, 1000, loss="l1")
            for _ in range(5):
                trainer.step()
            peak_mb(m.device)
            step = seconds_of(m.device, trainer.step, 20)
            found[f"{name} {loss}"] = {
                "step_ms": round(1000 * step, 2),
                "rays_a_second": round(trainer.rays / step),
                "mb": peak_mb(m.device),
            }
            trainer = None
            free(m.device)
    return found


def _variants(m: Measuring, workspace: Workspace, settings: NerfSettings) -> dict:
    """What rays cost in other numbers at once, and with the colour MLP in other precisions."""
    found, before = {}, torch.backends.cuda.matmul.allow_tf32
    try:
        for name, rays, tf32, narrow in (
            ("float32", settings.rays, False, False),
            ("TF32", settings.rays, True, False),
            ("bfloat16", settings.rays, before, True),
            ("bfloat16, twice the rays", 2 * settings.rays, before, True),
            ("bfloat16, four times the rays", 4 * settings.rays, before, True),
        ):
            if m.left < 10:
                break
            torch.backends.cuda.matmul.allow_tf32 = tf32
            trainer, _, _ = _begun(workspace, replace(settings, rays=rays), m.device)
            trainer.model.field.narrow = narrow
            for _ in range(5):
                trainer.step()
            found[name] = {"rays_a_second": round(rays / seconds_of(m.device, trainer.step, 20))}
            trainer = None
            free(m.device)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return found


def rendering(m: Measuring) -> None:
    """Frames a second, by chunk and by the twin that training uses, and a mesh.

    Args:
        m: whose folder for work holds what `training` left; without it a scene is trained for a moment.
    """
    preset = "draft" if m.tiny else "standard"
    workspace = imported(m, DEMO, preset)
    if not (workspace.reconstruction / "checkpoint.safetensors").is_file():
        settings = presets(m.device)[preset]
        settings = replace(settings, rays=128) if m.tiny else settings
        _psnr_after(m, workspace, settings, 1.0 if m.tiny else 5.0, 0.2 if m.tiny else 0.01, "demo")
        m.note(scene="trained for a moment: the part `training` left none")
    scene = load_scene(workspace, None, m.device.type)
    camera = scene.capture.training_views[0].camera
    frame = (48, 27) if m.tiny else FRAME
    camera = camera.scaled_to(*frame)
    peak_mb(m.device)
    scene.render(camera)
    frames = 1 if m.tiny else 60
    cameras = [view.camera.scaled_to(*frame) for view in scene.capture.views]
    number = iter(range(10**9))
    seconds = seconds_of(m.device, lambda: scene.render(cameras[next(number) % len(cameras)]), frames)
    m.note(
        size=list(frame),
        frames_a_second=round(1 / seconds, 2),
        rays_a_second=round(frame[0] * frame[1] / seconds),
        render_mb=peak_mb(m.device),
    )
    m.attempt("by_chunk", _by_chunk, m, scene, camera)
    m.attempt("against_training_db", _against_training, m, scene, camera)
    if not m.tiny:
        m.attempt("mesh", _mesh, m, workspace)
    shutil.rmtree(workspace.root / "meshes", ignore_errors=True)


def _by_chunk(m: Measuring, scene: Scene, camera: Camera) -> dict:
    chunks = (2**9, 2**12) if m.tiny else (2**14, 2**16, 2**17, 2**18, 2**19)
    found = {}
    for chunk in chunks:
        if m.left < 5:
            break
        work = lambda chunk=chunk: scene.render(camera, chunk=chunk)
        work()
        peak_mb(m.device)
        seconds = seconds_of(m.device, work, 1 if m.tiny else 10)
        found[str(chunk)] = {"frames_a_second": round(1 / seconds, 2), "mb": peak_mb(m.device)}
    return found


@torch.no_grad()
def _against_training(m: Measuring, scene: Scene, camera: Camera) -> float:
    """How near what is marched is to what training renders, in dB over the picture's rays."""
    bundle, _ = camera_bundle(camera.scaled_to(*(max(8, s // 4) for s in FRAME)), scene.transform, m.device)
    parts = bundle.split(4096)
    ours, twin = (
        np.concatenate([scene.over_background(render(part)).cpu().numpy() for part in parts])
        for render in (lambda part: march(scene.model, part), scene.model)
    )
    return round(float(psnr(ours, twin)), 1)


def _mesh(m: Measuring, workspace: Workspace) -> dict:
    began = time.perf_counter()
    made = extract_mesh(
        ExtractMesh(workspace=str(workspace.root), resolution=192, device=m.device.type, texture=0), Reporter()
    )
    return {"seconds": round(synchronised(m.device) - began, 1), "faces": made["faces"], "mb": peak_mb(m.device)}
