"""Losses of the reconstruction and of the editing."""

from contextlib import suppress

import torch
from torch import nn

from .. import lpips_backbone
from .constants import TINY_WEIGHT
from .kernels.launch import available, launch_over_rays, numbers
from .kernels.losses import loss_kernel


def ray_losses(
    bins: torch.Tensor, weights: torch.Tensor, proposal_bins: torch.Tensor, proposal_weights: torch.Tensor
) -> torch.Tensor:
    """(3,): `interlevel_loss`, `distortion_loss` and `nearness_loss`, by one kernel that finds values and gradients at
    once."""
    if available(weights.device):
        return _RayLosses.apply(bins, weights, proposal_bins, proposal_weights)
    return torch.stack(
        [
            interlevel_loss(bins, weights, proposal_bins, proposal_weights),
            distortion_loss(bins, weights),
            nearness_loss(bins, weights),
        ]
    )


class _RayLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *given):
        bins, weights, proposal_bins, proposal_weights = (values.detach().contiguous() for values in given)
        losses = torch.empty((len(weights), 3), device=weights.device)
        distortion_gradient, nearness_gradient, interlevel_gradient = (
            torch.empty_like(weights),
            torch.empty_like(weights),
            torch.zeros_like(proposal_weights),
        )
        tensors = (
            bins,
            weights,
            proposal_bins,
            proposal_weights,
            losses,
            distortion_gradient,
            nearness_gradient,
            interlevel_gradient,
        )
        launch_over_rays(loss_kernel(), [(values, numbers) for values in tensors], [])
        ctx.save_for_backward(distortion_gradient, nearness_gradient, interlevel_gradient)
        return losses.mean(0)

    @staticmethod
    def backward(ctx, gradient):
        distortion_gradient, nearness_gradient, interlevel_gradient = ctx.saved_tensors
        interlevel, distortion, nearness = gradient / len(distortion_gradient)
        return (
            None,
            distortion * distortion_gradient + nearness * nearness_gradient,
            None,
            interlevel * interlevel_gradient,
        )


def interlevel_loss(
    bins: torch.Tensor, weights: torch.Tensor, proposal_bins: torch.Tensor, proposal_weights: torch.Tensor
) -> torch.Tensor:
    """Mip-NeRF 360, equation 13: a proposal must bound the weights that the field found.

    bins, weights: (rays, n + 1), (rays, n), taken as constants; proposal_bins, proposal_weights: (rays, m + 1),
    (rays, m).
    """
    bins, weights = bins.detach(), weights.detach()
    bound = _outer(bins, proposal_bins, proposal_weights)
    return ((weights - bound).clamp(min=0) ** 2 / (weights + TINY_WEIGHT)).sum(-1).mean()


def _outer(bins: torch.Tensor, proposal_bins: torch.Tensor, proposal_weights: torch.Tensor) -> torch.Tensor:
    """For every interval the summed weight of all proposal intervals that it touches."""
    cumulative = torch.cat([torch.zeros_like(proposal_weights[:, :1]), proposal_weights.cumsum(-1)], -1)
    last = proposal_bins.shape[-1] - 1
    low = (torch.searchsorted(proposal_bins.contiguous(), bins[:, :-1].contiguous(), right=True) - 1).clamp(0, last)
    high = torch.searchsorted(proposal_bins.contiguous(), bins[:, 1:].contiguous(), right=False).clamp(0, last)
    return cumulative.gather(-1, high) - cumulative.gather(-1, low)


def distortion_loss(bins: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mip-NeRF 360, equation 15, in the O(n) form of Sun et al. 2022 ("Improved DVGO"): weights gather in one place.

    bins: (rays, n + 1) in [0, 1]; weights: (rays, n).
    """
    middle, width = (bins[:, 1:] + bins[:, :-1]) / 2, bins[:, 1:] - bins[:, :-1]
    weight_before = weights.cumsum(-1) - weights
    moment_before = (weights * middle).cumsum(-1) - weights * middle
    between = 2 * weights * (middle * weight_before - moment_before)
    return (between + weights**2 * width / 3).sum(-1).mean()


def nearness_loss(bins: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean of weight times nearness, sum_i w_i (1 - s_i): where photos do not say how far something is, such as a plain
    sky, it goes far away and leaves no floaters before it.

    bins: (rays, n + 1) spacing in [0, 1]; weights: (rays, n).
    """
    middle = (bins[:, 1:] + bins[:, :-1]) / 2
    return (weights * (1 - middle)).sum(-1).mean()


class PerceptualLoss(nn.Module):
    """LPIPS (Zhang et al. 2018) on patches, by the `lpips` package with the AlexNet backbone, as Instruct-NeRF2NeRF
    uses it.

    forward: two (patches, 3, side, side) sRGB tensors in [0, 1] -> scalar.
    random_backbone: whether the backbone has the package's seeded random weights because the trained ones were not to
    be had.
    """

    def __init__(self, random_backbone: bool, seed: int = 0):
        super().__init__()
        import lpips

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = lpips.LPIPS(net="alex", pnet_rand=random_backbone, verbose=False)
        self.network.requires_grad_(False)
        self.random_backbone = random_backbone

    def forward(self, rendered: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.network(rendered, target, normalize=True).mean()


def perceptual_loss(mode: str, log) -> PerceptualLoss | None:
    """The perceptual loss by the setting: "off", "lpips" (falls back to L1 only), or "lpips-or-random".

    The trained backbone is used where its weights are on disk or may be fetched by torchvision; otherwise `log` is told
    once what happens instead.
    """
    if mode == "off":
        return None
    with suppress(OSError):  # the download failed
        if lpips_backbone.on_disk_or_downloadable():
            return PerceptualLoss(random_backbone=False)
    if mode == "lpips-or-random":
        log(
            "LPIPS: AlexNet's weights are not on disk and cannot be downloaded; going on with the seeded random "
            "backbone."
        )
        return PerceptualLoss(random_backbone=True)
    log("LPIPS: AlexNet's weights are not on disk and cannot be downloaded; going on with L1 alone.")
    return None
