"""What a preset makes of this capture's photos: they are scaled when they are imported, and never up."""

from __future__ import annotations

import functools

import bpy
from bpy.app.translations import pgettext_iface as iface

from ..scene.presets import PRESETS
from .scene_state import active_capture, children


def said(scene) -> str:
    """The sentence under Reconstruct's Preset.

    Args:
        scene: The capture's.

    Returns:
        How large the photos are that will be trained on, and why they are not larger or smaller.
    """
    capture = active_capture(scene)
    chosen, imported = scene.in2n.preset, capture.in2n.preset
    size = _common_size(scene.session_uid, capture.session_uid, len(bpy.data.objects))
    width, height = size
    if imported not in PRESETS or imported == chosen:
        return iface("Photos of {width} × {height} pixels").format(width=width, height=height)
    words = iface("Photos stay {width} × {height}, as imported with {imported}").format(
        width=width, height=height, imported=imported.capitalize()
    )
    if max(size) < PRESETS[imported].longest_side and max(size) <= PRESETS[chosen].longest_side:
        return words + iface(": they are no larger")
    return words + iface(": for others, import again with {preset}").format(preset=chosen.capitalize())


@functools.lru_cache(maxsize=8)
def _common_size(scene_uid: int, capture_uid: int, _objects: int) -> tuple[int, int]:
    """The size that most photos have, looked up again when there are more or fewer objects."""
    scene = next(s for s in bpy.data.scenes if s.session_uid == scene_uid)
    capture = next(o for o in scene.objects if o.session_uid == capture_uid)
    sizes = [tuple(camera.in2n.image_size) for camera in children(capture, "CAMERA")]
    return max(set(sizes), key=sizes.count) if sizes else (0, 0)
