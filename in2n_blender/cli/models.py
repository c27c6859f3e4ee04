"""`models`: the 2D models that there are, what each needs, and which of them are here."""

from __future__ import annotations

from ..models import hub, machine, memory
from ..models.catalogue import MINIATURE, MODELS
from ..models.model import Model
from .terminal import printable


def list_models(args, interruption) -> None:
    """`models`: one paragraph a model, of the catalogue and of those that were found on this computer.

    Args:
        args: The parsed line; it has nothing to say.
        interruption: Not used; nothing here takes long.
    """
    gpu = machine.gpu_mb()
    print(printable(f"GPU memory: {memory.spoken_gb(gpu)}" if gpu else "No NVIDIA GPU was found."))
    known = {model.id for model in MODELS}
    for model in MODELS:
        print(printable(describe(model, gpu)))
    for stored in hub.find_stored():
        if stored.complete and stored.name not in known:
            print(printable(f"\n{stored.name}\n  here ({spoken_size(stored.megabytes)}): {stored.folder}"))


def describe(model: Model, gpu_mb: int | None) -> str:
    """A model in a few lines.

    Args:
        model: The catalogue's entry.
        gpu_mb: All that the GPU has, in MB; None where there is none.

    Returns:
        Its name, description, licence, size, defaults, and whether it is here and fits.
    """
    fits, _ = memory.fits_in_words(model, gpu_mb)
    scales = [f"{name} guidance {value:g}" for name, value in _scales(model) if value is not None]
    sizes = f", pictures of up to {model.most_pixels / 1e6:.1f} megapixels" if model.most_pixels else ""
    lines = [
        f"\n{model.id}  ({model.label})",
        f"  {model.description}.",
        f"  licence {model.licence}" + (f". {model.note}" if model.note else ""),
        f"  {model.steps} steps, {', '.join(scales) or 'no guidance'}{sizes}",
        f"  {_where(model)}; {fits}",
    ]
    return "\n".join(lines)


def spoken_size(megabytes: float) -> str:
    """A size on disk: "16.0 GB".

    Args:
        megabytes: 2^20 bytes each.
    """
    return f"{megabytes / 1000:.1f} GB"


def _scales(model: Model) -> tuple[tuple[str, float | None], ...]:
    return ("text", model.guidance_text), ("image", model.guidance_image)


def _where(model: Model) -> str:
    if model is MINIATURE:
        return "comes with the package"
    if hub.cached_snapshot(model.id, hub.is_whole_editor) is not None:
        return "here"
    return f"not here: {spoken_size(model.download_mb)} to download"
