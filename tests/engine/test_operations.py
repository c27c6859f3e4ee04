"""The miniature's exact parts: its latents, and the edits that are functions of the picture."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter

from in2n_blender.engine.diffusion.miniature import autoencoder, operations
from in2n_blender.engine.diffusion.miniature.editor import MiniatureEditor


def pictures(count=2, size=32, seed=0):
    """Smooth random pictures, (count, 3, size, size)."""
    coarse = torch.rand(count, 3, size // 8, size // 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")


# --- latents


def test_latents_are_exact_and_normalised(tmp_path):
    images = pictures(4) * 2 - 1
    vae = autoencoder.BlockTransformAutoencoder(band_deviations=autoencoder.measure_band_deviations(images))
    latents = vae.encode(images).latent_dist.mode()
    assert latents.shape == (4, 48, 8, 8)
    assert torch.allclose(vae.decode(latents).sample, images, atol=1e-5)
    assert latents[:, 0].std() == pytest.approx(1.0, abs=1e-3)
    vae.save_pretrained(tmp_path)
    again = autoencoder.BlockTransformAutoencoder.from_pretrained(tmp_path)
    assert torch.equal(again.encode(images).latent_dist.sample(), latents)


def test_transform_is_orthonormal_and_a_grey_picture_has_one_band():
    kernel = autoencoder.block_transform_kernel().reshape(48, 48)
    assert torch.allclose(kernel @ kernel.T, torch.eye(48), atol=1e-6)
    latents = autoencoder.BlockTransformAutoencoder().encode(torch.full((1, 3, 4, 4), 0.5)).latent_dist.mode()
    assert latents[0, 0, 0, 0] == pytest.approx(0.5 * np.sqrt(48), rel=1e-5)
    assert latents[0, 1:].abs().max() < 1e-6


def test_its_bands_are_the_cosine_transform_of_each_block():
    """Of red against blue, for example: the second sixteen, by rows of frequencies."""
    images = pictures(1, 8) * 2 - 1
    latents = autoencoder.BlockTransformAutoencoder().encode(images).latent_dist.mode()
    against = ((images[0, 0] - images[0, 2]) / np.sqrt(2)).numpy()
    for row in range(2):
        for column in range(2):
            block = against[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            np.testing.assert_allclose(latents[0, 16:32, row, column], dctn(block, norm="ortho").ravel(), atol=1e-6)


def test_a_band_that_hardly_varies_is_not_blown_up():
    """Of greys, each as large as a block, all bands but the first are rounding errors."""
    greys = torch.tensor([[0.5, -0.5], [0.0, 0.2]]).repeat_interleave(4, 0).repeat_interleave(4, 1)
    deviations = autoencoder.measure_band_deviations(greys.expand(1, 3, -1, -1))
    assert deviations[0] == pytest.approx(float(torch.tensor([0.5, -0.5, 0.0, 0.2]).std() * 48**0.5), rel=1e-4)
    assert deviations[1:] == pytest.approx([1e-3] * 47)


def test_as_diffusers_autoencoders_it_answers_in_a_tuple_and_by_calling_it():
    images, vae = pictures(1), autoencoder.BlockTransformAutoencoder()
    (posterior,) = vae.encode(images, return_dict=False)
    (decoded,) = vae.decode(posterior.mode(), return_dict=False)
    assert torch.allclose(decoded, images, atol=1e-6) and torch.equal(vae(images), decoded)
    assert vae.config.scaling_factor == 1.0 and vae.config.latent_channels == posterior.mode().shape[1]
    assert 2 ** (len(vae.config.block_out_channels) - 1) == autoencoder.BLOCK


def test_distances_of_latents_are_those_of_pictures():
    """By the metric of score distillation, up to one factor."""
    vae = autoencoder.BlockTransformAutoencoder(band_deviations=tuple(0.1 + 0.05 * band for band in range(48)))
    editor = SimpleNamespace(vae=vae, device="cpu")
    metric = MiniatureEditor._latent_metric(editor)
    assert metric.mean() == pytest.approx(1.0)
    first, *others = pictures(4)
    away = lambda one: (metric * (one - vae.encode(first[None]).latent_dist.mode()) ** 2).sum()
    ratios = [float(away(vae.encode(o[None]).latent_dist.mode()) / ((o - first) ** 2).sum()) for o in others]
    assert ratios == pytest.approx([ratios[0]] * 3, rel=1e-4)


def test_sizes_that_are_no_multiple_of_the_block_are_refused():
    with pytest.raises(ValueError, match="multiples of 4"):
        autoencoder.BlockTransformAutoencoder().encode(torch.zeros(1, 3, 30, 32))


# --- operations and instructions


@pytest.mark.parametrize("name", operations.OPERATIONS)
def test_operations_keep_shape_and_range_and_do_not_touch_their_input(name):
    images = pictures(3)
    before = images.clone()
    edited = operations.OPERATIONS[name](images)
    assert edited.shape == images.shape and edited.min() >= 0 and edited.max() <= 1
    assert torch.equal(images, before)
    assert ((edited - images) ** 2).mean() > 1e-3


def test_operations_do_what_they_say():
    images = pictures(1)
    grey = operations.black_and_white(images)
    assert torch.equal(grey[:, 0], grey[:, 1]) and torch.equal(grey[:, 1], grey[:, 2])
    assert operations.night(images).mean() < 0.4 * images.mean()
    red, blue = operations.red_tint(images), operations.blue_tint(images)
    assert (red[:, 0] >= red[:, 2]).all() and (blue[:, 2] >= blue[:, 0]).all()
    leaf = torch.tensor([0.2, 0.6, 0.1])[None, :, None, None].expand(1, 3, 8, 8)
    turned = operations.autumn(leaf)[0, :, 0, 0]
    assert turned[0] > turned[1] > turned[2]
    paper = operations.pencil_sketch(torch.full((1, 3, 16, 16), 0.5))
    assert paper.std(dim=(2, 3)).max() < 1e-6 and paper.mean() > 0.8


CHART = ("000000", "ffffff", "808080", "d9a582", "3c7a28", "6ea5e6", "9b3a26")  # with skin, a leaf, the sky, a brick
OF_CHART = {
    "night": "030512 385298 182548 283357 0f1f2d 1a306d 151326",
    "gold": "0f0803 fff7bd b37e1c ebb534 925e12 dba329 714209",
    "autumn": "080000 fff0b2 94785a f69b5b a54c0f 819ba1 b2371b",
    "pencil sketch": "c7c5bf f0ede6 dbd9d3 e3e0da d7d5cf e0ded7 d3d1cb",
    "black and white": "000000 ffffff 808080 b2b2b2 646464 a1a1a1 484848",
    "red tint": "000000 ff3833 a21f1c e22822 781b14 b22626 841310",
    "blue tint": "000000 336bff 1c3bb1 274cd5 15347b 1f48ee 172464",
    "old photograph": "373025 e2c597 8d7b5e b0946f 786e4e 9c8d70 735b45",
}


def from_hex(color):
    return torch.tensor(list(bytes.fromhex(color))) / 255


@pytest.mark.parametrize("name", operations.OPERATIONS)
def test_colours_become_what_the_bundled_weights_were_trained_to_make_of_them(name):
    """Who changes one has to train the miniature again."""
    chart = torch.stack([from_hex(color) for color in CHART])[:, :, None, None].expand(-1, 3, 4, 4)
    edited = operations.OPERATIONS[name](chart)[:, :, 0, 0]
    for color, found, expected in zip(CHART, edited, OF_CHART[name].split(), strict=True):
        assert (found - from_hex(expected)).abs().max() < 1.01 / 255, color


def test_a_pencil_draws_lines_by_how_much_darker_they_are_than_what_is_around_them():
    def drawn(brightness):
        """Across a line of half the brightness of its ground, from the paper to the line's middle."""
        picture = torch.full((1, 3, 16, 33), brightness)
        picture[..., 16] *= 0.5
        row = operations.pencil_sketch(picture)[0, 0, 8]
        assert torch.allclose(row, row.flip(0), atol=1e-6) and torch.allclose(row[:10], row[0], atol=1e-6)
        return row[9], row[15], row[16]

    for brightness in (0.2, 0.8):
        paper, beside, line = drawn(brightness)
        blurred = brightness * (1 - 0.5 * 0.2)  # of deviation 2, a Gaussian's middle pixel has 0.2 of the weight
        assert float(paper - line) == pytest.approx(1.3 * (0.4 * brightness) / (blurred + 0.3), abs=0.02)
        assert beside > paper, "paler beside it"


def test_a_blur_is_a_gaussian_of_three_deviations_with_its_edges_repeated():
    image = pictures(1, 24)
    expected = [gaussian_filter(channel, 2.0, mode="nearest", truncate=3.0) for channel in image[0].double().numpy()]
    np.testing.assert_allclose(operations.gaussian_blur(image, 2.0)[0], expected, atol=1e-6)
