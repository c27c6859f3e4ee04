"""The one-way imports between rooms, and what the engine's pins must cover."""

import ast
import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "in2n_blender"
HEAVY = {"torch", "torchvision", "diffusers", "transformers", "lpips", "nerfacc", "warp", "accelerate"}
BLENDER = {"bpy", "bmesh", "mathutils", "bpy_extras", "gpu", "addon_utils", "bl_ui", "blf", "gpu_extras"}
STANDARD = set(sys.stdlib_module_names)
# rooms of the package that each room may import from
ROOMS = {
    "scene": ("scene",),
    "workspace": ("workspace", "link.requests", "scene"),
    "link": ("link", "environment", "workspace", "scene"),
    "environment": ("environment", "link", "workspace", "scene"),
    "models": ("models", "environment", "link.requests", "scene"),
    "engine": ("engine", "models", "link.requests", "link.process", "workspace", "scene"),
    "blender": (
        "blender",
        "environment",
        "models",
        "link",
        "workspace",
        "scene",
        "cli",
    ),  # `blender --command in2n` is the command line
}
# distribution -> the name it imports as, where the two differ
IMPORT_NAMES = {
    "warp-lang": "warp",
    "scikit-image": "skimage",
    "pillow": "PIL",
    "openexr": "OpenEXR",
    "huggingface-hub": "huggingface_hub",
    "fast-simplification": "fast_simplification",
    "opencv-python-headless": "cv2",
}


def files(room):
    return sorted((PACKAGE / room).rglob("*.py"))


def imports(file: Path) -> set[str]:
    """Absolute names of all that a file imports, anywhere in it: "torch.nn", "in2n_blender.scene.camera"."""
    package = ("in2n_blender", *file.relative_to(PACKAGE).parent.parts)
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            found.update(f"{base}.{alias.name}" for alias in node.names)
    return found


def outside(file: Path) -> set[str]:
    """Top-level names of the packages that a file imports from elsewhere than here and the standard library."""
    return {name.split(".")[0] for name in imports(file)} - STANDARD - {"in2n_blender"}


def inside(file: Path) -> set[str]:
    return {name.removeprefix("in2n_blender.") for name in imports(file) if name.startswith("in2n_blender.")}


def test_the_parser_of_this_test_sees_imports():
    file = PACKAGE / "engine" / "photos.py"
    assert "scene.reporting.Reporter" in inside(file) and "torch" in outside(file)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_one_way(room):
    assert files(room)
    wrong = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in files(room)
        for name in inside(file)
        if not any(name == allowed or name.startswith(allowed + ".") for allowed in ROOMS[room])
        and not name.startswith("__")
    }
    assert not wrong


@pytest.mark.parametrize(
    "room, allowed",
    [("workspace", set()), ("link", set()), ("environment", set()), ("models", set()), ("scene", {"numpy"})],
)
def test_rooms_that_need_nothing_else(room, allowed):
    assert not {f"{file.relative_to(ROOT)}: {name}" for file in files(room) for name in outside(file) - allowed}


@pytest.mark.parametrize(
    "room, forbidden",
    [
        ("blender", HEAVY),
        ("engine", BLENDER),
        ("scene", HEAVY | BLENDER),
        ("link", HEAVY | BLENDER),
        ("workspace", HEAVY | BLENDER),
    ],
)
def test_walls(room, forbidden):
    assert not {f"{file.relative_to(ROOT)}: {name}" for file in files(room) for name in outside(file) & forbidden}


def test_relative_imports_only_inside_the_package():
    """Installed as an extension the package has another name (bl_ext.user_default.in2n_blender)."""
    wrong = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = (
                [node.module]
                if isinstance(node, ast.ImportFrom) and not node.level
                else [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else []
            )
            wrong.update(
                f"{file.relative_to(ROOT)}: {name}" for name in names if name and name.split(".")[0] == "in2n_blender"
            )
    assert not wrong


def test_what_the_engine_imports_is_pinned():
    pins = json.loads((PACKAGE / "environment" / "engine_versions.json").read_text())
    listed = [*pins["groups"]["engine"], *pins["python"]["3.11"]["engine"]]
    names = {requirement.split("==")[0] for requirement in listed}
    pinned = {IMPORT_NAMES.get(name, name) for name in names}
    assert not {f"{file.relative_to(ROOT)}: {name}" for file in files("engine") for name in outside(file) - pinned}


def imported_by(statement: str) -> set[str]:
    """Modules loaded in a fresh process after a statement."""
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {statement}; print('\\n' + '\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_WAIT_POLICY": "passive"},
    )
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stdout.split()}


def test_the_command_line_needs_only_the_standard_library():
    loaded = imported_by("import in2n_blender.cli.main as cli; cli.build_parser()")
    assert not loaded & (HEAVY | BLENDER | {"numpy"})


def test_the_worker_starts_without_torch():
    assert not imported_by("import in2n_blender.engine.worker; in2n_blender.engine.worker.hello()") & (HEAVY | BLENDER)


def test_the_add_on_registers_without_torch():
    if importlib.util.find_spec("bpy") is None:
        pytest.skip("no bpy in this environment")
    loaded = imported_by("import bpy, in2n_blender; in2n_blender.register()")
    assert "bpy" in loaded and not loaded & HEAVY


def test_one_version():
    from in2n_blender import __version__

    manifest = tomllib.loads((ROOT / "blender_manifest.toml").read_text(encoding="utf-8"))
    assert manifest["version"] == __version__
