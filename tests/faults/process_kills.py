"""SIGKILL to whole processes at a moment of the clock: the command line, the worker, Blender, an installation.

The jobs are real ones on their usual settings; what they leave is compared with what they leave undisturbed. POSIX.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from in2n_blender.link.client import Client
from in2n_blender.link.requests import Reconstruct
from in2n_blender.scene.errors import In2nError
from tests.engine.ball import photographed_ball, ring
from tests.faults.kills import UNFINISHED, contents

ROOT = Path(__file__).resolve().parents[2]
STEPS = 10
PATIENCE = 30.0  # seconds in which what a killed process has started must be gone

BLENDER = """
import sys
import bpy
import in2n_blender
from pathlib import Path
from in2n_blender.blender import workspaces
bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
in2n_blender.register()
source, workspace = map(Path, sys.argv[1:3])
bpy.ops.in2n.import_capture(filepath=str(source), workspace=str(workspace))
bpy.context.scene.in2n.device, bpy.context.scene.in2n.preset = "cpu", "draft"
bpy.ops.in2n.reconstruct(steps=int(sys.argv[3]))
"""

INSTALL = """
import sys
from pathlib import Path
from in2n_blender import environment
from in2n_blender.environment import pins
pins.FILE = Path(sys.argv[1])
environment.install(("engine",), sys.argv[2], sys.argv[3])
"""


@dataclass(frozen=True)
class ProcessKill:
    """A process that was killed once, and what it did done again to its end.

    Attributes:
        what: Which process: "command line", "worker", "installation" or "Blender".
        moment: Seconds after its start.
        equal: Whether all files are as undisturbed.
        different: Those that are not, and of checkpoints and JSON which parts.
        left: Files that are not whole.
        orphans: Processes that it had started, and that did not end.
        gone_after: Seconds until those that did were gone.
    """

    what: str
    moment: float
    equal: bool
    different: tuple[str, ...]
    left: int
    orphans: int
    gone_after: float


def differences(whole: dict, found: dict) -> Iterator[str]:
    """What of two folders' contents is not the same.

    Args:
        whole: As `contents` tells it, or a part of that.
        found: The other one.

    Yields:
        A file's name, with the names of its parts that differ.
    """
    for name in sorted(whole.keys() | found.keys()):
        one, other = whole.get(name), found.get(name)
        if one == other:
            continue
        parts = []
        for a, b in zip(*(side if isinstance(side, tuple) else (side,) for side in (one, other))):
            if isinstance(a, dict) and isinstance(b, dict):
                parts += [
                    f"{key} {str(a.get(key))[:60]} -> {str(b.get(key))[:60]}"
                    for key in a.keys() | b.keys()
                    if a.get(key) != b.get(key)
                ]
        missing = " (missing)" if other is None else " (new)" if one is None else ""
        yield f"{name}{missing}" + (f": {', '.join(parts)}" if parts else "")


def environment_of(folder: Path) -> dict[str, str]:
    """Variables under which a process uses this Python as the engine, and a home of its own.

    Args:
        folder: Where the home is.
    """
    return {**os.environ, "IN2N_ENGINE_PYTHON": sys.executable, "IN2N_HOME": str(folder / "home"), "IN2N_THREADS": "1"}


def kill_at(process: subprocess.Popen, seconds: float) -> tuple[int, float]:
    """Kill a process, and none of those that it started.

    Args:
        process: It runs, or has ended before.
        seconds: From now on.

    Returns:
        How many of those did not end, and the seconds until the others had.
    """
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        pass
    started = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.kill()
    process.wait()
    began = time.monotonic()
    _, alive = psutil.wait_procs(started, timeout=PATIENCE)
    for orphan in alive:
        orphan.kill()
    return len(alive), round(time.monotonic() - began, 2)


class ProcessKiller:
    """Kills processes of one kind.

    Args:
        what: Of `ProcessKill.what`.
        folder: Where all lies.
    """

    def __init__(self, what: str, folder: Path):
        self.what, self.folder = what, folder
        folder.mkdir(parents=True)
        if what == "installation":
            self.pins = tiny_pins(folder)
        else:
            photographed_ball(folder / "photographed", ring(5))
        if what == "Blender":
            write_capture(folder / "capture", folder / "photographed")
        began = time.monotonic()
        self.place = folder / "place"  # the same, since paths are in some files
        self._done(self._begin())
        self.seconds = time.monotonic() - began
        self.whole = self._found()

    def kills(self, count: int, seed: int) -> Iterator[ProcessKill]:
        """Kill at so many moments, spread over the time that the job takes.

        Args:
            count: How many.
            seed: Of the moments.
        """
        draw = random.Random(seed)
        for number in range(count):
            moment = self.seconds * (number + draw.random()) / count
            orphans, gone_after = self._kill(self._begin(), moment)
            self._done(self.place)
            found = self._found()
            left = sum(any(part.startswith(UNFINISHED) for part in Path(path).parts) for path in found)
            different = tuple(differences(self.whole, found))
            yield ProcessKill(self.what, round(moment, 2), not different, different, left, orphans, gone_after)

    def _begin(self) -> Path:
        shutil.rmtree(self.place, ignore_errors=True)
        if self.what in ("command line", "worker"):
            shutil.copytree(self.folder / "photographed", self.place / "ws")
        else:
            self.place.mkdir()
        return self.place

    def _command(self, place: Path) -> list[str]:
        if self.what == "installation":
            return [sys.executable, "-c", INSTALL, str(self.pins), str(place / "home"), str(self.folder / "wheels")]
        if self.what == "Blender":
            where = [str(self.folder / "capture/transforms.json"), str(place / "ws")]
            return [sys.executable, "-c", BLENDER, *where, str(STEPS)]
        options = [str(place / "ws"), "--preset", "draft", "--device", "cpu", "--steps", str(STEPS)]
        return [sys.executable, "-m", "in2n_blender", "reconstruct", *options]

    def _start(self, place: Path) -> subprocess.Popen:
        env = environment_of(self.folder) | {"UV_CACHE_DIR": str(self.folder / "uv-cache")}
        output = open(self.folder / "output.log", "w")
        return subprocess.Popen(self._command(place), cwd=ROOT, env=env, stdout=output, stderr=output)

    def _done(self, place: Path) -> None:
        if self.what == "worker":
            with self._client() as client:
                client.run(request_of(place))
        elif self._start(place).wait(600) != 0:
            raise AssertionError((self.folder / "output.log").read_text()[-2000:])

    def _client(self) -> Client:
        client = Client(sys.executable, self.folder / "worker.log")
        client.variables = {"IN2N_THREADS": "1"}  # all the same, for sums depend on it
        return client

    def _kill(self, place: Path, moment: float) -> tuple[int, float]:
        if self.what == "worker":
            return self._kill_worker(place, moment)
        return kill_at(self._start(place), moment)

    def _kill_worker(self, place: Path, moment: float) -> tuple[int, float]:
        """The worker of a client that goes on, and learns of it."""
        with self._client() as client:
            timer = threading.Timer(moment, lambda: client.info and psutil.Process(client.info["pid"]).kill())
            timer.start()
            try:
                client.run(request_of(place))
            except In2nError as error:
                assert error.code == "worker_crashed", error
            finally:
                timer.cancel()
        return 0, 0.0

    def _found(self) -> dict[str, object]:
        if self.what == "installation":
            return installed(self.place / "home")
        found = contents(self.place)
        return {name: value for name, value in found.items() if name not in ("ws/job.lock", "ws/job.json")}


def request_of(place: Path) -> Reconstruct:
    """What the command line asks for, too.

    Args:
        place: The workspace lies in it.
    """
    return Reconstruct(workspace=str(place / "ws"), preset="draft", device="cpu", steps=STEPS)


def tiny_pins(folder: Path) -> Path:
    """Packages that are installed in a moment, and the file that pins them.

    Args:
        folder: For both.
    """
    from in2n_blender.environment import pins, python_version
    from tests.environment.tiny_wheels import make_wheel

    names = [f"tiny{number}" for number in range(12)]
    for name in names:
        make_wheel(folder / "wheels", name, "1.0", {f"{name}/part{n}.py": "size = 1\n" * 500 for n in range(40)})
    nothing = {"engine": [], "blender": [], "test": [], "ray": []}
    listed = {**nothing, "engine": [f"{name}==1.0" for name in names]}
    written = {"groups": listed, "python": {python_version(): nothing}, "constraints": []}
    written |= {"imports": {**nothing, "engine": names}, "uv": pins.read_pins()["uv"]}
    written |= {"disk_mb": {"engine": 1, "blender": 1, "test": 0, "ray": 0}}
    (folder / "pins.json").write_text(json.dumps(written))
    return folder / "pins.json"


def installed(home: Path) -> dict[str, object]:
    """The files of the packages in an environment. Whether uv or pip made it is not always the same: the one that was
    killed may have brought uv.

    Args:
        home: Of the installation.
    """
    found = {}
    for path in sorted(home.rglob("*")):
        if path.is_file() and path.suffix == ".py" and path.parent.name.startswith("tiny"):
            found[str(path.relative_to(home))] = path.read_bytes()
    return found


def write_capture(folder: Path, photographed: Path) -> None:
    """A capture of the ball's photos, as nerfstudio has it.

    Args:
        folder: Where it goes.
        photographed: A workspace with them.
    """
    shutil.copytree(photographed / "images", folder / "images")
    views = json.loads((photographed / "capture.json").read_text())["views"]
    k = ring(1)[0].intrinsics
    cameras = zip(views, ring(len(views)))
    frames = [
        {"file_path": view["image"], "transform_matrix": camera.camera_to_world.tolist()} for view, camera in cameras
    ]
    table = {"w": k.width, "h": k.height, "fl_x": k.fx, "fl_y": k.fy, "cx": k.cx, "cy": k.cy, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(table))
