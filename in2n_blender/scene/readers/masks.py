"""Masks that lie with photos, and what their pixels mean.

nerfstudio's `mask_path` and COLMAP's masks ignore what is black (https://docs.nerf.studio/quickstart/data_conventions,
https://colmap.github.io/faq.html#mask-image-regions); instant-ngp's dynamic_mask_<photo>.png, beside the photo, ignores
what is not (its src/nerf_loader.cu).
"""

from __future__ import annotations

from pathlib import Path

from ..capture import DARK, LIGHT, PhotoMask
from .finding import PhotoFinder

EXTENSIONS = (".png", ".jpg", ".jpeg")


class MaskFinder:
    """Finds the masks of photos in a folder: masks/ beside it (masks_4/ beside images_4/), or dynamic masks in it.

    Args:
        folder: Where the photos are, such as images/.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        reduced = self.folder.name.removeprefix("images") if self.folder.name.startswith("images_") else ""
        places = [self.folder.parent / f"masks{reduced}", self.folder.parent / "masks", self.folder / "masks"]
        self._finders = [PhotoFinder(place) for place in dict.fromkeys(places) if place.is_dir()]

    def find(self, photo: Path) -> PhotoMask | None:
        """A photo's mask.

        Args:
            photo: Its file, in the folder or below it.

        Returns:
            The mask, None where there is none.
        """
        dynamic = photo.with_name(f"dynamic_mask_{photo.stem}.png")
        if dynamic.is_file():
            return PhotoMask(dynamic, LIGHT)
        if not self._finders or not photo.is_relative_to(self.folder):
            return None
        name = photo.relative_to(self.folder)
        names = [f"{name.as_posix()}.png", *(name.with_suffix(extension).as_posix() for extension in EXTENSIONS)]
        for finder in self._finders:
            for candidate in names:
                found = finder.find(candidate)
                if found and found != photo:
                    return PhotoMask(found, DARK)
        return None
