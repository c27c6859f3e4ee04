"""A process whose jobs can be killed: at a numbered point on their way, or from outside. Not imported by tests.

It reads one order a line from stdin and answers each with one line:

    {"method": "edit", "params": {…}, "kill_at": 17 or null, "cancel_at": 170 or null, "journal": file}
        ->   {"killed": bool, "error": text}

Each job runs in a process of its own, forked where that is safe (torch is imported once then) and else spawned. A point
is an event of the job's reporter, a half-written checkpoint, each side of every renaming of a file or folder, the
opening of a file to be written, its being synced to the disk, and each file that is copied or removed with its folder.
"move" moves a workspace, as to another disk. The job kills its own process there with SIGKILL: nothing is cleaned up or
flushed. The journal gets a line for each point: its name, how often the job asked by then whether it was cancelled
(`cancel_at` counts these), and the seconds on the clock by which it decides when to save. That clock is made up:
EVENT_SECONDS for every report of progress, so that a few steps are minutes of work. An order may have other
"event_seconds", and say with "converged" at which disagreement rounds end.
"""

import errno
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import torch

from in2n_blender.engine.editing import agreement, baselines, dataset_update, methods  # noqa: F401 (loaded before forks)
from in2n_blender.engine.nerf import checkpoint, reconstruction  # noqa: F401
from in2n_blender.engine.nerf import settings as nerf_settings
from in2n_blender.engine.worker import JOBS
from in2n_blender.link.requests import from_params
from in2n_blender.scene.errors import Cancelled
from in2n_blender.scene.reporting import Progress, Reporter
from in2n_blender.workspace import files, moving
from tests.engine.ball import TINY, ring, sphere_image, trained_on

EVENT_SECONDS = 4.0
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
THREADS = {"reconstruct": 2}  # else one: two where it costs least, more wait for each other on a busy machine
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # of Windows: TerminateProcess


class Way:
    """The points that a job passes."""

    def __init__(self, order: dict):
        self.journal = open(order["journal"], "a", encoding="utf-8")
        self.kill_at, self.cancel_at = order.get("kill_at"), order.get("cancel_at")
        self.places = [order["params"][name] for name in ("workspace", "to") if name in order["params"]]
        self.passed, self.asked, self.now = 0, 0, 0.0
        self.event_seconds = order.get("event_seconds", EVENT_SECONDS)

    def is_cancelled(self) -> bool:
        self.asked += 1
        return self.asked - 1 == self.cancel_at

    def point(self, name: str) -> None:
        self.journal.write(json.dumps([name, self.asked, self.now]) + "\n")
        self.journal.flush()
        if self.passed == self.kill_at:
            os.kill(os.getpid(), KILL)
        self.passed += 1

    def reported(self, event) -> None:
        if isinstance(event, Progress):
            self.now += self.event_seconds
        self.point(f"{type(event).__name__} {getattr(event, 'message', '')}")

    def renaming(self, real):
        """A way to rename a file or folder, with a point on each side of it."""

        def rename(source, target) -> None:
            self.point(f"before {Path(target).name}")
            real(source, target)
            self.point(f"after {Path(target).name}")

        return rename

    def audited(self, event: str, given: tuple) -> None:
        """An audit hook, for good in this process: a point before a file of the job's places is opened for writing."""
        if event == "open" and isinstance(given[0], str) and isinstance(given[2], int) and given[2] & WRITING:
            if any(given[0].startswith(place) for place in self.places):
                self.point(f"write a {Path(given[0]).suffix} file")

    def synced(self, path) -> None:
        self.point(f"sync a {Path(path).suffix or 'folder'}")

    def removing(self, folder, *given, real=shutil.rmtree, **how) -> None:
        """Removes a folder, with a point before each of its files."""
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                self.point("remove a file")
                path.unlink(missing_ok=True)
        real(folder, *given, **how)

    def copied(self, source, target, real=shutil.copystat) -> None:
        self.point("copied a file")
        real(source, target)

    def save_file(self, tensors, path, metadata, real=checkpoint.save_file) -> None:
        """Half a checkpoint lies where the library has it: under a name of its own, beside the one it was given."""
        real(tensors, path, metadata=metadata)
        half = Path(path).with_name(".tmpA1b2C3")
        half.write_bytes(Path(path).read_bytes()[: Path(path).stat().st_size // 2])
        self.point("half a checkpoint")
        half.unlink()


def move(order: SimpleNamespace, report: Reporter) -> None:
    """Move a workspace as to another disk."""
    real = os.rename

    def rename(source, target) -> None:
        if Path(target) == order.to and not Path(source).name.startswith(moving.MOVING):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        real(source, target)

    os.rename, moving._other_disk = rename, lambda *_: True
    moving.move_workspace(order.workspace, order.to, report)


def job_of(order: dict):
    """What does a request, and the request."""
    params = order["params"]
    if order["method"] == "move":
        return move, SimpleNamespace(**{name: Path(value) for name, value in params.items()})
    module, name = JOBS[order["method"]].split(":")
    job = getattr(importlib.import_module(module, "in2n_blender.engine"), name)
    return job, from_params(order["method"], params)


def run(order: dict) -> None:
    """The job of an order, on tiny settings, on its way."""
    nerf_settings.CPU["draft"] = replace(TINY, edit_rate=3, rays=64)
    way = Way(order)
    agreement.CONVERGED = order.get("converged", agreement.CONVERGED)
    torch.set_num_threads(THREADS.get(order["method"], 1))
    os.replace, os.rename = way.renaming(os.replace), way.renaming(os.rename)
    shutil.rmtree, shutil.copystat = way.removing, way.copied
    sys.addaudithook(way.audited)
    files._sync = way.synced  # and nothing more: it is against power cuts, which a kill is none of
    checkpoint.save_file = way.save_file
    checkpoint.time = SimpleNamespace(monotonic=lambda: way.now)
    job, request = job_of(order)
    job(request, Reporter(way.reported, way.is_cancelled))


def warm_up() -> None:
    """Load what takes seconds, before forks. On one thread: threads of a pool would be missing in a fork."""
    torch.set_num_threads(1)
    cameras = ring(2)
    trainer, scene = trained_on(cameras, [sphere_image(camera) for camera in cameras], steps=1)
    scene.render(cameras[0])


def alone(order: dict) -> int:
    try:
        with suppress(Cancelled):
            run(order)
        return 0
    except BaseException:
        Path(order["journal"] + ".error").write_text(traceback.format_exc(), encoding="utf-8")
        return 1


def answer(order: dict) -> dict:
    if sys.platform == "linux":
        child = os.fork()
        if child == 0:
            os._exit(alone(order))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    else:
        code = subprocess.run(
            [sys.executable, "-m", __spec__.name, json.dumps(order)], stdin=subprocess.DEVNULL
        ).returncode
    error = Path(order["journal"] + ".error")
    return {"killed": code not in (0, 1), "error": error.read_text(encoding="utf-8") if error.is_file() else ""}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        os._exit(alone(json.loads(sys.argv[1])))
    warm_up()
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
