"""What an image editor is to the rest of the engine. `loading.load_editor` loads one by its name.

    editor = load_editor("miniature", device, report)
    editor.prepare("make it snow")
    original = editor.encode_original(photo)                      # once a view
    edited = editor.edit(render, original, noise_level=0.7, generators=[noise_generator(seed, view, round)])

Images are sRGB in [0, 1], float32 tensors (batch, 3, height, width) of any size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...models.model import Model
from ...scene.reporting import Reporter


@dataclass(frozen=True)
class OriginalLatent:
    """The encoded original photos of a batch of views, kept by the caller so that no photo is encoded twice.

    Attributes:
        latent: (batch, channels, height, width) as the editor's network wants it.
        image_size: (height, width) of the photos in pixels.
        photo: (batch, 3, height, width) uint8 the photos themselves, in main memory, where the editor has use for them
            beside the latent; None: it has none.
    """

    latent: torch.Tensor
    image_size: tuple[int, int]
    photo: torch.Tensor | None = None

    def to(self, device) -> OriginalLatent:
        """The same on another device.

        Args:
            device: As torch knows devices.

        Returns:
            An original of its own, of the same image size; photos stay in main memory.
        """
        return OriginalLatent(self.latent.to(device), self.image_size, self.photo)


def join_originals(originals: Sequence[OriginalLatent]) -> OriginalLatent:
    """One batch of several views' originals.

    Args:
        originals: at least one, all of one image size and on one device.

    Returns:
        Their batches one after another.
    """
    photos = [original.photo for original in originals]
    photo = None if any(photo is None for photo in photos) else torch.cat(photos)
    return OriginalLatent(torch.cat([original.latent for original in originals]), originals[0].image_size, photo)


class Editor(ABC):
    """Edits images by an instruction.

    Attributes:
        model: what the catalogue knows about it.
        unet_evaluations: network evaluations since loading, one for each image and guidance branch that counts.
    """

    model: Model
    unet_evaluations: int = 0

    @property
    def name(self) -> str:
        """What the user chose."""
        return self.model.id

    @property
    def guidance_text(self) -> float | None:
        """Its own guidance scale for the instruction, s_T; None: it has no such scale."""
        return self.model.guidance_text

    @property
    def guidance_image(self) -> float | None:
        """Its own guidance scale for the original photo, s_I; None: it has no such scale."""
        return self.model.guidance_image

    @property
    def steps(self) -> int:
        """Its own number of denoising steps."""
        return self.model.steps

    def views_at_once(self, size: tuple[int, int]) -> int:
        """How many images are to be edited in one batch.

        Args:
            size: (height, width) of the largest.

        Returns:
            1 where a batch gains nothing.
        """
        return 1

    @abstractmethod
    def prepare(self, instruction: str, negative_prompt: str = "") -> None:
        """Encode the instruction.

        Args:
            instruction: as the user typed it; holds until the next call.
            negative_prompt: what guidance leads away from, in the place of no instruction at all; of a model that
                `Model.check_negative_prompt` lets have one.

        Raises:
            In2nError: "empty_instruction", "unknown_instruction", "editor_unfit".
        """

    @abstractmethod
    def encode_original(self, image: torch.Tensor) -> OriginalLatent:
        """Encode original photos to condition on.

        Args:
            image: (batch, 3, height, width) sRGB in [0, 1].

        Returns:
            Their latent on the editor's device.
        """

    @abstractmethod
    def edit(
        self,
        render: torch.Tensor,
        original: OriginalLatent | torch.Tensor,
        *,
        noise_level: float | Sequence[float],
        generators: Sequence[torch.Generator],
        guidance_text: float | None = None,
        guidance_image: float | None = None,
        steps: int | None = None,
        report: Reporter | None = None,
    ) -> torch.Tensor:
        """Edit renders, conditioned on the views' original photos.

        Args:
            render: (batch, 3, height, width).
            original: the photos of the same views, encoded or as images of the renders' shape.
            noise_level: in (0, 1], one for all or one for each image; 1 starts from pure noise.
            generators: one CPU generator for each image (see `noise_generator`), so that batching changes no result.
            guidance_text, guidance_image, steps: None for the editor's own default.
            report: told of every step ("step") and asked, several times a step, whether the job was cancelled.

        Returns:
            Edited images of the shape, device and range of `render`.

        Raises:
            Cancelled.
            ValueError: counts or sizes do not fit together, or `prepare` was not called.
        """

    @abstractmethod
    def distillation_loss(
        self,
        render: torch.Tensor,
        original: OriginalLatent | torch.Tensor,
        *,
        noise_level: float,
        generators: Sequence[torch.Generator],
        guidance_text: float | None = None,
        guidance_image: float | None = None,
        report: Reporter | None = None,
    ) -> torch.Tensor:
        """A scalar whose gradient is that of score distillation sampling, averaged over the latent's elements.

        With respect to `render` it is (Poole et al. 2023, "DreamFusion", equation 3):

            E[w(t) (eps_guided(z_t; instruction, original) - eps) dz/drender],   w(t) = 1 - a_t,

        where z is the render's latent and z_t that latent noised to `noise_level`. No gradient goes through the
        network. An editor whose latent is not near to images in its distances may weight the latent's channels, by
        weights of mean 1.

        Args:
            render: (batch, 3, height, width) sRGB in [0, 1], with a gradient.
            original: the photos of the same views, encoded or as images of the renders' shape.
            noise_level: in (0, 1), for all images.
            generators: one CPU generator for each image, as in `edit`.
            guidance_text: s_T; None: the editor's own.
            guidance_image: s_I; None: the editor's own.
            report: asked several times whether the job was cancelled.

        Returns:
            A tensor of shape ().

        Raises:
            Cancelled.
            ValueError: as in `edit`.
        """


def noise_generator(seed: int, view: int, edit_round: int) -> torch.Generator:
    """The source of all noise for one view in one round of edits: the same numbers on every device.

    Args:
        seed: the edit's, >= 0.
        view: the view's number, from 0.
        edit_round: the round, from 0.

    Returns:
        A CPU generator, freshly seeded.
    """
    state = np.random.SeedSequence([seed, view, edit_round]).generate_state(1, np.uint64)[0]
    return torch.Generator("cpu").manual_seed(int(state >> np.uint64(1)))
