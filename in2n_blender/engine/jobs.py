"""What the worker can do: the function behind every method of `link.requests`."""

from __future__ import annotations

from ..scene.camera_path import through_views
from ..scene.reporting import Reporter
from ..workspace.files import write_json
from ..workspace.imported import load_capture
from ..workspace.layout import Workspace
from ..workspace.provenance import photos_hash
from .importing import normalise_capture


def import_capture(request, report: Reporter) -> dict:
    """The job `import`: a capture, normalised into a workspace.

    Args:
        request: An ImportCapture.
        report: Told of every photo, and asked whether the job was cancelled.

    Returns:
        {"views", "training_views", "held_out_views", "missing", "masks", "notes", "points", "preset"}: numbers of
        photos, of those left out and those with masks, what the user should know, sparse points, the preset's name.

    Raises:
        In2nError: As `normalise_capture` and `photos_hash`.
        Cancelled: The workspace is as it was.
    """
    capture = normalise_capture(request, report)
    photos_hash(Workspace(request.workspace))  # now, so that a panel sees without reading them when they are others
    return {
        "views": len(capture.views),
        "training_views": len(capture.training_views),
        "held_out_views": len(capture.held_out_views),
        "missing": len(capture.missing),
        "masks": sum(bool(view.mask) for view in capture.views),
        "notes": list(capture.notes),
        "points": len(capture.points),
        "preset": capture.preset,
    }


def path_through_views(request, report: Reporter) -> dict:
    """The job `path`: a smooth camera path through the capture's views, written to paths/<name>.json.

    Args:
        request: A PathThroughViews.
        report: Not used; the path takes no time.

    Returns:
        {"camera_path": the file, "frames": their number}.

    Raises:
        In2nError: "no_capture", "bad_capture", "bad_name", "disk_full", "cannot_write".
    """
    workspace = Workspace(request.workspace)
    capture = load_capture(workspace)
    path = through_views(capture, request.frames, fps=request.fps, name=request.name)
    write_json(workspace.camera_path(request.name), path.to_json())
    return {"camera_path": str(workspace.camera_path(request.name)), "frames": len(path.frames)}
