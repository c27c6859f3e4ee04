"""Building the extension: one zip a platform, made and checked by Blender's own tool, and the index that makes a folder
of them a repository.

The tool is `blender_ext.py`, a plain program inside the bpy wheel. It wants the manifest beside `__init__.py`, so the
package is copied into a folder of its own first, together with uv's wheels, whose names and hashes are locked in
`environment/engine_versions.json`. Fetched wheels are kept in the checkout's `wheels/` and checked again at every
build.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..environment import uv_wheels
from ..link.process import Lines, clean_environment, spawn
from ..scene.errors import In2nError
from ..scene.reporting import Reporter
from ..workspace.files import read_json, write_error

PACKAGE = Path(__file__).resolve().parents[1]
CHECKOUT = PACKAGE.parent
MANIFEST = "blender_manifest.toml"
ONLY_IN_CHECKOUT = {"testbed"}  # it makes truth to measure by, which an artist's Blender has no use for
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", ".*", "*~", "*.orig", "*.rej", "*.blend[1-9]")


def platforms() -> tuple[str, ...]:
    """The platforms that zips can be built for, as Blender's manifest names them."""
    return tuple(uv_wheels())


def build(
    out: Path | str, python: Path | str, report: Reporter | None = None, chosen=None, checkout: Path = CHECKOUT
) -> list[Path]:
    """Build one zip a platform into the folder `out` and write its index.json. Returns the zips.

    python: an interpreter with the bpy wheel. chosen: platforms (default: all). What an earlier build left in `out` is
    replaced, and only after every new zip is built and valid. Progress is in steps. Raises In2nError and Cancelled.
    """
    check_checkout(checkout)
    report, chosen, out = report or Reporter(), tuple(chosen or platforms()), Path(out)
    refuse_other_index(out / "index.json")
    work = _Work(report, steps=3 * len(chosen) + 3)
    program = find_tool(python, work)
    tags = (
        program.parents[3] / "modules" / "_bpy_internal" / "extensions" / "tags.py"
    )  # the tags that extensions.blender.org knows
    tool = [str(python), "-I", str(program)]
    wheels = {platform: fetch_wheel(platform, checkout / "wheels", python, work) for platform in chosen}
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".build-") as folder:
            staged, built = Path(folder, "staged"), Path(folder, "built")
            work.step("staging the package")
            stage(checkout, staged, wheels)
            built.mkdir()
            _blender_tool(
                work,
                [
                    *tool,
                    "build",
                    "--split-platforms",
                    "--valid-tags",
                    str(tags),
                    "--source-dir",
                    str(staged),
                    "--output-dir",
                    str(built),
                ],
                lambda said: "building" in said and work.step(said),
            )
            zips = sorted(built.glob("*.zip"))
            for file in zips:
                work.step(f"validating {file.name}")
                _blender_tool(work, [*tool, "validate", "--valid-tags", str(tags), str(file)])
            name = tomllib.loads((staged / MANIFEST).read_text(encoding="utf-8"))["id"]
            for old in out.glob(f"{name}-*.zip"):
                old.unlink()
            zips = [file.replace(out / file.name) for file in zips]
    except OSError as error:
        raise write_error(out, error) from error
    work.step("writing index.json")
    _blender_tool(work, [*tool, "server-generate", "--repo-dir", str(out)])
    work.step("done")
    return zips


def refuse_other_index(file: Path) -> None:
    """Raise In2nError("not_ours") for an index.json that is no repository's of extensions."""
    if not os.path.lexists(file):
        return
    try:
        found = read_json(file)
    except (In2nError, OSError):
        found = None
    if not isinstance(found, dict) or not {"version", "blocklist", "data"} <= set(found):
        raise In2nError(
            "not_ours",
            f"{file} is not the index of a repository of extensions and would be overwritten.",
            "Choose another folder with --out, or move that file away.",
        )


def check_checkout(checkout: Path = CHECKOUT) -> None:
    """Raises In2nError("no_checkout") where this package is not part of one, as when it is itself installed in
    Blender."""
    if not (checkout / MANIFEST).exists():
        raise In2nError(
            "no_checkout",
            f"There is no {MANIFEST} in {checkout}.",
            "The extension is built from a checkout of the project.",
        )


def find_tool(python: Path | str, work: _Work) -> Path:
    """Blender's tool inside the bpy wheel of that interpreter; bpy itself is not imported. Raises
    In2nError("no_blender_tool")."""
    script = (
        "import importlib.util as u; s = u.find_spec('bpy'); print(*(s.submodule_search_locations or [] if s else []))"
    )
    said = work.run([str(python), "-I", "-c", script])
    tools = (
        sorted(Path(said.lines[-1]).glob("*/scripts/addons_core/bl_pkg/cli/blender_ext.py"))
        if said.ok and said.lines
        else []
    )
    if not tools:
        raise In2nError(
            "no_blender_tool",
            f"{python} has no bpy wheel, which brings Blender's tool for building extensions.",
            "Install it: python3 -m in2n_blender install --groups blender",
        )
    return tools[-1]


def stage(checkout: Path, folder: Path, wheels: dict[str, Path]) -> None:
    """Lay out the extension as Blender wants it. wheels: platform -> uv's wheel for it."""
    shutil.copytree(checkout / PACKAGE.name, folder, ignore=_left_out)
    shutil.copy2(checkout / "LICENSE", folder)
    (folder / "wheels").mkdir()
    for wheel in wheels.values():
        shutil.copy2(wheel, folder / "wheels")
    manifest = (checkout / MANIFEST).read_text(encoding="utf-8")
    # before the first table, so that the keys are the manifest's own; platforms and file names hold no quotes
    generated = (
        f"platforms = {_toml_list(wheels)}\nwheels = "
        f"{_toml_list(f'./wheels/{wheel.name}' for wheel in wheels.values())}\n"
    )
    (folder / MANIFEST).write_text(generated + manifest, encoding="utf-8")


