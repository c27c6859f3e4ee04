"""The real worker with jobs that need no torch. What "edit" does is its instruction."""

import errno
import os
import re
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from in2n_blender.engine import worker
from in2n_blender.scene.errors import In2nError
from in2n_blender.workspace.files import write_json
from in2n_blender.workspace.layout import Workspace


def import_capture(request, report):
    if Path(request.source).name == "unreadable":
        raise In2nError("no_photos", "There are no photos.", "Add some.")
    write_json(Workspace(request.workspace).capture_json, {"source": request.source})
    return {"views": 4}


def reconstruct(request, report):
    workspace = Workspace(request.workspace)
    for step in range(request.steps or 3):
        print("stray output from Python")
        os.write(1, b"stray output from a library\n")
        report.progress(step + 1, request.steps or 3, "steps", "training")
    _touch(workspace.reconstruction / "checkpoint.safetensors")
    with open(workspace.root / "calls.txt", "a") as file:
        file.write(f"reconstruct restart={request.restart}\n")
    report.artifact("image", workspace.root / "preview.png")
    report.log("trained")
    return {"psnr_db": 30.0, "thread_policy": os.environ["OMP_WAIT_POLICY"]}


def edit(request, report):
    workspace = Workspace(request.workspace)
    marker = workspace.root / "tried"
    what = request.instruction
    if what == "crash" or (what == "crash once" and not marker.exists()):
        _touch(marker)
        print("about to fall over", file=sys.stderr, flush=True)
        os._exit(3)
    if what == "hang":  # never asks whether it was cancelled
        report.progress(0, 1, "", "hanging")
        time.sleep(600)
    if what == "hold":  # Python's lock, as a library does that is being loaded: no other thread gets its turn
        report.progress(0, 1, "", "holding")
        time.sleep(1.0)  # in which that is written
        re.match(r"(a+)+$", "a" * 60 + "b")
    if what == "wait":
        while True:
            report.progress(0, 1, "", "waiting")
            time.sleep(0.02)
    if what == "slow to stop":  # as one that saves before it stops
        try:
            while True:
                report.progress(0, 1, "", "working")
                time.sleep(0.02)
        finally:
            time.sleep(1.5)
            file = workspace.edit(request.name) / "saved.txt"
            _touch(file)
            file.write_text("saved")
    if what == "chatty":
        for _ in range(3000):
            print("x" * 100, file=sys.stderr)
    if what == "flood":
        while True:
            report.log("x" * 10_000)
    if what == "bug":
        raise ValueError("a mistake")
    if what == "user error":
        raise In2nError("no_editor", "There is no editor.", "Get one.")
    if what == "belongs to another reconstruction" and not request.restart:
        raise In2nError("edit_exists", "There already is an edit of that name.", "Choose another name.")
    if what == "memory":
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
    if what == "disk":
        raise OSError(errno.ENOSPC, "No space left on device")
    _touch(workspace.edit(request.name) / "checkpoint.safetensors")
    return {"rounds": 1}


def path(request, report):
    file = Workspace(request.workspace).camera_path(request.name)
    write_json(file, {})
    return {"camera_path": str(file)}


def render(request, report):
    for number in (1, 2):
        for kind in ("png", "exr"):
            _touch(
                Workspace(request.workspace).renders(request.edit, Path(request.camera_path).stem)
                / f"{number:04d}.{kind}"
            )
    return {"count": 2}


def mesh(request, report):
    _touch(Workspace(request.workspace).mesh(request.edit, ".glb"))
    return {"vertices": 8}


def summary(request, report):
    write_json(Path(request.out) / "report.json", request.to_params())
    return {}


def _touch(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


if __name__ == "__main__":
    worker.JOBS = {
        "import": import_capture,
        "reconstruct": reconstruct,
        "edit": edit,
        "path": path,
        "render": render,
        "mesh": mesh,
        "summary": summary,
    }
    worker.main()
