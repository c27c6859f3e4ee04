"""The one-way imports between rooms and inside them, and what the engine's pins must cover."""

import ast
import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "in2n_blender"
HEAVY = {"torch", "torchvision", "diffusers", "transformers", "lpips", "nerfacc", "warp", "accelerate", "ray"}
BLENDER = {"bpy", "bmesh", "mathutils", "bpy_extras", "gpu", "addon_utils", "bl_ui", "blf", "gpu_extras"}
STANDARD = set(sys.stdlib_module_names)
# Files that the engine's Python runs as programs of their own, and that nothing imports: what else they may import.
PROGRAMS = {"models.fetching": {"huggingface_hub", "filelock"}}
# What each room may import from, itself aside, from the ground up.
ROOMS = {
    "scene": (),
    "workspace": ("scene",),
    "link": ("workspace", "scene"),
    "environment": ("link", "workspace", "scene"),
    "models": ("environment", "link.requests", "link.request_fields", "workspace", "scene"),
    "engine": (
        "models",
        "link.requests",
        "link.request_fields",
        "link.messages",
        "link.process",
        "link.lifelines",
        "workspace",
        "scene",
    ),
    "remote": ("environment", "link", "workspace", "scene"),
    "cli": ("remote", "models", "environment", "link", "workspace", "scene"),
    # `blender --command in2n` is the command line
    "blender": ("cli", "remote", "models", "environment", "link", "workspace", "scene"),
    "testbed": ("engine", "blender.compat", "models", "link", "workspace", "scene"),
}
# Inside a room, the folders and files of a storey may import those of the storeys below it. Files of one folder may
# import each other, and so may the files of the lowest storey; what else stands on one storey may not.
STOREYS = {
    "engine": (
        {"device", "photos", "pictures", "measure", "importing", "poses", "lpips_backbone", "capture_report"},
        {"nerf", "diffusion"},
        {"editing", "splats"},
        {"output"},
        {"evaluation"},
        {"jobs", "worker"},
        {"batch"},
    ),
    "blender": (
        set(),  # all files that are named nowhere below
        {"operators"},
        {"panels"},
        {"properties", "preferences_page", "command", "demo"},
        {"registration"},
    ),
}
# (file, what it imports inside a function): why not at its top
LATE = {
    ("", "blender.registration"): "the package is imported without Blender, too",
    ("__main__", "cli.main"): "a Python that is too old is told so before it reads the rest",
    ("engine.diffusion.loading", "engine.diffusion.exact"): "diffusers takes seconds to import",
    ("engine.importing", "engine.poses.search"): "COLMAP and the video decoder take their time to load",
    ("engine.importing", "engine.poses.triangulating"): "COLMAP takes its time to load",
    ("blender.command", "cli.main"): "Blender starts without the command line",
}
# distribution -> the name it imports as, where the two differ
IMPORT_NAMES = {
    "warp-lang": "warp",
    "mini-racer": "py_mini_racer",
    "scikit-image": "skimage",
    "pillow": "PIL",
    "openexr": "OpenEXR",
    "huggingface-hub": "huggingface_hub",
    "fast-simplification": "fast_simplification",
    "opencv-python-headless": "cv2",
    "pillow-heif": "pillow_heif",
}


def files(room):
    return sorted((PACKAGE / room).rglob("*.py"))


def module_name(file: Path) -> str:
    """ "engine.nerf.scene"; a folder's __init__.py goes by the folder's name, the package's own by ""."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in PACKAGE.rglob("*.py") if "presets" not in file.parts}


@dataclass(frozen=True)
class Import:
    """An import of this package's: which of its files, from which, what of it, and whether inside a function."""

    module: str
    target: str
    name: str
    late: bool


def relative_imports(module: str) -> list[Import]:
    file = MODULES[module]
    package = [*file.relative_to(PACKAGE).parent.parts]
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))]
    late = {id(inner) for function in functions for inner in ast.walk(function)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - node.level + 1], *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                name = ".".join([*base, alias.name])
                target = name if name in MODULES else ".".join(base)
                found.append(Import(module, target, name, id(node) in late))
    return found


IMPORTS = [each for module in MODULES for each in relative_imports(module)]


def outside(file: Path) -> set[str]:
    """Top-level names of the packages that a file imports from elsewhere than here and the standard library, anywhere
    in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    return found - STANDARD


def below(name: str, allowed: str) -> bool:
    return name == allowed or name.startswith(allowed + ".")


def first_ring(imports) -> list[str] | None:
    """Files that import each other in a ring, if there are any: the first is named again at the end."""
    graph: dict[str, set[str]] = {}
    for each in imports:
        graph.setdefault(each.module, set()).add(each.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_the_parser_of_this_test_sees_imports():
    assert Import("engine.photos", "scene.errors", "scene.errors.In2nError", False) in IMPORTS
    assert Import("", "blender.registration", "blender.registration", True) in IMPORTS
    assert "torch" in outside(PACKAGE / "engine" / "device.py")
    assert len(MODULES) > 100 and {each.target for each in IMPORTS} <= set(MODULES)


def test_no_files_import_each_other_in_a_ring():
    """Imports inside functions count. The package's own file registers the add-on, and everything imports its
    version."""
    assert first_ring([each for each in IMPORTS if each.module != ""]) is None
    ring = [Import("a", "b", "b", False), Import("b", "c", "c", True), Import("c", "a", "a", False)]
    assert set(first_ring(ring)) == {"a", "b", "c"} and first_ring(ring[:2]) is None


def test_imports_inside_functions_have_a_reason():
    assert {(each.module, each.target) for each in IMPORTS if each.late} == set(LATE)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_one_way(room):
    mine = [each for each in IMPORTS if below(each.module, room)]
    assert files(room)
    wrong = {
        (each.module, each.target)
        for each in mine
        if not any(below(each.name, allowed) for allowed in (room, *ROOMS[room])) and each.name != "__version__"
    }
    assert not wrong


def test_every_file_is_in_a_room():
    assert {module.split(".")[0] for module in MODULES} == {"", "__main__", *ROOMS}


@pytest.mark.parametrize("room", STOREYS)
def test_storeys_inside_a_room_import_downward(room):
    storeys = STOREYS[room]
    placed = set().union(*storeys)
    parts = {module.split(".")[1] for module in MODULES if module.startswith(room + ".")}
    folders = {part for part in parts if (PACKAGE / room / part).is_dir()}
    assert folders <= placed <= parts, "a folder that stands on no storey, or a storey of what is not there"

    def storey(part: str) -> int:
        return next((number for number, inhabitants in enumerate(storeys) if part in inhabitants), 0)

    wrong = set()
    for each in IMPORTS:
        if each.module.startswith(room + ".") and each.target.startswith(room + "."):
            part, needed = each.module.split(".")[1], each.target.split(".")[1]
            if part != needed and storey(part) <= storey(needed) != 0:
                wrong.add(f"{each.module}: {each.target}")
    assert not wrong


@pytest.mark.parametrize(
    "room, allowed",
    [
        ("workspace", set()),
        ("link", set()),
        ("environment", set()),
        ("models", set()),
        ("cli", set()),
        ("scene", {"numpy"}),
    ],
)
def test_rooms_that_need_nothing_else(room, allowed):
    wrong = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in files(room)
        for name in outside(file) - allowed - PROGRAMS.get(module_name(file), set())
    }
    assert not wrong


def test_programs_are_imported_by_nothing():
    assert not {each.module for each in IMPORTS if each.target in PROGRAMS}


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
    listed = [*pins["groups"]["engine"], *pins["groups"]["ray"], *pins["python"]["3.11"]["engine"]]
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
