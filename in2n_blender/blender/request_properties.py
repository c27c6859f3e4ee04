"""The choices that operators and the scene's settings share."""

from __future__ import annotations

from ..scene.presets import PRESETS

PRESET_ITEMS = tuple(
    (p.name, p.name.capitalize(), f"Photos scaled down to at most {p.longest_side} pixels on the longer side")
    for p in PRESETS.values()
)
DEVICE_ITEMS = (
    ("auto", "Automatic", "Use the fastest device that the engine finds"),
    ("cpu", "CPU", "Use the processor only"),
    ("cuda", "CUDA", "Use an NVIDIA GPU, or an AMD GPU with a ROCm build of the engine"),
    ("mps", "Metal", "Use the GPU of an Apple computer"),
)
EDITOR_ITEMS = (
    (
        "miniature",
        "Miniature",
        "The small editing model that comes with the add-on: quick, works offline, knows few instructions",
    ),
    (
        "timbrooks/instruct-pix2pix",
        "InstructPix2Pix",
        "The editing model of the paper; several gigabytes, downloaded on first use",
    ),
    ("folder", "Folder", "An InstructPix2Pix model in a folder on this computer"),
)
