"""Every term of the loss by itself: on rays whose losses are known, and by where its gradient goes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from in2n_blender.engine.nerf import losses as losses_module
from in2n_blender.engine.nerf import training
from in2n_blender.engine.nerf.rendering import NerfModel, Rendered
from in2n_blender.engine.nerf.training import PATCH_SIDE, Trainer
from tests.engine.ball import TINY, dataset_of, look_at, ring, sphere_image

WEIGHTED = replace(TINY, distortion=2.0, nearness=3.0)
LARGE = (40, 36)


def trainer_of(settings=TINY, loss="mse", images=None, size=(24, 16), perceptual=None, total_steps=100):
    """Before its first step; with a function as its perceptual loss, if one is given."""
    torch.manual_seed(0)
    cameras = [look_at(c.position, size=size) for c in ring(3)]
    images = images or [sphere_image(c) for c in cameras]
    trainer = Trainer(NerfModel(settings), dataset_of(cameras, images), 0, total_steps, loss, log=lambda text: None)
    trainer.perceptual = perceptual
    return trainer


def plain(value, size=(24, 16), alpha=None):
    """Three photos of one grey, with an alpha if one is given."""
    image = np.full((size[1], size[0], 3 if alpha is None else 4), value, np.float32)
    if alpha is not None:
        image[..., 3] = alpha
    return [image] * 3


def rays_of(color, alpha=1.0, last_color=0.0, weight=0.0):
    """What a model would be that renders all rays alike, on which the penalties of the weights are 0 without weight."""

    def forward(bundle, jitter=None, anneal=1.0):
        rays = len(bundle)
        full = lambda value, *shape: torch.full((rays, *shape), float(value), requires_grad=True)
        bins = torch.linspace(0, 1, 3).expand(rays, -1).contiguous()
        return Rendered(
            full(color, 3),
            full(alpha),
            full(last_color, 3),
            bins,
            bins[:, :-1],
            bins[:, 1:],
            full(weight, 2),
            bins,
            full(1.0, 2),
        )

    return forward


def descended(trainer, monkeypatch):
    """The losses that the trainer goes down, in a list that every step adds to; the optimiser itself rests."""
    totals = []
    monkeypatch.setattr(trainer, "descend", lambda loss: totals.append(float(loss.detach())))
    return totals


def two_lumps():
    """A ray with a weight of 0.25 in [0, 0.2] and one of 0.5 in [0.6, 1], and a proposal that bounds the second only.

    distortion: 2 x 0.25 x 0.5 x |0.1 - 0.8| + (0.25^2 x 0.2 + 0.5^2 x 0.4) / 3 = 0.175 + 0.0375
    nearness: 0.25 x (1 - 0.1) + 0.5 x (1 - 0.8) = 0.325
    interlevel: (0.25 - 0.05)^2 / 0.25 = 0.16
    """
    bins = torch.tensor([[0.0, 0.2, 0.6, 1.0]])
    weights = torch.tensor([[0.25, 0.0, 0.5]], requires_grad=True)
    proposal_weights = torch.tensor([[0.05, 0.1, 0.7]], requires_grad=True)
    nothing = torch.zeros(1, 3)
    return Rendered(
        nothing, weights.sum(-1), nothing, bins, bins[:, :-1], bins[:, 1:], weights, bins.clone(), proposal_weights
    )


@pytest.mark.parametrize("kernels", [True, False], ids=["kernel", "torch"])
@pytest.mark.parametrize(
    "distortion, nearness, expected",
    [(0.0, 0.0, 0.16), (2.0, 0.0, 0.16 + 2 * 0.2125), (0.0, 3.0, 0.16 + 3 * 0.325), (2.0, 3.0, 1.56)],
)
def test_the_penalties_of_a_known_ray_are_weighed_and_added(monkeypatch, kernels, distortion, nearness, expected):
    if not kernels:
        monkeypatch.setattr(losses_module, "available", lambda device: False)
    trainer = trainer_of(replace(TINY, distortion=distortion, nearness=nearness))
    assert float(trainer.regularisers(two_lumps()).detach()) == pytest.approx(expected, abs=1e-5)


def test_a_lump_nearer_to_the_camera_costs_more():
    trainer = trainer_of(replace(TINY, distortion=0.0, nearness=1.0))
    cost = {}
    for place in (0, 2):
        rays = two_lumps()
        rays.weights = torch.eye(3)[place : place + 1]
        rays.proposal_weights = torch.ones(1, 3)
        cost[place] = float(trainer.regularisers(rays))
    assert cost[0] == pytest.approx(0.9) and cost[2] == pytest.approx(0.2)


@pytest.mark.parametrize("loss", ["mse", "l1"])
def test_a_step_descends_the_colours_and_the_penalties(monkeypatch, loss):
    """Grey 0.7 before photos of 0.4: 0.09 squared, 0.3 absolute. A weight of 0.5 in both halves of the ray:
    distortion 2 x 0.25 x 0.5 + 2 x 0.25 x 0.5 / 3 = 1/3, nearness 0.5 x 0.75 + 0.5 x 0.25 = 0.5, interlevel 0."""
    trainer = trainer_of(WEIGHTED, loss, plain(0.4))
    monkeypatch.setattr(trainer.model, "forward", rays_of(0.7, weight=0.5))
    totals = descended(trainer, monkeypatch)
    photometric = trainer.step().item()
    assert photometric == pytest.approx(0.09 if loss == "mse" else 0.3, abs=1e-5)
    assert totals == [pytest.approx(photometric + 2 / 3 + 3 * 0.5, abs=1e-5)]


def test_lpips_is_added_with_a_weight_of_1_and_only_while_editing(monkeypatch):
    settings = replace(WEIGHTED, perceptual="lpips-or-random", patches=2, rays=4096)
    made = training.perceptual_loss("lpips-or-random", lambda text: None)
    monkeypatch.setattr(training, "perceptual_loss", lambda mode, log: made if mode != "off" else None)
    editing = Trainer(NerfModel(settings), dataset_of(ring(3), plain(0.5)), 0, 10, loss="l1", log=lambda text: None)
    assert editing.perceptual is made
    for loss, other in (("mse", settings), ("l1", replace(settings, perceptual="off"))):
        assert Trainer(NerfModel(other), editing.dataset, 0, 10, loss=loss).perceptual is None

    seen = []

    def lpips(rendered, target):
        seen.append((rendered.detach(), target))
        return (rendered - target).abs().mean() + 5.0

    trainer = trainer_of(settings, "l1", plain(0.4, LARGE), LARGE, lpips)
    monkeypatch.setattr(trainer.model, "forward", rays_of(0.7))
    totals = descended(trainer, monkeypatch)
    assert trainer.step().item() == pytest.approx(0.3, abs=1e-5) and totals == [pytest.approx(0.3 + 5.3, abs=1e-5)]
    ((rendered, target),) = seen
    assert rendered.shape == target.shape == (2, 3, PATCH_SIDE, PATCH_SIDE)
    assert torch.allclose(rendered, torch.tensor(0.7)) and torch.allclose(target, torch.tensor(0.4), atol=1e-6)


def test_lpips_has_a_gradient():
    """The step's other terms are the same with and without it."""

    def gradient(lpips):
        settings = replace(TINY, perceptual="lpips-or-random", patches=1)
        trainer = trainer_of(settings, "l1", None, LARGE, lpips)
        trainer.step()
        return trainer.model.field.color[-1].bias.grad.clone()

    with_lpips = gradient(lambda rendered, target: 10 * rendered[:, 0].mean())
    without = gradient(lambda rendered, target: 0 * rendered.mean())
    assert with_lpips[0] - without[0] > 0.1 and torch.equal(with_lpips[1:], without[1:])


