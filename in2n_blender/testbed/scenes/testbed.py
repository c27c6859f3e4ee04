"""Render a scene of the testbed as a capture, and the truth of its edits.

    python -m in2n_blender.testbed.scenes.testbed --scene island|courtyard|street --out DIR
        [--truth none|held-out|all] [--edit NAME ...]

writes DIR/transforms.json (nerfstudio's form, with train and test filenames), DIR/images/*.png and DIR/points.ply; with
--truth held-out or all also DIR/truth/<edit>/*.png: what the same cameras see of the edited scene, and how far away, in
DIR/depth/<edit>/*.npy for edits that change a shape and DIR/depth/before/*.npy for the others. The island's photos at
320 pixels a side are the bundled demo capture's, unless --render-photos asks to render them anew, as those were:

    python -m in2n_blender.testbed.scenes.testbed --scene island --size 320 --render-photos --out DIR

Files that are there are kept, so that a run that was stopped goes on. Progress is printed as one JSON object a line:
{"done": pictures, "total": pictures, "picture": "truth/snow/test_000.png"}.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ...scene.errors import In2nError
from .captured_scene import (
    EDITS,
    SHAPES,
    CapturedScene,
    Shot,
    apply_edit,
    build_scene,
    ply,
    render_shots,
    save_depths,
    set_up_render,
    sparse_points,
    transforms,
    write,
)
from .courtyard import COURTYARD
from .island import ISLAND
from .street import STREET

SCENES = {scene.name: scene for scene in (ISLAND, COURTYARD, STREET)}
TRUTHS = ("none", "held-out", "all")
USUAL_EDITS = ("snow", "sunset")
BEFORE = "before"
BUNDLED = Path(__file__).resolve().parents[2] / "data" / "demo_capture"
BUNDLED_SIZE = 320
USUAL_SIZE = 160
POINTS = 2000
VERSION = 1  # of the scenes: pictures of another version are not mixed with these


@dataclass(frozen=True)
class Settings:
    """What decides how a folder's pictures look.

    Attributes:
        scene: its name.
        size: pixels a side.
        samples: Cycles samples a pixel.
        views: training views.
        bundled_photos: whether the photos are those of the bundled demo capture.
        version: of the scenes.
    """

    scene: str
    size: int
    samples: int
    views: int
    bundled_photos: bool
    version: int = VERSION


def choose_shots(captured: CapturedScene, views: int) -> list[Shot]:
    """Some of the scene's training shots, evenly picked, and held-out ones in proportion, at least two.

    Args:
        captured: The scene.
        views: How many training shots.

    Raises:
        In2nError: "bad_views" for none, or more than the scene has.
    """
    everything = captured.shots()
    training, held_out = ([s for s in everything if s.held_out == flag] for flag in (False, True))
    if not 1 <= views <= len(training):
        raise In2nError(
            "bad_views",
            f"The scene {captured.name} has {len(training)} training views, not {views}.",
            f"Choose from 1 to {len(training)}.",
        )
    return _evenly(training, views) + _evenly(held_out, max(2, round(len(held_out) * views / len(training))))


def _evenly(items: list, count: int) -> list:
    return [items[i * len(items) // count] for i in range(count)]


def render_testbed(
    out: Path, settings: Settings, truth: str = "none", threads: int = 0, edits: Sequence[str] = USUAL_EDITS
) -> None:
    """Make the capture in a folder, and the truth of edits.

    Args:
        out: the folder; pictures that are there are kept.
        settings: how the pictures are to look.
        truth: of which views: "none", "held-out" or "all".
        threads: of the renderer; 0: all.
        edits: some of EDITS.

    Raises:
        In2nError: "bad_views", "other_pictures".
    """
    captured = SCENES[settings.scene]
    shots = choose_shots(captured, settings.views)
    edited = {"none": [], "held-out": [s for s in shots if s.held_out], "all": shots}[truth]
    _claim(out, settings)
    edits = tuple(edits) if edited else ()
    shapes = [edit for edit in edits if edit in SHAPES]
    report = _progress(len(shots) + (len(edits) + bool(edits) + len(shapes)) * len(edited))
    images = out / "images"
    if settings.bundled_photos:
        _copy_bundled(images, shots)
    scene = build_scene(captured)
    camera = set_up_render(scene, captured, settings.size, settings.samples, threads)
    render_shots(scene, camera, shots, images, lambda shot: report(f"images/{shot.name}.png"))
    focal = captured.focal_length(settings.size)
    if not (out / "points.ply").exists():
        if settings.bundled_photos:
            write(out / "points.ply", (BUNDLED / "points.ply").read_bytes())
        else:
            write(out / "points.ply", ply(*sparse_points(scene, shots, images, settings.size, focal, POINTS)))
    if not (out / "transforms.json").exists():
        write(out / "transforms.json", transforms(shots, settings.size, focal))
    for edit in edits:
        apply_edit(scene, captured, edit)
        folder = f"truth/{edit}"
        render_shots(scene, camera, edited, out / folder, lambda shot, to=folder: report(f"{to}/{shot.name}.png"))
    for edit in (BEFORE, *shapes) if edits else ():
        folder = f"depth/{edit}"
        kept = all((out / folder / f"{shot.name}.npy").exists() for shot in edited)
        if not kept:  # to cover a scene takes some seconds
            apply_edit(scene, captured, None if edit == BEFORE else edit)
        depths_of = lambda shot, to=folder: report(f"{to}/{shot.name}.npy")
        save_depths(scene, edited, out / folder, settings.size, focal, depths_of)


def _claim(out: Path, settings: Settings) -> None:
    """Note the settings in `out`, or compare them with those of the pictures that are there."""
    note = out / "testbed.json"
    out.mkdir(parents=True, exist_ok=True)
    if note.exists() and json.loads(note.read_text(encoding="utf-8")) != asdict(settings):
        raise In2nError(
            "other_pictures",
            f"{out} holds pictures that were rendered with other settings.",
            "Choose another folder, or delete this one.",
        )
    write(note, asdict(settings))


def _copy_bundled(images: Path, shots: list[Shot]) -> None:
    images.mkdir(parents=True, exist_ok=True)
    for shot in shots:
        target = images / f"{shot.name}.png"
        if not target.exists():
            shutil.copyfile(BUNDLED / "images" / target.name, target.with_suffix(".part.png"))
            os.replace(target.with_suffix(".part.png"), target)


def _progress(total: int):
    done = 0

    def report(picture: str) -> None:
        nonlocal done
        done += 1
        print(json.dumps({"done": done, "total": total, "picture": picture}), flush=True)

    return report


def main(argv: list[str]) -> None:
    """Run the command line.

    Args:
        argv: Its arguments.

    Raises:
        SystemExit: With a sentence, for what the user can mend; and from argparse.
    """
    parser = argparse.ArgumentParser(prog="testbed", description=__doc__.splitlines()[0])
    parser.add_argument("--scene", choices=SCENES, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--truth", choices=TRUTHS, default="none", help="which views to render of each edit (default: %(default)s)"
    )
    parser.add_argument(
        "--edit",
        dest="edits",
        action="append",
        choices=EDITS,
        help=f"which edits' truths; several times for several (default: {' and '.join(USUAL_EDITS)})",
    )
    parser.add_argument("--size", type=int, default=USUAL_SIZE, help="pixels a side (default: %(default)s)")
    parser.add_argument("--samples", type=int, help="Cycles samples a pixel (default: the scene's own)")
    parser.add_argument(
        "--views", type=int, default=40, help="training views; held-out ones in proportion (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=0, help="0: all (default: %(default)s)")
    parser.add_argument(
        "--render-photos", action="store_true", help="the island at its bundled size: render the photos"
    )
    given = parser.parse_args(argv)
    bundled = given.scene == ISLAND.name and given.size == BUNDLED_SIZE and not given.render_photos
    settings = Settings(given.scene, given.size, given.samples or SCENES[given.scene].samples, given.views, bundled)
    try:
        render_testbed(given.out, settings, given.truth, given.threads, given.edits or USUAL_EDITS)
    except In2nError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    # Under `blender --background --python`, this program's own arguments follow "--".
    main(sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:])
