"""Captures against their bars: `python -m tests.benchmarks.captures --out DIR`.

Takes a capture with poses (--capture FOLDER), hides these, and finds the cameras of its photos, all or --photos N of
them; with --orbit N the same for a video of N frames that Blender renders of the demo's scene. Says how many are
placed, how far off after the best similarity, in which time, and with --reconstruct how well held-out photos are
reconstructed with either cameras. With --many N: how long the import of N photos takes, and how much memory.
Writes DIR/result.json. Exit status 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from in2n_blender.engine.importing import normalise_capture
from in2n_blender.engine.nerf.reconstruction import reconstruct
from in2n_blender.engine.poses.prepared import LONGEST_SIDE
from in2n_blender.engine.poses.search import find_poses
from in2n_blender.engine.poses.video import extract_frames
from in2n_blender.link.requests import ImportCapture, Reconstruct
from in2n_blender.scene import bare_photos
from in2n_blender.scene.capture import Capture
from in2n_blender.scene.readers import read
from in2n_blender.scene.reporting import Progress, Reporter
from in2n_blender.workspace.layout import Workspace
from tests.benchmarks.bars import Bar, told
from tests.benchmarks.many_photos import of_many
from tests.benchmarks.orbit_video import given_capture, orbit_video
from tests.engine.similarity import centre_errors

MOST_ERROR = 0.01  # of the cameras' extent
MOST_PIXELS = 0.6  # larger pictures are taken as of a thousand pixels; in smaller ones features are no finer
TIMED_PHOTOS, MOST_SECONDS = 23, 150
MOST_LOSS_DB = 0.5


def bare_copy(capture: Capture, folder: Path, most: int | None, side: int) -> Path:
    """The photos alone, evenly chosen, in a folder of their own.

    Args:
        capture: With its poses.
        folder: For the photos.
        most: How many; None: all.
        side: Pixels of the longer side, to which larger ones are scaled down.
    """
    folder.mkdir(parents=True)
    frames = capture.frames
    chosen = frames if most is None else [frames[i * len(frames) // most] for i in range(most)]
    for frame in chosen:
        with Image.open(frame.photo) as photo:
            photo.thumbnail((side, side), Image.Resampling.LANCZOS)
            photo.convert("RGB").save(folder / f"{frame.name}.jpg", quality=97)
    return folder


def errors_of(found: Capture, given: Capture) -> np.ndarray:
    """How far each camera is off.

    Args:
        found: Frames whose names are those of `given`.
        given: The truth.

    Returns:
        (n,) of the cameras that both have, as shares of the cameras' extent.
    """
    truth = {frame.name: frame.camera_to_world for frame in given.frames}
    both = [frame for frame in found.frames if frame.name in truth]
    return centre_errors([frame.camera_to_world for frame in both], [truth[frame.name] for frame in both])


def of_poses(given: Capture, bare: bare_photos.BarePhotos, out: Path, frames: int = 0) -> list[Bar]:
    """Find the cameras of photos, and hold them to those that are known.

    Args:
        given: The capture with its poses.
        bare: Its bare photos, or the video.
        out: For the search.
        frames: Of the video.
    """
    log, begun = [], time.monotonic()
    found = find_poses(bare, Workspace(out), frames, Reporter(lambda event: log.append(event) or _print(event)))
    seconds, count = time.monotonic() - begun, len(given.frames) if bare.video else len(bare.photos)
    largest = float(errors_of(found, given).max())
    said = next(line for line in log if isinstance(line, str) and "pixels off" in line)
    pixels = float(re.search(r"([0-9.]+) pixels off", said)[1]) * 1000 / max(1000, min(LONGEST_SIDE, _longest(found)))
    of = f"{count} frames of {bare.video.name}" if bare.video else f"{count} photos"
    bars = [
        Bar(f"cameras found of {of}", len(found.frames), count, len(found.frames) == count),
        Bar(f"largest error of a centre, of the extent: {of}", largest, MOST_ERROR, largest <= MOST_ERROR),
        Bar(f"reprojection error in pixels, of a thousand: {of}", pixels, MOST_PIXELS, pixels <= MOST_PIXELS),
    ]
    if count <= TIMED_PHOTOS and not bare.video:
        bars.append(Bar(f"seconds for {of}", seconds, MOST_SECONDS, seconds <= MOST_SECONDS))
    return bars


def of_reconstruction(given: Path, photos: Path, out: Path, frames: int = 80) -> Bar:
    """How much worse held-out photos are reconstructed with cameras that were found.

    Args:
        given: The capture with its poses.
        photos: The folder of its bare photos, or the video, whose search is in `out` already.
        out: Where bare/ is the workspace of the photos.
        frames: Of the video.
    """
    psnr = {}
    for name, source in (("given", given), ("bare", photos)):
        workspace = str(out / name)
        request = ImportCapture(workspace=workspace, source=str(source), preset="draft", video_frames=frames)
        normalise_capture(request, Reporter(_print))
        psnr[name] = reconstruct(Reconstruct(workspace=workspace, preset="draft"), Reporter(_print))["psnr_db"]
    loss = psnr["given"] - psnr["bare"]
    name = f"held-out PSNR lost against given cameras (dB; {psnr['given']:.2f} with these): {photos.name}"
    return Bar(name, loss, MOST_LOSS_DB, loss <= MOST_LOSS_DB)


def of_orbit(out: Path, frames: int, reconstructed: bool) -> list[Bar]:
    """A video around the demo's scene: its cameras, and what is reconstructed with them.

    Args:
        out: For the video and what is made of it.
        frames: Of the video.
        reconstructed: Whether it is reconstructed, too.
    """
    video = orbit_video(out, frames)
    rendered = given_capture(out, tuple(sorted((out / "frames").glob("*.png"))[:frames]))
    bars = of_poses(read(rendered), bare_photos.find(video), out / "bare", frames)
    if not reconstructed:
        return bars
    encoded = extract_frames(video, frames, Workspace(out / "bare").poses / "frames", Reporter(_print))
    return [*bars, of_reconstruction(given_capture(out, encoded), video, out, frames)]


def _longest(capture: Capture) -> int:
    return max(max(frame.lens.intrinsics.width, frame.lens.intrinsics.height) for frame in capture.frames)


def _print(event: object) -> None:
    if isinstance(event, str):
        print(event, flush=True)
    elif isinstance(event, Progress) and event.done == 0:
        print(f"{event.message} …", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--capture", type=Path, help="with photos and their cameras")
    parser.add_argument("--photos", type=int, metavar="N", help="so many of its photos (default: all)")
    parser.add_argument("--side", type=int, default=1000, help="pixels of the longer side (default: %(default)s)")
    parser.add_argument("--orbit", type=int, metavar="N", help="a video of so many frames around the demo's scene")
    parser.add_argument("--many", type=int, metavar="N", help="the import of so many photos of 12 megapixels")
    parser.add_argument("--reconstruct", action="store_true", help="with both cameras, in the draft preset")
    given, bars = parser.parse_args(), []
    if given.capture:
        capture = read(given.capture)
        photos = bare_copy(capture, given.out / "photos", given.photos, given.side)
        bars += of_poses(capture, bare_photos.find(photos), given.out / "bare")
        if given.reconstruct:
            bars.append(of_reconstruction(given.capture, photos, given.out))
    if given.orbit:
        bars += of_orbit(given.out / "orbit", given.orbit, given.reconstruct)
    if given.many:
        bars += of_many(given.out / "many", given.many)
    return told(bars, given.out / "result.json")


if __name__ == "__main__":
    sys.exit(main())
