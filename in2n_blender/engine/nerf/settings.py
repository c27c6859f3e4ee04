"""Sizes of the NeRF and its training. Presets and devices change sizes, never code."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace


@dataclass(frozen=True)
class NerfSettings:
    """levels, finest, log2_table, features: the field's grid; proposal_*: the proposal's; samples are per ray."""

    levels: int = 5
    coarsest: int = 16
    finest: int = 512
    log2_table: int = 19
    features: int = 4
    hidden: int = 64
    hidden_layers: int = 1
    proposal_levels: int = 4
    proposal_finest: int = 128
    proposal_samples: int = 64
    samples: int = 32
    rays: int = 1024
    steps: int = 3000
    learning_rate_grid: float = 5e-2
    learning_rate_mlp: float = 5e-3
    learning_rate_decay: float = 0.05
    distortion: float = 2e-3
    nearness: float = 5e-4
    perceptual: str = "off"
    patches: int = 1
    edit_rounds: int = 3
    edit_rate: int = 10
    edit_learning_rate: float = 0.4  # of the reconstruction's
    appearance: int = 0  # numbers a view in the appearance embedding; 0: none
    refine_cameras: bool = False
    learning_rate_appearance: float = 2e-2
    learning_rate_cameras: float = 5e-4
    views: int = 0  # training views, counted where each has parameters of its own

    def to_json(self) -> dict:
        return asdict(self)


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
    """The settings with what a capture may want: an appearance embedding (exposure differs), camera refinement (poses
    are inexact)."""
    if not appearance and not refine_cameras:
        return settings
    return replace(
        settings, appearance=APPEARANCE_WIDTH if appearance else 0, refine_cameras=refine_cameras, views=views
    )


def settings_for(preset: str, device_type: str) -> NerfSettings:
    return (GPU if device_type in ("cuda", "mps") else CPU)[preset]
