"""Photos undistorted at their full size, each made when somebody asks for it: all of them would fill a disk.

What an import was given is noted in .originals.json, so that one photo can be made later, whatever it came from:

{"capture": hash of capture.json, "photos": {view: {"file", "orientation", "model", "intrinsics", "distortion"}}}
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from PIL import Image

from ..link.requests import FullPhoto
from ..scene.camera import Intrinsics
from ..scene.capture import Frame, PinholeCapture, View
from ..scene.errors import In2nError
from ..scene.lens import Lens, pinhole_for
from ..scene.reporting import Reporter
from ..workspace.files import atomic_path, read_json, write_json
from ..workspace.hashes import file_hash, hash_of
from ..workspace.imported import load_capture
from ..workspace.layout import Workspace
from .photos import UnreadablePhoto, decode, forget_lenses, normalise_photo
from .pictures import write_jpeg

QUALITY = 95  # of JPEG: nothing to be seen at a pixel's size, in a tenth of a PNG's room


def note_originals(workspace: Workspace, capture: PinholeCapture, frames: tuple[Frame, ...]) -> None:
    """Note what the photos of the capture that was just imported were made from, if any is larger than it is kept.

    Args:
        workspace: The capture's, with its capture.json.
        capture: What is in it.
        frames: As a reader returned them; of those that were left out, nothing is asked later.

    Raises:
        In2nError: "disk_full", "cannot_write".
    """
    kept = {view.name: view.camera.intrinsics for view in capture.views}
    if all(_is_full(kept[frame.name], frame.lens) for frame in frames if frame.name in kept):
        return
    photos = {
        frame.name: {
            "file": str(frame.photo.resolve()),
            "orientation": frame.orientation,
            "model": frame.lens.model,
            "intrinsics": dataclasses.asdict(frame.lens.intrinsics),
            "distortion": list(frame.lens.distortion),
        }
        for frame in frames
        if frame.name in kept
    }
    write_json(workspace.originals, {"capture": file_hash(workspace.capture_json), "photos": photos})


def full_photo(request: FullPhoto, report: Reporter) -> dict:
    """Undistort a photo at its full size, unless that was done before or it is as large in the workspace.

    Args:
        request: Which photo.
        report: Told that it is being made, and asked whether to go on.

    Returns:
        {"file": the picture, "made": whether it was made now}.

    Raises:
        In2nError: "no_capture", "bad_capture"; "no_photo" for a name that the capture does not have; "no_original"
            where the import did not note it, or it is gone or cannot be read; "disk_full", "cannot_write".
        Cancelled: Nothing is written.
    """
    workspace = Workspace(request.workspace)
    view = _view(load_capture(workspace), request.photo)
    original, lens, orientation = _original(workspace, view)
    if _is_full(view.camera.intrinsics, lens):
        return {"file": str(workspace.photo(view.image)), "made": False}
    stem = f"{Path(view.image).stem}-{hash_of([str(original), _stamp(original), str(lens), orientation])[:8]}"
    for found in (workspace.full / f"{stem}{suffix}" for suffix in (".jpg", ".png")):
        if found.is_file():
            return {"file": str(found), "made": False}
    report.progress(0, 1, "photos", "Undistorting the photo")
    file = _write(_undistorted(original, lens, orientation, report), workspace.full / stem)
    report.progress(1, 1, "photos", "Undistorting the photo")
    return {"file": str(file), "made": True}


def _view(capture: PinholeCapture, name: str) -> View:
    view = next((view for view in capture.views if view.name == name), None)
    if view is None:
        raise In2nError("no_photo", f"The capture has no photo {name!r:.80}.", "Import the capture again.")
    return view


def _original(workspace: Workspace, view: View) -> tuple[Path, Lens, int]:
    """The photo's file as it was imported, its lens, and how it is to be turned."""
    try:
        noted = read_json(workspace.originals)
        one = noted["photos"][view.name] if noted["capture"] == file_hash(workspace.capture_json) else None
        file, orientation = Path(one["file"]), int(one["orientation"])
        lens = Lens(one["model"], Intrinsics(**one["intrinsics"]), tuple(map(float, one["distortion"])))
    except (In2nError, KeyError, TypeError, ValueError):
        raise _no_original(view, "it is not known what it was made from") from None
    if not file.is_file():
        raise _no_original(view, f"{file} is gone")
    return file, lens, orientation


def _is_full(kept: Intrinsics, lens: Lens) -> bool:
    full = pinhole_for(lens)
    return (kept.width, kept.height) == (full.width, full.height)


def _undistorted(file: Path, lens: Lens, orientation: int, report: Reporter):
    full = pinhole_for(lens)
    try:
        photo = decode(file, orientation)
    except UnreadablePhoto as error:
        raise In2nError("no_original", f"{file} cannot be read ({error}).", "Put the photo back.") from None
    report.check()
    if photo.shape[:2] != (lens.intrinsics.height, lens.intrinsics.width):
        raise In2nError("no_original", f"{file} has another size than it had.", "Import the capture again.")
    try:
        return normalise_photo(photo, lens, full, max(full.width, full.height), report.check)
    finally:
        forget_lenses()


def _write(picture, stem: Path) -> Path:
    opaque = picture.shape[2] == 3
    file = stem.with_name(f"{stem.name}{'.jpg' if opaque else '.png'}")
    with atomic_path(file) as temporary:
        if opaque:
            write_jpeg(Image.fromarray(picture), temporary, quality=QUALITY, subsampling=0)
        else:
            Image.fromarray(picture).save(temporary, "PNG", compress_level=4)
    return file


def _stamp(file: Path) -> list[int]:
    found = file.stat()
    return [found.st_size, found.st_mtime_ns]


def _no_original(view: View, why: str) -> In2nError:
    return In2nError("no_original", f"There is no full-size photo {view.name}: {why}.", "Import the capture again.")
