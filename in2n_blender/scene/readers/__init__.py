"""Readers of captures: one file a format, each with `find` and `read`. What a new one needs is in `listing`."""

from __future__ import annotations

from pathlib import Path

from ..capture import Capture
from ..errors import In2nError
from ..reporting import Reporter
from . import (
    archive,
    bundler,
    colmap,
    inria,
    llff,
    meshroom,
    metashape,
    nvm,
    opensfm,
    polycam,
    realityscan,
    record3d,
    transforms,
)
from .leave import leave_for

# in a folder that holds several, the first; a file is asked of transforms last, which takes any .json
READERS = (
    transforms,
    polycam,
    record3d,
    colmap,
    metashape,
    meshroom,
    opensfm,
    realityscan,
    nvm,
    bundler,
    inria,
    llff,
)
SUFFIXES = (
    *(".json", ".bin", ".txt", ".xml", ".sfm", ".csv", ".xmp", ".nvm", ".out", ".npy"),
    *archive.SUFFIXES,
)
"""Of the files that captures are chosen by."""
KNOWN = (
    "transforms.json, a COLMAP model, or what Metashape, RealityScan, Meshroom, OpenSfM, VisualSFM, Bundler, Polycam, "
    "Record3D, LLFF or gaussian-splatting leave, beside its photos, or a .zip of it"
)


def read(path: Path, report: Reporter | None = None, outside_photos: bool = False) -> Capture:
    """Recognise the format of a capture and read it.

    Args:
        path: A file of the capture, the folder that holds it, or a .zip of it.
        report: Told how far a .zip is unpacked, and asked whether to go on.
        outside_photos: Whether files may be read that the capture's files name elsewhere than in its folder.

    Returns:
        The capture in its own coordinates and units, with the photos at their own size.

    Raises:
        In2nError: "missing_file", "not_a_capture", "bad_archive", "outside_photos" and what the readers raise.
        Cancelled: While a .zip was unpacked.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise In2nError("missing_file", f"{path} does not exist.", "Check the path of the capture.")
    if path.is_file() and path.suffix.lower() in archive.SUFFIXES:
        places = archive.folders(archive.unpacked(path, report))
    else:
        places = [path]
    for place in places:
        order = READERS if place.is_dir() else (*READERS[1:], READERS[0])
        for reader in order:
            found = reader.find(place)
            if found:
                with leave_for(places[0] if places[0].is_dir() else place.parent, outside_photos):
                    return reader.read(found)
    raise In2nError("not_a_capture", f"No capture was found in {path}.", f"Choose {KNOWN}.")
