"""Rendered frames shown behind the camera, in step with the timeline."""

from pathlib import Path

import bpy
import numpy as np
import pytest
from PIL import Image

from in2n_blender.blender import results


def rendered(folder: Path, *numbers: int) -> list[int]:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.fromarray(np.full((4, 4, 3), 10 * number, np.uint8)).save(folder / f"{number:04d}.png")
    return list(numbers)


def files_shown(scene, frames) -> list[int]:
    """The number of the file that Blender shows behind the scene's camera at each frame."""
    (background,) = results.frame_backgrounds(scene.camera.data)
    numbers = []
    for frame in frames:
        scene.frame_set(frame)
        file = Path(bpy.path.abspath(background.image.filepath_from_user(image_user=background.image_user)))
        assert file.is_file(), f"{file.name} at frame {frame}"
        numbers.append(int(file.stem))
    return numbers


@pytest.mark.parametrize(
    "numbers, shown",
    [
        ((1, 2, 3), [1, 2, 3]),
        ((1, 3, 5), [1, 1, 3, 3, 5]),
        ((4, 7, 8, 12), [4, 4, 4, 7, 8, 8, 8, 8, 12]),
        ((6,), [6]),
        ((0, 2), [0, 0, 2]),
    ],
)
def test_the_last_frame_that_there_is_stays(imported, scene, tmp_path, numbers, shown):
    results.load_frames(scene, tmp_path, "gold", "walk", rendered(tmp_path, *numbers))
    assert files_shown(scene, range(numbers[0], numbers[-1] + 1)) == shown


def test_frames_that_come_later_are_shown_too(imported, scene, tmp_path):
    results.load_frames(scene, tmp_path, "gold", "walk", rendered(tmp_path, 2, 4))
    assert files_shown(scene, (2, 3, 4)) == [2, 2, 4]
    rendered(tmp_path, 3)
    results.load_frames(scene, tmp_path, "gold", "walk", [2, 3, 4])
    assert files_shown(scene, (2, 3, 4)) == [2, 3, 4]
    assert not scene.camera.data.animation_data or not scene.camera.data.animation_data.drivers


def test_every_second_frame_is_asked_for_and_shown(imported, scene, recording, tmp_path):
    workspace = Path(scene.in2n.workspace)
    (workspace / "reconstruction").mkdir(parents=True)
    (workspace / "reconstruction" / "checkpoint.safetensors").touch()
    (workspace / "reconstruction" / "state.json").write_text('{"done": true}')
    rendered(workspace / "renders" / "original" / "Scene", 1, 3, 5)
    scene.frame_start, scene.frame_end = 1, 6
    assert bpy.ops.in2n.render_path(edit="original", frame_step=2) == {"FINISHED"}
    assert files_shown(scene, range(1, 7))[:5] == [1, 1, 3, 3, 5]
