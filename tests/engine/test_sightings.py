"""Which pixels show a sparse point, and what is learnt from them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from in2n_blender.engine.nerf.dataset import RayDataset, SceneTransform
from in2n_blender.engine.nerf.losses import FARTHEST, TOLERANCE, sighting_loss
from in2n_blender.engine.nerf.rendering import NerfModel
from in2n_blender.engine.nerf.sightings import FEW_PHOTOS, FEWEST_POINTS, NEARER, find_sightings, hidden
from in2n_blender.engine.nerf.training import POINTS_DECAY, Trainer
from in2n_blender.scene.capture import PinholeCapture, View
from in2n_blender.scene.tracks import Tracks
from tests.engine.ball import TINY, dataset_of, look_at, ring, sphere_image

RADIUS = 0.6  # the ball's


def ball(cameras, seed=0, count=3000):
    """A capture of the ball with points all over it, in the ball's colours, and the points' directions."""
    normals = np.random.default_rng(seed).normal(size=(count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    colors = np.array([0.8, 0.25, 0.2]) + normals * RADIUS * [0.2, 0.3, 0.3]
    views = tuple(View(str(i), f"images/{i}.png", camera) for i, camera in enumerate(cameras))
    points = (normals * RADIUS).astype(np.float32)
    return PinholeCapture("ball", "", "draft", views, points, np.round(colors * 255).astype(np.uint8))


@pytest.fixture(scope="module")
def photographed():
    cameras = [look_at(c.position, size=(72, 48)) for c in ring(3)]
    cameras = [replace(c, intrinsics=replace(c.intrinsics, fx=90.0, fy=90.0)) for c in cameras]
    return ball(cameras), dataset_of(cameras, [sphere_image(c) for c in cameras])


def true_distances(dataset, pixels):
    """Along each pixel's ray to the ball, in normalised scene units; NaN beside it."""
    rays = dataset.rays(pixels)
    center = torch.tensor(dataset.transform.center, dtype=torch.float32) * -dataset.transform.scale
    origins, radius = rays.origins - center, RADIUS * dataset.transform.scale
    along = (origins * rays.directions).sum(-1)
    return -along - torch.sqrt(along**2 - (origins**2).sum(-1) + radius**2)


def test_points_are_seen_where_they_are_and_not_through_the_ball(photographed):
    capture, dataset = photographed
    found = find_sightings(capture, dataset)
    truth = true_distances(dataset, found.pixels)
    off = ((found.distances - truth) / truth)[~truth.isnan()]
    assert len(found) > 1000 and off.abs().max() < 0.05  # a pixel is wide; the back of the ball is farther off
    assert set(torch.searchsorted(torch.tensor(dataset.starts), found.pixels, right=True).tolist()) == {1, 2, 3}
    assert ((found.weights > 0) & (found.weights <= 1)).all() and found.weights.median() > 0.9


def test_a_point_of_another_colour_or_under_a_mask_is_not_seen(photographed):
    capture, dataset = photographed
    green = np.full_like(capture.point_colors, [0, 255, 0])
    assert find_sightings(replace(capture, point_colors=green), dataset) is None
    cameras = [view.camera for view in capture.views]
    left = np.zeros((48, 72), bool)
    left[:, :36] = True
    masked = type(dataset)(cameras, [sphere_image(c) for c in cameras], dataset.transform, "cpu", [left, None, None])
    found, before = find_sightings(capture, masked), find_sightings(capture, dataset)
    first = lambda sightings: sightings.pixels[sightings.pixels < dataset.starts[1]]
    assert (first(found) % 72 < 36).all() and (first(before) % 72 >= 36).any()
    assert len(found) - len(first(found)) == len(before) - len(first(before))


def test_points_without_colours_are_seen_where_nothing_hides_them(photographed):
    capture, dataset = photographed
    found = find_sightings(replace(capture, point_colors=np.zeros((0, 3), np.uint8)), dataset)
    assert len(found) > 1000 and (found.weights == 1).all()


