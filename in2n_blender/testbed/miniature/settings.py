"""What a training run of the miniature is made with, and the defaults of the editor that comes out of it."""

from dataclasses import dataclass

# The editor's defaults. The network predicts the edit itself, so it needs no guidance and few steps.
GUIDANCE_TEXT, GUIDANCE_IMAGE = 1.0, 1.0
DENOISING_STEPS = 2


@dataclass
class TrainingConfig:
    """Hyper-parameters of a run; kept in its `state.json`.

    dropout: share of samples that lose their text, their image, and both, each (InstructPix2Pix: 5%).
    large_share: share of the steps at `large_size` (with fewer samples), so that it also sees whole pictures.
    drift: share of samples whose noisy latent is made from a drifted edit (`Trainer._drifted`).
    decay_from: progress in [0, 1] from which the learning rate falls to zero along a cosine.
    shape_weight: how much it counts, while training only, that the network also sees the shape of what it edits.
    earlier_steps, earlier_hours: how long the weights had been trained that the run starts from.
    """

    steps: int = 20_000
    batch: int = 16
    size: int = 64
    large_size: int = 128
    large_share: float = 0.75
    learning_rate: float = 6e-4
    warmup: int = 200
    decay_from: float = 0.5
    gradient_norm: float = 1.0
    average: float = 0.998
    dropout: float = 0.05
    drift: float = 0.85
    shape_weight: float = 0.2
    bfloat16: bool = False
    seed: int = 0
    earlier_steps: int = 0
    earlier_hours: float = 0.0
