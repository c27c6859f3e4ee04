"""NVIDIA's Warp, which runs our own kernels: loaded when it is first needed, and where it has a device."""

from __future__ import annotations

from functools import lru_cache

import torch


@lru_cache
def warp():
    """The warp module, initialised without its greeting."""
    import warp  # here, for it takes a second, and nothing but kernels needs it

    warp.config.quiet = True
    warp.init()
    return warp


def has_kind(device: torch.device) -> bool:
    """Whether Warp may have this kind of device; where it has not, the twins in torch serve.

    Args:
        device: Where the tensors are.

    Returns:
        True on a CPU and on NVIDIA's GPUs. AMD's, which torch calls "cuda", too, Warp does not know.
    """
    return device.type == "cpu" or (device.type == "cuda" and torch.version.hip is None)


@lru_cache
def fault(device: torch.device) -> str | None:
    """What is wrong where Warp cannot compute on a device, found by one launch, which is made once.

    Args:
        device: One that torch computes on.

    Returns:
        A sentence's end, such as "Warp has no such device"; None where it computes.
    """
    if device.type == "cpu":
        return None
    if not has_kind(device):
        return "Warp, which runs the scene's kernels, has no such device"
    try:
        wp = warp()
        values = torch.zeros(4, device=device)
        stream = wp.stream_from_torch(torch.cuda.current_stream(device))
        wp.launch(
            _counting_kernel(),
            dim=4,
            inputs=[wp.from_torch(values)],
            device=str(device),
            stream=stream,
            record_tape=False,
        )
        return None if values.tolist() == [0.0, 1.0, 2.0, 3.0] else "Warp's kernels give wrong numbers on it"
    except Exception as error:  # of the driver, the compiler, or a Warp without CUDA
        return f"Warp, which runs the scene's kernels, cannot use it ({first_line(error)})"


@lru_cache
def _counting_kernel():
    wp = warp()

    def count(values: wp.array(dtype=wp.float32)):
        i = wp.tid()
        values[i] = wp.float32(i)

    return wp.kernel(enable_backward=False, module="unique")(count)


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, to be quoted in a sentence.

    Args:
        error: Of a library.

    Returns:
        Without the full stop at its end; the exception's kind where it says nothing.
    """
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".")[:200] if lines else type(error).__name__
