"""A crew for some work, on a cluster where one is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..scene.reporting import Reporter
from .crew import Crew, InThisProcess, Role
from .ray_crew import RayCrew


@contextmanager
def crew_for(role: Role, cluster: str | None, workers: int | None, report: Reporter) -> Iterator[Crew]:
    """A crew for as long as the block lasts.

    Args:
        role: What its workers are.
        cluster: "auto" (of this machine alone, or the one that $RAY_ADDRESS names), an address as Ray has it, or None:
            this process.
        workers: How many; None: as many as the cluster has GPUs, where there are some, else processor cores.
        report: Asked, while a cluster is started, whether the job was cancelled.

    Raises:
        In2nError: "no_ray" where the engine has no Ray, "no_cluster" where there is no cluster at the address.
        Cancelled.
    """
    crew = InThisProcess(role) if cluster is None else RayCrew(role, cluster, workers, report)
    try:
        yield crew
    finally:
        crew.close()
