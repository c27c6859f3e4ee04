"""What leaves the scene from Blender: a row for each output, and files that measure elsewhere what it measures here."""

import gzip
import json
import os
import struct

import bpy
import numpy as np
import pytest
from mathutils import Matrix, Vector
from panel_reader import Read
from PIL import Image

from in2n_blender.blender import compat, exporting, outputs, panels, results, scene_state, splats, workspaces
from in2n_blender.scene.readers.regions import read_region
from in2n_blender.scene.splats import C0, read_splats
from in2n_blender.workspace import edits
from in2n_blender.workspace.files import write_json
from in2n_blender.workspace.layout import Workspace
from in2n_blender.workspace.provenance import Provenance
from tests.scene.splat_files import columns_of, write_splats

SIDE = 0.5  # of the cube in the mesh, in the capture's units
QUADS = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
TRIANGLES = [(a, *pair) for a, b, c, d in QUADS for pair in ((b, c), (c, d))]


def write_cube(file) -> None:
    """A cube from the origin, its corners red but for one that is green."""
    corners = [(x * SIDE, y * SIDE, z * SIDE) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    rows = [f"{x} {y} {z} {'0 255 0' if i == 7 else '255 0 0'}" for i, (x, y, z) in enumerate(corners)]
    head = ["ply", "format ascii 1.0", f"element vertex {len(rows)}", *(f"property float {axis}" for axis in "xyz")]
    head += [f"property uchar {color}" for color in ("red", "green", "blue")]
    head += [f"element face {len(TRIANGLES)}", "property list uchar int vertex_indices", "end_header"]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([*head, *rows, *(f"3 {a} {b} {c}" for a, b, c in TRIANGLES), ""]))


@pytest.fixture
def made(reconstructed, imported, scene) -> Workspace:
    """The reconstruction with a mesh, and a finished edit "snow" with a mesh and a dataset."""
    workspace = reconstructed
    write_json(workspace.reconstruction / "state.json", {"done": True, "weights": "w0"})
    write_json(workspace.edit("snow") / "edit.json", {"name": "snow", "instruction": "Make it snow"})
    write_json(workspace.edit("snow") / "state.json", {"done": True, "weights": "w1"})
    workspaces.sync_edits(scene)
    for edit, weights in ((None, "w0"), ("snow", "w1")):
        write_cube(workspace.mesh(edit, ".ply"))
        made_from = Provenance("mesh", {}, {"scene": weights}).to_json()
        record = {"faces": 12, "vertices": 8, "offset": [0.0, 0.0, 0.0], "provenance": made_from}
        write_json(workspace.mesh(edit, ".json"), record)
    folder = workspace.dataset("snow")
    (folder / "images").mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "images" / "0.png")
    made_from = Provenance("dataset", {}, {"scene": "w1"}).to_json()
    record = {"views": 1, "bytes": 3_210_000, "files": ["images/0.png"], "provenance": made_from}
    write_json(folder / "dataset.json", record)
    return workspace


def test_every_output_of_the_shown_edit_is_a_row(made, scene):
    rows = {output.kind: output.described() for output in outputs.of_edit(made, "snow")}
    assert rows["MESH"].startswith("12 faces · ") and rows["DATASET"] == "1 pictures · 3.2 MB"
    assert [output.kind for output in outputs.of_edit(made, None)] == ["MESH"]
    scene.in2n.shown = "AFTER"
    panel = Read(panels.IN2N_PT_results)
    assert rows["MESH"] in panel.text and rows["DATASET"] in panel.text
    assert panel.arguments("in2n.show_output") == [{"kind": kind, "edit": "snow"} for kind in ("MESH", "DATASET")]
    assert panel.arguments("in2n.export_output") == [{"kind": "MESH", "edit": "snow"}]
    assert {"edit": "snow", "choose_folder": True} in panel.arguments("in2n.export_dataset")
    folders = [entry["filepath"] for entry in panel.arguments("wm.path_open")]
    assert folders == [str(made.root / "meshes"), str(made.dataset("snow"))]
    scene.in2n.shown = "BEFORE"
    assert panel.text != Read(panels.IN2N_PT_results).text and "1 pictures" not in Read(panels.IN2N_PT_results).text


