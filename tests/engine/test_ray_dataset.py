"""The training views' pixels: their rays, colours and patches."""

import math

import numpy as np
import pytest
import torch

from in2n_blender.engine.nerf.dataset import SceneTransform, camera_bundle
from tests.engine.ball import dataset_of, look_at, ring, sphere_image


def test_the_dataset_gives_the_rays_and_colours_of_its_pixels():
    cameras = ring(3) + [look_at((0, -2, 0.5), size=(10, 20))]
    images = [
        np.random.default_rng(i).random((c.intrinsics.height, c.intrinsics.width, 3), np.float32)
        for i, c in enumerate(cameras)
    ]
    dataset = dataset_of(cameras, images)
    for view, camera in enumerate(cameras):
        pixels = torch.arange(int(dataset.starts[view]), int(dataset.starts[view + 1]))
        rays, (expected, _) = dataset.rays(pixels), camera_bundle(camera, dataset.transform, "cpu")
        assert torch.allclose(rays.directions, expected.directions, atol=1e-5)
        assert torch.allclose(rays.origins, expected.origins, atol=1e-5)
        assert np.abs(dataset.image(view).numpy() - images[view]).max() < 1 / 255
    dataset.replace(3, torch.ones(20, 10, 3))
    assert dataset.image(3).min() == 1 and dataset.image(2).numpy() == pytest.approx(images[2], abs=1 / 255)
    patch = dataset.targets(dataset.sample_patches(4, 8, torch.Generator().manual_seed(1)))
    assert patch.shape == (4 * 64, 3)


def test_the_dataset_takes_photos_one_at_a_time():
    cameras = ring(3)
    alive, most = 0, 0

    class Counted(np.ndarray):
        def __array_finalize__(self, _):
            nonlocal alive, most
            alive += 1
            most = max(most, alive)

        def __del__(self):
            nonlocal alive
            alive -= 1

    def images():
        for camera in cameras:
            yield sphere_image(camera).view(Counted)

    dataset = dataset_of(cameras, images())
    assert most <= 3 * 2, "photos are held"
    alpha = np.full((16, 24, 1), 0.5, np.float32)
    mixed = dataset_of(
        cameras,
        iter(
            [sphere_image(cameras[0]), np.concatenate([sphere_image(cameras[1]), alpha], -1), sphere_image(cameras[2])]
        ),
    )
    assert not dataset.has_alpha and mixed.has_alpha
    assert (
        mixed.image(0)[..., 3].min() == 1
        and mixed.image(2)[..., 3].min() == 1
        and mixed.image(1)[0, 0, 3] == pytest.approx(0.5, abs=0.01)
    )
    assert torch.equal(mixed.image(0)[..., :3], dataset.image(0))


def test_scene_transform_centers_on_what_the_cameras_see():
    cameras = [look_at((5 + 3 * math.cos(a), 3 * math.sin(a), 2), target=(5, 0, 0)) for a in np.linspace(0, 6, 9)]
    transform = SceneTransform.of(cameras)
    assert np.allclose(transform.center, (5, 0, 0), atol=1e-3)
    assert max(
        np.linalg.norm(c.position - np.array(transform.center)) for c in cameras
    ) * transform.scale == pytest.approx(1)
