"""Photos of different exposure are made even, and blurred ones count less, where that was measured."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from in2n_blender.engine.measure import psnr, psnr_after_color_fit
from in2n_blender.engine.nerf import settings as nerf_settings
from in2n_blender.engine.nerf import unevenness
from in2n_blender.engine.nerf.reconstruction import load_capture_and_images, reconstruct
from in2n_blender.engine.nerf.rendering import NerfModel
from in2n_blender.engine.nerf.training import Trainer
from in2n_blender.engine.nerf.unevenness import BLURRED, LEFT, UNEVEN_STOPS, importance_of, measured_light
from in2n_blender.engine.photos import Photos, evened
from in2n_blender.link.requests import Reconstruct
from in2n_blender.scene.coverage import Coverage
from in2n_blender.scene.errors import Cancelled
from in2n_blender.scene.photo_report import CaptureReport, PhotoReport, report_of
from in2n_blender.scene.photo_signals import PhotoSignals
from in2n_blender.scene.reporting import Progress, Reporter
from in2n_blender.scene.srgb import linear_to_srgb, srgb_to_linear
from in2n_blender.workspace.imported import load_capture
from in2n_blender.workspace.layout import Workspace
from in2n_blender.workspace.reported import write_capture_report
from tests.engine.ball import TINY, dataset_of, photographed_ball, ring, sphere_image

DISAGREEMENT = unevenness.disagreement


@pytest.fixture
def workspace(tmp_path):
    return Workspace(photographed_ball(tmp_path / "ws", ring(4)))


@pytest.fixture(autouse=True)
def by_exposure(monkeypatch):
    """What photos differ by is their exposure, whatever these small ones show."""
    monkeypatch.setattr(
        "in2n_blender.engine.nerf.unevenness.disagreement", lambda signals, light=None: 0.5 if light else 1.0
    )


def reported(workspace, stops=None, sharpness=None, balance=(0.0, 0.0)):
    """A report that says these of the photos in turn."""
    capture = load_capture(workspace)
    found = report_of(capture)
    photos = {
        name: replace(
            photo,
            exposure_ev=None if stops is None else stops[i],
            balance_ev=None if stops is None else balance,
            sharpness=None if sharpness is None else sharpness[i],
        )
        for i, (name, photo) in enumerate(found.photos.items())
    }
    write_capture_report(workspace, replace(found, photos=photos))
    return capture


def test_stops_of_light():
    image = np.random.default_rng(0).uniform(0.2, 0.6, (4, 5, 3)).astype(np.float32)
    brighter = linear_to_srgb(srgb_to_linear(image) * np.exp2([0.3, 0.2, -0.4]))
    np.testing.assert_allclose(evened(brighter, (0.3, 0.2, -0.4)), image, atol=2e-6)
    assert evened(image, (-9, -9, -9)).max() == 1.0
    transparent = np.concatenate([image, np.full((4, 5, 1), 0.25, np.float32)], -1)
    assert (evened(transparent, (1, 1, 1))[..., 3] == 0.25).all()
    np.testing.assert_allclose(srgb_to_linear(linear_to_srgb(np.linspace(0, 1, 50))), np.linspace(0, 1, 50), atol=1e-6)


def test_light_is_what_was_measured_where_photos_differ(workspace):
    log = []
    report = Reporter(lambda event: log.append(event) if isinstance(event, str) else None)
    assert measured_light(workspace, load_capture(workspace), report) == {} and not log
    capture = reported(workspace, [0.0, 0.1, -0.1, 0.9], balance=(0.3, -0.15))
    light = measured_light(workspace, capture, report)
    green = 0.9 - 0.05
    assert light["3"] == pytest.approx((green + 0.3, green, green - 0.15))
    assert np.mean(light["3"]) == pytest.approx(0.9) and set(light) == {"0", "1", "2", "3"}
    assert log == ["The photos differ by 0.9 stops in brightness or colour, which is evened out."]
    assert measured_light(workspace, reported(workspace, [0, 0, UNEVEN_STOPS * 0.9, 0]), report) == {}


def test_nothing_is_evened_where_exposure_is_not_what_photos_differ_by(workspace, monkeypatch):
    """Surfaces that shine are of another brightness from each side; that is theirs to keep."""
    capture, log = reported(workspace, [0.0, 0.8, -0.8, 0.1]), []
    report = Reporter(lambda event: log.append(event) if isinstance(event, str) else None)
    for left, is_evened in ((LEFT + 0.01, False), (LEFT - 0.01, True)):
        monkeypatch.setattr(unevenness, "disagreement", lambda signals, light=None, n=left: 2.0 * (n if light else 1))
        assert bool(measured_light(workspace, capture, report)) == bool(log) == is_evened


def test_how_differently_photos_show_the_same_points():
    points = np.arange(40)
    signals = [
        PhotoSignals(points[first:], np.full((40 - first, 3), stops) + points[first:, None] / 10, None, 0.0)
        for first, stops in ((0, 0.0), (3, 1.0), (0, -1.0))
    ]
    assert DISAGREEMENT(signals) == pytest.approx(1.0)
    assert DISAGREEMENT(signals, [None, (1.0, 1.0, 1.0), (-1.5, -1.0, -0.5)]) == pytest.approx(0.0, abs=1e-6)
    unknown = PhotoSignals(points, np.full((40, 3), np.nan), None, 0.0)
    assert DISAGREEMENT([*signals, unknown]) == pytest.approx(1.0)
    assert DISAGREEMENT([PhotoSignals(points[:0], np.zeros((0, 3)), None, 0.0)] * 2) == 0.0


def test_a_photo_of_which_nothing_is_known_stays_as_it_is(workspace):
    capture = reported(workspace, [0.0, None, 1.0, -1.0])
    light = measured_light(workspace, capture, Reporter())
    assert set(light) == {"0", "2", "3"}
    plain, even = Photos(workspace, capture.views), Photos(workspace, capture.views, light)
    assert (plain[1] == even[1]).all()
    np.testing.assert_allclose(even[0], plain[0], atol=1e-6)
    np.testing.assert_array_equal(even[2], evened(plain[2], (1, 1, 1)))


def test_blurred_photos_count_by_the_square_of_their_sharpness(workspace):
    log = []
    report = Reporter(log.append)
    views = reported(workspace, sharpness=[1.0, 0.5, 1.1, BLURRED]).views
    assert importance_of(workspace, views, report).tolist() == [1.0, 0.25, 1.0, 1.0]
    reported(workspace, sharpness=[1.0, 0.01, 1.1, 0.6])
    assert importance_of(workspace, views, report).tolist() == pytest.approx([1.0, 0.05, 1.0, 0.36])
    assert log == [
        "1 photo, more blurred than the others, counts less.",
        "2 photos, more blurred than the others, count less.",
    ]
    for all_alike in ([1.0, 0.9, 1.1, 0.8], [0.4, 0.5, 0.4, 1.0], None):
        reported(workspace, sharpness=all_alike)
        assert importance_of(workspace, views, report) is None


@pytest.mark.parametrize("importance", [None, [1.0, 0.25, 1.0]])
def test_the_loss_counts_pixels_as_their_views(importance, monkeypatch):
    cameras = ring(3)
    dataset = dataset_of(cameras, [sphere_image(c) for c in cameras])
    dataset.importance = None if importance is None else torch.tensor(importance)
    trainer = Trainer(NerfModel(TINY), dataset, 0, 10)
    off, pixels = torch.tensor([[0.1, 0.1, 0.1], [0.2, 0.2, 0.2]]), torch.tensor([5, 24 * 16 + 5])
    expected = (0.01 + 0.04) / 2 if importance is None else (0.01 + 0.25 * 0.04) / 1.25
    assert float(trainer._squared(off, pixels)) == pytest.approx(expected, rel=1e-5)
    seen = []
    squared = trainer._squared
    monkeypatch.setattr(trainer, "_squared", lambda *given: seen.append(given) or squared(*given))
    trainer.step()
    assert len(seen) == 1 and seen[0][0].shape == (TINY.rays, 3)


def test_a_colour_fit_forgives_exposure_and_nothing_else():
    random = np.random.default_rng(1)
    truth = random.uniform(0.1, 0.9, (20, 30, 3))
    assert psnr_after_color_fit(truth * [0.5, 0.9, 0.7] + 0.05, truth) > 100
    noisy = np.clip(truth + random.normal(0, 0.05, truth.shape), 0, 1)
    assert psnr_after_color_fit(noisy, truth) == pytest.approx(psnr(noisy, truth), abs=0.5)
    halves = truth.copy()
    halves[:, 15:] *= 0.5  # an error of one half alone is not forgiven
    assert psnr_after_color_fit(halves, truth) < 15
    counts = np.zeros((20, 30), bool)
    counts[:, :15] = True
    assert psnr_after_color_fit(halves, truth, counts) == psnr(halves[counts], truth[counts])
    counts[:, 20:] = True
    spoilt = np.where(counts[..., None], truth, 0.0)
    assert psnr_after_color_fit(spoilt, truth, counts) > 100


def test_a_reconstruction_of_uneven_photos_is_of_the_evened_ones(tmp_path, monkeypatch):
    """What it was evened by is in its state, from which an edit takes it; held-out photos are scored after a fit."""
    monkeypatch.setitem(nerf_settings.CPU, "draft", TINY)
    workspace = Workspace(photographed_ball(tmp_path / "ws", ring(6), held_out=(5,)))
    request = Reconstruct(workspace=str(workspace.root), preset="draft", device="cpu", steps=5, restart=True)
    state = reconstruct(request, Reporter())
    assert state["light"] == {} and state["color_fit"] is False
    reported(workspace, [0.0, 0.8, -0.8, 0.0, 0.4, 0.1])
    made = reconstruct(request, Reporter())
    assert made["color_fit"] and made["light"]["1"] == pytest.approx([0.8] * 3)
    again = json.loads((workspace.reconstruction / "state.json").read_text())
    _, images = load_capture_and_images(workspace, again["light"])
    plain = Photos(workspace, load_capture(workspace).training_views)
    np.testing.assert_array_equal(images[1], evened(plain[1], [0.8] * 3))
    appearance = reconstruct(replace(request, appearance=True, restart=True), Reporter())
    assert appearance["color_fit"]


def test_one_that_was_stopped_goes_on_with_the_light_it_began_with(tmp_path, monkeypatch):
    monkeypatch.setitem(nerf_settings.CPU, "draft", TINY)
    workspace = Workspace(photographed_ball(tmp_path / "ws", ring(5)))
    request, steps = Reconstruct(workspace=str(workspace.root), preset="draft", device="cpu", steps=8), []
    reported(workspace, [0.0, 0.8, -0.8, 0.0, 0.4])
    watch = lambda event: steps.append(event) if isinstance(event, Progress) and event.unit == "step" else None
    with pytest.raises(Cancelled):
        reconstruct(request, Reporter(watch, lambda: len(steps) > 3))
    reported(workspace, [0.0, 0.0, -0.8, 0.8, 0.4])
    assert reconstruct(request, Reporter())["light"]["1"] == pytest.approx([0.8] * 3)


def test_reports_of_other_photos_are_of_no_use(workspace):
    """A photo that the report does not know counts in full."""
    capture = load_capture(workspace)
    other = CaptureReport({"x": PhotoReport(0.1, 3.0, 9, 0.5, 5.0, (0.0, 0.0))}, (), report_of(capture).coverage, True)
    assert isinstance(other.coverage, Coverage)
    write_capture_report(workspace, other)
    assert measured_light(workspace, capture, Reporter()) == {}
    assert importance_of(workspace, capture.views, Reporter()) is None
