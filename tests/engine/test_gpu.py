"""What a GPU must do as a CPU does: kernels against their twins, streams, memory that ends, a whole job.

They run where there is a GPU; with IN2N_GPU_TESTS=cpu on the processor, in small, which shows that the tests work."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from in2n_blender.engine.editing.baselines import run_method
from in2n_blender.engine.editing.methods import edit
from in2n_blender.engine.jobs import import_capture, path_through_views
from in2n_blender.engine.nerf import settings as nerf_settings
from in2n_blender.engine.nerf.checkpoint import read_checkpoint
from in2n_blender.engine.nerf.compositing import ray_weights, ray_weights_torch
from in2n_blender.engine.nerf.dataset import RayDataset, SceneTransform
from in2n_blender.engine.nerf.encoding import GridEncoding, GridLayout, encode_torch
from in2n_blender.engine.nerf.losses import distortion_loss, interlevel_loss, nearness_loss, ray_losses
from in2n_blender.engine.nerf.ray_marching import march
from in2n_blender.engine.nerf.reconstruction import reconstruct
from in2n_blender.engine.nerf.regions import InsideTest, signed_distance_torch
from in2n_blender.engine.nerf.rendering import NerfModel, RayBundle
from in2n_blender.engine.nerf.sampling import (
    place_samples,
    place_samples_torch,
    resample,
    resample_torch,
    uniform_bins,
)
from in2n_blender.engine.nerf.scene import Scene, load_scene
from in2n_blender.engine.nerf.settings import CPU, GPU, with_options
from in2n_blender.engine.nerf.training import LEAST_RAYS, Trainer
from in2n_blender.engine.output.frames import render_path
from in2n_blender.engine.output.mesh import extract_mesh
from in2n_blender.engine.splats import twin as splat_twin
from in2n_blender.engine.splats.rasterizer import View
from in2n_blender.engine.splats.rasterizer import draw as draw_splats
from in2n_blender.link.requests import Edit, ExtractMesh, ImportCapture, PathThroughViews, Reconstruct, RenderPath
from in2n_blender.scene.errors import Cancelled
from in2n_blender.scene.region import Region
from in2n_blender.scene.reporting import Progress, Reporter
from tests.engine.ball import TINY, photographed_ball, reconstructed_ball, ring, sphere_image
from tests.engine.test_splats import VIEW, cloud

DEVICE = torch.device(os.environ.get("IN2N_GPU_TESTS") or "cuda")
ON_GPU = DEVICE.type == "cuda"
DEMO = Path(__file__).resolve().parents[2] / "in2n_blender" / "data" / "demo_capture"
PRESETS = list(GPU) if ON_GPU else ["draft"]
COUNTS = (1, 70_001) if ON_GPU else (1, 1_001)  # odd ones: the last block is not full
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        ON_GPU and not torch.cuda.is_available(), reason="there is no GPU; IN2N_GPU_TESTS=cpu runs these on the CPU"
    ),
]


def near(ours: torch.Tensor, twin: torch.Tensor, most: float = 1e-3, share: float = 1.0) -> bool:
    """Whether two tensors differ by at most so much of the second one's largest number, in a share of their places."""
    off = (ours.float() - twin.float()).abs() <= most * max(float(twin.abs().max()), 1e-12)
    return bool(torch.isfinite(ours).all()) and float(off.float().mean()) >= share


def numbers(*shape, seed=0, scale=1.0):
    """Normal numbers on the device, of which no two rows lie together in memory."""
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn((2 * shape[0], *shape[1:]), generator=generator)).to(DEVICE)[::2]


def rays(count: int, seed: int = 1) -> RayBundle:
    return RayBundle(
        numbers(count, 3, seed=seed, scale=0.5), torch.nn.functional.normalize(numbers(count, 3, seed=seed + 1), dim=-1)
    )


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("part", ["field", "proposal"])
@pytest.mark.parametrize("preset", PRESETS)
def test_the_encoding_of_every_presets_tables(preset, part, count):
    s = GPU[preset]
    if part == "field":
        layout, features = GridLayout.growing(s.levels, s.coarsest, s.finest, s.log2_table), s.features
    else:
        layout = GridLayout.growing(s.proposal_levels, s.coarsest, s.proposal_finest, s.log2_table)
        features = 1
    torch.manual_seed(0)
    encoding = GridEncoding(layout, features, initial_range=1.0).to(DEVICE)
    positions = (numbers(count, 3) * 0.3 + 0.5).clamp(0, 1).requires_grad_()
    weight = numbers(count, encoding.width, seed=2)
    ours, twin = encoding(positions), encode_torch(positions, encoding.table, layout)
    assert near(ours, twin, 2e-3)
    wanted = [positions, encoding.table]
    ours, twin = (torch.autograd.grad((values * weight).sum(), wanted) for values in (ours, twin))
    # At the border of two cells a position has two gradients.
    assert near(ours[0], twin[0], 2e-3, share=0.999 if count > 1 else 1.0) and near(ours[1], twin[1], 2e-3)
    assert ours[0].abs().sum() > 0 and ours[1].abs().sum() > 0


