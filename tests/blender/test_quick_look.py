"""What was made appears in the viewport unasked, in a window, and touches nothing of the artist's."""

import json
from pathlib import Path

import bpy
import pytest
from test_jobs import PLY, RECONSTRUCTED, normalised  # noqa: F401

from in2n_blender.blender import jobs, quick_look, scene_state, underway, views
from in2n_blender.blender.operators import resume
from in2n_blender.workspace.layout import Workspace

QUICK = {"files": {"meshes/quick/original.ply": PLY, "meshes/quick/snow.ply": PLY}}
SNOW = {"files": {"edits/snow/edit.json": json.dumps({"name": "snow", "instruction": "Make it snow"})}}
HALFWAY = {"events": [("progress", {"done": 5, "total": 20, "unit": "views", "message": "x"})], "until_cancelled": True}


@pytest.fixture
def shown(imported, scene, recording, window, normalised):
    """Reconstructs in a window."""
    scene.in2n.show_when_done = True
    recording.answers(import_=normalised, reconstruct=RECONSTRUCTED, mesh=QUICK, edit=SNOW)
    assert bpy.ops.in2n.reconstruct() == {"FINISHED"}
    window(lambda: not jobs.busy())


def meshes(scene) -> dict:
    return {(o.in2n.edit, o.in2n.quick): o for o in scene_state.children(scene.in2n.capture, "MESH")}


def visible(scene) -> set:
    return {key for key, mesh in meshes(scene).items() if mesh.visible_get()}


def asked_for_meshes(recording) -> list[dict]:
    return [request for request in recording.asked if request["method"] == "mesh"]


def test_a_reconstruction_appears_in_its_colours(shown, scene, recording, window):
    (asked,) = asked_for_meshes(recording)
    assert asked["quick"] and asked["edit"] is None and asked["resolution"] == quick_look.RESOLUTION
    mesh = meshes(scene)["original", True]
    assert mesh.visible_get() and mesh.hide_render and mesh.parent == scene.in2n.capture
    assert mesh.data.color_attributes.active_color.name == "Col"
    shading = views.main_area(bpy.context).spaces.active.shading
    assert (shading.color_type, shading.light) == ("VERTEX", "FLAT")
    assert scene.in2n.status == "Reconstructed: 27.3 dB on the held-out photos." and window.failures == []
    assert scene.in2n.status_of == "Reconstruct"
    bpy.ops.ed.undo()
    scene = bpy.context.scene
    assert meshes(scene) == {} and scene.in2n.status.startswith("Reconstructed"), "a step of its own in Undo"
    bpy.ops.ed.redo()
    assert visible(bpy.context.scene) == {("original", True)}


def test_an_edit_appears_and_before_and_after_swap_it(shown, scene, window):
    bpy.ops.in2n.edit(instruction="Make it snow", name="snow")
    window(lambda: not jobs.busy())
    assert visible(scene) == {("snow", True)} and scene.in2n.status == "Edited: “snow” is ready."
    bpy.ops.in2n.compare()
    assert visible(scene) == {("original", True)}
    bpy.ops.in2n.compare()
    assert visible(scene) == {("snow", True)}


def test_again_it_replaces_its_own_mesh_only(shown, scene, window):
    mesh = meshes(scene)["original", True]
    mesh.name = "renamed"
    for space in (area.spaces.active for area in views.areas(bpy.context)):
        space.shading.color_type = "MATERIAL"
    bpy.ops.in2n.reconstruct(restart=True)
    window(lambda: not jobs.busy())
    assert meshes(scene) == {("original", True): mesh} and mesh.name == "renamed"
    assert len([m for m in bpy.data.meshes if "quick" in m.name]) == 1
    assert views.main_area(bpy.context).spaces.active.shading.color_type == "MATERIAL", "as she likes it by now"


