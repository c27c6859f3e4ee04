"""A tiny scene is learnt, rendered and resumed."""

import math
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from in2n_blender.engine.measure import psnr
from in2n_blender.engine.nerf import ray_marching
from in2n_blender.engine.nerf.dataset import SceneTransform, camera_bundle
from in2n_blender.engine.nerf.kernels.marching import march_kernels
from in2n_blender.engine.nerf.ray_marching import march
from in2n_blender.engine.nerf.reconstruction import _preview
from in2n_blender.engine.nerf.rendering import NerfModel
from in2n_blender.engine.nerf.scene import Scene, bytes_a_ray, rays_a_chunk
from in2n_blender.engine.nerf.settings import CPU, GPU, with_options
from in2n_blender.engine.nerf.training import Trainer
from in2n_blender.scene.capture import PinholeCapture, View
from in2n_blender.scene.errors import Cancelled
from in2n_blender.scene.reporting import Reporter
from tests.engine.ball import TINY, dataset_of, look_at, ring, sphere_image


def test_editing_trains_on_patches_where_a_perceptual_loss_is_set():
    cameras = [look_at(c.position, size=(40, 36)) for c in ring(3)]
    settings = replace(TINY, perceptual="lpips-or-random", patches=1)
    trainer = Trainer(
        NerfModel(settings),
        dataset_of(cameras, [sphere_image(c) for c in cameras]),
        0,
        10,
        loss="l1",
        log=lambda text: None,
    )
    before = [p.detach().clone() for p in trainer.model.parameters()]
    assert len(trainer._patch_pixels()) == 32 * 32
    assert all(math.isfinite(trainer.step()) for _ in range(2))
    assert any((a != b).any() for a, b in zip(before, trainer.model.parameters()))


def test_a_patch_with_alpha_lies_over_one_background():
    cameras = [look_at(c.position, size=(40, 36)) for c in ring(3)]
    transparent = [np.concatenate([sphere_image(c), np.zeros((36, 40, 1), np.float32)], -1) for c in cameras]
    settings = replace(TINY, perceptual="lpips-or-random", patches=3)
    trainer = Trainer(NerfModel(settings), dataset_of(cameras, transparent), 0, 10, loss="l1", log=lambda text: None)
    compared = []

    def record(rendered, target):
        compared.append(target)
        return (rendered - target).abs().mean()

    trainer.perceptual = record
    for _ in range(2):
        trainer.step()
    for patches in compared:  # of a transparent photo, a target is the background alone
        assert patches.shape == (3, 3, 32, 32) and torch.equal(patches, patches[:, :, :1, :1].expand_as(patches))
    backgrounds = torch.cat([patches[:, :, 0, 0] for patches in compared])
    assert len(backgrounds.unique(dim=0)) == 6


@pytest.fixture(scope="module")
def trained():
    cameras = ring(16)
    dataset = dataset_of(cameras, [sphere_image(c) for c in cameras])
    torch.manual_seed(0)
    trainer = Trainer(NerfModel(TINY), dataset, seed=3, total_steps=300)
    while trainer.step_count < 300:
        trainer.step()
    return trainer, Scene(trainer.model, dataset.transform, None, "cpu", False)


def test_a_ball_is_learnt_and_seen_from_a_new_view(trained):
    _, scene = trained
    camera = look_at((2.2, 2.2, 0.6))
    rendered = scene.render(camera)
    assert psnr(rendered.rgb_srgb, torch.from_numpy(sphere_image(camera))) > 17
    middle = rendered.depth[6:10, 10:14].mean()
    distance = np.linalg.norm(camera.position) - 0.6
    assert middle == pytest.approx(distance, abs=0.35), "depth is along z in capture units"


@pytest.mark.parametrize("threads", [1, 2])
def test_marching_shows_what_the_model_in_torch_shows(trained, threads):
    model = trained[0].model
    bundle, _ = camera_bundle(look_at((2.2, 2.2, 0.6), size=(96, 64)), trained[0].dataset.transform, "cpu")
    for encoding in (model.field.encoding, model.proposal.encoding):
        encoding.threads = threads
    with torch.no_grad():
        twin = model(bundle)
        table = model.field.encoding.table.clone()
        marched = march(model, bundle)
        assert (marched.color - twin.color).abs().max() < 4e-3 and (marched.color - twin.color).abs().mean() < 1e-4
        assert (marched.alpha - twin.alpha).abs().max() < 4e-3
        assert ((marched.distance - twin.distance).abs() / twin.distance).median() < 1e-4
        shown_through = (1 - twin.alpha)[:, None] * (marched.last_color - twin.last_color)
        assert shown_through.abs().max() < 4e-3
        model.field.encoding.table.add_(3.0)  # all of space is opaque: every ray ends at its first samples
        marched, twin = march(model, bundle), model(bundle)
        model.field.encoding.table.copy_(table)
    assert torch.isfinite(marched.color).all() and (marched.color - twin.color).abs().max() < 1e-3


@pytest.mark.parametrize("feature", [-20.0, 20.0], ids=["empty", "opaque"])
def test_marching_where_all_of_space_is_alike_equals_the_model(feature):
    torch.manual_seed(0)
    model = NerfModel(TINY)
    for encoding in (model.field.encoding, model.proposal.encoding):
        torch.nn.init.constant_(encoding.table, feature)
    bundle, _ = camera_bundle(ring()[0], SceneTransform.of(ring()), "cpu")
    with torch.no_grad():
        marched, twin = march(model, bundle), model(bundle)
    assert torch.equal(twin.alpha, torch.full_like(twin.alpha, float(feature > 0)))
    for name in ("color", "alpha", "distance"):
        assert torch.allclose(getattr(marched, name), getattr(twin, name), rtol=1e-4, atol=1e-5), name
    if feature < 0:  # behind an opaque surface nothing is looked up, the last sample neither
        assert torch.allclose(marched.last_color, twin.last_color, atol=1e-5)