def _left_out(folder: str, names: list[str]) -> set[str]:
    top = ONLY_IN_CHECKOUT & set(names) if Path(folder).name == PACKAGE.name else set()
    return LEFT_OUT(folder, names) | top


def _toml_list(texts) -> str:
    return "[" + ", ".join(f'"{text}"' for text in texts) + "]"


# --- uv's wheels ----------------------------------------------------------------------------------------------------


def fetch_wheel(platform: str, folder: Path, python: Path | str, work: _Work) -> Path:
    """The locked wheel of uv for a platform: the one in `folder` when its hash is right, else downloaded by pip with
    the user's settings.

    Raises In2nError("no_wheel") where it cannot be had and In2nError("wrong_hash") when the index offers another file
    of that name.
    """
    locked = uv_wheels()[platform]
    wheel = folder / locked["file"]
    work.step(f"uv for {platform}")
    if _has_hash(wheel, locked["sha256"]):
        return wheel
    by_hand = f"Check the network, or put {wheel.name} into {folder} by hand."
    with tempfile.TemporaryDirectory() as place:
        requirement = Path(place, "uv.txt")
        requirement.write_text(
            f"uv=={locked['file'].split('-')[1]} --hash=sha256:{locked['sha256']}\n", encoding="utf-8"
        )
        said = work.run(
            [
                *_pip(python, work),
                "download",
                "--require-hashes",
                "--only-binary",
                ":all:",
                "--no-deps",
                "--platform",
                _wheel_platform(wheel.name),
                "--dest",
                place,
                "--no-input",
                "--disable-pip-version-check",
                "--progress-bar",
                "off",
                "--retries",
                "1",
                "-r",
                str(requirement),
            ]
        )
        fetched = Path(place, wheel.name)
        if "DO NOT MATCH THE HASHES" in said.text or (fetched.exists() and not _has_hash(fetched, locked["sha256"])):
            raise In2nError(
                "wrong_hash",
                f"What the package index offers as {wheel.name} is not the locked file.",
                "Do not use it. Ask whoever runs that index.",
            )
        if not fetched.exists():
            raise In2nError("no_wheel", f"uv's wheel for {platform} could not be downloaded.", by_hand)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            part = wheel.with_suffix(".part")
            shutil.copyfile(fetched, part)
            part.replace(wheel)
        except OSError as error:
            raise write_error(folder, error) from error
    return wheel


def _has_hash(file: Path, sha256: str) -> bool:
    return file.exists() and hashlib.sha256(file.read_bytes()).hexdigest() == sha256


def _wheel_platform(name: str) -> str:
    """The first platform tag of a wheel's name: "manylinux_2_17_x86_64"."""
    return name.removesuffix(".whl").rsplit("-", 1)[1].split(".")[0]


def _pip(python: Path | str, work: _Work) -> list[str]:
    """A pip: of this Python, of the environment, or the one that the environment's ensurepip carries (uv makes
    environments without pip)."""
    for candidate in (sys.executable, str(python)):
        if work.run([candidate, "-m", "pip", "--version"]).ok:
            return [candidate, "-m", "pip"]
    script = (
        "import ensurepip, pathlib; "
        "print(*pathlib.Path(ensurepip.__file__).parent.glob('_bundled/pip-*.whl'), sep='\\n')"
    )
    said = work.run([str(python), "-I", "-c", script])
    if said.ok and said.lines:
        return [str(python), f"{said.lines[0]}/pip"]  # a zip file with a __main__.py runs as it is
    raise In2nError(
        "no_pip",
        "There is no pip to download uv's wheels with.",
        "Install it: python3 -m ensurepip, or your system's python3-pip.",
    )


# --- programs -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Said:
    """How a program ended and all it printed."""

    code: int
    lines: list[str]

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


class _Work:
    """Counts the build's steps and runs its programs; both notice within a second that the build was cancelled."""

    def __init__(self, report: Reporter, steps: int):
        self._report = report
        self._steps = steps
        self._done = -1

    def step(self, message: str) -> None:
        self._done += 1
        self._report.progress(self._done, self._steps - 1, "steps", message)

    def run(self, command: list[str], on_line=lambda line: None) -> _Said:
        lines: list[str] = []
        try:
            process = spawn(command, env=clean_environment())
        except OSError as error:
            return _Said(1, [str(error)])
        output = Lines(process)
        try:
            while not output.ended:
                self._report.check()
                line = output.get(0.2)
                if line is not None:
                    lines.append(line)
                    on_line(line)
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)  # its output has ended, so it is about to end too
        finally:
            output.stop()
        return _Said(process.wait(), lines)


def _blender_tool(work: _Work, command: list[str], on_line=lambda line: None) -> None:
    """Raises In2nError("refused") with what Blender's tool said, warnings included: a build that warns is not for
    others."""
    said = work.run(command, on_line)
    complaints = [line for line in said.lines if line.startswith(("WARN", "ERROR", "FATAL_ERROR"))] or (
        [] if said.ok else said.lines[-5:]
    )
    if complaints:
        raise In2nError(
            "refused",
            f"Blender's tool refuses the extension: {' '.join(complaints)}",
            f"Mend {MANIFEST} or what it names.",
        )
