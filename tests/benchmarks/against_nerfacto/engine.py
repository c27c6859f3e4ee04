"""Trains this engine for the comparison: `python engine.py JOB.json`, run by the Python of the engine's environment.

The job: out, workspace, device, preset, overrides (of NerfSettings), seed, seconds, checkpoints, views (how many
held-out views). What it trains, loads and saves is what a reconstruction trains, loads and saves.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import torch
from timed_run import TimedRun, peak_memory_mb, read_job, spread, write_result

from in2n_blender.engine.device import pick_device
from in2n_blender.engine.nerf.checkpoint import save_checkpoint
from in2n_blender.engine.nerf.reconstruction import load_capture_and_images, start
from in2n_blender.engine.nerf.settings import NerfSettings, settings_for
from in2n_blender.scene.reporting import Reporter
from in2n_blender.workspace.layout import Workspace


def main() -> None:
    job = read_job()
    device = pick_device(job["device"])
    settings = replace(settings_for(job["preset"], device.type), **job["overrides"])
    capture, images = load_capture_and_images(Workspace(job["workspace"]))
    trainer, scene, state = start(capture, images, settings, job["seed"], device, Reporter())
    views = [capture.held_out_views[i] for i in spread(len(capture.held_out_views), job["views"])]

    def render() -> dict:
        rendered = {view.name: scene.render(view.camera) for view in views}
        return {name: {"rgb": view.rgb_srgb.numpy(), "depth": view.depth.numpy()} for name, view in rendered.items()}

    run = TimedRun(
        Path(job["out"]), trainer.step, render, settings.rays, job["checkpoints"], job["seconds"], settings.steps
    )
    result = run.run()
    tensors, numbers = trainer.state()
    save_checkpoint(Path(job["out"]) / "checkpoint", tensors, {**state, **numbers})
    result.update(peak_memory_mb=round(peak_memory_mb()), device=state["device"], settings=settings.to_json())
    if device.type == "cuda":
        result["bandwidth_share"] = round(
            result["rays_per_second"] * bytes_a_training_ray(settings) / bytes_per_second(device), 4
        )
    write_result(job, result)


def bytes_a_training_ray(settings: NerfSettings) -> int:
    """What a ray reads and writes of the grids if nothing is cached: 8 corners a level, read forwards, read and written
    backwards."""
    return (
        3
        * 8
        * 4
        * (
            settings.samples * settings.levels * settings.features
            + settings.proposal_samples * settings.proposal_levels
        )
    )


def bytes_per_second(device: torch.device, size: int = 1 << 28, times: int = 20) -> float:
    """The device's memory bandwidth, by copies of `size` bytes: read and written."""
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    torch.cuda.synchronize(device)
    started = time.perf_counter()
    for _ in range(times):
        target.copy_(source)
    torch.cuda.synchronize(device)
    return 2 * size * times / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