@pytest.mark.parametrize("count", COUNTS)
def test_samples_weights_and_losses_along_rays(count):
    bundle = rays(count)
    bins = uniform_bins(count, 40, DEVICE, torch.Generator(DEVICE).manual_seed(0))
    ours, twin = (
        place(bundle.origins, bundle.directions, bins, 0.07) for place in (place_samples, place_samples_torch)
    )
    assert near(ours.points, twin.points, 1e-5) and near(ours.starts, twin.starts) and near(ours.ends, twin.ends)

    densities = (numbers(count, 40, seed=3).abs() ** 4).requires_grad_()
    wanted, found = numbers(count, 40, seed=4), []
    for weights_of in (ray_weights, ray_weights_torch):
        weights = weights_of(ours.starts, ours.ends, densities)
        found.append((weights, *torch.autograd.grad((weights * wanted).sum(), densities)))
    assert near(found[0][0], found[1][0], 1e-4) and near(found[0][1], found[1][1], 1e-3)

    weights = found[0][0].detach()
    shifts = torch.rand((count, 1), device=DEVICE, generator=torch.Generator(DEVICE).manual_seed(5))
    resampled = resample(bins, weights, 23, torch.Generator(DEVICE).manual_seed(5))
    # An edge at the very end of a long empty interval may fall to either of its ends.
    assert near(resampled, resample_torch(bins, weights, 23, shifts), 1e-4, share=0.99)
    assert (resampled.diff(dim=-1) >= 0).all()

    proposal = (numbers(count, 30, seed=6).abs() / 60).requires_grad_()
    proposal_bins = uniform_bins(count, 30, DEVICE)
    fine = weights.clone().requires_grad_()
    twin = torch.stack(
        [interlevel_loss(bins, fine, proposal_bins, proposal), distortion_loss(bins, fine), nearness_loss(bins, fine)]
    )
    ours = ray_losses(bins, fine, proposal_bins, proposal)
    factors = torch.tensor([1.0, 2.0, 3.0], device=DEVICE)
    assert near(ours, twin, 1e-3)
    for a, b in zip(*(torch.autograd.grad((loss * factors).sum(), [fine, proposal]) for loss in (ours, twin))):
        assert near(a, b, 2e-3, share=0.999)


def filled(settings) -> NerfModel:
    """A model with something in its tables."""
    torch.manual_seed(0)
    model = NerfModel(settings)
    with torch.no_grad():
        for encoding in (model.field.encoding, model.proposal.encoding):
            encoding.table.normal_(0.2, 0.5)
    return model.to(DEVICE)


