"""One part of `gpu`, in a process of its own: what it measures is in its file as soon as it is known."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import torch

from in2n_blender.workspace.files import write_json
from in2n_blender.workspace.layout import Workspace

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "in2n_blender" / "data" / "demo_capture"
INSTRUCTION = "Make it look like it just snowed"
# part -> the function that measures it; imported when it is wanted, for a package may be missing
MEASURES = {
    "machine": "gpu_parts:machine",
    "tests": "gpu_parts:gpu_tests",
    "training": "gpu_scene:training",
    "rendering": "gpu_scene:rendering",
    "pix2pix": "gpu_models:pix2pix",
    "klein": "gpu_models:klein",
    "job": "gpu_parts:job",
    "capture": "gpu_scene:other_capture",
}


@dataclass
class Measuring:
    """What a part is given, and where it notes what it finds.

    Attributes:
        name: the part's.
        out: the folder for results; out/work is for what goes at the end.
        device: what is measured.
        tiny: whether the smallest sizes do.
        capture: a capture's folder beside the bundled one, or None.
        deadline: when the part is ended, by time.monotonic().
        found: what was noted.
    """

    name: str
    out: Path
    device: torch.device
    tiny: bool
    capture: str | None
    deadline: float
    found: dict = field(default_factory=dict)

    @property
    def work(self) -> Path:
        """A folder for workspaces and weights, made."""
        folder = self.out / "work"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def left(self) -> float:
        """Seconds until the part is ended."""
        return self.deadline - time.monotonic()

    def note(self, **values) -> None:
        """Keep numbers, whatever becomes of the rest.

        Args:
            values: by name, as JSON knows them.
        """
        self.found.update(values)
        write_json(self.out / "parts" / f"{self.name}.json", self.found, durable=False)

    def attempt(self, name: str, measure, *given) -> object:
        """Measure something that others do not depend on: where it fails, that is noted and the part goes on.

        Args:
            name: under which its number, or its error, is noted.
            measure: called with `given`.
            given: its arguments.

        Returns:
            What it returned; None where it failed.
        """
        try:
            value = measure(*given)
        except Exception as error:
            import traceback

            traceback.print_exc()
            self.note(**{name: f"failed: {type(error).__name__}: {error}"[:400]})
            free(self.device)
            return None
        self.note(**{name: value})
        return value


def free(device: torch.device) -> None:
    """Give back what is not used.

    Args:
        device: of which.
    """
    from in2n_blender.engine.device import free_memory

    free_memory(device)


def synchronised(device: torch.device) -> float:
    """The clock, after all that was asked of the device is done.

    Args:
        device: which.

    Returns:
        Seconds.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds_of(device: torch.device, work, times: int = 1) -> float:
    """How long a work takes, on the mean of several times.

    Args:
        device: on which it computes.
        work: called without arguments.
        times: how often.

    Returns:
        Seconds of one.
    """
    began = synchronised(device)
    for _ in range(times):
        work()
    return (synchronised(device) - began) / times


def machine(m: Measuring) -> None:
    """The device, the builds, how long kernels take to compile, and how fast memory is.

    Args:
        m: notes "no_gpu", why there is none, and then nothing else that needs one.
    """
    from in2n_blender.engine import device as devices
    from in2n_blender.engine import warp_devices

    m.note(torch=torch.__version__, cuda=torch.version.cuda, python=sys.version.split()[0], processors=os.cpu_count())
    if m.device.type == "cuda":
        if not torch.cuda.is_available():
            m.note(no_gpu="; ".join(devices.gpu_problems()).rstrip(".") or "PyTorch finds no CUDA device here")
            return
        properties = torch.cuda.get_device_properties(m.device)
        m.note(
            name=properties.name,
            capability=f"{properties.major}.{properties.minor}",
            memory_gb=round(properties.total_memory / 2**30, 1),
            multiprocessors=properties.multi_processor_count,
            architectures=torch.cuda.get_arch_list(),
        )
        m.attempt("driver", lambda: subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True, text=True, check=True, timeout=20,
        ).stdout.strip())  # fmt: skip
        if reason := devices.fault(m.device):
            m.note(no_gpu=reason)
            return
    else:
        m.note(name=devices.describe_device(m.device))
    m.note(warp=warp_devices.warp().__version__, warp_fault=warp_devices.fault(m.device))
    m.attempt("kernels_compiled_s", _compile, m)
    size = 2**22 if m.tiny else 2**30 if m.device.type == "cuda" else 2**26
    source = torch.empty(size, dtype=torch.uint8, device=m.device)
    target = torch.empty_like(source)
    target.copy_(source)
    m.note(copied_gb_a_second=round(2 * size / seconds_of(m.device, lambda: target.copy_(source), 20) / 1e9, 1))


def _compile(m: Measuring) -> float:
    """Seconds of the first step and the first view: all kernels, from Warp's cache where they are in it."""
    from tests.benchmarks.gpu_scene import small_trainer

    began = time.perf_counter()
    trainer, scene, camera = small_trainer(m.device)
    trainer.step()
    scene.render(camera)
    return round(synchronised(m.device) - began, 1)


