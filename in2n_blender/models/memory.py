"""How a model is kept in a GPU's memory: plans from the quickest to the smallest, chosen by what is free.

Standard library only. Nothing here was measured on a GPU: weights are counted, activations estimated (`catalogue`).

    plan = choose(model, free_mb=11000)
    in_words(model, plan)                      # "FLUX.2 klein 4B: 16-bit, offloaded, about 9 GB"
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..link.requests import AUTOMATIC, MEMORY_PLANS
from .model import Model

MEGABYTE = 2**20
CONTEXT_MB = 600  # of the driver and of what torch holds beside tensors
BESIDE_MB = 2000  # of the scene, which is trained between edits
TILE_MB = 2600  # activations of the autoencoder for a tile of 512 x 512 pixels
# Bytes of a weight, on average: of fewer bits are those of linear layers, not those of embeddings.
BYTES = {32: 4.0, 16: 2.0, 8: 1.08, 4: 0.64}
SMALL = 100  # millions of weights that a processor evaluates quickly
QUANTISED_FROM = 1000  # millions of weights: smaller networks gain nothing
PHRASES = {32: "32-bit", 16: "16-bit", 8: "8-bit", 4: "4-bit"}


@dataclass(frozen=True)
class Plan:
    """How the networks are kept.

    Attributes:
        name: what the user may choose it by, one of `requests.MEMORY_PLANS`.
        bits: of a weight of the large networks.
        offload: whether only the network at work is on the GPU, the others in main memory.
        tiles: whether the autoencoder works in tiles, image by image.
    """

    name: str
    bits: int = 16
    offload: bool = False
    tiles: bool = False


WHOLE, OFFLOAD, EIGHT, FOUR = MEMORY_PLANS[1:]
PLANS = (
    Plan(WHOLE),
    Plan(WHOLE, tiles=True),
    Plan(OFFLOAD, offload=True, tiles=True),
    Plan(EIGHT, 8, offload=True, tiles=True),
    Plan(FOUR, 4, offload=True, tiles=True),
)
FULL = Plan(WHOLE, bits=32)  # where there is no CUDA: on a processor, on Metal


def needed_mb(model: Model, plan: Plan) -> int | None:
    """How much memory an edit of one image takes at its peak, the scene's not counted.

    Args:
        model: the catalogue's entry.
        plan: how it is kept.

    Returns:
        MB (2^20 bytes); None where the sizes of the model's networks are not known.
    """
    sizes = model.sizes
    if sizes is None:
        return None
    bits = plan.bits if model.half_precision or plan.bits == 32 else 32
    weights = lambda millions, bits: millions * 1e6 * BYTES[bits] / MEGABYTE
    of = lambda millions: weights(millions, bits if millions >= QUANTISED_FROM else max(bits, 16))
    denoiser, text, vae = of(sizes.denoiser), of(sizes.text), weights(sizes.vae, max(bits, 16))
    wider = 2 if bits == 32 else 1  # activations are as wide as weights
    evaluating = sizes.evaluation_mb * wider
    decoding = (min(sizes.decoding_mb, TILE_MB) if plan.tiles else sizes.decoding_mb) * wider
    if plan.offload:
        peak = max(text, denoiser + evaluating, vae + decoding)
    else:
        kept = denoiser + vae + (text if model.family.reads_photo else 0)
        peak = max(denoiser + vae + text, kept + max(evaluating, decoding))
    return round(peak) + CONTEXT_MB


def choose(model: Model, free_mb: int, wanted: str = AUTOMATIC) -> Plan:
    """The quickest plan that fits, or the one that the user wants.

    Args:
        model: the catalogue's entry.
        free_mb: of the GPU, in MB; the scene's share is taken off.
        wanted: one of `requests.MEMORY_PLANS`.

    Returns:
        The smallest one that can be had where none fits: what does not fit is only estimated. A wanted one is taken as
        it is, with tiles where it fits no other way.
    """
    possible = [plan for plan in PLANS if wanted in (plan.name, AUTOMATIC)]
    budget = free_mb - BESIDE_MB
    return next((plan for plan in possible if (needed_mb(model, plan) or 0) <= budget), possible[-1])


def smaller(plan: Plan) -> Plan | None:
    """The next smaller plan, after memory has ended.

    Args:
        plan: the present one.

    Returns:
        None where there is none; for 32 bits, which stand where there is no CUDA, the same in tiles.
    """
    if plan.bits == 32:
        return None if plan.tiles else replace(plan, tiles=True)
    return next(iter(PLANS[PLANS.index(plan) + 1 :]), None)


def in_words(model: Model, plan: Plan) -> str:
    """A plan for a log or a label.

    Args:
        model: the catalogue's entry.
        plan: how it is kept.

    Returns:
        "FLUX.2 klein 4B: 8-bit, offloaded, about 5 GB".
    """
    parts = [PHRASES[plan.bits if model.half_precision else 32]]
    parts += ["offloaded"] if plan.offload else []
    parts += ["in tiles"] if plan.tiles and not plan.offload else []
    needed = needed_mb(model, plan)
    if needed is not None:
        parts.append(f"about {spoken_gb(needed)}")
    return f"{model.label}: {', '.join(parts)}"


def fits(model: Model, memory_mb: int) -> bool | None:
    """Whether a GPU can run a model by any plan, with a scene beside it.

    Args:
        model: the catalogue's entry.
        memory_mb: all that the GPU has.

    Returns:
        None where the sizes of the model's networks are not known.
    """
    least = needed_mb(model, PLANS[-1])
    return None if least is None else least + BESIDE_MB <= memory_mb


def fits_in_words(model: Model, gpu_mb: int | None) -> tuple[str, bool]:
    """Whether a computer can run a model, for a list of models.

    Args:
        model: the catalogue's entry.
        gpu_mb: all that its GPU has, in MB; None where it has none: then the processor computes.

    Returns:
        "fits (16-bit, offloaded, about 9 GB)", "does not fit 8 GB" or "without a GPU: slow, ..."; and
        whether it can.
    """
    if gpu_mb is None:
        slow = model.sizes is None or model.sizes.denoiser >= SMALL
        needed = needed_mb(model, FULL)
        words = f", {spoken_gb(needed)} of main memory" if slow and needed else ""
        return (f"without a GPU: slow{words}" if slow else "fits"), not slow
    if not fits(model, gpu_mb):
        return f"does not fit {spoken_gb(gpu_mb)}", False
    return f"fits ({in_words(model, choose(model, gpu_mb)).removeprefix(f'{model.label}: ')})", True


def spoken_gb(megabytes: float) -> str:
    """An amount of memory: "5 GB", "0.7 GB".

    Args:
        megabytes: 2^20 bytes each.
    """
    gigabytes = megabytes / 1024
    return f"{gigabytes:.0f} GB" if gigabytes >= 1.95 else f"{gigabytes:.1f} GB"