def test_a_mesh_of_the_artists_own_stays_as_it_is(shown, scene, recording, window):
    workspace = Workspace(scene.in2n.workspace)
    own = {"files": {"meshes/original.ply": PLY, "meshes/original.json": "{}"}}
    recording.answers(reconstruct=RECONSTRUCTED, mesh=own)
    bpy.ops.in2n.extract_mesh(edit="original", resolution=400)
    window(lambda: not jobs.busy())
    mesh = meshes(scene)["original", False]
    mesh.data.vertices[0].co.x = 77  # she has worked on it
    assert visible(scene) == {("original", False)} and not mesh.hide_render, "her own is the one to be seen"

    provenance = {"kind": "mesh", "settings": {}, "inputs": {"scene": "before"}}
    workspace.mesh(None, ".json").write_text(json.dumps({"resolution": 400, "provenance": provenance}))
    before = workspace.mesh(None, ".ply").read_bytes()
    again = {"files": {**RECONSTRUCTED["files"], "reconstruction/state.json": '{"done": true, "weights": "now"}'}}
    recording.answers(reconstruct=again, mesh=QUICK)
    bpy.ops.in2n.reconstruct(restart=True)
    window(lambda: not jobs.busy())
    assert meshes(scene)["original", False] == mesh and mesh.data.vertices[0].co.x == 77
    assert workspace.mesh(None, ".ply").read_bytes() == before and not mesh.hide_render
    assert visible(scene) == {("original", True)}, "hers is of an earlier state of the scene"


def test_selection_and_active_object_stay(imported, scene, recording, window, normalised):
    mine = bpy.data.objects.new("mine", bpy.data.meshes.new("mine"))
    scene.collection.objects.link(mine)
    mine.select_set(True)
    bpy.context.view_layer.objects.active = mine
    scene.in2n.show_when_done = True
    recording.answers(import_=normalised, reconstruct=RECONSTRUCTED, mesh=QUICK)
    bpy.ops.in2n.reconstruct()
    window(lambda: not jobs.busy())
    assert visible(scene) == {("original", True)}
    assert bpy.context.view_layer.objects.active == mine
    assert [o for o in scene.objects if o.select_get()] == [mine]


def test_it_can_be_switched_off(imported, scene, recording, window, normalised):
    scene.in2n.show_when_done = False
    recording.answers(import_=normalised, reconstruct=RECONSTRUCTED, mesh=QUICK)
    bpy.ops.in2n.reconstruct()
    window(lambda: not jobs.busy())
    assert asked_for_meshes(recording) == [] and meshes(scene) == {}


def test_without_a_window_nothing_is_made_unasked(imported, scene, recording, normalised):
    recording.answers(import_=normalised, reconstruct=RECONSTRUCTED, mesh=QUICK)
    assert scene.in2n.show_when_done
    assert bpy.ops.in2n.reconstruct() == {"FINISHED"}
    assert asked_for_meshes(recording) == [] and meshes(scene) == {}


def test_cancelled_there_is_nothing_to_show_until_it_is_resumed(shown, scene, recording, window):
    recording.answers(edit={**SNOW, **HALFWAY}, mesh=QUICK)
    bpy.ops.in2n.edit(instruction="Make it snow", name="snow")
    window(lambda: jobs.current().label == "Edit" and jobs.current().progress is not None)
    assert [job.label for job in jobs.waiting()] == ["Show Scene"]
    bpy.ops.in2n.cancel()
    window(lambda: not jobs.busy())
    assert len(asked_for_meshes(recording)) == 1 and scene.in2n.status.startswith("Edit: cancelled")
    assert underway.offered(scene).label == "Edit" and "dropped" not in scene.in2n.status
    recording.answers(edit=SNOW, mesh=QUICK)
    assert resume.RESUMED_BY["edit"] == "edit" and bpy.ops.in2n.resume() == {"FINISHED"}
    window(lambda: not jobs.busy())
    assert visible(scene) == {("snow", True)} and underway.offered(scene) is None


@pytest.mark.parametrize("answer", [{"error": {"code": "empty_mesh", "message": "Nothing."}}, {"result": {}}])
def test_what_cannot_be_shown_takes_nothing_from_what_was_made(imported, scene, recording, window, normalised, answer):
    scene.in2n.show_when_done = True
    recording.answers(import_=normalised, reconstruct=RECONSTRUCTED, mesh=answer)
    bpy.ops.in2n.reconstruct()
    window(lambda: not jobs.busy())
    assert scene.in2n.status.startswith("Reconstructed: 27.3 dB") and window.failures == []
    assert len(asked_for_meshes(recording)) == 1 and meshes(scene) == {} and underway.offered(scene) is None


