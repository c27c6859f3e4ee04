"""Captures in a .zip, or an .r3d of Record3D, which is one: unpacked beside it, once, within bounds."""

from __future__ import annotations

import json
import lzma
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from ..errors import In2nError
from ..reporting import Reporter
from ..unfinished import clear_stale, own_prefix
from .finding import EXTENSIONS

SUFFIXES = (".zip", ".r3d")
MOST_FILES = 100_000
MOST_BYTES = 32 << 30
MOST_GROWTH = 100  # times the archive's size, beyond SMALL
SMALL = 64 << 20
MARKER = ".unpacked.json"
UNPACKING = ".unpacking-"
BLOCK = 1 << 20
# What `zipfile` and what it decompresses with raise; RuntimeError of what is encrypted.
BROKEN = (
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError),
    *(NotImplementedError, RuntimeError, EOFError, ValueError, OverflowError),
)

# what readers look at; the rest, such as videos, stays in the archive
NAMES = ("metadata", "cfg_args")
KINDS = (
    *EXTENSIONS,
    *(".json", ".xml", ".txt", ".bin", ".csv", ".ply", ".npy", ".nvm", ".out", ".sfm", ".xmp"),
    *(".exr", ".heic", ".heif", ".depth", ".conf"),
)


def unpacked(path: Path, report: Reporter | None = None) -> Path:
    """The folder of an archive's files, which is made beside it where it is not there yet.

    Args:
        path: The archive.
        report: Told of every few megabytes, and asked whether to go on.

    Returns:
        "<name> unpacked", or with a number behind it where something else goes by that name.

    Raises:
        In2nError: "bad_archive" for one that is broken, encrypted, too large, or whose files lead out of it;
            "cannot_write", "missing_file".
        Cancelled: Nothing is left of what was unpacked.
    """
    try:
        found = path.stat()
        mark = {"archive": path.name, "size": found.st_size, "time": found.st_mtime_ns}
        target = _target(path, mark)
        if target.is_dir():
            return target
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, path, found.st_size)
            _unpack(archive, members, path, target, mark, report or Reporter())
    except BROKEN as error:
        raise _bad(path, str(error) or "it is broken") from None
    except OSError as error:
        raise In2nError(
            "cannot_write",
            f"{path} cannot be unpacked ({error.strerror or error}).",
            "Free some space, or unpack it yourself and choose the folder.",
        ) from None
    return target


def folders(root: Path) -> list[Path]:
    """A folder and those in it, three deep, the nearest first: archives often have one folder around everything.

    Args:
        root: The folder.
    """
    found, level = [root], [root]
    for _ in range(3):
        level = [p for folder in level for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".")]
        found += level[:1000]
    return found


def _bad(path: Path, reason: str) -> In2nError:
    return In2nError(
        "bad_archive", f"{path} cannot be unpacked ({reason}).", "Unpack it yourself and choose the folder."
    )


def _target(path: Path, mark: dict) -> Path:
    """The folder that was unpacked from the archive as it is, or a name that is free."""
    number, target = 1, path.with_name(f"{path.stem} unpacked")
    while os.path.lexists(target):
        try:
            if json.loads((target / MARKER).read_text(encoding="utf-8")) == mark:
                return target
        except (OSError, ValueError):
            pass
        number += 1
        target = path.with_name(f"{path.stem} unpacked {number}")
    return target


def _members(archive: zipfile.ZipFile, path: Path, size: int) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """What is to be unpacked, and where to."""
    infos = archive.infolist()
    if len(infos) > MOST_FILES:
        raise _bad(path, f"it holds {len(infos):,} files, {MOST_FILES:,} are the most")
    members, total = [], 0
    for info in infos:
        name = PurePosixPath(_name(info).replace("\\", "/"))
        if info.is_dir() or stat.S_ISLNK(info.external_attr >> 16):
            continue
        if name.is_absolute() or ".." in name.parts or ":" in str(name) or "\0" in str(name):
            raise _bad(path, f"“{name}” leads out of it")
        if name.name not in NAMES and name.suffix.lower() not in KINDS or "__MACOSX" in name.parts:
            continue
        if info.flag_bits & 1:
            raise _bad(path, "it is encrypted")
        members.append((info, name))
        total += info.file_size
    if total > MOST_BYTES or (total > SMALL and total > MOST_GROWTH * size):
        raise _bad(path, f"it would take {total >> 20:,} MB")
    return members


def _name(info: zipfile.ZipInfo) -> str:
    """Names of other systems are UTF-8 where nothing says so, too."""
    if info.flag_bits & 0x800 or info.filename.isascii():
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _unpack(archive: zipfile.ZipFile, members: list, path: Path, target: Path, mark: dict, report: Reporter) -> None:
    total, done = sum(info.file_size for info, _ in members), 0
    if shutil.disk_usage(path.parent).free < total + SMALL:
        raise OSError(28, "there is not enough space")
    clear_stale(path.parent, UNPACKING)
    around = Path(tempfile.mkdtemp(prefix=own_prefix(UNPACKING), dir=path.parent))
    staging = around / "whole"  # what mkdtemp makes is for its owner alone
    try:
        staging.mkdir()
        for info, name in members:
            file, left = staging / name, info.file_size
            file.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, open(file, "xb") as sink:
                while block := source.read(BLOCK):
                    left -= len(block)
                    if left < 0:  # it says less than it holds
                        raise _bad(path, f"“{name}” is larger than it says")
                    sink.write(block)
                    done += len(block)
                    report.progress(done >> 20, max(total >> 20, 1), "MB", f"Unpacking {path.name}")
        (staging / MARKER).write_text(json.dumps(mark), encoding="utf-8")
        staging.rename(target)
    except FileExistsError:
        raise _bad(path, "two of its files have one name") from None
    finally:
        shutil.rmtree(around, ignore_errors=True)
