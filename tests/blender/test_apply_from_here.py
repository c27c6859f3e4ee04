"""An edit on its way goes on with the instruction and guidance of the panel, without losing what it has done."""

import bpy
import pytest
from panel_reader import Read

from in2n_blender.blender import jobs, panels, workspaces
from in2n_blender.workspace.files import write_json

HALFWAY = [("progress", {"done": 5, "total": 20, "unit": "views", "message": "Editing", "seconds_left": 90.0})]
RECORD = {
    "name": "snow",
    "instruction": "Make it snow",
    "method": "agreement",
    "editor": "miniature",
    "seed": 4,
    "guidance_text": 2.5,
    "guidance_image": 1.25,
    "rounds": 2,
    "noise_schedule": "falling",
    "perceptual": "off",
    "preset": "draft",
    "parent": None,
    "region": None,
}


@pytest.fixture
def workspace(reconstructed, scene):
    """A workspace that has been reconstructed, and has an edit that is not done, as far as Blender can tell."""
    write_json(reconstructed.edit("snow") / "edit.json", RECORD)
    workspaces.sync_edits(scene)
    return reconstructed


def settings_are(scene, instruction, text=None):
    scene.in2n.instruction = instruction
    scene.in2n.use_default_guidance = text is None
    if text is not None:
        scene.in2n.guidance_text = text


def asked_edits(recording):
    return [asked for asked in recording.asked if asked["method"] == "edit"]


def test_the_running_edit_goes_on_with_the_panels_settings_before_what_waits(workspace, scene, recording, window):
    recording.answers(edit={"until_cancelled": True, "events": HALFWAY})
    settings_are(scene, "Make it snow")
    bpy.ops.in2n.edit(seed=7)
    assert "in2n.apply_from_here" in Read(panels.IN2N_PT_edit).buttons()
    window(lambda: jobs.current() and jobs.current().progress is not None)
    bpy.ops.in2n.extract_mesh(edit="original")
    settings_are(scene, "Make it sunset", 9.0)
    assert bpy.ops.in2n.apply_from_here() == {"FINISHED"}
    assert [job.label for job in jobs.waiting()] == ["Edit", "Extract Mesh"]
    window(lambda: len(asked_edits(recording)) == 2)
    assert "mesh" not in [asked["method"] for asked in recording.asked]
    first, second = asked_edits(recording)
    changed = {"instruction": "Make it sunset", "guidance_text": 9.0, "apply_from_here": True}
    assert second == {**first, **changed, "guidance_image": second["guidance_image"]} and second["seed"] == 7
    bpy.ops.in2n.cancel()
    window(lambda: not jobs.busy())
    assert "in2n.apply_from_here" not in Read(panels.IN2N_PT_edit).buttons()


def test_nothing_is_stopped_for_an_instruction_that_the_model_does_not_know(workspace, scene, recording, window):
    recording.answers(edit={"until_cancelled": True, "events": HALFWAY})
    settings_are(scene, "Make it snow")
    bpy.ops.in2n.edit()
    window(lambda: jobs.current() and jobs.current().progress is not None)
    settings_are(scene, "Make it sing an aria")
    with pytest.raises(RuntimeError, match="miniature"):
        bpy.ops.in2n.apply_from_here()
    assert jobs.running() and not jobs.current().asked_to_stop and not jobs.waiting()


def test_an_interrupted_edit_goes_on_with_the_panels_settings(workspace, scene, recording):
    settings_are(scene, "Make it sunset")
    assert Read(panels.IN2N_PT_edits).arguments("in2n.apply_from_here") == [{"edit": "snow"}]
    assert bpy.ops.in2n.apply_from_here(edit="snow") == {"FINISHED"}
    (asked,) = asked_edits(recording)
    kept = {key: RECORD[key] for key in ("name", "editor", "seed", "rounds", "noise_schedule", "preset", "parent")}
    assert kept.items() <= asked.items() and asked["editing_method"] == "agreement"
    assert (asked["instruction"], asked["guidance_text"], asked["apply_from_here"]) == ("Make it sunset", None, True)
    write_json(workspace.edit("snow") / "state.json", {"done": True})
    with pytest.raises(RuntimeError, match="“snow” is finished"):
        bpy.ops.in2n.apply_from_here(edit="snow")


def test_the_list_says_what_was_changed_from_where(workspace, scene, recording):
    segment = lambda number, **more: {
        "from_edit": number,
        **{key: RECORD[key] for key in ("instruction", "guidance_text", "guidance_image", "region")},
        **more,
    }
    night = {"instruction": "Make it night"}
    segments = [segment(0), segment(20, **night), segment(31, **night, guidance_text=9.0)]
    write_json(workspace.edit("snow") / "edit.json", {**RECORD, **night, "guidance_text": 9.0, "segments": segments})
    shown = Read(panels.IN2N_PT_edits).text
    lines = ("“Make it snow”", "From edit 21: “Make it night”", "From edit 32: Text 9 · Image 1.25")
    assert all(line in shown for line in lines)
    write_json(workspace.edit("snow") / "edit.json", {**RECORD, "segments": [{"from_edit": "x"}]})
    assert "“Make it snow”" in Read(panels.IN2N_PT_edits).text and "From edit" not in Read(panels.IN2N_PT_edits).text
