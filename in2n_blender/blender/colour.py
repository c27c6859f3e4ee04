"""Colours between the engine, which knows linear Rec. 709 and sRGB, and Blender, whose configuration may be any.

Blender computes in its configuration's scene-linear space: Rec. 709 unless an OCIO configuration, or from 5.0 on the
.blend, says otherwise. What is handed to Blender as numbers is converted to it; what is handed over as a file says
which space the file is in, and Blender converts.
"""

from __future__ import annotations

import numpy as np
from mathutils import Color

from ..scene.errors import In2nError

# What configurations call the two spaces of the engine's files: Blender's own name, then those of ACES's.
LINEAR = ("Linear Rec.709", "Linear Rec.709 (sRGB)", "lin_rec709", "lin_srgb", "Utility - Linear - sRGB", "Linear")
SRGB = ("sRGB", "sRGB - Texture", "sRGB Encoded Rec.709 (sRGB)", "srgb_tx", "Utility - sRGB - Texture")
# Views that show linear Rec. 709 in [0, 1] as sRGB shows it, without a film's look.
PLAIN_VIEWS = ("Standard", "Un-tone-mapped", "ACES 1.0 - Un-tone-mapped", "Untonemapped")


def to_scene_linear() -> np.ndarray:
    """What takes linear Rec. 709 to the space that Blender computes in.

    Returns:
        (3, 3) float64, for `linear @ matrix.T`; the identity in Blender's own configuration. Asked of Blender, which
        asks its OCIO configuration's roles "scene_linear" and "aces_interchange".
    """
    columns = [Color(primary).from_rec709_linear_to_scene_linear() for primary in np.eye(3).tolist()]
    return np.array(columns, np.float64).T


def scene_linear(linear: np.ndarray) -> np.ndarray:
    """Linear Rec. 709 as numbers that Blender may be given as they are: pixels of a render engine, of a float image.

    Args:
        linear: (..., 3 or 4) linear Rec. 709, premultiplied where there is alpha.

    Returns:
        The same shape as float32 in the scene-linear space, alpha as it is; the array itself where that is Rec. 709.
    """
    matrix = to_scene_linear()
    if np.abs(matrix - np.eye(3)).max() < 1e-5:
        return linear
    converted = np.array(linear, np.float32)
    converted[..., :3] = converted[..., :3] @ matrix.T.astype(np.float32)
    return converted


def tell_srgb(image) -> None:
    """Let Blender know that an image's file is sRGB: a frame, a photo or a preview of the workspace.

    Args:
        image: A `bpy.types.Image`, or a strip of the sequencer.

    Raises:
        In2nError: "no_color_space" where the configuration has none that is sRGB.
    """
    _tell(image, SRGB, "sRGB")


def tell_linear(image) -> None:
    """Let Blender know that an image's file is linear Rec. 709: a frame's EXR.

    Args:
        image: A `bpy.types.Image`, or a strip of the sequencer.

    Raises:
        In2nError: "no_color_space" where the configuration has none that is linear Rec. 709.
    """
    _tell(image, LINEAR, "linear Rec. 709")


def _tell(image, names: tuple[str, ...], spoken: str) -> None:
    settings = image.colorspace_settings
    if settings.name in names:
        return  # setting it would read the file again
    known = set(settings.bl_rna.properties["name"].enum_items.keys())
    name = next((name for name in names if name in known), None)
    if name is None:
        raise In2nError(
            "no_color_space",
            f"The color configuration of this Blender has no color space for {spoken}.",
            "Choose the image's color space by hand, or start Blender without the variable OCIO.",
        )
    settings.name = name


def show_plainly(scene) -> None:
    """Give the scene the view transform under which a render shows what the photos showed, and no look on top.

    Exposure and gamma stay as they are: those the artist has set.

    Args:
        scene: Whose view settings are set.

    Raises:
        In2nError: "no_plain_view" where the configuration has none for the scene's display.
    """
    for name in PLAIN_VIEWS:
        try:  # which there are depends on the display, and is told nowhere
            scene.view_settings.view_transform = name
        except TypeError:
            continue
        scene.view_settings.look = "None"
        return
    raise In2nError(
        "no_plain_view",
        "The color configuration of this Blender has no view without a tone curve.",
        "Choose one in Render Properties > Color Management.",
    )


def changes_colours(scene) -> bool:
    """Whether the scene's view transform shows other colours than the photos': a film's, as AgX does.

    Args:
        scene: Whose renders are meant.
    """
    return scene.view_settings.view_transform not in (*PLAIN_VIEWS, "Raw")
