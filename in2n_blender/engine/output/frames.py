"""The frames of a camera path, as PNG and EXR in renders/<edit>/<path name>/.

Every file carries the hash of what it was made from (camera, the scene's weights), so that each frame is known by
itself: a longer range, another range in another process or one frame tried in between computes what is missing and
nothing else. A file is replaced by its successor only, and only where it is ours. On a cluster each worker has the
scene, and writes frames where this process would.
"""

from __future__ import annotations

import time
from pathlib import Path

from ...link.requests import RenderPath
from ...scene.camera import Camera
from ...scene.camera_path import CameraPath, PathFrame
from ...scene.errors import In2nError
from ...scene.reporting import Reporter
from ...workspace.files import read_json, write_json
from ...workspace.hashes import scene_hash
from ...workspace.layout import Workspace
from ...workspace.provenance import SCENE, Provenance, is_done, result_folder
from ..crew import Crew, Role
from ..device import describe_device
from ..hiring import crew_for
from ..nerf.scene import load_scene
from ..pictures import Picture, provenance_of, write_exr, write_png

RECORD = "render.json"
PATH_COPY = "camera_path.json"
KINDS = ("png", "exr")


class FrameRole:
    """A worker that renders frames of one scene.

    Args:
        workspace: Its folder.
        edit: The edit's name; None: the reconstruction.
        device: As for `scene_device`.

    Raises:
        In2nError: As `load_scene`.
    """

    def __init__(self, workspace: str, edit: str | None, device: str):
        self.scene = load_scene(Workspace(workspace), edit, device)

    def do(self, piece: dict, report: Reporter) -> dict:
        """Render a frame to its files, or nothing where no frame is asked for.

        Args:
            piece: number, camera (as JSON), unit_scale, folder and made_from, the hash that the files carry; or empty.
            report: Asked whether the job was cancelled.

        Returns:
            {"device": what it is rendered on}.

        Raises:
            In2nError: "disk_full", "cannot_write", "not_finite".
            Cancelled.
        """
        if piece:
            view = self.scene.render(Camera.from_json(piece["camera"]), report=report)
            picture = Picture.of(view, self.scene.has_alpha).scaled(piece["unit_scale"])
            file = Path(piece["folder"]) / f"{piece['number']:04d}"
            write_exr(file.with_suffix(".exr"), picture, piece["made_from"])
            write_png(file.with_suffix(".png"), picture, piece["made_from"])
        return {"device": describe_device(self.scene.device)}


def render_path(request: RenderPath, report: Reporter) -> dict:
    """Render every frame of a path that is not there yet from the same camera and the same scene.

    Args:
        request: The path's file, and the edit whose scene is rendered.
        report: Told of every frame ("frame"), each file's artifact, and asked whether the job was cancelled.

    Returns:
        {"folder", "count", "rendered", "seconds", "device", "finished"}, finished: whether the scene was computed to
        its end. Much the same is in render.json, and the path in camera_path.json beside it.

    Raises:
        In2nError: For a bad path, an edit or reconstruction that is not there, a full disk; "not_ours" where a file
            that no job of ours made has a frame's name; "no_ray", "no_cluster", "worker_died".
        Cancelled: Frames that are whole are kept.
    """
    arguments = {"workspace": request.workspace, "edit": request.edit, "device": request.device}
    role = Role(".output.frames:FrameRole", arguments, request.device != "cpu")
    path = CameraPath.load(Path(request.camera_path))
    with crew_for(role, request.cluster, request.workers, report) as crew:
        return _render_by(crew, path, request, report)


def _render_by(crew: Crew, path: CameraPath, request: RenderPath, report: Reporter) -> dict:
    workspace = Workspace(request.workspace)
    weights = scene_hash(result_folder(workspace, request.edit))
    device = crew.do_all([{}], report)[0]["device"]
    folder = workspace.renders(request.edit, path.name)
    made_from = {frame.number: frame_provenance(path, frame, weights).hash for frame in path.frames}
    missing = [frame for frame in path.frames if not is_rendered(folder, frame.number, made_from[frame.number])]
    _refuse_foreign(folder, missing)
    before = read_json(folder / RECORD) if (folder / RECORD).is_file() else {}
    record = {
        "camera_path": path.name,
        "edit": request.edit,
        "count": len(path.frames),
        "seconds": before.get("seconds", 0.0),
        "device": device,
        "scene": weights,
        "finished": is_done(workspace, request.edit),
    }
    write_json(folder / RECORD, record)
    write_json(folder / PATH_COPY, path.to_json())

    whole = done_before = len(path.frames) - len(missing)
    started = time.monotonic()

    def ended(index: int, _result: object) -> None:
        nonlocal whole
        number, seconds = missing[index].number, time.monotonic() - started
        whole += 1
        report.artifact("frame", folder / f"{number:04d}.png")
        record["seconds"] = round(before.get("seconds", 0.0) + seconds, 3)
        write_json(folder / RECORD, record)
        left = seconds / (whole - done_before) * (len(path.frames) - whole)
        report.progress(whole, len(path.frames), "frame", f"Rendered frame {number}", left)

    report.progress(whole, len(path.frames), "frame", "Rendering frames")
    pieces = [
        {
            "number": frame.number,
            "camera": frame.camera.to_json(),
            "unit_scale": path.unit_scale,
            "folder": str(folder),
            "made_from": made_from[frame.number],
        }
        for frame in missing
    ]
    crew.do_all(pieces, report, ended=ended)
    report.progress(len(path.frames), len(path.frames), "frame", "Frames rendered", 0.0)
    shown = {key: record[key] for key in ("count", "seconds", "device", "finished")}
    return {"folder": str(folder), "rendered": len(missing), **shown}


def frame_provenance(path: CameraPath, frame: PathFrame, weights: str | None) -> Provenance:
    """What a frame is made from: its camera, the scene's weights, and the unit of its depth.

    Args:
        path: The frame's path; its `unit_scale` is units of the depth to a capture unit.
        frame: One of the path's.
        weights: The scene's content hash, as `scene_hash` gives it.

    Returns:
        Its hash is what the frame's files carry.
    """
    settings = {"camera": frame.camera.to_json(), "unit_scale": path.unit_scale}
    return Provenance("frame", settings, {SCENE: weights})


def is_rendered(folder: Path, number: int, made_from: str) -> bool:
    """Whether both files of a frame, PNG and EXR, are there and made from this.

    Args:
        folder: Of the path's frames.
        number: The frame's.
        made_from: The hash of the frame's provenance.

    Returns:
        False, too, for files that carry nothing or cannot be read.
    """
    return all(provenance_of(folder / f"{number:04d}.{kind}") == made_from for kind in KINDS)


def _refuse_foreign(folder: Path, frames: list[PathFrame]) -> None:
    """Raises In2nError("not_ours"). Frames of the last version carry nothing, but have a record beside them."""
    if (folder / RECORD).is_file():
        return
    for frame in frames:
        for file in (folder / f"{frame.number:04d}.{kind}" for kind in KINDS):
            if file.exists() and provenance_of(file) is None:
                raise In2nError(
                    "not_ours",
                    f"{file} was not rendered by this program and would be overwritten.",
                    "Move it away, or give the camera path another name.",
                )
