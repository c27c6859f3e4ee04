"""A training step by what it hands on: rays, jitter and annealing to the model, learning rates to the optimiser."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from in2n_blender.engine.nerf import rendering
from in2n_blender.engine.nerf.compositing import ray_weights
from in2n_blender.engine.nerf.constants import FAR
from in2n_blender.engine.nerf.dataset import SceneTransform, camera_bundle
from in2n_blender.engine.nerf.field import RadianceField
from in2n_blender.engine.nerf.reconstruction import near_plane, start
from in2n_blender.engine.nerf.rendering import NerfModel
from in2n_blender.engine.nerf.sampling import place_samples, resample, uniform_bins
from in2n_blender.engine.nerf.scene import Scene
from in2n_blender.engine.nerf.settings import with_options
from in2n_blender.engine.nerf.training import Trainer
from in2n_blender.scene.camera import Camera, Intrinsics
from in2n_blender.scene.capture import PinholeCapture, View
from in2n_blender.scene.reporting import Reporter
from tests.engine.ball import TINY, dataset_of, ring, sphere_image

RATES = replace(
    with_options(TINY, True, True, 4),
    learning_rate_grid=0.1,
    learning_rate_mlp=0.02,
    learning_rate_appearance=0.003,
    learning_rate_cameras=0.0004,
    learning_rate_decay=0.01,
)


def trainer_of(settings=TINY, **more):
    torch.manual_seed(0)
    cameras = ring(4)
    dataset = dataset_of(cameras, [sphere_image(c) for c in cameras])
    return Trainer(NerfModel(settings), dataset, **{"seed": 0, "total_steps": 200, "log": lambda text: None, **more})


def watched(trainer, monkeypatch):
    """(bundle, jitter, anneal) of every call of the model, in a list."""
    calls, forward = [], trainer.model.forward

    def recorded(bundle, jitter=None, anneal=1.0):
        calls.append((bundle, jitter, anneal))
        return forward(bundle, jitter, anneal)

    monkeypatch.setattr(trainer.model, "forward", recorded)
    return calls


def rates_at(trainer, step):
    """The learning rates of the groups at a step, in the order of `groups_of`."""
    trainer.step_count = step
    trainer.step()
    return [group["lr"] for group in trainer.optimizer.param_groups]


def groups_of(trainer):
    """The names of each group's parameters."""
    names = {parameter: name for name, parameter in trainer.model.named_parameters()}
    return [{names[p] for p in group["params"]} for group in trainer.optimizer.param_groups]


TABLES = {"field.encoding.table", "proposal.encoding.table"}
MLP = {f"field.color.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")}


def test_tables_mlp_appearance_and_cameras_have_learning_rates_of_their_own():
    trainer = trainer_of(RATES)
    assert groups_of(trainer) == [TABLES, MLP, {"field.appearance"}, {"refinement.raw"}]
    assert rates_at(trainer, 49) == pytest.approx([r * 0.01 ** (49 / 200) for r in (0.1, 0.02, 0.003, 0.0004)])
    for group in trainer.optimizer.param_groups:
        assert group["betas"] == (0.9, 0.99) and group["eps"] == 1e-15 and group["weight_decay"] == 0
    editing = trainer_of(RATES, loss="l1", learning_rate=0.5)
    assert groups_of(editing) == [TABLES, MLP], "poses and appearances rest while editing"
    assert not any(p.requires_grad for n, p in editing.model.named_parameters() if n not in TABLES | MLP)
    assert rates_at(editing, 0) == pytest.approx([0.05, 0.01])