def test_a_row_says_that_its_scene_was_made_again(made, scene):
    scene.in2n.shown = "AFTER"
    assert "earlier state" not in Read(panels.IN2N_PT_results).text
    write_json(made.edit("snow") / "state.json", {"done": True, "weights": "w2"})
    assert Read(panels.IN2N_PT_results).text.count("Made from an earlier state of the scene.") == 2


def test_show_brings_the_mesh_in_and_switches_to_its_edit(made, imported, scene):
    assert bpy.ops.in2n.show_output(kind="MESH", edit="snow") == {"FINISHED"}
    (mesh,) = scene_state.children(imported, "MESH")
    assert mesh.in2n.edit == "snow" and scene.in2n.shown == "AFTER" and mesh.visible_get()
    assert bpy.ops.in2n.show_output(kind="MESH", edit="snow") == {"FINISHED"}
    assert scene_state.children(imported, "MESH") == [mesh], "it is not brought in twice"
    assert bpy.ops.in2n.show_output(kind="DATASET", edit="snow") == {"FINISHED"}
    with pytest.raises(RuntimeError, match="No dataset of “original” was made yet"):
        bpy.ops.in2n.show_output(kind="DATASET", edit="original")


def imported_again(path):
    """The one mesh object that the file's own importer makes of it, in an empty file."""
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    suffix = path.suffix
    if suffix == ".glb":
        bpy.ops.import_scene.gltf(filepath=str(path))
    elif suffix == ".obj":
        bpy.ops.wm.obj_import(filepath=str(path))
    elif suffix == ".ply":
        bpy.ops.wm.ply_import(filepath=str(path))
    else:
        bpy.ops.wm.usd_import(filepath=str(path))
    bpy.context.view_layer.update()
    (found,) = (o for o in bpy.context.scene.objects if o.type == "MESH")
    return found


def world_corners(found) -> np.ndarray:
    corners = np.array([found.matrix_world @ vertex.co for vertex in found.data.vertices])
    return np.unique(np.round(corners, 4), axis=0)


@pytest.mark.parametrize("suffix", [".glb", ".obj", ".ply", ".usd"])
def test_a_file_measures_in_other_programs_what_it_measures_here(made, imported, scene, tmp_path, suffix):
    """The Empty's place, turn and scale count: the cube, half a unit of the capture wide, is 2 m wide in the scene."""
    turn = Matrix.Rotation(0.5, 4, "Z") @ Matrix.Rotation(0.2, 4, "X")
    imported.matrix_world = Matrix.Translation((5, -3, 1)) @ turn @ Matrix.Scale(2 / SIDE, 4)
    bpy.context.view_layer.update()
    before = set(bpy.data.objects), set(bpy.data.scenes), bpy.context.scene, list(bpy.context.selected_objects)
    path = tmp_path / "out" / f"cube{suffix}"
    assert bpy.ops.in2n.export_output(kind="MESH", edit="snow", filepath=str(path)) == {"FINISHED"}
    (mesh,) = scene_state.children(imported, "MESH")
    expected = world_corners(mesh)
    assert set(bpy.data.objects) == before[0] | {mesh} and set(bpy.data.scenes) == before[1]
    assert bpy.context.scene == before[2] and list(bpy.context.selected_objects) == before[3]
    found = imported_again(path)
    assert np.linalg.norm(expected[0] - expected, axis=1).max() == pytest.approx(2 * 3**0.5, abs=1e-3)
    np.testing.assert_allclose(world_corners(found), expected, atol=1e-3)
    assert found.data.color_attributes, "the colours come along"
    colors = found.data.color_attributes[0]
    values = np.array([tuple(entry.color)[:3] for entry in colors.data])
    assert (values[:, 0] > 0.9).sum() > (values[:, 1] > 0.9).sum() > 0
    assert not list(path.parent.glob(".writing*"))


