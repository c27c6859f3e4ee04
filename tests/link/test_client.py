"""The client with a real worker process."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from in2n_blender.link import client as c
from in2n_blender.link import events as t
from in2n_blender.link import transitions
from in2n_blender.link.messages import EngineBug
from in2n_blender.link.requests import Edit, Reconstruct
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Artifact, Progress
from in2n_blender.workspace import journal
from in2n_blender.workspace.layout import Workspace

FAKE = Path(__file__).with_name("fake_worker.py")


@pytest.fixture
def client(tmp_path):
    with c.Client(sys.executable, tmp_path / "worker.log", FAKE) as made:
        yield made


def edit(tmp_path, instruction):
    return Edit(workspace=str(tmp_path), name="e", instruction=instruction)


def test_a_job_reports_and_returns(client, tmp_path):
    events = []
    result = client.run(Reconstruct(workspace=str(tmp_path), steps=3), events.append)
    assert result == {"psnr_db": 30.0, "thread_policy": "passive"}
    assert any(isinstance(e, Progress) and (e.done, e.total, e.unit) == (1, 3, "steps") for e in events)
    assert any(isinstance(e, Progress) and e.done == 3 for e in events)  # the last is never swallowed
    assert Artifact("image", str(tmp_path / "preview.png")) in events and "trained" in events
    assert client.info["pid"] != os.getpid() and "numpy" in client.info["versions"]


def test_stray_output_goes_to_the_log(client, tmp_path):
    client.run(Reconstruct(workspace=str(tmp_path), steps=1))
    client.stop()
    log = (tmp_path / "worker.log").read_text()
    assert "stray output from Python" in log and "stray output from a library" in log


@pytest.mark.parametrize(
    "instruction, code", [("user error", "no_editor"), ("memory", "out_of_memory"), ("disk", "disk_full")]
)
def test_what_a_user_can_mend_is_an_in2n_error(client, tmp_path, instruction, code):
    with pytest.raises(In2nError) as raised:
        client.run(edit(tmp_path, instruction))
    assert raised.value.code == code and raised.value.hint


def test_a_bug_keeps_its_traceback_also_in_the_workspace(client, tmp_path):
    with pytest.raises(EngineBug, match="ValueError: a mistake"):
        client.run(edit(tmp_path, "bug"))
    assert "ValueError: a mistake" in (tmp_path / "engine.log").read_text()
    assert client.run(Reconstruct(workspace=str(tmp_path)))["psnr_db"] == 30.0  # the worker lives on


def test_cancel_and_go_on_with_the_same_worker(client, tmp_path):
    begun = []
    with pytest.raises(Cancelled):
        client.run(edit(tmp_path, "wait"), begun.append, lambda: bool(begun))
    pid = client.info["pid"]
    client.run(Reconstruct(workspace=str(tmp_path)))
    assert client.info["pid"] == pid


def test_a_job_that_ignores_cancel_is_ended(client, tmp_path, monkeypatch):
    monkeypatch.setattr(transitions, "CANCEL_GRACE", 1.0)
    begun = []
    with pytest.raises(Cancelled):
        client.run(edit(tmp_path, "hang"), begun.append, lambda: bool(begun))
    assert not client.is_running and not journal.is_locked(tmp_path), "it is told when it is true"
    assert client.run(Reconstruct(workspace=str(tmp_path)))["psnr_db"] == 30.0


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_a_worker_that_ended_between_two_jobs_is_not_blamed_on_the_next(client, tmp_path):
    client.run(Reconstruct(workspace=str(tmp_path)))
    os.kill(client.info["pid"], signal.SIGKILL)
    until(lambda: [None], lambda _: not client.is_running)
    time.sleep(0.1)  # its pipes end a moment later
    assert client.run(Reconstruct(workspace=str(tmp_path)))["psnr_db"] == 30.0


def test_a_crash_is_told_in_one_sentence_and_can_be_followed_by_another_run(client, tmp_path):
    with pytest.raises(In2nError, match="stopped unexpectedly: about to fall over") as raised:
        client.run(edit(tmp_path, "crash"))
    assert raised.value.code == "worker_crashed" and client.state.engine == t.STOPPED
    assert client.run(Reconstruct(workspace=str(tmp_path)))["psnr_db"] == 30.0


def test_a_python_that_is_not_there(tmp_path):
    with pytest.raises(In2nError) as raised:
        c.Client(tmp_path / "python", tmp_path / "log").run(Reconstruct(workspace=str(tmp_path)))
    assert raised.value.code == "worker_not_started"


def test_poll_never_waits_and_tells_everything_in_order(client, tmp_path):
    first, second = (
        client.submit(Reconstruct(workspace=str(tmp_path), steps=1)),
        client.submit(Reconstruct(workspace=str(tmp_path), steps=2)),
    )
    events = until(lambda: client.poll(), lambda events: sum(isinstance(e, t.Finished) for e in events) == 2)
    order = [(type(e), e.job) for e in events if isinstance(e, (t.Started, t.Finished))]
    assert order == [(t.Started, first), (t.Finished, first), (t.Started, second), (t.Finished, second)]


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_the_worker_ends_when_whoever_started_it_is_killed(tmp_path):
    script = (
        f"import sys; sys.path.insert(0, {str(FAKE.parents[2])!r})\n"
        "from in2n_blender.link.client import Client\nfrom in2n_blender.link.requests import Edit\n"
        f"client = Client(sys.executable, {str(tmp_path / 'log')!r}, {str(FAKE)!r})\n"
        f"client.run(Edit(workspace={str(tmp_path)!r}, name='e', instruction='hang'), lambda e: "
        "print(client.info['pid'], flush=True))"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    until(lambda: [None], lambda _: not alive(worker))


def test_the_workspace_is_locked_until_the_worker_has_answered(client, tmp_path):
    """A cancelled job may still be saving: nobody may work in its workspace before its end is told."""
    begun = []

    def on_event(event):
        begun.append(event)
        assert journal.is_locked(tmp_path)

    with pytest.raises(Cancelled):
        client.run(edit(tmp_path, "slow to stop"), on_event, lambda: bool(begun))
    assert (Workspace(tmp_path).edit("e") / "saved.txt").read_text() == "saved", "it was told after it had saved"
    assert not journal.is_locked(tmp_path)
    left = journal.unfinished(tmp_path)
    assert left.state == journal.CANCELLED and left.requests[0][0] == "edit"


def test_a_workspace_that_another_process_holds(client, tmp_path):
    other = journal.Journal(tmp_path, "Edit")
    try:
        with pytest.raises(In2nError) as raised:
            client.run(Reconstruct(workspace=str(tmp_path)))
        assert raised.value.code == "workspace_busy" and not client.is_running, "no worker is started for it"
    finally:
        other.close(None)
    assert client.run(Reconstruct(workspace=str(tmp_path)))["psnr_db"] == 30.0


def test_several_requests_are_one_job(client, tmp_path):
    events = []
    result = client.run([Reconstruct(workspace=str(tmp_path)), edit(tmp_path, "x")], events.append, label="Both")
    assert result == {"rounds": 1} and "trained" in events
    assert "--- Both" in (tmp_path / "engine.log").read_text()


def test_work_in_a_thread_has_the_same_events(client, tmp_path):
    def copying(report):
        report.progress(1, 2, "MB", "Copying")
        report.log("halfway")
        return {"copied": threading.current_thread() is not threading.main_thread()}

    events = []
    job = client.submit(copying, "Copy", tmp_path)
    assert client.wait(job, events.append) == {"copied": True}
    assert events == [Progress(1, 2, "MB", "Copying"), "halfway"]
    assert not client.is_running and journal.unfinished(tmp_path) is None


def test_a_job_may_work_in_a_thread_first_and_then_ask_the_engine(client, tmp_path):
    done = []
    result = client.run([lambda report: done.append("thread"), Reconstruct(workspace=str(tmp_path))])
    assert result["psnr_db"] == 30.0 and done == ["thread"]


def test_work_in_a_thread_can_be_cancelled_and_may_fail(client):
    def endless(report):
        while True:
            report.progress(0, 1, "", "on and on")
            time.sleep(0.01)

    begun = []
    with pytest.raises(Cancelled):
        client.wait(client.submit(endless, "Endless"), begun.append, lambda: bool(begun))
    with pytest.raises(ZeroDivisionError):
        client.wait(client.submit(lambda report: 1 / 0, "Wrong"))


def test_work_without_the_engine_ends_the_worker_first(client, tmp_path):
    client.run(Reconstruct(workspace=str(tmp_path)))
    pid = client.info["pid"]
    assert client.wait(client.submit(c.without_engine(lambda report: alive(pid)), "Move")) is False


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_a_worker_that_does_not_read_holds_nobody_up(tmp_path):
    """A request larger than any pipe: submitting and stopping return at once all the same."""
    deaf = tmp_path / "deaf.py"
    deaf.write_text(
        "import json, sys, time\nfrom pathlib import Path\nsys.stdin.readline()\n"
        'print(json.dumps({"id": 0, "result": {"protocol": 2}}), flush=True)\ntime.sleep(600)\n'
    )
    with c.Client(sys.executable, tmp_path / "log", deaf) as client:
        job = client.submit(Edit(workspace=str(tmp_path), name="e", instruction="x" * 4_000_000))
        until(client.poll, lambda events: any(isinstance(event, t.Started) for event in events))
        client.stop(0.2)
        (end,) = [event for event in client.poll() if getattr(event, "job", None) == job]
        assert isinstance(end.error, Cancelled) and not client.is_running


@pytest.mark.parametrize(
    "line", ["", "[]", '{"id": 0}', '{"id": 0, "result": {"protocol": 1}}', '{"id": 0, "result": 5}']
)
def test_a_worker_of_another_version_is_not_worked_with(tmp_path, line):
    other = tmp_path / "other.py"
    other.write_text(f"import sys\nsys.stdin.readline()\nprint({line!r}, flush=True)\n")
    with c.Client(sys.executable, tmp_path / "log", other) as client:
        with pytest.raises(In2nError) as raised:
            client.run(Reconstruct(workspace=str(tmp_path / "w")))
        assert raised.value.code == "worker_not_started"


def test_a_log_that_cannot_be_written_stops_no_job(tmp_path):
    """Its lines are read all the same, or the worker would stop at a full pipe."""
    (tmp_path / "worker.log").mkdir()
    with c.Client(sys.executable, tmp_path / "worker.log", FAKE) as client:
        assert client.run(edit(tmp_path, "chatty"))["rounds"] == 1


def alive(pid):
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z" if Path("/proc").is_dir() else True
    except (ProcessLookupError, FileNotFoundError):
        return False


def until(more, enough, patience=30.0):
    """Collect what `more` returns until it is enough; fails when that takes far too long."""
    collected, deadline = [], time.monotonic() + patience
    while not enough(collected):
        assert time.monotonic() < deadline, f"waited in vain; got {collected}"
        collected += more()
        time.sleep(0.02)
    return collected
