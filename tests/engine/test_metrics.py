import math
import socket
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from in2n_blender.engine.evaluation import metrics
from in2n_blender.engine.evaluation.metrics import (
    edit_region,
    lpips,
    lpips_map,
    lpips_map_with,
    lpips_with,
    project,
    sequence_consistency,
    ssim,
    ssim_map,
    warp_consistency,
)
from in2n_blender.engine.measure import psnr
from in2n_blender.engine.nerf.losses import perceptual_loss
from in2n_blender.scene.camera import Camera, Intrinsics
from in2n_blender.scene.errors import Cancelled
from in2n_blender.scene.reporting import Reporter
from tests.engine.analytic_scene import BallScene, camera_at


def test_psnr_known_values():
    black = np.zeros((4, 5, 3))
    assert psnr(black + 0.1, black) == pytest.approx(20.0)
    assert psnr(black + 1.0, black) == pytest.approx(0.0)
    assert psnr(black, black) == math.inf


def test_ssim_known_values():
    image = np.random.default_rng(0).random((32, 32, 3))
    assert ssim(image, image) == pytest.approx(1.0)
    flat = np.full((32, 32, 3), 0.25)
    # Flat images have no variance, so that only the luminance term is left.
    expected = (2 * 0.25 * 0.75 + 0.01**2) / (0.25**2 + 0.75**2 + 0.01**2)
    assert ssim(flat, flat + 0.5) == pytest.approx(expected, rel=1e-6)
    assert ssim(image, 1 - image) < 0


def test_lpips_without_weights_says_so_and_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.delenv("IN2N_ALLOW_DOWNLOAD", raising=False)
    metrics._lpips_network.cache_clear()
    notes = []
    assert lpips(np.zeros((64, 64, 3)), np.ones((64, 64, 3)), notes.append) is None
    metrics._lpips_network.cache_clear()
    assert len(notes) == 1 and "LPIPS" in notes[0]


