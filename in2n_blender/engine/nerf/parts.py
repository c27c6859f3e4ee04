"""Work on many rays or points, in smaller parts where memory ends."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ...scene.reporting import Reporter
from ..device import free_memory, is_out_of_memory

LEAST = 64  # rays or points of a part: where these do not fit, nothing does


class Parts:
    """Does work at once where memory allows it. A part that takes more than there is is halved, and so are later ones.

    Args:
        device: What is worked on.

    Attributes:
        most: Rays or points of a part; None: any number, for memory has never ended.
    """

    def __init__(self, device: torch.device | str):
        self.device, self.most, self._told = torch.device(device), None, None

    def run(self, count: int, work: Callable[[int, int], object]) -> list:
        """The work on all rays or points.

        Args:
            count: How many there are.
            work: Is given the first one of a part and the one behind its last; called again for one that failed.

        Returns:
            What it returned for each part, in order; at least one.

        Raises:
            torch.OutOfMemoryError, MemoryError, RuntimeError: LEAST of them take more memory than there is.
        """
        found, first = [], 0
        while first < count or not found:
            last = min(count, first + (self.most or count))
            try:
                found.append(work(first, last))
                first = last
            except Exception as error:
                if not is_out_of_memory(error) or last - first < 2 * LEAST:
                    raise
                self.most = (last - first) // 2
            if first != last:  # outside of the handler, which keeps the failed work's tensors alive
                free_memory(self.device)
        return found

    def tell(self, report: Reporter | None) -> None:
        """Say once in a job's log that parts became smaller.

        Args:
            report: The job's; None: it is said later.
        """
        if report is not None and self.most != self._told:
            self._told = self.most
            report.log(f"Memory ended: from now on {self.most:,} rays are computed at once.")
