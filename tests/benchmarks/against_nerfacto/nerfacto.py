"""Trains nerfacto for the comparison: `python nerfacto.py JOB.json`, run by the Python of nerfstudio's own environment.

The job: out, data (folder with transforms.json), device, threads, seconds, steps, checkpoints, views (how many held-out
views), decay_over_run, overrides ({"pipeline.model.num_levels": 8, …}). Every step is nerfstudio's own
`Trainer.train_iteration`.
"""

from __future__ import annotations

import time
from copy import deepcopy
from pathlib import Path

import torch
from timed_run import TimedRun, read_job, spread, write_result
from torch import nn

STEPS_TO_ESTIMATE = 10
RENDER_CHUNKS = (1024, 4096)  # its own 32768 takes gigabytes a layer on a CPU


def main() -> None:
    job = read_job()
    torch.set_num_threads(job["threads"])
    trainer = build_trainer(job)
    views = spread(len(trainer.pipeline.datamanager.eval_dataset), job["views"])
    pick_render_chunk(trainer, views[0])
    step = training_step(trainer, job)
    rays = trainer.config.pipeline.datamanager.train_num_rays_per_batch
    run = TimedRun(
        Path(job["out"]), step, lambda: render(trainer, views), rays, job["checkpoints"], job["seconds"], job["steps"]
    )
    write_result(job, run.run())


def build_trainer(job: dict):
    """nerfstudio's trainer with the data loaded; no viewer, no logging, no half precision on a CPU."""
    import torchmetrics.image.lpip

    # LPIPS downloads a network, for a metric that is not used here.
    torchmetrics.image.lpip.LearnedPerceptualImagePatchSimilarity = lambda **_: nn.Identity()
    from nerfstudio.configs.method_configs import method_configs
    from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig

    config = deepcopy(method_configs["nerfacto"])
    default = config.pipeline.datamanager
    config.pipeline.datamanager = (
        VanillaDataManagerConfig(  # the parallel one's processes would take the CPU's cores from training
            dataparser=default.dataparser, train_num_rays_per_batch=default.train_num_rays_per_batch
        )
    )
    config.pipeline.datamanager.dataparser.data = Path(job["data"])
    config.pipeline.datamanager.dataparser.downscale_factor = 1
    config.machine.device_type, config.machine.seed = job["device"], 0
    config.mixed_precision = job["device"] == "cuda"
    config.pipeline.model.implementation = "torch"
    config.vis, config.data, config.output_dir = "tensorboard", Path(job["data"]), Path(job["out"]) / "nerfstudio"
    config.timestamp = "run"
    for place, value in job["overrides"].items():
        assign(config, place.split("."), value)
    torch.manual_seed(config.machine.seed)
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup(test_mode="val")
    return trainer


def assign(target, place: list[str], value) -> None:
    """Set a value in nested configurations, which are objects, dictionaries and lists."""
    get = lambda at, key: (
        at[key] if isinstance(at, dict) else at[int(key)] if isinstance(at, list) else getattr(at, key)
    )
    for key in place[:-1]:
        target = get(target, key)
    get(target, place[-1])  # a name that is not there is a mistake
    if isinstance(target, dict):
        target[place[-1]] = value
    else:
        setattr(target, place[-1], value)


def training_step(trainer, job: dict):
    from nerfstudio.engine.callbacks import TrainingCallbackLocation

    number, started = 0, time.perf_counter()

    def step() -> None:
        nonlocal number, started
        if number == 1:
            started = time.perf_counter()
        if number == STEPS_TO_ESTIMATE and job["decay_over_run"]:
            a_step = (time.perf_counter() - started) / (number - 1)
            decay_within(trainer, job["steps"] or round(job["seconds"] / a_step))
        trainer.step = number
        trainer.pipeline.train()
        for callback in trainer.callbacks:
            callback.run_callback_at_location(number, location=TrainingCallbackLocation.BEFORE_TRAIN_ITERATION)
        trainer.train_iteration(number)
        if job["device"] == "cuda":
            torch.cuda.synchronize()
        for callback in trainer.callbacks:
            callback.run_callback_at_location(number, location=TrainingCallbackLocation.AFTER_TRAIN_ITERATION)
        number += 1

    return step


def decay_within(trainer, steps: int) -> None:
    """Learning rates fall over as many steps as the run will have: nerfacto's own 200000 take days on a CPU."""
    for name, options in trainer.config.optimizers.items():
        if options["scheduler"] is not None and name != "camera_opt":
            options["scheduler"].max_steps = max(steps, STEPS_TO_ESTIMATE + 1)


@torch.no_grad()
def pick_render_chunk(trainer, view: int) -> None:
    """On a CPU the faster of two chunk sizes, by a quarter of a view rendered with each; a GPU keeps nerfacto's own."""
    model = trainer.pipeline.model
    if trainer.device != "cpu":
        return
    model.eval()
    rays = trainer.pipeline.datamanager.eval_dataset.cameras[view : view + 1].generate_rays(
        camera_indices=0, keep_shape=True
    )
    rays = rays[: max(1, rays.shape[0] // 4)]
    times = {}
    for chunk in RENDER_CHUNKS:
        model.config.eval_num_rays_per_chunk = chunk
        started = time.perf_counter()
        model.get_outputs_for_camera_ray_bundle(rays)
        times[chunk] = time.perf_counter() - started
    model.config.eval_num_rays_per_chunk = min(times, key=times.get)


@torch.no_grad()
def render(trainer, views: list[int]) -> dict:
    dataset, model = trainer.pipeline.datamanager.eval_dataset, trainer.pipeline.model
    model.eval()
    rendered = {}
    for view in views:
        outputs = model.get_outputs_for_camera(dataset.cameras[view : view + 1].to(model.device))
        rendered[dataset.image_filenames[view].stem] = {
            "rgb": outputs["rgb"].clamp(0, 1).cpu().numpy(),
            "depth": outputs["depth"][..., 0].cpu().numpy(),
        }
    return rendered


if __name__ == "__main__":
    main()
