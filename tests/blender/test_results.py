"""What was made, in Blender: frames in step with the timeline, and whether results are finished and up to date."""

from pathlib import Path

import bpy
import numpy as np
import pytest
from panel_reader import Read
from PIL import Image

from in2n_blender.blender import panels, plates, results, workspaces
from in2n_blender.workspace.files import write_json
from in2n_blender.workspace.layout import Workspace
from in2n_blender.workspace.provenance import Provenance


def rendered(folder: Path, *numbers: int) -> list[int]:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.fromarray(np.full((4, 4, 3), 10 * number, np.uint8)).save(folder / f"{number:04d}.png")
    return list(numbers)


def files_shown(scene, frames) -> list[int]:
    """The number of the file that the viewport draws behind the scene's camera at each frame.

    It finds the file's number when it draws, from the evaluated image user (BKE_image_user_frame_get).
    """
    (background,) = plates.backgrounds(scene.camera.data)
    user, numbers = background.image_user, []
    for frame in frames:
        scene.frame_set(frame)
        user.frame_current = min(max(frame - user.frame_start + 1, 0), user.frame_duration) + user.frame_offset
        file = Path(bpy.path.abspath(background.image.filepath_from_user(image_user=user)))
        assert file.is_file(), f"{file.name} at frame {frame}"
        numbers.append(int(file.stem))
    return numbers


@pytest.mark.parametrize(
    "numbers, shown",
    [
        ((1, 2, 3), [1, 2, 3]),
        ((1, 3, 5), [1, 1, 3, 3, 5]),
        ((4, 7, 8, 12), [4, 4, 4, 7, 8, 8, 8, 8, 12]),
        ((6,), [6]),
        ((0, 2), [0, 0, 2]),
    ],
)
def test_the_last_frame_that_there_is_stays(imported, scene, tmp_path, numbers, shown):
    plates.load(scene, "IMAGES", tmp_path, "gold", "walk", rendered(tmp_path, *numbers))
    assert files_shown(scene, range(numbers[0], numbers[-1] + 1)) == shown


def test_frames_that_come_later_are_shown_too(imported, scene, tmp_path):
    plates.load(scene, "IMAGES", tmp_path, "gold", "walk", rendered(tmp_path, 2, 4))
    assert files_shown(scene, (2, 3, 4)) == [2, 2, 4]
    rendered(tmp_path, 3)
    plates.load(scene, "IMAGES", tmp_path, "gold", "walk", [2, 3, 4])
    assert files_shown(scene, (2, 3, 4)) == [2, 3, 4]
    assert not scene.camera.data.animation_data or not scene.camera.data.animation_data.drivers


def test_every_second_frame_is_asked_for_and_shown(imported, scene, recording, tmp_path):
    workspace = Path(scene.in2n.workspace)
    (workspace / "reconstruction").mkdir(parents=True)
    (workspace / "reconstruction" / "checkpoint.safetensors").touch()
    (workspace / "reconstruction" / "state.json").write_text('{"done": true}')
    rendered(workspace / "renders" / "original" / "Scene", 1, 3, 5)
    scene.frame_start, scene.frame_end = 1, 6
    assert bpy.ops.in2n.render_path(edit="original", frame_step=2) == {"FINISHED"}
    assert files_shown(scene, range(1, 7))[:5] == [1, 1, 3, 3, 5]


def reconstruction(workspace: Workspace, **state) -> None:
    write_json(workspace.reconstruction / "state.json", state)
    (workspace.reconstruction / "checkpoint.safetensors").touch()


def refusal(operator, **arguments) -> str:
    with pytest.raises(RuntimeError) as raised:
        operator(**arguments)
    return str(raised.value)


def test_a_reconstruction_cancelled_on_its_way_is_none(imported, scene, recording):
    """No tick, and neither edit, frames nor mesh, until it is done."""
    workspace = Workspace(scene.in2n.workspace)
    reconstruction(workspace, done=False, step=2)
    panel = Read(panels.IN2N_PT_reconstruct)
    assert panel.seen[0] != ("label", "", True), "a tick in the header"
    assert ("operator", ("in2n.reconstruct", "Continue Reconstruction", {}), True) in panel.seen
    assert Read(panels.IN2N_PT_results).buttons() == []
    assert "Finish the reconstruction first." in Read(panels.IN2N_PT_results).text
    for operator in (bpy.ops.in2n.render_path, bpy.ops.in2n.extract_mesh):
        assert "Finish the reconstruction first" in refusal(operator, edit="original")
    assert "Finish the reconstruction first" in refusal(bpy.ops.in2n.edit, instruction="Make it snow")
    reconstruction(workspace, done=True)
    assert Read(panels.IN2N_PT_reconstruct).seen[0] == ("label", "", True)
    assert "in2n.extract_mesh" in Read(panels.IN2N_PT_results).buttons()
    assert bpy.ops.in2n.extract_mesh.poll()


