"""The engine page: installing for real, with tiny packages from a folder, and what the page says."""

import json
import sys
import time
import types
from pathlib import Path
from unittest.mock import MagicMock

import bpy
import pytest
from tiny_wheels import make_wheel

from in2n_blender import environment
from in2n_blender.blender import engine, jobs, preferences_page, settings, storage
from in2n_blender.blender.operators import installation
from in2n_blender.environment import pins as versions
from in2n_blender.models.families import INSTRUCT_PIX2PIX
from in2n_blender.scene.errors import Cancelled

# As much of torch as finding devices takes.
TORCH = {
    "torch/__init__.py": """
class cuda:
    is_available = staticmethod(lambda: True)
    is_initialized = staticmethod(lambda: False)
    device_count = staticmethod(lambda: 1)
    @staticmethod
    def get_device_properties(i):
        import types
        return types.SimpleNamespace(name="Test GPU", total_memory=8 * 2**30)
    get_device_name = staticmethod(lambda device: "Test GPU")
class backends:
    class mps:
        is_available = staticmethod(lambda: False)
class version:
    cuda, hip = "13.0", None
class device:
    def __init__(self, name):
        self.type = name.partition(":")[0]
class Squares:
    def __mul__(self, other):
        return self
    def sum(self):
        return 14.0
float32 = "float32"
def arange(*given, **more):
    return Squares()
"""
}


@pytest.fixture
def page(extension, home, uv_wheel, tmp_path, monkeypatch):
    """The extension with its preferences, a folder of tiny wheels in place of the engine's, and an empty hub cache."""
    version = environment.python_version()
    pins = tmp_path / "pins.json"
    pins.write_text(
        json.dumps(
            {
                "groups": {"engine": ["torch==1.0", "tiny==1.0"], "blender": [], "test": [], "ray": []},
                "constraints": [],
                "python": {version: {"engine": [], "blender": [], "test": [], "ray": []}},
                "imports": {"engine": ["torch", "tiny"], "blender": [], "test": [], "ray": []},
                "uv": versions.read_pins()["uv"],
                "disk_mb": {"engine": 1, "blender": 1, "test": 0, "ray": 0},
            }
        )
    )
    monkeypatch.setattr(versions, "FILE", pins)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    make_wheel(tmp_path / "wheels", "torch", "1.0", TORCH)
    make_wheel(tmp_path / "wheels", "tiny", "1.0", {"tiny/__init__.py": "size = 1\n"})
    addon = bpy.context.preferences.addons.new()
    addon.module = settings.ADD_ON
    engine.look_again()
    yield addon.preferences
    engine.stop()
    engine.look_again()
    bpy.context.preferences.addons.remove(addon)


def said(page) -> str:
    """All labels and buttons of the page, drawn."""
    layout = MagicMock()
    texts = []

    def note(*arguments, **given):
        texts.append(str(given.get("text", "")) + (f" [{arguments[0]}]" if arguments else ""))
        return MagicMock()

    for part in (layout, layout.split(), layout.split().row(), layout.row(), layout.box(), layout.column()):
        part.label.side_effect = part.operator.side_effect = note
        part.box.return_value = part.row.return_value = part.split.return_value = part.column.return_value = layout
    kind = preferences_page.In2nPreferences
    drawn = types.SimpleNamespace(layout=layout, home=page.home, machines=())
    for name in ("_draw_engine", "_draw_installed", "_draw_models", "_draw_machines", "_draw_memory", "_draw_scratch"):
        setattr(drawn, name, types.MethodType(getattr(kind, name), drawn))
    kind.draw(drawn, bpy.context)
    return "\n".join(texts)


def measured():
    storage.measure()
    deadline = time.monotonic() + 20
    while storage._take_in() is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return storage.known()


def refused(operator, **arguments) -> str:
    with pytest.raises(RuntimeError) as raised:
        operator(**arguments)
    return str(raised.value)


def test_install_verify_repair_remove(page, scene, home, tmp_path):
    assert "Not installed" in said(page) and "Install Engine [in2n.install_engine]" in said(page)
    if not bpy.app.online_access:
        assert "Allow online access" in refused(bpy.ops.in2n.install_engine)
    assert "Install the engine first" in refused(bpy.ops.in2n.verify_engine)
    page.wheelhouse = str(tmp_path / "wheels")
    assert bpy.ops.in2n.install_engine() == {"FINISHED"}
    assert scene.in2n.status == "The engine is installed. It computes on: Test GPU, 8 GB."
    assert engine.engine_python() == environment.plan(("engine",), home).python
    text = said(page)
    assert "Installed" in text and "Test GPU, 8 GB" in text and "[in2n.verify_engine]" in text and str(home) in text
    assert engine.is_running() and "The engine runs" in text

    assert bpy.ops.in2n.verify_engine() == {"FINISHED"}
    assert "every package imports" in scene.in2n.status
    engine.stop()
    module = next(engine.engine_python().parents[1].rglob("tiny/__init__.py"))
    module.unlink()  # uv links files from its cache: writing into it would break the cache's too
    module.write_text("raise RuntimeError('broken file')")
    assert "tiny does not import: RuntimeError: broken file. Repair the engine in Preferences" in refused(
        bpy.ops.in2n.verify_engine
    )
    assert bpy.ops.in2n.repair_engine() == {"FINISHED"}
    assert bpy.ops.in2n.verify_engine() == {"FINISHED"}

    assert bpy.ops.in2n.remove_engine() == {"FINISHED"}
    assert engine.engine_python() is None and not settings.environment_folder().exists()
    assert "is not installed" in refused(bpy.ops.in2n.remove_engine)


