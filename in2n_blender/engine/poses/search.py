"""From photos or a video without poses to a capture: prepared, compared, placed.

<workspace>/poses/            what is kept of it, so that a search that was stopped goes on
  search.json                 of which photos it is, and whether it is done
  frames/                     of a video
  images/  masks/             prepared pictures
  database.db                 features and matches
  cameras.json                the cameras that are found so far, for those who watch
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np

from ...scene.bare_photos import BarePhotos
from ...scene.camera import Intrinsics
from ...scene.capture import Capture, Frame
from ...scene.errors import In2nError
from ...scene.lens import Lens
from ...scene.readers import record3d
from ...scene.readers.checks import check_enough
from ...scene.readers.poses import OPENGL_FROM_OPENCV
from ...scene.reporting import Reporter
from ...workspace.files import read_json, write_error, write_json
from ...workspace.hashes import hash_of
from ...workspace.layout import Workspace
from .prepared import prepare
from .solving import Placed, Solution, Solver
from .video import extract_frames, frame_numbers

VERSION = 3  # of the search: what was kept of another one is not gone on with
WATCHED_EVERY = 0.5  # seconds, from one writing of cameras.json to the next
WATCHED_POINTS = 2000
MANY_LOST = 5  # photos of which each is named in the log


def find_poses(bare: BarePhotos, workspace: Workspace, frames: int, report: Reporter) -> Capture:
    """Find the cameras of photos.

    Args:
        bare: The photos, or the video.
        workspace: In whose poses/ the search is kept.
        frames: How many frames of a video are used.
        report: Told of every photo and stage, of cameras.json whenever there are more cameras, and of what could not be
            placed.

    Returns:
        A capture in coordinates of its own: where its origin, its axes and its scale are, photos do not tell.

    Raises:
        In2nError: "bad_video", "too_few_photos", "no_cameras_found", "not_ours", "disk_full", "cannot_write".
        Cancelled: What was found is kept.
    """
    folder = _begin(bare, workspace, frames)
    photos, root = bare.photos, bare.folder
    if bare.video:
        root = folder / "frames"
        photos = extract_frames(bare.video, frames, root, report)
    prepared = prepare(photos, root, folder, report)
    check_enough(len(prepared.photos), len(photos), bare.source, prepared.unusable)
    watched = _Watched(folder / "cameras.json", len(prepared.photos), report)
    solution = Solver(prepared, folder, bare.video is not None, report).solve(watched.arrived)
    watched.write(list(solution.placed), solution.points, solution.colors)
    check_enough(len(solution.placed), len(photos), bare.source, solution.lost)
    _tell(solution, report)
    return Capture(
        (bare.video or bare.source).stem or "capture",
        bare.video or bare.source,
        tuple(_frame(one) for one in solution.placed),
        solution.points,
        solution.colors,
        unusable={**prepared.unusable, **solution.lost},
        notes=_notes(solution),
        tracks=solution.tracks,
    )


def read_recording(video: Path, workspace: Workspace, frames: int, report: Reporter) -> Capture:
    """Read a Stray Scanner recording whose photos are still in its video: nothing is searched.

    Args:
        video: Its rgb.mp4, beside odometry.csv.
        workspace: In whose poses/ the frames are kept.
        frames: How many of them are used.
        report: Told of every frame.

    Returns:
        The capture in metres, z up.

    Raises:
        In2nError: "bad_video", "not_ours", "disk_full", "cannot_write" and what `record3d.read` raises.
        Cancelled: The frames that were taken out are kept.
    """
    folder = _begin(BarePhotos(video, video.parent, video=video), workspace, frames) / "frames"
    extract_frames(video, frames, folder, report)
    return record3d.read(video.with_name(record3d.ODOMETRY), frame_numbers(folder))


def _begin(bare: BarePhotos, workspace: Workspace, frames: int) -> Path:
    """The search's folder: with what is there of these very photos, else empty."""
    folder, state = workspace.poses, workspace.poses / "search.json"
    made_of = {"version": VERSION, "photos": hash_of([_mark(file) for file in (bare.video, *bare.photos) if file])}
    if bare.video:
        made_of["frames"] = frames
    if folder.exists():
        try:
            if read_json(state).get("made_of") == made_of:
                return folder
        except In2nError:
            if any(folder.iterdir()):
                raise In2nError(
                    "not_ours",
                    f"{folder} was not made by a search for cameras and would be replaced.",
                    "Move it away, or choose another workspace.",
                ) from None
        _remove(folder)
    for each in (folder / "images", folder / "masks"):
        each.mkdir(parents=True, exist_ok=True)
    write_json(state, {"made_of": made_of})
    return folder


