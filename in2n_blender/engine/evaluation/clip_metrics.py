"""CLIP's view of an edit: does it go the way the caption says, and the same way in neighbouring frames?

C(image) and T(text) are CLIP's embeddings (Radford et al. 2021), scaled to unit length. The numbers depend on the CLIP,
the captions and the views: they compare methods in one harness, not papers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from ...models import hub
from ...models.catalogue import is_hub_name
from ...models.download import download
from ...scene.errors import In2nError
from ...scene.reporting import Reporter
from ..device import pick_device
from ..diffusion.reading import UnfitFiles, checked, reading
from ..pictures import to_bytes

DEFAULT_CLIP = "openai/clip-vit-large-patch14"
WANTED, UNWANTED = ["*.json", "*.txt", "*.safetensors"], ["*.fp16.safetensors"]
BATCH = {"cuda": 32}
# Embeddings have unit length; what an identical image may differ by is rounding, some 1e-6.
NO_CHANGE = 1e-5


def direction_similarity(
    edited: torch.Tensor, original: torch.Tensor, source: torch.Tensor, target: torch.Tensor
) -> list[float | None]:
    """CLIP text-image direction similarity of every view: cos(C(edited) - C(original), T(target) - T(source)).

    Gal et al. 2022, "StyleGAN-NADA", equation 2 (there as a loss, one minus it); Brooks et al. 2023, "InstructPix2Pix",
    and Haque et al. 2023, "Instruct-NeRF2NeRF", report it.

    Args:
        edited, original: the images' embeddings, (views, size).
        source, target: the captions' embeddings, (size,).

    Returns:
        A cosine a view. An unchanged view has moved nowhere: 0, as torch's cosine_similarity has it in the published
        code. Equal captions give no direction to follow: None.
    """
    direction = target - source
    if _is_zero(direction):
        return [None] * len(edited)
    return [_cosine(moved, direction) for moved in edited - original]


def direction_consistency(edited: torch.Tensor, original: torch.Tensor) -> list[float | None]:
    """CLIP direction consistency of neighbouring frames i, i + 1: cos(C(e_i) - C(o_i), C(e_i+1) - C(o_i+1)).

    Haque et al. 2023, "Instruct-NeRF2NeRF", as its readers take it: the edit moves both frames the same way.

    Args:
        edited, original: embeddings of the frames along a path, (frames, size).

    Returns:
        A cosine a pair, frames - 1 of them. A pair with one frame unchanged gives 0, with both None: there is no edit
        to be consistent.
    """
    moved = edited - original
    return [_cosine(a, b) for a, b in zip(moved, moved[1:])]


def direction_consistency_printed(edited: torch.Tensor, original: torch.Tensor) -> list[float]:
    """The same by the formula that the paper prints: (C(e_i) - C(o_i)) . (C(e_i+1) - C(e_i)).

    Haque et al. 2023, appendix on metrics; whether it is misprinted is asked in the issues of its code. A scalar
    product, not a cosine: near 0 where neighbouring edited frames are alike, so that it says little about consistency.

    Args:
        edited, original: embeddings of the frames along a path, (frames, size).

    Returns:
        A number a pair, frames - 1 of them.
    """
    return [float(a @ b) for a, b in zip(edited - original, edited[1:] - edited[:-1])]


class Clip:
    """A CLIP model of transformers, in float32."""

    def __init__(self, name: str, folder: Path, device: torch.device | str):
        """Load a model.

        Args:
            name: what the user called it.
            folder: in transformers' layout.
            device: what it runs on.

        Raises:
            In2nError: "clip_unfit" when the folder does not hold a CLIP model with safetensors weights.
        """
        # Here, because transformers takes seconds to import, and most edits are measured without CLIP.
        from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        self.name, self.device = name, torch.device(device)
        with reading("CLIP", self._unfit):
            # Without these files transformers would make a tokenizer that knows no word.
            if not _has_tokenizer(folder):
                raise UnfitFiles("it has no tokenizer")
            self.tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
            self.processor = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
            model, found = CLIPModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
            )
            self.model = checked(model, found, "CLIP", self.device).requires_grad_(False)
        self._report = Reporter()
        # One large image takes more than a second on a CPU.
        for layer in self.model.vision_model.encoder.layers:
            layer.register_forward_pre_hook(lambda module, inputs: self._report.check())

    def _unfit(self, reason: str) -> In2nError:
        return In2nError(
            "clip_unfit",
            f"“{self.name}” cannot be used as CLIP: {reason}.",
            "Choose a CLIP model in transformers' layout with safetensors weights.",
        )

    @torch.no_grad()
    def embed_images(self, images: Sequence, report: Reporter | None = None) -> torch.Tensor:
        """Embed images.

        Args:
            images: (height, width, 3) sRGB in [0, 1] each.
            report: told of every batch, and asked several times an image whether the job was cancelled.

        Returns:
            (images, size) float32 on the CPU, of unit length.

        Raises:
            Cancelled.
        """
        self._report = report or Reporter()
        size, parts = BATCH.get(self.device.type, 1), []
        try:
            for first in range(0, len(images), size):
                self._report.progress(first, len(images), "image", "Embedding by CLIP")
                batch = [to_bytes(np.asarray(image)) for image in images[first : first + size]]
                pixels = self.processor(batch, input_data_format="channels_last", return_tensors="pt").pixel_values
                parts.append(_unit(self.model.get_image_features(pixels.to(self.device)).pooler_output))
        finally:
            self._report = Reporter()
        return torch.cat(parts)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Embed texts; what is too long for the model is cut off.

        Args:
            texts: captions.

        Returns:
            (texts, size) float32 on the CPU, of unit length.
        """
        length = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, max_length=length, return_tensors="pt").to(
            self.device
        )
        return _unit(self.model.get_text_features(tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output)


def load_clip(
    name: str = DEFAULT_CLIP,
    device: torch.device | str = "auto",
    report: Reporter | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Clip | None:
    """A CLIP by its name on the hub or by its folder.

    Args:
        name: a hub model comes from the local cache; it is downloaded only where `models.hub.may_download`.
        device: what it runs on.
        report: told of a download, and asked whether the job was cancelled.
        note: receives one line on why it is not measured.

    Returns:
        None where the weights are not on this machine and cannot or may not be downloaded.

    Raises:
        In2nError: "unknown_clip" where it is neither a folder nor a hub's name, "clip_unfit", "no_device".
        Cancelled.
    """
    device = pick_device(str(device))
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if not is_hub_name(name):
            raise In2nError(
                "unknown_clip",
                f"There is no CLIP “{name}”: it is neither a folder nor a model's name.",
                f"Choose “{DEFAULT_CLIP}” or a folder in transformers' layout.",
            )
        folder = _find_on_hub(name, report or Reporter(), note)
    return Clip(name, folder, device) if folder else None


def _find_on_hub(name: str, report: Reporter, note: Callable[[str], None]) -> Path | None:
    cached = hub.cached_snapshot(name, _is_whole)
    if cached is not None:
        return cached
    reason = f"“{name}” is not on this machine (some 2 GB), and {hub.why_no_download()}."
    if hub.may_download():
        try:
            folder = download(name, report, WANTED, UNWANTED)
            if _is_whole(folder):
                return folder
            reason = f"“{name}” is no CLIP model with safetensors weights."
        except In2nError as error:
            reason = error.message
    note(f"CLIP is not measured. {reason}")
    return None


def _is_whole(folder: Path) -> bool:
    return (
        all((folder / file).is_file() for file in ("config.json", "preprocessor_config.json"))
        and _has_tokenizer(folder)
        and any(folder.glob("*.safetensors"))
    )


def _has_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer.json").is_file() or (folder / "vocab.json").is_file()


def _unit(embeddings: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(embeddings.float(), dim=-1).cpu()


def _is_zero(direction: torch.Tensor) -> bool:
    return float(direction.norm()) < NO_CHANGE


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float | None:
    """0 where one of both is zero, None where both are."""
    zeros = _is_zero(a) + _is_zero(b)
    return float(a @ b / (a.norm() * b.norm())) if zeros == 0 else 0.0 if zeros == 1 else None