@pytest.mark.parametrize("preset", PRESETS)
def test_marching_shows_what_training_renders(preset):
    model, bundle = filled(GPU[preset] if ON_GPU else TINY), rays(COUNTS[1] // 10)
    with torch.no_grad():
        ours, twin = march(model, bundle), model(bundle)
    for name in ("color", "alpha"):
        assert near(getattr(ours, name), getattr(twin, name), 5e-3, share=0.99), name
    behind = [(1 - rendered.alpha)[:, None] * rendered.last_color for rendered in (ours, twin)]
    assert ((behind[0] - behind[1]).abs() < 5e-3).float().mean() > 0.99, "where a ray is opaque nothing is looked up"
    assert near(ours.distance.clamp(max=10), twin.distance.clamp(max=10), 1e-2, share=0.98)


def test_a_regions_distance():
    region = Region.around(np.array([[-0.4, -0.3, -0.2], [0.5, 0.3, 0.6]]))
    inside = InsideTest(region, DEVICE)
    points = numbers(COUNTS[1] // 100, 3)
    twin = signed_distance_torch(points, inside.vertices, inside.faces)
    assert near(inside.signed_distance(points), twin, 1e-3) and (twin < 0).any()


def test_splats_are_drawn_as_their_twin_draws_them():
    rows = cloud()
    ours = draw_splats(rows.to(DEVICE), View(VIEW.rotation, VIEW.position, VIEW.lens, VIEW.width, VIEW.height))
    learnt = rows.clone().requires_grad_()
    picture, transmittance = splat_twin.draw(learnt, VIEW)
    assert near(ours.picture.cpu(), picture.detach(), 2e-3) and near(
        ours.transmittance.cpu(), transmittance.detach(), 2e-3
    )
    of_picture, of_light = numbers(VIEW.height, VIEW.width, 3, seed=7), numbers(VIEW.height, VIEW.width, seed=8)
    (twin,) = torch.autograd.grad((picture * of_picture.cpu()).sum() + (transmittance * of_light.cpu()).sum(), learnt)
    chosen, gradients = ours.gradients(of_picture, of_light)
    found = torch.zeros_like(rows)
    found[chosen.cpu().long()] = gradients.cpu()
    assert near(found, twin, 1e-2, share=0.995)


@pytest.mark.skipif(not ON_GPU, reason="a processor has no streams")
def test_kernels_keep_torchs_own_stream():
    """A kernel on another stream would read what is not there yet, and be read before it is done."""
    s = GPU["standard"]
    layout = GridLayout.growing(s.levels, s.coarsest, s.finest, s.log2_table)
    encoding = GridEncoding(layout, s.features, initial_range=1.0).to(DEVICE)
    expected = encoding(torch.full((200_000, 3), 0.37, device=DEVICE))
    torch.cuda.synchronize()
    side, slow = torch.cuda.Stream(DEVICE), torch.randn(6000, 6000, device=DEVICE)
    for _ in range(3):
        with torch.cuda.stream(side):
            positions = torch.zeros((200_000, 3), device=DEVICE)
            for _ in range(4):
                slow = torch.tanh(slow @ slow)  # many milliseconds, before what the kernel reads is written
            positions.copy_((0.37 + 0 * slow.mean()).expand_as(positions))
            encoded = encoding(positions)
            total = encoded.sum()
        side.synchronize()
        assert torch.equal(encoded, expected) and torch.isfinite(total)


def ball_trainer(settings, loss="mse", log=print, steps=600):
    cameras = ring(3)
    torch.manual_seed(0)
    dataset = RayDataset(cameras, [sphere_image(camera) for camera in cameras], SceneTransform.of(cameras), DEVICE)
    return Trainer(NerfModel(settings), dataset, 0, steps, loss=loss, log=log)


@pytest.mark.parametrize("options", [(False, False), (True, True)], ids=["plain", "appearance and cameras"])
@pytest.mark.parametrize("loss", ["mse", "l1"])
@pytest.mark.parametrize("preset", PRESETS)
def test_steps_of_every_preset_loss_and_option(preset, loss, options):
    settings = GPU[preset] if ON_GPU else replace(TINY, perceptual="lpips")
    trainer = ball_trainer(with_options(settings, *options, views=3), loss)
    losses = [trainer.step().item() for _ in range(3)]
    assert all(0 < value < 10 for value in losses) and trainer.step_count == 3
    assert all(torch.isfinite(parameter).all() for parameter in trainer.model.parameters())


def test_training_learns_and_goes_on_from_what_it_saved():
    settings = replace(GPU["draft"], rays=1024, log2_table=15) if ON_GPU else TINY
    trainer = ball_trainer(settings)
    losses = [trainer.step().item() for _ in range(200 if ON_GPU else 40)]
    assert sum(losses[-10:]) < (0.3 if ON_GPU else 0.8) * sum(losses[:10])
    tensors, numbers_ = trainer.state()
    assert all(tensor.device.type == "cpu" for tensor in tensors.values())
    other = ball_trainer(settings)
    other.restore(tensors, numbers_)
    assert other.step_count == trainer.step_count
    ours, theirs = trainer.step().item(), other.step().item()
    assert ours == pytest.approx(theirs, rel=1e-3), "the same pixels; sums in any order on a GPU"


@pytest.mark.skipif(not ON_GPU, reason="a processor's memory has no limit; tests/faults/test_memory.py simulates one")
def test_a_step_that_takes_too_much_memory_takes_fewer_rays():
    said, settings = [], replace(GPU["draft"], rays=2**19)
    trainer = ball_trainer(settings, log=said.append)
    total = torch.cuda.get_device_properties(DEVICE).total_memory
    torch.cuda.empty_cache()
    try:
        torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved(DEVICE) + 4 * 2**30) / total))
        trainer.step()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    assert LEAST_RAYS <= trainer.rays < 2**19 and trainer.step_count == 1 and "Memory ended" in said[0]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """The bundled capture, imported; on a CPU three small photos."""
    folder = tmp_path_factory.mktemp("gpu") / "capture.in2n"
    if not ON_GPU:
        return photographed_ball(folder, ring(4), held_out=(3,))
    import_capture(ImportCapture(workspace=str(folder), source=str(DEMO), preset="draft"), Reporter())
    return folder