def lumpy(settings=TINY):
    """A model whose field and proposal disagree about where something is."""
    torch.manual_seed(1)
    model = NerfModel(settings)
    torch.nn.init.normal_(model.field.encoding.table, 1.0, 1.0)
    torch.nn.init.normal_(model.proposal.encoding.table, 1.0, 1.0)
    return model


def gradients(model):
    """Sums of the absolute gradients of field and proposal."""
    total = lambda module: sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None)
    return total(model.field), total(model.proposal)


@pytest.mark.parametrize("weights", [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)], ids=["neither", "distortion", "nearness"])
def test_the_proposal_learns_from_the_interlevel_loss_alone_and_the_field_from_all_else(weights):
    trainer = trainer_of(replace(TINY, distortion=weights[0], nearness=weights[1]))
    trainer.model = lumpy()
    rays = trainer.dataset.rays(torch.arange(100))
    trainer.regularisers(trainer.model(rays)).backward()
    of_field, of_proposal = gradients(trainer.model)
    assert of_proposal > 0 and (of_field > 0) == (weights != (0.0, 0.0))

    trainer.model.zero_grad()
    rendered = trainer.model(rays)
    (rendered.color + (1 - rendered.alpha)[:, None] * rendered.last_color).sum().backward()
    of_field, of_proposal = gradients(trainer.model)
    assert of_field > 0 and of_proposal == 0


@pytest.mark.parametrize("loss", ["mse", "l1"])
def test_a_step_moves_the_proposal(loss):
    trainer = trainer_of(loss=loss)
    trainer.model.load_state_dict(lumpy().state_dict())
    before = trainer.model.proposal.encoding.table.detach().clone()
    trainer.step()
    moved = (trainer.model.proposal.encoding.table != before).float().mean()
    assert moved > 0.01


