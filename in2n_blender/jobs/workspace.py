"""The folder a scene lives in. Every write goes to a temporary name first and is then renamed.

<workspace>/
  capture.json  images/           the normalised capture
  reconstruction/                 checkpoint.safetensors, state.json, log.jsonl
  edits/<name>/                   edit.json, dataset/, checkpoint.safetensors, state.json, log.jsonl
  paths/<name>.json               camera paths
  renders/<edit>/<path>/0001.exr  0001.png
  meshes/<edit>.ply|glb
The unedited reconstruction goes by the name "original" in renders/ and meshes/.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from contextlib import contextmanager
from pathlib import Path

from ..scene.errors import In2nError

ORIGINAL = "original"

UMASK = os.umask(0)
os.umask(UMASK)


class Workspace:
    """Paths of a workspace; nothing is created until something is written."""

    def __init__(self, root: Path | str):
        self.root = Path(root).expanduser().resolve()

    @property
    def capture_json(self) -> Path:
        return self.root / "capture.json"

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def reconstruction(self) -> Path:
        return self.root / "reconstruction"

    def edit(self, name: str) -> Path:
        return self.root / "edits" / safe_name(name)

    def camera_path(self, name: str) -> Path:
        return self.root / "paths" / f"{safe_name(name)}.json"

    def renders(self, edit: str | None, path_name: str) -> Path:
        return self.root / "renders" / safe_name(edit or ORIGINAL) / safe_name(path_name)

    def mesh(self, edit: str | None, suffix: str) -> Path:
        return self.root / "meshes" / f"{safe_name(edit or ORIGINAL)}{suffix}"

    def edits(self) -> list[str]:
        """Names of the edits that were started, oldest first."""
        found = (self.root / "edits").glob("*/edit.json")
        return [p.parent.name for p in sorted(found, key=lambda p: p.stat().st_mtime)]


def safe_name(name: str) -> str:
    """The name itself if it is one plain file name on every platform; raises In2nError("bad_name") otherwise."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\- ]{0,79}", name) or name.endswith((".", " ")):
        raise In2nError("bad_name", f"“{name}” cannot be used as a name.",
                        "Use letters, digits, spaces, '-', '_' and '.', starting with a letter or digit.")
    return name


@contextmanager
def atomic_path(path: Path | str):
    """Yields a temporary path beside `path` with the same suffix; renames it over `path` on success, removes it on failure.

    Raises In2nError("disk_full") when the disk is full and In2nError("cannot_write") when the place is not writable.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".writing-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        yield Path(temporary)
        os.chmod(temporary, 0o666 & ~UMASK)  # mkstemp's files are for their owner alone
        os.replace(temporary, path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def write_error(path: Path, error: OSError) -> Exception:
    """The In2nError for a failed write that a user can mend; any other error as it is."""
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT) if hasattr(errno, "EDQUOT") else error.errno == errno.ENOSPC:
        return In2nError("disk_full", f"The disk is full: {path} could not be written.", "Free some space or choose another workspace folder, then run again: it goes on from where it stopped.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return In2nError("cannot_write", f"{path} could not be written: no permission.", "Choose a workspace folder you may write to.")
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return In2nError("cannot_write", f"{path} could not be written: a file is where a folder should be.", "Choose another folder.")
    return error


def write_json(path: Path | str, data) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1), encoding="utf-8")


def read_json(path: Path | str) -> dict:
    """Raises In2nError("missing_file") or In2nError("bad_json")."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise In2nError("missing_file", f"{path} does not exist.", "Check the path, or run the earlier step first.") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise In2nError("bad_json", f"{path} is not valid JSON ({error}).", "The file may be cut short or not what its name says; get it again.") from None
