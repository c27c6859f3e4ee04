"""Regions in the scene: made, chosen, and handed to the engine in the capture's coordinates."""

import json
import subprocess
from pathlib import Path

import bmesh
import bpy
import numpy as np
import pytest
from mathutils import Matrix
from panel_reader import Read

from in2n_blender.blender import panels, regions, scene_state, workspaces
from in2n_blender.blender.cameras import set_offset
from in2n_blender.blender.properties import _may_be_region
from in2n_blender.scene.capture import pinhole_capture
from in2n_blender.scene.readers import read as read_capture
from in2n_blender.scene.readers.regions import read_region
from in2n_blender.scene.region import Region, signed_volume
from in2n_blender.workspace.files import read_json, write_json


@pytest.fixture
def workspace(reconstructed):
    return reconstructed


def cube(name="Cube", size=1.0, closed=True):
    mesh, surface = bpy.data.meshes.new(name), bmesh.new()
    bmesh.ops.create_cube(surface, size=size)
    if not closed:
        surface.faces.ensure_lookup_table()
        bmesh.ops.delete(surface, geom=[surface.faces[0]], context="FACES_ONLY")
    surface.to_mesh(mesh)
    surface.free()
    made = bpy.data.objects.new(name, mesh)
    bpy.context.scene.collection.objects.link(made)
    return made


def asked_region(recording) -> Region:
    return read_region(recording.asked[-1]["region"])


def test_an_added_region_is_a_wire_box_under_the_capture_and_chosen(imported, scene):
    assert bpy.ops.in2n.add_region() == {"FINISHED"}
    made = scene.in2n.region
    assert made.parent == imported and made.display_type == "WIRE" and made.hide_render
    assert bpy.context.view_layer.objects.active == made and bpy.context.selected_objects == [made]
    assert len(made.data.polygons) == 6 and made.dimensions.length > 0.1
    bpy.ops.in2n.add_region(shape="ELLIPSOID")
    assert scene.in2n.region != made and len(scene.in2n.region.data.polygons) == 1280
    distances = [vertex.co.length for vertex in scene.in2n.region.data.vertices]
    assert min(distances) == pytest.approx(0.5, abs=1e-4) and max(distances) == pytest.approx(0.5, abs=1e-4)


def test_an_added_region_lies_round_the_middle_of_the_points(imported, scene):
    points = bpy.data.meshes.new("points")
    places = np.random.default_rng(0).uniform((-1, 0, 2), (3, 2, 3), (400, 3))
    points.from_pydata(places.tolist(), [], [])
    cloud = bpy.data.objects.new("points", points)
    cloud.in2n.role, cloud.parent = "POINTS", imported
    scene.collection.objects.link(cloud)
    imported.matrix_world = Matrix.Translation((5, 0, 0)) @ Matrix.Scale(2, 4)
    bpy.ops.in2n.add_region()
    bpy.context.view_layer.update()
    made = scene.in2n.region
    np.testing.assert_allclose(made.matrix_world.translation, (7, 2, 5), atol=0.2)
    np.testing.assert_allclose(made.dimensions, np.array([4, 2, 1]) * 0.8 * 0.5 * 2, atol=0.2)
    assert not _may_be_region(scene.in2n, cloud), "the points are no region"
    assert _may_be_region(scene.in2n, made) and not _may_be_region(scene.in2n, imported)


