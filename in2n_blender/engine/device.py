"""Which device a job runs on."""

from __future__ import annotations

import gc
import os
import platform
import shutil
from collections.abc import Callable
from functools import lru_cache

import torch

from ..scene.errors import In2nError
from ..scene.reporting import Reporter
from . import warp_devices


def pick_device(name: str, log: Callable[[str], None] = lambda text: None) -> torch.device:
    """The device of a name, on which torch computes: for the 2D models and all else that is torch's alone.

    Args:
        name: "auto" (CUDA, else Apple's MPS, else the CPU: the first that computes), or torch's name: "cpu", "cuda",
            "cuda:1", "mps".
        log: Told in a sentence why "auto" leaves a GPU out.

    Returns:
        A device that this machine has, and that computes.

    Raises:
        In2nError: "no_device" where this machine has no such device, or where torch cannot compute on it.
    """
    if name == "auto":
        for candidate in ("cuda", "mps"):
            if _is_present(candidate):
                if (reason := fault(torch.device(candidate))) is None:
                    return torch.device(candidate)
                log(f"The GPU is not used: {reason}.")
        return torch.device("cpu")
    reason = fault(torch.device(name)) if _is_present(name) else f"this machine has no device “{name}” for it"
    if reason:
        raise In2nError(
            "no_device",
            f"PyTorch cannot compute on “{name}”: {reason}.",
            "Choose auto or cpu, or update the graphics driver.",
        )
    return torch.device(name)


def scene_device(name: str, log: Callable[[str], None] = lambda text: None) -> torch.device:
    """The device of a name, for the scene: where our own kernels run, too.

    Without them a step is thousands of small operations, which even a good GPU makes more slowly than a CPU its few
    kernels; so on a Mac, and on AMD's GPUs, the scene is the CPU's and the 2D model the GPU's.

    Args:
        name: As for `pick_device`.
        log: Told in a sentence why the scene is computed on the CPU.

    Returns:
        A CUDA device or the CPU.

    Raises:
        In2nError: "no_device", as `pick_device`.
    """
    device = pick_device(name, log)
    if device.type == "mps":
        return torch.device("cpu")
    if (reason := warp_devices.fault(device)) is not None:
        log(f"The scene is computed on the CPU: {reason}.")
        return torch.device("cpu")
    return device


@lru_cache
def fault(device: torch.device) -> str | None:
    """What is wrong where torch cannot compute on a device that is there, found by one operation, made once.

    A GPU may be older than all that a build of torch has kernels for.

    Args:
        device: One that this machine has.

    Returns:
        A sentence's end; None where it computes, or where its memory is just used up.
    """
    if device.type == "cpu":
        return None
    try:
        values = torch.arange(4, device=device, dtype=torch.float32)
        return None if float((values * values).sum()) == 14 else "it gives wrong numbers"
    except Exception as error:  # of the driver: torch has no kind of its own for it
        if is_out_of_memory(error):
            return None
        if "no kernel image" in str(error):
            return "this build of PyTorch has no kernels for so old a GPU"
        return f"the first operation on it failed ({warp_devices.first_line(error)})"


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


def free_bytes(device: torch.device) -> int:
    """What is free on a CUDA device: what the driver says, and what torch holds without use.

    Args:
        device: A CUDA device.

    Returns:
        Bytes.
    """
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies matrices in bfloat16 faster than in float32: NVIDIA's GPUs since Ampere.

    Args:
        device: One that is there.
    """
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


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
        where it has no memory of its own). A GPU that does not compute is left out.
    """
    found = []
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        name = f"cuda:{i}" if i else "cuda"
        if fault(torch.device(name)) is None:
            properties = torch.cuda.get_device_properties(i)
            memory = round(properties.total_memory / 2**30, 1)
            found.append({"device": name, "name": properties.name, "memory_gb": memory})
    if torch.backends.mps.is_available():
        found.append({"device": "mps", "name": "Apple GPU", "memory_gb": None})
    return [
        *found,
        {
            "device": "cpu",
            "name": f"{platform.processor() or platform.machine()}, {os.cpu_count()} threads",
            "memory_gb": None,
        },
    ]


def gpu_problems() -> list[str]:
    """Why a GPU that is there is not used, a sentence each.

    Returns:
        None of them where every GPU that torch sees computes.
    """
    present = [
        f"cuda:{i}" if i else "cuda" for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    ]
    faults = {name: fault(torch.device(name)) for name in present}
    found = [f"{torch.cuda.get_device_name(name)} is not used: {reason}." for name, reason in faults.items() if reason]
    if not present and shutil.which("nvidia-smi") and torch.version.cuda is None and torch.version.hip is None:
        found.append(
            "This computer has an NVIDIA driver, but the installed PyTorch was made for processors alone: update the "
            "driver, then repair the engine."
        )
    elif not present and shutil.which("nvidia-smi") and torch.version.cuda:
        found.append("PyTorch finds no GPU with which the NVIDIA driver works: update the driver.")
    return found


def devices(request, report: Reporter) -> dict:
    """The worker's answer to `devices`; apart from the other jobs, so that it needs nothing but torch.

    Args:
        request: A FindDevices, which says nothing more.
        report: Told in its log why a GPU is not used.

    Returns:
        {"devices": as `find_devices`}.
    """
    for problem in gpu_problems():
        report.log(problem)
    return {"devices": find_devices()}
