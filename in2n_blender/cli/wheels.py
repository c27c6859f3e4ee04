"""uv's wheels, which the extension brings along: each is the locked file, or none."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from pathlib import Path

from ..environment import uv_wheels
from ..scene.errors import In2nError
from ..workspace.files import write_error
from .programs import Work

PIP_DOWNLOAD = (
    "download --require-hashes --only-binary :all: --no-deps --no-input --disable-pip-version-check --progress-bar off "
    "--retries 1"
).split()


def fetch_wheel(platform: str, folder: Path, python: Path | str, work: Work) -> Path:
    """Get the locked wheel of uv for a platform.

    Args:
        platform: As Blender's manifest names it, "linux-x64".
        folder: Where wheels are kept. The one there is taken when its hash is right; else pip, with the user's own
            settings, downloads it anew.
        python: An interpreter whose pip is used where this one has none.
        work: Runs pip, and counts one step.

    Returns:
        The wheel in `folder`.

    Raises:
        In2nError: "no_wheel" where it cannot be had, "wrong_hash" when the index offers another file of that name.
        Cancelled: The folder is as before.
    """
    locked = uv_wheels()[platform]
    wheel = folder / locked["file"]
    work.step(f"uv for {platform}")
    if _has_hash(wheel, locked["sha256"]):
        return wheel
    with tempfile.TemporaryDirectory() as scratch:
        fetched, output = _download(locked, Path(scratch), python, work)
        if "DO NOT MATCH THE HASHES" in output or (fetched.exists() and not _has_hash(fetched, locked["sha256"])):
            raise In2nError(
                "wrong_hash",
                f"What the package index offers as {wheel.name} is not the locked file.",
                "Do not use it. Ask whoever runs that index.",
            )
        if not fetched.exists():
            raise In2nError(
                "no_wheel",
                f"uv's wheel for {platform} could not be downloaded.",
                f"Check the network, or put {wheel.name} into {folder} by hand.",
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            part = wheel.with_suffix(".part")
            shutil.copyfile(fetched, part)
            part.replace(wheel)
        except OSError as error:
            raise write_error(folder, error) from error
    return wheel


def _download(locked: dict[str, str], folder: Path, python: Path | str, work: Work) -> tuple[Path, str]:
    """Where pip puts the wheel, if it can be had, and what pip printed."""
    requirement = folder / "uv.txt"
    requirement.write_text(f"uv=={locked['file'].split('-')[1]} --hash=sha256:{locked['sha256']}\n", encoding="utf-8")
    where = ["--platform", _wheel_platform(locked["file"]), "--dest", str(folder), "-r", str(requirement)]
    return folder / locked["file"], work.run([*_pip(python, work), *PIP_DOWNLOAD, *where]).text


def _has_hash(file: Path, sha256: str) -> bool:
    return file.exists() and hashlib.sha256(file.read_bytes()).hexdigest() == sha256


def _wheel_platform(name: str) -> str:
    """The first platform tag of a wheel's name: "manylinux_2_17_x86_64"."""
    return name.removesuffix(".whl").rsplit("-", 1)[1].split(".")[0]


def _pip(python: Path | str, work: Work) -> list[str]:
    """A pip: of this Python, of the environment, or the one that the environment's ensurepip carries (uv makes
    environments without pip)."""
    for candidate in (sys.executable, str(python)):
        if work.run([candidate, "-m", "pip", "--version"]).ok:
            return [candidate, "-m", "pip"]
    script = (
        "import ensurepip, pathlib; "
        "print(*pathlib.Path(ensurepip.__file__).parent.glob('_bundled/pip-*.whl'), sep='\\n')"
    )
    ended = work.run([str(python), "-I", "-c", script])
    if ended.ok and ended.lines:
        return [str(python), f"{ended.lines[0]}/pip"]  # a zip file with a __main__.py runs as it is
    raise In2nError(
        "no_pip",
        "There is no pip to download uv's wheels with.",
        "Install it: python3 -m ensurepip, or your system's python3-pip.",
    )
