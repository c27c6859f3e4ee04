"""How near two images are, and how well rendered frames agree with each other.

Images are sRGB in [0, 1], float32 (height, width, 3), as numpy arrays or CPU tensors.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch.nn import functional

from ...models import hub
from ...scene.camera import Camera
from ...scene.reporting import Reporter
from .. import lpips_backbone

# Two depths of one point agree within this share: a surface that a camera sees, not one behind it.
DEPTH_TOLERANCE = 0.02
# What equal images count as in a mean of PSNRs, in dB.
LARGEST_PSNR = 100.0
# What a photo's noise, and a renderer's, stays below.
CHANGED = 0.04
# Of a smaller image nothing is left at AlexNet's deepest features.
LPIPS_SIDE = 31


def ssim(image: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004), mean over pixels and channels, by scikit-image.

    ((2 m_x m_y + C1)(2 s_xy + C2)) / ((m_x^2 + m_y^2 + C1)(s_x^2 + s_y^2 + C2)), C1 = 0.01^2, C2 = 0.03^2, over the
    paper's 11x11 Gaussian window of sigma 1.5.

    Args:
        image: (height, width, 3) sRGB in [0, 1].
        truth: of the same shape.

    Returns:
        1 for equal images.

    Raises:
        ValueError: images smaller than the window.
    """
    return float(_structural_similarity(image, truth)[0])


