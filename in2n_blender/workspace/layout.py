"""The folder a scene lives in. Every write goes to a temporary name first and is then renamed.

<workspace>/
  capture.json  images/  masks/   the normalised capture
  capture-report.json|html        what can be said of it, and what would improve it
  poses/                          the search for the cameras of photos without (see `engine.poses.search`)
  reconstruction/                 checkpoint.safetensors, state.json, log.jsonl
  edits/<name>/                   edit.json, region.json, key_view.png, dataset/, checkpoint.safetensors, state.json,
                                  log.jsonl
  regions/<hash>.json             regions that edits were asked for
  paths/<name>.json               camera paths
  renders/<edit>/<path>/0001.exr  0001.png
  meshes/<edit>.ply|glb|json|png  a mesh, and a picture of it
  meshes/collision/<edit>.glb     closed, of few faces
  meshes/quick/<edit>.ply|json    what is shown of a scene as soon as it is made
  splats/<edit>.ply|spz|json|png  Gaussian splats, and a picture of them
  datasets/<edit>/                the pictures with their cameras, for other trainers (see `engine.output.datasets`)
  earlier/reconstruction-<n>/     reconstructions of other photos or settings, kept until the user removes them
  earlier/replaced/<…>/           what is being made anew at the user's wish, until its successor is done
  .making-<…>/                    what is made anew, until it first saves (see `successor`)
  full/<photo>-<hash>.jpg         undistorted at their full size, those photos that somebody looked through
  .originals.json                 what the photos were made from (see `engine.full_photos`)
  .photos.json                    the photos' hashes (see `provenance`)
The unedited reconstruction goes by the name "original" in renders/, meshes/, splats/ and datasets/.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ..scene.errors import In2nError
from ..scene.names import is_plain

ORIGINAL = "original"
REGION_FILE = "region.json"  # what an edit is limited to, in its folder
KEY_VIEW = "key_view.png"  # in an edit's folder: the picture that the user chose for it


class Workspace:
    """Paths of a workspace; nothing is created until something is written.

    Args:
        root: The folder, there or not.

    Raises:
        In2nError: "bad_path" for what is no path.
    """

    def __init__(self, root: Path | str):
        self.root = absolute(root)

    @property
    def capture_json(self) -> Path:
        return self.root / "capture.json"

    @property
    def capture_report_json(self) -> Path:
        return self.root / "capture-report.json"

    @property
    def capture_report_html(self) -> Path:
        return self.root / "capture-report.html"

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def masks(self) -> Path:
        return self.root / "masks"

    @property
    def poses(self) -> Path:
        return self.root / "poses"

    @property
    def earlier(self) -> Path:
        return self.root / "earlier"

    @property
    def full(self) -> Path:
        return self.root / "full"

    @property
    def originals(self) -> Path:
        return self.root / ".originals.json"

    @property
    def reconstruction(self) -> Path:
        return self.root / "reconstruction"

    def photo(self, image: str) -> Path:
        """The file of a view's image or mask.

        Args:
            image: As `View.image` or `View.mask` names it, relative to the workspace.

        Raises:
            In2nError: "bad_capture" where a symbolic link leads out of the workspace.
        """
        path = self.root / image
        if not is_inside(path, self.root):
            raise In2nError(
                "bad_capture", f"{path} leads out of the workspace.", "Import the capture again, into a new workspace."
            )
        return path

    def edit(self, name: str) -> Path:
        """The folder of an edit.

        Raises:
            In2nError: "bad_name".
        """
        return self.root / "edits" / edit_name(name)

    def region(self, mark: str) -> Path:
        """The file of a region that an edit is to be limited to.

        Args:
            mark: The region's hash.

        Raises:
            In2nError: "bad_name".
        """
        return self.root / "regions" / f"{safe_name(mark)}.json"

    def camera_path(self, name: str) -> Path:
        """The file of a camera path.

        Raises:
            In2nError: "bad_name".
        """
        return self.root / "paths" / f"{safe_name(name)}.json"

    def renders(self, edit: str | None, path_name: str) -> Path:
        """The folder of the frames along a camera path.

        Args:
            edit: The edit's name, or None for the reconstruction.
            path_name: The camera path's name.

        Raises:
            In2nError: "bad_name".
        """
        return self.root / "renders" / safe_name(edit or ORIGINAL) / safe_name(path_name)

    def mesh(self, edit: str | None, suffix: str, quick: bool = False) -> Path:
        """The file of a mesh, or what is told of it.

        Args:
            edit: The edit's name, or None for the reconstruction.
            suffix: ".ply", ".glb", ".json" or ".png".
            quick: Whether it is the one that is made unasked, only to look at.

        Raises:
            In2nError: "bad_name".
        """
        folder = self.root / "meshes"
        return (folder / "quick" if quick else folder) / f"{safe_name(edit or ORIGINAL)}{suffix}"

    def collision_mesh(self, edit: str | None) -> Path:
        """The file of a closed mesh of few faces, beside the mesh that is looked at.

        Args:
            edit: The edit's name, or None for the reconstruction.

        Raises:
            In2nError: "bad_name".
        """
        return self.root / "meshes" / "collision" / f"{safe_name(edit or ORIGINAL)}.glb"

    def splats(self, edit: str | None, suffix: str) -> Path:
        """The file of Gaussian splats, or what is told of them.

        Args:
            edit: The edit's name, or None for the reconstruction.
            suffix: ".ply", ".spz", ".json" or ".png".

        Raises:
            In2nError: "bad_name".
        """
        return self.root / "splats" / f"{safe_name(edit or ORIGINAL)}{suffix}"

    def dataset(self, edit: str | None) -> Path:
        """The folder of the pictures with their cameras, for other trainers.

        Args:
            edit: The edit's name, or None for the reconstruction.

        Raises:
            In2nError: "bad_name".
        """
        return self.root / "datasets" / safe_name(edit or ORIGINAL)

    def edits(self) -> list[str]:
        """Names of the edits that were started, oldest first; what has a name that no edit can have is none."""
        ages = {}
        for record in (self.root / "edits").glob("*/edit.json"):
            with suppress(OSError):  # removed meanwhile
                ages[record.parent.name] = record.stat().st_mtime
        return sorted(filter(_is_edit_name, ages), key=ages.get)


WRITTEN = (
    "images",
    "masks",
    "poses",
    "reconstruction",
    "edits",
    "regions",
    "paths",
    "renders",
    "meshes",
    "splats",
    "datasets",
    "previews",
)


def refuse_links_out(root: Path | str) -> None:
    """Refuse to work in a workspace, which may be a stranger's, whose folders are links that lead out of it.

    A file that is a link is no harm: what is written takes the link's place.

    Args:
        root: The workspace, there or not.

    Raises:
        In2nError: "leads_out", naming the first such link.
    """
    level = [Path(root).resolve() / name for name in (*WRITTEN, "earlier")]
    for depth in range(3):
        for folder in level:
            if folder.is_symlink() and folder.is_dir() and not is_inside(folder, Path(root).resolve()):
                raise In2nError(
                    "leads_out",
                    f"{folder} is a link that leads out of the workspace.",
                    "Put a folder of the workspace's own in its place; a whole workspace may lie anywhere.",
                )
        if depth < 2:
            level = [found for folder in level for found in _folders_in(folder)]


def _folders_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir()]
    except OSError:
        return []


def is_inside(path: Path, root: Path) -> bool:
    """Whether a path, its links followed, lies in a folder.

    Args:
        path: There or not.
        root: The folder, itself without links.
    """
    try:
        return path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a ring of links
        return False


def absolute(path: Path | str) -> Path:
    """A path as a user writes it, without "~", links and "..".

    Args:
        path: Absolute, or relative to the current folder; need not exist.

    Raises:
        In2nError: "bad_path" for what is none: a ring of links, a user that is not there, a NUL.
    """
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise bad_path(path, error) from error


def bad_path(path: Path | str, error: Exception) -> In2nError:
    """What to say of a path that cannot be opened.

    Args:
        path: The path as it was given.
        error: Why it cannot be opened.

    Returns:
        In2nError "bad_path", to be raised.
    """
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error).splitlines()[0]
    shown = str(path)[:200].replace("\0", "�")
    return In2nError("bad_path", f"“{shown}” cannot be opened ({reason}).", "Check the path.")


def safe_name(name: str) -> str:
    """The name itself if it is one plain file name on every platform.

    Args:
        name: Of an edit or a camera path, as a user or a file gives it.

    Raises:
        In2nError: "bad_name" for any other.
    """
    if not is_plain(name):
        raise In2nError(
            "bad_name",
            f"“{name}” cannot be used as a name.",
            "Use letters, digits, spaces, '-', '_' and '.', starting with a letter or digit; CON, NUL and the like are "
            "devices on Windows.",
        )
    return name


def edit_name(name: str) -> str:
    """The name itself if it is one that an edit can have: plain, and not the one that the unedited scene goes by.

    Args:
        name: As a user or a file gives it.

    Raises:
        In2nError: "bad_name" for any other.
    """
    if not _is_edit_name(safe_name(name)):
        raise In2nError("bad_name", f"“{name}” is what the unedited scene is called.", "Choose another name.")
    return name


def _is_edit_name(name: str) -> bool:
    return is_plain(name) and name.lower() != ORIGINAL
