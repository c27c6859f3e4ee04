"""RealityScan, formerly RealityCapture: its camera table (.csv), or the .xmp beside each photo.

The table, "Internal/External camera parameters", has the columns #name, x, y, alt, heading, pitch, roll, f, px, py, k1,
k2, k3, k4, t1, t2; the .xmp holds the same with a rotation matrix, which is world-to-camera with OpenCV's axes, row by
row. f is in millimetres of a 36 mm film along the longer side of the photo, px and py are parts of that side, and the
world has z up (RealityCapture's "XMP Camera Math"; nerfstudio's process_data/realitycapture_utils.py for the table). t1
and t2 are OpenCV's p2 and p1: its own OpenCV export writes k1, k2, t2, t1, k3, k4. Whether the division model counts
radii in focal lengths or in parts of the photo is not told anywhere, so it is refused; a table does not say the model.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..camera import Intrinsics
from ..capture import Capture
from ..errors import In2nError
from ..lens import Lens
from . import ply
from .checks import finite, positive
from .contents import load_table, load_xml, numbers
from .finding import PhotoSearch, usual_folders
from .listing import ListedPhoto, build_capture
from .masks import MaskFinder
from .poses import from_world_to_camera, pose

COLUMNS = ("x", "y", "alt", "heading", "pitch", "roll", "f")
FILM = 36.0  # millimetres
# models of another kind than the second count where they bend nothing, as those of cut panoramas do
DIVISION, BROWN = "division", "brown"
BENDS = ("k1", "k2", "k3", "k4", "t1", "t2")
ALIGN_AGAIN = "Set Distortion Model to Brown3 in RealityScan's alignment settings, align once more and export again."
K1_ALONE = (
    "The table does not say its lens model. If that is Division, as k1 alone suggests, photos bend too much or too "
    "little towards their edges: align once more with Brown3."
)
_XCR = "{http://www.capturingreality.com/ns/xcr/1.1#}"
_PHOTOS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp")


def find(path: Path) -> Path | None:
    """The camera table in a path, or the folder of photos with an .xmp each.

    Args:
        path: A file or a folder.

    Returns:
        The .csv, or the folder of the .xmp files; None where there is neither.
    """
    if path.is_file():
        if path.suffix.lower() == ".xmp":
            return path.parent if _is_xmp(path) else None
        return path if _is_table(path) else None
    table = next((p for p in sorted(path.glob("*.csv")) if _is_table(p)), None)
    if table:
        return table
    return next((p for p in (path, path / "images") if any(_is_xmp(x) for x in sorted(p.glob("*.xmp"))[:20])), None)


def read(path: Path) -> Capture:
    """Read a camera table, or the .xmp files of a folder; a .ply beside them becomes the sparse points.

    Args:
        path: What `find` returned.

    Returns:
        The capture, z up, in the project's units.

    Raises:
        In2nError: "missing_file", "bad_capture", "bad_points" and what `build_capture` raises.
    """
    folder = path if path.is_dir() else path.parent
    listed, notes = (_from_xmp(path), ()) if path.is_dir() else _from_table(path)
    plys = sorted(folder.glob("*.ply"))
    points = ply.read_points(plys[0]) if len(plys) == 1 else (np.zeros((0, 3)), np.zeros((0, 3), np.uint8))
    return build_capture(path, folder, listed, *points, notes)


def _is_table(path: Path) -> bool:
    if path.suffix.lower() != ".csv":
        return False
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            header = file.readline(4096).lower().replace(" ", "").strip().split(",")
    except OSError:
        return False
    return header[0] in ("#name", "name") and set(COLUMNS) <= set(header)


def _is_xmp(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return b"capturingreality" in file.read(4096)
    except OSError:
        return False


def _from_table(path: Path) -> tuple[list[ListedPhoto], tuple[str, ...]]:
    head, *rows = load_table(path)
    names = [name.lower().lstrip("#") for name in head]
    search, masks, listed = PhotoSearch(*usual_folders(path.parent)), {}, []
    for number, row in enumerate(rows, 1):
        row = dict(zip(names, row))
        label = row.get("name") or f"row {number}"
        photo = search.find(label)
        entry = _guarded(label, photo, lambda row=row, label=label: _table_pose(row, label))
        entry["lens"] = lambda w, h, row=row, label=label: _lens(row, w, h, label)
        if photo:
            entry["mask"] = masks.setdefault(photo.parent, MaskFinder(photo.parent)).find(photo)
        listed.append(ListedPhoto(**entry))
    rows = [dict(zip(names, row)) for row in rows]
    notes = (K1_ALONE,) if rows and all(map(_has_k1_alone, rows)) else ()
    return listed, notes


def _has_k1_alone(row: dict) -> bool:
    """As the division model has, and no Brown model that was solved for."""
    try:
        k1, *others = (float(row.get(key) or 0) for key in BENDS)
    except ValueError:
        return False
    return bool(k1) and not any(others)


def _guarded(label: str, photo: Path | None, made) -> dict:
    """The entry of a photo whose pose may be what is wrong with it."""
    entry = {"label": label, "photo": photo, "camera_to_world": None, "listed_size": None, "lens": Lens}
    try:
        entry["camera_to_world"] = made()
    except In2nError as error:
        entry["problem"] = error
    return entry


def _table_pose(row: dict, label: str) -> np.ndarray:
    """Heading clockwise from north, pitch and roll of a camera that looks down where they are 0; degrees."""
    x, y, z, heading, pitch, roll = (finite(row.get(key), key, label) for key in COLUMNS[:6])
    (sh, sp, sr), (ch, cp, cr) = (f(np.radians([-heading, pitch, roll])) for f in (np.sin, np.cos))
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_y = np.array([[cr, 0, sr], [0, 1, 0], [-sr, 0, cr]])
    about_z = np.array([[ch, -sh, 0], [sh, ch, 0], [0, 0, 1]])
    return pose(about_z @ about_x @ about_y, np.array([x, y, z]))


def _lens(row: dict, width: int, height: int, label: str) -> Lens:
    longer, value = max(width, height), lambda key: finite(row.get(key) or 0, key, label)
    focal = positive(row.get("f"), "f", label) * longer / FILM
    aspect = positive(row.get("aspect") or 1, "The aspect ratio", label)
    k = Intrinsics(
        width, height, focal, focal * aspect, width / 2 + value("px") * longer, height / 2 + value("py") * longer
    )
    bent = tuple(value(key) for key in ("k1", "k2", "t2", "t1", "k3", "k4"))
    lens = Lens("brown", k, (*bent, finite(row.get("skew") or 0, "The skew", label) * longer / FILM / focal))
    return Lens("pinhole", k) if lens.is_pinhole else lens


def _from_xmp(folder: Path) -> list[ListedPhoto]:
    files = {p.stem.lower(): p for p in sorted(folder.glob("*.xmp")) if _is_xmp(p)}
    photos = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in _PHOTOS]
    masks, listed = MaskFinder(folder), []
    of_photo = {p.stem.lower(): p for p in photos}
    for stem, file in files.items():
        photo = of_photo.get(stem)
        label, values = (photo or file).name, {}
        entry = _guarded(label, photo, lambda file=file, label=label, values=values: _xmp_pose(file, label, values))
        entry["lens"] = lambda w, h, values=values, label=label: _lens(values, w, h, label)
        entry["mask"] = masks.find(photo) if photo else None
        listed.append(ListedPhoto(**entry))
    return listed


def _xmp_pose(file: Path, label: str, values: dict) -> np.ndarray:
    """The pose, and into `values` what `_lens` takes, by the table's names."""
    root = load_xml(file)
    held = {}
    for element in root.iter():
        held |= {key: value for key, value in element.attrib.items() if key.startswith(_XCR)}
        if element.tag.startswith(_XCR):
            held[element.tag] = element.text
    get = lambda name: held.get(_XCR + name)
    if not get("Rotation") or not get("Position"):
        raise In2nError("bad_capture", f"{file.name} holds no pose.", "Export the metadata again with its poses.")
    model = (get("DistortionModel") or "perspective").lower()
    bent = np.zeros(6)
    if model != "perspective" and get("DistortionCoeficients"):
        bent = numbers(get("DistortionCoeficients"), 6, "DistortionCoeficients", label)
    if bent.any() and not model.startswith(BROWN):
        known = "cannot be told exactly" if model == DIVISION else "is not known"
        raise In2nError("unknown_camera_model", f"What the lens model “{model}” of {label} does {known}.", ALIGN_AGAIN)
    values.update(zip(BENDS, bent))
    values.update(f=get("FocalLength35mm"), px=get("PrincipalPointU"), py=get("PrincipalPointV"))
    values.update(aspect=get("AspectRatio"), skew=get("Skew"))
    rotation = numbers(get("Rotation"), 9, "Rotation", label).reshape(3, 3)
    return from_world_to_camera(rotation, -rotation @ numbers(get("Position"), 3, "Position", label))
