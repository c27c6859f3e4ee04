"""A capture of many large photos: how long its import takes, and how much memory. Part of `captures`.

The photos are a few JPEGs of 4000 x 3000 pixels under many names, of a lens that distorts, on a ring; 20,000 points.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from .bars import Bar

SIZE = 4000, 3000
DIFFERENT = 6
MOST_SECONDS, MOST_BYTES = 600.0, 4 << 30
ROOT = Path(__file__).resolve().parents[2]

ENGINE = """
from in2n_blender.engine.importing import normalise_capture
from in2n_blender.link.requests import ImportCapture
from in2n_blender.scene.reporting import Reporter
made = normalise_capture(ImportCapture(workspace={workspace!r}, source={source!r}, preset={preset!r}), Reporter())
assert len(made.views) == {count}
"""
BLENDER = """
import bpy, in2n_blender
bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
in2n_blender.register()
assert bpy.ops.in2n.import_capture(filepath={source!r}, workspace={workspace!r}) == {{"FINISHED"}}
assert sum(o.type == "CAMERA" for o in bpy.data.objects) == {count}
bpy.ops.wm.save_as_mainfile(filepath={workspace!r} + ".blend")
"""
MEASURED = """
import resource, sys
{script}
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print("PEAK", peak, flush=True)
"""


def write_many(folder: Path, count: int) -> Path:
    """A capture in nerfstudio's format.

    Args:
        folder: For it; made.
        count: Of photos.

    Returns:
        Its transforms.json.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    random, frames = np.random.default_rng(0), []
    for number in range(count):
        file = folder / f"images/{number:05}.jpg"
        frames.append({"file_path": f"images/{file.name}", "transform_matrix": _pose(number / count)})
        if file.exists():
            continue
        if number < DIFFERENT:
            _picture(random).save(file, quality=88)
        else:
            os.link(folder / f"images/{number % DIFFERENT:05}.jpg", file)
    points = random.normal(size=(20_000, 3)) * 0.6
    kinds = [*(f"property float {axis}" for axis in "xyz"), *(f"property uchar {c}" for c in ("red", "green", "blue"))]
    header = "\n".join(["ply", "format ascii 1.0", f"element vertex {len(points)}", *kinds, "end_header"])
    rows = "\n".join("{:.5f} {:.5f} {:.5f} 90 90 90".format(*point) for point in points)
    (folder / "points.ply").write_text(f"{header}\n{rows}\n")
    lens = {"w": SIZE[0], "h": SIZE[1], "fl_x": 3000.0, "fl_y": 3000.0, "cx": 2003.0, "cy": 1492.0}
    distortion = {"camera_model": "OPENCV", "k1": -0.12, "k2": 0.03, "p1": 1e-4, "p2": -2e-4}
    table = {**lens, **distortion, "ply_file_path": "points.ply", "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(table))
    return folder / "transforms.json"


def of_many(folder: Path, count: int, preset: str = "standard") -> list[Bar]:
    """Import many photos by the engine, and into Blender where this Python has it.

    Args:
        folder: For the photos and what is made of them.
        count: Of photos.
        preset: Of the import.

    Returns:
        Seconds and memory of both.
    """
    source, bars = write_many(folder / "photos", count), []
    for name, script in (("engine", ENGINE), ("Blender", BLENDER)):
        workspace = folder / f"{name.lower()}.in2n"
        text = script.format(workspace=str(workspace), source=str(source), preset=preset, count=count)
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", MEASURED.format(script=text)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        seconds = time.monotonic() - begun
        if name == "Blender" and "No module named 'bpy'" in done.stderr:
            print("Blender is not there: only the engine's import is measured.")
            continue
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        peak = next(int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("PEAK"))
        bars.append(
            Bar(f"seconds: {count} photos of 12 megapixels, {name}", seconds, MOST_SECONDS, seconds <= MOST_SECONDS)
        )
        bars.append(
            Bar(
                f"gigabytes: {count} photos of 12 megapixels, {name}",
                peak / 2**30,
                MOST_BYTES / 2**30,
                peak <= MOST_BYTES,
            )
        )
    return bars


def _picture(random: np.random.Generator) -> Image.Image:
    """Of blots of all sizes and some noise, as large as a photo's file is."""
    layers = np.zeros((SIZE[1], SIZE[0], 3), np.float32)
    for side in (6, 24, 96, 384, 1500):
        blots = random.integers(0, 256, (side * 3 // 4, side, 3), np.uint8)
        layers += np.asarray(Image.fromarray(blots).resize(SIZE, Image.Resampling.BILINEAR), np.float32) / 5
    layers += random.normal(scale=3, size=layers.shape).astype(np.float32)
    return Image.fromarray(layers.clip(0, 255).astype(np.uint8))


def _pose(share: float) -> list:
    """On a ring that goes up and down, looking at the middle."""
    turn = 2 * np.pi * share * 5
    position = np.array([4 * np.cos(turn), 4 * np.sin(turn), 2 * share - 0.5])
    back = position / np.linalg.norm(position)
    right = np.cross([0, 0, 1], back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, position], 1)
    return pose.tolist()