def painted_by(picture):
    """Our material for a baked texture, as simple as can be: an Emission node in the picture's colours."""
    material = bpy.data.materials.new("painted")
    tree = compat.material_nodes(material)
    tree.nodes.clear()
    image, emission, output = (
        tree.nodes.new(f"ShaderNode{kind}") for kind in ("TexImage", "Emission", "OutputMaterial")
    )
    image.image = bpy.data.images.load(str(picture))
    tree.links.new(image.outputs["Color"], emission.inputs["Color"])
    tree.links.new(emission.outputs["Emission"], output.inputs["Surface"])
    return material


@pytest.mark.parametrize("textured", [False, True])
def test_game_engines_show_the_captured_colours_without_light(made, imported, scene, tmp_path, textured):
    bpy.ops.in2n.show_output(kind="MESH", edit="snow")
    (mesh,) = scene_state.children(imported, "MESH")
    own = list(bpy.data.materials)
    if textured:
        Image.fromarray(np.full((4, 4, 3), 90, np.uint8)).save(tmp_path / "bark.png")
        mesh.data.uv_layers.new(name="UVMap")
        mesh.data.materials[0] = painted_by(tmp_path / "bark.png")
        own = list(bpy.data.materials)
    path = tmp_path / "a.glb"
    assert bpy.ops.in2n.export_output(kind="MESH", edit="snow", filepath=str(path)) == {"FINISHED"}
    assert list(bpy.data.materials) == own and len(bpy.data.meshes) == len(
        {o.data for o in bpy.data.objects if o.type == "MESH"}
    )
    content = path.read_bytes()
    document = json.loads(content[20 : 20 + struct.unpack("<I", content[12:16])[0]])
    (material,) = document["materials"]
    assert "KHR_materials_unlit" in material["extensions"] and "emissiveFactor" not in material
    base = material.get("pbrMetallicRoughness", {})
    assert base.get("baseColorFactor", [1, 1, 1, 1]) == [1, 1, 1, 1]
    assert ("baseColorTexture" in base) == textured
    assert "COLOR_0" in document["meshes"][0]["primitives"][0]["attributes"]


@pytest.mark.parametrize("suffix", [".obj", ".usd"])
def test_a_texture_comes_along(made, imported, scene, tmp_path, suffix):
    bpy.ops.in2n.show_output(kind="MESH", edit="snow")
    (mesh,) = scene_state.children(imported, "MESH")
    Image.fromarray(np.full((4, 4, 3), 90, np.uint8)).save(tmp_path / "bark.png")
    mesh.data.uv_layers.new(name="UVMap")
    mesh.data.materials[0] = painted_by(tmp_path / "bark.png")
    folder = tmp_path / "out"
    file = folder / f"a{suffix}"
    assert bpy.ops.in2n.export_output(kind="MESH", edit="snow", filepath=str(file)) == {"FINISHED"}
    assert [path.name for path in folder.rglob("bark*")], sorted(path.name for path in folder.rglob("*"))
    found = imported_again(file)
    images = [n.image for m in found.data.materials for n in m.node_tree.nodes if n.type == "TEX_IMAGE"]
    assert len(images) == 1 and images[0].size[:] == (4, 4)
    assert bpy.ops.wm.read_homefile(use_empty=True) == {"FINISHED"}


def test_what_the_artist_did_to_the_mesh_is_exported(made, imported, scene, tmp_path):
    bpy.ops.in2n.show_output(kind="MESH", edit="snow")
    (mesh,) = scene_state.children(imported, "MESH")
    mesh.modifiers.new("Halved", "DECIMATE").ratio = 0.5
    for suffix in (".glb", ".obj", ".ply"):
        assert bpy.ops.in2n.export_output(kind="MESH", edit="snow", filepath=str(tmp_path / f"a{suffix}")) == {
            "FINISHED"
        }
    assert len(imported_again(tmp_path / "a.ply").data.polygons) < 12
    assert len(imported_again(tmp_path / "a.glb").data.polygons) < 12
    assert len(imported_again(tmp_path / "a.obj").data.polygons) < 12