def test_an_edit_gets_the_region_in_the_captures_coordinates(workspace, imported, scene, recording):
    turn = Matrix.Rotation(0.5, 4, "Z") @ Matrix.Rotation(0.3, 4, "X")
    imported.matrix_world = Matrix.Translation((1, 2, 3)) @ turn @ Matrix.Scale(4, 4)
    box = cube(size=2.0)
    box.matrix_world = Matrix.Translation((2, 2, 5)) @ Matrix.Diagonal((1, 2, 3, 1))
    scene.in2n.region, scene.in2n.soft_edge = box, 0.2
    bpy.context.view_layer.update()
    assert bpy.ops.in2n.edit(instruction="Make it snow") == {"FINISHED"}
    region = asked_region(recording)
    assert Path(recording.asked[-1]["region"]).parent == workspace.root / "regions"
    assert recording.asked[-1]["soft_edge"] is None and region.soft_edge == pytest.approx(0.05, rel=1e-4)
    assert signed_volume(region.vertices, region.faces) == pytest.approx(48 / 4**3, rel=1e-4)
    world = np.array(imported.matrix_world)
    corners = region.vertices @ world[:3, :3].T + world[:3, 3]
    np.testing.assert_allclose(corners.min(0), (1, 0, 2), atol=1e-4)
    np.testing.assert_allclose(corners.max(0), (3, 4, 8), atol=1e-4)
    bpy.ops.in2n.edit(instruction="Make it snow")
    assert recording.asked[-1]["region"] == recording.asked[-2]["region"], "the same region is the same file"
    box.location.x += 1
    bpy.ops.in2n.edit(instruction="Make it snow")
    assert recording.asked[-1]["region"] != recording.asked[-2]["region"]
    scene.in2n.region = None
    bpy.ops.in2n.edit(instruction="Make it snow")
    assert recording.asked[-1]["region"] is None and recording.asked[-1]["soft_edge"] is None


def test_modifiers_count_and_so_does_edit_mode(workspace, scene, recording):
    mesh = bpy.data.meshes.new("Plane")
    mesh.from_pydata([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)], [], [(0, 1, 2, 3)])
    plane = bpy.data.objects.new("Plane", mesh)
    scene.collection.objects.link(plane)
    solid = plane.modifiers.new("Solidify", "SOLIDIFY")
    solid.thickness, solid.offset = 0.5, 0
    scene.in2n.region = plane
    bpy.ops.in2n.edit(instruction="Make it snow")
    region = asked_region(recording)
    assert signed_volume(region.vertices, region.faces) == pytest.approx(0.5, rel=1e-4)


def test_the_offset_of_the_workspaces_photos_counts(workspace, imported, scene, recording, capture_folder):
    capture = pinhole_capture(read_capture(capture_folder), 512, preset="standard")
    write_json(workspace.capture_json, {**capture.to_json(), "offset": [100, 0, 0]})
    set_offset(imported, (103, 0, 0))
    scene.in2n.region = cube()
    bpy.ops.in2n.edit(instruction="Make it snow")
    np.testing.assert_allclose(asked_region(recording).bounds, [[2.5, -0.5, -0.5], [3.5, 0.5, 0.5]], atol=1e-5)


def test_what_is_no_region_is_told_before_anything_starts(workspace, scene, recording):
    empty = bpy.data.objects.new("Nothing", bpy.data.meshes.new("Nothing"))
    scene.collection.objects.link(empty)
    for wrong, said in ((cube("Open", closed=False), "is not closed"), (empty, "is empty")):
        scene.in2n.region = wrong
        with pytest.raises(RuntimeError, match=said):
            bpy.ops.in2n.edit(instruction="Make it snow")
    gone = cube("Gone")
    scene.in2n.region = gone
    scene.collection.objects.unlink(gone)
    with pytest.raises(RuntimeError, match="not in the scene any more"):
        bpy.ops.in2n.edit(instruction="Make it snow")
    assert not recording.asked and not (workspace.root / "regions").exists()


def test_a_file_may_be_given_instead(workspace, scene, recording, tmp_path):
    scene.in2n.region = cube()
    bpy.ops.in2n.edit(instruction="Make it snow", region=str(tmp_path / "mine.ply"), soft_edge=0.5)
    assert recording.asked[-1]["region"] == str(tmp_path / "mine.ply") and recording.asked[-1]["soft_edge"] == 0.5
    bpy.ops.in2n.edit(instruction="Make it snow", region="")
    assert recording.asked[-1]["region"] is None, "everywhere, whatever the scene says"


