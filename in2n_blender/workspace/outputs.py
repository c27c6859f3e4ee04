"""Which files in a folder of the user's are ours: what a command did not make, it neither overwrites nor deletes.

<folder>/
  .in2n_made.json   name -> BLAKE2 of the content when it was made; null for what is being made, or changes with use

A command claims the names that it is about to write before it starts, so that one that was killed finds its own files
again, and records them when they are written.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ..scene.errors import In2nError
from .files import read_json, write_error, write_json
from .stages import read_stages

MANIFEST = ".in2n_made.json"
SUMMARY = ("contact_sheet.png", "before_after.gif", "mesh.glb", "report.json")
SPLATS = "splats.ply"  # where the edit has some
FRAMES = "frames/edited"
# See `stages`: a folder of the version without manifests has one of these, and what was made beside it.
STAGE_FILES = {"run.json": ("workspace",), "demo.json": ("demo.blend", "demo.in2n")}


def frame_names(numbers: Iterable[int]) -> list[str]:
    """The names in a summary's folder of the frames with these numbers."""
    return [f"{FRAMES}/{number:04d}.{kind}" for number in numbers for kind in ("png", "exr")]


def run_names(frames: int) -> list[str]:
    """What `run` writes in its folder.

    Args:
        frames: How many frames it renders.
    """
    return ["run.json", "workspace", *SUMMARY, *frame_names(range(1, frames + 1))]


def demo_names(frames: int) -> list[str]:
    """What the demo writes in its folder.

    Args:
        frames: How many frames it renders.
    """
    return ["demo.json", "demo.blend", "demo.in2n", *SUMMARY, SPLATS, *frame_names(range(1, frames + 1))]


def made_by_us(folder: Path | str) -> dict[str, str | None]:
    """The names that we wrote in a folder, each with its content's hash where that is known.

    Args:
        folder: Where a command puts its results; need not exist.

    Returns:
        Name relative to the folder, with "/" -> BLAKE2 in hexadecimal digits, or None.

    Raises:
        In2nError: "bad_json" for a manifest that is none, "cannot_read" for one that may not be read.
    """
    folder = Path(folder)
    manifest = folder / MANIFEST
    if not os.path.lexists(manifest):
        return _made_by_last_version(folder)
    noted = read_json(manifest)
    names = noted.get("made") if isinstance(noted, dict) else None
    if not isinstance(names, dict):
        raise In2nError("bad_json", f"{manifest} does not list what was made.", "Choose another folder.")
    return {name: mark if isinstance(mark, str) else None for name, mark in names.items() if _stays_inside(name)}


def refuse_foreign(folder: Path | str, names: Iterable[str]) -> None:
    """Refuse to write where somebody else's file is.

    Args:
        folder: Where a command puts its results; need not exist.
        names: What it is about to write, relative to the folder, with "/".

    Raises:
        In2nError: "not_ours", naming the first file that we did not make, or that was changed since.
    """
    folder = Path(folder)
    made = made_by_us(folder)
    for name in names:
        above = next((part for part in _folders_above(folder, name) if os.path.lexists(part)), None)
        if above is not None and not above.is_dir():
            raise _not_ours(above, "is in the way and was not made by this command")
        path = folder / name
        if not os.path.lexists(path):
            continue
        if name not in made:
            raise _not_ours(path, "was not made by this command and would be overwritten")
        if made[name] is not None and (not path.is_file() or _hash(path) != made[name]):
            raise _not_ours(path, "was changed since it was made and would be overwritten")


def claim(folder: Path | str, names: Iterable[str]) -> None:
    """Refuse what `refuse_foreign` refuses, then note the names as ours, before anything is written.

    Args:
        folder: Where a command puts its results; made where it is missing.
        names: What it is about to write, relative to the folder, with "/".

    Raises:
        In2nError: "not_ours", "bad_json", "cannot_read", "disk_full", "cannot_write".
    """
    names = list(names)
    refuse_foreign(folder, names)
    _note(Path(folder), dict.fromkeys(names))


def record(folder: Path | str, names: Iterable[str]) -> None:
    """Note that these files are ours as they now are; one that is not there is ours no more.

    Args:
        folder: Where a command put its results.
        names: What it wrote, relative to the folder, with "/".

    Raises:
        In2nError: "bad_json", "cannot_read", "disk_full", "cannot_write".
    """
    folder = Path(folder)
    _note(folder, {name: _hash(folder / name) if (folder / name).is_file() else "" for name in names})


def unchanged(folder: Path | str, names: Iterable[str]) -> bool:
    """Whether these files are there as we made them.

    Args:
        folder: Where a command put its results; need not exist.
        names: What it wrote, relative to the folder, with "/".

    Returns:
        False, too, for a file whose content when it was made is not known.

    Raises:
        In2nError: "bad_json", "cannot_read".
    """
    folder, made = Path(folder), made_by_us(folder)
    return all(made.get(name) and (folder / name).is_file() and _hash(folder / name) == made[name] for name in names)


def remove_made(folder: Path | str, names: Iterable[str]) -> None:
    """Remove those files that we made and nobody changed since, such as frames of an earlier, longer path.

    Args:
        folder: Where a command puts its results.
        names: What may go, relative to the folder, with "/".

    Raises:
        In2nError: "bad_json", "cannot_read", "disk_full", "cannot_write".
    """
    folder, made = Path(folder), made_by_us(folder)
    gone = []
    for name in names:
        path = folder / name
        if name in made and path.is_file() and made[name] in (None, _hash(path)):
            path.unlink(missing_ok=True)
            gone.append(name)
    if gone:
        _note(folder, dict.fromkeys(gone, ""))


def _note(folder: Path, marks: dict[str, str | None]) -> None:
    """Write the manifest anew with these marks; an empty one takes its name out."""
    made = {**made_by_us(folder), **marks}
    write_json(folder / MANIFEST, {"made": {name: mark for name, mark in made.items() if mark != ""}})


def _not_ours(path: Path, why: str) -> In2nError:
    return In2nError("not_ours", f"{path} {why}.", "Choose another folder for the results, or move that file away.")


def _folders_above(folder: Path, name: str) -> list[Path]:
    """The folders between `folder` and the file, the innermost first."""
    return [folder / part for part in list(PurePosixPath(name).parents)[:-1]]


def _stays_inside(name: str) -> bool:
    """Whether a name of a manifest, which may be a stranger's, is that of a file below its folder."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and not {"\\", ":", "\0"} & set(name)


def _hash(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20)).hexdigest()
    except OSError as error:
        raise write_error(path, error) from error


def _made_by_last_version(folder: Path) -> dict[str, None]:
    """What the stages name of a run or demo that kept no manifest. Empty where there is none."""
    names: list[str] = []
    for name, beside in STAGE_FILES.items():
        try:
            stages = read_stages(folder / name)
        except (In2nError, OSError):  # somebody else's
            continue
        results = {key.split(" ")[0]: stage["result"] for key, stage in stages.items() if "result" in stage}
        if stages:
            names += [name, *beside]
        if "mesh" in results:  # the last stage before the summary
            count = results.get("render", {}).get("count")
            names += [*SUMMARY, *frame_names(range(1, count + 1) if isinstance(count, int) else ())]
    return dict.fromkeys(names)
