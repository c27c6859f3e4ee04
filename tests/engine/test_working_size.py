"""The size at which networks see images, and how edits come back from it: measured on a picture that Blender rendered
of the testbed's courtyard, 640 pixels a side."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from in2n_blender.engine.diffusion.editor import noise_generator
from in2n_blender.engine.diffusion.loading import load_editor
from in2n_blender.engine.diffusion.photo_detail import (
    LEAST_CONTRAST,
    RADIUS,
    colour_slopes,
    resized,
    with_photo_detail,
)
from in2n_blender.engine.diffusion.working_size import WorkingSize
from in2n_blender.models import catalogue
from tests.engine.small_models import small_klein_folder

RENDERED = Path(__file__).with_name("pictures") / "courtyard.webp"


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    pixels = np.asarray(Image.open(RENDERED).convert("RGB"))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def psnr(image, truth) -> float:
    return float(-10 * torch.log10(((image - truth) ** 2).mean()))


def sharpness(image) -> float:
    """The mean square of what changes from pixel to pixel."""
    return float((image.diff(dim=-1) ** 2).mean() + (image.diff(dim=-2) ** 2).mean())


def night(image: torch.Tensor) -> torch.Tensor:
    """Darker, bluer and with less contrast: other colours, the same things."""
    mix = torch.tensor([[0.30, 0.15, 0.05], [0.10, 0.35, 0.10], [0.05, 0.20, 0.55]])
    return (torch.einsum("eo,bohw->behw", mix, image) ** 1.1 + 0.03).clamp(0, 1)


def test_an_edited_picture_comes_back_sharper_than_enlarged(photo):
    """At 640 pixels through a network of 512 x 512, and through one of 384 x 384."""
    truth = night(photo)
    for side, least_db in ((512, 3.0), (384, 3.0)):
        edited = resized(truth, (side, side))
        plain, ours = resized(edited, (640, 640)), with_photo_detail(edited, photo)
        assert psnr(ours, truth) > psnr(plain, truth) + least_db
        assert sharpness(plain) < 0.9 * sharpness(truth) < sharpness(ours) < 1.1 * sharpness(truth)


def test_what_was_left_alone_is_the_photo_again(photo):
    edited = resized(photo, (384, 384))
    assert psnr(with_photo_detail(edited, photo), photo) > 40 > psnr(resized(edited, (640, 640)), photo)


def test_a_new_thing_gets_nothing_of_the_photo(photo):
    """A checkerboard over a part: there the edit is enlarged as it is, beside it the photo's detail is back."""
    edited = resized(photo, (384, 384)).clone()
    squares = (torch.arange(120)[:, None] // 15 + torch.arange(120) // 15) % 2 * 0.6 + 0.2
    edited[..., 130:250, 130:250] = squares
    plain, ours = resized(edited, (640, 640)), with_photo_detail(edited, photo)
    inside = (slice(None), slice(None), slice(240, 390), slice(240, 390))
    assert (ours - plain)[inside].abs().mean() < 0.1 * (photo - resized(resized(photo, (384, 384)), (640, 640)))[
        inside
    ].abs().mean() + 1e-3
    beside = (slice(None), slice(None), slice(0, 190), slice(None))
    assert psnr(ours[beside], photo[beside]) > 38


def slopes_by_hand(photo, edited):
    """(3, 3, height, width) window by window: a ridge regression, and how far it explains the edit's variance."""
    height, width = photo.shape[-2:]
    near = lambda place, size: slice(max(place - RADIUS, 0), min(place + RADIUS, size - 1) + 1)
    windows = [[(..., near(row, height), near(column, width)) for column in range(width)] for row in range(height)]
    slopes, trust = np.zeros((3, 3, height, width)), np.zeros((3, height, width))
    for row in range(height):
        for column in range(width):
            inputs, outputs = (image[windows[row][column]].reshape(3, -1) for image in (photo, edited))
            inputs, outputs = (values - values.mean(1, keepdims=True) for values in (inputs, outputs))
            count = inputs.shape[1]
            shared = outputs @ inputs.T / count
            found = shared @ np.linalg.inv(inputs @ inputs.T / count + LEAST_CONTRAST * np.eye(3))
            explained = (found * shared).sum(1) / ((outputs**2).mean(1) + LEAST_CONTRAST)
            slopes[:, :, row, column] = found
            trust[:, row, column] = np.clip((explained - 0.3) / (0.8 - 0.3), 0, 1)
    means = np.stack([[trust[window].mean((1, 2)) for window in line] for line in windows])
    return slopes * means.transpose(2, 0, 1)[:, None]


def test_an_edits_colours_follow_the_photos_by_a_regression_in_every_window():
    """One colour is the photo's, one is in part, one is another picture."""
    photo, noise = np.random.default_rng(0).uniform(0.2, 0.8, (2, 3, 13, 16))
    mix = np.array([[0.5, 0.2, 0.0], [0.3, -0.3, 0.1], [0.0, 0.0, 0.0]])
    share = np.array([0.0, 0.25, 0.5])
    edited = np.einsum("eo,ohw->ehw", mix, photo) + share[:, None, None] * noise
    found = colour_slopes(torch.from_numpy(photo)[None], torch.from_numpy(edited)[None])[0]
    np.testing.assert_allclose(found, slopes_by_hand(photo, edited), atol=1e-9)
    trusted = found.numpy()[:, :, 4:-4, 4:-4].mean((2, 3))
    assert np.allclose(trusted[0], mix[0], atol=0.01) and np.abs(trusted[2]).max() < 0.02


def test_pictures_of_the_size_that_is_wanted_stay_as_they_are():
    image = torch.tensor([-0.5, 0.0, 1.0, 1.5]).expand(1, 3, 4, 4)
    assert resized(image, (4, 4)) is image
    larger = resized(image, (4, 9))
    assert larger.min() == 0 and larger.max() == 1
    wider = resized(image, (4, 9), clamp=False)
    assert wider.min() < -0.4 and wider.max() > 1.4 and torch.equal(wider.clamp(0, 1), larger)


def test_images_enter_padded_by_reflection_and_leave_as_they_were():
    image = torch.arange(20.0).view(1, 1, 4, 5).expand(1, 3, 4, 5) / 19
    size = WorkingSize.of((4, 5), 4, 8)
    entered = size.enter(image)
    assert (size.height, size.width, size.padded) == (4, 5, (8, 8)) and entered.shape == (1, 3, 8, 8)
    assert torch.equal(entered[..., :4, :], torch.cat([image, image[..., 4:].expand(1, 3, 4, 3)], -1)), (
        "too small for it"
    )
    assert torch.equal(entered[..., 4:, :], entered[..., 3:4, :].expand(1, 3, 4, 8))
    roomy = WorkingSize.of((6, 7), 6, 8).enter(torch.rand(1, 3, 6, 7, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(roomy[..., 6:, :], roomy[..., [4, 3], :]) and torch.equal(roomy[..., 7], roomy[..., 5])
    assert torch.equal(size.leave(entered, (4, 5)), image)


@pytest.mark.parametrize(
    "size, shortest, most, multiple, expected",
    [
        ((1024, 1024), 384, 512 * 512, 64, (512, 512)),
        ((683, 1024), 384, 512 * 512, 64, (448, 640)),
        ((384, 577), 384, 512 * 512, 64, (384, 577)),  # neither: padded, not resized
        ((100, 150), 384, 512 * 512, 64, (384, 576)),
        ((90, 900), 384, 512 * 512, 16, (160, 1616)),  # more pixels than are wanted are stronger than a short side
        ((2000, 3000), 512, 1024 * 1024, 16, (832, 1248)),
        ((2000, 3000), 64, None, 16, (2000, 3000)),
    ],
)
def test_sizes_at_which_networks_work(size, shortest, most, multiple, expected):
    found = WorkingSize.of(size, shortest, multiple, most)
    assert (found.height, found.width) == expected
    assert all(side % multiple == 0 for side in found.padded)
    assert all(0 <= padded - side < multiple for padded, side in zip(found.padded, expected))
    if most:
        assert found.height * found.width < 1.15 * max(most, size[0] * size[1] if expected == size else 0)
    assert found.reduces(size) == (expected[0] * expected[1] < size[0] * size[1])


def test_every_model_works_at_its_size_whatever_the_photos():
    for model in catalogue.ON_THE_HUB:
        for size in ((240, 320), (768, 1024), (2160, 3840), (3000, 1000)):
            found = WorkingSize.of(size, model.working_side, 16, model.most_pixels)
            assert found.height * found.width < 1.1 * model.most_pixels
            assert found.width / found.height == pytest.approx(size[1] / size[0], rel=0.1)


def test_an_editor_gives_the_photos_detail_back(tmp_path, photo):
    """Through the whole of an edit at a low level, with a network of at most 160 x 160 pixels."""
    editor = load_editor(str(small_klein_folder(tmp_path)), "cpu")
    editor.prepare("make it snow")
    editor.working_side, editor.most_pixels = 32, 160 * 160
    editor._decode = lambda latent: resized(photo, (160, 160))  # random weights make no picture
    original = editor.encode_original(photo)
    assert original.photo.dtype == torch.uint8 and original.photo.shape == photo.shape
    edited = editor.edit(photo, original, noise_level=0.1, generators=[noise_generator(0, 0, 0)], steps=1)
    assert edited.shape == photo.shape
    assert psnr(edited, photo) > psnr(resized(resized(photo, (160, 160)), (640, 640)), photo) + 5
    small = resized(photo, (96, 96))
    assert editor.encode_original(small).photo is None, "nothing is lost, nothing is kept"
