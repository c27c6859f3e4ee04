"""Meshes read from the engine's files by Blender's own importers: with colours of vertices, or with a texture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bpy
import numpy as np

from ..scene.errors import In2nError
from ..workspace.layout import Workspace
from . import look, pictures
from .look import COLOR_ATTRIBUTE


def file_of(workspace: Workspace, edit: str | None) -> Path:
    """The file that Blender shows of an edit's mesh: the textured one where there is one.

    Args:
        workspace: Whose mesh it is.
        edit: The edit's name, or None for the reconstruction.

    Returns:
        The file, there or not.

    Raises:
        In2nError: "bad_name".
    """
    textured = "textured_faces" in pictures.read(workspace.mesh(edit, ".json"))
    file = workspace.mesh(edit, ".glb" if textured else ".ply")
    return file if file.is_file() else workspace.mesh(edit, ".ply")


def read_mesh(context, file: Path):
    """A mesh as a datablock, with a material of its colours.

    Blender's importers work on the active scene and change its selection and mode, so they get a scene of their own.

    Args:
        context: Blender's.
        file: A .ply with vertex colours, or a .glb with a texture.

    Returns:
        The mesh, in the file's coordinates with z up.

    Raises:
        In2nError: "missing_file", "bad_mesh".
    """
    if not Path(file).is_file():
        raise In2nError("missing_file", f"{file} does not exist.", "Extract the mesh again.")
    with _imported(context, file) as found:
        data = found.data
        data.transform(found.matrix_world)
    image = _texture_of(data)
    made_by_importer = [material for material in data.materials if material is not None]
    data.materials.clear()
    for material in made_by_importer:
        bpy.data.materials.remove(material)
    if image is not None:
        _paint(data, image)
    elif COLOR_ATTRIBUTE not in data.color_attributes and len(data.color_attributes):
        data.color_attributes[0].name = COLOR_ATTRIBUTE  # glTF's
    data.materials.append(look.texture_material(image) if image is not None else look.vertex_color_material())
    if COLOR_ATTRIBUTE in data.color_attributes:
        data.color_attributes.active_color = data.color_attributes[COLOR_ATTRIBUTE]
        data.color_attributes.render_color_index = data.color_attributes.active_color_index
    return data


@contextmanager
def _imported(context, file: Path) -> Iterator:
    """The mesh object that an importer makes of a file; all that it makes but the mesh's data goes again."""
    scene = bpy.data.scenes.new("IN2N import")
    before = {kind: set(getattr(bpy.data, kind)) for kind in ("objects", "collections")}
    try:
        with context.temp_override(scene=scene, view_layer=scene.view_layers[0], collection=scene.collection):
            _read(file)
        scene.view_layers[0].update()
        made = [found for found in bpy.data.objects if found not in before["objects"]]
        found = next((o for o in made if o.type == "MESH"), None)
        if found is None:
            raise In2nError("bad_mesh", f"{file} could not be read as a mesh.", "Extract the mesh again.")
        yield found
    finally:
        for kind, known in before.items():
            bpy.data.batch_remove([found for found in getattr(bpy.data, kind) if found not in known])
        bpy.data.scenes.remove(scene)


def _read(file: Path) -> None:
    try:
        if file.suffix.lower() == ".glb":
            bpy.ops.import_scene.gltf(filepath=str(file), import_pack_images=True, merge_vertices=False)
        else:
            bpy.ops.wm.ply_import(filepath=str(file), forward_axis="Y", up_axis="Z", import_colors="SRGB")
    except RuntimeError as error:  # what an operator reports as an error
        reason = str(error).strip().splitlines()[-1]
        raise In2nError("bad_mesh", f"{file} could not be read ({reason}).", "Extract the mesh again.") from None


def _texture_of(data):
    trees = [material.node_tree for material in data.materials if material is not None and material.node_tree]
    return next((n.image for tree in trees for n in tree.nodes if n.type == "TEX_IMAGE" and n.image), None)


def _paint(data, image) -> None:
    """Give the mesh's corners the texture's colours, which Solid shading shows where it shows those of vertices."""
    width, height = image.size
    if not data.uv_layers or not width or not height:
        return
    pixels = np.zeros(width * height * 4, np.float32)
    image.pixels.foreach_get(pixels)
    places = np.zeros(2 * len(data.loops), np.float32)
    data.uv_layers[0].data.foreach_get("uv", places)
    x, y = (np.clip(places.reshape(-1, 2) * (width, height), 0, (width - 1, height - 1)).astype(np.int64)).T
    attribute = data.color_attributes.new(COLOR_ATTRIBUTE, "BYTE_COLOR", "CORNER")
    attribute.data.foreach_set("color_srgb", pixels.reshape(height, width, 4)[y, x].ravel())
