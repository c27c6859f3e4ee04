"""Warp kernels on torch tensors: one source serves CPU and CUDA.

On a CPU a launch is split over threads, since Warp takes one.
"""

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch

from ...warp_devices import has_kind, warp

_COMPILED: set = set()
_COMPILING = threading.Lock()
# Fewer rays than this are not worth a second thread.
FEWEST_RAYS = 256


def available(device: torch.device) -> bool:
    """Whether Warp has this kind of device; where it has not, the twins in torch serve.

    Args:
        device: Where the tensors are.

    Returns:
        True on a CPU and on NVIDIA's GPUs.
    """
    return has_kind(device)


def launch_all(kernel, launches: list[tuple], device: torch.device, threads: int = 2) -> None:
    """Launch a kernel several times, side by side on a CPU: the launches must not write to the same place.

    Args:
        kernel: A Warp kernel.
        launches: (size, inputs) of every launch.
        device: Where the inputs are.
        threads: 1: one after the other.
    """
    wp = warp()
    # Torch's own stream, or the kernel would race with torch's work on the same tensors.
    stream = wp.stream_from_torch(torch.cuda.current_stream(device)) if device.type == "cuda" else None

    def launch(one):
        size, inputs = one
        wp.launch(kernel, dim=size, inputs=inputs, device=str(device), stream=stream, record_tape=False)

    if launches and (key := (kernel, str(device))) not in _COMPILED:
        with _COMPILING:  # two threads must not compile the same kernel
            launch(launches.pop(0))
            _COMPILED.add(key)
    if len(launches) <= 1 or threads == 1:
        for one in launches:
            launch(one)
    else:
        side_by_side(launch, launches)


@lru_cache
def _pool() -> ThreadPoolExecutor:
    """Threads in which torch takes one thread: they are as many as the processors already."""
    count, usual = max(os.cpu_count() or 1, 1), torch.get_num_threads()
    pool = ThreadPoolExecutor(count, "kernels", initializer=torch.set_num_threads, initargs=(1,))
    all_started = threading.Barrier(count)
    list(pool.map(lambda _: all_started.wait(), range(count)))
    torch.set_num_threads(usual)  # threads that come later take what was set last, by whichever thread
    return pool


def side_by_side(function: Callable, pieces: Iterable) -> list:
    """A function of every piece, on a CPU's threads at once; torch takes one thread in each.

    Args:
        function: Called with one piece; what it raises is raised here.
        pieces: Any number of them.

    Returns:
        What the function returns, in the order of the pieces.
    """
    return list(_pool().map(function, pieces))


def launch_over_rays(kernel, tensors: list[tuple], rest: list, threads: int | None = None) -> None:
    """Launch a kernel over rays, or points; on a CPU in as many pieces as there are threads.

    Args:
        kernel: A Warp kernel whose inputs are `tensors`, then `rest`.
        tensors: (tensor, how it is handed over: `vec3s`, `vectors` or `numbers`), each with a row for each ray.
        rest: What all rays have in common.
        threads: On a CPU; None: as many as torch uses.
    """
    first = tensors[0][0]
    if first.device.type == "cuda":  # without the wrapping of arrays, which takes longer than the launch
        inputs = [hand(tensor, True) for tensor, hand in tensors] + rest
        launch_all(kernel, [(len(first), inputs)] if len(first) else [], first.device)
        return
    parts = (threads or torch.get_num_threads()) if first.device.type == "cpu" and len(first) >= FEWEST_RAYS else 1
    pieces = zip(*(tensor.chunk(parts) for tensor, _ in tensors))
    launch_all(
        kernel,
        [(len(piece[0]), [hand(part) for part, (_, hand) in zip(piece, tensors)] + rest) for piece in pieces],
        first.device,
        parts,
    )


def vec3s(values: torch.Tensor, bare: bool = False):
    """A tensor's memory as a Warp array of vec3.

    Args:
        values: (..., 3) float32, contiguous.
        bare: As a description of the memory alone, which is made quickly and keeps no tensor alive.
    """
    return warp().from_torch(values, dtype=warp().vec3, return_ctype=bare)


def vectors(values: torch.Tensor, bare: bool = False):
    """A tensor's memory as a Warp array of vectors.

    Args:
        values: (..., k) float32, contiguous; k is the length of a vector.
        bare: As for `vec3s`.
    """
    wp = warp()
    dtype = wp.types.vector(length=values.shape[-1], dtype=wp.float32)
    return wp.from_torch(values, dtype=dtype, return_ctype=bare)


def numbers(values: torch.Tensor, bare: bool = False):
    """A tensor's memory as a Warp array of numbers.

    Args:
        values: float32 of any shape.
        bare: As for `vec3s`.
    """
    return warp().from_torch(values, dtype=warp().float32, return_ctype=bare)
