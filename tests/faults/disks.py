"""The jobs of a workspace, a disk that fills up under them, and writes that fail. The benchmark uses it, too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from in2n_blender.engine.editing.methods import edit
from in2n_blender.engine.editing.preview import preview
from in2n_blender.engine.full_photos import full_photo
from in2n_blender.engine.importing import normalise_capture
from in2n_blender.engine.jobs import path_through_views
from in2n_blender.engine.nerf import settings as nerf_settings
from in2n_blender.engine.nerf.reconstruction import reconstruct
from in2n_blender.engine.output.datasets import export_dataset
from in2n_blender.engine.output.frames import render_path
from in2n_blender.engine.output.mesh import extract_mesh
from in2n_blender.engine.output.splats import make_splats
from in2n_blender.engine.worker import as_user_error
from in2n_blender.link.requests import (
    Edit,
    ExportDataset,
    ExtractMesh,
    FullPhoto,
    ImportCapture,
    MakeSplats,
    PathThroughViews,
    PreviewGrid,
    Reconstruct,
    RenderPath,
)
from in2n_blender.scene.capture import PinholeCapture
from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.reporting import Reporter
from in2n_blender.scene.unfinished import TEMPORARY
from in2n_blender.workspace import edits, files, moving
from in2n_blender.workspace.layout import Workspace
from tests.engine.ball import TINY, reconstructed_ball, ring
from tests.scene.captures import ring as ring_of_poses
from tests.scene.captures import write_transforms

PATH = "way"
JOBS = (
    "import",
    "reconstruct",
    "edit",
    "preview",
    "path",
    "render",
    "mesh",
    "splats",
    "export",
    "photo",
    "duplicate",
    "move",
)
EXACT = {"instruction": "tint it", "editor": "exact:K=8,s=0.3", "device": "cpu"}
TINIER = replace(TINY, edit_rate=3, rays=64)
CODES = ("disk_full", "cannot_write", "cannot_use_file", "workspace_gone")
UNFINISHED = (moving.MOVING, edits.COPYING, ".importing-")
CAN_MOUNT = sys.platform == "linux" and os.geteuid() == 0


def ball_workspace(folder: Path) -> tuple[Path, Path]:
    """A workspace in which every job can be done, and a capture to be imported beside it.

    Args:
        folder: Where both are made.
    """
    root = reconstructed_ball(folder / "ws", ring(4))
    path_through_views(PathThroughViews(workspace=str(root), name=PATH, frames=2), Reporter())
    capture = write_transforms(folder / "capture").parent
    large = write_transforms(folder / "large", ring_of_poses(3), size=(700, 8))
    imported = ImportCapture(workspace=str(folder / "imported"), source=str(large), preset="draft")
    normalise_capture(imported, Reporter())
    files.write_json(root / "edits/e/edit.json", {"name": "e"})
    (root / "edits/e/large.bin").write_bytes(os.urandom(64 << 10))
    return root, capture


def prepare(ball: tuple[Path, Path], folder: Path) -> Path:
    """A copy of it to work on.

    Args:
        ball: As `ball_workspace` returned it.
        folder: Where it goes.

    Returns:
        The workspace.
    """
    shutil.copytree(ball[0], folder / "ws")
    shutil.copytree(ball[0].parent / "imported", folder / "imported")
    return folder / "ws"


def do(job: str, root: Path, capture: Path) -> list[str]:
    """One job, on tiny settings.

    Args:
        job: Of JOBS.
        root: The workspace; what is imported and moved goes beside it.
        capture: What is imported.

    Returns:
        What it said in its log.
    """
    with files.must_stay(root):
        return _do(job, root, capture)


def _do(job: str, root: Path, capture: Path) -> list[str]:
    said: list[str] = []
    report = Reporter(lambda event: said.append(event) if isinstance(event, str) else None)
    place = {"workspace": str(root)}
    if job == "import":
        request = ImportCapture(workspace=str(root.parent / "new"), source=str(capture), preset="draft")
        normalise_capture(request, report)
    elif job == "reconstruct":
        reconstruct(Reconstruct(**place, preset="draft", device="cpu", steps=8, seed=9), report)
    elif job == "edit":
        edit(Edit(**place, **EXACT, name="x", preset="draft", seed=3, rounds=1), report)
    elif job == "preview":
        preview(PreviewGrid(**place, **EXACT), report)
    elif job == "path":
        path_through_views(PathThroughViews(**place, name="other", frames=2), report)
    elif job == "render":
        render_path(RenderPath(**place, camera_path=str(Workspace(root).camera_path(PATH)), device="cpu"), report)
    elif job == "mesh":
        extract_mesh(ExtractMesh(**place, resolution=16, texture=64, device="cpu"), report)
    elif job == "splats":
        make_splats(MakeSplats(**place, splats=1000, steps=2, device="cpu"), report)
    elif job == "export":
        export_dataset(ExportDataset(**place), report)
    elif job == "photo":
        imported = root.parent / "imported"
        photo = PinholeCapture.load(imported / "capture.json").views[1].name
        full_photo(FullPhoto(workspace=str(imported), photo=photo), report)
    elif job == "duplicate":
        edits.duplicate(Workspace(root), "e", "f", report)
    elif job == "move":  # as to another disk
        moving._move_by_copying(root.parent / "imported", root.parent / "moved", report)
    return said


def tiny_settings(patch) -> None:
    """Let jobs take moments.

    Args:
        patch: pytest's MonkeyPatch.
    """
    patch.setitem(nerf_settings.CPU, "draft", TINIER)


def contents(root: Path) -> dict[Path, bytes]:
    """The files in a folder.

    Args:
        root: The folder.
    """
    return {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@dataclass(frozen=True)
class Undisturbed:
    """A job where nothing is in its way.

    Attributes:
        job: Of JOBS.
        before: The files before it.
        after: And after it.
    """

    job: str
    before: dict[Path, bytes]
    after: dict[Path, bytes]

    @staticmethod
    def of(job: str, root: Path, capture: Path) -> Undisturbed:
        """Do it.

        Args:
            job: Of JOBS.
            root, capture: As for `do`.
        """
        before = contents(root.parent)
        do(job, root, capture)
        return Undisturbed(job, before, contents(root.parent))

    def faults(self, root: Path, capture: Path) -> list[str]:
        """Do it where something is in its way; what is wrong with how it ends: nothing is right.

        Args:
            root, capture: As for `do`, beginning as it began undisturbed or with what earlier tries have made.
        """
        wrong = self._ends_wrongly(root, capture)
        after = contents(root.parent)
        kept = set(after.values())
        still = set(self.after.values())
        wrong += [f"{path} is lost" for path, data in self.before.items() if data in still and data not in kept]
        wrong += [f"{path} is left over" for path in after if path.name.startswith(TEMPORARY)]
        folders = [*root.parent.iterdir(), *root.iterdir()] if root.is_dir() else [*root.parent.iterdir()]
        return wrong + [f"{path} is left over" for path in folders if path.name.startswith(UNFINISHED)]

    def _ends_wrongly(self, root: Path, capture: Path) -> list[str]:
        try:
            said = do(self.job, root, capture)
        except Exception as raised:
            error = as_user_error(raised)
            known = error is not None and error.code in CODES and error.hint
            return [] if known else [f"{type(raised).__name__}: {raised}"[:200]]
        told = any("disk is full" in line or "could not be written" in line for line in said)
        missing = self.after.keys() - contents(root.parent).keys()
        return [f"it is done without a word, and without {min(missing)}"] if missing and not told else []


class NoDisk(Exception):
    """No disk can be mounted here."""


class SmallDisk:
    """A disk in memory whose size can be changed; Linux, as root.

    Args:
        place: The folder where it is mounted; made where it is missing.

    Raises:
        NoDisk: From `resize`.
    """

    LARGE = 400_000

    def __init__(self, place: Path):
        self.place, self._mounted = place, False
        place.mkdir(parents=True, exist_ok=True)

    def resize(self, kilobytes: int = LARGE, options: str = "") -> None:
        """Give it another size.

        Args:
            kilobytes: What it holds.
            options: More of mount's, with a comma before each.
        """
        how = f"size={kilobytes}k{options}{',remount' if self._mounted else ''}"
        command = ["mount", "-t", "tmpfs", "-o", how, "tmpfs", str(self.place)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise NoDisk(done.stderr)
        self._mounted = True

    def fill_up(self, left: int, files_left: int | None = None) -> None:
        """Leave so much room.

        Args:
            left: In pages of 4 KiB.
            files_left: How many more files or folders can be made; None: any number.
        """
        found = os.statvfs(self.place)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize // 1024
        nodes = "" if files_left is None else f",nr_inodes={found.f_files - found.f_ffree + files_left}"
        self.resize(used + 4 * left, nodes)

    def free_up(self) -> None:
        """Let it have room again."""
        self.resize(self.LARGE, ",nr_inodes=100000")

    def used(self) -> tuple[int, int]:
        """Pages of 4 KiB and files that it holds."""
        found = os.statvfs(self.place)
        return (found.f_blocks - found.f_bfree) * found.f_frsize // 4096, found.f_files - found.f_ffree

    def close(self) -> None:
        """Take it away."""
        if self._mounted:
            subprocess.run(["umount", "-l", str(self.place)], check=True)


def tries_on_small_disks(folder: Path, jobs: Sequence[str], most: int) -> Iterator[tuple[str, Iterator[dict]]]:
    """Every job again and again, on a disk with a little more room each time.

    Args:
        folder: Where all lies; made.
        jobs: Of JOBS.
        most: Tries by pages, and by files, of a job; they are spread over what it needs.

    Yields:
        A job and its tries, each {"pages" or "files": how many were free, "wrong": what was not as it should be}.

    Raises:
        NoDisk.
    """
    ball = ball_workspace(folder / "ball")
    disk = SmallDisk(folder / "disk")

    def tries(job: str) -> Iterator[dict]:
        disk.free_up()
        began = disk.used()
        whole = Undisturbed.of(job, prepare(ball, disk.place), ball[1])
        needed = [after - before for after, before in zip(disk.used(), began)]
        for what, most_needed in zip(("pages", "files"), needed):
            for room in range(0, most_needed, max(1, most_needed // most)):
                disk.free_up()
                for path in disk.place.iterdir():
                    shutil.rmtree(path)
                root = prepare(ball, disk.place)
                disk.fill_up(room, None) if what == "pages" else disk.fill_up(100_000, room)
                yield {what: room, "wrong": whole.faults(root, ball[1])}
        disk.free_up()
        for path in disk.place.iterdir():
            shutil.rmtree(path)

    try:
        for job in jobs:
            yield job, tries(job)
    finally:
        disk.close()


@contextmanager
def writes_that_fail(patch, at: int, number: int) -> Iterator[list[Path]]:
    """Every write from one on fails.

    Args:
        patch: pytest's MonkeyPatch.
        at: How many go well.
        number: The error's.

    Yields:
        What was to be written, so far.
    """
    count, real = [], files._replace

    def replaced(temporary, path) -> None:
        count.append(path)
        if len(count) > at:
            raise OSError(number, os.strerror(number), str(path))
        real(temporary, path)

    with patch.context() as within:
        within.setattr(files, "_replace", replaced)
        yield count


def raised_by(job: str, root: Path, capture: Path) -> In2nError | None:
    """What a user is told of a job that fails.

    Args:
        job: Of JOBS.
        root, capture: As for `do`.

    Returns:
        None where it does not fail.

    Raises:
        Exception: What is a mistake in the program.
    """
    try:
        do(job, root, capture)
    except Exception as raised:
        error = as_user_error(raised)
        if error is None:
            raise
        return error
    return None