def test_nearness_pushes_what_photos_cannot_place_away_from_the_camera():
    """Of one grey from everywhere, nothing says where: with nearness the same photos are explained farther away."""

    def distance(nearness):
        trainer = trainer_of(replace(TINY, nearness=nearness, distortion=0.0), images=plain(0.5))
        for _ in range(40):
            trainer.step()
        rendered = trainer.model(trainer.dataset.rays(torch.arange(0, 1152, 7)))
        middle = (rendered.bins[:, 1:] + rendered.bins[:, :-1]) / 2
        return float((rendered.weights * middle).sum() / rendered.weights.sum())

    assert distance(0.1) > distance(0.0) + 0.05


def test_behind_photos_without_alpha_lies_the_last_colour(monkeypatch):
    trainer = trainer_of(images=plain(0.6))
    monkeypatch.setattr(trainer.model, "forward", rays_of(0.2, alpha=0.5, last_color=0.8))
    descended(trainer, monkeypatch)
    assert trainer.step().item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("loss, opaque_costs", [("mse", 1 / 3), ("l1", 1 / 2)])
def test_behind_photos_with_alpha_lies_another_random_colour_at_every_pixel(monkeypatch, loss, opaque_costs):
    """Where neither shows anything both are the same background, whatever colour the photo keeps there; black before
    transparent photos is compared with colours that are uniform in [0, 1]: mean square 1/3, mean 1/2."""
    settings = replace(TINY, rays=4096)
    trainer = trainer_of(settings, loss, plain(0.9, alpha=0.0))
    descended(trainer, monkeypatch)
    monkeypatch.setattr(trainer.model, "forward", rays_of(0.0, alpha=0.0, last_color=0.6))
    assert trainer.step() == 0.0
    monkeypatch.setattr(trainer.model, "forward", rays_of(0.0, alpha=1.0))
    assert trainer.step().item() == pytest.approx(opaque_costs, abs=0.015)
    half = trainer_of(settings, loss, plain(0.8, alpha=102 / 255))
    descended(half, monkeypatch)
    monkeypatch.setattr(half.model, "forward", rays_of(0.4 * 0.8, alpha=0.4))
    assert half.step().item() == pytest.approx(0.0, abs=1e-5)


def test_a_patch_is_a_square_of_neighbouring_pixels_of_one_view(monkeypatch):
    """Red counts the columns, green the rows, blue the views; and what is compared with a pixel is its own ray."""
    width, height = LARGE
    ramp = np.zeros((3, height, width, 3), np.float32)
    ramp[..., 0], ramp[..., 1] = np.arange(width)[None, None] / 255, np.arange(height)[None, :, None] / 255
    ramp[..., 2] = np.arange(3)[:, None, None] / 255
    seen = []
    settings = replace(TINY, perceptual="lpips-or-random", patches=12)
    trainer = trainer_of(settings, "l1", list(ramp), LARGE, lambda *pair: seen.append(pair) or pair[0].mean())
    directions = []

    def forward(bundle, jitter=None, anneal=1.0):
        directions.append(bundle.directions)
        rendered = rays_of(0.0)(bundle)
        rendered.color = bundle.directions * 1.0
        return rendered

    monkeypatch.setattr(trainer.model, "forward", forward)
    descended(trainer, monkeypatch)
    trainer.step()
    rendered, target = seen[0]
    columns, rows, views = (target * 255).round().long().unbind(1)
    assert (columns.diff(dim=2) == 1).all() and (columns.diff(dim=1) == 0).all()
    assert (rows.diff(dim=1) == 1).all() and (rows.diff(dim=2) == 0).all()
    assert (views == views[:, :1, :1]).all() and set(views[:, 0, 0].tolist()) == {0, 1, 2}
    assert columns[:, 0, 0].max() > 4 and rows[:, 0, 0].max() == 4 and columns.min() == 0
    pixels = (trainer.dataset._starts[views] + rows * width + columns).flatten()
    own = trainer.dataset.rays(pixels).directions
    assert torch.equal(rendered.permute(0, 2, 3, 1).reshape(-1, 3), own)
    assert len(directions[0]) == len(own) + settings.rays // 2, "half a step's rays are single pixels at least"


def test_lpips_is_the_packages_own_mean_over_patches_of_colours_from_minus_1_to_1():
    loss = losses_module.PerceptualLoss(random_backbone=True)
    assert not any(p.requires_grad for p in loss.parameters()) and not loss.network.training
    rendered, target = torch.rand(2, 3, 3, PATCH_SIDE, PATCH_SIDE, generator=torch.Generator().manual_seed(0))
    own = loss.network(2 * rendered - 1, 2 * target - 1)
    assert own.shape == (3, 1, 1, 1) and torch.allclose(loss(rendered, target), own.mean())
    assert loss(rendered, target).shape == () and not torch.allclose(own, own.mean(), rtol=1e-3)