@pytest.mark.parametrize("offline", [True, False])
def test_lpips_asks_no_network_offline_and_without_one_says_so(tmp_path, monkeypatch, offline):
    asked = []

    def no_such_host(host, *_):
        asked.append(host)
        raise socket.gaierror("no network")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_host)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for name in ("IN2N_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IN2N_ALLOW_DOWNLOAD", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1" if offline else "0")
    metrics._lpips_network.cache_clear()
    notes = []
    assert lpips(np.zeros((64, 64, 3)), np.ones((64, 64, 3)), notes.append) is None
    metrics._lpips_network.cache_clear()
    assert len(notes) == 1 and "LPIPS" in notes[0]
    assert perceptual_loss("lpips", notes.append) is None
    assert "L1 alone" in notes[1]
    assert bool(asked) != offline


def test_lpips_of_an_image_that_is_too_small_for_its_network():
    notes = []
    assert lpips(np.zeros((30, 64, 3)), np.ones((30, 64, 3)), notes.append) is None
    assert len(notes) == 1 and "31 pixels" in notes[0]


def test_lpips_by_the_real_package_on_its_random_backbone():
    from lpips import LPIPS

    torch.manual_seed(0)
    network = LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    image = np.random.default_rng(0).random((64, 64, 3))
    assert lpips_with(network, image, image) == pytest.approx(0.0, abs=1e-6)
    assert 0 < lpips_with(network, image, image * 0.9) < lpips_with(network, image, 1 - image)


def test_the_map_of_lpips_shows_where_images_differ():
    from lpips import LPIPS

    torch.manual_seed(0)
    network = LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    image = np.random.default_rng(0).random((64, 96, 3))
    changed = image.copy()
    changed[:, :20] = 0
    found = lpips_map_with(network, image, changed)
    assert found.shape == (64, 96) and found.min() >= 0
    assert found[:, :20].mean() > 5 * found[:, 70:].mean()
    assert lpips_map_with(network, image, image).max() == pytest.approx(0, abs=1e-6)
    # Enlarged distances have nearly the mean of those that they were enlarged from.
    assert found.mean() == pytest.approx(lpips_with(network, image, changed), rel=0.15)
    assert lpips_with(network, image, changed) > 0, "the network measures whole images as before"


def test_the_map_of_lpips_says_too_why_there_is_none():
    notes = []
    assert lpips_map(np.zeros((30, 64, 3)), np.ones((30, 64, 3)), notes.append) is None and "31 pixels" in notes[0]


def test_project_is_the_inverse_of_rays():
    camera = camera_at(0.7)
    origins, directions = camera.rays()
    x, y, z = project(origins + 2.5 * directions, camera)
    columns, rows = np.meshgrid(np.arange(40) + 0.5, np.arange(30) + 0.5)
    np.testing.assert_allclose(x, columns.ravel(), atol=1e-3)
    np.testing.assert_allclose(y, rows.ravel(), atol=1e-3)
    np.testing.assert_allclose(z, 2.5, atol=1e-5)


def wall(camera: Camera, shift: float = 0.0, texture=lambda x, y: np.stack([x, y, x * y], -1) * 0.1 + 0.5):
    """A textured wall in the plane z = -4, seen by an upright camera; `shift` makes all its colours wrong by as
    much."""
    origins, directions = camera.rays()
    depth = (origins[:, 2] + 4) / -directions[:, 2]
    points = origins + depth[:, None] * directions
    shape = (camera.intrinsics.height, camera.intrinsics.width)
    return SimpleNamespace(
        rgb_srgb=torch.tensor(texture(points[:, 0], points[:, 1])).reshape(*shape, 3) + shift,
        alpha=torch.ones(shape),
        depth=torch.tensor(depth).reshape(shape),
    )


def upright(x: float, width: int = 48, height: int = 32) -> Camera:
    pose = np.eye(4)
    pose[0, 3] = x
    return Camera(Intrinsics(width, height, 40.0, 40.0, width / 2, height / 2), pose)


def test_a_still_wall_is_consistent_and_a_flickering_one_is_not():
    a, b = upright(0.0), upright(0.55)
    still = warp_consistency(wall(a), a, wall(b), b)
    assert still.squared_error < 1e-6
    # A sideways step of 0.55 at depth 4 and 40 pixels of focal length moves the picture 5.5 of 48 pixels; half a pixel
    # at the border.
    assert still.overlap == pytest.approx((48 - 6) / 48, abs=0.01)
    flicker = warp_consistency(wall(a), a, wall(b, shift=0.1), b)
    assert flicker.psnr_db == pytest.approx(20.0, abs=0.05)


def test_what_the_neighbour_cannot_see_does_not_count():
    a, b = upright(0.0), upright(0.8)
    view, neighbour = wall(a), wall(b)
    neighbour.depth[:, :20] = 1.5  # a post before the neighbour's lens, of a wrong colour
    neighbour.rgb_srgb[:, :20] = 0.0
    result = warp_consistency(view, a, neighbour, b)
    assert result.squared_error < 1e-6
    assert result.overlap < warp_consistency(view, a, wall(b), b).overlap - 0.3


def test_no_overlap_and_empty_pixels():
    a, b = upright(0.0), upright(100.0)
    result = warp_consistency(wall(a), a, wall(b), b)
    assert result.squared_error is None and result.psnr_db is None and result.overlap == 0
    empty = wall(a)
    empty.alpha[:] = 0
    assert warp_consistency(empty, a, wall(a), a).overlap == 0


def test_sequence_of_a_rigid_ball_is_consistent():
    cameras = [camera_at(0.05 * i, 160, 120) for i in range(4)]
    views = [BallScene().render(camera) for camera in cameras]
    steady = sequence_consistency(views, cameras)
    for index, view in enumerate(views):
        view.rgb_srgb = (view.rgb_srgb + 0.1 * (index % 2)).clamp(0, 1)
    assert steady > 35
    assert sequence_consistency(views, cameras) < 25
    assert sequence_consistency(views, cameras, interval=2) > 30
    assert sequence_consistency(views[:1], cameras[:1]) is None
    with pytest.raises(Cancelled):
        sequence_consistency(views, cameras, report=Reporter(cancelled=lambda: True))


def test_the_edit_region_is_where_the_truth_is_another_than_the_photo():
    before = np.full((8, 8, 3), 0.5, np.float32)
    truth = before.copy()
    truth[:4], truth[4:, :4, 0] = 0.6, 0.6
    region = edit_region(before, truth)
    assert region[:4].all() and not region[4:].any(), "0.1 in one channel is 0.033 in the mean"


def test_the_map_of_ssim_has_its_mean_inside_the_border():
    image, truth = np.random.default_rng(0).random((2, 24, 30, 3))
    assert ssim_map(image, truth)[5:-5, 5:-5].mean() == pytest.approx(ssim(image, truth))