def _mark(file: Path) -> list:
    found = file.stat()
    return [file.as_posix(), found.st_size, found.st_mtime_ns]


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise write_error(folder, error) from error


class _Watched:
    """cameras.json while cameras arrive: {"total", "points", "colors", "cameras": [{"name", "photo", "size", "focal",
    "camera_to_world"}]}, the focal length in pixels."""

    def __init__(self, file: Path, total: int, report: Reporter):
        self.file, self.total, self.report, self.latest = file, total, report, 0.0

    def arrived(self, placed: list[Placed], points: np.ndarray, colors: np.ndarray) -> None:
        if time.monotonic() - self.latest >= WATCHED_EVERY:
            self.write(placed, points, colors)

    def write(self, placed: list[Placed], points: np.ndarray, colors: np.ndarray) -> None:
        self.latest = time.monotonic()
        cameras = []
        for one in placed:
            frame = _frame(one)
            k = frame.lens.intrinsics
            about = {"name": frame.name, "photo": str(frame.photo), "size": [k.width, k.height], "focal": k.fx}
            cameras.append({**about, "camera_to_world": frame.camera_to_world.tolist()})
        some = slice(None, None, max(1, len(points) // WATCHED_POINTS))
        shown = {"points": points[some].round(6).tolist(), "colors": colors[some].tolist()}
        write_json(self.file, {"total": self.total, **shown, "cameras": cameras}, durable=False)
        self.report.artifact("cameras", self.file)


def _frame(one: Placed) -> Frame:
    photo = one.photo
    world_to_camera = np.vstack([one.camera_from_world, [0, 0, 0, 1]])
    pose = np.linalg.inv(world_to_camera) @ OPENGL_FROM_OPENCV
    lens = lens_of(one.model, one.parameters, photo.prepared_size).scaled_to(*photo.size)
    return Frame(photo.name, photo.photo, lens, pose, None, photo.orientation, photo.mask)


def lens_of(model: str, parameters: tuple[float, ...], size: tuple[int, int]) -> Lens:
    """COLMAP's lens as ours.

    Args:
        model: "SIMPLE_RADIAL" (f, cx, cy, k1) or "OPENCV" (fx, fy, cx, cy, k1, k2, p1, p2).
        parameters: In pixels.
        size: (width, height) of the picture.
    """
    if model == "SIMPLE_RADIAL":
        f, cx, cy, k1 = parameters
        return Lens("opencv", Intrinsics(*size, f, f, cx, cy), (k1, 0.0, 0.0, 0.0))
    fx, fy, cx, cy, *distortion = parameters
    return Lens("opencv", Intrinsics(*size, fx, fy, cx, cy), tuple(distortion))


def _tell(solution: Solution, report: Reporter) -> None:
    placed, lost = len(solution.placed), solution.lost
    report.log(f"{placed} of {placed + len(lost)} cameras found, {solution.error:.2f} pixels off on average.")
    for name, why in list(lost.items())[:MANY_LOST]:
        report.log(f"{name} has no camera. {why}")
    if len(lost) > MANY_LOST:
        report.log(f"{len(lost) - MANY_LOST} more photos have no camera.")


def _notes(solution: Solution) -> tuple[str, ...]:
    if not solution.others:
        return ()
    sizes = ", ".join(map(str, solution.others))
    return (
        f"The photos fall into parts that do not join: the largest is used, others have {sizes} photos. Photos taken "
        "between them would join them.",
    )
