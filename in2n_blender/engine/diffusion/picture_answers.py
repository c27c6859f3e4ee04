"""An exact editor's answers as pictures: what Blender rendered of the edited scene from the very camera of a photo.

    <folder>/images/<view>.png          the photos, training views and held-out ones
    <folder>/truth/<edit>/<view>.png    what the same cameras see after an edit

A view is known by its photo: it is the one whose photo is nearest. So it is found too by a smaller photo, and by what a
reconstruction shows of the view.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from ...models.exact import ExactSettings
from ...scene.errors import In2nError
from ..pictures import opened

THUMBNAIL = 16
# In root mean square over a thumbnail's pixels and channels: farther away, a picture is of another scene.
FARTHEST = 0.25


class Pictures:
    """The right answers of the views of one scene, `diffusion.exact.Answers`.

    Args:
        folder: With photos and truths, as above.
        edits: (K,) the names of the edits that are the answers.

    Raises:
        In2nError: "missing_truth" where there are no photos, or not every photo has all answers.
    """

    def __init__(self, folder: Path | str, edits: tuple[str, ...]):
        self.folder, self.edits = Path(folder), tuple(edits)
        self.views = sorted(file.stem for file in (self.folder / "images").glob("*.png"))
        missing = [file for view in self.views for file in self.files(view) if not file.is_file()]
        if missing or not self.views:
            raise In2nError(
                "missing_truth",
                f"{missing[0] if missing else self.folder / 'images'} is missing: an answer of the exact editor.",
                "Let the testbed render it: `python3 -m in2n_blender testbed --editor exact:answers=shapes`.",
            )
        photos = (_read(self.folder / "images" / f"{view}.png") for view in self.views)
        self.thumbnails = torch.cat([_thumbnails(photo[None]) for photo in photos])

    @staticmethod
    def of(settings: ExactSettings) -> Pictures:
        """The answers of an exact editor.

        Args:
            settings: Of a family of pictures.

        Returns:
            Those in the settings' folder.

        Raises:
            In2nError: "unknown_editor" where the settings name no folder; "missing_truth".
        """
        if not settings.folder:
            raise In2nError(
                "unknown_editor",
                f"The answers of “{settings.name}” are pictures, and it names no folder of them.",
                "Use it in the testbed, which knows the folder, or add from=FOLDER of a scene in the testbed's cache.",
            )
        return Pictures(settings.folder, settings.pictures)

    def files(self, view: str) -> list[Path]:
        """Where a view's answers lie.

        Args:
            view: Its name.

        Returns:
            (K,) files, there or not.
        """
        return [self.folder / "truth" / edit / f"{view}.png" for edit in self.edits]

    def view_of(self, photo: torch.Tensor) -> str:
        """The view that a picture is of.

        Args:
            photo: (3, height, width) sRGB in [0, 1], of any size.

        Returns:
            The name of the view with the nearest photo.

        Raises:
            In2nError: "unknown_view" where none is near.
        """
        away = (self.thumbnails - _thumbnails(photo[None].cpu().float())).pow(2).mean((1, 2, 3)).sqrt()
        if float(away.min()) > FARTHEST:
            raise In2nError(
                "unknown_view",
                f"The picture to be edited is of no view in {self.folder}.",
                "An exact editor whose answers are pictures can only edit the photos that these belong to.",
            )
        return self.views[int(away.argmin())]

    def __call__(self, photos: torch.Tensor) -> torch.Tensor:
        """What views may be edited to.

        Args:
            photos: (batch, 3, height, width) by which the views are known.

        Returns:
            (batch, K, 3, height, width) sRGB in [0, 1], of the photos' size and on their device.

        Raises:
            In2nError: "unknown_view".
        """
        return torch.stack([self._answers(photo) for photo in photos])

    def _answers(self, photo: torch.Tensor) -> torch.Tensor:
        answers = torch.stack([_read(file) for file in self.files(self.view_of(photo))])
        if answers.shape[-2:] != photo.shape[-2:]:
            answers = functional.interpolate(answers, size=photo.shape[-2:], mode="bilinear", antialias=True)
        return answers.to(photo.device, photo.dtype)


@lru_cache(maxsize=512)
def _bytes(file: Path, changed_ns: int) -> np.ndarray:
    """(height, width, 3) uint8, read again where the file changed; all pictures of a scene are some ten megabytes."""
    with opened(file) as image:
        return np.asarray(image.convert("RGB"))


def _read(file: Path) -> torch.Tensor:
    """(3, height, width) sRGB in [0, 1]."""
    return torch.from_numpy(_bytes(file, file.stat().st_mtime_ns).astype(np.float32) / 255).permute(2, 0, 1)


def _thumbnails(photos: torch.Tensor) -> torch.Tensor:
    """(batch, 3, height, width) of any size to (batch, 3, THUMBNAIL, THUMBNAIL)."""
    return functional.interpolate(photos, size=(THUMBNAIL, THUMBNAIL), mode="bilinear", antialias=True)
