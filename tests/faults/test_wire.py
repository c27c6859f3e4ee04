"""The wire between client and worker: whatever comes over it, neither side falls, hangs or fills its memory."""

import io
import json
import os
import random
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from in2n_blender.engine.worker import Worker
from in2n_blender.link import client as c
from in2n_blender.link.messages import PROTOCOL
from in2n_blender.link.process import lines_of
from in2n_blender.link.requests import REQUESTS, Edit, Reconstruct
from in2n_blender.scene.errors import Cancelled, In2nError
from tests.faults.mutations import mutated_bytes, mutated_json
from tests.faults.wire import GOOD_ANSWERS, GOOD_REQUESTS, STATES, tell_client

FAKE = Path(__file__).resolve().parents[1] / "link" / "fake_worker.py"
# a worker that answers hello, and what it does when it gets a job, which is named m
ANSWERS = f"""
import json, os, sys, time
say = lambda message: print(json.dumps(message), flush=True)
sys.stdin.readline()
say({{"id": 0, "result": {{"protocol": {PROTOCOL}}}}})
m = json.loads(sys.stdin.readline())
"""
DONE = '\nsay({"id": m["id"], "result": {"a": 1}})\nsys.stdin.read()'


def client_of(folder, source):
    (folder / "worker.py").write_text(source)
    return c.Client(sys.executable, folder / "log", folder / "worker.py")


def run(folder, source):
    with client_of(folder, source) as client:
        return client.run(Reconstruct(workspace=str(folder / "w")))


class Endless(io.RawIOBase):
    """So many bytes without an end of line, then two lines."""

    def __init__(self, size):
        self.left = size

    def readable(self):
        return True

    def readinto(self, buffer):
        if self.left <= 0:
            return 0
        count = min(len(buffer), self.left)
        last = b"\nnext\n" if count == self.left else b""
        buffer[:count] = b"x" * (count - len(last)) + last
        self.left -= count
        return count


def test_a_line_without_end_fills_no_memory():
    tracemalloc.start()
    try:
        lines = list(lines_of(io.BufferedReader(Endless(1 << 26), 1 << 20), 1 << 20))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [line[-6:] for line in lines] == [b"xxxxxx", b"next\n"] and len(lines[0]) == 1 << 20
    assert peak < 1 << 24