def test_where_it_is_known_who_sees_a_point_nobody_else_does(photographed):
    """Even one that shows it, and whatever its colour; and how far off it is says how much it counts."""
    capture, dataset = photographed
    count = len(capture.points)
    errors = np.where(np.arange(count) % 2, 0.5, 3.0)
    errors[:10] = np.nan
    # the first photo sees what faces it; the second, of which that is not known, nothing; the third what is behind, too
    facing = np.flatnonzero(capture.points @ capture.views[0].camera.position > RADIUS**2 * 1.2).tolist()
    tracks = Tracks.of([[0, 2] if point in facing else [2] for point in range(count)], errors)
    green = np.full_like(capture.point_colors, [0, 255, 0])
    found = find_sightings(replace(capture, tracks=tracks, point_colors=green), dataset)
    view = torch.searchsorted(torch.tensor(dataset.starts), found.pixels, right=True) - 1
    assert set(view.tolist()) == {0, 2} and (view == 0).sum() == len(facing)
    truth = true_distances(dataset, found.pixels)
    off = ((found.distances - truth) / truth)[(view == 0) & ~truth.isnan()]
    assert off.abs().max() < 0.05
    mean = np.nanmean(errors)
    least, most = 2 * np.exp(-((3.0 / mean) ** 2)), min(1.0, 2 * np.exp(-((0.5 / mean) ** 2)))
    weights = found.weights[view == 2]
    assert len(weights) == count and torch.isclose(weights, torch.tensor(least).float()).sum() == (errors == 3.0).sum()
    assert torch.isclose(weights, torch.tensor(most).float()).sum() >= (errors == 0.5).sum() and most == 1.0


def test_few_points_and_points_behind_the_cameras_say_nothing(photographed):
    capture, dataset = photographed
    some = replace(capture, points=capture.points[: FEWEST_POINTS - 1], point_colors=capture.point_colors[:49])
    assert find_sightings(some, dataset) is None
    assert find_sightings(replace(capture, points=capture.points + np.float32(100)), dataset) is None


def test_many_photos_need_no_points():
    cameras = ring(FEW_PHOTOS + 1)
    images = [sphere_image(c) for c in cameras]
    assert find_sightings(ball(cameras), dataset_of(cameras, images)) is None
    few = cameras[:-1]
    assert find_sightings(ball(few), dataset_of(few, images[:-1])) is not None


def test_a_point_is_hidden_by_nearer_ones_beside_it():
    column, row = np.array([5.0, 5.5, 350.0, 150.0]), np.array([5.0, 5.5, 95.0, 5.0])  # cells of 100 pixels
    depth = np.array([1.0, 2.0, 2.0, 1 + 0.9 * NEARER])
    assert hidden(column, row, depth, 400, 100).tolist() == [False, True, False, False]
    assert hidden(column, row, depth * [1, 1, 1, 1.1], 400, 100).tolist() == [False, True, False, True]  # next to it
    assert hidden(row, column, depth, 100, 400).tolist() == [False, True, False, False], "upright too"
    assert hidden(column, row, np.full(4, 3.0), 400, 100).tolist() == [False] * 4
    assert hidden(np.zeros(0), np.zeros(0), np.zeros(0), 100, 100).tolist() == []


