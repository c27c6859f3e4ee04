"""The worker's side of the protocol, as lines of text."""

import io
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from in2n_blender.engine.worker import JOBS, Worker, _Throttle
from in2n_blender.link.messages import PROTOCOL
from in2n_blender.link.requests import REQUESTS
from in2n_blender.scene.reporting import Progress
from in2n_blender.workspace import files

PACKAGE = Path(__file__).resolve().parents[2] / "in2n_blender"


def serve(*messages, jobs=None):
    """What a worker answers to the messages, given all at once."""
    answers = io.StringIO()
    lines = [m if isinstance(m, (str, bytes)) else json.dumps({"jsonrpc": "2.0", **m}) for m in messages]
    worker = Worker(iter(lines), answers, jobs)
    worker._exit_hard_later = lambda: None
    worker.serve()
    return [json.loads(line) for line in answers.getvalue().splitlines()]


def test_every_request_has_a_job():
    assert set(JOBS) == set(REQUESTS)


def test_hello_is_answered_without_a_job():
    (answer,) = serve({"id": 5, "method": "hello"})
    assert answer["id"] == 5 and answer["jsonrpc"] == "2.0" and answer["result"]["pid"] == os.getpid()


@pytest.mark.parametrize(
    "message, code",
    [("not json", -32600), ("[1]", -32600), ({"id": 1}, -32600), ({"id": 1, "method": "dance"}, -32601)],
)
def test_malformed_messages_are_answered_and_do_not_end_it(message, code):
    answers = {a["id"]: a for a in serve(message, {"id": 2, "method": "hello"})}
    assert "result" in answers[2]
    (error,) = [a["error"] for a in answers.values() if "error" in a]
    assert error["code"] == code


def request(method="mesh", id=1, **params):
    return {"id": id, "method": method, "params": {"workspace": "w", **params}}


def test_results_may_hold_numpy_numbers_and_paths():
    import numpy as np

    class UntilDone:
        """The end of input would cancel the job: give it only when the job has run."""

        done = threading.Event()

        def __iter__(self):
            yield json.dumps(request())
            self.done.wait(30)

    def job(request, report):
        UntilDone.done.set()
        return {"a": np.float32(0.5), "b": np.arange(2), "c": Path("x")}

    answers = io.StringIO()
    worker = Worker(UntilDone(), answers, {"mesh": job})
    worker._exit_hard_later = lambda: None
    worker.serve()
    assert json.loads(answers.getvalue())["result"] == {"a": 0.5, "b": [0, 1], "c": "x"}


@pytest.mark.parametrize(
    "message, number, code, said",
    [
        (request(colour="red"), -32602, "bad_request", "colour"),
        (request("edit", name="n", instruction="  "), -32602, "empty_instruction", "empty"),
        (request("reconstruct", preset="huge"), -32602, "unknown_preset", "huge"),
        (request("reconstruct", device="abacus"), -32602, "unknown_device", "abacus"),
        (request("edit", name="n", instruction="x", guidance_text=float("nan")), -32602, "bad_guidance", "nan"),
    ],
)
def test_a_bad_request_is_answered_and_never_reaches_its_job(message, number, code, said):
    def job(request, report):
        raise AssertionError("was called")

    (answer,) = serve(message, jobs=dict.fromkeys(("mesh", "edit", "reconstruct"), job))
    assert (
        answer["error"]["code"] == number
        and answer["error"]["data"]["code"] == code
        and said in answer["error"]["message"]
    )


def test_a_job_notices_the_end_of_input():
    def job(request, report):
        while True:
            report.check()

    (answer,) = serve(request(), jobs={"mesh": job})
    assert answer["error"]["data"]["code"] == "cancelled"


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000,
        '{"a":' * 50_000,
        "[]",
        "5",
        "null",
        '"text"',
        f'{{"id": 1, "method": "mesh", "params": {{"workspace": "w", "resolution": 1{"0" * 400}}}}}',
        f'{{"id": 1, "method": "mesh", "params": {{"workspace": "w", "resolution": 1{"0" * 5000}}}}}',
        '{"id": 1, "method": "mesh", "params": []}',
        '{"id": 1, "method": "mesh", "params": 5}',
        '{"id": 1, "method": "mesh", "params": {"workspace": ["w"]}}',
        '{"id": 1, "method": "edit", "params": {"workspace": "w", "name": "e", "instruction": 5}}',
        '{"id": 1, "method": "edit", "params": {"workspace": "w", "name": "e", "instruction": ["x"]}}',
        '{"id": 1, "method": ["mesh"], "params": {}}',
        '{"id": {"a": 1}, "method": "mesh", "params": {"workspace": "w"}}',
        '{"method": "cancel", "params": [1]}',
        '{"id": 1, "method": "cancel", "params": {"id": [1]}}',
        b"\xff\xfe\x00not UTF-8",
        b'{"id": 1, "method": "mesh", "params": {"workspace": "\xff"}}',
        "NaN",
    ],
)
def test_every_line_is_answered_and_none_ends_the_reading(line):
    answers = serve(line, {"id": "last", "method": "hello"})
    assert answers[-1]["id"] == "last" and answers[-1]["result"]["pid"] == os.getpid()
    assert all("error" in answer or "cancelling" in answer["result"] for answer in answers[:-1])
    assert len(answers) == 2 or '"cancel"' in str(line)


