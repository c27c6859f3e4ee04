"""The engine's process for pictures: one of its own, so that F12 and the viewport work while an edit is being made.

Asked from Blender's main thread (the viewport) and from its render thread (F12). What the process says is taken in by a
thread of its own for as long as something is awaited: Blender's main thread may be drawing meanwhile, and the process
is not to wait for that.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import bpy
import numpy as np

from ..link import events
from ..link.client import Client
from ..link.request_fields import Request
from ..scene.errors import Cancelled
from ..scene.reporting import Progress
from . import engine, settings

LOG_FILE = "render.log"  # in the home folder: what the process writes to stderr
WAIT_SECONDS = 0.004  # between two looks: far below a frame's time
IDLE_CHECK_SECONDS = 20.0


@dataclass
class Answer:
    """What becomes of a request.

    Attributes:
        job: The client's number of it.
        file: The file that it is written to.
        begun: Whether it is at work or was.
        done: Whether it has ended.
        result: As the job returns it; None where it failed or has not ended.
        error: Why it failed.
        progress: How far it is, from 0 to 1.
        unwanted: Whether nobody looks at it any more: its file is removed when it ends.
    """

    job: int
    file: Path
    begun: bool = False
    done: bool = False
    result: dict | None = None
    error: Exception | None = None
    progress: float = 0.0
    unwanted: bool = False

    def passes(self) -> dict[str, np.ndarray]:
        """The picture, by pass: (height, width, channels) float32 from the top. Its file is removed.

        Raises:
            Exception: Why it failed.
        """
        if self.error is not None:
            raise self.error
        values = np.load(self.file, allow_pickle=False)
        self.file.unlink()
        found, begin = {}, 0
        for name, shape in self.result["passes"].items():
            found[name] = values[begin : begin + int(np.prod(shape))].reshape(shape)
            begin += found[name].size
        return found


@dataclass
class _Worker:
    client: Client
    folder: Path
    lock: threading.RLock = field(default_factory=threading.RLock)
    answers: dict[int, Answer] = field(default_factory=dict)
    numbers: count = field(default_factory=count)
    used: float = 0.0
    is_listened_to: bool = False


_worker: _Worker | None = None


def ask(make: Callable[[str], Request], first: bool = False) -> Answer:
    """Ask for a picture.

    Args:
        make: From the file to write to the request.
        first: Whether it comes before all others: what is at work is given up, to be asked for again.

    Returns:
        What will tell how it ends.

    Raises:
        In2nError: "no_engine", and what `Request.check` raises.
    """
    worker = _ready()
    if first:
        with worker.lock:
            others = list(worker.answers.values())
        for other in others:
            cancel(other)
    file = worker.folder / f"{next(worker.numbers)}.npy"
    with worker.lock:  # nobody polls its end away before it is known
        job = worker.client.submit(make(str(file)), label="Render", first=first)
        answer = worker.answers[job] = Answer(job, file)
        worker.used = time.monotonic()
        if not worker.is_listened_to:
            worker.is_listened_to = True
            threading.Thread(target=_listen, args=(worker,), name="in2n pictures", daemon=True).start()
    return answer


def cancel(answer: Answer) -> None:
    """Stop what an answer waits for; its error is Cancelled when it has stopped.

    Args:
        answer: Of `ask`.
    """
    if _worker is not None and not answer.done:
        _worker.client.cancel(answer.job)


def give_up(answer: Answer) -> None:
    """Stop what an answer would be to, and forget it: nobody looks at it any more.

    Args:
        answer: Of `ask`.
    """
    answer.unwanted = True
    cancel(answer)
    if answer.done:  # before it was known to be unwanted
        answer.file.unlink(missing_ok=True)


def _listen(worker: _Worker) -> None:
    """Take in what the process says until nothing is awaited; in a thread."""
    while True:
        with worker.lock:
            try:
                for event in worker.client.poll():
                    _take(worker, event)
            except Exception as error:  # nobody else would hear of it, and wait for ever
                for answer in list(worker.answers.values()):
                    _end(worker, answer, None, error)
            if not worker.answers:
                worker.is_listened_to = False
                return
        time.sleep(WAIT_SECONDS)


def _take(worker: _Worker, event) -> None:
    answer = worker.answers.get(getattr(event, "job", None))
    if answer is None:
        return
    worker.used = time.monotonic()
    if isinstance(event, events.Started):
        answer.begun = True
    elif isinstance(event, events.Reported) and isinstance(event.event, Progress):
        answer.progress = event.event.done / max(event.event.total, 1)
    elif isinstance(event, events.Finished):
        _end(worker, answer, event.result, None)
    elif isinstance(event, events.Failed):
        _end(worker, answer, None, event.error)


def wait(answer: Answer, cancelled: Callable[[], bool], told: Callable[[float], None]) -> dict[str, np.ndarray]:
    """Wait for a picture.

    Args:
        answer: Of `ask`.
        cancelled: Asked again and again whether to stop.
        told: Called with how far it is, from 0 to 1, whenever that has changed.

    Returns:
        As `Answer.passes`.

    Raises:
        Cancelled: `cancelled()` became true.
        In2nError, EngineBug: Why there is no picture.
    """
    asked, told_last = False, -1.0
    while not answer.done:
        if not asked and cancelled():
            asked = True
            cancel(answer)
        if answer.progress != told_last:
            told_last = answer.progress
            told(told_last)
        time.sleep(WAIT_SECONDS)
    if asked:
        answer.file.unlink(missing_ok=True)
        raise Cancelled()
    return answer.passes()


def is_running() -> bool:
    """Whether the process is there, with the scenes that it has in memory."""
    return _worker is not None and _worker.client.is_running


def stop() -> None:
    """End the process, and remove its files."""
    global _worker
    worker, _worker = _worker, None
    if worker is None:
        return
    worker.client.stop()
    with worker.lock:
        for answer in list(worker.answers.values()):
            _end(worker, answer, None, Cancelled())
    shutil.rmtree(worker.folder, ignore_errors=True)


def _ready() -> _Worker:
    global _worker
    python = engine.required_python()
    if _worker is None:
        client = engine.Client(None, settings.home_folder() / LOG_FILE)
        client.variables = {"IN2N_OFFLINE": "1"}  # there is nothing to fetch for a picture
        _worker = _Worker(client, Path(tempfile.mkdtemp(prefix="in2n-render-")))
    if _worker.client.python != str(python):
        _worker.client.release()
        _worker.client.python = str(python)
    return _worker


def _end(worker: _Worker, answer: Answer, result: dict | None, error: Exception | None) -> None:
    answer.result, answer.error, answer.done = result, error, True
    worker.answers.pop(answer.job, None)
    if answer.unwanted:
        answer.file.unlink(missing_ok=True)


def _release_when_idle() -> float:
    """The process's memory, a GPU's above all, is free again when nobody has rendered for a while."""
    minutes, worker = settings.idle_minutes(), _worker
    if worker is not None and minutes and not worker.answers and time.monotonic() - worker.used > 60 * minutes:
        stop()
    return IDLE_CHECK_SECONDS


def attach() -> None:
    """Let a timer end the process when nobody has used it for a while."""
    bpy.app.timers.register(_release_when_idle, first_interval=IDLE_CHECK_SECONDS, persistent=True)


def detach() -> None:
    """Stop that timer and end the process."""
    if bpy.app.timers.is_registered(_release_when_idle):
        bpy.app.timers.unregister(_release_when_idle)
    stop()
