"""Many jobs of every kind in one worker, and what its process holds after each."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from in2n_blender.link.client import Client
from in2n_blender.link.requests import (
    Edit,
    ExtractMesh,
    ImportCapture,
    MakeSplats,
    PathThroughViews,
    PreviewGrid,
    Reconstruct,
    RenderPath,
)
from in2n_blender.scene.errors import In2nError

NO_SURFACE = "empty_mesh"  # after so few steps there may be none
SETTLING = 0.3  # seconds: what a job has freed is given back behind its answer


@dataclass(frozen=True)
class Held:
    """What the worker's process holds after a job.

    Attributes:
        method: The job's.
        megabytes: Resident memory, 2^20 bytes.
        handles: Open files, pipes and sockets.
        threads: Its threads.
    """

    method: str
    megabytes: float
    handles: int
    threads: int


def cycle(workspace: Path, capture: Path, number: int) -> list:
    """A job of every kind that an artist's day has, none of them done before.

    Args:
        workspace: Where they work.
        capture: What is imported.
        number: Of the cycle: seeds and instructions differ.
    """
    place, seed = {"workspace": str(workspace)}, {"seed": number, "device": "cpu"}
    said = ("make it sunset", "make it night", "make it gold")[number % 3]
    edit = {"editor": "miniature", "instruction": said, **place, **seed}
    path = str(workspace / "paths" / "way.json")
    return [
        ImportCapture(**place, source=str(capture), preset="draft"),
        Reconstruct(**place, **seed, preset="draft", steps=20, restart=True),
        PreviewGrid(**edit, restart=True),
        Edit(**edit, name="e", preset="draft", rounds=1, restart=True),
        PathThroughViews(**place, name="way", frames=2 + number % 2),
        RenderPath(**place, camera_path=path, edit="e", device="cpu"),
        ExtractMesh(**place, edit="e", resolution=24 + 4 * (number % 3), texture=64, device="cpu"),
        MakeSplats(**place, edit="e", splats=1000 + 100 * (number % 3), steps=3, device="cpu"),
        Reconstruct(**place, **seed, preset="draft", steps=20),  # done before
        Edit(**edit, name="nothing there", parent="no such edit", preset="draft"),  # fails
    ]


def haul(jobs: int, workspace: Path, capture: Path, log: Path, threads: int = 1) -> Iterator[Held]:
    """Do jobs one after another in one worker.

    Args:
        jobs: How many.
        workspace: Where they work; made.
        capture: What is imported.
        log: The worker's.
        threads: That torch may use.

    Yields:
        What the worker holds, after each job.

    Raises:
        AssertionError: The worker was started anew.
    """
    with Client(sys.executable, log) as client:
        client.variables = {"IN2N_THREADS": str(threads)}
        done, number, process = 0, 0, None
        while done < jobs:
            for request in cycle(workspace, capture, number)[: jobs - done]:
                try:
                    client.run(request)
                except In2nError as error:
                    refused = request.method == "edit" and "nothing there" in request.name
                    assert refused or error.code == NO_SURFACE, error
                done += 1
                process = process or psutil.Process(client.info["pid"])
                assert process.pid == client.info["pid"], "the worker was started anew"
                time.sleep(SETTLING)
                yield Held(request.method, _megabytes(process), _handles(process), process.num_threads())
            number += 1


def _megabytes(process: psutil.Process) -> float:
    return round(process.memory_info().rss / 2**20, 1)


def _handles(process: psutil.Process) -> int:
    return process.num_handles() if os.name == "nt" else process.num_fds()
