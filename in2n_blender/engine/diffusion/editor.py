"""What an image editor is to the rest of the engine, and how one is loaded by name.

    editor = load_editor("miniature", device, report)
    editor.prepare("make it snow")
    original = editor.encode_original(photo)                      # once a view
    edited = editor.edit(render, original, noise_level=0.7, generators=[noise_generator(seed, view, round)])

Images are sRGB in [0, 1], float32 tensors (batch, 3, height, width) of any size.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...scene.errors import In2nError
from ...scene.reporting import Reporter

MINIATURE = "miniature"
MINIATURE_FOLDER = Path(__file__).parent / "miniature" / "weights"


@dataclass(frozen=True)
class OriginalLatent:
    """The encoded original photos of a batch of views, kept by the caller so that no photo is encoded twice.

    latent: (batch, channels, height, width) as the editor's network wants it. image_size: (height, width) of the
    photos.
    """

    latent: torch.Tensor
    image_size: tuple[int, int]

    def to(self, device) -> OriginalLatent:
        return OriginalLatent(self.latent.to(device), self.image_size)


def join_originals(originals: Sequence[OriginalLatent]) -> OriginalLatent:
    """One batch of several views' originals, all of one image size."""
    return OriginalLatent(torch.cat([original.latent for original in originals]), originals[0].image_size)


class Editor(ABC):
    """Edits images by an instruction.

    name: what the user chose. guidance_text, guidance_image: this editor's own default guidance scales. steps: its own
    number of denoising steps. unet_evaluations: network evaluations since loading, one for each image and guidance
    branch that counts.
    """

    name: str
    guidance_text: float
    guidance_image: float
    steps: int
    unet_evaluations: int = 0

    @abstractmethod
    def prepare(self, instruction: str) -> None:
        """Encode the instruction. Raises In2nError("empty_instruction") or In2nError("unknown_instruction")."""

    @abstractmethod
    def encode_original(self, image: torch.Tensor) -> OriginalLatent:
        """Encode original photos (batch, 3, height, width) to condition on."""

    @abstractmethod
    def edit(
        self,
        render: torch.Tensor,
        original: OriginalLatent | torch.Tensor,
        *,
        noise_level: float | Sequence[float],
        generators: Sequence[torch.Generator],
        guidance_text: float | None = None,
        guidance_image: float | None = None,
        steps: int | None = None,
        report: Reporter | None = None,
    ) -> torch.Tensor:
        """Edit renders (batch, 3, height, width), conditioned on the views' original photos.

        noise_level: in (0, 1], one for all or one for each image; 1 starts from pure noise.
        generators: one CPU generator for each image (see `noise_generator`), so that batching changes no result.
        guidance_text, guidance_image, steps: None for the editor's own default.
        report: told of every step ("step") and asked, several times a step, whether the job was cancelled.
        Returns edited images, shape, device and range as `render`. Raises Cancelled, ValueError.
        """

    @abstractmethod
    def distillation_loss(
        self,
        render: torch.Tensor,
        original: OriginalLatent | torch.Tensor,
        *,
        noise_level: float,
        generators: Sequence[torch.Generator],
        guidance_text: float | None = None,
        guidance_image: float | None = None,
        report: Reporter | None = None,
    ) -> torch.Tensor:
        """A scalar whose gradient with respect to `render` is that of score distillation sampling (Poole et al. 2023,
        "DreamFusion", equation 3), averaged over the latent's elements:

            E[w(t) (eps_guided(z_t; instruction, original) - eps) dz/drender],   w(t) = 1 - a_t,

        where z is the render's latent and z_t that latent noised to `noise_level` in (0, 1). No gradient goes through
        the network. An editor whose latent is not near to images in its distances may weight the latent's channels, by
        weights of mean 1. Arguments as in `edit`. Raises Cancelled, ValueError.
        """


def noise_generator(seed: int, view: int, edit_round: int) -> torch.Generator:
    """The source of all noise for one view in one round of edits: the same numbers on every device."""
    state = np.random.SeedSequence([seed, view, edit_round]).generate_state(1, np.uint64)[0]
    return torch.Generator("cpu").manual_seed(int(state >> np.uint64(1)))


def load_editor(name_or_folder: str, device: torch.device | str, report: Reporter | None = None) -> Editor:
    """Load the bundled miniature, a model of the Hugging Face hub, or a folder in the diffusers layout.

    name_or_folder: "miniature", a hub name such as "timbrooks/instruct-pix2pix" (from the local cache; downloaded only
    where IN2N_ALLOW_DOWNLOAD=1), or a folder that holds scheduler/, text_encoder/, tokenizer/, unet/ and vae/.
    Raises In2nError("editor_missing", "unknown_editor", "editor_unfit", "no_network").
    """
    from .instruct_pix2pix import InstructPix2Pix

    report = report or Reporter()
    return InstructPix2Pix(name_or_folder, _find_folder(name_or_folder, report), torch.device(device))


def miniature_facts(folder: Path) -> dict:
    """What miniature.json in an editor's folder says (instructions, default guidance); empty for any other editor."""
    path = folder / "miniature.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _find_folder(name: str, report: Reporter) -> Path:
    if name == MINIATURE:
        if not (MINIATURE_FOLDER / "unet").is_dir():
            raise In2nError(
                "editor_missing",
                "The miniature editor's weights are not in this installation.",
                "Reinstall the package, or make them with `python3 -m in2n_blender train-miniature`.",
            )
        return MINIATURE_FOLDER
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    from .hub import find_on_hub, is_hub_name

    if not is_hub_name(name):
        raise In2nError(
            "unknown_editor",
            f"There is no editor “{name}”: it is neither a folder nor a model's name.",
            "Choose “miniature”, “timbrooks/instruct-pix2pix” or a folder in the diffusers layout.",
        )
    return find_on_hub(name, report)
