"""The extension: what a build makes, what it refuses, and a life in Blender from installing to uninstalling.

IN2N_BLENDERS names more interpreters with a bpy wheel, or Blender executables, to live that life in, separated as PATH
is.
"""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from in2n_blender.cli import extension
from in2n_blender.cli import main as cli
from in2n_blender.cli import wheels as uvs_wheels
from in2n_blender.cli.programs import Work
from in2n_blender.environment import blender_platform, uv_wheels
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Reporter

ROOT = Path(__file__).resolve().parents[1]
HERE = blender_platform()
BLENDERS = [sys.executable, *filter(None, os.environ.get("IN2N_BLENDERS", "").split(os.pathsep))]

needs_bpy = pytest.mark.skipif(
    importlib.util.find_spec("bpy") is None, reason="no bpy wheel in this environment, and with it no tool of Blender's"
)


def copy_checkout(folder: Path, version: str) -> Path:
    """What a build needs of the checkout, as another version whose rooms can be told from the first one's."""
    shutil.copytree(ROOT / "in2n_blender", folder / "in2n_blender", ignore=extension.LEFT_OUT)
    for name in ("LICENSE", extension.MANIFEST):
        shutil.copy2(ROOT / name, folder)
    for file in (folder / extension.MANIFEST, folder / "in2n_blender" / "__init__.py"):
        text = re.sub(r'(?m)^(version|__version__) = ".*"', rf'\1 = "{version}"', file.read_text(encoding="utf-8"))
        file.write_text(text, encoding="utf-8")
    stages = folder / "in2n_blender" / "workspace" / "stages.py"
    stages.write_text(f"{stages.read_text(encoding='utf-8')}\n\nNEWER = True\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def wheels(uv_wheel):
    """A checkout's folder with the wheel of uv for this machine."""
    if uv_wheel is None:
        pytest.skip(f"extensions are not built on {HERE}")
    return uv_wheel.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory, wheels):
    """The folder of a build for this machine's platform."""
    out = tmp_path_factory.mktemp("built")
    extension.build(out, sys.executable, chosen=[HERE])
    return out


@pytest.fixture(scope="module")
def newer(tmp_path_factory, wheels):
    checkout = copy_checkout(tmp_path_factory.mktemp("newer"), "99.0.0")
    shutil.copytree(wheels, checkout / "wheels")
    return extension.build(checkout / "dist", sys.executable, chosen=[HERE], checkout=checkout)[0]


# --- building


@needs_bpy
def test_the_zip_holds_what_belongs_and_nothing_else(built):
    (file,) = built.glob("*.zip")
    with zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
        manifest = tomllib.loads(archive.read(extension.MANIFEST).decode())
    wheel = f"wheels/{uv_wheels()[HERE]['file']}"
    assert {"__init__.py", "LICENSE", "README.md", "environment/engine_versions.json", wheel} <= names
    assert any(n.startswith("data/") and n.endswith("/transforms.json") for n in names)
    assert "engine/diffusion/miniature/weights/unet/diffusion_pytorch_model.safetensors" in names
    assert not [n for n in names if re.search(r"(^|/)(\.|__pycache__|tests?/)|\.pyc$|\.zip$", n)]
    assert not [n for n in names if n.startswith("testbed")]
    assert [n for n in names if n.endswith(".whl")] == [wheel]
    assert manifest["build"]["generated"] == {"platforms": [HERE], "wheels": [f"./{wheel}"]}


@needs_bpy
def test_the_index_makes_the_folder_a_repository(built):
    (file,) = built.glob("*.zip")
    (entry,) = json.loads((built / "index.json").read_text())["data"]
    assert entry["id"] == "in2n_blender" and entry["platforms"] == [HERE] and entry["archive_url"] == f"./{file.name}"
    assert (
        entry["archive_hash"] == f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
        and entry["archive_size"] == file.stat().st_size
    )
    assert entry["license"] == ["SPDX:GPL-3.0-or-later"] and set(entry["permissions"]) == {"files", "network"}
    assert entry["blender_version_min"] == "4.2.0"


@needs_bpy
def test_a_build_replaces_the_one_before(built, tmp_path, wheels):
    (tmp_path / "in2n_blender-0.0.1-linux_x64.zip").write_bytes(b"old")
    (tmp_path / "other.txt").write_text("mine")
    (file,) = extension.build(tmp_path, sys.executable, chosen=[HERE])
    assert {path.name for path in tmp_path.iterdir()} == {file.name, "index.json", "other.txt"}