def test_what_comes_beside_a_file_replaces_nobody_elses(made, imported, tmp_path, monkeypatch):
    def with_texture(path):
        from pathlib import Path

        Path(path).write_text("v 0 0 0\n")
        (Path(path).parent / "wood.png").write_bytes(b"ours")
        return {"FINISHED"}

    monkeypatch.setitem(exporting._WRITERS, "OBJ", with_texture)
    (tmp_path / "wood.png").write_bytes(b"hers")
    with pytest.raises(RuntimeError, match="wood.png would be overwritten"):
        bpy.ops.in2n.export_output(kind="MESH", edit="snow", filepath=str(tmp_path / "a.obj"))
    assert (tmp_path / "wood.png").read_bytes() == b"hers" and not (tmp_path / "a.obj").exists()


def test_a_dataset_is_asked_for_and_told(made, scene, recording, tmp_path):
    recording.answers(export={"result": {"views": 6, "folder": "somewhere"}})
    scene.in2n.dataset_format = "colmap"
    assert bpy.ops.in2n.export_dataset(edit="snow") == {"FINISHED"}
    assert bpy.ops.in2n.export_dataset(edit="original", format="nerfstudio", directory=str(tmp_path)) == {"FINISHED"}
    inside, chosen = (asked for asked in recording.asked if asked["method"] == "export")
    assert (inside["edit"], inside["format"], inside["out"]) == ("snow", "colmap", None)
    assert (chosen["edit"], chosen["format"], chosen["out"]) == (None, "nerfstudio", str(tmp_path))
    assert "6 pictures in somewhere" in json.dumps([entry.sentence for entry in scene.in2n.told], ensure_ascii=False)


def test_a_row_shows_its_own_picture_and_a_photo_where_there_is_none(made):
    photo = outputs.find(made, "snow", "MESH").picture
    assert photo is None or photo.parent != made.root / "meshes"
    own = made.mesh("snow", ".png")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(own)
    assert outputs.find(made, "snow", "MESH").picture == own


def test_a_mesh_becomes_an_asset_with_its_picture_and_instruction(made, imported, scene):
    Image.fromarray(np.full((64, 64, 3), (200, 30, 30), np.uint8)).save(made.mesh("snow", ".png"))
    assert (
        bpy.ops.in2n.mark_output(kind="MESH", edit="snow")
        == {"FINISHED"}
        == bpy.ops.in2n.mark_output(kind="MESH", edit="snow")
    )
    (mesh,) = scene_state.children(imported, "MESH")
    assert mesh.asset_data.description == "Make it snow" and [tag.name for tag in mesh.asset_data.tags] == ["IN2N"]
    pixels = np.array(mesh.preview.image_pixels_float[:]).reshape(-1, 4)
    assert pixels[len(pixels) // 2, 0] > 3 * pixels[len(pixels) // 2, 1] > 0
    assert bpy.ops.in2n.mark_output(kind="MESH", edit="original") == {"FINISHED"}
    (other,) = (o for o in scene_state.children(imported, "MESH") if o != mesh)
    assert other.asset_data.description == imported.name
    with pytest.raises(RuntimeError, match="is no object"):
        bpy.ops.in2n.mark_output(kind="DATASET", edit="snow")


# --- textured meshes


@pytest.fixture
def textured(made, imported, scene, tmp_path) -> Workspace:
    """The mesh of "snow" has a texture: red on the half of the cube where x is small, blue on the other."""
    bpy.ops.in2n.show_output(kind="MESH", edit="snow")
    (mesh,) = scene_state.children(imported, "MESH")
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :4, 0], pixels[:, 4:, 2] = 200, 150
    Image.fromarray(pixels).save(tmp_path / "halves.png")
    places = mesh.data.uv_layers.new(name="UVMap").data
    for loop in mesh.data.loops:
        places[loop.index].uv = (0.25 if mesh.data.vertices[loop.vertex_index].co.x < SIDE / 2 else 0.75, 0.5)
    mesh.data.materials[0] = painted_by(tmp_path / "halves.png")
    exporting.export_mesh(bpy.context, mesh, made.mesh("snow", ".glb"), "GLB")
    record = json.loads(made.mesh("snow", ".json").read_text())
    write_json(made.mesh("snow", ".json"), {**record, "textured_faces": 12})
    for found in (mesh.data, *bpy.data.materials, *bpy.data.images):
        bpy.data.batch_remove([found])
    return made


