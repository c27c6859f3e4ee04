"""The captures that both sides are trained on: imported once, at the size that is asked for, and handed to nerfstudio
as they are."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from in2n_blender.engine.importing import normalise_capture
from in2n_blender.link.requests import ImportCapture
from in2n_blender.scene.camera import Camera
from in2n_blender.scene.capture import PinholeCapture, View
from in2n_blender.scene.presets import PRESETS, Preset
from in2n_blender.scene.reporting import Reporter
from in2n_blender.workspace.files import write_json
from in2n_blender.workspace.layout import Workspace

from .timed_run import spread


def imported(source: Path, longest_side: int, root: Path) -> PinholeCapture:
    """The capture in the workspace `root`, its photos at most longest_side pixels; every 8th view held out where the
    files name none."""
    workspace = Workspace(root)
    if workspace.capture_json.is_file():
        return PinholeCapture.load(workspace.capture_json)
    preset = Preset(f"{longest_side} pixels", longest_side)
    PRESETS[preset.name] = preset  # an import takes its size from a preset
    return normalise_capture(
        ImportCapture(workspace=str(workspace.root), source=str(source), preset=preset.name),
        Reporter(lambda event: None),
    )


def write_for_nerfstudio(capture: PinholeCapture, workspace: Path, folder: Path) -> None:
    """transforms.json of the workspace's own images, cameras and split, for nerfstudio's dataparser."""
    folder.mkdir(parents=True, exist_ok=True)
    place = lambda view: os.path.relpath(workspace / view.image, folder)
    frames = []
    for view in capture.views:
        k = view.camera.intrinsics
        frames.append(
            {
                "file_path": place(view),
                "transform_matrix": view.camera.camera_to_world.tolist(),
                "w": k.width,
                "h": k.height,
                "fl_x": k.fx,
                "fl_y": k.fy,
                "cx": k.cx,
                "cy": k.cy,
            }
        )
    held_out = [place(view) for view in capture.held_out_views]
    write_json(
        folder / "transforms.json",
        {
            "camera_model": "PINHOLE",
            "frames": frames,
            "train_filenames": [place(view) for view in capture.training_views],
            "val_filenames": held_out,
            "test_filenames": held_out,
        },
    )


def fewer(capture: PinholeCapture, workspace: Path, root: Path, count: int) -> PinholeCapture:
    """A workspace of `count` of the training views, evenly spread, and all held-out ones."""
    training = capture.training_views
    kept = {training[i].name for i in spread(len(training), count)}
    views = tuple(view for view in capture.views if view.held_out or view.name in kept)
    found = replace(capture, views=views)
    if not (root / "capture.json").is_file():
        shutil.rmtree(root, ignore_errors=True)
        (root / "images").mkdir(parents=True)
        for view in views:
            os.link(workspace / view.image, root / view.image)
        write_json(root / "capture.json", found.to_json())
    return found


def grown(capture: PinholeCapture, workspace: Path, root: Path, images: int, longest_side: int, seed: int = 0) -> None:
    """A workspace of as many training images as asked for: the capture's own again and again, from cameras a little
    moved, resampled.

    For what a reconstruction costs, not for what it looks like.
    """
    if (root / "capture.json").is_file():
        return
    shutil.rmtree(root, ignore_errors=True)
    (root / "images").mkdir(parents=True)
    random, views = np.random.default_rng(seed), capture.training_views
    spread = np.linalg.norm(np.std([view.camera.position for view in views], axis=0))
    made = []
    for number in range(images):
        view = views[number % len(views)]
        name, k = f"{number:04d}", view.camera.intrinsics
        scale = longest_side / max(k.width, k.height)
        size = round(k.width * scale), round(k.height * scale)
        target = root / "images" / f"{name}.png"
        if number < len(views):
            with Image.open(workspace / view.image) as photo:
                photo.resize(size, Image.Resampling.LANCZOS).save(target, compress_level=1)
        else:
            os.link(root / "images" / f"{number % len(views):04d}.png", target)
        pose = view.camera.camera_to_world.copy()
        pose[:3, 3] += random.normal(scale=0.01 * spread, size=3) * (number >= len(views))
        made.append(View(name, f"images/{name}.png", Camera(k.scaled_to(*size), pose)))
    write_json(root / "capture.json", replace(capture, views=tuple(made)).to_json())
