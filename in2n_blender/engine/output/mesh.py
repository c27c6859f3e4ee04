"""A scene's mesh as files: with vertex colours, with a texture, and closed for collisions."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from ...link.requests import ExtractMesh
from ...scene.readers.regions import read_region
from ...scene.region import Region
from ...scene.reporting import Reporter
from ...workspace.files import atomic_path, write_json
from ...workspace.hashes import scene_hash
from ...workspace.layout import ORIGINAL, Workspace
from ...workspace.provenance import PHOTOS, SCENE, Provenance, is_done, photos_hash, result_folder
from ..device import describe_device
from ..nerf.scene import Scene, load_scene
from ..pictures import png_bytes, save_srgb, to_bytes
from .glb import colored_glb, textured_glb
from .mesh_picture import picture_of_mesh
from .meshing import MeshOfScene, MeshSettings, fewer_faces, mesh_of_scene
from .records import record_of, refuse_foreign
from .surface import ColoredMesh, Surface
from .texture import textured

SURFACE_VERSION = 2  # how the surface is found: 1 was the density's isosurface


def extract_mesh(request: ExtractMesh, report: Reporter) -> dict:
    """The surface of an edit or the reconstruction: to meshes/<edit>.ply with vertex colours, to .glb with a texture,
    and to meshes/collision/<edit>.glb where that is wanted, with a picture of it; a quick one to
    meshes/quick/<edit>.ply alone.

    A mesh of the same scene and settings that is there is not made again.

    Args:
        request: Which edit (None: the reconstruction), and how the mesh is made.
        report: Told how far it is, and asked whether the job was cancelled.

    Returns:
        {"ply", "glb", "collision", "vertices", "faces", "textured_faces", "threshold", "watertight", "seconds",
        "device", "finished", "offset"}, glb: of no quick one, collision: where it is wanted, textured_faces: where
        there is a texture, finished: whether the scene was computed to its end, offset: what the vertices are relative
        to, in the capture's own coordinates. The same, with what it was made from, is beside the file as JSON.

    Raises:
        In2nError: "empty_mesh" where nothing is dense, "not_ours" where a mesh that no job of ours made has its name,
            and as `read_region`.
        Cancelled: An earlier mesh is as it was.
    """
    started = time.monotonic()
    workspace = Workspace(request.workspace)
    files = _files(workspace, request)
    record_file = workspace.mesh(request.edit, ".json", request.quick)
    keep = None if request.keep is None else read_region(request.keep)
    made_from = _provenance(workspace, request, keep)
    record = record_of(record_file)
    paths = {kind: str(path) for kind, path in files.items()}
    if record.get("provenance") == made_from.to_json() and all(path.is_file() for path in files.values()):
        done = {key: value for key, value in record.items() if key not in ("provenance", "resolution")}
        for path in files.values():
            report.artifact("mesh", path)
        return {**paths, **done, "finished": is_done(workspace, request.edit)}
    picture = None if request.quick else workspace.mesh(request.edit, ".png")
    refuse_foreign(record_file, [*files.values(), *([picture] if picture else [])], "extract the mesh again")
    scene = load_scene(workspace, request.edit, request.device)
    settings = MeshSettings(
        request.resolution, request.faces, request.watertight, keep, request.quick, request.collision_faces
    )
    made = mesh_of_scene(scene, settings, report)
    contents = _contents(scene, made, request, report)
    write_json(record_file, {"resolution": request.resolution})  # of no scene, until all files are
    for kind, content in contents.items():
        with atomic_path(files[kind]) as temporary:
            temporary.write_bytes(content)
    if picture:
        save_srgb(picture, picture_of_mesh(made.mesh, [view.camera for view in scene.capture.training_views]))
    result = {
        "vertices": len(made.mesh.vertices),
        "faces": len(made.mesh.faces),
        **({"textured_faces": min(request.textured_faces, len(made.mesh.faces))} if _is_textured(request) else {}),
        "threshold": made.threshold,
        "watertight": request.watertight,
        "seconds": round(time.monotonic() - started, 3),
        "device": describe_device(scene.device),
        "finished": is_done(workspace, request.edit),
        "offset": scene.capture.offset.tolist(),
    }
    write_json(record_file, {"resolution": request.resolution, **result, "provenance": made_from.to_json()})
    for path in files.values():
        report.artifact("mesh", path)
    return {**paths, **result}


def _is_textured(request: ExtractMesh) -> bool:
    return bool(request.texture) and not request.quick


def _files(workspace: Workspace, request: ExtractMesh) -> dict[str, Path]:
    files = {"ply": workspace.mesh(request.edit, ".ply", request.quick)}
    if not request.quick:
        files["glb"] = workspace.mesh(request.edit, ".glb")
        if request.collision_faces:
            files["collision"] = workspace.collision_mesh(request.edit)
    return files


def _contents(scene: Scene, made: MeshOfScene, request: ExtractMesh, report: Reporter) -> dict[str, bytes]:
    """What each file holds."""
    name, mesh = request.edit or ORIGINAL, made.mesh
    contents = {"ply": ply_bytes(mesh)}
    if request.quick:
        return contents
    if request.texture:
        surface = Surface.of(*fewer_faces(mesh.vertices, mesh.faces, request.textured_faces, request.watertight))
        report.check()
        painted = textured(scene, surface, request.texture, made.voxel, made.views, report)
        contents["glb"] = textured_glb(painted.surface, painted.uvs, png_bytes(painted.texture_srgb), name)
    else:
        contents["glb"] = colored_glb(mesh, mesh.colors_srgb, name)
    if made.collision is not None:
        contents["collision"] = colored_glb(made.collision, made.collision.colors_srgb, f"{name} collision")
    return contents


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
    made = Provenance.from_json(record_of(workspace.mesh(edit, ".json")).get("provenance"))
    there = workspace.mesh(edit, ".glb").is_file()
    return there and made is not None and made.inputs.get(SCENE) == scene_hash(result_folder(workspace, edit))


def _provenance(workspace: Workspace, request: ExtractMesh, keep: Region | None) -> Provenance:
    """The photos' cameras and points bound the grid and find its threshold; the vertices are relative to the offset."""
    offset = record_of(workspace.capture_json).get("offset", [0.0, 0.0, 0.0])
    inputs = {SCENE: scene_hash(result_folder(workspace, request.edit)), PHOTOS: photos_hash(workspace)}
    settings = {"resolution": request.resolution, "offset": offset, "keep": None if keep is None else keep.hash}
    if not request.quick:
        names = ("watertight", "faces", "texture", "textured_faces", "collision_faces")
        settings |= {"surface": SURFACE_VERSION, **{name: getattr(request, name) for name in names}}
    return Provenance("mesh", settings, inputs)


def ply_bytes(mesh: ColoredMesh) -> bytes:
    """A mesh as a binary PLY file, with normals and 8-bit sRGB vertex colours.

    Args:
        mesh: In capture coordinates, as it is written.

    Returns:
        The file's content.
    """
    import trimesh

    colors = np.column_stack([to_bytes(mesh.colors_srgb), np.full(len(mesh.vertices), 255, np.uint8)])
    solid = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_normals=mesh.normals, vertex_colors=colors, process=False)
    return solid.export(file_type="ply", vertex_normal=True)
