"""The journal of a workspace: what is offered to be gone on with."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from in2n_blender.link.requests import Edit, Reconstruct
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Progress
from in2n_blender.workspace import journal

REQUEST = Edit(workspace="w", name="snow", instruction="Make it snow", guidance_text=3.0)


def run(folder, error, label="Edit", requests=((REQUEST.method, REQUEST.to_params()),)):
    """A job that says something and then ends."""
    kept = journal.Journal(folder, label, requests)
    assert journal.is_locked(folder) and journal.unfinished(folder) is None
    kept.note(Progress(1, 8, "views", "Editing"))
    kept.note(Progress(3, 8, "views", "Editing"))
    kept.note("a line of the engine")
    kept.close(error)


def test_a_job_that_is_done_leaves_only_its_log(tmp_path):
    run(tmp_path / "w", None)
    assert journal.unfinished(tmp_path / "w") is None and not journal.is_locked(tmp_path / "w")
    assert not (tmp_path / "w" / "job.json").exists()
    lines = [line[20:] for line in (tmp_path / "w" / "engine.log").read_text().splitlines()]
    assert lines == ["--- Edit", "Editing (1 / 8 views)", "a line of the engine", "Edit: done"]


@pytest.mark.parametrize(
    "error, state, why",
    [
        (Cancelled(), journal.CANCELLED, "It was cancelled."),
        (
            In2nError("worker_crashed", "The engine stopped unexpectedly: killed.", "Run it again."),
            journal.FAILED,
            "The engine stopped unexpectedly: killed.",
        ),
        (ValueError("a mistake\nof two lines"), journal.FAILED, "ValueError: a mistake"),
    ],
)
def test_a_job_that_is_not_done_can_be_gone_on_with(tmp_path, error, state, why):
    requests = tuple((r.method, r.to_params()) for r in (Reconstruct(workspace="w", steps=5), REQUEST))
    run(tmp_path, error, requests=requests)
    left = journal.unfinished(tmp_path)
    assert (left.label, left.requests, left.state, left.why) == ("Edit", requests, state, why)
    assert (left.done, left.total, left.factor) == (3, 8, 0.375)
    journal.forget(tmp_path)
    assert journal.unfinished(tmp_path) is None
    assert ("ValueError: a mistake\nof two lines" in (tmp_path / "engine.log").read_text()) == isinstance(
        error, ValueError
    )


def test_what_cannot_be_gone_on_with_is_not_offered(tmp_path):
    run(tmp_path, Cancelled(), "Preview", None)
    assert journal.unfinished(tmp_path) is None


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{}",
        json.dumps(
            {
                "label": "x",
                "requests": [{"method": "edit"}],
                "state": "running",
                "why": "",
                "done": 0,
                "total": 0,
            }
        ),
    ],
)
def test_a_damaged_journal_is_no_offer(tmp_path, text):
    (tmp_path / "job.json").write_text(text)
    assert journal.unfinished(tmp_path) is None


def test_one_job_at_a_time_in_a_workspace_and_none_outlives_its_process(tmp_path):
    """A process that is killed leaves its job to be gone on with; while it lives, nobody else works there."""
    program = """
import sys, time
from in2n_blender.workspace.journal import Journal
from in2n_blender.scene.reporting import Progress

journal = Journal(sys.argv[1], "Edit", [("edit", {})])
journal.note(Progress(1, 4, "views", "Editing"))
print("working", flush=True)
time.sleep(600)
"""
    root = Path(journal.__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=root, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "working\n"
        assert journal.is_locked(tmp_path) and journal.unfinished(tmp_path) is None
        with pytest.raises(In2nError) as raised:
            journal.Journal(tmp_path, "Edit")
        assert raised.value.code == "workspace_busy"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    left = journal.unfinished(tmp_path)
    assert (left.state, left.why, left.factor) == (journal.RUNNING, "Blender was closed while it ran.", 0.25)


def test_a_workspace_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(In2nError) as raised:
        journal.Journal(tmp_path / "file" / "w", "Edit")
    assert raised.value.code == "cannot_write"


def test_a_folder_in_which_a_job_refused_to_work_is_as_it_was(tmp_path):
    refusal = In2nError("not_ours", "These photos are not ours.", "Choose another folder.")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "photo.png").write_text("mine")
    for folder in (tmp_path / "own", tmp_path / "new"):
        run(folder, refusal, "import", None)
    assert [path.name for path in tmp_path.rglob("*")] == ["own", "photo.png"]
    run(tmp_path / "own", None)
    run(tmp_path / "own", refusal, "import", None)
    assert "These photos are not ours." in (tmp_path / "own" / "engine.log").read_text(), "a log that is there stays"
