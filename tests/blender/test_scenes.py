"""Undo, several captures and scenes in one file, names that the user changes, and what is linked from other files."""

import json
from pathlib import Path

import bpy
import pytest
from test_job_life import HALFWAY, reconstructed, wait  # noqa: F401
from test_jobs import PLY

from in2n_blender.blender import jobs, registration, scene_state, underway, workspaces
from in2n_blender.blender.operators.job import JobOperator


@pytest.fixture
def second_folder(capture_folder, tmp_path):
    """Another capture of other photos."""
    import shutil

    other = tmp_path / "courtyard"
    shutil.copytree(capture_folder, other)
    data = json.loads((other / "transforms.json").read_text())
    data["frames"] = data["frames"][:4]
    (other / "transforms.json").write_text(json.dumps(data))
    return other


def reconstruct_on_disk(folder):
    file = Path(folder) / "reconstruction" / "checkpoint.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    file.with_name("state.json").write_text('{"done": true}')


def rename_everything():
    for kind in (
        bpy.data.objects,
        bpy.data.collections,
        bpy.data.cameras,
        bpy.data.scenes,
        bpy.data.meshes,
        bpy.data.images,
        bpy.data.materials,
    ):
        for number, thing in enumerate([t for t in kind if t.library is None]):
            thing.name = f"Ümbenannt {number}"


def test_import_is_exactly_one_undo_step(scene, capture_folder, second_folder):
    """Ctrl+Z once takes an import back whole, and the one before it stays."""
    bpy.ops.ed.undo_push(message="start")
    for number, folder in enumerate((capture_folder, second_folder)):
        assert bpy.ops.in2n.import_capture(filepath=str(folder)) == {"FINISHED"}
        bpy.ops.ed.undo_push(message=f"import {number}")  # what a window does once after an operator with UNDO

    def there():
        return (
            len(bpy.data.objects),
            len(bpy.data.cameras),
            len(bpy.data.collections),
            bpy.context.scene.in2n.capture_path,
        )

    both = (8 + 6, 6 + 4, 4, str(second_folder))
    assert there() == both
    bpy.ops.ed.undo()
    assert there() == (8, 6, 2, str(capture_folder))
    bpy.ops.ed.undo()
    assert there() == (0, 0, 0, "")
    bpy.ops.ed.redo()
    bpy.ops.ed.redo()
    assert there() == both and len(scene_state.children(bpy.context.scene.in2n.capture, "CAMERA")) == 4


def test_only_operators_that_change_the_file_are_undo_steps():
    """Jobs push their own step when they end; asking, cancelling and showing are none."""
    steps = {
        c.bl_idname
        for c in registration.CLASSES
        if issubclass(c, bpy.types.Operator) and "UNDO" in getattr(c, "bl_options", ())
    }
    assert {"in2n.import_capture", "in2n.compare"} <= steps and "in2n.look_through" not in steps
    assert not any(issubclass(c, JobOperator) and c.bl_idname in steps for c in registration.CLASSES)


def test_undo_while_a_job_runs(reconstructed, scene, recording, window):
    """Undo gives every object a new address; the job's result finds its capture all the same."""
    bpy.ops.ed.undo_push(message="before")
    recording.answers(
        mesh={
            "until_released": str(Path(scene.in2n.workspace) / "released"),
            "events": HALFWAY,
            "files": {"meshes/original.ply": PLY},
        }
    )
    scene.in2n.capture.location.x = 5
    bpy.ops.ed.undo_push(message="moved")
    bpy.ops.in2n.extract_mesh(edit="original")
    window(lambda: jobs.current() and jobs.current().progress is not None)
    bpy.ops.ed.undo()
    rename_everything()
    (Path(bpy.context.scene.in2n.workspace) / "released").touch()
    window(lambda: not jobs.busy())
    capture = bpy.context.scene.in2n.capture
    assert capture.location.x == 0 and len(scene_state.children(capture, "MESH")) == 1


def test_two_captures_keep_their_workspaces_edits_and_results(
    scene, capture_folder, second_folder, recording, tmp_path
):
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    captures = []
    for folder in (capture_folder, second_folder):
        bpy.ops.in2n.import_capture(filepath=str(folder))
        captures.append(scene.in2n.capture)
        reconstruct_on_disk(scene.in2n.workspace)
    first, second = captures
    roots = [workspaces.resolve(c) for c in captures]
    assert roots == [tmp_path / "shot.in2n", tmp_path / "shot-2.in2n"]
    for capture, name in ((first, "snow"), (second, "gold")):
        scene.in2n.capture = capture
        recording.answers(
            edit={"files": {f"edits/{name}/edit.json": json.dumps({"instruction": name})}},
            mesh={"files": {f"meshes/{name}.ply": PLY}},
        )
        bpy.ops.in2n.edit(instruction=name, name=name)
        bpy.ops.in2n.extract_mesh(edit=name)
    assert [len(scene_state.children(c, "MESH")) for c in captures] == [1, 1]
    rename_everything()
    assert [e.name for e in scene.in2n.edits] == ["gold"]
    scene.in2n.capture = first
    workspaces.sync_edits(scene)
    assert [e.name for e in scene.in2n.edits] == ["snow"] and scene.in2n.workspace == str(roots[0])
    assert {r["workspace"] for r in recording.asked} == {str(r) for r in roots}


