"""Which device a job runs on."""

from __future__ import annotations

import gc
import os
import platform

import torch

from ..scene.errors import In2nError
from ..scene.reporting import Reporter


def pick_device(name: str) -> torch.device:
    """The device of a name.

    Args:
        name: "auto" (CUDA, else Apple's MPS, else the CPU), or torch's name: "cpu", "cuda", "cuda:1", "mps".

    Returns:
        A device that this machine has.

    Raises:
        In2nError: "no_device" where this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if not _is_present(name):
        raise In2nError(
            "no_device",
            f"This machine has no device “{name}” that PyTorch can use.",
            "Choose auto or cpu, or update the graphics driver.",
        )
    return torch.device(name)


def _is_present(name: str) -> bool:
    try:
        device = torch.device(name)
    except RuntimeError:  # no device of torch's
        return False
    counts = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }
    return (device.index or 0) < counts.get(device.type, 0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the machine's or a GPU's memory did not suffice.

    Args:
        error: What numpy, torch or a library of theirs raised; on the CPU torch raises a RuntimeError.
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def free_memory(device: torch.device | str) -> None:
    """Give back what torch keeps of freed memory, after an attempt that took too much.

    Args:
        device: Of the attempt.
    """
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()


def describe_device(device: torch.device) -> str:
    """A name for reports.

    Args:
        device: One that is there.

    Returns:
        A CUDA GPU's name as its maker has it, "cpu" with torch's and the machine's number of threads, or "mps".
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"cpu ({torch.get_num_threads()} of {os.cpu_count()} threads)"
    return device.type


def find_devices() -> list[dict]:
    """What torch can compute on, best first.

    Returns:
        For each device "device" (its name for `pick_device`), "name" (its maker's) and "memory_gb" (2^30 bytes; None
        where it has no memory of its own).
    """
    found = []
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(i)
        found.append(
            {
                "device": f"cuda:{i}" if i else "cuda",
                "name": properties.name,
                "memory_gb": round(properties.total_memory / 2**30, 1),
            }
        )
    if getattr(torch.backends, "mps", None) and torch.backends.mps.is_available():
        found.append({"device": "mps", "name": "Apple GPU", "memory_gb": None})
    return [
        *found,
        {
            "device": "cpu",
            "name": f"{platform.processor() or platform.machine()}, {os.cpu_count()} threads",
            "memory_gb": None,
        },
    ]


def devices(request, report: Reporter) -> dict:
    """The worker's answer to `devices`; apart from the other jobs, so that it needs nothing but torch.

    Args:
        request: A FindDevices, which says nothing more.
        report: Not used; there is nothing to wait for.

    Returns:
        {"devices": as `find_devices`}.
    """
    return {"devices": find_devices()}
