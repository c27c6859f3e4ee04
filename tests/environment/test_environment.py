"""Making environments: for real, with tiny packages from a folder; and what goes wrong, one sentence each."""

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest
from tiny_wheels import make_torch_pair, make_wheel

from in2n_blender import environment as e
from in2n_blender.environment import home as home_module
from in2n_blender.environment import installation, planning
from in2n_blender.environment import pins as versions
from in2n_blender.environment import uv as uv_module
from in2n_blender.environment.home import installation_lock
from in2n_blender.environment.pip import PipProgress
from in2n_blender.environment.user_settings import uv_settings_from_pip
from in2n_blender.environment.uv import Uv, UvProgress
from in2n_blender.environment.verification import SYSTEM_LIBRARIES
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


def test_torchs_own_index_is_taken_only_where_it_serves(home, pins, monkeypatch):
    said = []
    installer = Uv("uv", e.plan(("engine",), home), home, None, Reporter(said.append))
    monkeypatch.setattr(installer, "torch_pair", lambda operator="==": ["torch==2.13.0"])
    for serves, backend in ((True, ["--torch-backend=auto"]), (False, [])):
        monkeypatch.setattr(installer, "_own_index_serves", lambda torch, serves=serves: serves)
        assert installer._torch_backend() == backend
    assert [line for line in said if "default index" in str(line)] == [
        "torch's own index cannot be reached: taking torch from the default index"
    ]


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
    monkeypatch.setattr(sys, "executable", shutil.which("false") or "false")
    with pytest.raises(In2nError, match="python3-venv|ensurepip") as raised:
        e.install(("engine",), home, wheelhouse)
    assert raised.value.code == "no_venv" and "apt-get install" in raised.value.hint


def test_another_python_is_told_which_to_use(home, monkeypatch):
    monkeypatch.setattr(planning, "python_version", lambda: "3.12")
    with pytest.raises(In2nError, match="Python 3.11 or 3.13.*this is Python 3.12") as raised:
        e.plan(("engine", "blender"), home)
    assert raised.value.code == "wrong_python"
    assert e.plan(("engine",), home).requirements  # the engine alone works there


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


def test_uv_lines_become_progress():
    seen = []
    watch = UvProgress(Reporter(seen.append))
    for line in (
        "Resolved 75 packages in 5s",
        "Downloading torch (506.1MiB)",
        "Downloading nvidia-cublas (1.5GiB)",
        " Downloaded torch",
        "Prepared 75 packages in 3m",
        " + torch==2.13.0",
    ):
        watch.line(line)
    assert [(p.done, p.total, p.message) for p in seen[1:4]] == [
        (0, 506, "downloading torch (506 MB)"),
        (0, 2042, "downloading nvidia-cublas (1.5 GB)"),
        (506, 2042, "downloading nvidia-cublas (1.5 GB)"),
    ]


def test_pip_lines_become_progress():
    seen = []
    watch = PipProgress(Reporter(seen.append))
    for line in (
        "Collecting torch==2.13.0",
        "  Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (506.1 MB)",
        "Installing collected packages: a, b, torch",
    ):
        watch.line(line)
    assert [p.message for p in seen] == [
        "finding torch==2.13.0",
        "downloading torch (506.1 MB)",
        "installing 3 packages (some minutes)",
    ]


def test_pip_settings_are_said_in_uv_words(tmp_path, monkeypatch):
    for name in [n for n in os.environ if n.startswith("PIP_")]:
        monkeypatch.delenv(name)
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://mirror.example/simple\nproxy = http://proxy.example:3128\nfind-links = "
        "/stray\n[install]\nextra-index-url = https://a.example https://b.example\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("PIP_CERT", "/certs.pem")
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    said = uv_settings_from_pip()
    assert said == {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "UV_INDEX": "https://a.example https://b.example",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "SSL_CERT_FILE": "/certs.pem",
        "ALL_PROXY": "http://proxy.example:3128",
    }
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://chosen.example/simple")
    assert "UV_DEFAULT_INDEX" not in uv_settings_from_pip() and "UV_INDEX" not in uv_settings_from_pip()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert uv_settings_from_pip()["UV_FIND_LINKS"] == "/stray"