@pytest.mark.parametrize("front", range(4))
def test_a_point_in_a_corner_of_the_picture_is_hidden_by_a_nearer_one_there_and_by_no_other(front):
    """Four points in each corner of 16 cells, one corner with a point before its three others."""
    corner = np.tile(np.arange(4), 4)
    column, row = 399.9 * (corner % 2), 399.9 * (corner // 2)
    depth = np.full(16, 2.0)
    depth[front] = 1.0
    assert hidden(column, row, depth, 400, 400).tolist() == ((corner == front) & (depth == 2.0)).tolist()


def rays(*weights):
    """Rays of four samples between 0, 1, 2, 3 and 4."""
    weights = torch.tensor(weights, dtype=torch.float32, requires_grad=True)
    edges = torch.arange(5.0).expand(len(weights), -1)
    return weights, edges[:, :-1], edges[:, 1:]


@pytest.mark.parametrize(
    ("weights", "distance", "loss"),
    [
        ((0.0, 0.0, 1.0, 0.0), 2.5, 0.0),  # all of it there
        ((0.0, 1.0, 0.0, 0.0), 2.5, 1.0 + 1.0 / 2.5),  # all of it before: and a whole unit too near
        ((0.0, 0.0, 0.0, 1.0), 2.5, 1.0 / 2.5),  # behind
        ((0.0, 0.5, 0.5, 0.0), 2.5, 0.5 + 0.5 / 2.5),
        ((0.0, 0.0, 0.9, 0.0), 2.5, 0.1 * (FARTHEST - 1)),  # an edge before nothing
        ((0.0, 0.9, 0.0, 0.1), 1.0, abs(0.9 * 1.5 + 0.1 * FARTHEST - 1)),  # and before something far away
        ((0.0, 0.0, 0.0, 0.0), 2.5, 1.0),  # as far off as it can be
        ((0.0, 0.0, 1.0, 0.0), 3.0 / (1 - 0.5 * TOLERANCE), None),  # near enough before
    ],
)
def test_the_loss_of_a_ray_that_shows_a_point(weights, distance, loss):
    found = sighting_loss(*rays(weights), torch.tensor([distance]), torch.tensor([0.5]))
    expected = loss if loss is not None else (distance - 2.5) / distance
    assert found.item() == pytest.approx(0.5 * expected, abs=1e-6)


def test_the_loss_is_a_mean_over_rays():
    both = sighting_loss(*rays((0, 0, 1.0, 0), (0, 1.0, 0, 0)), torch.tensor([2.5, 2.5]), torch.tensor([1.0, 1.0]))
    assert both.item() == pytest.approx(1.4 / 2)


def test_nothing_is_drawn_to_before_a_point_while_a_ray_is_empty():
    """Else the first thing that is learnt of a point is fog before the camera."""
    weights, starts, ends = rays((1e-3, 1e-3, 1e-3, 1e-3))
    sighting_loss(weights, starts, ends, torch.tensor([1.5]), torch.ones(1)).backward()
    assert weights.grad[0, 0] >= 0


def trainer_with(photographed, loss="mse", settings=TINY, **more):
    capture, dataset = photographed
    torch.manual_seed(0)
    sightings = find_sightings(capture, dataset)
    return Trainer(NerfModel(settings), dataset, 0, 100, loss, log=lambda text: None, sightings=sightings, **more)


def seen_by(trainer, monkeypatch):
    """The pixels of the next step."""
    asked = []
    rays = trainer.dataset.rays
    monkeypatch.setattr(trainer.dataset, "rays", lambda pixels: asked.append(pixels.clone()) or rays(pixels))
    trainer.step()
    return asked[0]


def test_the_last_pixels_of_a_step_show_points(photographed, monkeypatch):
    settings = replace(TINY, rays=256, point_rays=40)
    shows = lambda trainer: torch.isin(seen_by(trainer, monkeypatch), trainer.sightings.pixels)
    pixels = shows(trainer_with(photographed, settings=settings))
    assert len(pixels) == 256 and pixels[-40:].all() and not pixels[:-40].all()
    assert not shows(trainer_with(photographed, settings=replace(settings, points=0.0)))[-40:].all()
    assert not shows(trainer_with(photographed, "l1", settings=settings))[-40:].all()  # an edit may move surfaces
    few = replace(settings, rays=64, point_rays=1000)
    assert shows(trainer_with(photographed, settings=few))[-32:].all()


@pytest.mark.parametrize(
    "points, done, factor",
    [(0.0, 0, 0), (0.1, 0, 0.1), (0.7, 0, 0.7), (0.7, 1, 0.7 * POINTS_DECAY), (0.7, 2, 0.7 * POINTS_DECAY)],
)
def test_the_loss_counts_by_its_factor_which_falls(photographed, monkeypatch, points, done, factor):
    trainer = trainer_with(photographed, settings=replace(TINY, points=points))
    trainer.step_count = done * trainer.total_steps
    totals = []
    monkeypatch.setattr(trainer, "descend", lambda loss: totals.append(float(loss.detach())))
    monkeypatch.setattr(trainer, "regularisers", lambda rendered: 0.0)
    monkeypatch.setattr("in2n_blender.engine.nerf.training.sighting_loss", lambda *given: torch.tensor(3.0))
    photometric = trainer.step().item()
    assert totals[0] == pytest.approx(photometric + 3 * factor, abs=1e-6)


def test_points_bring_the_surface_to_where_they_are(photographed):
    """One photo alone does not say how far away the ball is; its points do."""
    capture, _ = photographed
    camera = capture.views[0].camera
    one = replace(capture, views=capture.views[:1])
    cameras = [camera, replace(camera, camera_to_world=capture.views[1].camera.camera_to_world)]
    off = {}
    for points in (0.0, 0.3):
        dataset = RayDataset([camera], [sphere_image(camera)], SceneTransform.of(cameras), "cpu")
        trainer = trainer_with((one, dataset), settings=replace(TINY, points=points))
        for _ in range(100):
            trainer.step()
        pixels = trainer.sightings.pixels
        rendered = trainer.model(dataset.rays(pixels))
        truth = true_distances(dataset, pixels)
        known = ~truth.isnan()
        off[points] = float(((rendered.distance - truth)[known] / truth[known]).abs().median())
    assert off[0.3] < 0.15 < 1.0 < off[0.0]
