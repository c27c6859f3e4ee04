"""What an environment is to hold, and what is there already."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..scene.errors import In2nError
from ..workspace.files import read_json
from .home import WINDOWS, environment_folder, python_version
from .pins import read_pins

GROUPS = ("engine", "blender", "test", "ray")
OPTIONAL = ("ray",)  # what an engine works without
TORCH_PAIR = ("torch", "torchvision")
MISSING, INCOMPLETE, OUTDATED, READY = "missing", "incomplete", "outdated", "ready"


@dataclass(frozen=True)
class Plan:
    """What an environment holds, or will hold once installed.

    Attributes:
        folder: The virtual environment.
        groups: What was asked for and what is already there.
        requirements: Exact versions of what is installed.
        constraints: Exact versions of what comes along.
        digest: Names the pins; the stamp of a ready environment carries the same.
        disk_mb: Room that it takes, in megabytes.
    """

    folder: Path
    groups: tuple[str, ...]
    requirements: tuple[str, ...]
    constraints: tuple[str, ...]
    digest: str
    disk_mb: int

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.folder / ("Scripts/python.exe" if WINDOWS else "bin/python")

    @property
    def stamp(self) -> Path:
        """The file that is written last, with the digest and the groups."""
        return stamp_file(self.folder)

    @property
    def ready(self) -> bool:
        """Whether nothing is left to do; starts no process."""
        stamp = _read_stamp(self.folder)
        return (
            stamp.get("digest") == self.digest
            and set(self.groups) <= set(stamp.get("groups", ()))
            and self.python.exists()
            and _base_is_there(self.folder)
        )


def plan(groups: Iterable[str], home: Path | str | None = None) -> Plan:
    """What `install` would make.

    Args:
        groups: Of GROUPS; those already installed are kept.
        home: As for `home_folder`.

    Raises:
        In2nError: "wrong_python" when a group has no build for this Python.
    """
    pins = read_pins()
    version = python_version()
    _check_python(groups, pins, version)
    folder = environment_folder(home)
    wanted = set(groups) | set(_read_stamp(folder).get("groups", ()))
    ordered = tuple(group for group in GROUPS if group in wanted)
    by_group = {g: [*pins["groups"][g], *(pins["python"][version][g] or ())] for g in GROUPS}
    requirements = tuple(r for group in ordered for r in by_group[group])
    # numpy is the engine's pin, but bpy and pycolmap must get the same one when they are installed first or alone
    constraints = (
        *pins["constraints"],
        *(r for r in by_group["engine"] if r.startswith(("numpy==", "scipy==", "pillow=="))),
    )
    digest = hashlib.sha256(json.dumps([version, by_group, constraints]).encode()).hexdigest()[:16]
    return Plan(folder, ordered, requirements, constraints, digest, sum(pins["disk_mb"][g] for g in ordered))


def condition(groups: Iterable[str] = ("engine",), home: Path | str | None = None) -> str:
    """How far an environment is.

    Args:
        groups: Of GROUPS; those already installed count too.
        home: As for `home_folder`.

    Returns:
        MISSING; INCOMPLETE: an installation was interrupted; OUTDATED: made for other versions than this add-on wants;
        or READY.

    Raises:
        In2nError: "wrong_python".
    """
    planned = plan(groups, home)
    if planned.ready:
        return READY
    if not planned.folder.exists():
        return MISSING
    return OUTDATED if _read_stamp(planned.folder) else INCOMPLETE


def stamp_file(folder: Path) -> Path:
    """The stamp of an environment, there or not.

    Args:
        folder: The virtual environment.
    """
    return folder / "in2n.json"


def _read_stamp(folder: Path) -> dict:
    try:
        return read_json(stamp_file(folder))
    except (In2nError, OSError):
        return {}


def _base_is_there(folder: Path) -> bool:
    """Whether the Python that an environment was made from, such as Blender's own, is where it was.

    Windows' python.exe in an environment is a starter that stays when Blender has moved, and then starts nothing.
    """
    try:
        lines = (folder / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return True
    homes = [line.partition("=")[2].strip() for line in lines if line.partition("=")[0].strip() == "home"]
    return all(Path(home).is_dir() for home in homes)


def _check_python(groups: Iterable[str], pins: dict, version: str) -> None:
    known = pins["python"]
    if version in known and all(known[version][g] is not None for g in groups):
        return
    usable = [v for v, by_group in known.items() if all(by_group[g] is not None for g in groups)]
    found = [path for path in (shutil.which(f"python{v}") for v in usable) if path]
    name = f"py -{usable[0]}" if WINDOWS else f"python{usable[0]}"
    hint = (
        f"Here is one: {found[0]} -m in2n_blender …"
        if found
        else f"Install Python {usable[0]} and run {name} -m in2n_blender …"
    )
    versions = " or ".join(filter(None, (", ".join(usable[:-1]), usable[-1])))
    raise In2nError(
        "wrong_python",
        f"This needs Python {versions}, Blender's own versions; this is Python {version}."
        if "blender" in groups
        else f"The engine needs Python {versions}; this is Python {version}.",
        hint,
    )