def test_a_state_says_how_far_it_is_and_else_only_what_is_unusual():
    """So that checkpoints of before there were GPUs, retreats and ends of memory go on as they did."""
    trainer = trainer_of(total_steps=7)
    trainer.step()
    assert trainer.state()[1] == {"step": 1, "total_steps": 7}
    trainer.rays, trainer.retreats = TINY.rays // 2, 1
    assert trainer.state()[1] == {"step": 1, "total_steps": 7, "retreats": 1, "rays": TINY.rays // 2}


def test_learning_rates_rise_over_50_steps_and_fall_over_all_while_reconstructing():
    trainer = trainer_of(RATES, learning_rate=2.0)
    for step, factor in (
        (0, 1 / 50),
        (24, 25 / 50 * 0.01 ** (24 / 200)),
        (100, 0.1),
        (200, 0.01),
        (300, 0.01),
    ):
        assert rates_at(trainer, step)[0] == pytest.approx(0.2 * factor), step


def test_learning_rates_stay_until_all_is_edited_and_fall_while_it_settles():
    trainer = trainer_of(RATES, loss="l1")
    for step, factor in ((0, 1), (80, 1), (160, 1), (180, 0.1), (200, 0.01), (300, 0.01)):
        assert rates_at(trainer, step)[0] == pytest.approx(0.1 * factor), step


def test_the_optimiser_is_adam_and_forgets_the_last_gradients():
    trainer = trainer_of()
    assert type(trainer.optimizer) is torch.optim.Adam
    bias = trainer.model.field.color[-1].bias
    for _ in range(2):
        trainer.descend(bias.sum())
    assert bias.grad.tolist() == [1.0, 1.0, 1.0] and trainer.step_count == 2
    assert trainer.model.field.encoding.table.grad is None


def test_the_proposal_is_annealed_over_the_first_tenth_while_reconstructing(monkeypatch):
    """Mip-NeRF 360's bias 10 x / (9 x + 1) of the part x of the first tenth of all steps; none while editing."""
    trainer = trainer_of(total_steps=1000)
    calls = watched(trainer, monkeypatch)
    for step in (0, 5, 25, 50, 101, 500):
        trainer.step_count = step
        trainer.step()
    x = [min(1.0, step / 101) for step in (0, 5, 25, 50, 101, 500)]
    annealed = [call[2] for call in calls]
    assert annealed == pytest.approx([10 * done / (9 * done + 1) for done in x])
    assert annealed[0] == 0 and annealed[-1] == 1
    editing = trainer_of(loss="l1")
    calls = watched(editing, monkeypatch)
    editing.step()
    assert calls[0][2] == 1.0


def test_annealing_evens_out_what_the_proposal_says():
    """At exponent 0 all intervals count alike, at 1 as the proposal says, between 0 and 1 between them."""
    torch.manual_seed(0)
    model = NerfModel(TINY)
    torch.nn.init.normal_(model.proposal.encoding.table, 1.5, 1.0)
    bundle, _ = camera_bundle(ring()[0], SceneTransform.of(ring()), "cpu")
    away = []
    for anneal in (0.0, 0.3, 1.0):
        rendered = model(bundle, None, anneal)
        expected = resample(rendered.proposal_bins, rendered.proposal_weights**anneal, TINY.samples)
        assert torch.allclose(rendered.bins, expected, atol=1e-6)
        even = resample(rendered.proposal_bins, torch.ones_like(rendered.proposal_weights), TINY.samples)
        away.append(float((rendered.bins - even).abs().mean()))
    assert away[0] < 1e-6 < 1e-2 < away[1] < away[2] and torch.equal(model(bundle).bins, rendered.bins)
    own = lambda samples: model.proposal(samples.points)
    field = lambda samples: model.field(samples.points, bundle.directions, None)
    unsaid = rendering.render_rays(bundle, TINY, model.near, own, field)
    assert torch.equal(unsaid.bins, rendered.bins), "where nothing is said of it all that the proposal says counts"


def test_samples_are_jittered_by_the_trainer_and_by_it_alone(monkeypatch):
    trainer = trainer_of()
    calls = watched(trainer, monkeypatch)
    trainer.step(), trainer.step()
    assert all(jitter is trainer.generator for _, jitter, _ in calls)
    camera, scene = ring()[1], Scene(trainer.model, trainer.dataset.transform, None, "cpu", False)
    first = scene.render(camera).rgb_srgb
    assert torch.equal(first, scene.render(camera).rgb_srgb)
    with monkeypatch.context() as patch:
        patch.setattr("in2n_blender.engine.nerf.scene.available", lambda device: False)
        plainly = scene.render(camera).rgb_srgb
    assert calls[-1][1] is None and calls[-1][2] == 1.0 and torch.allclose(plainly, first, atol=4e-3)


def test_jitter_moves_the_samples_of_every_ray_within_half_an_interval(monkeypatch):
    model, generator = NerfModel(TINY), torch.Generator().manual_seed(0)
    bundle, _ = camera_bundle(ring()[0], SceneTransform.of(ring()), "cpu")
    still, again = model(bundle), model(bundle)
    assert torch.equal(still.bins, again.bins) and torch.equal(still.proposal_bins, again.proposal_bins)
    first, second = model(bundle, generator), model(bundle, generator)
    assert not torch.equal(first.proposal_bins, second.proposal_bins) and not torch.equal(first.bins, second.bins)
    inner = first.proposal_bins[:, 1:-1] - still.proposal_bins[:, 1:-1]
    shifts = inner[:, 0] * TINY.proposal_samples
    assert torch.allclose(inner, inner[:, :1].expand_as(inner), atol=1e-6), "a ray's samples move together"
    assert -0.5 <= shifts.min() < -0.45 and 0.45 < shifts.max() <= 0.5 and abs(shifts.mean()) < 0.05
    assert len(shifts.unique()) > 300, "every ray by itself"
    assert first.proposal_bins.min() >= 0 and first.proposal_bins.max() <= 1
    monkeypatch.setattr(
        rendering, "uniform_bins", lambda rays, samples, device, jitter: uniform_bins(rays, samples, device)
    )
    assert torch.equal(model(bundle).bins, still.bins)
    assert not torch.equal(model(bundle, generator).bins, still.bins), "the field's samples by themselves"


def test_resampled_samples_lie_in_even_parts_of_the_weight_wherever_in_them_the_jitter_says():
    bins = uniform_bins(500, 8, "cpu")
    weights = torch.ones(500, 8)
    middle = resample(bins, weights, 4, padding=0.0)
    assert torch.allclose(middle, torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]).expand(500, 5), atol=1e-6)
    moved = (resample(bins, weights, 4, torch.Generator().manual_seed(0), padding=0.0) - middle) * 5
    assert torch.allclose(moved, moved[:, :1].expand_as(moved), atol=1e-5)
    assert -0.5 <= moved.min() < -0.47 and 0.47 < moved.max() <= 0.5 and abs(moved.mean()) < 0.05
    lump = torch.zeros(500, 8)
    lump[:, 3] = 1.0  # with the padding, a part of 0.01 of the weight is spread over all eight intervals
    inside = resample(bins, lump, 999)
    assert float((inside < 3 / 8).float().mean()) == pytest.approx(3 / 8 * 0.01 / 1.01, abs=1e-3)


