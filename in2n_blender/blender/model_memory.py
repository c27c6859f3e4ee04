"""Whether a model fits this computer, and how it would be kept: what the engine found last, without asking it anew."""

from __future__ import annotations

from ..models import hub, memory
from ..models.model import Model
from ..scene.errors import In2nError
from . import engine


def gpu_mb() -> int | None:
    """The memory of the GPU that the engine computes on, in MB; None where it found none with memory of its own."""
    best = next((device for device in engine.known_devices() if device.memory_gb), None)
    return None if best is None else round(best.memory_gb * 1024)


def plan_in_words(editor: str, wanted: str) -> str:
    """How a model would be kept on this computer's GPU: "16-bit, offloaded, about 9 GB".

    Args:
        editor: The model's name or folder, as the engine takes it.
        wanted: One of `requests.MEMORY_PLANS`.

    Returns:
        "" where there is no such GPU, or no such model.
    """
    available = gpu_mb()
    try:
        model = hub.find_model(editor)
    except In2nError:
        return ""
    if available is None or model.sizes is None:
        return ""
    return memory.in_words(model, memory.choose(model, available, wanted)).removeprefix(f"{model.label}: ")


def fits_in_words(model: Model) -> tuple[str, bool]:
    """Whether this computer can run a model.

    Args:
        model: The catalogue's entry.

    Returns:
        A phrase for a label, and whether it can.
    """
    return memory.fits_in_words(model, gpu_mb())