def packed_images() -> list:
    return [image for image in bpy.data.images if image.packed_file is not None]


def test_a_textured_mesh_comes_in_with_its_texture(textured, imported, scene):
    before = {kind: len(getattr(bpy.data, kind)) for kind in ("collections", "scenes", "worlds")}
    assert outputs.find(textured, "snow", "MESH").file.suffix == ".glb"
    assert bpy.ops.in2n.show_output(kind="MESH", edit="snow") == {"FINISHED"}
    (mesh,) = scene_state.children(imported, "MESH")
    corners = np.unique(np.round([vertex.co for vertex in mesh.data.vertices], 4), axis=0)
    np.testing.assert_allclose(
        corners, [(x * SIDE, y * SIDE, z * SIDE) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    )
    (material,) = mesh.data.materials
    (image,) = packed_images()
    assert image.size[:] == (8, 8)
    assert {node.type for node in material.node_tree.nodes} == {"TEX_IMAGE", "EMISSION", "OUTPUT_MATERIAL"}
    colors = mesh.data.color_attributes.active_color
    assert colors.domain == "CORNER"
    for loop in mesh.data.loops:
        red = mesh.data.vertices[loop.vertex_index].co.x < SIDE / 2
        found = np.array(colors.data[loop.index].color_srgb[:3]) * 255
        np.testing.assert_allclose(found, (200, 0, 0) if red else (0, 0, 150), atol=1)
    assert before == {kind: len(getattr(bpy.data, kind)) for kind in before}
    assert not [o for o in bpy.data.objects if o.type == "MESH" and o.in2n.role == "NONE"]


def test_a_texture_that_is_made_again_replaces_the_earlier_one(textured, imported, scene):
    bpy.ops.in2n.show_output(kind="MESH", edit="snow")
    for _ in range(2):
        assert bpy.ops.in2n.load_mesh(edit="snow") == {"FINISHED"}
        assert len(packed_images()) == 1 and sum(bool(m.get("in2n_texture")) for m in bpy.data.materials) == 1
    (mesh,) = scene_state.children(imported, "MESH")
    own = bpy.data.materials.new("hers")
    mesh.data.materials[0] = own
    assert bpy.ops.in2n.load_mesh(edit="snow") == {"FINISHED"}
    assert list(mesh.data.materials) == [own], "a material of her own stays"


def test_a_texture_renders_as_it_is(textured, imported, scene, tmp_path):
    """Under the view transform Standard, by Cycles: within 3 of 255."""
    bpy.ops.in2n.show_output(kind="MESH", edit="snow")
    (mesh,) = scene_state.children(imported, "MESH")
    camera = bpy.data.objects.new("front", bpy.data.cameras.new("front"))
    camera.data.type, camera.data.ortho_scale = "ORTHO", SIDE
    camera.matrix_world = Matrix.Translation((SIDE / 2, SIDE / 2, 5))
    scene.collection.objects.link(camera)
    scene.camera, scene.render.engine, scene.cycles.samples = camera, "CYCLES", 4
    scene.cycles.use_denoising, scene.view_settings.view_transform = False, "Standard"
    scene.render.resolution_x = scene.render.resolution_y = 16
    scene.render.filepath = str(tmp_path / "front.png")
    bpy.ops.render.render(write_still=True)
    picture = np.asarray(Image.open(tmp_path / "front.png").convert("RGB")).astype(int)
    np.testing.assert_allclose(picture[8, 1], (200, 0, 0), atol=3)
    np.testing.assert_allclose(picture[8, 14], (0, 0, 150), atol=3)


def test_a_texture_that_is_packed_lies_beside_an_obj(textured, imported, scene, tmp_path):
    file = tmp_path / "out" / "cube.obj"
    for _ in range(2):  # the second replaces the first
        assert bpy.ops.in2n.export_output(kind="MESH", edit="snow", filepath=str(file)) == {"FINISHED"}
    assert sorted(path.name for path in file.parent.iterdir()) == ["cube.mtl", "cube.obj", "cube.png"]
    assert "map_Kd cube.png" in file.with_suffix(".mtl").read_text()
    pixels = np.asarray(Image.open(file.with_name("cube.png")).convert("RGB"))
    np.testing.assert_array_equal(pixels[0, 0], (200, 0, 0))
    assert len(packed_images()) == 1 == sum(image.name.startswith("halves") for image in bpy.data.images)


def test_a_glb_that_is_none_is_told(textured, imported, scene):
    textured.mesh("snow", ".glb").write_bytes(b"glTF cut short")
    with pytest.raises(RuntimeError, match="could not be read"):
        bpy.ops.in2n.show_output(kind="MESH", edit="snow")
    assert not bpy.data.scenes.get("IN2N import")


def test_a_mesh_is_asked_for_with_its_options_and_comes_with_one_for_collisions(made, imported, scene, recording):
    recording.answers(mesh={"copies": {"meshes/collision/snow.glb": collision_glb(made)}, "result": {}})
    scene.in2n.mesh_texture, scene.in2n.mesh_collision, scene.in2n.mesh_watertight = 1024, 500, True
    assert bpy.ops.in2n.extract_mesh(edit="snow") == {"FINISHED"}
    assert bpy.ops.in2n.extract_mesh(edit="snow", texture=0, collision_faces=0, textured_faces=5000) == {"FINISHED"}
    bpy.ops.in2n.add_kept_box()
    assert bpy.ops.in2n.extract_mesh(edit="snow") == {"FINISHED"}
    one, other, within = (asked for asked in recording.asked if asked["method"] == "mesh")
    assert (one["texture"], one["collision_faces"], one["watertight"], one["keep"]) == (1024, 500, True, None)
    assert (other["texture"], other["collision_faces"], other["textured_faces"]) == (0, 0, 5000)
    assert np.ptp(read_region(within["keep"]).vertices, axis=0).min() > 0
    (collision,), (mesh,) = (scene_state.children(imported, role) for role in ("COLLISION", "MESH"))
    assert collision.display_type == "WIRE" and collision.hide_render and collision.visible_get() and mesh.visible_get()
    assert outputs.find(made, "snow", "COLLISION").described().startswith("Collision Mesh · ")
    assert bpy.ops.in2n.show_output(kind="COLLISION", edit="snow") == {"FINISHED"}
    assert scene_state.children(imported, "COLLISION") == [collision]
    scene.in2n.shown = "BEFORE"
    assert not collision.visible_get()
    edits.rename(made, "snow", "ice")
    assert made.collision_mesh("ice").is_file() and not made.collision_mesh("snow").exists()


def collision_glb(workspace) -> str:
    """The cube, as its own exporter writes it, outside of any capture."""
    made = results.import_mesh(bpy.context, bpy.context.scene, None, workspace.mesh("snow", ".ply"), "snow")
    file = workspace.root.with_name("collision.glb")
    exporting.export_mesh(bpy.context, made, file, "GLB")
    bpy.data.objects.remove(made)
    return str(file)


# --- splats


@pytest.fixture
def with_splats(made) -> Workspace:
    """The edit "snow" has splats, too."""
    write_splats(made.splats("snow", ".ply"), columns_of())
    made_from = Provenance("splats", {}, {"scene": "w1"}).to_json()
    write_json(made.splats("snow", ".json"), {"splats": 40, "offset": [0.0, 0.0, 0.0], "provenance": made_from})
    return made


def test_splats_are_a_row_and_shown_in_place_of_the_mesh(with_splats, imported, scene):
    assert "40 splats · " in outputs.find(with_splats, "snow", "SPLATS").described()
    bpy.ops.in2n.show_output(kind="MESH", edit="snow")
    assert bpy.ops.in2n.show_output(kind="SPLATS", edit="snow") == {"FINISHED"}
    (cloud,), (mesh,) = (scene_state.children(imported, role) for role in ("SPLATS", "MESH"))
    assert cloud.visible_get() and not mesh.visible_get() and mesh.hide_render and not cloud.hide_render
    bpy.ops.in2n.show_output(kind="MESH", edit="snow")
    assert mesh.visible_get() and not cloud.visible_get() and cloud.hide_render
    bpy.ops.in2n.show_output(kind="SPLATS", edit="snow")
    assert scene_state.children(imported, "SPLATS") == [cloud], "they are not brought in twice"
    scene.in2n.shown = "BEFORE"
    assert not cloud.visible_get() and cloud.hide_render


@pytest.mark.skipif(bpy.app.version >= (5, 3, 0), reason="Blender shows splats itself")
def test_splats_show_their_places_sizes_and_colours(with_splats, imported, scene):
    bpy.ops.in2n.show_output(kind="SPLATS", edit="snow")
    (found,) = scene_state.children(imported, "SPLATS")
    expected = read_splats(with_splats.splats("snow", ".ply"))
    corners = np.zeros(3 * len(found.data.vertices), np.float32)
    found.data.vertices.foreach_get("co", corners)
    corners = corners.reshape(-1, 4, 3)
    assert len(found.data.polygons) == len(expected) == len(corners)
    np.testing.assert_allclose(corners.mean(1), expected.means, atol=1e-4)
    widths = (
        np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1),
        np.linalg.norm(corners[:, 2] - corners[:, 1], axis=1),
    )
    sizes = np.sort(expected.scales, axis=1)[:, ::-1]
    np.testing.assert_allclose(np.stack(widths, 1), 2 * splats.REACH * sizes[:, :2], rtol=1e-3)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 1])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    thinnest = np.swapaxes(expected.axes, 1, 2)[np.arange(40), np.argmin(expected.scales, 1)]
    np.testing.assert_allclose(np.abs((normals * thinnest).sum(1)), 1, atol=1e-3)
    colors = np.zeros(4 * len(found.data.vertices), np.float32)
    found.data.color_attributes.active_color.data.foreach_get("color_srgb", colors)
    colors = colors.reshape(-1, 4, 4)[:, 0]
    np.testing.assert_allclose(colors[:, :3], expected.colors_srgb, atol=1 / 255)
    np.testing.assert_allclose(colors[:, 3], expected.opacities, atol=1 / 255)


