"""Making environments: for real, with tiny packages from a folder; and what goes wrong, one sentence each."""

import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tiny_wheels import make_torch_pair, make_wheel

from in2n_blender import environment as e
from in2n_blender.environment import installation, verification
from in2n_blender.environment.home import base_python, installation_lock
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Progress, Reporter


def test_install_then_ready(tool, home, pins, wheelhouse, monkeypatch):
    events = []
    python = e.install(("engine",), home, wheelhouse, Reporter(events.append))
    ran = (home / "install.log").read_text(encoding="utf-8")
    assert bool(re.search(r"uv(\.exe)? pip install", ran)) == (tool == "uv")
    assert python.exists() and e.plan(("engine",), home).ready
    assert any(isinstance(event, Progress) and event.unit == "imports" for event in events)
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("a ready environment starts no process"))
    assert e.install(("engine",), home) == python


@pytest.mark.usefixtures("uv_wheel")
def test_verify_repair_remove(home, pins, wheelhouse):
    python = e.install(("engine",), home, wheelhouse)
    assert e.verify(("engine",), home) == {}
    module = next(python.parents[1].rglob("tiny/__init__.py"))
    module.unlink()  # uv links files from its cache: writing into it would break the cache's too
    module.write_text("raise RuntimeError('broken file')")
    assert "broken file" in e.verify(("engine",), home)["tiny"]
    e.repair(("engine",), home, wheelhouse)
    assert e.verify(("engine",), home) == {} and e.plan(("engine",), home).ready

    e.remove(home)
    assert not python.exists() and not e.plan(("engine",), home).ready


@pytest.mark.usefixtures("uv_wheel")
def test_new_pins_or_groups_make_it_install_again(home, pins, wheelhouse):
    e.install(("engine",), home, wheelhouse)
    make_wheel(wheelhouse, "tiny", "2.0", {"tiny/__init__.py": "size = 2\n"})
    make_wheel(wheelhouse, "extra", "1.0", {"extra/__init__.py": ""})
    pins(engine=("tiny==2.0",), blender=("extra==1.0",), blender_imports=("extra",))
    assert not e.plan(("engine",), home).ready
    python = e.install(("engine",), home, wheelhouse)
    assert (python.parents[1] / "lib").exists() or os.name == "nt"
    assert not e.plan(("blender",), home).ready
    e.install(("blender",), home, wheelhouse)
    assert e.plan(("engine", "blender"), home).ready and e.plan(("engine",), home).groups == ("engine", "blender")


@pytest.mark.usefixtures("uv_wheel")
def test_cancelled_it_leaves_no_stamp_and_goes_on_when_run_again(home, pins, wheelhouse):
    seen = []
    with pytest.raises(Cancelled):
        e.install(
            ("engine",),
            home,
            wheelhouse,
            Reporter(seen.append, lambda: any("Checking" in str(event) for event in seen)),
        )
    planned = e.plan(("engine",), home)
    assert planned.python.exists() and not planned.ready
    e.install(("engine",), home, wheelhouse)
    assert e.plan(("engine",), home).ready


@pytest.mark.usefixtures("uv_wheel")
def test_an_environment_whose_python_is_gone_is_made_anew(home, pins, wheelhouse):
    python = e.install(("engine",), home, wheelhouse)
    python.unlink()
    assert not e.plan(("engine",), home).ready
    assert e.install(("engine",), home, wheelhouse) == python and python.exists()


@pytest.mark.usefixtures("uv_wheel")
def test_pip_goes_on_in_an_environment_that_uv_made(home, pins, wheelhouse, monkeypatch):
    """Such a one has no pip. It may be the one that runs the installation: what is in it stays."""
    python = e.install(("engine",), home, wheelhouse)
    mark = python.parent.parent / "mark"
    mark.touch()
    monkeypatch.setattr(installation, "find_uv", lambda home: None)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    pins(engine=("tiny==1.0", "wheel-less==1.0"))
    with pytest.raises(In2nError):
        e.install(("engine",), home, wheelhouse)
    assert mark.exists()
    pins(imports=("tiny",), disk_mb=2)
    assert e.install(("engine",), home, wheelhouse) == python and mark.exists()


def test_environments_are_made_from_a_python_that_lies_in_none():
    assert Path(base_python()).exists() and not (Path(base_python()).parent.parent / "pyvenv.cfg").exists()