def test_views_are_told_apart_while_reconstructing_and_not_while_editing(monkeypatch):
    settings = with_options(TINY, True, False, 4)
    trainer, editing = trainer_of(settings), trainer_of(settings, loss="l1")
    calls, calls_editing = watched(trainer, monkeypatch), watched(editing, monkeypatch)
    trainer.step(), editing.step()
    bundle = calls[0][0]
    assert set(bundle.views.tolist()) == {0, 1, 2, 3} and len(bundle) == TINY.rays
    origins = torch.stack([trainer.dataset._origins[view] for view in bundle.views])
    assert torch.allclose(bundle.origins, origins, atol=1e-6)
    assert calls_editing[0][0].views is None and len(calls_editing[0][0]) == TINY.rays


def test_every_step_trains_on_other_pixels_of_all_views_from_the_seed():
    def drawn(seed):
        trainer = trainer_of(seed=seed)
        sampled, sample = [], trainer.dataset.sample
        trainer.dataset.sample = lambda count, generator: sampled.append(sample(count, generator)) or sampled[-1]
        for _ in range(3):
            trainer.step()
        return torch.stack(sampled)

    pixels = drawn(5)
    assert pixels.shape == (3, TINY.rays) and not torch.equal(pixels[0], pixels[1])
    assert pixels.min() < 30 and pixels.max() > 4 * 24 * 16 - 30 and len(pixels.unique()) > 450
    assert torch.equal(pixels, drawn(5)) and not torch.equal(pixels, drawn(6))