@pytest.fixture(scope="module", autouse=True)
def small_on_a_cpu():
    with pytest.MonkeyPatch.context() as patch:
        if not ON_GPU:
            patch.setitem(nerf_settings.CPU, "draft", replace(TINY, edit_rounds=1, edit_rate=2))
        yield


def test_a_job_is_interrupted_and_goes_on_then_edits_renders_and_meshes(workspace):
    """From the photos to frames and a mesh of an edit, as the worker does it."""
    name = str(workspace)
    request = Reconstruct(workspace=name, preset="draft", device=DEVICE.type, steps=600 if ON_GPU else 60)
    steps = []
    emit = lambda event: steps.append(event.done) if isinstance(event, Progress) and event.unit == "step" else None
    with pytest.raises(Cancelled):
        reconstruct(request, Reporter(emit, lambda: bool(steps) and steps[-1] >= request.steps // 3))
    assert 0 < read_checkpoint(workspace / "reconstruction")[1]["step"] < request.steps
    state = reconstruct(request, Reporter())
    assert state["done"] and state["step"] == request.steps and state["psnr_db"] > (24 if ON_GPU else 8)

    instruction = "Make it look like it just snowed"
    made = edit(
        Edit(workspace=name, name="snow", instruction=instruction, preset="draft", device=DEVICE.type, rounds=1),
        Reporter(),
    )
    assert made["done"] and made["unet_evaluations"] > 0
    path = path_through_views(PathThroughViews(workspace=name, frames=2), Reporter())["camera_path"]
    frames = render_path(RenderPath(workspace=name, camera_path=path, edit="snow", device=DEVICE.type), Reporter())
    assert frames["rendered"] == 2
    mesh = extract_mesh(
        ExtractMesh(workspace=name, edit="snow", resolution=48 if ON_GPU else 16, texture=0, device=DEVICE.type),
        Reporter(),
    )
    assert mesh["faces"] > 0 if ON_GPU else mesh


def test_score_distillation_takes_its_gradient_through_the_model(workspace):
    """A view rendered on the device meets its photo, which is in main memory."""
    if read_checkpoint(workspace / "reconstruction") is None:
        pytest.skip("there is no reconstruction: the test before failed")
    instruction = "Make it look like it just snowed"
    request = Edit(
        workspace=str(workspace), name="sds", instruction=instruction, preset="draft", device=DEVICE.type, rounds=1
    )
    state = run_method("score-distillation", request, Reporter()).state
    assert state["done"] and state["unet_evaluations"] > 0 and (workspace / "edits" / "sds" / "preview.png").is_file()


def test_what_a_gpu_made_a_cpu_renders_alike(workspace):
    if read_checkpoint(workspace / "reconstruction") is None:
        pytest.skip("there is no reconstruction: the test before failed")
    ours, other = (load_scene(str(workspace), None, device) for device in (DEVICE.type, "cpu"))
    camera = ours.capture.views[0].camera
    camera = camera.scaled_to(*(max(8, side // 3) for side in (camera.intrinsics.width, camera.intrinsics.height)))
    a, b = ours.render(camera), other.render(camera)
    error = ((a.rgb_srgb - b.rgb_srgb) ** 2).mean()
    assert -10 * torch.log10(error.clamp_min(1e-12)) > 45
    assert near(a.depth, b.depth, 2e-2, share=0.97)


def test_chunks_of_any_size_show_the_same(tmp_path):
    if not ON_GPU:
        workspace = reconstructed_ball(tmp_path / "ws", ring(3))
        scene = load_scene(str(workspace), None, "cpu")
    else:
        trainer = ball_trainer(replace(GPU["draft"], rays=1024, log2_table=15))
        for _ in range(100):
            trainer.step()
        scene = Scene(trainer.model, trainer.dataset.transform, None, DEVICE, False)
    camera = ring(5)[1].scaled_to(61, 43)
    pictures = [scene.render(camera, chunk=chunk).rgb_srgb for chunk in (97, 1000, 10**6)]
    assert near(pictures[0], pictures[1], 1e-4) and near(pictures[0], pictures[2], 1e-4)
    assert set(CPU) == set(GPU)
