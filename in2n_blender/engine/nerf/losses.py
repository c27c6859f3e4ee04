"""Losses of the reconstruction and of the editing."""

from contextlib import suppress

import torch
from torch import nn

from .. import lpips_backbone
from .constants import TINY_WEIGHT
from .kernels.launch import available, launch_over_rays, numbers
from .kernels.losses import loss_kernel

TOLERANCE = 0.03  # of the distance of a point, before which nothing should be
FARTHEST = 2.5  # times the distance of a point: what is farther off, or nothing at all, counts as being there


def ray_losses(
    bins: torch.Tensor, weights: torch.Tensor, proposal_bins: torch.Tensor, proposal_weights: torch.Tensor
) -> torch.Tensor:
    """All losses on the weights of rays, by one kernel that finds values and gradients at once.

    Args:
        bins: (rays, n + 1) ascending in [0, 1], the field's.
        weights: (rays, n).
        proposal_bins: (rays, m + 1) ascending in [0, 1].
        proposal_weights: (rays, m).

    Returns:
        (3,): `interlevel_loss`, `distortion_loss` and `nearness_loss`, differentiable in both weights.
    """
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
    """A proposal must bound the weights that the field found (Mip-NeRF 360, equation 13).

    Args:
        bins: (rays, n + 1) ascending in [0, 1], a constant.
        weights: (rays, n), a constant.
        proposal_bins: (rays, m + 1) ascending in [0, 1].
        proposal_weights: (rays, m).

    Returns:
        A scalar, the mean over the rays.
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
    """Weights gather in one place (Mip-NeRF 360, equation 15, in the O(n) form of Sun et al. 2022, "Improved DVGO").

    Args:
        bins: (rays, n + 1) ascending in [0, 1].
        weights: (rays, n).

    Returns:
        A scalar, the mean over the rays.
    """
    middle, width = (bins[:, 1:] + bins[:, :-1]) / 2, bins[:, 1:] - bins[:, :-1]
    weight_before = weights.cumsum(-1) - weights
    moment_before = (weights * middle).cumsum(-1) - weights * middle
    between = 2 * weights * (middle * weight_before - moment_before)
    return (between + weights**2 * width / 3).sum(-1).mean()


def nearness_loss(bins: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """What could be farther away goes far away: mean of weight times nearness, sum_i w_i (1 - s_i).

    Where photos do not say how far something is, such as a plain sky, it then leaves no floaters before it.

    Args:
        bins: (rays, n + 1) ascending in [0, 1].
        weights: (rays, n).

    Returns:
        A scalar, the mean over the rays.
    """
    middle = (bins[:, 1:] + bins[:, :-1]) / 2
    return (weights * (1 - middle)).sum(-1).mean()


def sighting_loss(
    weights: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor, distances: torch.Tensor, sureness: torch.Tensor
) -> torch.Tensor:
    """Rays that show a known point end there: nothing before it, and the expected distance its own.

    mean of c (sum_i w_i [end_i < d (1 - TOLERANCE)] + |E - d| / d), the second part at most 1. E is the expected
    distance, in which nothing counts as farther off than FARTHEST d: a pixel at an edge that also shows some sky is not
    torn to it. While a ray is empty the second part is 1, and nothing is gained by fog before the camera.

    Args:
        weights: (rays, samples).
        starts: (rays, samples) distances in normalised scene units.
        ends: (rays, samples) distances in normalised scene units.
        distances: (rays,) d, to the points.
        sureness: (rays,) c, in (0, 1].

    Returns:
        A scalar, differentiable in the weights.
    """
    d = distances[:, None]
    before = (weights * (ends < d * (1 - TOLERANCE))).sum(-1)
    expected = (weights * torch.minimum((starts + ends) / 2, FARTHEST * d)).sum(-1)
    expected = expected + (1 - weights.sum(-1)) * FARTHEST * distances
    off = ((expected - distances).abs() / distances).clamp(max=1)
    return (sureness * (before + off)).mean()


class PerceptualLoss(nn.Module):
    """LPIPS (Zhang et al. 2018) on patches, by the `lpips` package with AlexNet, as Instruct-NeRF2NeRF uses it.

    Args:
        random_backbone: Give the backbone the package's random weights, for where the trained ones are not to be had.
        seed: Of the random weights.
    """

    def __init__(self, random_backbone: bool, seed: int = 0):
        super().__init__()
        import lpips  # here, for it takes seconds and only edits need it

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = lpips.LPIPS(net="alex", pnet_rand=random_backbone, verbose=False)
        self.network.requires_grad_(False)
        self.random_backbone = random_backbone

    def forward(self, rendered: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The mean LPIPS of patches.

        Args:
            rendered: (patches, 3, side, side) sRGB in [0, 1].
            target: Of the same shape.

        Returns:
            A scalar, 0 for equal patches.
        """
        return self.network(rendered, target, normalize=True).mean()


def perceptual_loss(mode: str, log) -> PerceptualLoss | None:
    """The perceptual loss that the settings ask for.

    The trained backbone is used where its weights are on disk or IN2N_ALLOW_DOWNLOAD=1 lets torchvision fetch them.

    Args:
        mode: "off", "lpips" (falls back to none), or "lpips-or-random" (falls back to the seeded random backbone).
        log: Called with one sentence when it falls back.

    Returns:
        On the CPU; None where patches are not compared.
    """
    if mode == "off":
        return None
    with suppress(OSError):  # the download failed
        if lpips_backbone.on_disk_or_downloadable():
            return PerceptualLoss(random_backbone=False)
    missing = "LPIPS: AlexNet's weights are not on disk and cannot be downloaded"
    offer = f"{lpips_backbone.how_to_have()}."
    if mode == "lpips-or-random":
        log(f"{missing}; going on with the seeded random backbone. {offer}")
        return PerceptualLoss(random_backbone=True)
    log(f"{missing}; going on with L1 alone. {offer}")
    return None
