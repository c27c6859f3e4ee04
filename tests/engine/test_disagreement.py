"""How far a refined view is from what was carried into it: for pictures of any shape, and for cells of few pixels."""

import numpy as np
import pytest
import torch

from in2n_blender.engine.editing.agreement import disagreement
from in2n_blender.engine.editing.carrying import Carried


@pytest.mark.parametrize("size", [(128, 128), (96, 192), (192, 96)])
def test_on_average_noise_changes_nothing_whatever_the_pictures_shape(size):
    """Noise that is constant over the latent's blocks, over an offset as large as the change."""
    height, width = size
    photo = torch.full((3, height, width), 0.5)
    carried = Carried(photo + 0.1, torch.ones(height, width, dtype=torch.bool))
    squares = []
    for seed in range(60):
        noise = 0.3 * torch.randn(1, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(seed))
        blocks = noise.repeat_interleave(8, 2).repeat_interleave(8, 3)[0]
        squares.append(disagreement(carried.image + 0.1 + blocks, carried, photo) ** 2)
    assert np.mean(squares) == pytest.approx(1.0, abs=0.09)


def test_a_cell_of_which_hardly_anything_was_carried_tells_nothing():
    photo = torch.full((3, 128, 128), 0.5)
    covered = torch.zeros(128, 128, dtype=torch.bool)
    covered[:, :64], covered[100:104, 120:124] = True, True  # 16 of a cell's 1024 pixels
    edited = photo + 0.1
    edited[:, :, 64:] += 0.3
    assert disagreement(edited, Carried(photo + 0.1, covered), photo) == 0
    covered[96:, 96:112] = True
    assert disagreement(edited, Carried(photo + 0.1, covered), photo) > 0.5
