"""The NeRF: kernels against their torch twins, sampling and losses against their formulas, a tiny scene learnt and
resumed."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from in2n_blender.engine.measure import psnr
from in2n_blender.engine.nerf import compositing, losses, sampling
from in2n_blender.engine.nerf import encoding as encoding_module
from in2n_blender.engine.nerf.camera_refinement import CameraRefinement, rotation_matrices
from in2n_blender.engine.nerf.checkpoint import read_checkpoint, save_checkpoint
from in2n_blender.engine.nerf.compositing import ray_weights, ray_weights_torch
from in2n_blender.engine.nerf.dataset import RayDataset, SceneTransform, camera_bundle
from in2n_blender.engine.nerf.encoding import GridEncoding, GridLayout, encode_torch
from in2n_blender.engine.nerf.kernels.compositing import compositing_kernels
from in2n_blender.engine.nerf.kernels.encoding import encoding_kernels
from in2n_blender.engine.nerf.kernels.losses import loss_kernel
from in2n_blender.engine.nerf.kernels.marching import march_kernels
from in2n_blender.engine.nerf.kernels.sampling import sampling_kernels
from in2n_blender.engine.nerf.losses import (
    PerceptualLoss,
    distortion_loss,
    interlevel_loss,
    nearness_loss,
    perceptual_loss,
    ray_losses,
)
from in2n_blender.engine.nerf.ray_marching import march
from in2n_blender.engine.nerf.reconstruction import reconstruct
from in2n_blender.engine.nerf.rendering import NerfModel
from in2n_blender.engine.nerf.sampling import (
    contract,
    distance_to_spacing,
    place_samples,
    place_samples_torch,
    resample,
    resample_torch,
    spacing_to_distance,
    uniform_bins,
)
from in2n_blender.engine.nerf.scene import Scene, bytes_a_ray, load_scene, rays_a_chunk
from in2n_blender.engine.nerf.settings import CPU, GPU, NerfSettings, with_options
from in2n_blender.engine.nerf.training import Trainer
from in2n_blender.link.requests import Reconstruct
from in2n_blender.scene.camera import Camera, Intrinsics
from in2n_blender.scene.capture import PinholeCapture, View
from in2n_blender.scene.errors import Cancelled
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


@pytest.mark.parametrize("features", [1, 2, 4])
@pytest.mark.parametrize("threads", [1, 2])
def test_warp_encoding_equals_torch(features, threads):
    layout = GridLayout.growing(4, 8, 64, 12)
    assert any(size < r**3 for size, r in zip(layout.sizes, layout.resolutions)), "no hashed level is tested"
    encoding = GridEncoding(layout, features, initial_range=1.0, threads=threads)
    positions = torch.cat([torch.rand(5000, 3), torch.tensor([[0.0, 0, 0], [1, 1, 1], [1.5, -0.5, 0.5]])])
    ours, twin = encoding(positions), encode_torch(positions, encoding.table, layout)
    assert torch.allclose(ours, twin, atol=1e-5)
    weight = torch.randn_like(ours)
    (ours_gradient,) = torch.autograd.grad((ours * weight).sum(), encoding.table)
    (twin_gradient,) = torch.autograd.grad((twin * weight).sum(), encoding.table)
    assert torch.allclose(ours_gradient, twin_gradient, atol=1e-4)
    assert ours_gradient.abs().sum() > 0


def test_a_grid_too_fine_for_32_bits_is_hashed():
    layout = GridLayout((16, 2048, 4096), (16**3, 2**10, 2**10))
    encoding = GridEncoding(layout, 2, initial_range=1.0)
    positions = torch.rand(100, 3)
    assert torch.allclose(encoding(positions), encode_torch(positions, encoding.table, layout), atol=2e-3)


@pytest.mark.parametrize("features", [1, 4])
@pytest.mark.parametrize("threads", [1, 2])
def test_warp_encoding_has_torchs_gradient_of_the_positions(features, threads):
    layout = GridLayout.growing(4, 8, 64, 12)
    encoding = GridEncoding(layout, features, initial_range=1.0, threads=threads)
    inside = torch.rand(5000, 3)
    positions = torch.cat([inside, torch.tensor([[1.5, -0.5, 0.5]])]).requires_grad_()
    weight = torch.randn(len(positions), encoding.width)
    ours = torch.autograd.grad((encoding(positions) * weight).sum(), [positions, encoding.table])
    twin = torch.autograd.grad(
        (encode_torch(positions, encoding.table, layout) * weight).sum(), [positions, encoding.table]
    )
    for a, b in zip(ours, twin):
        assert torch.allclose(a, b, rtol=1e-3, atol=2e-3)
    assert ours[0][:-1].abs().sum() > 0 and ours[0][-1, :2].tolist() == [0, 0]


def jittered_rays(rays=600, samples=20):
    generator = torch.Generator().manual_seed(3)
    directions = torch.nn.functional.normalize(torch.randn((rays, 3), generator=generator), dim=-1)
    return torch.randn((rays, 3), generator=generator), directions, uniform_bins(rays, samples, "cpu", generator)


def test_samples_are_placed_as_in_torch():
    origins, directions, bins = jittered_rays()
    ours, twin = place_samples(origins, directions, bins, 0.07), place_samples_torch(origins, directions, bins, 0.07)
    assert torch.allclose(ours.points, twin.points, atol=1e-6) and ours.points.shape == (600 * 20, 3)
    assert torch.allclose(ours.starts, twin.starts, rtol=1e-5) and torch.allclose(ours.ends, twin.ends, rtol=1e-5)
    assert ours.starts.min() < 0.2 and ours.ends.max() > 900


def test_samples_of_rays_that_are_learnt_have_a_gradient():
    origins, directions, bins = jittered_rays()
    points = place_samples(origins.requires_grad_(), directions, bins, 0.07).points
    (gradient,) = torch.autograd.grad(points.sum(), origins)
    assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0


@pytest.mark.parametrize("padding", [0.0, 0.01])
def test_resampling_equals_torch(padding):
    _, _, bins = jittered_rays()
    weights = torch.rand(600, 20) ** 8
    weights[:50] = 0
    weights[50:100, 3:] = 0
    padding = max(padding, 1e-6)  # rays without any weight have only that
    jitter, shifts = torch.Generator().manual_seed(5), torch.rand((600, 1), generator=torch.Generator().manual_seed(5))
    ours, twin = resample(bins, weights, 13, jitter, padding), resample_torch(bins, weights, 13, shifts, padding)
    assert ours.shape == (600, 14) and (ours.diff(dim=-1) >= 0).all()
    # An edge at the very end of a long empty interval may fall to either of its ends.
    assert ((ours - twin).abs() < 1e-4).float().mean() > 0.995


def test_weights_along_rays_equal_nerfaccs_forward_and_backward():
    origins, directions, bins = jittered_rays(rays=700)
    samples = place_samples(origins, directions, bins, 0.05)
    densities = torch.rand(700, 20) ** 4 * 30
    densities[:20], densities[20:40] = 0, 1e4
    densities.requires_grad_()
    wanted = torch.randn(700, 20)
    values, gradients = [], []
    for function in (ray_weights, ray_weights_torch):
        values.append(function(samples.starts, samples.ends, densities))
        gradients.append(torch.autograd.grad((values[-1] * wanted).sum(), densities)[0])
    assert torch.allclose(*values, atol=1e-6)
    ours, twin = (
        gradient / (samples.ends - samples.starts) for gradient in gradients
    )  # an interval's width, up to 900, scales its errors
    assert torch.allclose(ours, twin, rtol=1e-4, atol=1e-6) and ours.abs().sum() > 0


def test_losses_of_rays_equal_torch_forward_and_backward():
    _, _, proposal_bins = jittered_rays()
    bins = resample(proposal_bins, torch.rand(600, 20) ** 6, 13, torch.Generator().manual_seed(1))
    weights, proposal_weights = (torch.rand(600, count) ** 3 / count for count in (13, 20))
    weights[:30], proposal_weights[30:60] = 0, 0
    leaves = weights.requires_grad_(), proposal_weights.requires_grad_()
    ours = ray_losses(bins, weights, proposal_bins, proposal_weights)
    # In doubles: the twin's sums are differences of cumulative ones, whose rounding is all there is of very small
    # weights.
    given = [values.double() for values in (bins, weights, proposal_bins, proposal_weights)]
    twin = torch.stack([interlevel_loss(*given), distortion_loss(*given[:2]), nearness_loss(*given[:2])])
    assert torch.allclose(ours.double(), twin, rtol=1e-4, atol=1e-7) and (ours > 0).all()
    mixed = torch.tensor([0.7, 1.3, -0.4])
    for a, b in zip(
        torch.autograd.grad((ours * mixed).sum(), leaves), torch.autograd.grad((twin * mixed).sum(), leaves)
    ):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-7) and a.abs().sum() > 0


def test_the_model_is_the_same_in_plain_torch(monkeypatch):
    torch.manual_seed(2)
    model = NerfModel(TINY)
    for encoding in (model.field.encoding, model.proposal.encoding):
        torch.nn.init.uniform_(encoding.table, -1, 2)
    bundle, _ = camera_bundle(ring()[0], SceneTransform.of(ring()), "cpu")

    def render_and_gradients():
        rendered = model(bundle, torch.Generator().manual_seed(4), anneal=0.7)
        loss = (rendered.color**2).sum() + ray_losses(
            rendered.bins, rendered.weights, rendered.proposal_bins, rendered.proposal_weights
        ).sum()
        return rendered, torch.autograd.grad(loss, list(model.parameters()))

    ours, gradients = render_and_gradients()
    for module in (encoding_module, sampling, compositing, losses):
        monkeypatch.setattr(module, "available", lambda device: False)
    twin, twin_gradients = render_and_gradients()
    for name in ("color", "alpha", "distance", "last_color", "weights", "proposal_weights"):
        a, b = getattr(ours, name), getattr(twin, name)
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-4), name
    for a, b in zip(gradients, twin_gradients):
        assert (a - b).abs().max() < 1e-3 * b.abs().max()


@pytest.mark.parametrize("arch", [75, 86, 90, 120])
def test_kernels_compile_for_cuda_without_a_gpu(arch, tmp_path):
    import warp

    model = NerfModel(GPU["standard"])
    levels = model.field.encoding.layout.levels, model.proposal.encoding.layout.levels
    kernels = (
        *encoding_kernels(4),
        *march_kernels(4, *levels),
        *sampling_kernels(),
        *compositing_kernels(),
        loss_kernel(),
    )
    for kernel in kernels:
        warp.compile_aot_module(kernel.module, device=None, arch=arch, module_dir=str(tmp_path), use_ptx=True)
    assert len(list(tmp_path.glob("*.ptx"))) == len(kernels)


def test_nerfacc_never_loads_its_cuda_backend():
    model = NerfModel(TINY)
    camera = ring()[0]
    Scene(model, SceneTransform.of(ring()), None, "cpu", False).render(camera)
    import sys

    assert "nerfacc.cuda._backend" not in sys.modules


def test_contraction_keeps_the_unit_cube_and_bounds_the_rest():
    inside = torch.rand(100, 3) * 2 - 1
    assert torch.equal(contract(inside), inside)
    assert contract(torch.tensor([[0.0, 4.0, 0.0]])).tolist() == [[0.0, 1.75, 0.0]]
    assert contract(torch.randn(1000, 3) * 1e4).abs().max() <= 2


def test_spacing_is_invertible():
    distance = torch.tensor([0.0, 0.3, 1.0, 5.0, 500.0])
    assert torch.allclose(spacing_to_distance(distance_to_spacing(distance)), distance, rtol=1e-3)


def test_resampling_goes_where_the_weight_is():
    bins = uniform_bins(3, 10, "cpu")
    weights = torch.zeros(3, 10)
    weights[:, 6] = 1.0
    new = resample(bins, weights, 20, padding=0.0)
    assert new.shape == (3, 21)
    assert (new.diff(dim=-1) >= 0).all() and (new[:, 1:] >= 0.6 - 1e-6).all() and (new <= 0.7 + 1e-6).all()
    jittered = resample(bins, weights, 20, torch.Generator().manual_seed(0))
    assert not torch.equal(jittered, new) and (jittered.diff(dim=-1) >= 0).all()


def test_distortion_equals_the_papers_double_sum():
    bins = torch.rand(5, 9).sort(-1).values.double()
    weights = torch.rand(5, 8).double()
    middle, width = (bins[:, 1:] + bins[:, :-1]) / 2, bins.diff(dim=-1)
    double_sum = (weights[:, :, None] * weights[:, None] * (middle[:, :, None] - middle[:, None]).abs()).sum((1, 2))
    assert torch.allclose(distortion_loss(bins, weights), (double_sum + (weights**2 * width / 3).sum(-1)).mean())


def test_nearness_is_the_weight_that_could_be_farther():
    bins = torch.tensor([[0.0, 0.2, 0.6, 1.0]])
    assert nearness_loss(bins, torch.tensor([[0.5, 0.5, 0.0]])) == pytest.approx(0.5 * 0.9 + 0.5 * 0.6)
    assert nearness_loss(bins, torch.tensor([[0.0, 0.0, 1.0]])) < nearness_loss(bins, torch.tensor([[1.0, 0.0, 0.0]]))


def test_interlevel_loss_is_zero_only_for_a_bounding_proposal():
    bins = torch.linspace(0, 1, 9).expand(2, -1).contiguous()
    weights = torch.rand(2, 8) / 8
    assert interlevel_loss(bins, weights, bins, weights) < 1e-6
    proposal = torch.zeros_like(weights, requires_grad=True)
    loss = interlevel_loss(bins, weights, bins, proposal + 0.0)
    loss.backward()
    assert loss > 0 and (proposal.grad <= 0).all() and proposal.grad.abs().sum() > 0


def test_perceptual_loss_falls_back_as_the_setting_says(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("IN2N_ALLOW_DOWNLOAD", raising=False)
    messages = []
    assert perceptual_loss("off", messages.append) is None and not messages
    assert perceptual_loss("lpips", messages.append) is None and len(messages) == 1
    loss = perceptual_loss("lpips-or-random", messages.append)
    assert len(messages) == 2 and loss.random_backbone
    patch = torch.rand(2, 3, 32, 32)
    assert loss(patch, patch) == 0 and loss(patch, 1 - patch) > 0
    assert torch.equal(loss(patch, 1 - patch), PerceptualLoss(random_backbone=True)(patch, 1 - patch)), "not seeded"


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


def test_scene_transform_centers_on_what_the_cameras_see():
    cameras = [look_at((5 + 3 * math.cos(a), 3 * math.sin(a), 2), target=(5, 0, 0)) for a in np.linspace(0, 6, 9)]
    transform = SceneTransform.of(cameras)
    assert np.allclose(transform.center, (5, 0, 0), atol=1e-3)
    assert max(
        np.linalg.norm(c.position - np.array(transform.center)) for c in cameras
    ) * transform.scale == pytest.approx(1)


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


def trained_on(cameras, images, steps=200, **options):
    torch.manual_seed(0)
    settings = with_options(TINY, options.get("appearance", False), options.get("refine_cameras", False), len(cameras))
    settings = replace(settings, **{name: value for name, value in options.items() if name.startswith("learning_rate")})
    dataset = dataset_of(cameras, images)
    trainer = Trainer(NerfModel(settings), dataset, seed=0, total_steps=steps)
    for _ in range(steps):
        trainer.step()
    return trainer, Scene(trainer.model, dataset.transform, None, "cpu", False)


def test_appearance_takes_up_what_differs_in_exposure():
    """Every camera took two photos, the second with half the light: only the photo itself says which it is."""
    cameras = ring(8) * 2
    images = [sphere_image(camera) * (1.0 if i < 8 else 0.5) for i, camera in enumerate(cameras)]
    _, scene = trained_on(cameras, images, appearance=True)
    own = np.mean([psnr(scene.render(c, view=i).rgb_srgb, image) for i, (c, image) in enumerate(zip(cameras, images))])
    halfway = np.mean([psnr(image * 0.75 / (1.0 if i < 8 else 0.5), image) for i, image in enumerate(images)])
    assert own > halfway + 1, "better than what one scene can be for both"
    dark, middle, bright = (scene.render(cameras[0], view=view).rgb_srgb.mean() for view in (8, None, 0))
    assert bright > 1.5 * dark and dark < middle < bright


def turned(camera, degrees):
    angle = math.radians(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    pose = camera.camera_to_world.copy()
    pose[:3, :3] = turn[:3, :3] @ pose[:3, :3]
    return Camera(camera.intrinsics, pose)


def pixels_apart(a, b):
    """How far apart two cameras see the ball's surface; a turn and a step aside that undo each other there are no
    mistake."""
    points = np.random.default_rng(0).normal(size=(30, 3))
    points *= 0.6 / np.linalg.norm(points, axis=1, keepdims=True)

    def seen(camera):
        x, y, z = (points - camera.position).dot(camera.camera_to_world[:3, :3]).T
        return np.stack([camera.intrinsics.fx * x / -z, camera.intrinsics.fy * y / -z], 1)

    return np.linalg.norm(seen(a) - seen(b), axis=1).mean()


def test_refinement_brings_a_wrong_pose_nearer():
    cameras = ring(16)
    images = [sphere_image(c) for c in cameras]
    given = [turned(c, 4) if i == 3 else c for i, c in enumerate(cameras)]
    trainer, _ = trained_on(given, images, steps=300, refine_cameras=True)
    refined = trainer.dataset.cameras
    assert pixels_apart(given[3], cameras[3]) > 2 and pixels_apart(refined[3], cameras[3]) < 1.4
    assert np.median([pixels_apart(a, b) for a, b in zip(refined, cameras)]) < 0.6, (
        "the right ones stay where they were"
    )
    pixels = torch.arange(int(trainer.dataset.starts[3]), int(trainer.dataset.starts[4]))
    expected, _ = camera_bundle(refined[3], trainer.dataset.transform, "cpu")
    rays = trainer.dataset.rays(pixels)
    assert torch.allclose(rays.directions, expected.directions, atol=1e-5) and torch.allclose(
        rays.origins, expected.origins, atol=1e-5
    )


def test_rotation_matrices_are_the_exponential_of_the_cross_product():
    vectors = torch.cat([torch.randn(20, 3), torch.randn(5, 3) * 1e-4, torch.zeros(1, 3)]).requires_grad_()
    x, y, z = vectors.detach().double().unbind(-1)
    zero = torch.zeros_like(x)
    expected = torch.matrix_exp(torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).view(-1, 3, 3))
    found = rotation_matrices(vectors)
    assert torch.allclose(found.double(), expected, atol=1e-5)
    found[:, 0, 1].sum().backward()
    assert torch.isfinite(vectors.grad).all() and vectors.grad[-1].tolist() == [0, 0, -1]


def test_refinement_does_not_move_all_cameras_together():
    refinement = CameraRefinement(4)
    torch.nn.init.normal_(refinement.raw, 0.3, 0.1)
    _, translations = refinement.deltas()
    assert translations.mean(0).abs().max() < 1e-6
    cameras = ring(4)
    for before, after in zip(cameras, refinement.cameras(cameras, scale=0.5)):
        rotation = after.camera_to_world[:3, :3]
        assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-5) and not np.allclose(
            before.position, after.position
        )


def test_views_own_parameters_resume_exactly_and_rest_while_editing():
    cameras = ring(4)
    images = [sphere_image(c) for c in cameras]
    settings = with_options(TINY, True, True, len(cameras))

    def fresh(loss="mse"):
        torch.manual_seed(0)
        return Trainer(NerfModel(settings), dataset_of(cameras, images), seed=5, total_steps=20, loss=loss)

    straight, first, resumed = fresh(), fresh(), fresh()
    for _ in range(8):
        straight.step()
    for _ in range(3):
        first.step()
    resumed.restore(*first.state())
    for _ in range(5):
        resumed.step()
    for a, b in zip(straight.model.state_dict().values(), resumed.model.state_dict().values()):
        assert torch.allclose(a, b, atol=1e-6)
    own = {
        name: value.clone()
        for name, value in straight.model.state_dict().items()
        if name in ("field.appearance", "refinement.raw")
    }
    assert all(value.abs().sum() > 0 for value in own.values())

    editing = fresh("l1")
    editing.model.load_state_dict(straight.model.state_dict())
    assert np.allclose(editing.dataset.cameras[1].camera_to_world, straight.dataset.cameras[1].camera_to_world)
    for _ in range(2):
        editing.step()
    for name, value in own.items():
        assert torch.equal(editing.model.state_dict()[name], value)


@pytest.fixture
def workspace(tmp_path):
    """Six small photos of the ball, one of them held out."""
    from PIL import Image

    cameras = ring(6)
    views = tuple(View(f"{i}", f"images/{i}.png", camera, held_out=i == 2) for i, camera in enumerate(cameras))
    (tmp_path / "images").mkdir()
    for view in views:
        Image.fromarray((sphere_image(view.camera) * 255).round().astype(np.uint8)).save(tmp_path / view.image)
    write_json(tmp_path / "capture.json", PinholeCapture("ball", ".", "draft", views).to_json())
    return tmp_path


def test_a_reconstruction_with_options_is_stored_resumed_and_loaded(workspace):
    request = Reconstruct(
        workspace=str(workspace), preset="draft", device="cpu", steps=6, appearance=True, refine_cameras=True
    )
    asked = 0

    def after_some_steps():
        nonlocal asked
        asked += 1
        return asked > 5 + 3

    with pytest.raises(Cancelled):
        reconstruct(request, Reporter(cancelled=after_some_steps))
    halfway, state = read_checkpoint(workspace / "reconstruction")
    assert 0 < state["step"] < 6 and not state["done"]
    reconstruct(request, Reporter())
    resumed, state = read_checkpoint(workspace / "reconstruction")
    assert state["done"] and state["settings"]["views"] == 5
    reconstruct(replace(request, restart=True), Reporter())
    straight, _ = read_checkpoint(workspace / "reconstruction")
    assert {"model.field.appearance", "model.refinement.raw"} < set(straight)
    for name, value in straight.items():
        assert torch.allclose(value, resumed[name], atol=1e-6), name
    scene = load_scene(str(workspace), None, "cpu")
    assert scene.model.refinement.raw.abs().sum() > 0
    assert torch.isfinite(scene.render(ring()[0], view=1).rgb_srgb).all()


def test_a_checkpoint_from_before_a_setting_came_still_counts(workspace):
    request = Reconstruct(workspace=str(workspace), preset="draft", device="cpu", steps=2)
    reconstruct(request, Reporter())
    tensors, state = read_checkpoint(workspace / "reconstruction")
    for name in ("appearance", "refine_cameras", "views", "learning_rate_appearance", "learning_rate_cameras"):
        del state["settings"][name]
    save_checkpoint(workspace / "reconstruction", tensors, state)
    messages = []
    reconstruct(request, Reporter(messages.append))
    assert not messages
    reconstruct(replace(request, steps=3), Reporter(messages.append))
    assert any("starts anew" in str(event) for event in messages)


def test_without_options_a_model_is_what_it_was():
    assert with_options(TINY, False, False, 9) is TINY
    assert set(NerfModel(TINY).state_dict()) == {"proposal.encoding.table", "field.encoding.table"} | {
        f"field.color.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")
    }


def test_chunks_fit_the_memory_they_may_take(monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert all(rays_a_chunk(settings, cpu) == 16384 for settings in CPU.values())
    assert rays_a_chunk(GPU["full"], cuda, memory_mb=10) == 10 * 2**20 // bytes_a_ray(GPU["full"]) < 4096
    assert rays_a_chunk(GPU["draft"], cuda, memory_mb=1e6) == 65536
    assert rays_a_chunk(GPU["full"], cpu, memory_mb=0) == 1
    monkeypatch.setenv("IN2N_RENDER_MEMORY_MB", "20")
    assert rays_a_chunk(CPU["full"], cpu) == 20 * 2**20 // bytes_a_ray(CPU["full"])


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
