"""The frames of a camera path, as PNG and EXR in renders/<edit>/<path name>/."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

from ...link.requests import RenderPath
from ...scene.camera_path import CameraPath
from ...scene.errors import In2nError
from ...scene.reporting import Reporter
from ...workspace.files import read_json, write_json
from ...workspace.layout import Workspace
from ..device import describe_device
from ..pictures import Picture, write_exr, write_png

RECORD = "render.json"
PATH_COPY = "camera_path.json"


def render_path(request: RenderPath, report: Reporter) -> dict:
    """Render every frame that is not there yet from the same path and the same model.

    Returns {"folder", "count", "rendered", "seconds", "device"}; the same, with the frames' fingerprint, is in
    render.json, and the path in camera_path.json beside it.
    Raises In2nError for a bad path, an edit or reconstruction that is not there, a full disk; Cancelled.
    """
    from ..nerf.scene import load_scene

    path = load_camera_path(Path(request.camera_path))
    workspace = Workspace(request.workspace)
    scene = load_scene(workspace, request.edit, request.device)
    folder = workspace.renders(request.edit, path.name)
    record = _open_record(folder, path, checkpoint_file(workspace, request.edit))
    record |= {
        "camera_path": path.name,
        "edit": request.edit,
        "count": len(path.frames),
        "device": describe_device(scene.device),
    }

    missing = [frame for frame in path.frames if not _is_rendered(folder, frame.number)]
    done_before, before, started = len(path.frames) - len(missing), record["seconds"], time.monotonic()
    for index, frame in enumerate(missing):
        elapsed = time.monotonic() - started
        report.progress(
            done_before + index,
            len(path.frames),
            "frame",
            f"Rendering frame {frame.number}",
            elapsed / index * (len(missing) - index) if index else None,
        )
        picture = Picture.of(scene.render(frame.camera, report=report), scene.has_alpha)
        write_exr(folder / f"{frame.number:04d}.exr", picture)
        write_png(folder / f"{frame.number:04d}.png", picture)
        report.artifact("frame", folder / f"{frame.number:04d}.png")
        record["seconds"] = round(before + time.monotonic() - started, 3)
        write_json(folder / RECORD, record)
    report.progress(len(path.frames), len(path.frames), "frame", "Frames rendered", 0.0)
    return {
        "folder": str(folder),
        "count": len(path.frames),
        "rendered": len(missing),
        "seconds": record["seconds"],
        "device": record["device"],
    }


def load_camera_path(path: Path) -> CameraPath:
    """Read a CameraPath file. Raises In2nError("missing_file", "bad_json", "bad_camera_path")."""
    data = read_json(path)
    try:
        camera_path = CameraPath.from_json(data)
    except (KeyError, TypeError, ValueError) as error:
        raise In2nError(
            "bad_camera_path",
            f"{path} is not a camera path ({type(error).__name__}: {error}).",
            "Export the camera path again.",
        ) from error
    if not camera_path.frames:
        raise In2nError(
            "bad_camera_path", f"The camera path {path} has no frames.", "Animate the camera over at least one frame."
        )
    return camera_path


def checkpoint_file(workspace: Workspace, edit: str | None) -> Path:
    """The checkpoint of an edit, or of the reconstruction for None."""
    return (workspace.edit(edit) if edit else workspace.reconstruction) / "checkpoint.safetensors"


def _is_rendered(folder: Path, number: int) -> bool:
    return all((folder / f"{number:04d}.{kind}").is_file() for kind in ("png", "exr"))


def _open_record(folder: Path, path: CameraPath, checkpoint: Path) -> dict:
    """The record of an earlier run of the same frames; where they were others, these are removed and a new one
    begun."""
    fingerprint = _fingerprint(path, checkpoint)
    if (folder / RECORD).is_file():
        record = read_json(folder / RECORD)
        if record.get("fingerprint") == fingerprint:
            return record
    for kind in ("png", "exr"):
        for stale in folder.glob(f"[0-9]*.{kind}"):
            stale.unlink()
    record = {"fingerprint": fingerprint, "seconds": 0.0}
    write_json(folder / PATH_COPY, path.to_json())
    write_json(folder / RECORD, record)
    return record


def _fingerprint(path: CameraPath, checkpoint: Path) -> str:
    digest = hashlib.sha256(json.dumps(path.to_json(), sort_keys=True).encode())
    if checkpoint.is_file():
        with checkpoint.open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()
