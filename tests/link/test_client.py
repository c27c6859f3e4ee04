"""The client: its state machine by itself, and with a real worker process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from in2n_blender.link import client as c
from in2n_blender.link.requests import Edit, Reconstruct
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Artifact, Progress

FAKE = Path(__file__).with_name("fake_worker.py")
JOB = c.QueuedJob(1, "edit", {})
OTHER = c.QueuedJob(2, "mesh", {})
HELLO = {"id": c.HELLO_ID, "result": {"pid": 7}}


def follow(*events, state=c.State()):
    """The state after the events and all effects on the way."""
    effects = []
    for event in events:
        state, more = c.transition(state, event)
        effects += more
    return state, effects


def told(effects):
    return [e.event for e in effects if isinstance(e, c.Tell)]


# --- the state machine


def test_first_job_starts_the_worker_and_is_sent_once_it_answers():
    state, effects = follow(c.Submit(JOB))
    assert state.phase == c.STARTING and isinstance(effects[0], c.StartProcess)
    state, effects = c.transition(state, c.Message(HELLO))
    assert state.phase == c.RUNNING and c.Send({"id": 1, "method": "edit", "params": {}}) in effects
    assert told(effects) == [c.Ready({"pid": 7}), c.Started(1, "edit")]


def test_jobs_run_one_after_another():
    state, effects = follow(c.Submit(JOB), c.Submit(OTHER), c.Message(HELLO))
    assert state.running == JOB and state.queue == (OTHER,)
    state, effects = c.transition(state, c.Message({"id": 1, "result": {"rounds": 3}}))
    assert state.running == OTHER and told(effects) == [c.Finished(1, {"rounds": 3}), c.Started(2, "mesh")]
    state, _ = c.transition(state, c.Message({"id": 2, "result": {}}))
    assert state == c.State(c.IDLE)


def test_progress_of_the_running_job_only():
    state, _ = follow(c.Submit(JOB), c.Message(HELLO))
    progress = {"done": 1, "total": 2, "unit": "steps", "message": "m", "seconds_left": None}
    _, effects = c.transition(state, c.Message({"method": "progress", "params": {"id": 1, **progress}}))
    assert told(effects) == [c.Reported(1, Progress(**progress))]
    _, effects = c.transition(state, c.Message({"method": "progress", "params": {"id": 99, **progress}}))
    assert effects == []


def test_cancelling_a_waiting_job_leaves_the_running_one():
    state, _ = follow(c.Submit(JOB), c.Submit(OTHER), c.Message(HELLO))
    state, effects = c.transition(state, c.Cancel(2, now=0.0))
    assert state.phase == c.RUNNING and state.queue == () and isinstance(told(effects)[0].error, Cancelled)


def test_a_job_counts_as_cancelled_within_a_second_and_is_killed_after_the_grace():
    state, effects = follow(c.Submit(JOB), c.Message(HELLO), c.Cancel(None, now=10.0))
    assert state.phase == c.CANCELLING and c.Send({"method": "cancel", "params": {"id": 1}}) in effects
    assert c.CANCEL_PATIENCE < 1 and follow(c.Tick(10.0 + c.CANCEL_PATIENCE - 0.1), state=state)[1] == []
    state, effects = c.transition(state, c.Tick(10.0 + c.CANCEL_PATIENCE + 0.1))
    assert isinstance(told(effects)[0].error, Cancelled) and state.phase == c.CANCELLING
    assert follow(c.Tick(10.0 + c.CANCEL_GRACE - 0.1), state=state)[1] == [], "it is told once, and may save"
    state, effects = c.transition(state, c.Tick(10.0 + c.CANCEL_GRACE + 0.1))
    assert effects == [c.Kill()]
    assert c.transition(state, c.Exited(-9, "")) == (c.State(), [])


def test_a_job_that_was_given_up_tells_no_more_and_the_next_waits_for_it():
    state, _ = follow(c.Submit(JOB), c.Message(HELLO), c.Cancel(None, now=0.0), c.Tick(2.0), c.Submit(OTHER))
    assert state.phase == c.CANCELLING and state.queue == (OTHER,)
    progress = {"id": 1, "done": 1, "total": 2, "unit": "", "message": ""}
    assert c.transition(state, c.Message({"method": "progress", "params": progress}))[1] == []
    state, effects = c.transition(state, c.Message({"id": 1, "result": {}}))
    assert state.running == OTHER and [type(e) for e in told(effects)] == [c.Started]


def test_killed_while_cancelling_the_next_job_gets_a_new_worker():
    state, _ = follow(c.Submit(JOB), c.Submit(OTHER), c.Message(HELLO), c.Cancel(1, now=0.0))
    state, effects = c.transition(state, c.Exited(-9, ""))
    assert state.phase == c.STARTING and state.queue == (OTHER,) and c.StartProcess() in effects


@pytest.mark.parametrize("before, code", [((), "worker_not_started"), ((c.Message(HELLO),), "worker_crashed")])
def test_a_crash_fails_every_job_in_one_sentence_and_the_next_submit_starts_again(before, code):
    state, effects = follow(c.Submit(JOB), c.Submit(OTHER), *before, c.Exited(3, "ImportError: no torch"))
    failed = [e for e in told(effects) if isinstance(e, c.Failed)]
    assert state.phase == c.CRASHED and [f.job for f in failed] == [1, 2]
    assert failed[0].error.code == code and "ImportError: no torch" in failed[0].error.message
    state, effects = c.transition(state, c.Submit(JOB))
    assert state.phase == c.STARTING and c.StartProcess() in effects


def test_stopping_closes_the_input_and_cancels_what_was_left():
    state, effects = follow(c.Submit(JOB), c.Submit(OTHER), c.Message(HELLO), c.Stop())
    assert state == c.State() and c.CloseInput() in effects
    assert [e.job for e in told(effects) if isinstance(e, c.Failed)] == [1, 2]


def test_errors_become_what_they_were():
    def error(code):
        state, _ = follow(c.Submit(JOB), c.Message(HELLO))
        data = {"code": code, "hint": "h", "traceback": "trace"}
        return told(
            c.transition(state, c.Message({"id": 1, "error": {"code": -32000, "message": "m", "data": data}}))[1]
        )[0].error

    assert isinstance(error("cancelled"), Cancelled)
    assert isinstance(error("bug"), c.EngineBug) and "trace" in str(error("bug"))
    assert (error("no_gpu").code, error("no_gpu").message, error("no_gpu").hint) == ("no_gpu", "m", "h")


# --- with a worker process


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
    with pytest.raises(c.EngineBug, match="ValueError: a mistake"):
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
    monkeypatch.setattr(c, "CANCEL_GRACE", 1.0)
    begun = []
    with pytest.raises(Cancelled):
        client.run(edit(tmp_path, "hang"), begun.append, lambda: bool(begun))
    assert client.state.phase == c.CANCELLING
    client.settle()
    assert client.state.phase == c.STOPPED and not client.is_running
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
    assert raised.value.code == "worker_crashed" and client.state.phase == c.CRASHED
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
    events = until(lambda: client.poll(), lambda events: sum(isinstance(e, c.Finished) for e in events) == 2)
    order = [(type(e), e.job) for e in events if isinstance(e, (c.Started, c.Finished))]
    assert order == [(c.Started, first), (c.Finished, first), (c.Started, second), (c.Finished, second)]


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
