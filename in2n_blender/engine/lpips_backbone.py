"""Whether the network behind LPIPS (Zhang et al. 2018) can have its trained weights, which torchvision fetches."""

from __future__ import annotations

from pathlib import Path

import torch

from ..models import hub

MEGABYTES = 245


def on_disk_or_downloadable() -> bool:
    """Whether AlexNet's weights are in torch's cache, or may be downloaded into it."""
    return hub.may_download() or any((Path(torch.hub.get_dir()) / "checkpoints").glob("alexnet-owt-*.pth"))


def how_to_have() -> str:
    """What to do where `on_disk_or_downloadable` says no, as a sentence without its full stop."""
    return f"{hub.how_to_allow()}: they are fetched once, {MEGABYTES} MB from PyTorch's servers"
