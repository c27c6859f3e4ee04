"""Jobs killed at random moments and gone on with, against the same jobs undisturbed.

`tests/engine/test_killed.py` does so with reconstructing and editing; here are the other jobs of a workspace, and what
both have in common with the benchmark.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from in2n_blender.engine.nerf.checkpoint import read_checkpoint
from in2n_blender.scene.unfinished import TEMPORARY
from in2n_blender.workspace import moving
from in2n_blender.workspace.layout import Workspace
from tests.engine.ball import reconstructed_ball, ring
from tests.engine.test_killed import (
    MEASURED,
    Jobs,
    NotKilled,
    edit_of,
    longest_unsaved,
    painted_ball,
    reconstruction_of,
)
from tests.engine.textured_room import cameras, sharp_picture, textures
from tests.scene.captures import write_transforms

PATH = "way"
TIMES = ("seconds", "cpu_seconds", "seconds_left", "peak_memory_mb", "time", "made", "capture")
PARTS = ("looking", "making", "refining", "writing")  # of making splats, in seconds
UNEQUAL = ("engine.log", ".photos.json", "database.db", "pairs.txt")  # hold times, or what only the search reads
UNFINISHED = (TEMPORARY, ".importing-", ".making-", moving.MOVING, moving.MOVED)
GROUND = ("import", "reconstruct", "edit", "path")  # what other jobs need


@dataclass(frozen=True)
class Kill:
    """A job that was killed once and then done to its end.

    Attributes:
        job: Its name in `orders`.
        moment: The point of its way at which it was killed.
        equal: Whether all files are as an undisturbed job leaves them, byte for byte, checkpoints tensor by tensor.
        left: Files that are not whole and lie around afterwards.
        lost: The most seconds of work that a kill could cost on the way.
    """

    job: str
    moment: int
    equal: bool
    left: int
    lost: float


def orders(root: Path, capture: Path, photos: Path) -> dict[str, tuple[str, dict]]:
    """Job -> (method, params), each on what those before it have made.

    Args:
        root: The workspace.
        capture: A folder of another capture, which is imported into a workspace of its own.
        photos: A folder of photos without cameras, imported into another.
    """
    place = {"workspace": str(root), "device": "cpu"}
    new = str(root.with_name("new"))
    return {
        "photos": ("import", {"workspace": str(root.with_name("shot")), "source": str(photos), "preset": "draft"}),
        "import": ("import", {"workspace": new, "source": str(capture)}),
        "reconstruct": ("reconstruct", reconstruction_of(root)),
        "edit": ("edit", edit_of(root, "agreement")),
        "preview": (
            "preview",
            {
                **place,
                "instruction": "make it sunset",
                "editor": "exact:K=8,s=0.3",
                "grid": True,
                "text_scales": [1, 2],
            },
        ),
        "path": ("path", {"workspace": str(root), "name": PATH, "frames": 3}),
        "render": ("render", {**place, "camera_path": str(Workspace(root).camera_path(PATH)), "edit": "x"}),
        "mesh": ("mesh", {**place, "edit": "x", "resolution": 16}),
        "splats": ("splats", {"workspace": str(root.with_name("ball")), "device": "cpu", "splats": 1000, "steps": 4}),
        "export": ("export", {"workspace": str(root), "edit": "x"}),
        "move": ("move", {"workspace": new, "to": str(root.with_name("moved"))}),
    }


class Killer:
    """Makes the undisturbed results once, then kills.

    Args:
        folder: Where all lies.
        jobs: Those to be killed; none: all.
    """

    def __init__(self, folder: Path, jobs: tuple[str, ...] = ()):
        self.folder = folder
        self.jobs = Jobs(folder)
        self.capture = write_transforms(folder / "capture").parent
        self.photos = photos_of_a_room(folder / "photos")
        painted_ball(folder / "whole" / "ws")
        if not jobs or "splats" in jobs:
            reconstructed_ball(folder / "whole" / "ball", ring(4))  # that of the other workspace shows no surface yet
        self.before: dict[str, Path] = {}
        self.whole: dict[str, dict] = {}
        self.points: dict[str, list] = {}
        root = folder / "whole" / "ws"
        for job, (method, params) in self._orders(root).items():
            if jobs and job not in (*jobs, *GROUND):
                continue
            self.before[job] = folder / "before" / job
            shutil.copytree(root.parent, self.before[job])
            self.points[job] = self.jobs.run(method, params)
            self.whole[job] = contents(root.parent)

    def _orders(self, root: Path) -> dict[str, tuple[str, dict]]:
        return orders(root, self.capture, self.photos)

    def close(self) -> None:
        self.jobs.process.stdin.close()
        self.jobs.process.wait(60)

    def kills(self, job: str, count: int, seed: int) -> Iterator[Kill]:
        """Kill a job at so many random moments, one after the other, each from its beginning.

        Args:
            job: Of `orders`.
            count: How many moments, spread over the job's way.
            seed: Of the moments.
        """
        draw, part = random.Random(seed), len(self.points[job]) / count
        lost = longest_unsaved(self.points[job]) if job in ("reconstruct", "edit") else 0.0
        for number in range(count):
            moment = min(int(part * (number + draw.random())), len(self.points[job]) - 1)
            place = self.folder / "again"
            method, params = self._orders(place / "ws")[job]
            while not self._killed(job, place, method, params, moment):
                moment -= 1  # threads say how far they are now and then, so that the way is not always as long
            self.jobs.run(method, params)
            found = contents(place)
            left = [path for path in found if any(part.startswith(UNFINISHED) for part in Path(path).parts)]
            yield Kill(job, moment, found == self.whole[job], len(left), lost)

    def _killed(self, job: str, place: Path, method: str, params: dict, moment: int) -> bool:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.before[job], place)
        try:
            self.jobs.run(method, params, moment)
        except NotKilled:
            return False
        return True


def photos_of_a_room(folder: Path, count: int = 8) -> Path:
    """Photos whose cameras can be found.

    Args:
        folder: Where they go.
        count: How many.
    """
    folder.mkdir()
    walls = textures()
    for number, camera in enumerate(cameras(count)):
        Image.fromarray(sharp_picture(camera, walls)).save(folder / f"{number}.png")
    return folder


def contents(folder: Path) -> dict[str, object]:
    """What lies in a folder, in a form that is equal where nothing but times and places differs.

    Args:
        folder: Of a workspace and what was imported beside it.
    """
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or path.name in UNEQUAL or path.name == "import.lock":
            continue
        if path.name == "checkpoint.safetensors":
            tensors, state = read_checkpoint(path.parent)
            found[name] = {key: value.numpy().tobytes() for key, value in tensors.items()}, timeless(state, folder)
        elif path.suffix == ".json":
            found[name] = timeless(json.loads(path.read_text(encoding="utf-8")), folder)
        else:
            found[name] = path.read_bytes()
    return found


def timeless(value: object, folder: Path) -> object:
    """A JSON value without how long anything took and where it lies.

    Args:
        value: Parsed.
        folder: What stands for the place.
    """
    if isinstance(value, dict):
        return {key: timeless(part, folder) for key, part in value.items() if key not in (*TIMES, *PARTS, *MEASURED)}
    if isinstance(value, list):
        return [timeless(part, folder) for part in value]
    return value.replace(str(folder), "") if isinstance(value, str) else value
