"""A painted ball before blue, photographed from a ring of cameras: a scene that a tiny NeRF learns in seconds."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from in2n_blender.engine.nerf import settings as nerf_settings
from in2n_blender.engine.nerf.dataset import RayDataset, SceneTransform
from in2n_blender.engine.nerf.reconstruction import reconstruct
from in2n_blender.engine.nerf.rendering import NerfModel
from in2n_blender.engine.nerf.scene import Scene
from in2n_blender.engine.nerf.settings import NerfSettings, with_options
from in2n_blender.engine.nerf.training import Trainer
from in2n_blender.link.requests import Reconstruct
from in2n_blender.scene.camera import Camera, Intrinsics
from in2n_blender.scene.capture import PinholeCapture, View
from in2n_blender.scene.reporting import Reporter
from in2n_blender.workspace.files import write_json

TINY = NerfSettings(
    levels=3,
    coarsest=8,
    finest=32,
    log2_table=12,
    features=2,
    hidden=16,
    proposal_levels=2,
    proposal_finest=16,
    proposal_samples=24,
    samples=12,
    rays=256,
    steps=60,
)


def look_at(position, target=(0, 0, 0), size=(24, 16)):
    position, target = np.array(position, float), np.array(target, float)
    backward = (position - target) / np.linalg.norm(position - target)
    right = np.cross([0, 0, 1], backward)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(backward, right), backward, position], 1)
    width, height = size
    return Camera(Intrinsics(width, height, 30.0, 30.0, width / 2, height / 2), pose)


def ring(count=8, radius=3.0):
    return [
        look_at((radius * math.cos(a), radius * math.sin(a), 1.0))
        for a in np.linspace(0, 2 * math.pi, count, endpoint=False)
    ]


def sphere_image(camera):
    """A ball of radius 0.6 at the origin, reddish and coloured by place, before a blue background, by ray casting."""
    origins, directions = camera.rays()
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    along = (origins * directions).sum(1)
    discriminant = along**2 - (origins**2).sum(1) + 0.36
    surface = origins + directions * (-along - np.sqrt(discriminant.clip(0)))[:, None]
    painted = np.array([0.8, 0.25, 0.2]) + surface * [0.2, 0.3, 0.3]
    color = np.where(discriminant[:, None] > 0, painted, [0.1, 0.2, 0.8])
    return color.reshape(camera.intrinsics.height, camera.intrinsics.width, 3).astype(np.float32)


def dataset_of(cameras, images):
    return RayDataset(cameras, images, SceneTransform.of(cameras), "cpu")


def trained_on(cameras, images, steps=200, **options):
    torch.manual_seed(0)
    settings = with_options(TINY, options.get("appearance", False), options.get("refine_cameras", False), len(cameras))
    settings = replace(settings, **{name: value for name, value in options.items() if name.startswith("learning_rate")})
    dataset = dataset_of(cameras, images)
    trainer = Trainer(NerfModel(settings), dataset, seed=0, total_steps=steps)
    for _ in range(steps):
        trainer.step()
    return trainer, Scene(trainer.model, dataset.transform, None, "cpu", False)


def photographed_ball(root, cameras, held_out=()):
    """A workspace with photos of the ball by these cameras, named "0", "1", …"""
    (root / "images").mkdir(parents=True)
    views = []
    for index, camera in enumerate(cameras):
        Image.fromarray((sphere_image(camera) * 255).astype(np.uint8)).save(root / "images" / f"{index}.png")
        views.append(View(str(index), f"images/{index}.png", camera, held_out=index in held_out))
    write_json(root / "capture.json", PinholeCapture("ball", "", "draft", tuple(views)).to_json())
    return root


def reconstructed_ball(root, cameras, held_out=()):
    """As `photographed_ball`, and a tiny reconstruction of it."""
    photographed_ball(root, cameras, held_out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(nerf_settings.CPU, "draft", TINY)
        reconstruct(Reconstruct(workspace=str(root), preset="draft", device="cpu", steps=150), Reporter())
    return root
