"""VisualSFM's .nvm (ccwu.me/vsfm/doc.html#nvm, and LoadNVM in its multicore bundle adjustment's src/pba/util.h).

A camera: file name, focal length in pixels, quaternion (w, x, y, z) of world-to-camera with OpenCV's axes, centre,
radial distortion, 0. The distortion is one of measurements: a place in the photo m, in focal lengths, times
1 + d |m|^2 is the direction. The principal point is the middle of the photo, or stands in the first line (FixedK).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..camera import Intrinsics
from ..capture import Capture
from ..errors import In2nError
from ..lens import Lens
from ..tracks import Tracks
from .checks import positive
from .contents import bad_file, numbers, read_text
from .finding import PhotoSearch, in_their_code_page, usual_folders
from .listing import ListedPhoto, build_capture
from .masks import MaskFinder
from .poses import from_opencv, pose, rotation_of


def find(path: Path) -> Path | None:
    """The .nvm file in a path.

    Args:
        path: A file or a folder.

    Returns:
        The file, None where there is none.
    """
    if path.is_file():
        return path if path.suffix.lower() == ".nvm" else None
    return next(iter(sorted(path.glob("*.nvm"))), None)


def read(path: Path) -> Capture:
    """Read the first model of the file, which is the largest.

    Args:
        path: The file.

    Returns:
        The capture, in VisualSFM's units.

    Raises:
        In2nError: "missing_file", "bad_capture" and what `build_capture` raises.
    """
    lines = [line.strip() for line in read_text(path).splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines or not lines[0].startswith("NVM_V3"):
        raise bad_file(path, "it does not begin with NVM_V3")
    fixed = _fixed(lines[0], path)
    count = _count(lines, 1, path)
    rows = [_camera(line, path) for line in lines[2 : 2 + count]]
    if len(rows) < count:
        raise bad_file(path, f"it lists {count} photos and holds {len(rows)}")
    search = PhotoSearch(*usual_folders(path.parent))
    names = in_their_code_page([name for name, _ in rows], lambda name: search.find(name) is not None)
    search, masks, listed = PhotoSearch(*usual_folders(path.parent)), {}, []
    for name, (_, values) in zip(names, rows, strict=True):
        photo = search.find(name)
        entry = _listed(name, photo, values, fixed)
        if photo:
            entry["mask"] = masks.setdefault(photo.parent, MaskFinder(photo.parent)).find(photo)
        listed.append(ListedPhoto(**entry))
    points, colors, tracks = _points(lines, 2 + count, path)
    return build_capture(path, path.parent, listed, points, colors, tracks=tracks)


def _fixed(line: str, path: Path) -> tuple[float, ...] | None:
    """fx, cx, fy, cy and the distortion of all cameras; None where they differ."""
    words = line.split()
    if len(words) < 2 or words[1] != "FixedK":
        return None
    return tuple(numbers(words[2:7], 5, "FixedK", path.name).tolist())


def _count(lines: list[str], at: int, path: Path) -> int:
    try:
        count = int(lines[at])
    except (IndexError, ValueError):
        raise bad_file(path, "a number of photos or points is missing") from None
    if not 0 <= count <= len(lines):
        raise bad_file(path, f"it cannot hold {count}")
    return count


def _camera(line: str, path: Path) -> tuple[str, list[str]]:
    """The name, which may have blanks in it, and the ten numbers behind it."""
    words = line.rsplit(maxsplit=10)
    if len(words) != 11:
        raise bad_file(path, f"a photo with {len(words) - 1} numbers")
    return words[0].strip().strip('"'), words[1:]


def _listed(name: str, photo: Path | None, values: list[str], fixed: tuple[float, ...] | None) -> dict:
    entry = {"label": name, "photo": photo, "camera_to_world": None, "listed_size": None, "lens": Lens}
    try:
        focal, *rest = numbers(values, 10, "The camera", name).tolist()
        entry["camera_to_world"] = from_opencv(pose(rotation_of(rest[:4]).T, np.array(rest[4:7])))
        entry["lens"] = lambda w, h: _lens(focal, rest[7], fixed, w, h, name)
    except In2nError as error:
        entry["problem"] = error
    return entry


def _lens(focal: float, bend: float, fixed: tuple[float, ...] | None, width: int, height: int, label: str) -> Lens:
    fx = fy = positive(focal, "The focal length", label)
    cx, cy = width / 2, height / 2
    if fixed:
        fx, cx, fy, cy, bend = fixed
        fx, fy = positive(fx, "fx", label), positive(fy, "fy", label)
    k = Intrinsics(width, height, fx, fy, cx, cy)
    return Lens("inverse_radial", k, (bend,)) if bend else Lens("pinhole", k)


def _points(lines: list[str], at: int, path: Path) -> tuple[np.ndarray, np.ndarray, Tracks | None]:
    if at >= len(lines):
        return np.zeros((0, 3)), np.zeros((0, 3), np.uint8), None
    rows = [line.split() for line in lines[at + 1 : at + 1 + _count(lines, at, path)]]
    try:
        values = np.array([row[:6] for row in rows], np.float64).reshape(-1, 6)
    except ValueError:
        raise bad_file(path, "a point without its place or colour") from None
    good = np.isfinite(values).all(1)
    return values[good, :3], np.clip(values[good, 3:], 0, 255).astype(np.uint8), _tracks(rows, good)


def _tracks(rows: list[list[str]], good: np.ndarray) -> Tracks | None:
    """Behind a point's colour: how many photos see it, and of each its number, the feature's, and where it is."""
    try:
        tracks = Tracks.of([[int(word) for word in row[7 : 7 + 4 * int(row[6]) : 4]] for row in rows])
        return tracks.of_points(good)
    except (ValueError, IndexError, OverflowError):
        return None
