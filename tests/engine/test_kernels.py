"""The kernels against their twins in plain torch, forward and backward, and for GPUs that are not there."""

import pytest
import torch

from in2n_blender.engine.nerf import compositing, losses, sampling
from in2n_blender.engine.nerf import encoding as encoding_module
from in2n_blender.engine.nerf.compositing import ray_weights, ray_weights_torch
from in2n_blender.engine.nerf.dataset import SceneTransform, camera_bundle
from in2n_blender.engine.nerf.encoding import GridEncoding, GridLayout, encode_torch
from in2n_blender.engine.nerf.kernels.compositing import compositing_kernels
from in2n_blender.engine.nerf.kernels.encoding import RUN, encoding_kernels
from in2n_blender.engine.nerf.kernels.launch import launch_all, numbers, vec3s
from in2n_blender.engine.nerf.kernels.losses import loss_kernel
from in2n_blender.engine.nerf.kernels.marching import march_kernels
from in2n_blender.engine.nerf.kernels.sampling import sampling_kernels
from in2n_blender.engine.nerf.losses import (
    distortion_loss,
    interlevel_loss,
    nearness_loss,
    ray_losses,
)
from in2n_blender.engine.nerf.rendering import NerfModel
from in2n_blender.engine.nerf.sampling import (
    place_samples,
    place_samples_torch,
    resample,
    resample_torch,
    uniform_bins,
)
from in2n_blender.engine.nerf.scene import Scene
from in2n_blender.engine.nerf.settings import GPU
from tests.engine.ball import TINY, ring


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
        for launch in ("launch_all", "launch_over_rays"):
            monkeypatch.setattr(module, launch, lambda *given: pytest.fail("a kernel was launched"), raising=False)
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


def on_rays(rays=40, samples=23):
    """Points along rays, so that some that follow each other are in one cell; not a multiple of a run."""
    starts, directions = torch.rand(rays, 1, 3), torch.nn.functional.normalize(torch.randn(rays, 1, 3), dim=-1)
    along = torch.linspace(0, 0.7, samples)[None, :, None]
    return (starts + along * directions).clamp(0, 1).view(-1, 3)


@pytest.mark.parametrize("features", [1, 4])
@pytest.mark.parametrize("count", [1, RUN, 40 * 23])
def test_the_kernels_for_gpus_read_and_add_the_same(monkeypatch, features, count):
    layout = GridLayout.growing(4, 8, 64, 12)
    encoding = GridEncoding(layout, features, initial_range=1.0, threads=1)
    positions = on_rays()[:count].contiguous()
    weight, found = torch.randn(count, encoding.width), []
    for as_on_a_gpu in (False, True):
        monkeypatch.setattr(encoding_module, "runs_by_level", lambda device, given=as_on_a_gpu: given)
        encoded = encoding(positions)
        found.append((encoded, *torch.autograd.grad((encoded * weight).sum(), encoding.table)))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.allclose(found[0][1], found[1][1], atol=1e-5) and found[1][1].abs().sum() > 0


def test_along_rays_most_additions_to_the_table_are_saved():
    """What a run adds to a cell it adds once: counted as the kernel goes."""
    positions, saved = on_rays(rays=200, samples=48), []
    for resolution in (16, 64):
        cells = (positions * (resolution - 1)).long().clamp(max=resolution - 2)
        changes = (cells[1:] != cells[:-1]).any(1)
        changes[RUN - 1 :: RUN] = True  # a run ends
        saved.append(1 - (1 + int(changes.sum())) / len(positions))
    assert saved[0] > 0.5 and saved[1] > 0


def test_memory_that_is_only_described_gives_the_same(monkeypatch):
    """As on a GPU, where wrapping tensors takes longer than launching."""
    origins, directions, bins = jittered_rays()
    expected = place_samples(origins, directions, bins, 0.07)
    points, starts, ends = torch.empty(600, 20, 3), torch.empty(600, 20), torch.empty(600, 20)
    given = [
        (origins, vec3s),
        (directions, vec3s),
        (bins, numbers),
        (points, vec3s),
        (starts, numbers),
        (ends, numbers),
    ]
    inputs = [hand(tensor.contiguous(), True) for tensor, hand in given] + list(sampling.spacing_range(0.07))
    launch_all(sampling_kernels()[0], [(600, inputs)], torch.device("cpu"))
    assert torch.equal(points.view(-1, 3), expected.points) and torch.equal(starts, expected.starts)
