"""Which device a job runs on."""

from __future__ import annotations

import os

import torch

from ..scene.errors import In2nError


def pick_device(name: str) -> torch.device:
    """ "auto": CUDA, else Apple's MPS, else the CPU; anything else by its name. Raises In2nError("no_device")."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(name)
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present.get(device.type, False) or (
        device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    ):
        raise In2nError(
            "no_device",
            f"This machine has no device “{name}” that PyTorch can use.",
            "Choose auto or cpu, or update the graphics driver.",
        )
    return device


def describe_device(device: torch.device) -> str:
    """A name for reports: the GPU's, or cpu with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return (
        f"{device.type} ({torch.get_num_threads()} of {os.cpu_count()} threads)"
        if device.type == "cpu"
        else device.type
    )
