"""The miniature's autoencoder: a fixed orthonormal block transform, exact in both directions."""

import math

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch.nn import functional

BLOCK = 4
BANDS = 3 * BLOCK * BLOCK

# Rows: luma, red against blue, green against magenta; orthonormal, so decoding is the transpose.
LUMA_CHROMA = (
    (1 / math.sqrt(3), 1 / math.sqrt(3), 1 / math.sqrt(3)),
    (1 / math.sqrt(2), 0.0, -1 / math.sqrt(2)),
    (1 / math.sqrt(6), -2 / math.sqrt(6), 1 / math.sqrt(6)),
)


def cosine_basis(size: int) -> torch.Tensor:
    """The orthonormal basis of the discrete cosine transform, DCT-II (Ahmed et al. 1974).

    Args:
        size: positions of a block along an axis, in pixels.

    Returns:
        (frequency, position) = (size, size) float64.
    """
    position = torch.arange(size, dtype=torch.float64) + 0.5
    frequency = torch.arange(size, dtype=torch.float64)
    basis = torch.cos(math.pi / size * frequency[:, None] * position[None]) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis


def block_transform_kernel() -> torch.Tensor:
    """Convolution kernel of the transform, shape (48, 3, 4, 4), band = colour * 16 + row * 4 + column frequency."""
    cosine = cosine_basis(BLOCK)
    colour = torch.tensor(LUMA_CHROMA, dtype=torch.float64)
    kernel = torch.einsum("kc,uy,vx->kuvcyx", colour, cosine, cosine)
    return kernel.reshape(BANDS, 3, BLOCK, BLOCK).float()


class BlockTransformAutoencoder(ModelMixin, ConfigMixin):
    """4x4 block DCT of a luma-chroma rotation of RGB, each band divided by its standard deviation.

    It is called as InstructPix2Pix calls `AutoencoderKL`: `encode(images).latent_dist.mode()` (or `.sample()`, the
    same since the posterior has no variance) and `decode(latents).sample`. `scaling_factor` is 1, so that the noisy
    latent and the (unscaled) conditioning latent of InstructPix2Pix live on one scale.

    Images: (batch, 3, height, width) in [-1, 1], height and width multiples of 4.
    Latents: (batch, 48, height / 4, width / 4).
    """

    @register_to_config
    def __init__(
        self,
        band_deviations: tuple[float, ...] = (1.0,) * BANDS,
        in_channels: int = 3,
        out_channels: int = 3,
        latent_channels: int = BANDS,
        block_out_channels: tuple[int, ...] = (BANDS,) * 3,
        scaling_factor: float = 1.0,
    ):
        # The pipelines read the downsampling factor as 2 ** (len(block_out_channels) - 1).
        super().__init__()
        self.register_buffer("kernel", block_transform_kernel())
        self.register_buffer("deviations", torch.tensor(band_deviations, dtype=torch.float32))

    def encode(self, x: torch.Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple:
        """Images to a posterior without variance.

        Args:
            x: (batch, 3, height, width) in [-1, 1].
            return_dict: whether the posterior comes in diffusers' own output, else in a tuple.

        Returns:
            The posterior over latents (batch, 48, height / 4, width / 4).

        Raises:
            ValueError: height or width is no multiple of 4.
        """
        if x.shape[-2] % BLOCK or x.shape[-1] % BLOCK:
            raise ValueError(f"height and width must be multiples of {BLOCK}, not {tuple(x.shape[-2:])}")
        bands = functional.conv2d(x, self.kernel.to(x.dtype), stride=BLOCK)
        latents = bands / self.deviations.to(x.dtype)[:, None, None]
        moments = torch.cat([latents, torch.zeros_like(latents)], dim=1)
        posterior = DiagonalGaussianDistribution(moments, deterministic=True)
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    def decode(self, z: torch.Tensor, return_dict: bool = True, generator=None) -> DecoderOutput | tuple:
        """Latents to images; the exact inverse of `encode`.

        Args:
            z: (batch, 48, height / 4, width / 4).
            return_dict: whether the images come in diffusers' own output, else in a tuple.
            generator: not used; diffusers' pipelines hand one over.

        Returns:
            (batch, 3, height, width), in [-1, 1] for latents of such images.
        """
        bands = z * self.deviations.to(z.dtype)[:, None, None]
        images = functional.conv_transpose2d(bands, self.kernel.to(z.dtype), stride=BLOCK)
        return DecoderOutput(sample=images) if return_dict else (images,)

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        """Encode images and decode them again: the same images, but for rounding.

        Args:
            sample: (batch, 3, height, width) in [-1, 1].

        Returns:
            Of the same shape.
        """
        return self.decode(self.encode(sample).latent_dist.mode()).sample


def measure_band_deviations(images: torch.Tensor) -> tuple[float, ...]:
    """Standard deviation of each band over images: the `band_deviations` of an autoencoder for such images.

    Args:
        images: (batch, 3, height, width) in [-1, 1], height and width multiples of 4.

    Returns:
        48 numbers, each at least 0.001.
    """
    bands = BlockTransformAutoencoder().encode(images).latent_dist.mode()
    return tuple(float(value) for value in bands.std(dim=(0, 2, 3)).clamp(min=1e-3))
