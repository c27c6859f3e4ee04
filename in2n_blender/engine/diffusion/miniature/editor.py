"""The miniature as an editor: an InstructPix2Pix over an exact block transform in place of a learned autoencoder."""

from __future__ import annotations

import torch

from ..instruct_pix2pix import InstructPix2Pix
from .autoencoder import BlockTransformAutoencoder


class MiniatureEditor(InstructPix2Pix):
    """The bundled miniature, and every model with its autoencoder."""

    autoencoder_class = BlockTransformAutoencoder

    def _latent_metric(self) -> torch.Tensor:
        """The bands' variances, (48, 1, 1), of mean 1.

        The latent is scaled so that every frequency band has one size. Unweighted, its finest bands, hardly visible,
        would make up nearly all of a gradient in pixels; with their variances it is the distance between the images.
        """
        variances = self.vae.deviations.to(self.device) ** 2
        return (variances / variances.mean())[:, None, None]
