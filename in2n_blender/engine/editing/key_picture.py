"""The picture that the user chose for a view: what is previewed is what the whole scene becomes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ...scene.capture import PinholeCapture, View
from ...scene.errors import In2nError
from ...workspace.files import read_json
from ...workspace.hashes import hash_of_bytes
from ...workspace.layout import KEY_VIEW
from ..pictures import read_srgb, to_bytes

PREVIEW_RECORD, EDIT_RECORD = "preview.json", "edit.json"
SAME_SHAPE = 0.03  # relative difference of the aspects of a photo and its edit


@dataclass(frozen=True)
class KeyPicture:
    """An edited picture of a view.

    Attributes:
        view: Which view it is of.
        image: (height, width, 3) float32 sRGB in [0, 1], of any size of the view's aspect.
    """

    view: View
    image: np.ndarray

    def to_json(self) -> dict:
        """What edit.json says of it: the view's name, and a hash of the pixels."""
        return {"view": self.view.name, "picture": hash_of_bytes([to_bytes(self.image).tobytes()])}


def read_key_picture(file: str, capture: PinholeCapture) -> KeyPicture:
    """Read the picture that is to be the first key view.

    Args:
        file: A picture of a preview (preview.json beside it names its photo), an edit's own, or any picture that is
            named as the photo it shows.
        capture: Whose photo it shows.

    Returns:
        The picture, and its view, which may be one that is held out.

    Raises:
        In2nError: "no_picture" where it is missing or cannot be read, "unknown_view" where it is of none of the
            capture's photos, "other_shape" where its aspect is another than its photo's.
    """
    path = Path(file).expanduser()
    try:
        image = read_srgb(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise In2nError(
            "no_picture", f"The picture {path} cannot be read ({error}).", "Choose a picture of a preview."
        ) from error
    name = _photo_of(path)
    view = next((view for view in capture.views if name in (view.name, Path(view.name).stem)), None)
    if view is None:
        raise In2nError(
            "unknown_view",
            f"{path} is of no photo of this capture.",
            "Choose a picture of a preview, or name the file as the photo that it shows.",
        )
    k, (height, width) = view.camera.intrinsics, image.shape[:2]
    if abs(width * k.height / (height * k.width) - 1) > SAME_SHAPE + 1 / min(width, height):
        raise In2nError(
            "other_shape",
            f"{path} is {width} x {height} pixels, the photo “{name}” {k.width} x {k.height}.",
            "A key view shows the whole photo, uncropped.",
        )
    return KeyPicture(view, image)


def _photo_of(path: Path) -> str:
    """The name of the photo that a picture says it shows."""
    for record in (PREVIEW_RECORD, EDIT_RECORD):
        try:
            said = read_json(path.parent / record)
        except (OSError, ValueError, In2nError):
            continue
        if not isinstance(said, dict):
            continue
        if record == EDIT_RECORD and path.name == KEY_VIEW and isinstance(said.get("key_view"), dict):
            return str(said["key_view"].get("view"))
        pictures = said.get("pictures") if record == PREVIEW_RECORD else None
        if isinstance(pictures, list) and path.name in [c.get("file") for c in pictures if isinstance(c, dict)]:
            return str(said.get("view"))
    return path.stem