RECORD = {"instruction": "Make it snow", "editor": "miniature", "preset": "draft", "seed": 3, "parent": None}


def provenance(kind: str, **inputs) -> dict:
    return Provenance(kind, {}, inputs).to_json()


@pytest.fixture
def outdated_edit(imported, scene, recording) -> Workspace:
    """A finished edit "snow" of a reconstruction that was made again since."""
    workspace = Workspace(scene.in2n.workspace)
    write_json(workspace.capture_json, {"views": [], "points": []})
    reconstruction(workspace, done=True, weights="new")
    made = provenance("edit", reconstruction="old")
    write_json(workspace.edit("snow") / "edit.json", {**RECORD, "provenance": made})
    write_json(workspace.edit("snow") / "state.json", {"done": True, "weights": "w", "provenance": made})
    workspaces.sync_edits(scene)
    return workspace


def test_an_outdated_edit_says_why_and_is_made_again_or_beside(outdated_edit, scene, recording):
    recording.answers(edit={"result": {}})
    panel = Read(panels.IN2N_PT_edits)
    assert "Made from an earlier reconstruction." in panel.text
    assert panel.arguments("in2n.continue_edit") == [{"restart": True}, {"beside": True}]
    assert bpy.ops.in2n.continue_edit(restart=True) == {"FINISHED"}
    assert bpy.ops.in2n.continue_edit(beside=True) == {"FINISHED"}
    again, beside = (asked for asked in recording.asked if asked["method"] == "edit")
    assert (again["name"], again["restart"]) == ("snow", True)
    assert (beside["name"], beside["restart"], beside["seed"]) == ("snow-2", False, 3)

    made = provenance("edit", reconstruction="new")
    write_json(outdated_edit.edit("snow") / "edit.json", {**RECORD, "provenance": made})
    write_json(outdated_edit.edit("snow") / "state.json", {"done": True, "weights": "w", "provenance": made})
    panel = Read(panels.IN2N_PT_edits)
    assert "earlier" not in panel.text and panel.arguments("in2n.continue_edit") == []


def test_an_outdated_reconstruction_says_why(imported, scene, recording):
    workspace = Workspace(scene.in2n.workspace)
    reconstruction(workspace, done=True, provenance={**provenance("reconstruction"), "engine": -1})
    panel = Read(panels.IN2N_PT_reconstruct)
    assert "Made by another version of the engine." in panel.text
    assert panel.arguments("in2n.reconstruct") == [{}, {"restart": True}], "kept or replaced, as the user chooses"
    reconstruction(workspace, done=True, provenance=provenance("reconstruction"))
    assert "another version" not in Read(panels.IN2N_PT_reconstruct).text


def test_outdated_frames_and_meshes_are_told_apart(imported, scene, recording):
    workspace = Workspace(scene.in2n.workspace)
    reconstruction(workspace, done=True, weights="now")
    for path, weights in (("old", "before"), ("new", "now"), ("unknown", None)):
        rendered(workspace.renders(None, path), 1)
        write_json(workspace.renders(None, path) / "render.json", {"scene": weights})
    assert [results.are_frames_outdated(workspace, None, path) for path in ("old", "new", "unknown")] == [
        True,
        False,
        False,
    ]
    text = "Made from an earlier state of the scene."
    assert Read(panels.IN2N_PT_results).text.count(text) == 1
    workspace.mesh(None, ".ply").parent.mkdir(parents=True)
    workspace.mesh(None, ".ply").touch()
    write_json(workspace.mesh(None, ".json"), {"provenance": provenance("mesh", scene="before")})
    assert results.is_mesh_outdated(workspace, None)
    assert Read(panels.IN2N_PT_results).text.count(text) == 2


def test_results_of_an_unfinished_edit_are_called_so(outdated_edit, scene):
    scene.in2n.shown = "AFTER"
    assert "not finished" not in Read(panels.IN2N_PT_results).text
    write_json(outdated_edit.edit("snow") / "state.json", {"done": False})
    assert "This edit is not finished" in Read(panels.IN2N_PT_results).text
