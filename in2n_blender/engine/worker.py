"""Serves the engine's jobs over stdin and stdout, as `link.messages` describes: one at a time, in the main thread.

    python -I <package>/engine/worker.py

It is started by its file name, so that it does not matter what the package's folder is called or under which name
Blender imported it. A thread reads stdin, so that a job can be cancelled while it runs; the end of stdin (the other
side closed or died) cancels the job and ends the process, at the latest after a few seconds. Jobs do not wait here: the
queue is the client's, and a request that comes while a job runs is refused.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# must be known before torch is loaded: waiting threads would otherwise spin and slow the working ones (research: 0.8 ->
# 5.4 it/s)
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# On a Mac: what its GPU cannot compute, its processor does.
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
os.environ.setdefault(
    "THP_MEM_ALLOC_ENABLE", "1"
)  # huge pages for torch's large blocks, on Linux: a fifth less time a training step
if os.environ.get("IN2N_THREADS"):
    os.environ["OMP_NUM_THREADS"] = os.environ["IN2N_THREADS"]

if __name__ == "__main__" and not __package__:
    import importlib
    import importlib.util

    _folder = Path(__file__).resolve().parents[1]
    _spec = importlib.util.spec_from_file_location(
        "in2n_blender", _folder / "__init__.py", submodule_search_locations=[str(_folder)]
    )
    _package = importlib.util.module_from_spec(_spec)
    sys.modules["in2n_blender"] = _package
    _spec.loader.exec_module(_package)
    sys.exit(importlib.import_module("in2n_blender.engine.worker").main())

import gc
import importlib
import json
import platform
import queue
import signal
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field

from ..link.lifelines import end_after_input
from ..link.messages import PROTOCOL
from ..link.process import lines_of
from ..link.request_fields import Request
from ..link.requests import from_params
from ..scene.errors import Cancelled, In2nError
from ..scene.reporting import Artifact, Progress, Reporter
from ..workspace.files import FULL, OF_THE_DISK, must_stay, open_own
from .alone import alone_in
from .heap import trim_heap
from .kept import KEPT
from .stalls import tell_of_stalls

PROGRESS_INTERVAL = 0.1  # seconds
HARD_EXIT_AFTER = 2.0  # seconds from the end of stdin
KILLED_AFTER = 2.2  # and where this process does not get to it: a call may keep Python's lock
LONGEST_LINE = 64 * 2**20  # bytes; nothing that is asked for is near it
MOST_WAITING = 10_000  # lines that are said before anybody has read them; then the job waits
LOG_NAME = "engine.log"  # in the workspace

INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, JOB_FAILED, BUSY = -32600, -32601, -32602, -32000, -32001

# method -> function(request, report) -> dict; imported when first called
JOBS = {
    "import": ".jobs:import_capture",
    "report": ".capture_report:report_capture",
    "reconstruct": ".nerf.reconstruction:reconstruct",
    "edit": ".editing.methods:edit",
    "preview": ".editing.preview:preview",
    "render": ".output.frames:render_path",
    "shot": ".output.shots:render_shot",
    "photo": ".full_photos:full_photo",
    "mesh": ".output.mesh:extract_mesh",
    "splats": ".output.splats:make_splats",
    "export": ".output.datasets:export_dataset",
    "path": ".jobs:path_through_views",
    "summary": ".output.sheets:summarise",
    "testbed": ".evaluation.testbed:run_testbed",
    "evaluate": ".evaluation.evaluate:evaluate",
    "download": "..models.download:download_model",
    "devices": ".device:devices",
    "batch": ".batch:run_batch",
}


@dataclass(frozen=True)
class _Job:
    """What runs. id: as the other side gave it."""

    id: object
    request: Request
    cancelled: threading.Event = field(default_factory=threading.Event)


class Worker:
    """Reads requests from `incoming` (lines of bytes), writes answers and notifications to `outgoing` (text).

    Args:
        incoming: An iterable of lines.
        outgoing: A stream that texts are written to.
        jobs: method -> callable(request, report) -> dict, or its dotted name. Tests give their own.
    """

    def __init__(self, incoming, outgoing, jobs: dict | None = None):
        self._incoming = incoming
        self._outgoing = outgoing
        self._answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._jobs = JOBS if jobs is None else jobs
        self._accepted: queue.Queue[_Job | None] = queue.Queue()
        self._job: _Job | None = None  # accepted and not yet answered
        self._ended = threading.Event()

    def serve(self) -> None:
        """Until the end of the incoming lines."""
        writing = threading.Thread(target=self._write_answers, name="stdout", daemon=True)
        writing.start()
        threading.Thread(target=self._read, name="stdin", daemon=True).start()
        tell_of_stalls(self._tell_job, self._ended)
        while (job := self._accepted.get()) is not None:
            self._run(job)
        self._answers.put(None)
        writing.join(HARD_EXIT_AFTER)

    # -- the reading thread

    def _read(self) -> None:
        try:
            for line in self._incoming:
                if line.strip():
                    self._receive(line)
        except (OSError, ValueError):  # the pipe is gone
            pass
        finally:
            self._end()

    def _end(self) -> None:
        """Nothing more will be asked for, or nobody listens: cancel what runs, and be gone in a few seconds."""
        if self._ended.is_set():
            return
        self._ended.set()
        if job := self._job:
            job.cancelled.set()
        self._accepted.put(None)
        self._exit_hard_later()

    def _exit_hard_later(self) -> None:
        timer = threading.Timer(HARD_EXIT_AFTER, lambda: os._exit(1))
        timer.daemon = True
        timer.start()

    def _receive(self, line: bytes | str) -> None:
        """Answer a line, whatever it is: the reading thread must live as long as the process."""
        message = _parse(line)
        if message is None:
            self._error(None, INVALID_REQUEST, "Not a JSON-RPC request.", "bug", "")
            return
        id, method, params = message.get("id"), message.get("method"), message.get("params", {})
        if isinstance(id, (dict, list)) or not isinstance(method, str):
            self._error(None, INVALID_REQUEST, "Not a JSON-RPC request.", "bug", "")
        elif method == "hello":
            self._send({"id": id, "result": hello()})
        elif method == "cancel":
            self._cancel(id, params.get("id") if isinstance(params, dict) else None)
        else:
            self._accept(id, method, params)

    def _cancel(self, id, job_id) -> None:
        job = self._job
        found = job is not None and job.id == job_id
        if found:
            job.cancelled.set()
        if id is not None:
            self._send({"id": id, "result": {"cancelling": found}})

    def _accept(self, id, method, params) -> None:
        try:
            request = from_params(method, params)
        except In2nError as error:
            number = METHOD_NOT_FOUND if error.code == "unknown_method" else INVALID_PARAMS
            self._error(id, number, error.message, error.code, error.hint)
            return
        if method not in self._jobs:
            self._error(id, METHOD_NOT_FOUND, f"There is no method {method}.", "unknown_method", "")
        elif self._job is not None:
            self._error(id, BUSY, "A job is running.", "busy", "Wait for it to end or cancel it.")
        else:
            self._job = _Job(id, request)
            self._accepted.put(self._job)

    # -- the main thread

    def _run(self, job: _Job) -> None:
        report = Reporter(_Throttle(self, job.id).emit, job.cancelled.is_set)
        try:
            report.check()
            workspace = getattr(job.request, "workspace", "")
            with must_stay(workspace), alone_in(workspace if job.request.locks_workspace else "", report):
                result = load_job(self._jobs[job.request.method])(job.request, report)
            answer = json.dumps({"jsonrpc": "2.0", "id": job.id, "result": result}, default=_plain)
        except Cancelled:
            answer = _error_text(job.id, JOB_FAILED, "Cancelled.", "cancelled", "")
        except Exception as error:
            answer = self._failure(job, error)
        self._job = None  # before the answer, for the next request may follow at once
        self._write(answer)
        if job.request.locks_workspace:  # a view's picture is asked for again at once, and leaves little
            KEPT.job_ended()
            give_back_memory()

    def _failure(self, job: _Job, error: Exception) -> str:
        known = as_user_error(error)
        if known is error:
            return _error_text(job.id, JOB_FAILED, known.message, known.code, known.hint)
        trace = traceback.format_exc()
        _log(getattr(job.request, "workspace", ""), job.request.method, trace)
        if known:
            return _error_text(job.id, JOB_FAILED, known.message, known.code, known.hint, trace)
        hint = "This is a mistake in the program; the log has the details."
        return _error_text(job.id, JOB_FAILED, f"{type(error).__name__}: {error}", "bug", hint, trace)

    # -- writing

    def _tell_job(self, text: str) -> None:
        if job := self._job:
            self.notify("log", {"id": job.id, "text": text})

    def notify(self, method: str, params: dict) -> None:
        """Send a notification to the client, after all that was sent before it.

        It returns at once, unless nobody reads what was sent before: then the job waits, as at any full pipe.

        Args:
            method: "progress", "artifact" or "log".
            params: As JSON knows them; numbers of numpy and torch, and paths, are turned into it.
        """
        while self._answers.qsize() > MOST_WAITING and self._job and not self._job.cancelled.wait(0.02):
            pass
        self._send({"method": method, "params": params})

    def _error(self, id, number: int, message: str, code: str, hint: str) -> None:
        self._write(_error_text(id, number, message, code, hint))

    def _send(self, message: dict) -> None:
        self._write(json.dumps({"jsonrpc": "2.0", **message}, default=_plain))

    def _write(self, text: str) -> None:
        self._answers.put(text)

    def _write_answers(self) -> None:
        """In a thread, so that the end of the input is noticed while nobody reads the output."""
        try:
            while (text := self._answers.get()) is not None:
                self._outgoing.write(text + "\n")
                self._outgoing.flush()
        except (OSError, ValueError):  # nobody listens any more
            self._end()


def _parse(line: bytes | str) -> dict | None:
    """The object of a line; None where it holds none."""
    try:
        if len(line) >= LONGEST_LINE:
            return None
        message = json.loads(line)
    except (ValueError, RecursionError, MemoryError):  # no UTF-8, no JSON, nested too deeply
        return None
    return message if isinstance(message, dict) else None


def _error_text(id, number: int, message: str, code: str, hint: str, trace: str | None = None) -> str:
    data = {"code": code, "hint": hint, **({"traceback": trace} if trace else {})}
    error = {"code": number, "message": message, "data": data}
    return json.dumps({"jsonrpc": "2.0", "id": id, "error": error}, default=_plain)


class _Throttle:
    """Sends a job's events: progress at most every PROGRESS_INTERVAL seconds.

    Progress gets an estimate of the time left where the job gives none.
    """

    def __init__(self, worker: Worker, id, clock=time.monotonic):
        self._worker = worker
        self._id = id
        self._clock = clock
        self._sent = float("-inf")
        self._stage: tuple | None = None
        self._began = (0.0, 0)

    def emit(self, event) -> None:
        if isinstance(event, Progress):
            self._progress(event)
        elif isinstance(event, Artifact):
            self._worker.notify("artifact", {"id": self._id, **vars(event)})
        else:
            self._worker.notify("log", {"id": self._id, "text": str(event)})

    def _progress(self, event: Progress) -> None:
        now = self._clock()
        stage = (event.total, event.unit)
        changed = stage != self._stage
        if changed:
            self._stage, self._began = stage, (now, event.done)
        if not changed and event.done < event.total and now - self._sent < PROGRESS_INTERVAL:
            return
        self._sent = now
        left = event.seconds_left if event.seconds_left is not None else self._seconds_left(event, now)
        self._worker.notify(
            "progress",
            {
                "id": self._id,
                "done": event.done,
                "total": event.total,
                "unit": event.unit,
                "message": event.message,
                "seconds_left": left,
            },
        )

    def _seconds_left(self, event: Progress, now: float) -> float | None:
        began, done_then = self._began
        if event.done - done_then < max(0.01 * event.total, 1) or now - began < 1.0:
            return None
        return round((event.total - event.done) * (now - began) / (event.done - done_then), 1)


def as_user_error(error: Exception) -> In2nError | None:
    """The In2nError behind an exception, if it is one of those that a user can do something about.

    Args:
        error: What a job raised.

    Returns:
        The error itself where it is an In2nError, else "out_of_memory", "disk_full" or "cannot_use_file"; None for a
        mistake in the program.
    """
    if isinstance(error, In2nError):
        return error
    text = str(error).lower()
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "out of memory" in text
        or "can't allocate memory" in text
    ):
        return In2nError(
            "out_of_memory",
            "There was not enough memory for this.",
            "Close other programs or choose a smaller preset; or set the device to cpu, where it goes on from what was "
            "saved.",
        )
    if (isinstance(error, OSError) and error.errno in FULL) or "no space left on device" in text:
        return In2nError(
            "disk_full",
            "The disk is full.",
            "Free some space or choose another workspace folder, then run again: it goes on from where it stopped.",
        )
    if isinstance(error, OSError) and error.errno in OF_THE_DISK and error.filename:
        return In2nError(
            "cannot_use_file",
            f"{error.filename} cannot be used ({error.strerror}).",
            "Check that it is there and may be read and written, then run again: it goes on from where it stopped.",
        )
    return None


def give_back_memory() -> None:
    """Give memory that a job has freed back to the system.

    A job's model, optimiser and photos may hold each other in rings, which Python collects only once enough small
    objects were made, and of these a job makes few. What is freed glibc keeps, in holes between blocks that live on.
    """
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        with suppress(RuntimeError):  # a device that failed under a job fails here, too: the next job says so
            torch.cuda.empty_cache()
    trim_heap()


def hello() -> dict:
    """Who answers: nothing is imported for it, so that it is answered at once."""
    import importlib.metadata as metadata

    def version(package: str) -> str | None:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return None

    packages = ("torch", "torchvision", "diffusers", "transformers", "nerfacc", "warp-lang", "lpips", "numpy")
    return {
        "pid": os.getpid(),
        "protocol": PROTOCOL,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {p: version(p) for p in packages},
    }


def load_job(job):
    """The function of a job.

    Args:
        job: It, or where it is, as in JOBS.
    """
    if callable(job):
        return job
    module, name = job.split(":")
    return getattr(importlib.import_module(module, __package__), name)


def _plain(value):
    """Numbers of numpy and torch, and paths, as JSON knows them."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _log(workspace: str, method: str, text: str) -> None:
    """Into stderr and the workspace's log; a log that cannot be written stops nothing."""
    with suppress(OSError, ValueError):
        sys.stderr.write(text)
    with suppress(OSError, ValueError):
        if workspace and Path(workspace).is_dir():
            with open_own(Path(workspace) / LOG_NAME, "a") as log:
                log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {method}\n{text}\n")


def main() -> int:
    """Keep stdout for the protocol: whatever prints, from Python or from a library, goes to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other side decides what Ctrl-C means
    outgoing = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace", newline="\n")
    reading = os.dup(0)
    end_after_input(KILLED_AFTER, reading)
    incoming = lines_of(os.fdopen(reading, "rb"), LONGEST_LINE)
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdout = sys.stderr
    KEPT.wanted = True
    Worker(incoming, outgoing).serve()
    sys.stderr.flush()
    os._exit(0)  # torch and CUDA threads may hold a normal exit up for seconds