def bundle_uv(package, monkeypatch) -> Path:
    """A package that bundles a script in place of uv, locked for this machine. Returns its wheel."""
    if os.name == "nt":
        pytest.skip("a shell script stands in for uv")
    wheel = package / "wheels" / "uv-1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("uv-1.0.data/scripts/uv", "#!/bin/sh\necho uv 1.0\n")
    locked = {"file": wheel.name, "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest()}
    monkeypatch.setattr(uv_module, "PACKAGE", package)
    monkeypatch.setattr(uv_module, "uv_wheels", lambda: {e.blender_platform(): locked})
    return wheel


def test_the_bundled_uv_is_copied_out_and_goes_before_any_other(tmp_path, monkeypatch):
    bundle_uv(tmp_path / "package", monkeypatch)
    older = tmp_path / "home" / "tools" / "uv-0.9-py3-none-any"
    older.mkdir(parents=True)
    uv = e.find_uv(tmp_path / "home")
    assert not older.exists()
    assert uv and Path(uv).is_relative_to(tmp_path / "home")
    Path(uv).write_bytes(b"")  # as left by a full disk
    Path(uv).chmod(0o644)
    assert e.find_uv(tmp_path / "home") == uv and os.access(uv, os.X_OK)


def test_a_bundled_uv_that_was_tampered_with_is_left_alone(tmp_path, monkeypatch):
    wheel = bundle_uv(tmp_path / "package", monkeypatch)
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("more", "")
    assert uv_module._bundled_uv(tmp_path / "home") is None and not (tmp_path / "home").exists()


def test_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("IN2N_HOME", str(tmp_path))
    assert e.home_folder() == tmp_path and e.home_folder(tmp_path / "other") == tmp_path / "other"
    monkeypatch.delenv("IN2N_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(home_module, "WINDOWS", False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert e.home_folder() == tmp_path / "data" / "in2n_blender"


def test_the_real_pins_are_exact_and_cover_all_groups():
    pins = json.loads(versions.FILE.read_text())
    listed = [
        *sum(pins["groups"].values(), []),
        *pins["constraints"],
        *(r for v in pins["python"].values() for g in v.values() for r in g or ()),
    ]
    assert all(requirement.count("==") == 1 for requirement in listed)
    assert set(pins["groups"]) == set(pins["imports"]) == set(pins["disk_mb"]) == set(e.GROUPS)
    assert pins["python"]["3.11"]["blender"] == ["bpy==5.0.1"] and pins["python"]["3.13"]["blender"][0].startswith(
        "bpy==5.2."
    )


def test_nothing_is_pinned_for_nothing():
    """Every package of the engine is imported by it; what comes along with another one is a constraint."""
    pins = versions.read_pins()
    package = Path(e.__file__).parents[1]
    imported = {
        name.split(".")[0]
        for file in package.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom) and node.module and not node.level
            else []
        )
    }
    assert set(pins["imports"]["engine"]) - imported == {"torchvision"}  # which lpips imports, and which must fit torch
    assert not {*pins["groups"]["engine"], *pins["groups"]["test"]} & set(pins["constraints"])


ROOT = Path(__file__).resolve().parents[2]


def test_the_workflow_runs_what_the_pins_are_for():
    """GitHub runs the README's command by every Python that has a Blender, with the libraries that its wheel needs."""
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    (command,) = re.findall(r"python3 (-m in2n_blender test)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    assert f"- run: python {command}\n" in workflow
    versions_with_blender = [v for v, groups in versions.read_pins()["python"].items() if groups["blender"]]
    assert f"python: {json.dumps(versions_with_blender)}" in workflow
    libraries = {debian for debian, _fedora in SYSTEM_LIBRARIES.values()}
    assert set(re.findall(r"\blib[\w.-]+", workflow.split("install -y")[1].split("- run")[0])) == libraries
