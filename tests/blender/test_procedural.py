"""Procedural scenes: repeatable, and edits that change light and material only. Rendered in a process of their own."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("bpy")
ROOT = Path(__file__).resolve().parents[2]


def render(cache: Path, *arguments: str) -> list[dict]:
    """Run `render_pairs`; returns its progress lines."""
    command = [sys.executable, "-m", "in2n_blender.blender.procedural.render_pairs", "--cache", str(cache), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    progress = render(folder, "--scenes", "1", "--first", "2", "--cameras", "2", "--size", "48", "--samples", "4")
    assert progress[-1] == {"done": 1, "total": 1}
    return folder


def pictures(cache: Path) -> list[dict]:
    index = json.loads((cache / "index.json").read_text())
    return [{edit: np.asarray(Image.open(cache / name), dtype=float) / 255 for edit, name in row.items()}
            for rows in index["scenes"].values() for row in rows]


def test_snow_whitens_and_sunset_warms_every_view(cache):
    views = pictures(cache)
    assert len(views) == 2
    for view in views:
        original, snow, sunset = view["original"], view["snow"], view["sunset"]
        assert original.shape == (48, 48, 3) and original.std() > 0.02
        changed = np.abs(snow - original).max(axis=2) > 0.08
        assert changed.mean() > 0.1
        # Where snow fell it is brighter and paler than what it covers.
        assert snow[changed].mean() > original[changed].mean()
        assert np.ptp(snow[changed], axis=1).mean() < np.ptp(original[changed], axis=1).mean() + 0.05
        warmth = [np.mean(picture[..., 0] - picture[..., 2]) for picture in (original, sunset)]
        assert warmth[1] > warmth[0] + 0.1


def test_a_second_run_renders_nothing_again(cache):
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*.png")}
    render(cache, "--scenes", "1", "--first", "2", "--cameras", "2", "--size", "48", "--samples", "4")
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.png")} == before


def test_a_scene_is_the_same_every_time(cache, tmp_path):
    render(tmp_path, "--scenes", "1", "--first", "2", "--cameras", "1", "--size", "48", "--samples", "4")
    assert np.abs(pictures(tmp_path)[0]["original"] - pictures(cache)[0]["original"]).max() < 0.02