@needs_bpy
def test_what_blender_refuses_leaves_the_build_before_alone(built, tmp_path, wheels):
    checkout = copy_checkout(tmp_path / "checkout", "1.0.0")
    shutil.copytree(wheels, checkout / "wheels")
    manifest = checkout / extension.MANIFEST
    manifest.write_text(manifest.read_text().replace('"Camera"', '"No such tag"'))
    out = tmp_path / "out"
    out.mkdir()
    (out / "in2n_blender-0.0.1-linux_x64.zip").write_bytes(b"old")
    with pytest.raises(In2nError, match="No such tag"):
        extension.build(out, sys.executable, chosen=[HERE], checkout=checkout)
    assert [path.name for path in out.iterdir()] == ["in2n_blender-0.0.1-linux_x64.zip"]


@needs_bpy
def test_cancelled_between_two_steps_it_leaves_nothing(tmp_path, wheels):
    said = []
    with pytest.raises(Cancelled):
        extension.build(
            tmp_path, sys.executable, Reporter(said.append, lambda: any("building" in e.message for e in said)), [HERE]
        )
    assert not list(tmp_path.iterdir())


@needs_bpy
def test_the_command_says_what_it_made(tmp_path, wheels, monkeypatch, capsys):
    monkeypatch.setenv("IN2N_ENGINE_PYTHON", sys.executable)
    assert cli.main(["build", "--out", str(tmp_path / "dist"), "--platform", HERE]) == 0
    said = capsys.readouterr().out
    assert "in2n_blender-" in said and "MB)" in said and "steps" in said


@pytest.mark.parametrize("text", ["mine", "[]", '{"version": "v1"}'])
def test_an_index_of_something_else_is_not_overwritten(tmp_path, text):
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(In2nError, match="index.json is not the index") as refused:
        extension.build(tmp_path, "no-such-python", chosen=[HERE])
    assert refused.value.code == "not_ours" and (tmp_path / "index.json").read_text() == text


