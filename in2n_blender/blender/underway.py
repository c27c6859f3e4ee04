"""What is under way in a workspace: the jobs that run or wait there, and the one that did not come to its end."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from pathlib import Path

from ..link.request_fields import Request
from ..link.requests import Edit, from_params
from ..scene.errors import In2nError
from ..workspace import journal
from . import engine, workspaces


def _underway(workspace_root) -> list[Request]:
    """The requests of all jobs that run or wait in a workspace."""
    requests = [request for job in engine.client().state.jobs for request in job.requests]
    return [r for r in requests if getattr(r, "workspace", "") and Path(r.workspace) == Path(workspace_root)]


def edits_to_come(workspace_root) -> list[str]:
    """Names of the edits that run or wait in a workspace; they may not be on disk yet.

    Args:
        workspace_root: The workspace's folder.
    """
    return [request.name for request in _underway(workspace_root) if request.method == "edit"]


def running_edit(workspace_root) -> tuple[int, Edit] | None:
    """The edit that is being made in a workspace.

    Args:
        workspace_root: The workspace's folder; None: of no capture.

    Returns:
        (The job's id, its request); None where there is none, or it is being cancelled.
    """
    running = engine.client().state.running
    request = running.request if running is not None and not running.cancelling else None
    if workspace_root is None or not isinstance(request, Edit) or Path(request.workspace) != Path(workspace_root):
        return None
    return running.job.id, request


def edit_at_work(workspace_root) -> str:
    """The name of the edit that is being made in a workspace, or is just being cancelled; "": of none.

    Args:
        workspace_root: The workspace's folder.
    """
    running = engine.client().state.running
    request = running.request if running is not None else None
    if not isinstance(request, Edit) or Path(request.workspace) != Path(workspace_root):
        return ""
    return request.name


def reconstruction_to_come(workspace_root) -> bool:
    """Whether a reconstruction of a workspace runs or waits.

    Args:
        workspace_root: The workspace's folder.
    """
    return any(request.method == "reconstruct" for request in _underway(workspace_root))


@dataclass(frozen=True)
class Offer:
    """A job of a workspace that was not done to its end. request: the last thing that it asked for."""

    unfinished: journal.Unfinished
    request: Request

    @property
    def label(self) -> str:
        return self.unfinished.label

    @property
    def why(self) -> str:
        return self.unfinished.why

    @property
    def factor(self) -> float:
        return self.unfinished.factor


def offered(scene) -> Offer | None:
    """The job of the scene's workspace to be gone on with, for the panel to offer; looked up once a second at most."""
    folder = workspaces.workspace_of(scene)
    return None if folder is None else _offered(folder, int(time.monotonic()))


@functools.lru_cache(maxsize=4)
def _offered(folder: Path, _second: int) -> Offer | None:
    found = journal.unfinished(folder)
    if found is None or not found.requests:
        return None
    try:
        return Offer(found, from_params(*found.requests[-1]))
    except In2nError:  # of another version of the add-on
        return None


def forget_offers() -> None:
    """Something about unfinished jobs has changed: look again."""
    _offered.cache_clear()