def gpu_tests(m: Measuring) -> None:
    """All tests with the marker `gpu`, by pytest in a process of its own.

    Args:
        m: notes how many passed, failed and were skipped, and the failed ones' names.
    """
    import re

    file = "tests/engine/test_gpu.py"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", file]
    command += ["-k", "regions_distance or samples"] * m.tiny
    env = {**os.environ, "IN2N_GPU_TESTS": m.device.type, "PYTHONUNBUFFERED": "1"}
    log = m.out / "parts" / "pytest.log"
    with open(log, "w", encoding="utf-8") as written:
        try:
            code = subprocess.run(
                command, cwd=ROOT, env=env, stdout=written, stderr=subprocess.STDOUT, timeout=max(1, m.left - 3)
            ).returncode
        except subprocess.TimeoutExpired:
            code = "out of time"
    text = log.read_text(encoding="utf-8", errors="replace")
    counted = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|errors?)\b", text)}
    m.note(
        exit_code=code,
        failed_tests=counted.get("failed", 0) + counted.get("error", 0) + counted.get("errors", 0),
        passed_tests=counted.get("passed", 0),
        skipped_tests=counted.get("skipped", 0),
        failures=re.findall(r"^(?:FAILED|ERROR) (.*)$", text, re.M)[:40],
    )
    if not counted.get("passed"):
        tail = text.strip().splitlines()[-1:]
        raise SystemExit(f"no test passed: {''.join(tail)}")


def job(m: Measuring) -> None:
    """From the photos to a mesh through the worker, interrupted and gone on with, and what it keeps when idle.

    Args:
        m: notes seconds of each request, the seconds from a cancel to its answer, and MB of the GPU when idle.
    """
    from in2n_blender.link.client import Client
    from in2n_blender.link.requests import (
        Edit,
        ExtractMesh,
        FindDevices,
        ImportCapture,
        PathThroughViews,
        Reconstruct,
        RenderPath,
    )
    from in2n_blender.scene.errors import Cancelled
    from in2n_blender.scene.reporting import Progress

    workspace, device = str(m.work / "job.in2n"), m.device.type
    shutil.rmtree(workspace, ignore_errors=True)
    steps = 20 if m.tiny else 2000 if device == "cuda" else 200
    whole = Reconstruct(workspace=workspace, preset="draft", device=device, steps=steps)
    path = str(Workspace(workspace).camera_path("path"))
    requests = {
        "devices": FindDevices(),
        "import": ImportCapture(workspace=workspace, source=str(DEMO), preset="draft"),
        "reconstruct": whole,
        "edit": Edit(
            workspace=workspace, name="snow", instruction=INSTRUCTION, preset="draft", device=device, rounds=1
        ),
        "path": PathThroughViews(workspace=workspace, frames=2 if m.tiny else 24, name="path"),
        "render": RenderPath(workspace=workspace, camera_path=path, edit="snow", device=device),
        "mesh": ExtractMesh(workspace=workspace, edit="snow", resolution=96, device=device),
    }
    if m.tiny:  # what takes a CPU minutes
        for name in ("edit", "render", "mesh", "path"):
            del requests[name]
    with Client(sys.executable, m.out / "parts" / "worker.log") as client:
        for name, request in requests.items():
            if name == "reconstruct":
                m.attempt("cancelled_s", _cancel, client, request, Cancelled, Progress, m)
            began = time.monotonic()
            result = client.run(request)
            m.note(**{f"{name}_s": round(time.monotonic() - began, 2)})
            if name == "reconstruct":
                m.note(psnr_db=result["psnr_db"], gone_on=result["step"] == steps)
            if name == "devices":
                m.note(devices=[found["name"] for found in result["devices"]])
        time.sleep(1)
        if m.device.type == "cuda":
            m.attempt("idle_mb", _held_mb)


def _cancel(client, request, cancelled: type, progress: type, m: Measuring) -> float:
    """Seconds from a cancel in the middle of a reconstruction to its answer, its work saved."""
    asked: list[float] = []

    def listen(event) -> None:
        middle = isinstance(event, progress) and event.unit == "step" and event.done >= request.steps // 3
        if middle and not asked:
            asked.append(time.monotonic())

    try:
        client.run(request, listen, lambda: bool(asked))
    except cancelled:
        return round(time.monotonic() - asked[0], 2)
    raise RuntimeError("it was not cancelled")


def _held_mb() -> int:
    """MB of the GPU that this process's children hold, by the driver; of all processes where it names none."""
    listed = subprocess.run(
        ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    ).stdout
    return max(int(line) for line in listed.split())


def main() -> None:
    """Measure the part that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=MEASURES)
    for name in ("--out", "--device", "--capture"):
        parser.add_argument(name)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    device = torch.device(args.device)
    m = Measuring(args.part, Path(args.out), device, args.tiny, args.capture, time.monotonic() + args.seconds)
    module, function = MEASURES[args.part].split(":")
    getattr(import_module(f"tests.benchmarks.{module}"), function)(m)


if __name__ == "__main__":
    main()
