"""Editing with a model's own networks from a folder in the diffusers layout: what all families of models share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch

from ...models.model import Model, unfit
from ...scene.errors import In2nError
from .editor import OriginalLatent
from .latent_editor import LatentEditor, normal_noise
from .reading import reading
from .working_size import WorkingSize

# Of an image at the size that the networks see, at the peak of an edit: decoding, in half precision.
BYTES_A_PIXEL = 10_000
MOST_AT_ONCE = 8


def images_that_fit(memory: int, size: tuple[int, int]) -> int:
    """How many images are edited in one batch.

    Args:
        memory: Bytes that they may take.
        size: (height, width) at which the networks see the largest.

    Returns:
        From 1 to MOST_AT_ONCE.
    """
    return min(max(memory // (BYTES_A_PIXEL * size[0] * size[1]), 1), MOST_AT_ONCE)


class NetworkEditor(LatentEditor):
    """A checkpoint in the diffusers layout.

    Half precision on CUDA where the model allows it, float32 elsewhere; noise, guidance and steps are always float32.

    Attributes:
        autoencoder_class: diffusers' class of the autoencoder.
        half: the half precision that the family was trained for.
        folder: where the weights are.
        dtype: of the weights and of what the networks compute in.
        multiple: both sides of what the networks see are multiples of it, in pixels.
        working_side: images are enlarged until their shorter side has so many pixels.
    """

    autoencoder_class: type
    half = torch.float16
    multiple: int
    working_side: int

    def __init__(self, model: Model, folder: Path, device: torch.device):
        """Load the networks.

        Args:
            model: the catalogue's entry.
            folder: where its weights are.
            device: what it runs on.

        Raises:
            In2nError: "editor_unfit" when the folder does not hold such a checkpoint as safetensors.
        """
        super().__init__(model, device)
        self.folder = folder
        self.dtype = self.half if device.type == "cuda" and model.half_precision else torch.float32
        self.working_side = model.working_side
        self._text = None
        self._load_networks()

    @abstractmethod
    def _load_networks(self) -> None:
        """Load what an edit needs, but for what reads the instruction, and set `multiple`."""

    @abstractmethod
    def _encode_text(self, phrase: str):
        """What the network is given of an instruction; the text encoder is in memory only meanwhile."""

    @abstractmethod
    def _encoded(self, image: torch.Tensor):
        """The autoencoder's posterior of images (batch, 3, height, width) in [-1, 1] as its networks want them."""

    @abstractmethod
    def _scaled(self, latent: torch.Tensor) -> torch.Tensor:
        """A latent of the autoencoder as the network wants it, in float32."""

    @abstractmethod
    def _decode(self, latent: torch.Tensor) -> torch.Tensor:
        """The images (batch, 3, height, width) in [0, 1], unclipped, of latents as the network has them."""

    def prepare(self, instruction: str) -> None:
        phrase = self.model.check_instruction(instruction)
        with reading("text_encoder", self._unfit):
            self._text = self._encode_text(phrase)

    def views_at_once(self, size: tuple[int, int]) -> int:
        """On a CUDA device as many as half of the memory that is free holds.

        Args:
            size: (height, width) of the largest.

        Returns:
            From 1 to MOST_AT_ONCE.
        """
        if self.device.type != "cuda":
            return 1
        free, _ = torch.cuda.mem_get_info(self.device)
        return images_that_fit(free // 2, self._working_size(size).padded)

    @torch.no_grad()
    def encode_original(self, image: torch.Tensor) -> OriginalLatent:
        return OriginalLatent(self._condition_latent(self._posterior(image).mode().float()), tuple(image.shape[-2:]))

    def _condition_latent(self, latent: torch.Tensor) -> torch.Tensor:
        """What the network wants of an original's latent."""
        return self._scaled(latent)

    @property
    def _prepared(self) -> bool:
        return self._text is not None

    def _mean_latent(self, render: torch.Tensor) -> torch.Tensor:
        return self._scaled(self._posterior(render).mean.float())

    def _sample_latent(self, render: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
        posterior = self._posterior(render)
        mean, deviation = posterior.mean.float(), posterior.std.float()
        return self._scaled(mean + deviation * normal_noise(mean.shape, generators, self.device))

    def _posterior(self, image: torch.Tensor):
        working_size = self._working_size(tuple(image.shape[-2:]))
        return self._encoded(working_size.enter(image.to(self.device, torch.float32)) * 2 - 1)

    def _decode_to_size(self, latent: torch.Tensor, condition, size: tuple[int, int]) -> torch.Tensor:
        return self._working_size(size).leave(self._decode(latent), size)

    def _working_size(self, image_size: tuple[int, int]) -> WorkingSize:
        return WorkingSize.of(image_size, self.working_side, self.multiple)

    def _ask_in(self, *networks: torch.nn.Module) -> None:
        """Lets a job be cancelled in the middle of a network evaluation, which takes many seconds on a CPU."""
        for network in networks:
            for module in network.modules():
                if not any(module.children()):
                    module.register_forward_pre_hook(lambda module, inputs: self._report.check())

    def _unfit(self, reason: str) -> In2nError:
        return unfit(self.name, reason)