def limited(workspace, scene):
    """An interrupted edit that is limited to a region of its own."""
    region = Region.box(np.diag([1.0, 2, 3, 1]), 0.5)
    record = {"name": "snow", "instruction": "Make it snow", "editor": "miniature", "preset": "draft", "seed": 0}
    record |= {"region": {"file": "region.json", "hash": region.hash, "soft_edge": 0.5}, "parent": None}
    write_json(workspace.edit("snow") / "edit.json", record)
    write_json(workspace.edit("snow") / "region.json", region.to_json())
    workspaces.sync_edits(scene)
    return region


def test_an_edit_goes_on_with_its_own_region(workspace, scene, recording):
    region = limited(workspace, scene)
    scene.in2n.region = cube()
    for arguments in ({}, {"restart": True}, {"beside": True}):
        assert bpy.ops.in2n.continue_edit(edit="snow", **arguments) == {"FINISHED"}
        assert asked_region(recording).hash == region.hash and recording.asked[-1]["soft_edge"] is None


def test_an_edits_settings_bring_its_region_back(workspace, imported, scene, recording):
    region = limited(workspace, scene)
    imported.matrix_world = Matrix.Translation((1, 2, 3)) @ Matrix.Rotation(0.5, 4, "Z") @ Matrix.Scale(4, 4)
    bpy.context.view_layer.update()
    assert bpy.ops.in2n.use_edit_settings(edit="snow") == {"FINISHED"}
    made = scene.in2n.region
    assert made.parent == imported and made.display_type == "WIRE" and made.hide_render
    assert scene.in2n.soft_edge == pytest.approx(2.0)
    bpy.ops.in2n.edit(instruction="Make it snow", name="again")
    again = asked_region(recording)
    assert {tuple(v) for v in again.vertices.round(4)} == {tuple(v) for v in region.vertices.round(4)}
    assert signed_volume(again.vertices, again.faces) == pytest.approx(
        6, rel=1e-4
    ) and again.soft_edge == pytest.approx(0.5)
    bpy.ops.in2n.use_edit_settings(edit="snow")
    assert scene.in2n.region == made, "the region is there already"
    made.location.x += 1
    bpy.context.view_layer.update()
    bpy.ops.in2n.use_edit_settings(edit="snow")
    assert scene.in2n.region != made, "another one now"
    record = read_json(workspace.edit("snow") / "edit.json")
    write_json(workspace.edit("snow") / "edit.json", {**record, "region": None})
    bpy.ops.in2n.use_edit_settings(edit="snow")
    assert scene.in2n.region is None, "it acted everywhere"


def test_the_panel_offers_a_region_and_then_its_edge(workspace, imported, scene):
    shown = Read(panels.IN2N_PT_edit)
    assert ("prop", "region", True) in shown.seen and "in2n.add_region" in shown.buttons(enabled_only=True)
    assert ("prop", "soft_edge", True) not in shown.seen
    bpy.ops.in2n.add_region()
    assert ("prop", "soft_edge", True) in Read(panels.IN2N_PT_edit).seen


def test_the_list_tells_which_edits_are_limited(workspace, imported, scene):
    limited(workspace, scene)
    assert "Within a Region" in Read(panels.IN2N_PT_edits).text
    record = workspace.edit("snow") / "edit.json"
    write_json(record, {**json.loads(record.read_text()), "region": None})
    assert "Within a Region" not in Read(panels.IN2N_PT_edits).text


# --- what is kept of what leaves the scene


def asked_keep(recording) -> Region:
    return read_region(next(asked for asked in reversed(recording.asked) if asked["method"] == "splats")["keep"])


