"""The folder of a scene: names, and what lies where."""

import json
import os

import pytest

from in2n_blender.link.requests import REQUESTS, Edit, from_params
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Reporter
from in2n_blender.workspace import files
from in2n_blender.workspace import layout as w


@pytest.mark.parametrize("name", ["snow", "make-it-snow-1a2b", "A b.2"])
def test_good_names(name):
    assert w.safe_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "../x", "a/b", "a\\b", ".hidden", "x.", "x ", "a" * 81, "con:", "雪", "CON", "nul.txt", "com1 .x"]
)
def test_names_that_could_leave_the_folder_or_not_exist_everywhere(name):
    with pytest.raises(In2nError) as raised:
        w.safe_name(name)
    assert raised.value.code == "bad_name"


def test_edits_are_listed_in_the_order_they_were_started(tmp_path):
    workspace = w.Workspace(tmp_path)
    for age, name in enumerate(["second", "first"]):
        files.write_json(workspace.edit(name) / "edit.json", {})
        os.utime(workspace.edit(name) / "edit.json", (1000 - age, 1000 - age))
    assert workspace.edits() == ["first", "second"]


def test_requests_survive_the_way_through_json():
    request = Edit(workspace="w", name="n", instruction="make it snow", guidance_text=7.5)
    assert from_params(request.method, json.loads(json.dumps(request.to_params()))) == request
    assert {cls.method for cls in REQUESTS.values()} == set(REQUESTS)


def test_a_cancelled_job_stops_at_its_next_word():
    events = []
    report = Reporter(events.append, lambda: len(events) >= 2)
    with pytest.raises(Cancelled):
        for step in range(10):
            report.progress(step, 10, "steps", "working")
    assert len(events) == 2
