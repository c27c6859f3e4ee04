"""Bundler's bundle.out, with the list of its photos (github.com/snavely/bundler_sfm, "Output format and scene
representation").

A camera: f, k1, k2, the rotation row by row and the translation of world-to-camera, with OpenGL's axes; p = -P / P.z,
times f (1 + k1 |p|^2 + k2 |p|^4), is the place relative to the middle of the photo, y up. One with f = 0 has no pose.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..camera import Intrinsics
from ..capture import Capture
from ..errors import In2nError
from ..lens import Lens
from ..tracks import Tracks
from .contents import bad_file, read_text
from .finding import PhotoSearch, in_their_code_page, photos_in, usual_folders
from .listing import ListedPhoto, build_capture, natural_order
from .masks import MaskFinder
from .poses import pose

LISTS = ("list.txt", "list_tmp.txt", "bundle.out.list.txt")


def find(path: Path) -> Path | None:
    """The .out file in a path.

    Args:
        path: A file or a folder.

    Returns:
        The file, None where there is none that begins as Bundler's do.
    """
    if path.is_file():
        return path if path.suffix.lower() == ".out" and _is_bundlers(path) else None
    places = [path / "bundle.out", path / "bundle" / "bundle.out", *sorted(path.glob("*.out"))]
    return next((p for p in places if p.is_file() and _is_bundlers(p)), None)


def read(path: Path) -> Capture:
    """Read bundle.out and the list of photos beside it or in the folder above; without one, the photos in the order of
    their names.

    Args:
        path: The file.

    Returns:
        The capture, in Bundler's units.

    Raises:
        In2nError: "missing_file", "bad_capture" and what `build_capture` raises.
    """
    words = [w for line in read_text(path).splitlines() if not line.startswith("#") for w in line.split()]
    try:
        cameras, points = int(words[0]), int(words[1])
        if cameras < 0 or points < 0 or 15 * cameras + 2 > len(words):
            raise ValueError
    except (IndexError, ValueError):
        raise bad_file(path, "it does not hold as many cameras as it says") from None
    names = _names(path, cameras)
    search, masks, listed = PhotoSearch(*_folders(path)), {}, []
    for number, name in enumerate(names):
        photo = search.find(name)
        entry = _listed(name, photo, words[2 + 15 * number : 17 + 15 * number])
        if photo:
            entry["mask"] = masks.setdefault(photo.parent, MaskFinder(photo.parent)).find(photo)
        listed.append(ListedPhoto(**entry))
    project = path.parent.parent if path.parent.name == "bundle" else path.parent
    points, colors, tracks = _points(words, 2 + 15 * cameras, points, path)
    return build_capture(path, project, listed, points, colors, tracks=tracks)


def _is_bundlers(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(16).startswith(b"# Bundle file")
    except OSError:
        return False


def _folders(path: Path) -> tuple[Path, ...]:
    return (*usual_folders(path.parent), path.parent.parent)


def _names(path: Path, cameras: int) -> list[str]:
    for folder in (path.parent, path.parent.parent):
        for listed in (folder / name for name in LISTS):
            if listed.is_file():
                # name, and behind it what is known of the focal length: "img.jpg 0 660.8"
                rows = [line.rsplit(" 0 ", 1)[0].strip() for line in read_text(listed).splitlines() if line.strip()]
                if len(rows) != cameras:
                    raise bad_file(listed, f"it lists {len(rows)} photos, {path.name} {cameras}")
                return in_their_code_page(rows, lambda name: PhotoSearch(*_folders(path)).find(name) is not None)
    photos = next((found for found in map(photos_in, _folders(path)) if len(found) == cameras), None)
    if photos is None:
        raise In2nError(
            "missing_file",
            f"There is no list.txt beside {path}, which names its photos.",
            "Put Bundler's list.txt beside it.",
        )
    return sorted((photo.name for photo in photos), key=natural_order)


def _listed(name: str, photo: Path | None, words: list[str]) -> dict:
    entry = {"label": name, "photo": photo, "camera_to_world": None, "listed_size": None, "lens": Lens}
    try:
        values = np.array(words, np.float64)
        f, k1, k2 = values[:3].tolist()
    except ValueError:
        f, k1, k2, values = np.nan, 0.0, 0.0, np.full(15, np.nan)
    if not f > 0:
        reason = "Bundler found no pose for it." if f == 0 else "Its camera is not made of numbers."
        entry["problem"] = In2nError("bad_capture", reason, "Add photos that overlap with it.")
        return entry
    rotation = values[3:12].reshape(3, 3)
    entry["camera_to_world"] = pose(rotation.T, -rotation.T @ values[12:15])
    entry["lens"] = lambda w, h: _lens(f, k1, k2, w, h)
    return entry


def _lens(f: float, k1: float, k2: float, width: int, height: int) -> Lens:
    k = Intrinsics(width, height, f, f, width / 2, height / 2)
    return Lens("brown", k, (k1, k2)) if k1 or k2 else Lens("pinhole", k)


def _points(words: list[str], at: int, count: int, path: Path) -> tuple[np.ndarray, np.ndarray, Tracks]:
    """And of each, which cameras see it: behind its colour their number, then four words of each."""
    places, colors, seen = [], [], []
    try:
        for _ in range(count):
            places.append([float(w) for w in words[at : at + 3]])
            colors.append([float(w) for w in words[at + 3 : at + 6]])
            end = at + 7 + 4 * int(words[at + 6])
            seen.append([int(word) for word in words[at + 7 : end : 4]])
            at = end
        places, colors = np.array(places, np.float64).reshape(-1, 3), np.array(colors, np.float64).reshape(-1, 3)
        tracks = Tracks.of(seen)
    except (IndexError, ValueError, OverflowError):
        raise bad_file(path, "it does not hold as many points as it says") from None
    good = np.isfinite(places).all(1) & np.isfinite(colors).all(1)
    return places[good], np.clip(colors[good], 0, 255).astype(np.uint8), tracks.of_points(good)
