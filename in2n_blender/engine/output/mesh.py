"""A mesh of the density with colours from the field, in the capture's coordinates."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from ...link.requests import ExtractMesh
from ...scene.errors import In2nError
from ...scene.reporting import Reporter
from ...workspace.files import atomic_path, read_json, write_json
from ...workspace.hashes import scene_hash
from ...workspace.layout import ORIGINAL, Workspace
from ...workspace.provenance import PHOTOS, SCENE, Provenance, is_done, photos_hash, result_folder
from ..device import describe_device
from ..nerf.scene import load_scene
from ..pictures import to_bytes
from .glb import glb_bytes
from .surface import ColoredMesh, mesh_of_scene


def extract_mesh(request: ExtractMesh, report: Reporter) -> dict:
    """Marching cubes of an edit's or the reconstruction's density, to meshes/<edit>.ply and .glb; a quick one to
    meshes/quick/<edit>.ply alone.

    A mesh of the same scene and resolution that is there is not made again.

    Args:
        request: Which edit (None: the reconstruction), and the grid's resolution.
        report: Told how far it is, and asked whether the job was cancelled.

    Returns:
        {"ply", "glb", "vertices", "faces", "threshold", "seconds", "device", "finished", "offset"}, glb: of no quick
        one, finished: whether the scene was computed to its end, offset: what the vertices are relative to, in the
        capture's own coordinates. The same, with what it was made from, is beside the file as JSON.

    Raises:
        In2nError: "empty_mesh" where nothing is dense, "not_ours" where a mesh that no job of ours made has its name.
        Cancelled: An earlier mesh is as it was.
    """
    started = time.monotonic()
    workspace = Workspace(request.workspace)
    kinds = ("ply",) if request.quick else ("ply", "glb")
    files = {kind: workspace.mesh(request.edit, f".{kind}", request.quick) for kind in kinds}
    record_file = workspace.mesh(request.edit, ".json", request.quick)
    made_from = _provenance(workspace, request)
    record = _record(record_file)
    paths = {kind: str(path) for kind, path in files.items()}
    if record.get("provenance") == made_from.to_json() and all(path.is_file() for path in files.values()):
        done = {key: value for key, value in record.items() if key not in ("provenance", "resolution")}
        for path in files.values():
            report.artifact("mesh", path)
        return {**paths, **done, "finished": is_done(workspace, request.edit)}
    _refuse_foreign(record_file, list(files.values()))
    scene = load_scene(workspace, request.edit, request.device)
    mesh, threshold = mesh_of_scene(scene, request.resolution, report)
    write_json(record_file, {"resolution": request.resolution})  # of no scene, until all files are
    write_ply(files["ply"], mesh)
    if "glb" in files:
        write_glb(files["glb"], mesh, request.edit or ORIGINAL)
    result = {
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
        "threshold": threshold,
        "seconds": round(time.monotonic() - started, 3),
        "device": describe_device(scene.device),
        "finished": is_done(workspace, request.edit),
        "offset": scene.capture.offset.tolist(),
    }
    write_json(record_file, {"resolution": request.resolution, **result, "provenance": made_from.to_json()})
    for path in files.values():
        report.artifact("mesh", path)
    return {**paths, **result}


def is_of_scene(workspace: Workspace, edit: str | None) -> bool:
    """Whether a mesh is there and of its scene as that now is.

    Args:
        workspace: Where both are.
        edit: The edit's name; None: the reconstruction.

    Returns:
        False, too, where its record cannot be read or no GLB file is beside it.

    Raises:
        In2nError: "bad_name".
        OSError: The checkpoint cannot be read.
    """
    made = Provenance.from_json(_record(workspace.mesh(edit, ".json")).get("provenance"))
    there = workspace.mesh(edit, ".glb").is_file()
    return there and made is not None and made.inputs.get(SCENE) == scene_hash(result_folder(workspace, edit))


def _provenance(workspace: Workspace, request: ExtractMesh) -> Provenance:
    """The photos' cameras and points bound the grid and find its threshold; the vertices are relative to the offset."""
    offset = _record(workspace.capture_json).get("offset", [0.0, 0.0, 0.0])
    inputs = {SCENE: scene_hash(result_folder(workspace, request.edit)), PHOTOS: photos_hash(workspace)}
    return Provenance("mesh", {"resolution": request.resolution, "offset": offset}, inputs)


def _record(file: Path) -> dict:
    try:
        found = read_json(file)
    except In2nError:
        return {}
    return found if isinstance(found, dict) else {}


def _refuse_foreign(record_file: Path, files: list[Path]) -> None:
    """Raises In2nError("not_ours") for a mesh without the record that every mesh of ours has."""
    found = next((file for file in files if file.exists()), None)
    if found is not None and not record_file.exists():
        raise In2nError(
            "not_ours",
            f"{found} was not made by this program and would be overwritten.",
            "Move it away, then extract the mesh again.",
        )


def write_ply(path: Path, mesh: ColoredMesh) -> None:
    """Write a mesh as binary PLY, with normals and 8-bit sRGB vertex colours.

    Args:
        path: The file; replaced whole.
        mesh: In capture coordinates, as it is written.

    Raises:
        In2nError: "disk_full", "cannot_write".
    """
    import trimesh

    colors = np.column_stack([to_bytes(mesh.colors_srgb), np.full(len(mesh.vertices), 255, np.uint8)])
    solid = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_normals=mesh.normals, vertex_colors=colors, process=False)
    with atomic_path(path) as temporary:
        temporary.write_bytes(solid.export(file_type="ply", vertex_normal=True))


def write_glb(path: Path, mesh: ColoredMesh, name: str) -> None:
    """Write a mesh as binary glTF with vertex colours.

    Args:
        path: The file; replaced whole.
        mesh: In capture coordinates; y is up in the file, the capture's z up again in Blender.
        name: What Blender calls it.

    Raises:
        In2nError: "disk_full", "cannot_write".
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(glb_bytes(mesh.vertices, mesh.normals, mesh.colors_srgb, mesh.faces, name))
