"""Renaming and removing an edit, refused while a job of its workspace runs or saves, in whichever process."""

import subprocess
import sys
from pathlib import Path

import bpy
import pytest

from in2n_blender.blender import workspaces
from in2n_blender.workspace.files import write_json
from in2n_blender.workspace.layout import Workspace

REPOSITORY = Path(__file__).resolve().parents[2]
HOLD = """
import sys
from in2n_blender.workspace.locks import try_lock
with open(sys.argv[1], "a+") as file:
    print(try_lock(file), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def workspace(imported, scene) -> Workspace:
    made = Workspace(scene.in2n.workspace)
    write_json(made.edit("snow") / "edit.json", {"instruction": "Make it snow"})
    workspaces.sync_edits(scene)
    return made


@pytest.fixture
def other_job(workspace):
    """Another process works in the workspace."""
    command = [sys.executable, "-c", HOLD, str(workspace.root / "job.lock")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert process.stdout.readline() == "True\n"
    yield process
    process.communicate()


def test_an_edit_is_neither_renamed_nor_removed_while_a_job_runs(workspace, scene, other_job):
    with pytest.raises(RuntimeError, match="A job runs in the workspace"):
        bpy.ops.in2n.rename_edit(edit="snow", name="winter")
    with pytest.raises(RuntimeError, match="A job runs in the workspace"):
        bpy.ops.in2n.remove_edit(edit="snow")
    scene.in2n.edits[0].title = "winter"
    assert "A job runs in the workspace" in scene.in2n.status
    assert workspace.edits() == ["snow"] and scene.in2n.edits[0].name == "snow"

    other_job.communicate()
    scene.in2n.edits[0].title = "winter"
    assert workspace.edits() == ["winter"] and scene.in2n.status == ""
    assert bpy.ops.in2n.remove_edit(edit="winter") == {"FINISHED"}
    assert workspace.edits() == [] and len(scene.in2n.edits) == 0


@pytest.mark.parametrize("damage", [{"seed": "many"}, {"seed": 1e300}, {"guidance_text": [], "guidance_image": 1.5}])
def test_settings_that_are_none_are_refused_in_one_sentence(workspace, damage):
    write_json(workspace.edit("snow") / "edit.json", {"instruction": "Make it snow", **damage})
    with pytest.raises(RuntimeError, match="The settings of “snow” cannot be read"):
        bpy.ops.in2n.use_edit_settings(edit="snow")