def test_a_request_while_a_job_runs_is_refused():
    """The queue is the client's."""
    begun, go_on = threading.Event(), threading.Event()

    class Lines:
        def __iter__(self):
            yield json.dumps(request(id=1))
            begun.wait(30)
            yield json.dumps(request(id=2))
            go_on.set()

    def job(request, report):
        begun.set()
        go_on.wait(30)
        return {}

    answers = io.StringIO()
    worker = Worker(Lines(), answers, {"mesh": job})
    worker._exit_hard_later = lambda: None
    worker.serve()
    by_id = {answer["id"]: answer for answer in map(json.loads, answers.getvalue().splitlines())}
    assert by_id[1]["result"] == {} and by_id[2]["error"]["data"]["code"] == "busy"


def answers_of(job, workspace):
    """What a job's request and a hello behind it get, by their numbers; the input does not end before the job began,
    which would cancel it."""
    called = threading.Event()

    class Lines:
        def __iter__(self):
            yield json.dumps(request(workspace=str(workspace)))
            called.wait(30)
            yield json.dumps({"id": 2, "method": "hello"})

    def called_job(request, report):
        called.set()
        return job()

    answers = io.StringIO()
    worker = Worker(Lines(), answers, {"mesh": called_job})
    worker._exit_hard_later = lambda: None
    worker.serve()
    return {answer["id"]: answer for answer in map(json.loads, answers.getvalue().splitlines())}


@pytest.mark.parametrize("workspace", ["x" * 300, "a\nb", "/dev/null/x"])
def test_a_job_of_a_workspace_with_an_impossible_name_fails_and_the_worker_lives(workspace):
    def job():
        raise ValueError("a mistake")

    by_id = answers_of(job, workspace)
    assert by_id[1]["error"]["data"]["code"] == "bug" and "ValueError" in by_id[1]["error"]["message"]
    assert by_id[2]["result"]["pid"] == os.getpid()


def test_a_workspace_that_is_moved_under_a_job_is_not_made_again(tmp_path):
    (tmp_path / "ws").mkdir()

    def job():
        files.write_json(tmp_path / "ws/before.json", {})
        (tmp_path / "ws").rename(tmp_path / "moved")
        files.write_json(tmp_path / "ws/reconstruction/after.json", {})

    assert answers_of(job, tmp_path / "ws")[1]["error"]["data"]["code"] == "workspace_gone"
    assert [path.name for path in tmp_path.iterdir()] == ["moved"] and (tmp_path / "moved/before.json").is_file()
    files.write_json(tmp_path / "ws/later.json", {})


@pytest.mark.skipif(os.name == "nt", reason="a pipe of POSIX")
def test_it_ends_with_its_input_also_where_nobody_reads_its_output(tmp_path):
    """Four seconds after the end of input it is gone, though its output is full and its job asks for nothing."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("fake_worker.py"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    params = {"workspace": str(tmp_path), "name": "e", "instruction": "flood"}
    process.stdin.write(json.dumps({"id": 1, "method": "edit", "params": params}).encode() + b"\n")
    process.stdin.flush()
    process.stdout.read(1)  # it has begun to say so much that the pipe is full at once
    process.stdin.close()
    assert process.wait(30) is not None
    process.stdout.close()


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Sent:
    def __init__(self):
        self.messages = []

    def notify(self, method, params):
        self.messages.append((method, params))


def test_progress_is_thinned_out_but_the_last_is_kept_and_time_left_estimated():
    clock, sent = Clock(), Sent()
    throttle = _Throttle(sent, 1, clock)
    for step in range(1, 1001):
        clock.now = step * 0.01
        throttle.emit(Progress(step, 1000, "steps", "training"))
    assert 95 <= len(sent.messages) <= 105
    assert sent.messages[-1][1]["done"] == 1000 and sent.messages[-1][1]["seconds_left"] == 0
    middle = min(sent.messages, key=lambda m: abs(m[1]["done"] - 500))[1]
    assert middle["seconds_left"] == pytest.approx(5.0, abs=0.3)


def test_time_left_of_a_resumed_job_counts_only_what_it_did_itself():
    clock, sent = Clock(), Sent()
    throttle = _Throttle(sent, 1, clock)
    throttle.emit(Progress(900, 1000, "steps", "training"))
    clock.now = 10.0
    throttle.emit(Progress(950, 1000, "steps", "training"))
    assert sent.messages[-1][1]["seconds_left"] == pytest.approx(10.0)


def test_runs_from_a_folder_of_any_name(tmp_path):
    """As the installed extension: another folder name, no checkout on the path, a foreign PYTHONPATH."""
    folder = tmp_path / "bl_ext" / "renamed add-on"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__", "data", "*.safetensors"))
    done = subprocess.run(
        [sys.executable, "-I", str(folder / "engine" / "worker.py")],
        input='{"id": 1, "method": "hello"}\n',
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": "/nowhere"},
        timeout=60,
    )
    assert json.loads(done.stdout)["result"]["protocol"] == PROTOCOL and done.returncode == 0, done.stderr
