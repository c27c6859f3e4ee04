"""What was made of an edit and can be taken out of Blender: its mesh, its splats, its dataset. What a panel tells of
each is looked up so cheaply that it can be at every redraw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bpy.app.translations import pgettext_iface as iface

from ..workspace.layout import ORIGINAL, Workspace
from ..workspace.provenance import PHOTOS, SCENE, Provenance
from . import mesh_files, pictures, results

MESH, COLLISION, SPLATS, DATASET = KINDS = ("MESH", "COLLISION", "SPLATS", "DATASET")
ITEMS = (
    (MESH, "Mesh", "The mesh that was extracted", "MESH_DATA", 0),
    (COLLISION, "Collision Mesh", "The closed mesh of few faces beside it", "MOD_PHYSICS", 1),
    (SPLATS, "Splats", "The Gaussian splats that were made", "POINTCLOUD_DATA", 2),
    (DATASET, "Dataset", "The pictures with their cameras, for other trainers", "IMAGE_DATA", 3),
)
DATASET_RECORD = "dataset.json"


@dataclass(frozen=True)
class Output:
    """Something that was made of an edit, or of the reconstruction.

    Attributes:
        kind: One of KINDS.
        edit: The edit's name; None: the reconstruction.
        file: What Blender reads of it; of a dataset what describes it.
        folder: Where it lies.
        size: Bytes.
        parts: How many faces, splats or pictures it has; None where nobody noted.
        picture: What it looks like, or a photo of what it shows; None where there is no picture.
        outdated: Whether it was made from an earlier state of the scene.
    """

    kind: str
    edit: str | None
    file: Path
    folder: Path
    size: int
    parts: int | None
    picture: Path | None
    outdated: bool

    def described(self) -> str:
        """What a row tells of it, short enough for the sidebar: how many parts it has, and how large its files are."""
        counted = {MESH: "{count} faces", SPLATS: "{count} splats", DATASET: "{count} pictures"}
        if self.parts is None or self.kind not in counted:
            what = iface(next(label for kind, label, *_ in ITEMS if kind == self.kind))
        else:
            what = iface(counted[self.kind]).format(count=f"{self.parts:,}")
        return f"{what} · {spoken_size(self.size)}"


def of_edit(workspace: Workspace, edit: str | None) -> list[Output]:
    """All that was made of an edit.

    Args:
        workspace: Where it lies.
        edit: The edit's name; None: the reconstruction.

    Returns:
        At most one of each kind, in the order of KINDS.
    """
    found = (_mesh(workspace, edit), _collision(workspace, edit), _splats(workspace, edit), _dataset(workspace, edit))
    return [output for output in found if output is not None]


def find(workspace: Workspace, edit: str | None, kind: str) -> Output | None:
    """One of the outputs of an edit.

    Args:
        workspace: Where it lies.
        edit: The edit's name; None: the reconstruction.
        kind: One of KINDS.
    """
    return next((output for output in of_edit(workspace, edit) if output.kind == kind), None)


def spoken_size(size: int) -> str:
    """A number of bytes in words: "812 KB", "4.1 MB", "1.2 GB"."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{max(size // 1000, 1)} KB"


def _mesh(workspace: Workspace, edit: str | None) -> Output | None:
    file = mesh_files.file_of(workspace, edit)
    parts = "textured_faces" if file.suffix == ".glb" else "faces"
    return _of_files(MESH, edit, workspace, file, (".ply", ".glb"), parts) if file.is_file() else None


def _collision(workspace: Workspace, edit: str | None) -> Output | None:
    file, mesh = workspace.collision_mesh(edit), _mesh(workspace, edit)
    if not file.is_file() or mesh is None:
        return None
    return Output(COLLISION, edit, file, file.parent, _size(file), None, None, mesh.outdated)


def _splats(workspace: Workspace, edit: str | None) -> Output | None:
    file = workspace.splats(edit, ".ply")
    return _of_files(SPLATS, edit, workspace, file, (".ply", ".spz"), "splats") if file.is_file() else None


def _of_files(kind: str, edit: str | None, workspace: Workspace, file: Path, suffixes, parts: str) -> Output:
    record = pictures.read(file.with_suffix(".json"))
    made = Provenance.from_json(record.get("provenance"))
    outdated = made is not None and results.is_of_another_scene(workspace, edit, made.inputs.get(SCENE))
    size = sum(_size(file.with_suffix(suffix)) for suffix in suffixes)
    picture = _picture(file) or _photo_of(workspace, edit)
    return Output(kind, edit, file, file.parent, size, _count(record, parts), picture, outdated)


def _dataset(workspace: Workspace, edit: str | None) -> Output | None:
    folder = workspace.dataset(edit)
    record = pictures.read(folder / DATASET_RECORD)
    if not record:
        return None
    names = [name for name in record.get("files") or () if isinstance(name, str) and name.startswith("images/")]
    picture = folder / names[0] if names and (folder / names[0]).is_file() else None
    size = _count(record, "bytes") or 0
    outdated = _is_dataset_outdated(workspace, edit, record)
    return Output(DATASET, edit, folder / DATASET_RECORD, folder, size, _count(record, "views"), picture, outdated)


def _is_dataset_outdated(workspace: Workspace, edit: str | None, record: dict) -> bool:
    made = Provenance.from_json(record.get("provenance"))
    if made is None:
        return False
    if edit is not None:
        return results.is_of_another_scene(workspace, edit, made.inputs.get(SCENE))
    now = pictures.read(workspace.root / ".photos.json").get("hash")
    return bool(now and made.inputs.get(PHOTOS) and now != made.inputs[PHOTOS])


def _picture(file: Path) -> Path | None:
    found = file.with_suffix(".png")
    return found if found.is_file() else None


def _photo_of(workspace: Workspace, edit: str | None) -> Path | None:
    """A photo, as the edit has it."""
    views = pictures.read(workspace.capture_json).get("views") or [{}]
    first = views[0] if isinstance(views[0], dict) else {}
    name, image = first.get("name"), first.get("image")
    edited = workspace.edit(edit) / "dataset" / f"{name}.png" if edit else None
    files = (edited, workspace.root / image if isinstance(image, str) else None)
    return next((file for file in files if file is not None and file.is_file()), None)


def _count(record: dict, key: str) -> int | None:
    value = record.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def name_of(edit: str | None) -> str:
    """What an edit, or the reconstruction, is called in operators' arguments."""
    return edit or ORIGINAL
