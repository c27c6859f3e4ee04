"""The size at which networks see images, and how edits come back from it: measured on a picture that Blender rendered
of the testbed's courtyard, 640 pixels a side."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from in2n_blender.engine.diffusion.editor import noise_generator
from in2n_blender.engine.diffusion.loading import load_editor
from in2n_blender.engine.diffusion.photo_detail import resized, with_photo_detail
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
