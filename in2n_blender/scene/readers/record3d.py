"""Record3D's metadata with rgb/ (its EXR + RGBD export, or what is in an .r3d), and Stray Scanner's folders.

Record3D's metadata: K column by column, w, h, and for each frame a pose (qx, qy, qz, qw, x, y, z), camera-to-world with
OpenGL's axes, y up (record3d.app, nerfstudio's process_data/record3d_utils.py). Its depth is in metres: floats of dw x
dh pixels, compressed, in rgbd/N.depth, with ARKit's confidence in N.conf, or depth/N.exr. Stray Scanner's odometry.csv:
timestamp, frame, x, y, z, qx, qy, qz, qw, camera-to-world with OpenCV's axes; camera_matrix.csv
(docs.strayrobots.io). Here z is up.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..camera import Intrinsics
from ..capture import Capture, DepthMap
from ..errors import In2nError
from ..lens import Lens
from .checks import photo_size, positive
from .contents import bad_file, load_json, load_table, numbers, read_text
from .finding import first_folder, photos_in
from .listing import ListedPhoto, build_capture, natural_order
from .masks import MaskFinder
from .polycam import Z_UP, arkit_depth
from .poses import from_opencv, pose, rotation_of

METADATA = ("metadata", "metadata.json")
PHOTOS = ("rgbd", "rgb", "images")
FRAMES = ("rgb", "images", "frames")
ODOMETRY, VIDEO = "odometry.csv", "rgb.mp4"
SUREST = 2  # of ARKit's confidence, which both write as 0, 1 or 2


def find(path: Path) -> Path | None:
    """The folder of a Record3D or Stray Scanner recording.

    Args:
        path: A file of it, or the folder.

    Returns:
        The metadata or odometry.csv, None where there is neither.
    """
    folder = path if path.is_dir() else path.parent
    if path.is_dir() or path.name in METADATA:
        for name in METADATA:
            if (folder / name).is_file() and _is_record3ds(folder / name):
                return folder / name
    if path.is_dir() or path.name in (ODOMETRY, "camera_matrix.csv"):
        if (folder / ODOMETRY).is_file() and (folder / "camera_matrix.csv").is_file():
            return folder / ODOMETRY
    return None


def video_of(path: Path) -> Path | None:
    """The video in which a Stray Scanner recording still has its photos.

    Args:
        path: The recording's folder, or a file of it.

    Returns:
        Its rgb.mp4; None where the photos lie beside it, or there is no such recording.
    """
    video = (path if path.is_dir() else path.parent) / VIDEO
    found = find(video.parent if path == video else path)
    if found is None or found.name != ODOMETRY or not video.is_file():
        return None
    return None if _photos_beside(found) else video


def read(path: Path, chosen: dict[int, Path] | None = None) -> Capture:
    """Read a recording.

    Args:
        path: As `find` returns it.
        chosen: Photos that were taken out of its video, by their number in it; the others are not listed.

    Returns:
        The capture in metres, z up.

    Raises:
        In2nError: "bad_json", "bad_capture", "no_photos" and what `build_capture` raises.
    """
    photos = list(chosen.values()) if chosen else _photos(path)
    if path.name == ODOMETRY:
        poses, lenses, size = _stray(path)
        depth_of = lambda number, photo: arkit_depth(path.parent, f"{number:06}", SUREST)
    else:
        table = load_json(path)
        poses, lenses, size = _record3d(table, path)
        depth_of = lambda number, photo: _depth(path.parent, photo, table)
    notes = ()
    if len(photos) != len(poses) and not chosen:
        notes = (
            f"{path.parent.name} has {len(photos)} photos and {len(poses)} poses; they are taken by their numbers.",
        )
    masks, listed = MaskFinder(photos[0].parent), []
    by_number = chosen or {int(photo.stem): photo for photo in photos if photo.stem.isdigit()}
    numbered = len(by_number) == len(photos)
    for number, matrix in enumerate(poses):
        if chosen and number not in chosen:
            continue
        photo = by_number.get(number) if numbered else photos[number] if number < len(photos) else None
        listed.append(
            ListedPhoto(
                photo.name if photo else f"{number}",
                photo,
                matrix,
                size,
                lambda w, h, k=lenses[number % len(lenses)]: _lens(w, h, k),
                mask=masks.find(photo) if photo else None,
                depth=depth_of(number, photo) if photo else None,
            )
        )
    return build_capture(path, path.parent, listed, np.zeros((0, 3)), np.zeros((0, 3), np.uint8), notes)


def _is_record3ds(path: Path) -> bool:
    try:
        table = load_json(path)
    except In2nError:
        return False
    return isinstance(table, dict) and {"K", "poses"} <= table.keys()


def _photos(path: Path) -> list[Path]:
    photos = _photos_beside(path)
    if photos:
        return sorted(photos, key=lambda photo: natural_order(photo.name))
    if (path.parent / VIDEO).is_file():
        raise In2nError(
            "no_photos",
            f"The photos of {path.parent} are still in {VIDEO}.",
            f"Import {VIDEO} as a video: the engine takes them out of it, and their cameras from {ODOMETRY}.",
        )
    raise In2nError("no_photos", f"There are no photos beside {path}.", "Put them into the folder rgb beside it.")


def _photos_beside(path: Path) -> list[Path]:
    folder = first_folder(path.parent / name for name in (FRAMES if path.name == ODOMETRY else PHOTOS))
    return [p for p in photos_in(folder) if ".depth" not in p.name and ".conf" not in p.name] if folder else []


def _lens(width: int, height: int, k: tuple[float, ...]) -> Lens:
    fx, fy = (positive(value, "The focal length", "the recording") for value in k[:2])
    return Lens("pinhole", Intrinsics(width, height, fx, fy, *k[2:]))


def _depth(folder: Path, photo: Path, table: dict) -> DepthMap | None:
    """What was measured with a photo: compressed floats beside it, or an EXR in depth/."""
    of_picture = folder / "depth" / f"{photo.stem}.exr"
    if of_picture.is_file():
        return DepthMap(of_picture, 1.0)
    confidence, shape = photo.with_suffix(".conf"), None
    for width, height in (("dw", "dh"), ("w", "h")):
        if shape is None and width in table and height in table:
            shape = photo_size(table[width], table[height], "The depth")
    confidence = confidence if confidence.is_file() else None
    return DepthMap(photo.with_suffix(".depth"), 1.0, confidence, SUREST, shape) if shape else None


def _record3d(table: dict, path: Path) -> tuple[list, list[tuple[float, ...]], tuple[int, int] | None]:
    """Poses, (fx, fy, cx, cy) of each frame or of all of them, and the photos' size."""
    k = numbers(table.get("K"), 9, "K", path.name).reshape(3, 3).T
    if not isinstance(table.get("poses"), list):
        raise bad_file(path, "it has no list of poses")
    size = None
    if "w" in table and "h" in table:
        size = photo_size(table["w"], table["h"], path.name)
    poses = [_pose(row, False) for row in table["poses"]]
    own = table.get("perFrameIntrinsicCoeffs")
    if isinstance(own, list) and len(own) == len(poses) > 0:
        return poses, [tuple(numbers(one, 4, "perFrameIntrinsicCoeffs", path.name).tolist()) for one in own], size
    return poses, [(k[0, 0], k[1, 1], k[0, 2], k[1, 2])], size


def _stray(path: Path) -> tuple[list, list[tuple[float, ...]], None]:
    k = numbers(read_text(path.with_name("camera_matrix.csv")), 9, "camera_matrix.csv", path.parent.name).reshape(3, 3)
    rows = load_table(path)[1:]
    order = (5, 6, 7, 8, 2, 3, 4)
    poses = [_pose([row[i] for i in order] if len(row) >= 9 else None, True) for row in rows]
    return poses, [(k[0, 0], k[1, 1], k[0, 2], k[1, 2])], None


def _pose(row: object, opencv: bool) -> np.ndarray:
    """From (qx, qy, qz, qw, x, y, z); NaN, which the check of the pose reports, where it is not that."""
    try:
        x, y, z, w, *position = np.array(row, np.float64).reshape(7)
    except (TypeError, ValueError, OverflowError):
        return np.full((4, 4), np.nan)
    matrix = pose(rotation_of([w, x, y, z]), np.array(position))
    return Z_UP @ (from_opencv(matrix) if opencv else matrix)