def test_the_kept_box_holds_all_that_the_points_show(imported, scene):
    points = bpy.data.meshes.new("points")
    places = np.random.default_rng(0).uniform((-1, 0, 2), (3, 2, 3), (400, 3))
    points.from_pydata([*places.tolist(), (900, 0, 0)], [], [])  # and one far off
    cloud = bpy.data.objects.new("points", points)
    cloud.in2n.role, cloud.parent = "POINTS", imported
    scene.collection.objects.link(cloud)
    assert bpy.ops.in2n.add_kept_box() == {"FINISHED"}
    bpy.context.view_layer.update()
    box = scene.in2n.kept
    assert scene.in2n.region is None and box.display_type == "WIRE" and box.hide_render and box.parent == imported
    corners = np.array([box.matrix_local @ vertex.co for vertex in box.data.vertices])
    inside = ((places >= corners.min(0)) & (places <= corners.max(0))).all(1)
    assert inside.all() and corners.max() < 4, "what lies far off is no part of it"
    assert bpy.context.selected_objects == [box]


BOUNDS = """
import json, sys
from types import SimpleNamespace
import numpy as np
from in2n_blender.engine.nerf.dataset import SceneTransform
from in2n_blender.engine.nerf.scene import Scene
from in2n_blender.scene.camera import Camera, Intrinsics
given = json.load(sys.stdin)
cameras = [Camera(Intrinsics(64, 48, 60, 60, 30, 25), np.array(pose)) for pose in given["poses"]]
capture = SimpleNamespace(points=np.array(given["points"]))
print(json.dumps(Scene.bounds(SimpleNamespace(transform=SceneTransform.of(cameras), capture=capture)).tolist()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("far", [False, True])
def test_the_kept_box_is_the_engines_own(imported, scene, engine, far):
    """What the engine, in its own process, takes where it is told of none."""
    random = np.random.default_rng(1)
    points = random.normal(size=(400, 3)) * 20 if far else random.uniform((-1, 0, -0.5), (2, 1, 0.5), (400, 3))
    mesh = bpy.data.meshes.new("points")
    mesh.from_pydata(points.tolist(), [], [])
    cloud = bpy.data.objects.new("points", mesh)
    cloud.in2n.role, cloud.parent = "POINTS", imported
    scene.collection.objects.link(cloud)
    poses = [np.array(camera.matrix_local).tolist() for camera in scene_state.children(imported, "CAMERA")]
    said = subprocess.run(
        [engine, "-c", BOUNDS],
        input=json.dumps({"poses": poses, "points": points.tolist()}),
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    box = regions.add_kept_box(scene, imported)
    bpy.context.view_layer.update()
    corners = np.array([box.matrix_local @ vertex.co for vertex in box.data.vertices])
    np.testing.assert_allclose([corners.min(0), corners.max(0)], json.loads(said.stdout), atol=1e-4)


def test_splats_are_asked_for_within_the_kept_box(workspace, imported, scene, recording):
    ask_for_splats(recording)
    assert recording.asked[-1]["keep"] is None
    bpy.ops.in2n.add_kept_box()
    imported.matrix_world = Matrix.Translation((5, 0, 0)) @ Matrix.Scale(2, 4)
    scene.in2n.kept.matrix_local = Matrix.LocRotScale((1, 2, 3), None, (0.5, 1.0, 2.0))
    bpy.context.view_layer.update()
    ask_for_splats(recording)
    region = asked_keep(recording)
    np.testing.assert_allclose(region.vertices.min(0), (0.75, 1.5, 2), atol=1e-5)
    np.testing.assert_allclose(region.vertices.max(0), (1.25, 2.5, 4), atol=1e-5)
    assert region.soft_edge == 0
    bpy.data.objects.remove(scene.in2n.kept)
    assert scene.in2n.kept is None
    ask_for_splats(recording)
    assert recording.asked[-1]["keep"] is None


def ask_for_splats(recording) -> None:
    """What the recorded engine answers is no cloud, which is told; what it was asked is what counts."""
    recording.answers(splats={"error": {"code": "empty_splats", "message": "Nothing is dense.", "hint": "Try again."}})
    with pytest.raises(RuntimeError, match="Nothing is dense"):
        bpy.ops.in2n.make_splats(edit="original")