def test_marching_makes_its_kernels_once_though_several_threads_march(monkeypatch):
    """Two threads that made the same kernels at once would get functions of which Warp knows only one."""
    made = []

    def noted(*arguments):
        made.append(threading.current_thread())
        return march_kernels(*arguments)

    monkeypatch.setattr(ray_marching, "march_kernels", noted)
    torch.manual_seed(0)
    model = NerfModel(TINY)
    model.field.encoding.threads = 2
    bundle, _ = camera_bundle(look_at((2.2, 2.2, 0.6), size=(96, 64)), SceneTransform.of(ring()), "cpu")
    assert len(bundle) >= 2 * ray_marching.FEWEST_RAYS
    march(model, bundle)
    assert made == [threading.main_thread()]


def test_marching_knows_appearance_and_deeper_mlps():
    torch.manual_seed(0)
    settings = replace(with_options(TINY, True, False, 3), hidden_layers=2)
    model = NerfModel(settings)
    torch.nn.init.normal_(model.field.appearance)
    bundle, _ = camera_bundle(ring()[0], SceneTransform.of(ring()), "cpu")
    for views in (None, torch.full((len(bundle),), 2)):
        bundle.views = views
        with torch.no_grad():
            assert torch.allclose(march(model, bundle).color, model(bundle).color, atol=2e-3)


def test_rendering_is_the_same_in_any_chunks_and_cancels_between_them(trained):
    _, scene = trained
    camera = ring()[0]
    assert torch.allclose(scene.render(camera).rgb_srgb, scene.render(camera, chunk=37).rgb_srgb, atol=1e-5)
    with pytest.raises(Cancelled):
        scene.render(camera, Reporter(cancelled=lambda: True))


@pytest.mark.parametrize("size, shown", [((400, 300), (192, 144)), ((100, 300), (64, 192)), ((30, 20), (30, 20))])
def test_the_picture_of_a_reconstruction_is_small(tmp_path, size, shown):
    capture = PinholeCapture("x", "", "draft", (View("0", "0.png", ring()[0].scaled_to(*size)),))

    def render(camera, report):
        return SimpleNamespace(rgb_srgb=torch.zeros(camera.intrinsics.height, camera.intrinsics.width, 3))

    assert _preview(SimpleNamespace(capture=capture, render=render), tmp_path, Reporter())
    assert Image.open(tmp_path / "preview.png").size == shown


def test_a_restored_trainer_goes_on_exactly():
    cameras = ring(4)
    images = [sphere_image(c) for c in cameras]

    def fresh():
        torch.manual_seed(0)
        return Trainer(NerfModel(TINY), dataset_of(cameras, images), seed=5, total_steps=20)

    straight, first = fresh(), fresh()
    for _ in range(12):
        straight.step()
    for _ in range(5):
        first.step()
    tensors, numbers = first.state()
    resumed = fresh()
    resumed.restore(tensors, numbers)
    for _ in range(7):
        resumed.step()
    for a, b in zip(straight.model.state_dict().values(), resumed.model.state_dict().values()):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_step_that_fails_leaves_no_trace(monkeypatch):
    cameras = ring(4)
    images = [sphere_image(c) for c in cameras]
    straight, failing = (Trainer(NerfModel(TINY), dataset_of(cameras, images), seed=5, total_steps=20) for _ in "ab")
    failing.model.load_state_dict(straight.model.state_dict())
    with monkeypatch.context() as patch:
        patch.setattr(failing, "descend", lambda loss: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            failing.step()
    straight.step(), failing.step()
    for a, b in zip(straight.state()[0].values(), failing.state()[0].values()):
        assert torch.equal(a, b)


def test_chunks_fit_the_memory_they_may_take(monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert all(rays_a_chunk(settings, cpu) == 16384 for settings in CPU.values())
    assert rays_a_chunk(GPU["full"], cuda, memory_mb=10) == 10 * 2**20 // bytes_a_ray(GPU["full"]) < 4096
    assert rays_a_chunk(GPU["draft"], cuda, memory_mb=1e6) == 2**17
    assert rays_a_chunk(GPU["full"], cpu, memory_mb=0) == 1
    monkeypatch.setenv("IN2N_RENDER_MEMORY_MB", "20")
    assert rays_a_chunk(CPU["full"], cpu) == 20 * 2**20 // bytes_a_ray(CPU["full"])


def test_photos_with_alpha_make_empty_space_empty():
    cameras = ring(6)
    images = []
    for camera in cameras:
        color = sphere_image(camera)
        images.append(np.concatenate([color, (color[..., :1] > 0.5).astype(np.float32)], -1))
    dataset = dataset_of(cameras, images)
    assert dataset.has_alpha
    torch.manual_seed(0)
    trainer = Trainer(NerfModel(TINY), dataset, seed=0, total_steps=200)
    for _ in range(200):
        trainer.step()
    rendered = Scene(trainer.model, dataset.transform, None, "cpu", True).render(cameras[0])
    truth = torch.from_numpy(images[0][..., 3])
    assert rendered.alpha[truth > 0.5].mean() > 0.8 and rendered.alpha[truth < 0.5].mean() < 0.3
    assert rendered.rgb_srgb[0, 0].min() > 0.7, "white shows through"