def test_it_comes_before_what_waits(imported, scene, recording, window, normalised):
    scene.in2n.show_when_done = True
    recording.answers(import_=normalised, reconstruct={**RECONSTRUCTED, **HALFWAY}, mesh=QUICK, edit=SNOW)
    bpy.ops.in2n.reconstruct()
    window(lambda: jobs.current() and jobs.current().progress is not None)
    bpy.ops.in2n.edit(instruction="Make it snow", name="snow")
    assert [job.label for job in jobs.waiting()] == ["Show Scene", "Edit", "Show Scene"]
    bpy.ops.in2n.cancel()
    window(lambda: not jobs.busy())
    assert "What waited for it was dropped: Edit." in scene.in2n.status and "Show" not in scene.in2n.status


def test_points_step_back_for_the_mesh_once(scene, recording, window, tmp_path):
    from test_import_views import write

    write(tmp_path / "well")
    bpy.ops.in2n.import_capture(filepath=str(tmp_path / "well"))
    scene.in2n.show_when_done = True
    capture = json.dumps({"views": [], "points": []})
    recording.answers(import_={"files": {"capture.json": capture}}, reconstruct=RECONSTRUCTED, mesh=QUICK)
    (points,) = scene_state.children(scene.in2n.capture, "POINTS")
    bpy.ops.in2n.reconstruct()
    window(lambda: not jobs.busy())
    assert visible(scene) == {("original", True)} and not points.visible_get()
    points.hide_set(False)
    bpy.ops.in2n.reconstruct(restart=True)
    window(lambda: not jobs.busy())
    assert points.visible_get(), "she shows them again: they stay"


def test_it_comes_to_the_capture_that_was_reconstructed(shown, scene, recording, window, tmp_path):
    """Though she has imported another one meanwhile, and works on that."""
    from test_import_views import write

    first = scene.in2n.capture
    write(tmp_path / "well")
    bpy.ops.in2n.import_capture(filepath=str(tmp_path / "well"))
    second, scene.in2n.capture = scene.in2n.capture, first
    recording.answers(edit={**SNOW, "until_released": str(tmp_path / "released")}, mesh=QUICK)
    bpy.ops.in2n.edit(instruction="Make it snow", name="snow")
    scene.in2n.capture = second
    (tmp_path / "released").touch()
    window(lambda: not jobs.busy())
    found = {m.in2n.edit for m in scene_state.children(first, "MESH")}
    assert found == {"original", "snow"} and not scene_state.children(second, "MESH")


@pytest.mark.parametrize("moved", [False, True])
def test_the_view_turns_to_it_unless_she_has_moved_the_view(imported, scene, recording, window, normalised, moved):
    """The garden has no points: the import framed its cameras."""
    scene.in2n.show_when_done = True
    view = views.main_area(bpy.context).spaces.active.region_3d
    if moved:
        view.view_distance *= 1.5
    before = view.view_distance, tuple(view.view_location)
    recording.answers(import_=normalised, reconstruct=RECONSTRUCTED, mesh=QUICK)
    bpy.ops.in2n.reconstruct()
    window(lambda: not jobs.busy())
    assert ((view.view_distance, tuple(view.view_location)) == before) == moved
    before = view.view_distance, tuple(view.view_location)
    bpy.ops.in2n.reconstruct(restart=True)
    window(lambda: not jobs.busy())
    assert (view.view_distance, tuple(view.view_location)) == before, "once is enough"


def test_renamed_and_removed_with_its_edit(shown, scene, window):
    bpy.ops.in2n.edit(instruction="Make it snow", name="snow")
    window(lambda: not jobs.busy())
    bpy.ops.in2n.rename_edit(edit="snow", name="winter")
    assert ("winter", True) in meshes(scene)
    assert Path(scene.in2n.workspace, "meshes/quick/winter.ply").is_file()
    bpy.ops.in2n.remove_edit(edit="winter")
    assert set(meshes(scene)) == {("original", True)}
    assert not Path(scene.in2n.workspace, "meshes/quick/winter.ply").exists()
