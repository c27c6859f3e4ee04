"""What is to be installed, and where; the real pins, and the workflow that tests them."""

import ast
import json
import re
import sys
from pathlib import Path

import pytest

from in2n_blender import environment as e
from in2n_blender.environment import home as home_module
from in2n_blender.environment import pins as versions
from in2n_blender.environment import planning
from in2n_blender.environment.verification import SYSTEM_LIBRARIES
from in2n_blender.scene.errors import In2nError


def test_another_python_is_told_which_to_use(home, monkeypatch):
    monkeypatch.setattr(planning, "python_version", lambda: "3.12")
    with pytest.raises(In2nError, match="Python 3.11 or 3.13.*this is Python 3.12") as raised:
        e.plan(("engine", "blender"), home)
    assert raised.value.code == "wrong_python"
    assert e.plan(("engine",), home).requirements  # the engine alone works there


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
