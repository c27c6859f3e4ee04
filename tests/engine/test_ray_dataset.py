"""The training views' pixels: their rays, colours and patches."""

import math

import numpy as np
import pytest
import torch

from in2n_blender.engine.nerf.dataset import DATASET, SceneTransform, camera_bundle
from in2n_blender.scene.errors import In2nError
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


def test_cameras_that_look_outwards_have_their_middle_as_center():
    positions = [
        (4 + 2 * math.cos(a), 1 + 2 * math.sin(a), 3.0) for a in np.linspace(0, 2 * math.pi, 8, endpoint=False)
    ]
    outwards = [look_at(p, target=(4 + 20 * (p[0] - 4), 1 + 20 * (p[1] - 1), 3.0)) for p in positions]
    transform = SceneTransform.of(outwards)
    assert np.allclose(transform.center, (4, 1, 3)) and transform.scale == pytest.approx(0.5)
    # One in eight looking another way changes nothing: it is still a ring round what the others see.
    inwards = [look_at(p, target=(4, 1, 3)) for p in positions[1:]]
    center = np.array(SceneTransform.of([outwards[0], *inwards]).center)
    assert np.linalg.norm(center - (4, 1, 3)) < 0.5
    assert SceneTransform.of([outwards[0]] * 2).scale == pytest.approx(1e6), "all in one place"


def test_the_transform_as_a_matrix_does_the_same():
    transform, points = SceneTransform((1.0, -2.0, 3.0), 0.25), torch.tensor([[5.0, 6.0, 7.0]])
    assert transform.apply(points).tolist() == [[1.0, 2.0, 1.0]]
    assert (transform.matrix @ [5, 6, 7, 1]).tolist() == [1, 2, 1, 1]


def test_rays_of_a_camera_are_of_unit_length_and_say_how_far_off_its_axis_they_are():
    camera = ring(3)[1]
    rays, cosine = camera_bundle(camera, SceneTransform((0.0, 0.0, 0.0), 0.5), "cpu")
    assert torch.allclose(rays.directions.norm(dim=-1), torch.ones(len(cosine)), atol=1e-6)
    axis = torch.from_numpy(-camera.camera_to_world[:3, 2]).to(rays.directions.dtype)
    assert torch.allclose(rays.directions @ axis, cosine.to(rays.directions.dtype), atol=1e-6) and cosine.min() < 0.99
    assert torch.allclose(rays.origins, torch.from_numpy(camera.position * 0.5).to(rays.origins.dtype).expand(384, -1))


def test_photos_are_kept_in_8_bits_and_keep_their_alpha_where_an_edit_has_none():
    cameras = ring(2)
    given = np.dstack([sphere_image(cameras[0]), np.full((16, 24), 0.2, np.float32)])
    dataset = dataset_of(cameras, [given, given])
    dataset.replace(1, torch.tensor([-1.0, 0.6 / 255, 2.0]).expand(16, 24, 3))
    assert (dataset.image(1) * 255).round().unique(dim=0).unique(dim=1).tolist() == [[[0.0, 1.0, 255.0, 51.0]]]
    with pytest.raises(ValueError, match="view 1 has 384 pixels, the image 360"):
        dataset.replace(1, torch.ones(15, 24, 3))


def test_a_checkpoints_photos_are_taken_where_they_fit_alone():
    cameras = ring(2)
    dataset = dataset_of(cameras, [sphere_image(c) for c in cameras])
    colors = torch.randint(256, dataset.colors.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for unfit in ({}, {DATASET: colors[:-1]}, {DATASET: colors.int()}):
        before = dataset.colors.clone()
        with pytest.raises(In2nError) as caught:
            dataset.restore(unfit)
        assert caught.value.code == "bad_checkpoint" and torch.equal(dataset.colors, before)
    dataset.restore({DATASET: colors})
    assert torch.equal(dataset.colors, colors)


def test_pixels_are_drawn_from_all_views_and_know_theirs():
    cameras = ring(2) + [look_at((0, -2, 0.5), size=(10, 20))]
    dataset = dataset_of(cameras, [np.zeros((c.intrinsics.height, c.intrinsics.width, 3), np.float32) for c in cameras])
    drawn = dataset.sample(20_000, torch.Generator().manual_seed(0))
    assert len(dataset) == 3 and drawn.shape == (20_000,) and len(drawn.unique()) == 384 + 384 + 200
    assert dataset.view_of(torch.tensor([0, 383, 384, 767, 768, 967])).tolist() == [0, 0, 1, 1, 2, 2]
    assert dataset.count(drawn) is None and dataset.mask(0) is None


def test_patches_come_from_views_that_are_large_enough():
    cameras = ring(2) + [look_at((0, -2, 0.5), size=(18, 20))]
    dataset = dataset_of(cameras, [np.zeros((c.intrinsics.height, c.intrinsics.width, 3), np.float32) for c in cameras])
    draw = lambda side: dataset.sample_patches(200, side, torch.Generator().manual_seed(0)).view(-1, side, side)
    assert dataset.sample_patches(4, 19, torch.Generator()).shape == (0,)
    assert set(dataset.view_of(draw(16)[:, 0, 0]).tolist()) == {0, 1, 2}
    only = draw(17) - 768  # of 18 columns and 20 rows
    rows, columns = only // 18, only % 18
    assert set(rows[:, 0, 0].tolist()) == {0, 1, 2, 3} and set(columns[:, 0, 0].tolist()) == {0, 1}
    assert (rows.diff(dim=1) == 1).all() and (columns.diff(dim=2) == 1).all()