def test_rays_begin_at_the_near_plane_and_end_far_away():
    """In between, bins lie evenly in nerfacto's spacing: d / 2 up to a distance of 1, 1 - 1 / (2 d) beyond."""
    bundle, _ = camera_bundle(ring()[0], SceneTransform.of(ring()), "cpu")
    ends = place_samples(bundle.origins, bundle.directions, uniform_bins(len(bundle), 4, "cpu"), 0.23).ends[0]
    assert ends[-1] == pytest.approx(FAR, rel=1e-3) and FAR == 1000
    far = 1 - 0.5 / 1000
    spacing = [0.115 + part * (far - 0.115) for part in (0.25, 0.5, 0.75)]
    assert ends[:3].tolist() == pytest.approx(
        [2 * spacing[0], 0.5 / (1 - spacing[1]), 0.5 / (1 - spacing[2])], rel=1e-3
    )
    model = NerfModel(TINY, near=0.23)
    for feature in (-20.0, 20.0):  # empty or opaque all over
        torch.nn.init.constant_(model.proposal.encoding.table, feature)
        torch.nn.init.constant_(model.field.encoding.table, feature)
        rendered = model(bundle)
        expected = place_samples(bundle.origins, bundle.directions, rendered.bins, 0.23)
        assert torch.equal(rendered.starts, expected.starts) and torch.equal(rendered.ends, expected.ends)
    assert rendered.starts.min() == pytest.approx(0.23, abs=0.01)
    assert rendered.distance.mean() == pytest.approx(0.23, abs=0.05) and rendered.alpha.min() == 1


def before_points(depths):
    """A camera that looks along -z from the origin, and points in the middle of its view."""
    camera = Camera(Intrinsics(40, 30, 50.0, 50.0, 20.0, 15.0), np.eye(4))
    return camera, np.stack([0 * depths, 0 * depths, -depths], 1).astype(np.float32)


def test_the_near_plane_is_half_the_depth_of_the_nearest_points_that_are_seen():
    def near(points, scale=0.1, held_out=False):
        view = View("0", "0.png", camera, held_out=held_out)
        other = View("1", "1.png", camera, held_out=False)
        capture = PinholeCapture("x", "", "draft", (view, other) if held_out else (view,), points=points)
        return near_plane(capture, SceneTransform((0.0, 0.0, 0.0), scale))

    camera, points = before_points(np.linspace(3, 5, 200))
    assert near(points) == pytest.approx(0.5 * 0.1 * (3 + 0.02 * 2), rel=1e-3)
    assert near(points, scale=0.2) == pytest.approx(0.5 * 0.2 * 3.04, rel=1e-3)
    assert near(points[:99]) == 0.05, "too few points say nothing"
    assert near(points, scale=10.0) == 0.4 and near(points, scale=1e-4) == 0.01
    far_apart = np.concatenate([points, points[:50] * [1, 1, 0.1] + [3, 0, 0], points[:50] * [1, 1, 0.1] + [0, -3, 0]])
    assert near(far_apart.astype(np.float32)) == near(points), "points beside the picture are not seen"
    assert near(np.concatenate([points, -points])) == near(points), "nor those behind the camera"
    assert near(-points) == 0.05