@pytest.mark.skipif(bpy.app.version >= (5, 3, 0), reason="Blender shows splats itself")
def test_a_rendered_splat_fades_as_a_gaussian(extension, scene, tmp_path):
    """One opaque red splat before a camera, rendered by Cycles over nothing."""
    columns = {name: np.zeros(1) for name in columns_of(1)} | {"opacity": np.full(1, 20.0), "rot_0": np.ones(1)}
    columns |= {"scale_0": np.log([0.5]), "scale_1": np.log([0.25]), "scale_2": np.log([1e-3])}
    columns |= {"f_dc_0": np.full(1, 0.5 / C0), "f_dc_1": np.full(1, -0.5 / C0), "f_dc_2": np.full(1, -0.5 / C0)}
    made = splats.import_splats(bpy.context, scene, None, write_splats(tmp_path / "a.ply", columns), "snow")
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.data.type, camera.data.ortho_scale, camera.location = "ORTHO", 2.0, (0, 0, 5)
    scene.collection.objects.link(camera)
    scene.camera, scene.render.engine = camera, "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising = 64, False
    scene.render.resolution_x = scene.render.resolution_y = 32
    scene.render.film_transparent, scene.view_settings.view_transform = True, "Raw"
    scene.render.image_settings.file_format, scene.render.filepath = "OPEN_EXR", str(tmp_path / "out.exr")
    bpy.ops.render.render(write_still=True)
    picture = bpy.data.images.load(str(tmp_path / "out.exr"))
    pixels = np.array(picture.pixels[:]).reshape(32, 32, 4)
    places = (np.arange(32) + 0.5) / 16 - 1
    x, y = np.meshgrid(places, places)
    inside = (np.abs(x) < 0.9) & (np.abs(y) < 0.45)
    expected = np.exp(-0.5 * ((x / 0.5) ** 2 + (y / 0.25) ** 2))
    assert np.abs(pixels[..., 3] - expected)[inside].mean() < 0.05 and made.in2n.role == "SPLATS"
    shares = pixels[14:18, 14:18, :3].mean((0, 1))
    assert shares[0] > 0.8 and shares[1] < 0.02 and shares[2] < 0.02