def test_torch_of_another_build_is_replaced_by_the_matching_pair(home, pins, tmp_path, monkeypatch):
    """What pip does where find-links offers a CPU torch: it prefers it, and torchvision does not import."""
    index, stray = tmp_path / "index", tmp_path / "stray"
    make_torch_pair(index, stray)
    pins(engine=("torch==1.0", "torchvision==1.0"), imports=("torch", "torchvision"))
    monkeypatch.setattr(installation, "find_uv", lambda home: None)
    for name in [n for n in os.environ if n.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", index.as_uri())
    monkeypatch.setenv("PIP_FIND_LINKS", str(stray))
    said = []
    e.install(("engine",), home, report=Reporter(said.append))
    assert any("do not fit" in str(line) for line in said)
    assert e.verify(("engine",), home) == {}


def test_a_full_disk_is_noticed_before_gigabytes_are_downloaded(home, pins, wheelhouse):
    pins(disk_mb=10**9)
    with pytest.raises(In2nError) as raised:
        e.install(("engine",), home, wheelhouse)
    assert raised.value.code == "disk_full" and not e.plan(("engine",), home).folder.exists()


def test_verifying_what_is_not_there(home, pins):
    with pytest.raises(In2nError) as raised:
        e.verify(("engine",), home)
    assert raised.value.code == "no_environment"


def test_an_empty_wheelhouse(home, pins, tmp_path):
    with pytest.raises(In2nError) as raised:
        e.install(("engine",), home, tmp_path)
    assert raised.value.code == "no_wheelhouse"


@pytest.mark.usefixtures("uv_wheel")
def test_a_package_missing_in_the_wheelhouse(home, pins, wheelhouse):
    pins(engine=("tiny==3.0",))
    with pytest.raises(In2nError) as raised:
        e.install(("engine",), home, wheelhouse)
    assert raised.value.code == "no_package" and "tiny" in raised.value.message


@pytest.mark.usefixtures("uv_wheel")
def test_a_package_that_does_not_import_even_after_installing_again(home, pins, wheelhouse):
    make_wheel(wheelhouse, "bad", "1.0", {"bad/__init__.py": "import nothing_like_it"})
    pins(engine=("bad==1.0",), imports=("bad",))
    with pytest.raises(In2nError, match="nothing_like_it") as raised:
        e.install(("engine",), home, wheelhouse)
    assert raised.value.code == "broken_environment" and not e.plan(("engine",), home).ready


def test_a_python_without_ensurepip(home, pins, wheelhouse, monkeypatch):
    monkeypatch.setattr(installation, "find_uv", lambda home: None)
    monkeypatch.setattr(sys, "_base_executable", shutil.which("false") or "false")
    with pytest.raises(In2nError, match="python3-venv|ensurepip") as raised:
        e.install(("engine",), home, wheelhouse)
    assert raised.value.code == "no_venv" and "apt-get install" in raised.value.hint


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
def test_missing_system_libraries_are_named_in_one_command(home, pins, wheelhouse, tmp_path, monkeypatch):
    make_wheel(wheelhouse, "bpy", "1.0", {"bpy/__init__.py": "", "bpy/__init__.fake.so": ""})
    pins(blender=("bpy==1.0",), blender_imports=("bpy",))
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in {
        "ldd": (
            "echo '\tlibXi.so.6 => not found'; echo '\tlibX11.so.6 => not found'; echo '\tlibc.so.6 => /lib/libc.so.6'"
        ),
        "apt-get": "",
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(In2nError) as raised:
        e.install(("engine", "blender"), home, wheelhouse)
    assert (
        raised.value.code == "missing_system_libraries"
        and raised.value.hint == "sudo apt-get install -y libx11-6 libxi6"
    )
    (tools / "ldd").unlink()
    e.install(("engine", "blender"), home, wheelhouse)
    assert e.plan(("engine", "blender"), home).ready


def test_two_installations_do_not_meet(home):
    home.mkdir()
    waiting, said = threading.Event(), []

    def second():
        try:
            with installation_lock(
                home, Reporter(lambda event: (said.append(event), waiting.set()), lambda: waiting.is_set())
            ):
                said.append("got it")
        except Cancelled:
            said.append("cancelled")

    with installation_lock(home, Reporter()):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(20)
    assert said == ["Another installation is running: waiting for it", "cancelled"]
    with installation_lock(home, Reporter()):
        pass


@pytest.mark.usefixtures("uv_wheel")
def test_an_environment_whose_blender_has_moved_is_not_ready(home, pins, wheelhouse):
    """Windows' python.exe in it stays, and starts nothing any more."""
    python = e.install(("engine",), home, wheelhouse)
    settings = python.parents[1] / "pyvenv.cfg"
    lines = settings.read_text(encoding="utf-8").splitlines()
    settings.write_text("\n".join("home = /gone/with/blender" if line.startswith("home") else line for line in lines))
    assert python.exists() and not e.plan(("engine",), home).ready


def test_a_path_that_windows_does_not_take_is_said_where_installing_failed(home, pins, monkeypatch):
    def fill(*given):
        raise In2nError("install_failed", "Installing failed: os error 3", "")

    monkeypatch.setattr(installation, "fill", fill)
    monkeypatch.setattr(installation, "_takes_long_paths", lambda: False)
    with pytest.raises(In2nError, match="os error 3"):
        e.install(("engine",), home)
    monkeypatch.setattr(installation, "WINDOWS", True)
    deep = home / ("deep" * 20)
    with pytest.raises(In2nError) as raised:
        e.install(("engine",), deep)
    assert raised.value.code == "long_path" and "--home" in raised.value.hint
    monkeypatch.setattr(installation, "_takes_long_paths", lambda: True)
    with pytest.raises(In2nError, match="os error 3"):
        e.install(("engine",), deep)


@pytest.mark.parametrize(
    "cuda, there, said",
    [("None", "False", "processors alone"), ("12.8", "False", "update the driver"), ("12.8", "True", "")],
)
def test_a_gpu_that_torch_has_no_use_for_is_said_after_installing(
    home, pins, wheelhouse, monkeypatch, cuda, there, said
):
    make_wheel(
        wheelhouse,
        "torch",
        "1.0",
        {
            "torch/__init__.py": "from types import SimpleNamespace\n"
            f"version = SimpleNamespace(cuda={cuda if cuda == 'None' else repr(cuda)}, hip=None)\n"
            f"cuda = SimpleNamespace(is_available=lambda: {there})\n"
        },
    )
    pins(engine=("torch==1.0",), imports=("torch",))
    real, log = shutil.which, []
    which = lambda program, *more, **rest: "/usr/bin/smi" if program == "nvidia-smi" else real(program, *more, **rest)
    monkeypatch.setattr(verification.shutil, "which", which)
    e.install(("engine",), home, wheelhouse, Reporter(log.append))
    told = [str(line) for line in log if "driver" in str(line)]
    assert len(told) == bool(said) and said in "".join(told)