@pytest.mark.parametrize(
    "line",
    [["testbed", "--out", "x"], ["train-miniature"], ["test"], ["build", "--out", "x"]],
    ids=lambda line: line[0],
)
def test_an_installed_extension_says_what_comes_with_a_checkout_alone(tmp_path, line):
    """As it lies in Blender's folder of extensions: staged, and nothing around it."""
    extension.stage(ROOT, tmp_path / "in2n_blender", {})
    done = subprocess.run(
        [sys.executable, "-m", "in2n_blender", *line],
        cwd=tmp_path,
        env={**os.environ, "IN2N_HOME": str(tmp_path / "home"), "IN2N_ENGINE_PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2 and len(lines) == 2 and "checkout of the project" in lines[1], done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in2n_blender"]


def test_a_checkout_is_needed(tmp_path):
    with pytest.raises(In2nError, match="blender_manifest.toml"):
        extension.build(tmp_path, sys.executable, checkout=tmp_path)


def test_without_bpy_it_says_what_to_install(tmp_path):
    with pytest.raises(In2nError, match="no bpy wheel") as error:
        extension.find_tool("no-such-python", Work(Reporter(), 1))
    assert "--groups blender" in error.value.hint


def test_staging_leaves_out_what_a_workshop_gathers(tmp_path):
    checkout = tmp_path / "checkout"
    package = checkout / "in2n_blender"
    for name in (
        "__init__.py",
        "jobs/x.py",
        "__pycache__/x.pyc",
        ".DS_Store",
        "jobs/x.py~",
        "jobs/x.py.orig",
        "data/scene.blend1",
        "data/scene.blend",
        "testbed/scenes/island.py",
        "engine/testbed/kept.py",
    ):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("")
    for name in ("LICENSE", "README.md", extension.MANIFEST):
        shutil.copy2(ROOT / name, checkout)
    wheel = tmp_path / "uv-1-py3-none-any.whl"
    wheel.write_bytes(b"")
    extension.stage(checkout, tmp_path / "staged", {"linux-x64": wheel, "macos-x64": wheel})
    staged = {
        path.relative_to(tmp_path / "staged").as_posix() for path in (tmp_path / "staged").rglob("*") if path.is_file()
    }
    assert staged == {
        "__init__.py",
        "jobs/x.py",
        "data/scene.blend",
        "engine/testbed/kept.py",
        "LICENSE",
        "README.md",
        extension.MANIFEST,
        f"wheels/{wheel.name}",
    }
    manifest = tomllib.loads((tmp_path / "staged" / extension.MANIFEST).read_text())
    assert (
        manifest["platforms"] == ["linux-x64", "macos-x64"]
        and manifest["id"] == "in2n_blender"
        and manifest["permissions"]
    )


# --- uv's wheels


@pytest.fixture
def index(tmp_path, monkeypatch):
    """pip finds only what is in this folder, and uv 1.0 for this machine is locked to the wheel that is offered
    there."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    wheel = folder / "uv-1.0-py3-none-manylinux_2_17_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("uv-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: uv\nVersion: 1.0\n")
        archive.writestr(
            "uv-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-manylinux_2_17_x86_64\n"
        )
        archive.writestr("uv-1.0.dist-info/RECORD", "")
    locked = {"file": wheel.name, "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest()}
    monkeypatch.setattr(uvs_wheels, "uv_wheels", lambda: {"linux-x64": locked})
    return wheel


def fetch(folder):
    return uvs_wheels.fetch_wheel("linux-x64", folder, sys.executable, Work(Reporter(), 1))


def test_a_wheel_is_fetched_once_and_again_when_it_was_damaged(index, tmp_path, monkeypatch):
    wheel = fetch(tmp_path / "wheels")
    assert wheel.read_bytes() == index.read_bytes()
    wheel.write_bytes(b"half of")
    assert fetch(tmp_path / "wheels").read_bytes() == index.read_bytes()
    index.unlink()
    assert fetch(tmp_path / "wheels") == wheel  # no index is asked
    assert [path.name for path in wheel.parent.iterdir()] == [wheel.name]


def test_without_a_network_it_says_so_in_one_sentence(index, tmp_path):
    index.unlink()
    with pytest.raises(In2nError, match="could not be downloaded") as error:
        fetch(tmp_path / "wheels")
    assert str(tmp_path / "wheels") in error.value.hint and "\n" not in str(error.value)


def test_another_file_of_that_name_is_not_taken(index, tmp_path):
    with zipfile.ZipFile(index, "a") as archive:
        archive.writestr("uv/surprise.py", "")
    with pytest.raises(In2nError, match="not the locked file"):
        fetch(tmp_path / "wheels")
    assert not (tmp_path / "wheels").exists()


def test_the_lock_is_whole():
    pins = json.loads((ROOT / "in2n_blender" / "environment" / "engine_versions.json").read_text())["uv"]
    assert set(pins["wheels"]) == {"windows-x64", "windows-arm64", "linux-x64", "macos-arm64", "macos-x64"}
    for locked in pins["wheels"].values():
        assert locked["file"].startswith(f"uv-{pins['version']}-py3-none-") and re.fullmatch(
            "[0-9a-f]{64}", locked["sha256"]
        )


# --- a life in Blender


def in_blender(program: str, part: str, zip_file: Path, tmp_path: Path) -> str:
    """Run one part of tests/extension_life.py and return what was printed. A line of an error fails the test."""
    blender = Path(program).stem.startswith("blender")
    command = (
        [program, "--background", "--python", "tests/extension_life.py", "--"]
        if blender
        else [program, "tests/extension_life.py"]
    )
    for folder in ("profile", "home"):
        (tmp_path / folder).mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "BLENDER_USER_RESOURCES": str(tmp_path / "profile"),
        "IN2N_HOME": str(tmp_path / "home"),
        "IN2N_ENGINE_PYTHON": sys.executable,
    }
    done = subprocess.run(
        [*command, part, str(zip_file), str(ROOT / "tests" / "link" / "fake_worker.py")],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0 and f"{part}: done" in done.stdout, done.stdout
    errors = [
        line for line in done.stdout.splitlines() if re.search(r"error|traceback|exception|warn|fail|leak", line, re.I)
    ]
    assert not errors, done.stdout
    return done.stdout


@pytest.mark.slow
@needs_bpy
@pytest.mark.parametrize("program", BLENDERS)
def test_installed_used_disabled_enabled_upgraded_and_uninstalled(built, newer, tmp_path, program):
    (zip_file,) = built.glob("*.zip")
    said = in_blender(program, "install", zip_file, tmp_path)
    assert "usage: blender --command in2n" in said and "/nowhere does not exist." in said
    for part in ("upgrade", "uninstall"):
        in_blender(program, part, newer, tmp_path)
