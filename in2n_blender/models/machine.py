"""What this computer has to run models on, without starting the engine. Standard library only."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

SECONDS = 5.0


def gpu_mb(ask: Callable[[], str] | None = None) -> int | None:
    """The memory of the largest NVIDIA GPU, as its driver tells it.

    Args:
        ask: answers as nvidia-smi does, a number of MB a line; None: nvidia-smi itself is asked.

    Returns:
        MB (2^20 bytes); None where there is no such GPU, or no driver.
    """
    try:
        found = [int(line) for line in (ask or _ask_driver)().split()]
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return max(found, default=None)


def _ask_driver() -> str:
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    return subprocess.run(query, capture_output=True, text=True, timeout=SECONDS, check=True).stdout
