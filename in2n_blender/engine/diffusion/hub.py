"""Finding a model's files in the local Hugging Face cache, and downloading them where that is allowed."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ...link.requests import DownloadModel
from ...scene.errors import In2nError
from ...scene.reporting import Reporter
from .download import download

ALLOW_DOWNLOAD = "IN2N_ALLOW_DOWNLOAD"

# Only what InstructPix2Pix runs on: no safety checker, no pickled weights, no second copy in another precision.
WANTED = ["model_index.json"] + [
    f"{part}/{name}"
    for part in ("scheduler", "text_encoder", "tokenizer", "unet", "vae")
    for name in ("*.json", "*.txt", "*.safetensors")
]
UNWANTED = ["*.fp16.safetensors", "*non_ema*"]


def is_hub_name(name: str) -> bool:
    """Whether `name` is of the form owner/model."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name) is not None


def downloads_allowed() -> bool:
    """The user's leave to use the network for weights: IN2N_ALLOW_DOWNLOAD=1, unless HF_HUB_OFFLINE=1 forbids it."""
    return os.environ.get(ALLOW_DOWNLOAD) == "1" and os.environ.get("HF_HUB_OFFLINE", "0") in ("", "0")


def download_model(request: DownloadModel, report: Reporter) -> dict:
    """The job: the request itself is the user's leave. Returns {"folder"}. Raises In2nError("unknown_editor",
    "no_network"), Cancelled."""
    if not is_hub_name(request.name):
        raise In2nError(
            "unknown_editor",
            f"“{request.name}” is not a model's name on the Hugging Face hub.",
            "Names look like owner/model.",
        )
    return {"folder": str(download(request.name, report, WANTED, UNWANTED))}


def find_on_hub(name: str, report: Reporter) -> Path:
    """The folder of a hub model in the local cache, downloaded first where that is allowed.

    Raises In2nError("editor_missing") when it is not cached and may not be downloaded, In2nError("no_network") when the
    download fails, Cancelled.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    if downloads_allowed():
        return download(name, report, WANTED, UNWANTED)
    try:
        folder = Path(snapshot_download(name, local_files_only=True, allow_patterns=WANTED, ignore_patterns=UNWANTED))
    except LocalEntryNotFoundError:
        folder = None
    if folder is None or not (folder / "unet").is_dir():
        raise In2nError(
            "editor_missing",
            f"The editor “{name}” is not on this machine and downloads are not allowed.",
            (
                f"Allow it with {ALLOW_DOWNLOAD}=1 (some 5 GB, once), or choose a folder that holds the model, or "
                "“miniature”."
            ),
        )
    return folder