def ssim_map(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Structural similarity pixel by pixel; see `ssim`, which leaves out a border of half a window.

    Args:
        image: (height, width, 3) sRGB in [0, 1].
        truth: of the same shape.

    Returns:
        (height, width, 3).

    Raises:
        ValueError: images smaller than the window.
    """
    return _structural_similarity(image, truth)[1]


def _structural_similarity(image: np.ndarray, truth: np.ndarray) -> tuple[float, np.ndarray]:
    return structural_similarity(
        np.asarray(image, np.float64),
        np.asarray(truth, np.float64),
        channel_axis=-1,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )


def edit_region(before: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Where an edit has to change a view: where the truth differs from what was there.

    Args:
        before: (height, width, 3) sRGB in [0, 1], the unedited photo.
        truth: of the same shape.

    Returns:
        (height, width), True where they differ by more than CHANGED, in the mean over the channels.
    """
    difference = np.abs(np.asarray(truth, np.float64)[..., :3] - np.asarray(before, np.float64)[..., :3])
    return difference.mean(-1) > CHANGED


def lpips(image: np.ndarray, truth: np.ndarray, note: Callable[[str], None] = lambda text: None) -> float | None:
    """Learned perceptual distance LPIPS, version 0.1 with AlexNet, by the authors' package.

    Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric".

    Args:
        image: (height, width, 3) sRGB in [0, 1].
        truth: of the same shape.
        note: receives one line on why it is not measured.

    Returns:
        0 for equal images. None where AlexNet's trained weights are neither on disk nor can be downloaded (with a
        random backbone the number would mean nothing), and for images with a side below LPIPS_SIDE.
    """
    network = _measuring_network(image, note)
    return network and lpips_with(network, image, truth)


def lpips_map(
    image: np.ndarray, truth: np.ndarray, note: Callable[[str], None] = lambda text: None
) -> np.ndarray | None:
    """LPIPS pixel by pixel; see `lpips`, which is nearly its mean: each layer's distances are enlarged to the image.

    Args:
        image: (height, width, 3) sRGB in [0, 1].
        truth: of the same shape.
        note: receives one line on why it is not measured.

    Returns:
        (height, width); None as for `lpips`.
    """
    network = _measuring_network(image, note)
    return network and lpips_map_with(network, image, truth)


def lpips_with(network: torch.nn.Module, image: np.ndarray, truth: np.ndarray) -> float:
    """LPIPS by a given network.

    Args:
        network: an `lpips.LPIPS` on the CPU.
        image: (height, width, 3) sRGB in [0, 1], each side at least LPIPS_SIDE.
        truth: of the same shape.

    Returns:
        0 for equal images.
    """
    with torch.no_grad():
        return float(network(_as_batch(image), _as_batch(truth), normalize=True))


def lpips_map_with(network: torch.nn.Module, image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """LPIPS pixel by pixel by a given network.

    Args:
        network: an `lpips.LPIPS` on the CPU; left as it is.
        image: (height, width, 3) sRGB in [0, 1], each side at least LPIPS_SIDE.
        truth: of the same shape.

    Returns:
        (height, width), 0 where the images are equal.
    """
    spatial = copy.copy(network)  # with the same weights
    spatial.spatial = True
    with torch.no_grad():
        return spatial(_as_batch(image), _as_batch(truth), normalize=True)[0, 0].numpy()


def _as_batch(image: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(np.asarray(image, np.float32)).permute(2, 0, 1)[None]


def _measuring_network(image: np.ndarray, note: Callable[[str], None]) -> torch.nn.Module | None:
    if min(np.shape(image)[:2]) < LPIPS_SIDE:
        note(f"LPIPS is not measured: it needs images of at least {LPIPS_SIDE} pixels.")
        return None
    network = _lpips_network()
    if network is None:
        note(
            "LPIPS is not measured: AlexNet's weights are not on disk and cannot be downloaded "
            f"({hub.ALLOW_DOWNLOAD}=1 allows it)."
        )
    return network


@functools.cache
def _lpips_network() -> torch.nn.Module | None:
    if not lpips_backbone.on_disk_or_downloadable():
        return None
    from lpips import LPIPS  # here, because it loads torchvision, and most edits have no truth to be compared with

    try:
        return LPIPS(net="alex", verbose=False).eval().requires_grad_(False)
    except OSError:  # the download failed
        return None


@dataclass(frozen=True)
class WarpConsistency:
    """How far a frame differs from its neighbour where both see the same surface.

    Attributes:
        squared_error: mean over the pixels that both see and the channels; None where there is none.
        overlap: the share of such pixels, in [0, 1].
    """

    squared_error: float | None
    overlap: float

    @property
    def psnr_db(self) -> float | None:
        """-10 log10 of the squared error."""
        if self.squared_error is None:
            return None
        return math.inf if self.squared_error == 0 else -10 * math.log10(self.squared_error)


def warp_consistency(
    view, camera: Camera, neighbour, neighbour_camera: Camera, tolerance: float = DEPTH_TOLERANCE
) -> WarpConsistency:
    """The warping error of Lai et al. 2018, by rendered depth instead of optical flow.

    sum_p M(p) ||view(p) - warped neighbour(p)||^2 / (channels * sum_p M(p)), equation 5 of "Learning Blind Video
    Temporal Consistency".

    Every pixel of `view` goes out to its depth, into the neighbour's camera, and takes the neighbour's colour there
    (bilinear). It counts (M = 1) where it lands inside the neighbour, in front of its camera, and all four of the
    neighbour's depths around that position agree with its own within `tolerance` of it: where the neighbour is occluded
    or at an edge, M = 0.

    Args:
        view: anything with rgb_srgb (height, width, 3), alpha (height, width) and depth (height, width) along z, as a
            RenderedView. Pixels with an alpha below one half count nowhere.
        camera: what it was rendered from.
        neighbour: the other frame, likewise.
        neighbour_camera: what that was rendered from.
        tolerance: share of its depth that two depths of one point may differ by.

    Returns:
        The squared error of sRGB colours in [0, 1], and the share of the pixels that it is over.
    """
    rgb, alpha, depth = (
        torch.as_tensor(array, dtype=torch.float32) for array in (view.rgb_srgb, view.alpha, view.depth)
    )
    other_rgb, other_alpha, other_depth = (
        torch.as_tensor(array, dtype=torch.float32) for array in (neighbour.rgb_srgb, neighbour.alpha, neighbour.depth)
    )
    origins, directions = camera.rays()
    points = origins.astype(np.float64) + directions.astype(np.float64) * depth.reshape(-1, 1).double().numpy()
    x, y, z = project(points, neighbour_camera)
    k = neighbour_camera.intrinsics
    inside = (z > 0) & (x >= 0.5) & (x <= k.width - 0.5) & (y >= 0.5) & (y <= k.height - 0.5)
    shape = tuple(depth.shape)
    where = (
        torch.from_numpy(np.stack([2 * x / k.width - 1, 2 * y / k.height - 1], -1))
        .float()
        .reshape(1, *shape, 2)
        .nan_to_num(0, 0, 0)
    )

    def sample(image: torch.Tensor) -> torch.Tensor:
        """(height, width, channels) of the neighbour at every pixel's place."""
        image = image.reshape(k.height, k.width, -1).permute(2, 0, 1)[None]
        return functional.grid_sample(image, where, mode="bilinear", padding_mode="border", align_corners=False)[
            0
        ].permute(1, 2, 0)

    expected = torch.from_numpy(np.nan_to_num(z)).float().reshape(shape)
    nearest, farthest = _range_of_four(other_depth, where)
    agrees = (nearest > expected * (1 - tolerance)) & (farthest < expected * (1 + tolerance))
    visible = torch.from_numpy(inside).reshape(shape) & agrees & (alpha >= 0.5) & (sample(other_alpha)[..., 0] >= 0.5)
    if not visible.any():
        return WarpConsistency(None, 0.0)
    error = ((rgb - sample(other_rgb)) ** 2)[visible].double().mean()
    return WarpConsistency(float(error), float(visible.double().mean()))


def sequence_consistency(
    views, cameras: list[Camera], interval: int = 1, report: Reporter | None = None
) -> float | None:
    """Mean over all pairs (i, i + interval) of the warping error's PSNR, in both directions.

    Args:
        views, cameras: along a path, as for `warp_consistency`.
        interval: 1 measures flicker, larger ones drift.
        report: asked between pairs whether the job was cancelled.

    Returns:
        dB; None where no pair overlaps.

    Raises:
        Cancelled.
    """
    report, errors = report or Reporter(), []
    for i in range(len(cameras) - interval):
        j = i + interval
        for a, b in ((i, j), (j, i)):
            report.check()
            result = warp_consistency(views[a], cameras[a], views[b], cameras[b])
            if result.squared_error is not None:
                errors.append(min(result.psnr_db, LARGEST_PSNR))
    return float(np.mean(errors)) if errors else None


def project(points: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Project points into a camera.

    Args:
        points: (n, 3) in capture coordinates.
        camera: in capture units.

    Returns:
        x, y: (n,) pixels, the first pixel's middle at 0.5.
        depth: (n,) along z, negative behind the camera.
    """
    pose, k = np.asarray(camera.camera_to_world, np.float64), camera.intrinsics
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    depth = -local[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return k.cx + k.fx * local[:, 0] / depth, k.cy - k.fy * local[:, 1] / depth, depth


def _range_of_four(depth: torch.Tensor, where: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The least and the greatest of the four depths that bilinear sampling would blend.

    Args:
        depth: (height, width).
        where: (1, height, width, 2) in [-1, 1], as for grid_sample.

    Returns:
        Two tensors (height, width).
    """
    height, width = depth.shape
    column = ((where[0, ..., 0] + 1) * width / 2 - 0.5).clamp(0, width - 1)
    row = ((where[0, ..., 1] + 1) * height / 2 - 0.5).clamp(0, height - 1)
    corners = [
        depth[r, c]
        for r in (row.floor().long(), row.ceil().long())
        for c in (column.floor().long(), column.ceil().long())
    ]
    stacked = torch.stack(corners)
    return stacked.amin(0), stacked.amax(0)
