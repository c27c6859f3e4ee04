"""Editing by flow matching with a transformer that sees the original photo as reference tokens: FLUX and its relatives.

A render's latent is mixed with noise to a level; at every step the transformer is given the tokens of that latent and,
behind them, those of the original photo's, and tells in which direction the clean latent lies. What differs from family
to family is how latents become tokens, how the text is encoded, and what else the transformer wants to be told.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL

from .editor import OriginalLatent
from .flow_schedule import FlowSettings
from .network_editor import Condition, NetworkEditor
from .reading import UnfitFiles, reading

PATCH = 2  # latent pixels a side of a token


@dataclass(frozen=True)
class TokenCondition(Condition):
    """What the transformer is conditioned on in one edit.

    Attributes:
        reference: (batch, tokens, width) the tokens of the original photos.
        texts: what the family's text encoder made of the instruction, and of no instruction (None where the network is
            never evaluated without one), for each image of the batch or for all alike.
        size: (height, width) of the images' latents in tokens.
    """

    reference: torch.Tensor
    texts: tuple
    size: tuple[int, int]


class FlowEditor(NetworkEditor):
    """A checkpoint of a flow-matching transformer in the diffusers layout.

    Attributes:
        transformer_class: diffusers' class of the transformer.
        settings: how sigmas are shifted.
    """

    transformer_class: type
    autoencoder_class: type = AutoencoderKL
    half = torch.bfloat16
    settings: FlowSettings

    @abstractmethod
    def _velocity(
        self, tokens: torch.Tensor, sigma: torch.Tensor, text, condition: TokenCondition, scale: float | None
    ):
        """One evaluation of the transformer.

        tokens: (batch, tokens, width) of the noisy latents and, behind them, of the originals; sigma: (batch,); text:
        one of condition.texts; scale: s_T. Returns (batch, at least those of the latents, width).
        """

    @abstractmethod
    def _fits(self, channels: int) -> bool:
        """Whether the transformer takes the tokens of an autoencoder with so many channels."""

    def _mu(self, tokens: int, steps: int) -> float:
        """By which sigmas are shifted for latents of so many tokens."""
        return self.settings.mu(tokens)

    def _unconditional(self, scale: float | None) -> bool:
        """Whether the transformer is evaluated without an instruction, too."""
        return scale is not None and scale > 1

    def _combined(self, text: torch.Tensor, nothing: torch.Tensor, scale: float) -> torch.Tensor:
        """Classifier-free guidance (Ho and Salimans 2022), in tokens."""
        return nothing + scale * (text - nothing)

    def _texts(self, original: OriginalLatent, scale: float | None) -> tuple:
        """What the text encoder made of the instruction for these originals, as of `Condition.texts`."""
        return self._text

    def _packed(self, latent: torch.Tensor) -> torch.Tensor:
        """(batch, channels, height, width) to tokens (batch, height/2 * width/2, 4 channels)."""
        count, channels, height, width = latent.shape
        patches = latent.reshape(count, channels, height // PATCH, PATCH, width // PATCH, PATCH)
        return patches.permute(0, 2, 4, 1, 3, 5).reshape(count, -1, channels * PATCH**2)

    def _unpacked(self, tokens: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """The reverse of `_packed`, to latents of a shape."""
        count, channels, height, width = shape
        patches = tokens.reshape(count, height // PATCH, width // PATCH, channels, PATCH, PATCH)
        return patches.permute(0, 3, 1, 4, 2, 5).reshape(shape)

    def _tokens(self, shape: torch.Size) -> tuple[int, int]:
        """(height, width) in tokens of latents of a shape."""
        return shape[-2] // PATCH, shape[-1] // PATCH

    def _condition(self, original: OriginalLatent, guidance) -> TokenCondition:
        latent = original.latent.to(self.device)
        texts = self._texts(original, guidance[0])
        return TokenCondition(original, latent, self._packed(latent), texts, self._tokens(latent.shape))

    def _set_schedule(self, shape: torch.Size, steps: int) -> None:
        height, width = self._tokens(shape)
        self.schedule = self.settings.schedule(self._mu(height * width, steps))

    def _guided(self, latent, now, condition: TokenCondition, guidance) -> torch.Tensor:
        scale = guidance[0]
        own = self._packed(latent)
        tokens = torch.cat([own, condition.reference], dim=1).to(self.dtype)
        sigma = now.to(self.device, torch.float32)
        predictions: list[torch.Tensor] = []
        for text in condition.texts if self._unconditional(scale) else condition.texts[:1]:
            self.unet_evaluations += len(latent)
            velocity = self._velocity(tokens, sigma, text, condition, scale)
            predictions.append(velocity[:, : own.shape[1]].float())
        velocity = self._combined(*predictions, scale) if len(predictions) > 1 else predictions[0]
        return self._unpacked(velocity, latent.shape)

    def _encoded(self, image: torch.Tensor):
        return self.vae.encode(image.to(self.vae.dtype)).latent_dist

    def _scaled(self, latent: torch.Tensor) -> torch.Tensor:
        return (latent - (self.vae.config.shift_factor or 0)) * self.vae.config.scaling_factor

    def _unscaled(self, latent: torch.Tensor) -> torch.Tensor:
        """The reverse of `_scaled`."""
        return latent / self.vae.config.scaling_factor + (self.vae.config.shift_factor or 0)

    def _decode(self, latent: torch.Tensor) -> torch.Tensor:
        return self.vae.decode(self._unscaled(latent).to(self.vae.dtype)).sample.float() / 2 + 0.5

    def _load_networks(self) -> None:
        with reading("scheduler", self._unfit):
            self.settings = FlowSettings.from_folder(self.folder / "scheduler")
        with reading("transformer", self._unfit):
            self.transformer = self._network("transformer", self.transformer_class)
        with reading("vae", self._unfit):
            self.vae = self._network("vae", self.autoencoder_class)
            if not self._fits(self._latent_channels):
                raise UnfitFiles("its transformer and its vae do not fit together")
        self.multiple = self._latent_factor * PATCH

    @property
    def _latent_factor(self) -> int:
        """Pixels a side of a latent pixel."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def _latent_channels(self) -> int:
        return self.vae.config.latent_channels
