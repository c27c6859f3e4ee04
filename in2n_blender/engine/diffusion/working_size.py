"""The size at which a network edits images of another size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True)
class WorkingSize:
    """How images enter the networks: resized to (height, width), then padded at the right and bottom to `padded`.

    Attributes:
        height, width: pixels after resizing.
        padded: (height, width) in pixels after padding.
    """

    height: int
    width: int
    padded: tuple[int, int]

    @staticmethod
    def of(image_size: tuple[int, int], shortest_side: int, multiple: int) -> WorkingSize:
        """The size for images of one size.

        Args:
            image_size: (height, width) in pixels.
            shortest_side: smaller images are enlarged until their shorter side has so many pixels.
            multiple: both sides are padded to multiples of it.

        Returns:
            The size and the padding, in pixels.
        """
        scale = max(1.0, shortest_side / min(image_size))
        height, width = (round(side * scale) for side in image_size)
        return WorkingSize(height, width, tuple(math.ceil(side / multiple) * multiple for side in (height, width)))

    def enter(self, image: torch.Tensor) -> torch.Tensor:
        """Images at the size at which the networks edit them.

        Args:
            image: (batch, 3, height, width) in [0, 1], of the images' own size.

        Returns:
            (batch, 3, *padded), resized and padded by reflection; by the edge's pixels where the image is too small for
            that.
        """
        image = _resized(image, (self.height, self.width))
        down, right = self.padded[0] - self.height, self.padded[1] - self.width
        fits = down < self.height and right < self.width
        return functional.pad(image, (0, right, 0, down), mode="reflect" if fits else "replicate")

    def leave(self, image: torch.Tensor, image_size: tuple[int, int]) -> torch.Tensor:
        """Edited images at their own size again.

        Args:
            image: (batch, 3, *padded).
            image_size: (height, width) of the images, in pixels.

        Returns:
            (batch, 3, height, width) of that size, without what was padded.
        """
        return _resized(image[..., : self.height, : self.width], image_size)


def _resized(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    return functional.interpolate(image, size=size, mode="bicubic", antialias=True).clamp(0, 1)
