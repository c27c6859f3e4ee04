"""A fresh scene, the registered extension and a capture made on the spot for every test in Blender."""

import functools
import importlib.util
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

bpy = pytest.importorskip("bpy", reason="the bpy wheel is not installed")

from PIL import Image  # noqa: E402

import in2n_blender  # noqa: E402
from in2n_blender.blender import engine as blender_engine  # noqa: E402
from in2n_blender.blender import jobs, scene_state  # noqa: E402
from in2n_blender.link.client import Client  # noqa: E402
from in2n_blender.workspace.files import write_json  # noqa: E402
from in2n_blender.workspace.layout import Workspace  # noqa: E402

ENGINE_PYTHON = os.environ.get("IN2N_ENGINE_PYTHON") or (sys.executable if importlib.util.find_spec("torch") else None)


@pytest.fixture
def engine(monkeypatch):
    """The extension uses the real engine: $IN2N_ENGINE_PYTHON, or this Python where it has torch."""
    if ENGINE_PYTHON is None:
        pytest.skip("no engine: set IN2N_ENGINE_PYTHON to a Python that has its packages")
    monkeypatch.setenv("IN2N_ENGINE_PYTHON", ENGINE_PYTHON)
    blender_engine.stop()
    yield ENGINE_PYTHON
    blender_engine.stop()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home folder of its own, and no engine but the one that a test names."""
    monkeypatch.setenv("IN2N_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("IN2N_ENGINE_PYTHON", raising=False)
    return tmp_path / "home"


@pytest.fixture
def extension(home):
    """The extension registered in an empty file."""
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    in2n_blender.register()
    yield in2n_blender
    in2n_blender.unregister()


@pytest.fixture
def scene(extension):
    return bpy.context.scene


def ring_pose(angle: float) -> np.ndarray:
    """A camera-to-world on a circle of radius 3, looking at the origin, z up."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[-s, 0, c, 3 * c], [c, 0, s, 3 * s], [0, 1, 0, 0.5], [0, 0, 0, 1.0]])


@pytest.fixture
def capture_folder(tmp_path):
    """A nerfstudio capture of 8 photos, 2 of them missing, 64x48, with an off-centre principal point."""
    rng = np.random.default_rng(3)
    folder = tmp_path / "garden"
    (folder / "images").mkdir(parents=True)
    frames = []
    for i in range(8):
        if i < 6:
            Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8)).save(folder / f"images/{i:03d}.png")
        frames.append({"file_path": f"images/{i:03d}.png", "transform_matrix": ring_pose(0.7 * i).tolist()})
    data = {
        "w": 64,
        "h": 48,
        "fl_x": 60.0,
        "fl_y": 60.0,
        "cx": 30.0,
        "cy": 25.0,
        "camera_model": "PINHOLE",
        "frames": frames,
    }
    (folder / "transforms.json").write_text(json.dumps(data))
    return folder


class Recording:
    """What the recorded worker is to answer, and what it was asked."""

    def __init__(self, folder: Path):
        self.file = folder / "recording.json"
        self.asked_file = folder / "asked.jsonl"

    def answers(self, **by_method) -> None:
        """by_method: see recorded_worker; `import_` stands for the method "import"."""
        by_method = {name.rstrip("_"): answer for name, answer in by_method.items()}
        self.file.write_text(json.dumps({"asked": str(self.asked_file), "answers": by_method}))
        blender_engine.stop()  # the next job starts a worker that knows this recording

    @property
    def asked(self) -> list[dict]:
        return (
            [json.loads(line) for line in self.asked_file.read_text().splitlines()] if self.asked_file.exists() else []
        )


@pytest.fixture
def recording(tmp_path, monkeypatch):
    """The extension talks, through the real client, to a worker that answers what the test says."""
    made = Recording(tmp_path)
    monkeypatch.setenv("IN2N_RECORDING", str(made.file))
    monkeypatch.setenv("IN2N_ENGINE_PYTHON", sys.executable)
    monkeypatch.setattr(
        blender_engine, "Client", functools.partial(Client, worker=Path(__file__).with_name("recorded_worker.py"))
    )
    monkeypatch.setattr(blender_engine, "_client", None)
    made.answers()
    yield made
    blender_engine.stop()


@pytest.fixture
def imported(scene, capture_folder):
    """The scene with the garden capture imported, rendering from a photo's camera; returns the capture's Empty."""
    assert bpy.ops.in2n.import_capture(filepath=str(capture_folder)) == {"FINISHED"}
    scene.camera = scene_state.children(scene.in2n.capture, "CAMERA")[0]
    scene.render.resolution_x, scene.render.resolution_y = 64, 48
    return scene.in2n.capture


@pytest.fixture
def reconstructed(imported, scene, recording):
    """A workspace that has been reconstructed, as far as Blender can tell."""
    made = Workspace(scene.in2n.workspace)
    made.reconstruction.mkdir(parents=True)
    (made.reconstruction / "checkpoint.safetensors").touch()
    write_json(made.reconstruction / "state.json", {"done": True})
    return made


class Window:
    """Drives jobs as the timer of a window does. failures: the sentences that were shown to the user."""

    def __init__(self):
        self.failures: list[str] = []

    def __call__(self, condition, seconds=30.0) -> None:
        """Until the condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain; {self.failures}"
            jobs.poll()
            time.sleep(0.01)

    def begin(self, label, work) -> jobs.ShownJob:
        """Start work in a thread, as an operator would, and return it when it is at work."""
        id = jobs.submit(bpy.context, label, [work], lambda *_: "", False)
        self(lambda: jobs.current() is not None and jobs.current().id == id)
        return jobs.current()


@pytest.fixture
def window(extension, monkeypatch):
    """Jobs are started as in a window, and `window` follows them. What is made is not shown unasked."""
    made = Window()
    bpy.context.scene.in2n.show_when_done = False
    monkeypatch.setattr(jobs, "in_window", lambda: True)
    monkeypatch.setattr(jobs, "_show_failure", made.failures.append)
    monkeypatch.setattr(bpy.ops.ed, "undo_push", lambda **_: None, raising=False)
    yield made
    jobs.shut_down()
    jobs.poll()


def wait_until_cancelled(report) -> None:
    """Work that says that it has begun, and never ends by itself."""
    while True:
        report.progress(0, 1, "", "Waiting")
        time.sleep(0.01)
