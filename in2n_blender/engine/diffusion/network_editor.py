"""Editing with a model's own networks from a folder in the diffusers layout: what all families of models share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import psutil
import torch

from ...models.memory import Plan, in_words, smaller
from ...models.model import Model, unfit
from ...scene.errors import In2nError
from ...scene.reporting import Reporter
from ..device import free_bytes, free_memory, is_out_of_memory
from .editor import OriginalLatent
from .latent_editor import LatentEditor, normal_noise
from .placement import Placement, plan_for
from .reading import reading
from .weights import load_network, load_text_encoder
from .working_size import WorkingSize

Result = TypeVar("Result")
AUTOENCODER, NETWORK = "autoencoder", "network"

# Of an image at the size that the networks see, at the peak of an edit: decoding, in half precision.
BYTES_A_PIXEL = 10_000
MOST_AT_ONCE = 8
MOST_KEPT = 0.25  # of the main memory that is free, between two jobs


def images_that_fit(memory: int, size: tuple[int, int]) -> int:
    """How many images are edited in one batch.

    Args:
        memory: Bytes that they may take.
        size: (height, width) at which the networks see the largest.

    Returns:
        From 1 to MOST_AT_ONCE.
    """
    return min(max(memory // (BYTES_A_PIXEL * size[0] * size[1]), 1), MOST_AT_ONCE)


@dataclass(frozen=True)
class Condition:
    """What the network is conditioned on in one edit.

    Attributes:
        original: the originals as they came.
        latent: (batch, channels, rows, columns) their latents on the device.
    """

    original: OriginalLatent
    latent: torch.Tensor


class Overflow(ArithmeticError):
    """In half precision a part computed what is no number, or an infinite one: its range was left."""

    def __init__(self, part: str):
        super().__init__(f"the {part} left the range of half precision")
        self.part = part


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
        most_pixels: larger images are reduced to about so many pixels; None: they are not.
        keeps_photos: whether it has use for photos of any size beside their latents.
        branches_together: whether the branches of guidance are evaluated in one batch.
    """

    autoencoder_class: type
    half = torch.float16
    keeps_photos = False
    branches_together = False
    multiple: int
    working_side: int
    most_pixels: int | None

    def __init__(
        self,
        model: Model,
        folder: Path,
        device: torch.device,
        plan: Plan | None = None,
        log: Callable[[str], None] = lambda text: None,
    ):
        """Load the networks.

        Args:
            model: the catalogue's entry.
            folder: where its weights are.
            device: what it runs on.
            plan: how they are kept in memory; None: by what is free.
            log: told in a sentence where memory has ended and a smaller plan is taken.

        Raises:
            In2nError: "editor_unfit" when the folder does not hold such a checkpoint as safetensors.
            torch.OutOfMemoryError: the smallest plan takes more than there is.
        """
        super().__init__(model, device)
        self.folder, self._log = folder, log
        self.placement = Placement(device, plan or plan_for(model, device))
        self.dtype = self._dtype()
        self.working_side, self.most_pixels = model.working_side, model.most_pixels
        self._text, self._phrase, self._encoders = None, ("", ""), []
        self._within_memory(self._load_networks)

    def _dtype(self) -> torch.dtype:
        return self.half if self.device.type == "cuda" and self.model.half_precision else torch.float32

    @abstractmethod
    def _load_networks(self) -> None:
        """Load what an edit needs, but for what reads the instruction, and set `multiple`."""

    @abstractmethod
    def _encode_text(self, phrase: str, negative_prompt: str):
        """What the network is given of an instruction, and of what guidance leads away from; "": of no text.

        The text encoder is in memory only meanwhile.
        """

    @abstractmethod
    def _encoded(self, image: torch.Tensor):
        """The autoencoder's posterior of images (batch, 3, height, width) in [-1, 1] as its networks want them."""

    @abstractmethod
    def _scaled(self, latent: torch.Tensor) -> torch.Tensor:
        """A latent of the autoencoder as the network wants it, in float32."""

    @abstractmethod
    def _decode(self, latent: torch.Tensor) -> torch.Tensor:
        """The images (batch, 3, height, width) in [0, 1], unclipped, of latents as the network has them."""

    def prepare(self, instruction: str, negative_prompt: str = "") -> None:
        self._phrase = self.model.check_instruction(instruction), negative_prompt.strip()
        self._within_memory(self._prepare)

    def _prepare(self) -> None:
        with reading("text_encoder", self._unfit):
            self._text = self._encode_text(*self._phrase)
        self.placement.forget(self._encoders)
        self._encoders = []

    def edit(self, render: torch.Tensor, original, *, generators: Sequence[torch.Generator], **more) -> torch.Tensor:
        states = [generator.get_state() for generator in generators]

        def attempt() -> torch.Tensor:
            for generator, state in zip(generators, states):
                generator.set_state(state)
            return super(NetworkEditor, self).edit(render, original, generators=generators, **more)

        return self._within_range(attempt, len(render))

    def views_at_once(self, size: tuple[int, int]) -> int:
        """On a CUDA device as many as half of the memory that is free holds.

        Args:
            size: (height, width) of the largest.

        Returns:
            From 1 to MOST_AT_ONCE.
        """
        if self.device.type != "cuda":
            return 1
        return images_that_fit(free_bytes(self.device) // 2, self._working_size(size).padded)

    def encode_original(self, image: torch.Tensor) -> OriginalLatent:
        return self._within_range(lambda: self._encode_original(image), len(image))

    @torch.no_grad()
    def _encode_original(self, image: torch.Tensor) -> OriginalLatent:
        size = tuple(image.shape[-2:])
        photo = to_bytes(image) if self.keeps_photos or self._working_size(size).reduces(size) else None
        latent = self._checked_numbers(self._posterior(image).mode().float(), AUTOENCODER)
        return OriginalLatent(self._condition_latent(latent), size, photo)

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

    def _decode_to_size(self, latent: torch.Tensor, condition: Condition, size: tuple[int, int]) -> torch.Tensor:
        photo = condition.original.photo
        photo = None if photo is None else photo.to(self.device).float() / 255
        return self._working_size(size).leave(self._decode(latent), size, photo)

    def _condition(self, original: OriginalLatent, guidance) -> Condition:
        return Condition(original, original.latent.to(self.device))

    def _working_size(self, image_size: tuple[int, int]) -> WorkingSize:
        return WorkingSize.of(image_size, self.working_side, self.multiple, self.most_pixels)

    def _network(self, part: str, network_class: type) -> torch.nn.Module:
        """A denoising network, or an autoencoder, from its folder, where the memory plan puts it."""
        network = load_network(self.folder / part, network_class, self.placement.first, self.dtype)
        put = self.placement.put_autoencoder if part == "vae" else self.placement.put
        self._ask_in(network)
        return put(network)

    def _text_encoder(self, part: str, encoder_class: type) -> torch.nn.Module:
        """A text encoder from its folder, where the memory plan puts it, for as long as the instruction is read."""
        encoder = load_text_encoder(self.folder / part, encoder_class, self.placement.first, self.dtype)
        self._ask_in(encoder)
        self._encoders.append(self.placement.put(encoder))
        return encoder

    def _checked_numbers(self, values: torch.Tensor, part: str) -> torch.Tensor:
        parts = {AUTOENCODER: self.vae.dtype, NETWORK: self.dtype}
        if parts[part] != torch.float32 and not values.isfinite().all():
            raise Overflow(part)
        return values

    def _within_range(self, attempt: Callable[[], Result], images: int = 1) -> Result:
        """As `_within_memory`; a part that left the range of half precision does it again, and all that follows, in
        single: some GPUs compute half precision wrongly, and some autoencoders were not made for it."""
        while True:
            try:
                return self._within_memory(attempt, images)
            except Overflow as error:
                part = error.part
            self._log(
                f"{self.model.label}: the {part}'s numbers left the range of half precision, and it goes on in single."
            )
            if part == AUTOENCODER:
                self.vae.to(torch.float32)
            else:
                self._widen()

    def _widen(self) -> None:
        """Load everything anew in single precision, and read the instruction again."""
        self.model = replace(self.model, half_precision=False)
        self._drop_networks()
        free_memory(self.device)
        self.placement, self._encoders = Placement(self.device, plan_for(self.model, self.device)), []
        self.dtype = self._dtype()
        self._within_memory(self._load_networks)
        self._within_memory(self._prepare)

    def _within_memory(self, attempt: Callable[[], Result], images: int = 1) -> Result:
        """What an attempt gives, by the next smaller plan whenever memory ends; several images are the caller's to
        divide."""
        while True:
            try:
                return attempt()
            except Exception as error:
                plan = smaller(self.placement.plan) if images == 1 else None
                apart = images == 1 and self.branches_together
                if not is_out_of_memory(error) or (plan is None and not apart):
                    raise
            if apart:  # outside of the handler, which keeps the failed attempt's tensors alive
                self.branches_together = False
                free_memory(self.device)
                self._log("Memory ended: from now on the branches of guidance are evaluated one by one.")
            else:
                self._use(plan)

    def _use(self, plan: Plan) -> None:
        """Load everything anew by another plan; what was encoded stays."""
        self._log(f"Memory ended. {in_words(self.model, plan)}.")
        self._drop_networks()
        free_memory(self.device)
        self.placement, self._encoders = Placement(self.device, plan), []
        self._load_networks()

    def rest(self) -> bool:
        """After a job: leave the device to others.

        Returns:
            Whether the weights are worth the main memory that they take until the next job: a quarter of what is free
            at most.
        """
        self._log, self._report = (lambda text: None), Reporter()
        networks = self._networks()
        weights = sum(t.numel() * t.element_size() for n in networks for t in (*n.parameters(), *n.buffers()))
        if weights > psutil.virtual_memory().available * MOST_KEPT:
            return False
        for network in networks:
            network.to("cpu")
        return True

    def resume(self, log: Callable[[str], None]) -> None:
        """Before the next job: back to where the plan wants the networks, and counting from nothing.

        Args:
            log: as for the constructor.
        """
        self._log, self.unet_evaluations = log, 0
        if not self.placement.plan.offload:
            self._within_memory(lambda: [network.to(self.device) for network in self._networks()])

    def _networks(self) -> list[torch.nn.Module]:
        found = [getattr(self, name, None) for name in ("unet", "transformer", "vae")]
        return [network for network in (*found, *self._encoders) if network is not None]

    def _drop_networks(self) -> None:
        """Keep no network."""
        for name in ("unet", "transformer", "vae"):
            if hasattr(self, name):
                delattr(self, name)

    def _ask_in(self, *networks: torch.nn.Module) -> None:
        """Lets a job be cancelled in the middle of a network evaluation, which takes many seconds on a CPU."""
        for network in networks:
            for module in network.modules():
                if not any(module.children()):
                    module.register_forward_pre_hook(lambda module, inputs: self._report.check())

    def _unfit(self, reason: str) -> In2nError:
        return unfit(self.name, reason)


def to_bytes(image: torch.Tensor) -> torch.Tensor:
    """Images in 8 bits, in main memory, as photos are.

    Args:
        image: (batch, 3, height, width) in [0, 1].

    Returns:
        (batch, 3, height, width) uint8.
    """
    return (image.detach().clamp(0, 1) * 255).round().byte().cpu()
