"""An edit whose instruction, guidance or region is changed while it is on its way."""

import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from in2n_blender.engine.editing import methods, segments
from in2n_blender.engine.editing.agreement import Agreement
from in2n_blender.engine.editing.methods import edit
from in2n_blender.engine.nerf.checkpoint import read_checkpoint
from in2n_blender.engine.nerf.scene import load_scene
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.region import Region
from in2n_blender.scene.reporting import Artifact, Reporter
from in2n_blender.workspace.files import read_json, write_json
from in2n_blender.workspace.hashes import checkpoint_state
from in2n_blender.workspace.layout import REGION_FILE, Workspace
from in2n_blender.workspace.provenance import is_done
from tests.engine.recording_editor import RecordingEditor
from tests.engine.test_dataset_update import made, request_for, tiny  # noqa: F401 (fixtures)
from tests.engine.test_provenance import as_last_version, contents, own  # noqa: F401


class Listening(RecordingEditor):
    """Knows one instruction less than all."""

    def prepare(self, instruction, negative_prompt=""):
        if instruction == "sing":
            raise In2nError("unknown_instruction", "It cannot sing.", "Ask for something else.")
        super().prepare(instruction)

    def edit(self, render, original, **more):
        answer = super().edit(render, original, **more)
        self.calls[-1].instruction = self.instruction
        return answer


@pytest.fixture
def editor(monkeypatch):
    editor = Listening()
    monkeypatch.setattr(methods, "load_editor", lambda *_: editor)
    return editor


def interrupt_after(request, edits, method=None):
    """Make an edit until so many views are edited, then cancel it."""
    pictures, stop = iter(range(edits - 1)), []
    ends = lambda event: isinstance(event, Artifact) and event.kind == "image" and next(pictures, None) is None
    with pytest.raises(Cancelled):
        edit(request, Reporter(lambda event: stop.append(1) if ends(event) else None, lambda: bool(stop)), method)


def changed(request, **more):
    return type(request)(**{**request.to_params(), **more})


NIGHT = {"instruction": "make it late", "guidance_text": 9.0}


def test_a_change_counts_from_the_next_view_on_and_is_recorded(own, editor):
    workspace, _ = own
    request = request_for(workspace.root, "miniature", "x")
    interrupt_after(request, 3)
    state = edit(changed(request, **NIGHT, apply_from_here=True), Reporter())
    before, after = editor.calls[:3], editor.calls[3:]
    assert len(after) == 5 and {(c.instruction, c.guidance_text) for c in before} == {("make it night", 2.0)}
    assert {(c.instruction, c.guidance_text) for c in after} == {("make it late", 9.0)}
    record = json.loads((workspace.edit("x") / "edit.json").read_text())
    assert (
        record["segments"]
        == state["segments"]
        == [
            {
                "from_edit": 0,
                "instruction": "make it night",
                "guidance_text": 2.0,
                "guidance_image": 1.5,
                "region": None,
            },
            {
                "from_edit": 3,
                "instruction": "make it late",
                "guidance_text": 9.0,
                "guidance_image": 1.5,
                "region": None,
            },
        ]
    )
    assert record["instruction"] == "make it late" and is_done(workspace, "x")
    assert edit(changed(request, **NIGHT), Reporter())["done"] and len(editor.calls) == 8, "done, as it is"
    for other in (request, changed(request, instruction="make it late")):
        with pytest.raises(In2nError) as refused:
            edit(other, Reporter())
        assert refused.value.code == "edit_exists", "an edit of one segment is another one"


@pytest.mark.parametrize("is_killed", [False, True], ids=["at once", "killed after it was noted"])
def test_going_back_to_what_it_began_with_is_a_third_segment(own, editor, monkeypatch, is_killed):
    workspace, _ = own
    request = request_for(workspace.root, "miniature", "x")
    interrupt_after(request, 3)
    interrupt_after(changed(request, **NIGHT, apply_from_here=True), 2)
    if is_killed:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(segments, "save_checkpoint", mock.Mock(side_effect=KeyboardInterrupt))
            edit(changed(request, apply_from_here=True), Reporter())
    state = edit(changed(request, apply_from_here=not is_killed), Reporter())
    assert [segment["from_edit"] for segment in state["segments"]] == [0, 3, 5]
    instructions = ["make it night", "make it late", "make it night"]
    assert [segment["instruction"] for segment in state["segments"]] == instructions
    assert [c.instruction for c in editor.calls] == [instructions[0]] * 3 + [instructions[1]] * 2 + [
        instructions[2]
    ] * 3


def test_nothing_changes_where_a_change_is_refused(own, editor):
    workspace, _ = own
    request = request_for(workspace.root, "miniature", "x", rounds=1)
    interrupt_after(request, 2)
    before = contents(workspace.edit("x"))
    refusals = {
        "unknown_instruction": changed(request, instruction="sing"),
        "edit_exists": changed(request, **NIGHT, seed=8),
        "no_edit": changed(request, **NIGHT, name="y"),
    }
    for code, wrong in refusals.items():
        with pytest.raises(In2nError) as refused:
            edit(changed(wrong, apply_from_here=True), Reporter())
        assert refused.value.code == code and contents(workspace.edit("x")) == before
    with pytest.raises(In2nError) as refused:
        edit(changed(request, apply_from_here=True, restart=True), Reporter())
    assert refused.value.code == "restart_or_go_on"
    edit(request, Reporter())
    before = contents(workspace.edit("x"))
    with pytest.raises(In2nError) as refused:
        edit(changed(request, **NIGHT, apply_from_here=True), Reporter())
    assert refused.value.code == "edit_done" and "builds on it" in refused.value.hint
    assert contents(workspace.edit("x")) == before and len(editor.calls) == 4


