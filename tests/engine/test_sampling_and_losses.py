"""Sampling and losses against their formulas."""

import numpy as np
import pytest
import torch

from in2n_blender.engine.nerf import losses, sampling
from in2n_blender.engine.nerf.constants import FAR
from in2n_blender.engine.nerf.losses import (
    PerceptualLoss,
    distortion_loss,
    interlevel_loss,
    nearness_loss,
    perceptual_loss,
)
from in2n_blender.engine.nerf.sampling import (
    contract,
    distance_to_spacing,
    resample,
    spacing_range,
    spacing_to_distance,
    to_unit_cube,
    uniform_bins,
)


def test_contraction_keeps_the_unit_cube_and_bounds_the_rest():
    inside = torch.rand(100, 3) * 2 - 1
    assert torch.equal(contract(inside), inside)
    assert contract(torch.tensor([[0.0, 4.0, 0.0]])).tolist() == [[0.0, 1.75, 0.0]]
    assert contract(torch.randn(1000, 3) * 1e4).abs().max() <= 2


def test_beyond_the_cube_a_position_keeps_its_direction_and_comes_nearer_by_its_largest_coordinate():
    far = torch.tensor([[2.0, -8.0, 4.0], [-1.0, 0.5, -1.25]])
    assert torch.allclose(contract(far), torch.stack([far[0] * (2 - 1 / 8) / 8, far[1] * (2 - 1 / 1.25) / 1.25]))
    corners = torch.tensor([[0.0, 0.0, 0.0], [1.0, -1.0, 0.5], [0.0, 4.0, 0.0]])
    assert to_unit_cube(corners).tolist() == [[0.5, 0.5, 0.5], [0.75, 0.25, 0.625], [0.5, 0.9375, 0.5]]


def test_half_of_the_spacing_is_the_first_unit_of_distance_and_the_rest_goes_by_disparity():
    distance = torch.tensor([0.5, 1.0, 2.0, 10.0])
    assert distance_to_spacing(distance).tolist() == pytest.approx([0.25, 0.5, 0.75, 0.95])
    assert spacing_range(0.5) == pytest.approx((0.25, 1 - 0.5 / FAR))


def test_spacing_is_invertible():
    distance = torch.tensor([0.0, 0.3, 1.0, 5.0, 500.0])
    assert torch.allclose(spacing_to_distance(distance_to_spacing(distance)), distance, rtol=1e-3)


def test_even_bins_are_shifted_ray_by_ray_by_up_to_half_a_bin():
    even = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    assert torch.equal(uniform_bins(3, 4, "cpu"), even.expand(3, -1))
    jittered = uniform_bins(1000, 4, "cpu", torch.Generator().manual_seed(0))
    shift = jittered[:, 2:3] - 0.5
    assert torch.allclose(jittered, (even + shift).clamp(0, 1), atol=1e-6)
    assert -0.125 <= shift.min() < -0.12 and 0.12 < shift.max() <= 0.125 and shift.mean().abs() < 0.01


@pytest.mark.parametrize("padding", [0.0, 0.3])
@pytest.mark.parametrize("kernels", [True, False], ids=["kernel", "torch"])
def test_resampling_inverts_the_cumulative_weight(monkeypatch, kernels, padding):
    """Against numpy's interpolation: new bins lie in the middle of equal parts of the whole weight."""
    if not kernels:
        monkeypatch.setattr(sampling, "available", lambda device: False)
    generator = torch.Generator().manual_seed(0)
    bins = torch.rand(5, 9, generator=generator).sort(-1).values
    weights = torch.rand(5, 8, generator=generator) + 0.1
    for row, found in enumerate(resample(bins, weights, 6, padding=padding)):
        padded = weights[row].double() + padding / 8
        cumulative = np.concatenate([[0], np.cumsum(padded / padded.sum())])
        expected = np.interp((np.arange(7) + 0.5) / 7, cumulative, bins[row].double())
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kernels", [True, False], ids=["kernel", "torch"])
def test_a_jittered_bin_lies_anywhere_in_its_part_of_the_weight_and_a_ray_without_weight_is_even(monkeypatch, kernels):
    if not kernels:
        monkeypatch.setattr(sampling, "available", lambda device: False)
    found = resample(uniform_bins(1000, 3, "cpu"), torch.zeros(1000, 3), 4, torch.Generator().manual_seed(0))
    shift = found[:, :1] * 5
    assert torch.allclose(found, (torch.arange(5) + shift) / 5, atol=1e-4)
    assert 0 <= shift.min() < 0.01 and 0.99 < shift.max() <= 1 and (shift.mean() - 0.5).abs() < 0.03


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


@pytest.mark.parametrize("kernels", [True, False], ids=["kernel", "torch"])
def test_beyond_its_last_edge_a_proposal_bounds_nothing(monkeypatch, kernels):
    """Jitter shifts the edges of one ray's proposals and samples apart. 0.7 before 0.6, and 0.3 before nothing."""
    if not kernels:
        monkeypatch.setattr(losses, "available", lambda device: False)
    proposal_bins, proposal_weights = torch.tensor([[0.0, 0.5, 0.8, 0.9]]), torch.tensor([[0.2, 0.3, 0.1]])
    bins, weights = torch.tensor([[0.1, 0.95, 1.0]]), torch.tensor([[0.7, 0.3]])
    interlevel = losses.ray_losses(bins, weights, proposal_bins, proposal_weights)[0]
    assert float(interlevel) == pytest.approx(0.1**2 / 0.7 + 0.3, rel=1e-4)


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