def test_cancelled_an_installation_is_offered_to_be_continued(page, scene, home, tmp_path, window):
    page.wheelhouse = str(tmp_path / "wheels")
    assert bpy.ops.in2n.install_engine() == {"FINISHED"}
    window(lambda: settings.environment_folder().exists(), 60)
    bpy.ops.in2n.cancel()
    window(lambda: not jobs.busy())
    assert isinstance(jobs.current().error, Cancelled)
    assert engine.engine_python() is None
    assert "Continue Installing [in2n.install_engine]" in said(page)
    assert bpy.ops.in2n.install_engine() == {"FINISHED"}
    window(lambda: not jobs.busy(), 120)
    assert scene.in2n.status == "The engine is installed. It computes on: Test GPU, 8 GB."


def test_another_python_is_used_as_it_is(page, scene, monkeypatch):
    page.engine_python = sys.executable
    assert engine.engine_python() == Path(sys.executable)
    assert "Another Python is used" in said(page)
    assert "not this add-on's to change" in refused(bpy.ops.in2n.install_engine)
    page.engine_python = "/nowhere/python"
    assert "does not exist" in said(page) and engine.engine_python() is None


def test_models_and_room_on_disk(page, home, tmp_path):
    def model(folder: Path, weights=("unet", "vae", "text_encoder")):
        for part in weights:
            (folder / part).mkdir(parents=True)
            (folder / part / "model.safetensors").write_bytes(b"0" * 2**20)
        (folder / "model_index.json").write_text(json.dumps({"_class_name": INSTRUCT_PIX2PIX.pipeline}))

    cache = tmp_path / "hub" / "models--timbrooks--instruct-pix2pix"
    model(cache / "snapshots" / "abc", ("unet",))
    (tmp_path / "hub" / "models--someone--language" / "snapshots" / "abc").mkdir(parents=True)  # not ours to show
    model(tmp_path / "mine" / "gold")
    page.models = str(tmp_path / "mine")
    (home / "scratch" / "a").mkdir(parents=True)
    (home / "scratch" / "a" / "x").write_bytes(b"0" * 2**21)
    stored = measured()
    assert stored.scratch_mb == 2 and stored.environment_mb == 0
    assert [(m.name, m.megabytes, m.complete, m.downloaded) for m in stored.models] == [
        ("timbrooks/instruct-pix2pix", 1, False, True),
        ("gold", 3, True, False),
    ]
    assert "1 MB, incomplete" in said(page) and "2 MB" in said(page)
    assert bpy.ops.in2n.remove_model(name="timbrooks/instruct-pix2pix") == {"FINISHED"}
    assert not cache.exists() and (tmp_path / "mine" / "gold").exists()
    assert [m.name for m in measured().models] == ["gold"]
    assert "is not in" in refused(bpy.ops.in2n.remove_model, name="timbrooks/instruct-pix2pix")
    assert "is not in" in refused(bpy.ops.in2n.remove_model, name="../../gold")


def test_a_model_is_downloaded_only_with_leave(page, scene, recording, monkeypatch):
    if not bpy.app.online_access:
        assert "Allow online access" in refused(bpy.ops.in2n.download_model)
        assert not recording.asked
    monkeypatch.setattr(
        installation, "_poll_online", lambda cls: True
    )  # as if the user had allowed it in Blender's preferences
    assert bpy.ops.in2n.download_model(name="someone/editor") == {"FINISHED"}
    assert recording.asked == [{"method": "download", "name": "someone/editor"}]
    assert scene.in2n.status == "“someone/editor” is on this computer."


def test_an_idle_engine_is_released(page, recording, monkeypatch):
    recording.answers(devices={"result": {"devices": [{"device": "cpu", "name": "a processor", "memory_gb": None}]}})
    bpy.ops.in2n.find_devices()
    assert engine.known_devices() == [engine.Device("cpu", "a processor", None)]
    assert engine.is_running()
    for minutes, running in ((0, True), (10, True), (1, False)):
        page.idle_minutes = minutes
        monkeypatch.setattr(engine, "_idle_since", time.monotonic() - 300)
        engine._release_when_idle()
        wait_for(lambda running=running: engine.is_running() == running)
    assert "does not run" in refused(bpy.ops.in2n.release_engine)
    bpy.ops.in2n.find_devices()
    assert bpy.ops.in2n.release_engine() == {"FINISHED"}
    wait_for(lambda: not engine.is_running())


def test_the_engine_is_offline_where_blender_is(page, recording, monkeypatch, tmp_path):
    answer = tmp_path / "offline"
    found = {"devices": [{"device": "cpu", "name": "a processor", "memory_gb": None}]}
    recording.answers(devices={"result": found, "say_offline": str(answer)})
    monkeypatch.delenv("IN2N_OFFLINE", raising=False)
    for allowed, said in ((False, "1"), (True, "no"), (False, "1")):
        monkeypatch.setattr(settings, "online_access", lambda allowed=allowed: allowed)
        bpy.ops.in2n.find_devices()
        assert answer.read_text() == said


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