def test_a_worker_answers_after_a_line_without_end_and_stays_small():
    process = subprocess.Popen(
        [sys.executable, str(FAKE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        block = b"x" * (1 << 20)
        for _ in range(80):
            process.stdin.write(block)
        process.stdin.write(b'\n{"id": 5, "method": "hello"}\n')
        process.stdin.flush()
        refused, hello = (json.loads(process.stdout.readline()) for _ in range(2))
        assert "error" in refused and hello["id"] == 5
        assert psutil.Process(process.pid).memory_info().rss < 250 << 20
    finally:
        process.stdin.close()
        assert process.wait(30) == 0


def test_a_worker_that_answers_with_lines_without_end_is_understood_all_the_same(tmp_path):
    noise = "\nfor _ in range(40): sys.stdout.write('x' * 1000000)\nprint()"
    assert run(tmp_path, ANSWERS + noise + DONE) == {"a": 1}


@pytest.mark.parametrize(
    "noise",
    [
        "print('[' * 100000)",
        'say({"method": "progress", "params": [1]})',
        'say({"method": "progress", "params": {"id": m["id"], "done": 1, "total": 2, "unit": "u", "eta": 5}})',
        'say({"method": "heartbeat", "params": {"id": m["id"]}})',
        'say({"method": "log", "params": {"id": m["id"], "text": "\\ud800 \\x1b[2J"}})',
        "os.write(1, bytes(range(256)) + b'\\n')",
        "print('a stray print of a library', end=''); print()",
        'say({"id": 99, "result": {}}); say({"id": 0, "result": {}}); say([1]); say(None); say("x")',
    ],
)
def test_what_is_no_answer_is_passed_over(tmp_path, noise):
    assert run(tmp_path, f"{ANSWERS}\n{noise}{DONE}") == {"a": 1}


@pytest.mark.parametrize(
    "source, code",
    [
        ("import os, time\nos.close(1)\ntime.sleep(600)", "worker_not_started"),
        ("import time\ntime.sleep(600)", "worker_not_started"),
        ('import sys\nsys.stdin.readline()\nprint(\'{"id": 0, "error": 5}\')', "worker_not_started"),
        ('import sys\nsys.stdin.readline()\nprint(\'{"id": 0, "result": {"protocol": 99}}\')', "worker_not_started"),
        (f"{ANSWERS}\nos.close(1)\ntime.sleep(600)", "worker_crashed"),
        (f"{ANSWERS}\nos._exit(0)", "worker_crashed"),
    ],
    ids=["closed", "silent", "an error for a hello", "protocol 99", "closed at work", "gone at work"],
)
def test_a_worker_that_never_answers_is_one_sentence_in_time(tmp_path, monkeypatch, source, code):
    monkeypatch.setattr(c, "SILENCE_PATIENCE", 0.3)
    monkeypatch.setattr("in2n_blender.link.transitions.HELLO_PATIENCE", 2.0)
    with pytest.raises(In2nError) as said:
        run(tmp_path, source)
    assert said.value.code == code and said.value.hint


def test_a_worker_that_never_stops_talking_can_be_cancelled_and_holds_no_poll_up(tmp_path, monkeypatch):
    monkeypatch.setattr("in2n_blender.link.transitions.CANCEL_GRACE", 1.0)
    flood = '\nwhile True: say({"method": "log", "params": {"id": m["id"], "text": "x"}})'
    with client_of(tmp_path, ANSWERS + flood) as client:
        job, polls = client.submit(Reconstruct(workspace=str(tmp_path / "w"))), []
        while len(polls) < 50:
            polls.append(len(client.poll()))
        assert max(polls) <= c.MOST_MESSAGES + 2
        client.cancel(job)
        with pytest.raises(Cancelled):
            client.wait(job)


def test_a_job_that_says_more_than_anybody_reads_waits_and_stays_small(tmp_path):
    process = subprocess.Popen(
        [sys.executable, str(FAKE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    request = Edit(workspace=str(tmp_path), name="e", instruction="flood")
    message = {"id": 1, "method": "edit", "params": request.to_params()}
    process.stdin.write(json.dumps(message).encode() + b"\n")
    process.stdin.flush()
    time.sleep(3)
    assert psutil.Process(process.pid).memory_info().rss < 400 << 20  # 10,000 lines of 10 kB
    process.stdin.close()
    assert process.wait(30) is not None


@pytest.mark.skipif(os.name == "nt", reason="there the system ends it with who started it, see test_lifelines.py")
def test_the_end_of_input_ends_a_worker_that_holds_pythons_lock_for_good(tmp_path):
    process = subprocess.Popen(
        [sys.executable, str(FAKE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    request = Edit(workspace=str(tmp_path), name="e", instruction="hold")
    process.stdin.write(json.dumps({"id": 1, "method": "edit", "params": request.to_params()}).encode() + b"\n")
    process.stdin.flush()
    assert "holding" in process.stdout.readline().decode()
    started = psutil.Process(process.pid).children()
    assert len(started) == 1, "the process that looks on"
    process.stdin.close()
    assert process.wait(30) == -9
    assert psutil.wait_procs(started, timeout=10)[1] == []


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_who_looks_on_goes_with_a_worker_that_is_killed(tmp_path):
    process = subprocess.Popen(
        [sys.executable, str(FAKE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    process.stdin.write(b'{"id": 5, "method": "hello"}\n')
    process.stdin.flush()
    assert process.stdout.readline()
    started = psutil.Process(process.pid).children()
    process.kill()
    assert process.stdout.read() == b"", "nobody else has its output open"
    process.wait()
    assert started and psutil.wait_procs(started, timeout=10)[1] == []


SEEDS = st.integers(0, 2**32)


@settings(max_examples=200, deadline=None)
@given(SEEDS, st.sampled_from(GOOD_ANSWERS), st.sampled_from(STATES))
def test_whatever_a_worker_says_the_client_goes_on(seed, answer, state):
    tell_client(state, mutated_json(answer, random.Random(seed)))


@settings(max_examples=200, deadline=None)
@given(SEEDS, st.sampled_from(GOOD_REQUESTS), st.booleans())
def test_whatever_a_client_says_the_worker_answers(seed, request, as_bytes):
    chance = random.Random(seed)
    worker = Worker([], io.StringIO(), {method: lambda request, report: {} for method in REQUESTS})
    data = json.dumps(request).encode()
    line = mutated_bytes(data, chance) if as_bytes else json.dumps(mutated_json(request, chance)).encode()
    worker._receive(line)
    said = worker._answers.qsize()
    assert said == 1 or worker._job is not None or (said == 0 and b"cancel" in line)


@pytest.mark.skipif(os.name == "nt", reason="measures with POSIX's signals")
def test_odd_lines_cost_no_time_and_the_end_of_input_ends_it():
    """Twelve kinds of line once killed the thread that reads: a core was busy for good, and no end was noticed."""
    process = subprocess.Popen(
        [sys.executable, str(FAKE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    lines = [b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe", b'{"id":1,"method":"cancel","params":[1]}', b"1" * 5000]
    lines += [b'{"id":[1],"method":"devices"}', b'{"id":1,"method":[]}', b"null", b"NaN", b'{"method":5}']
    lines += [b'{"id":1,"method":"edit","params":{"workspace":"/x","name":"e","instruction":5}}', b"\0" * 100]
    process.stdin.write(b"\n".join([*lines, b'{"id":7,"method":"hello"}']) + b"\n")
    process.stdin.flush()
    answers = [json.loads(process.stdout.readline()) for _ in range(len(lines) + 1)]
    assert answers[-1]["id"] == 7 and all(
        "error" in answer or "cancelling" in answer["result"] for answer in answers[:-1]
    )
    worker, before = psutil.Process(process.pid), None
    before = sum(worker.cpu_times()[:2])
    time.sleep(0.5)
    assert sum(worker.cpu_times()[:2]) - before < 0.2
    process.stdin.close()
    assert process.wait(30) == 0