def test_splats_are_exported_as_they_lie_in_the_scene(with_splats, imported, scene, tmp_path):
    imported.matrix_world = Matrix.Translation((5, -3, 1)) @ Matrix.Rotation(0.7, 4, "X") @ Matrix.Scale(4, 4)
    bpy.context.view_layer.update()
    path = tmp_path / "out" / "snow.ply"
    assert bpy.ops.in2n.export_output(kind="SPLATS", edit="snow", filepath=str(path)) == {"FINISHED"}
    before, after = read_splats(with_splats.splats("snow", ".ply")), read_splats(path)
    expected = [imported.matrix_world @ Vector(place) for place in before.means.tolist()]
    np.testing.assert_allclose(after.means, np.array(expected), atol=1e-4)
    np.testing.assert_allclose(after.scales, 4 * before.scales, rtol=1e-3)
    imported.scale = (1, 2, 1)
    bpy.context.view_layer.update()
    with pytest.raises(RuntimeError, match="scaled differently along its axes"):
        bpy.ops.in2n.export_output(kind="SPLATS", edit="snow", filepath=str(tmp_path / "no.ply"))


def test_splats_are_made_brought_in_and_told(with_splats, imported, scene, recording, tmp_path):
    cloud = write_splats(tmp_path / "made.ply", columns_of(25, seed=4))
    recording.answers(splats={"copies": {"splats/snow.ply": str(cloud)}, "result": {"splats": 25}})
    scene.in2n.most_splats, scene.in2n.splats_background = 1000, False
    assert bpy.ops.in2n.make_splats(edit="snow") == {"FINISHED"}
    assert bpy.ops.in2n.make_splats(edit="snow", splats=2000, background=True) == {"FINISHED"}
    one, other = (asked for asked in recording.asked if asked["method"] == "splats")
    assert (one["edit"], one["splats"], one["background"], one["keep"]) == ("snow", 1000, False, None)
    assert (other["splats"], other["background"]) == (2000, True)
    (found,) = scene_state.children(imported, "SPLATS")
    assert found.visible_get() and scene.in2n.shown == "AFTER"
    assert "Splats of “snow”: 25." in [entry.sentence for entry in scene.in2n.told]


