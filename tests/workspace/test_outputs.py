"""What a command may write in a folder of the user's: its own files, and nothing else."""

import json
import os
import shutil

import pytest

from in2n_blender.scene.errors import In2nError
from in2n_blender.workspace import outputs

NAMES = ("mesh.glb", "frames/edited/0001.png")


def write(folder, *names, text="ours"):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def refusal(folder, names=NAMES):
    with pytest.raises(In2nError) as refused:
        outputs.claim(folder, names)
    assert refused.value.code == "not_ours" and refused.value.hint
    return refused.value.message


def test_an_empty_or_missing_folder_is_free(tmp_path):
    outputs.refuse_foreign(tmp_path / "new", NAMES)
    assert not (tmp_path / "new").exists() and outputs.made_by_us(tmp_path) == {}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_somebody_else_is_refused_by_name_and_stays(tmp_path, name):
    write(tmp_path, name, text="mine")
    assert str(tmp_path / name) in refusal(tmp_path)
    assert (tmp_path / name).read_text() == "mine" and not (tmp_path / outputs.MANIFEST).exists()


def test_other_files_beside_ours_are_let_be(tmp_path):
    write(tmp_path, "frames/mine.txt", "notes.txt", text="mine")
    outputs.claim(tmp_path, NAMES)
    write(tmp_path, *NAMES)
    outputs.record(tmp_path, NAMES)
    outputs.remove_made(tmp_path, ["frames/mine.txt", "notes.txt"])
    assert (tmp_path / "frames/mine.txt").read_text() == (tmp_path / "notes.txt").read_text() == "mine"


def test_what_was_claimed_and_half_written_is_ours_after_a_kill(tmp_path):
    outputs.claim(tmp_path, NAMES)
    write(tmp_path, "mesh.glb", text="hal")
    outputs.claim(tmp_path, NAMES)


def test_what_was_recorded_is_ours_until_somebody_changes_it(tmp_path):
    outputs.claim(tmp_path, NAMES)
    write(tmp_path, *NAMES)
    outputs.record(tmp_path, NAMES)
    outputs.claim(tmp_path, NAMES)
    outputs.record(tmp_path, NAMES)
    write(tmp_path, "mesh.glb", text="sculpted on")
    assert "mesh.glb was changed since" in refusal(tmp_path)


def test_a_copied_folder_is_still_ours(tmp_path):
    write(tmp_path / "a", *NAMES)
    outputs.record(tmp_path / "a", NAMES)
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copyfile)
    outputs.claim(tmp_path / "b", NAMES)


def test_what_was_removed_is_nobodys(tmp_path):
    write(tmp_path, *NAMES)
    outputs.record(tmp_path, NAMES)
    outputs.remove_made(tmp_path, NAMES)
    assert not (tmp_path / NAMES[1]).exists() and outputs.made_by_us(tmp_path) == {}
    write(tmp_path, "mesh.glb", text="mine")
    refusal(tmp_path)


def test_a_changed_file_is_not_removed(tmp_path):
    write(tmp_path, *NAMES)
    outputs.record(tmp_path, NAMES)
    write(tmp_path, "mesh.glb", text="sculpted on")
    outputs.remove_made(tmp_path, NAMES)
    assert (tmp_path / "mesh.glb").exists() and not (tmp_path / NAMES[1]).exists()


@pytest.mark.parametrize("kind", ["folder", "file above", "link to nothing"])
def test_what_is_in_the_way_is_refused(tmp_path, kind):
    if kind == "folder":
        (tmp_path / "mesh.glb").mkdir()
    elif kind == "file above":
        write(tmp_path, "frames", text="mine")
    else:
        os.symlink(tmp_path / "nowhere", tmp_path / "mesh.glb")
    assert ("frames" if kind == "file above" else "mesh.glb") in refusal(tmp_path)


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/outside.txt", "a/../../outside.txt", "c:outside.txt", ""])
def test_a_strangers_manifest_reaches_nothing_outside(tmp_path, name):
    folder = tmp_path / "folder"
    write(tmp_path, "outside.txt", "folder/mesh.glb")
    (folder / outputs.MANIFEST).write_text(json.dumps({"made": {name: None}}))
    assert outputs.made_by_us(folder) == {}
    outputs.remove_made(folder, [name])
    assert (tmp_path / "outside.txt").exists()


@pytest.mark.parametrize("text", ["", "[]", "5", '{"made": 5}', "{"])
def test_a_damaged_manifest_is_said_in_a_sentence(tmp_path, text):
    (tmp_path / outputs.MANIFEST).write_text(text)
    with pytest.raises(In2nError) as refused:
        outputs.claim(tmp_path, NAMES)
    assert refused.value.code == "bad_json" and (tmp_path / outputs.MANIFEST).read_text() == text


# --- folders of the version without manifests


def old_run(folder, file="run.json", suffix=" snow-1a2b", without=()):
    settings, stages = {}, {}
    for stage, result in (("render", {"count": 1}), ("mesh", {"vertices": 8})):
        settings = {**settings, stage + suffix: {"device": "cpu"}}
        stages[stage + suffix] = {"settings": settings, **({} if stage in without else {"result": result})}
    write(folder, file, text=json.dumps(stages))


@pytest.mark.parametrize("file, suffix", [("run.json", " snow-1a2b"), ("demo.json", "")])
def test_what_an_older_run_names_is_ours(tmp_path, file, suffix):
    old_run(tmp_path, file, suffix)
    write(tmp_path, *NAMES)
    outputs.claim(tmp_path, [*NAMES, file])
    assert ("demo.blend" in outputs.made_by_us(tmp_path)) == (file == "demo.json")


def test_what_an_older_run_did_not_come_to_is_not(tmp_path):
    old_run(tmp_path, without=("mesh",))
    write(tmp_path, "mesh.glb", text="mine")
    refusal(tmp_path)
    old_run(tmp_path)
    write(tmp_path, "frames/edited/0002.png", text="mine")
    refusal(tmp_path, ["frames/edited/0002.png"])


@pytest.mark.parametrize("text", ["{", "[]", "5", '{"import": 5}', '{"import": {"settings": {}}}'])
def test_a_run_json_of_somebody_else_gives_nothing_away(tmp_path, text):
    write(tmp_path, "run.json", text=text)
    assert "run.json" in refusal(tmp_path, ["run.json"]) and (tmp_path / "run.json").read_text() == text
