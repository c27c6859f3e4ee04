"""Sizes of the NeRF and its training. Presets and devices change sizes, never code."""

from __future__ import annotations

import reprlib
from dataclasses import Field, asdict, dataclass, field, fields, replace


def _number(default: float, low: float, high: float):
    """A setting from low to high; whole where the default is."""
    return field(default=default, metadata={"range": (low, high)})


FINEST = 2**16  # so that the kernels' 32-bit numbers hold the points of a grid's axis
MOST_STEPS = 10_000_000


@dataclass(frozen=True)
class NerfSettings:
    """The NeRF's sizes, and how it is trained.

    The grids lie over the contracted space, a cube of 4 normalised scene units (Mip-NeRF 360, section 2). All learning
    rates are Adam's, and are multiplied by `learning_rate_decay` and, while editing, by `edit_learning_rate`; while
    reconstructing they rise over the first 50 steps.

    Attributes:
        levels: Grids of the field's encoding.
        coarsest: Grid points along an axis of the coarsest level, the field's and the proposal's.
        finest: Grid points along an axis of the field's finest level.
        log2_table: Logarithm to base 2 of the most rows that a level's table has; levels with more points are hashed.
        features: Numbers in a row of the field's tables; the density is the softplus of the sum over all levels.
        hidden: Units of each hidden layer of the colour MLP.
        hidden_layers: Hidden layers of the colour MLP.
        proposal_levels: Grids of the proposal's encoding, of one feature each.
        proposal_finest: Grid points along an axis of the proposal's finest level.
        proposal_samples: Intervals of a ray at which the proposal's density is read.
        samples: Intervals of a ray, resampled by the proposal's weights, at which the field is read.
        rays: Pixels that a step trains on, patches included.
        steps: Optimiser steps of a reconstruction.
        learning_rate_grid: Learning rate of the tables' features.
        learning_rate_mlp: Learning rate of the colour MLP.
        learning_rate_decay: What the learning rates have been multiplied by at the last step. They fall exponentially
            over a whole reconstruction, and over the settling steps of an edit.
        distortion: Multiplies the distortion loss (in spacing, which is 0 to 1 along a ray), added to the colour loss
            (sRGB from 0 to 1, squared while reconstructing, absolute while editing).
        nearness: Multiplies the nearness loss (weight times spacing), added to the colour loss.
        points: Multiplies the loss of pixels that show a sparse point (see `losses.sighting_loss`), added to the colour
            loss while reconstructing; 0: the points are not looked at.
        point_rays: Of the pixels of a step, how many show a sparse point, where there are any.
        perceptual: What an edit compares patches by beside their colours: "off", "lpips" (off where AlexNet's weights
            are missing) or "lpips-or-random" (a seeded random backbone where they are missing). Its weight is 1.
        patches: Square patches of 32 x 32 pixels that a step of an edit compares by LPIPS.
        edit_rounds: How often an edit edits each training view.
        edit_rate: Optimiser steps of an edit for each edited view.
        edit_learning_rate: Multiplies all learning rates while editing.
        appearance: Numbers in each view's appearance embedding, inputs of the colour MLP; 0: none.
        refine_cameras: Whether the poses of the training views are learnt too.
        learning_rate_appearance: Learning rate of the appearance embeddings.
        learning_rate_cameras: Learning rate of the poses, in radians and normalised scene units.
        views: Training views with parameters of their own; 0 without appearance and refinement.
    """

    levels: int = _number(5, 1, 32)
    coarsest: int = _number(16, 2, FINEST)
    finest: int = _number(512, 2, FINEST)
    log2_table: int = _number(19, 1, 24)
    features: int = _number(4, 1, 16)
    hidden: int = _number(64, 1, 4096)
    hidden_layers: int = _number(1, 1, 16)
    proposal_levels: int = _number(4, 1, 32)
    proposal_finest: int = _number(128, 2, FINEST)
    proposal_samples: int = _number(64, 1, 4096)
    samples: int = _number(32, 1, 4096)
    rays: int = _number(1024, 1, 2**24)
    steps: int = _number(3000, 1, MOST_STEPS)
    learning_rate_grid: float = _number(5e-2, 0, 10)
    learning_rate_mlp: float = _number(5e-3, 0, 10)
    learning_rate_decay: float = _number(0.05, 0, 1)
    distortion: float = _number(2e-3, 0, 1000)
    nearness: float = _number(5e-4, 0, 1000)
    points: float = _number(0.03, 0, 1000)
    point_rays: int = _number(128, 0, 2**24)
    perceptual: str = field(default="off", metadata={"choices": ("off", "lpips", "lpips-or-random")})
    patches: int = _number(1, 0, 4096)
    edit_rounds: int = _number(3, 0, MOST_STEPS)
    edit_rate: int = _number(10, 1, MOST_STEPS)
    edit_learning_rate: float = _number(0.4, 0, 100)
    appearance: int = _number(0, 0, 1024)
    refine_cameras: bool = False
    learning_rate_appearance: float = _number(2e-2, 0, 10)
    learning_rate_cameras: float = _number(5e-4, 0, 10)
    views: int = _number(0, 0, 10_000_000)

    def to_json(self) -> dict:
        """The settings as JSON knows them; the inverse of `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: object) -> NerfSettings:
        """The settings that a checkpoint holds, checked; those that came after it have their defaults.

        Args:
            values: What `to_json` gave, of this version or an earlier one; anything else is refused.

        Returns:
            Settings of which every one is of its kind and in its range.

        Raises:
            ValueError: What is wrong, in a sentence.
        """
        if not isinstance(values, dict):
            raise ValueError("the settings are missing")
        unknown = values.keys() - {setting.name for setting in fields(cls)}
        if unknown:
            raise ValueError(f"there is no setting {reprlib.repr(min(unknown))}")
        for setting in fields(cls):
            if setting.name in values:
                _check(setting, values[setting.name])
        settings = cls(**values)
        if not settings.views and (settings.appearance or settings.refine_cameras):
            raise ValueError("views have parameters of their own, but there are none")
        return settings


def _check(setting: Field, value: object) -> None:
    """Raise ValueError for a value that a setting cannot have."""
    kind = type(setting.default)
    if kind is bool:
        allowed, expected = isinstance(value, bool), "true or false"
    elif kind is str:
        choices = setting.metadata["choices"]
        allowed, expected = value in choices, f"one of {', '.join(choices)}"
    else:
        low, high = setting.metadata["range"]
        kinds = (int,) if kind is int else (int, float)
        allowed = isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high
        expected = f"a {'whole ' if kind is int else ''}number from {low} to {high}"
    if not allowed:
        raise ValueError(f"the setting “{setting.name}” is {reprlib.repr(value)}, not {expected}")


_CPU = NerfSettings(log2_table=18, samples=24, proposal_samples=48)
CPU = {
    "draft": replace(_CPU, steps=1500, edit_rounds=2),
    "standard": replace(_CPU, steps=8000, finest=1024, levels=6, edit_rounds=4),
    "full": replace(
        _CPU,
        steps=15000,
        rays=2048,
        finest=2048,
        levels=7,
        log2_table=19,
        samples=48,
        proposal_samples=64,
        edit_rounds=6,
    ),
}
_GPU = NerfSettings(
    levels=8,
    finest=1024,
    features=4,
    hidden_layers=2,
    proposal_levels=5,
    proposal_finest=256,
    proposal_samples=96,
    samples=48,
    rays=8192,
    learning_rate_grid=2e-2,
    perceptual="lpips",
    patches=4,
)
GPU = {
    "draft": replace(_GPU, steps=3000, rays=4096, edit_rounds=4),
    "standard": replace(_GPU, steps=10000, finest=2048, levels=10, edit_rounds=10),
    "full": replace(_GPU, steps=30000, finest=4096, levels=12, rays=16384, edit_rounds=20, patches=16),
}

APPEARANCE_WIDTH = 8


def with_options(settings: NerfSettings, appearance: bool, refine_cameras: bool, views: int) -> NerfSettings:
    """The settings with what a capture may need.

    Args:
        settings: The preset's.
        appearance: Give every view an appearance embedding, for photos of different exposure.
        refine_cameras: Learn the views' poses, where they are inexact.
        views: Number of training views.

    Returns:
        The settings themselves where a capture needs neither.
    """
    if not appearance and not refine_cameras:
        return settings
    return replace(
        settings, appearance=APPEARANCE_WIDTH if appearance else 0, refine_cameras=refine_cameras, views=views
    )


def kinds_for(device_type: str) -> tuple[str, ...]:
    """The kinds of devices whose sizes a result may have that is gone on with on a device.

    Args:
        device_type: torch's name of it.

    Returns:
        The device's own kind first.
    """
    return ("cuda", "cpu") if device_type == "cuda" else ("cpu", "cuda")


def settings_for(preset: str, device_type: str) -> NerfSettings:
    """The settings of a preset on a kind of device.

    Args:
        preset: "draft", "standard" or "full".
        device_type: torch's name: "cuda" has the GPU's sizes, all others the CPU's.

    Returns:
        Without appearance and refinement, which `with_options` adds.

    Raises:
        KeyError: There is no such preset.
    """
    return (GPU if device_type == "cuda" else CPU)[preset]