def test_splats_are_exported_small_too(with_splats, imported, tmp_path):
    path = tmp_path / "a.spz"
    assert bpy.ops.in2n.export_output(kind="SPLATS", edit="snow", filepath=str(path)) == {"FINISHED"}
    content = gzip.decompress(path.read_bytes())
    assert struct.unpack("<II", content[:8]) == (0x5053474E, 3) and struct.unpack("<I", content[8:12]) == (40,)


def test_from_blender_5_3_on_splats_are_those_of_its_own_importer(with_splats, imported, scene, monkeypatch):
    """As its importer makes them: data of another kind, by which the discs of an earlier Blender are replaced."""
    asked = []

    def by_blender(file):
        asked.append((file, bpy.context.scene.name))
        return bpy.data.pointclouds.new("splats")

    bpy.ops.in2n.show_output(kind="SPLATS", edit="snow")
    monkeypatch.setattr(compat, "splats_by_blender", by_blender)
    for _ in range(2):
        write_splats(with_splats.splats("snow", ".ply"), columns_of(len(asked) + 5))  # made again
        os.utime(with_splats.splats("snow", ".ply"), ns=(len(asked), len(asked)))
        assert bpy.ops.in2n.show_output(kind="SPLATS", edit="snow") == {"FINISHED"}
    (found,) = scene_state.children(imported, "SPLATS")
    assert found.type == "POINTCLOUD" and found.visible_get() and found.name == "snow splats"
    assert [cloud.users for cloud in bpy.data.pointclouds] == [1] and not bpy.data.scenes.get("IN2N import")
    assert asked == [(str(with_splats.splats("snow", ".ply")), "IN2N import")] * 2
