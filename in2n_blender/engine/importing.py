"""A capture into a workspace: its photos normalised, its cameras and sparse points beside them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ..link.requests import ImportCapture
from ..scene import bare_photos
from ..scene.camera import Intrinsics
from ..scene.capture import Capture, Frame, PinholeCapture, View, pinhole_capture
from ..scene.errors import Cancelled, In2nError
from ..scene.presets import PRESETS
from ..scene.readers import archive, record3d
from ..scene.readers import read as read_capture
from ..scene.readers.checks import check_enough
from ..scene.reporting import Reporter
from ..workspace.files import atomic_path, write_json
from ..workspace.imported import refuse_own_photos, staged_import
from ..workspace.layout import Workspace
from .capture_report import Measures, report_import
from .cutouts import Alpha, as_masks, cut_out
from .full_photos import note_originals
from .heap import trim_heap
from .known_photos import small_pictures, write_small
from .masks import normalised_mask
from .measured_depth import has_depth, with_measured_points
from .photos import LARGE_PIXELS, UnreadablePhoto, decode, forget_lenses, normalise_photo

THREADS = 2
FEATURES = "features"  # of a staged import: what points are found in


def normalise_capture(request: ImportCapture, reporter: Reporter) -> PinholeCapture:
    """Read a capture, write its normalised photos and capture.json into the workspace, and return what was written.

    The workspace changes only when everything is done: an import that fails or is cancelled leaves an earlier one as it
    was. What no import made is neither deleted nor overwritten: it is refused before anything is written.

    Args:
        request: What to read, and the workspace to write to.
        reporter: Gets progress in photos, and names photos that are missing or cannot be used; so does `missing`.

    Returns:
        The capture as it is now in the workspace, without the photos that were left out.

    Raises:
        In2nError: "not_ours", "unknown_preset" and what `readers.read`, `pinhole_capture` and `atomic_path` raise.
        Cancelled: Between two photos or bands of one.
    """
    if request.preset not in PRESETS:
        raise In2nError(
            "unknown_preset", f"There is no preset “{request.preset}”.", f"Use one of {', '.join(PRESETS)}."
        )
    workspace = Workspace(request.workspace)
    read = _read(request, workspace, reporter)
    reporter.check()
    files = [frame.photo for frame in read.frames]
    refuse_own_photos(workspace, files + [frame.mask.path for frame in read.frames if frame.mask])
    capture = pinhole_capture(read, PRESETS[request.preset].longest_side, request.hold_out_every, request.preset)
    capture = replace(capture, source=_source(Path(capture.source), workspace))
    if read.missing:
        reporter.log(
            f"{len(read.missing)} of {len(read.frames) + len(read.missing) + len(read.unusable)} photos are "
            "missing and are left out."
        )
    for name, why in read.unusable.items():
        reporter.log(f"{name} is left out. {why}")
    for note in read.notes:
        reporter.log(note)

    try:
        with staged_import(workspace) as staging:
            # Points are looked for in the photos only where nobody measured any.
            measured = has_depth(read.frames)
            small = {} if measured else small_pictures(capture, read.frames, staging / FEATURES)
            # Where photos show the same can be told only once the capture has its points: then they are measured.
            noted = _Noted(None if measured or small else Measures(capture), small)
            unreadable = _write_photos(read.frames, capture.views, noted, staging, reporter)
            views = tuple(_with_mask(v, staging) for v in capture.views if v.name not in unreadable)
            check_enough(len(views), len(capture.views) + len(capture.missing), request.source, unreadable)
            views = _without_alpha(views, noted.alphas, staging, reporter)
            capture = replace(capture.with_views(views), missing=capture.missing + tuple(sorted(unreadable)))
            capture = _with_more_points(capture, read, small, staging, reporter)
            write_json(staging / "capture.json", capture.to_json())
            reporter.check()
    finally:
        forget_lenses()
    try:
        note_originals(workspace, capture, read.frames)
    except In2nError as error:  # what was imported is there and whole
        reporter.log(f"Photos cannot be shown at their full size later. {error}")
    masks = sum(bool(view.mask) for view in capture.views)
    reporter.log(
        f"{len(capture.views)} photos imported, {len(capture.held_out_views)} of them held out, "
        + (f"{masks} with masks, " if masks else "")
        + f"{len(capture.missing)} left out, {len(capture.points)} sparse points."
    )
    report_import(workspace, capture, noted.measures, reporter)
    return capture


@dataclass(frozen=True)
class _Noted:
    """What is noted of photos while they are at hand: measures, if they can be told yet, the small pictures that points
    are to be found in, by the views' names, and what alpha photos have."""

    measures: Measures | None
    small: dict[str, Path]
    alphas: dict[str, Alpha] = field(default_factory=dict)


def _with_more_points(
    capture: PinholeCapture, read: Capture, small: dict[str, Path], staging: Path, reporter: Reporter
) -> PinholeCapture:
    """The capture with the points of measured depth, or of its photos."""
    capture = with_measured_points(capture, read.frames, staging, reporter)
    if not small:
        return capture
    from .poses.triangulating import with_points  # here: COLMAP takes its time to load

    return with_points(capture, read.frames, small, reporter)