def test_a_reconstruction_begins_at_its_own_near_plane():
    camera, points = before_points(np.linspace(1, 2, 200))
    cameras = [camera, *ring(3)]
    capture = PinholeCapture(
        "x", "", "draft", tuple(View(str(i), "", c, held_out=False) for i, c in enumerate(cameras)), points=points
    )

    class Images(list):
        def reported(self, report):
            return iter(self)

        def masks(self):
            return [None] * len(self)

    images = Images(np.full((c.intrinsics.height, c.intrinsics.width, 3), 0.5, np.float32) for c in cameras)
    trainer, scene, state = start(capture, images, TINY, 3, torch.device("cpu"), Reporter())
    wanted = near_plane(capture, trainer.dataset.transform)
    assert wanted not in (0.05, 0.01, 0.4) and scene.model.near == trainer.model.near == state["near"] == wanted
    assert scene.model is trainer.model and (trainer.loss, trainer.learning_rate) == ("mse", 1.0)
    assert trainer.total_steps == TINY.steps and trainer.generator.initial_seed() == 3


def test_weights_alpha_and_distance_of_a_known_ray():
    """Half of the light is stopped by each of two intervals of length 2: 1/2 and 1/4 of it, 1/4 goes through."""
    density = torch.tensor([[0.0, np.log(2) / 2, np.log(2) / 2]], dtype=torch.float32)
    starts, ends = torch.tensor([[0.0, 1.0, 3.0]]), torch.tensor([[1.0, 3.0, 5.0]])
    weights = ray_weights(starts, ends, density)
    assert weights.tolist() == [pytest.approx([0.0, 0.5, 0.25])]
    nothing = torch.zeros(1, 3)
    rendered = rendering.Rendered(nothing, weights.sum(-1), nothing, nothing, starts, ends, weights, nothing, nothing)
    # Half of 3/4 lies behind the first three quarters of the second interval.
    assert rendered.distance.tolist() == pytest.approx([1.0 + 0.75 * 2])


def test_a_models_colour_is_the_weighted_sum_of_its_samples():
    torch.manual_seed(0)
    model = NerfModel(TINY)
    torch.nn.init.normal_(model.field.encoding.table, 1.0, 1.0)
    bundle, _ = camera_bundle(ring()[0], SceneTransform.of(ring()), "cpu")
    rendered = model(bundle)
    samples = place_samples(bundle.origins, bundle.directions, rendered.bins, model.near)
    density, color = model.field(samples.points, bundle.directions)
    weights = ray_weights(samples.starts, samples.ends, density.view(-1, TINY.samples))
    color = color.view(-1, TINY.samples, 3)
    assert torch.allclose(rendered.color, (weights[..., None] * color).sum(1), atol=1e-5)
    assert torch.allclose(rendered.alpha, weights.sum(1), atol=1e-5) and 0.1 < rendered.alpha.mean() <= 1
    assert torch.equal(rendered.last_color, color[:, -1])


def test_training_in_bfloat16_is_nearly_that_in_float32_and_renders_in_float32():
    """As GPUs compute the colour MLP; its weights, their gradients and what is rendered stay wide."""
    torch.manual_seed(0)
    field = RadianceField(replace(TINY, levels=6, features=4, hidden=32, hidden_layers=2))
    points, directions = torch.rand(64 * 8, 3), torch.nn.functional.normalize(torch.randn(64, 3), dim=-1)
    with torch.no_grad():
        field.encoding.table.normal_(0, 0.5)
    found = []
    for field.narrow in (False, True):
        density, color = field(points, directions)
        loss = (color * torch.linspace(0.1, 1, color.numel()).view_as(color)).sum()
        found.append((density, color, *torch.autograd.grad(loss, [field.encoding.table, *field.color.parameters()])))
        assert all(tensor.dtype == torch.float32 for tensor in found[-1])
    wide, narrow = found
    assert torch.equal(wide[0], narrow[0]) and 0 < (wide[1] - narrow[1]).abs().max() < 0.02
    for a, b in zip(wide[2:], narrow[2:]):
        assert torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.999
    with torch.no_grad():
        assert torch.equal(field(points, directions)[1], wide[1]), "what is only looked at is not narrow"