def test_two_scenes_have_their_own_captures(scene, capture_folder, second_folder, recording):
    bpy.ops.in2n.import_capture(filepath=str(capture_folder))
    other = bpy.data.scenes.new("other")
    with bpy.context.temp_override(scene=other, view_layer=other.view_layers[0]):
        bpy.ops.in2n.import_capture(filepath=str(second_folder))
    assert scene_state.active_capture(scene) != scene_state.active_capture(other)
    assert scene.in2n.workspace != other.in2n.workspace
    assert {o.name for o in scene.objects}.isdisjoint(o.name for o in other.objects)


def test_a_copied_scene_still_works(imported, scene, recording):
    """A full copy of a scene has a capture of its own that shares the workspace."""
    with bpy.context.temp_override(scene=scene):
        bpy.ops.scene.new(type="FULL_COPY")
    copy = next(s for s in bpy.data.scenes if s != scene)
    capture = scene_state.active_capture(copy)
    assert capture is not None and capture in list(copy.objects) and len(scene_state.children(capture, "CAMERA")) == 6
    assert copy.in2n.workspace == scene.in2n.workspace


def test_renamed_meanwhile_the_results_arrive(reconstructed, scene, recording):
    rename_everything()
    recording.answers(mesh={"files": {"meshes/original.ply": PLY}})
    for _ in range(2):
        assert bpy.ops.in2n.extract_mesh(edit="original") == {"FINISHED"}
        rename_everything()
    assert len(scene_state.children(scene.in2n.capture, "MESH")) == 1
    bpy.ops.in2n.look_through(direction="NEXT")
    assert scene.in2n.photo in {c.in2n.photo for c in scene_state.children(scene.in2n.capture, "CAMERA")}


@pytest.fixture
def library(imported, scene, tmp_path):
    """A .blend with the capture, saved; the session is a new file afterwards."""
    blend = tmp_path / "library.blend"
    imported.users_collection[0].name = "captured"
    scene.name = "captured scene"
    reconstruct_on_disk(scene.in2n.workspace)
    bpy.ops.wm.save_as_mainfile(filepath=str(blend))
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    return blend


def use_everything(scene, recording):
    """What the panel asks and its buttons do, in a scene; errors of Python come out as RuntimeError with a
    traceback."""
    recording.answers(mesh={"files": {"meshes/original.ply": PLY}})
    with bpy.context.temp_override(scene=scene, view_layer=scene.view_layers[0]):
        assert scene_state.active_capture(scene) is not None
        assert scene.in2n.workspace and underway.offered(scene) is None
        workspaces._sync_all()
        for operator in (
            bpy.ops.in2n.reconstruct,
            bpy.ops.in2n.edit,
            bpy.ops.in2n.extract_mesh,
            bpy.ops.in2n.resume,
            bpy.ops.in2n.show_log,
        ):
            operator.poll()
        try:
            bpy.ops.in2n.extract_mesh(edit="original")
        except RuntimeError as error:
            assert "Traceback" not in str(error)
        bpy.ops.in2n.look_through(direction="NEXT")


def test_a_linked_scene_does_not_raise(library, recording):
    with bpy.data.libraries.load(str(library), link=True) as (there, here):
        here.scenes = there.scenes
    (linked,) = (s for s in bpy.data.scenes if s.library is not None)
    use_everything(linked, recording)


def test_a_linked_collection_does_not_raise(library, recording):
    scene = bpy.context.scene
    with bpy.data.libraries.load(str(library), link=True) as (there, here):
        here.collections = ["captured"]
    scene.collection.children.link(here.collections[0])
    use_everything(scene, recording)


def test_a_library_override_does_not_raise(library, recording):
    scene = bpy.context.scene
    with bpy.data.libraries.load(str(library), link=True) as (there, here):
        here.collections = ["captured"]
    scene.collection.children.link(here.collections[0])
    here.collections[0].override_hierarchy_create(scene, scene.view_layers[0])
    captures = [o for o in scene.objects if o.in2n.role == "CAPTURE" and o.override_library]
    assert captures, "the override was made"
    scene.in2n.capture = captures[0]
    use_everything(scene, recording)
    rename_everything()
    use_everything(scene, recording)