def test_agreement_can_be_changed_while_it_carries_and_while_it_updates(own, editor):
    workspace, _ = own
    for name, edits in (("carrying", 3), ("updating", 6)):
        request = request_for(workspace.root, "miniature", name, rounds=1)
        interrupt_after(request, edits, Agreement)
        before = len(editor.calls)
        state = edit(changed(request, **NIGHT, apply_from_here=True), Reporter(), Agreement)
        assert {call.instruction for call in editor.calls[before:]} == {"make it late"}
        assert [segment["from_edit"] for segment in state["segments"]] == [0, edits] and state["edits_done"] == 8
    request = request_for(workspace.root, "miniature", "settling", rounds=1)
    interrupt_after(request, 8, Agreement)
    with pytest.raises(In2nError) as refused:
        edit(changed(request, **NIGHT, apply_from_here=True), Reporter(), Agreement)
    assert refused.value.code == "edit_done"


def test_a_region_can_be_given_and_changed_on_the_way(own, editor, tmp_path):
    """Outside of the last region the scene shows what it showed before the edit, whatever was edited earlier."""
    workspace, _ = own
    left, right = (Region.box([[1, 0, 0, x], [0, 4, 0, 0], [0, 0, 4, 0], [0, 0, 0, 1]]) for x in (-0.55, 0.55))
    files = [str(tmp_path / f"{name}.json") for name in ("left", "right")]
    for file, region in zip(files, (left, right)):
        write_json(Path(file), region.to_json())
    request = request_for(workspace.root, "miniature", "x", rounds=1)
    interrupt_after(request, 2)
    interrupt_after(changed(request, region=files[0], apply_from_here=True), 1)
    state = edit(changed(request, region=files[1], apply_from_here=True), Reporter())
    assert [segment["from_edit"] for segment in state["segments"]] == [0, 2, 3] and state["edits_done"] == 4
    of_segments = [(segment["region"] or {}).get("hash") for segment in state["segments"]]
    assert of_segments == [None, left.hash, right.hash] and is_done(workspace, "x")
    assert Region.from_json(read_json(workspace.edit("x") / REGION_FILE)).hash == right.hash
    before, after = (load_scene(workspace, name, "cpu") for name in (None, "x"))
    points = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (4000, 3)).astype(np.float32))
    changed_at = (before.density(points) - after.density(points)).abs() > 1e-4
    inside = (points[:, 0] - 0.55).abs() < 0.5
    assert changed_at[inside].any() and not changed_at[~inside].any()


def test_a_change_before_anything_was_edited_leaves_one_segment(own, editor):
    workspace, _ = own
    request = request_for(workspace.root, "miniature", "x", rounds=1)
    with pytest.raises(Cancelled):
        edit(request, Reporter(cancelled=lambda: (workspace.edit("x") / "edit.json").exists()))
    state = edit(changed(request, **NIGHT, apply_from_here=True), Reporter())
    assert [c.instruction for c in editor.calls] == ["make it late"] * 4 and len(state["segments"]) == 1
    edit(changed(request, **NIGHT, name="y"), Reporter())
    same = checkpoint_state(workspace.edit("y"))["provenance"]
    assert state["provenance"] == same and "segments" not in same["settings"], "an edit like any other"


def test_a_change_taken_back_before_the_next_view_was_none(own, editor):
    workspace, _ = own
    request = request_for(workspace.root, "miniature", "x", rounds=1)
    interrupt_after(request, 2)
    at_once = Reporter(cancelled=lambda: len(checkpoint_state(workspace.edit("x"))["segments"]) == 2)
    with pytest.raises(Cancelled):
        edit(changed(request, **NIGHT, apply_from_here=True), at_once)
    assert len(checkpoint_state(workspace.edit("x"))["segments"]) == 2 and len(editor.calls) == 2
    state = edit(changed(request, apply_from_here=True), Reporter())
    assert len(state["segments"]) == 1 and {c.instruction for c in editor.calls} == {"make it night"}


def test_an_unfinished_edit_of_the_last_version_can_be_changed(own, editor):
    workspace, _ = own
    request = request_for(workspace.root, "miniature", "x", rounds=1)
    interrupt_after(request, 2)
    as_last_version(workspace.edit("x"), "segments")
    state = edit(changed(request, **NIGHT, apply_from_here=True), Reporter())
    assert [segment["from_edit"] for segment in state["segments"]] == [0, 2] and is_done(workspace, "x")


def test_a_changed_edit_that_was_interrupted_goes_on_exactly(made):
    workspace, editor = made
    later = {"guidance_text": 6.0, "guidance_image": 1.0}
    tensors = {}
    for name in ("changed", "interrupted", "unchanged"):
        request = request_for(workspace, editor, name, rounds=1)
        interrupt_after(request, 2)
        if name == "interrupted":
            interrupt_after(changed(request, **later, apply_from_here=True), 1)
        flag = {"apply_from_here": True} if name == "changed" else {}
        edit(changed(request, **later, **flag) if name != "unchanged" else request, Reporter())
        tensors[name] = read_checkpoint(Workspace(workspace).edit(name))[0]
    for name, value in tensors["changed"].items():
        assert torch.equal(value, tensors["interrupted"][name]), name
    assert not torch.equal(tensors["changed"]["dataset"], tensors["unchanged"]["dataset"])
