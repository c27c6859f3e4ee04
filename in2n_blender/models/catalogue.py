"""Which editing models are on this computer, how large they are, and taking them away. Standard library only.

A model is a folder in the diffusers layout. Downloaded ones lie in the Hugging Face cache, which other programs share:
<cache>/models--<owner>--<name>/ with blobs/ (the data) and snapshots/<revision>/ (links to it).
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from ..environment import folder_mb
from ..scene.errors import In2nError

MINIATURE = Path(__file__).resolve().parents[1] / "engine" / "diffusion" / "miniature" / "weights"
INSTRUCT_PIX2PIX = "timbrooks/instruct-pix2pix"
PIPELINE_CLASS = "StableDiffusionInstructPix2PixPipeline"
DOWNLOAD_MB = 5200  # about what of InstructPix2Pix is fetched: its float32 weights without the safety checker


@dataclass(frozen=True)
class Model:
    """name: the hub's, or the folder's own. folder: where it lies. complete: whether it can be used as it is."""

    name: str
    folder: Path
    megabytes: int
    complete: bool
    downloaded: bool  # lies in the Hugging Face cache, from where it can be had again


def hub_cache() -> Path:
    """Where Hugging Face's libraries keep downloads, by the same variables that they read."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    if os.environ.get("HF_HOME"):
        return Path(os.environ["HF_HOME"]).expanduser() / "hub"
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache").expanduser() / "huggingface" / "hub"


def hub_folder(name: str) -> Path:
    """The cache's folder of a hub model, there or not."""
    return hub_cache() / f"models--{name.replace('/', '--')}"


def find_models(folders=(), cancelled=lambda: False) -> list[Model]:
    """The editing models in the Hugging Face cache (InstructPix2Pix, half downloaded or whole, and its relatives) and
    in `folders`.

    folders: each a model in the diffusers layout, or a folder of such.
    """
    found = []
    for cached in sorted(hub_cache().glob("models--*--*")):
        name = cached.name.removeprefix("models--").replace("--", "/", 1)
        whole = any(_is_editor(snapshot) and _has_weights(snapshot) for snapshot in cached.glob("snapshots/*"))
        if whole or name == INSTRUCT_PIX2PIX:
            found.append(Model(name, cached, folder_mb(cached, cancelled), whole, True))
    for folder in dict.fromkeys(Path(f) for f in folders if f):
        inside = sorted(folder.iterdir()) if folder.is_dir() and not _is_editor(folder) else [folder]
        found += [
            Model(place.name, place, folder_mb(place, cancelled), _has_weights(place), False)
            for place in inside
            if _is_editor(place)
        ]
    return found


def remove_downloaded(name: str) -> None:
    """Take a model out of the Hugging Face cache. Raises In2nError("no_model", "cannot_remove")."""
    folder = hub_folder(name)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or not folder.is_dir():
        raise In2nError("no_model", f"“{name}” is not in {hub_cache()}.", "It may have been removed already.")
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise In2nError(
            "cannot_remove", f"{folder} could not be removed whole.", "Close what is using it and try again."
        )


def _is_editor(folder: Path) -> bool:
    try:
        return PIPELINE_CLASS in (folder / "model_index.json").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def _has_weights(folder: Path) -> bool:
    return all(any((folder / part).glob("*.safetensors")) for part in ("unet", "vae", "text_encoder"))
