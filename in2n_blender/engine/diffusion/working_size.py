"""The size at which a network edits images of another size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from .photo_detail import resized, with_photo_detail


@dataclass(frozen=True)
class WorkingSize:
    """How images enter the networks: resized to (height, width), then padded at the right and bottom to `padded`.

    Images that are resized anyway get a size that needs no padding: their aspect changes a little, and back again.

    Attributes:
        height, width: pixels after resizing.
        padded: (height, width) in pixels after padding.
    """

    height: int
    width: int
    padded: tuple[int, int]

    @staticmethod
    def of(
        image_size: tuple[int, int], shortest_side: int, multiple: int, most_pixels: int | None = None
    ) -> WorkingSize:
        """The size for images of one size.

        Args:
            image_size: (height, width) in pixels.
            shortest_side: smaller images are enlarged until their shorter side has so many pixels.
            multiple: both sides are multiples of it.
            most_pixels: larger images are reduced to about so many, which is stronger than `shortest_side`; None: they
                stay as large as they are.

        Returns:
            The size and the padding, in pixels.
        """
        scale = max(1.0, shortest_side / min(image_size))
        if most_pixels is not None:
            scale = min(scale, math.sqrt(most_pixels / (image_size[0] * image_size[1])))
        if scale == 1:
            return WorkingSize(*image_size, tuple(math.ceil(side / multiple) * multiple for side in image_size))
        least = lambda side: max(round(side * scale / multiple), 1) * multiple
        if min(image_size) * scale < shortest_side or scale < 1:
            height, width = (least(side) for side in image_size)
        else:  # the shorter side is what was asked for, at least
            whole = math.ceil(shortest_side / multiple) * multiple
            height, width = (max(least(side), whole) for side in image_size)
        return WorkingSize(height, width, (height, width))

    def enter(self, image: torch.Tensor) -> torch.Tensor:
        """Images at the size at which the networks edit them.

        Args:
            image: (batch, 3, height, width) in [0, 1], of the images' own size.

        Returns:
            (batch, 3, *padded), resized and padded by reflection; by the edge's pixels where the image is too small for
            that.
        """
        image = resized(image, (self.height, self.width))
        down, right = self.padded[0] - self.height, self.padded[1] - self.width
        fits = down < self.height and right < self.width
        return functional.pad(image, (0, right, 0, down), mode="reflect" if fits else "replicate")

    def leave(
        self, image: torch.Tensor, image_size: tuple[int, int], photo: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Edited images at their own size again.

        Args:
            image: (batch, 3, *padded).
            image_size: (height, width) of the images, in pixels.
            photo: (batch, 3, *image_size) the original photos, whose detail counts where the images were reduced.

        Returns:
            (batch, 3, height, width) of that size, without what was padded.
        """
        image = image[..., : self.height, : self.width]
        if photo is not None and self.reduces(image_size):
            return with_photo_detail(image.clamp(0, 1), photo)
        return resized(image, image_size)

    def reduces(self, image_size: tuple[int, int]) -> bool:
        """Whether images of a size lose detail in the networks."""
        return self.height * self.width < image_size[0] * image_size[1]