def _with_mask(view: View, staging: Path) -> View:
    """The view without its mask where none was written, because it covers nothing or cannot be used."""
    return view if view.mask and (staging / view.mask).is_file() else replace(view, mask="")


def _without_alpha(
    views: tuple[View, ...], alphas: dict[str, Alpha], staging: Path, reporter: Reporter
) -> tuple[View, ...]:
    """The views with masks instead of alpha, unless they show a thing cut out."""
    if cut_out(alphas, len(views)):
        reporter.log("The photos are transparent around what they show: there is nothing there.")
        return views
    views = as_masks(views, alphas, staging, reporter.check)
    if any(alpha.used for alpha in alphas.values()):
        reporter.log("What is transparent in photos is masked: it is neither trained on nor edited.")
    return views


def _read(request: ImportCapture, workspace: Workspace, reporter: Reporter) -> Capture:
    """The capture that the source is; where it is photos or a video without poses, their cameras are found first."""
    recording, bare = record3d.video_of(Path(request.source).expanduser()), None
    if recording is None:
        try:
            return read_capture(request.source, reporter, request.outside_photos)
        except In2nError as error:
            bare = _bare_photos(Path(request.source)) if error.code == "not_a_capture" else None
            if bare is None:
                raise
    from .poses.search import find_poses, read_recording  # here: COLMAP and the video decoder take their time to load

    if recording is not None:
        return read_recording(recording, workspace, request.video_frames, reporter)
    return find_poses(bare, workspace, request.video_frames, reporter)


def _bare_photos(source: Path) -> bare_photos.BarePhotos | None:
    """Photos or a video without poses, which may be in an archive."""
    if source.suffix.lower() not in archive.SUFFIXES:
        return bare_photos.find(source)
    places = archive.folders(archive.unpacked(source.expanduser()))
    return next(filter(None, map(bare_photos.find, places)), None)


def _write_photos(
    frames: tuple[Frame, ...], views: tuple[View, ...], noted: _Noted, staging: Path, reporter: Reporter
) -> dict[str, str]:
    """Writes staging/images/<name>.png for every view, and notes what is to be noted. Returns why photos cannot be
    read, by their names."""
    stop, alone = threading.Event(), threading.Lock()

    def check() -> None:
        if stop.is_set():
            raise Cancelled()

    def work(frame: Frame, view: View) -> None:
        check()
        k = frame.lens.intrinsics
        large = k.width * k.height > LARGE_PIXELS
        with alone if large else nullcontext():
            image = _normalised(frame, view.camera.intrinsics, noted.small.get(view.name), check)
            if large:  # else the other thread's photo comes on top of what this one has freed
                trim_heap()
        check()
        with atomic_path(staging / view.image) as temporary:
            Image.fromarray(image).save(temporary, "PNG", compress_level=4)
        if alpha := Alpha.of(image):
            noted.alphas[view.name] = alpha
        mask = write_mask(frame, view) if frame.mask else None
        if noted.measures:
            noted.measures.measure(view.name, image, mask)

    def write_mask(frame: Frame, view: View) -> np.ndarray | None:
        try:
            mask = normalised_mask(frame, view.camera.intrinsics, check)
        except UnreadablePhoto as error:
            reporter.log(f"The mask of {view.name} cannot be used ({error}).")
            return None
        if not mask.all():
            with atomic_path(staging / view.mask) as temporary:
                Image.fromarray(mask.astype(np.uint8) * 255).save(temporary, "PNG", compress_level=4)
        return mask

    unreadable: dict[str, str] = {}
    started = time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        jobs = {pool.submit(work, frame, view): view for frame, view in zip(frames, views, strict=True)}
        try:
            waiting, done = set(jobs), 0
            reporter.progress(0, len(jobs), "photos", "Undistorting the photos")
            while waiting:
                finished, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                for job in finished:
                    try:
                        job.result()
                    except UnreadablePhoto as error:
                        name = jobs[job].name
                        unreadable[name] = f"The photo cannot be read ({error})."
                        reporter.log(f"The photo of {name} cannot be read and is left out ({error}).")
                done += len(finished)
                if finished:
                    left = (time.monotonic() - started) / done * (len(jobs) - done)
                    reporter.progress(done, len(jobs), "photos", "Undistorting the photos", left)
                reporter.check()
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return unreadable


def _normalised(frame: Frame, target: Intrinsics, small: Path | None, check: Callable[[], None]) -> np.ndarray:
    """The frame's photo as `target` sees it, uint8; a small picture of the photo itself goes to `small`. Raises
    UnreadablePhoto."""
    expected = frame.lens.intrinsics
    photo = decode(frame.photo, frame.orientation, (expected.width, expected.height))
    if photo.shape[:2] != (expected.height, expected.width):
        raise UnreadablePhoto(
            f"{photo.shape[1]} x {photo.shape[0]} pixels instead of {expected.width} x {expected.height}"
        )
    if small:
        write_small(photo, small)
    return normalise_photo(photo, frame.lens, target, max(target.width, target.height), check)


def _source(source: Path, workspace: Workspace) -> str:
    return source.relative_to(workspace.root).as_posix() if source.is_relative_to(workspace.root) else source.as_posix()
