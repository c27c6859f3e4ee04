"""A video once around the demo's scene, with the cameras that it was rendered from. Part of `captures`.

Blender renders in a process of its own: `python -m tests.benchmarks.orbit_video FOLDER COUNT`.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np

SIZE = 480, 360
LENS_MM = 32.0
SAMPLES = 8
RATE = 12
ROOT = Path(__file__).resolve().parents[2]


def orbit_video(folder: Path, count: int) -> Path:
    """Render the frames that are not there yet, and encode them.

    Args:
        folder: For frames/, poses.json and orbit.mp4.
        count: Of frames.

    Returns:
        The video.
    """
    import av
    from PIL import Image

    subprocess.run([sys.executable, "-m", __spec__.name, str(folder), str(count)], cwd=ROOT, check=True)
    video = folder / "orbit.mp4"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.options = {"crf": "14", "preset": "medium"}
        for number in range(count):
            with Image.open(folder / f"frames/{number:06}.png") as picture:
                frame = av.VideoFrame.from_image(picture.convert("RGB"))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return video


def given_capture(folder: Path, frames: tuple[Path, ...]) -> Path:
    """The video's frames with the cameras that they were rendered from, in nerfstudio's format.

    Args:
        folder: For transforms.json; where poses.json is.
        frames: All frames of the video, in order.
    """
    poses = json.loads((folder / "poses.json").read_text())
    focal = SIZE[0] * LENS_MM / 36.0
    lens = {"w": SIZE[0], "h": SIZE[1], "fl_x": focal, "fl_y": focal, "cx": SIZE[0] / 2, "cy": SIZE[1] / 2}
    listed = [{"file_path": str(f), "transform_matrix": pose} for f, pose in zip(frames, poses, strict=True)]
    (folder / "transforms.json").write_text(json.dumps({**lens, "camera_model": "PINHOLE", "frames": listed}))
    return folder / "transforms.json"


def render(folder: Path, count: int) -> None:
    """Render the frames, and write from where.

    Args:
        folder: For frames/ and poses.json.
        count: Of frames.
    """
    from in2n_blender.testbed.scenes.captured_scene import Shot, build_scene, look_from, render_shots, set_up_render
    from in2n_blender.testbed.scenes.island import ISLAND, LOOK_AT

    shots = []
    for number in range(count):
        turn = 2 * math.pi * number / count
        pose = look_from(LOOK_AT, math.degrees(turn), 30 + 9 * math.sin(2 * turn), 4.2 + 0.25 * math.cos(3 * turn))
        shots.append(Shot(f"{number:06}", pose, False))
    scene = build_scene(ISLAND)
    camera = set_up_render(scene, ISLAND, SIZE[0], SAMPLES, threads=1)
    scene.render.resolution_y, camera.data.lens = SIZE[1], LENS_MM
    render_shots(scene, camera, shots, folder / "frames")
    poses = [np.array(shot.camera_to_world, np.float64).tolist() for shot in shots]
    (folder / "poses.json").write_text(json.dumps(poses))


if __name__ == "__main__":
    render(Path(sys.argv[1]), int(sys.argv[2]))
