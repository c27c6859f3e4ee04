"""Which way is up, from how the cameras were held."""

import numpy as np
import pytest

from in2n_blender.scene.upright import up_direction
from tests.scene.captures import look_at, ring

UP = np.array([0.0, 0.0, 1.0])


def turned(axis, degrees) -> np.ndarray:
    """(4, 4), by Rodrigues' formula."""
    axis, angle = np.array(axis, float) / np.linalg.norm(axis), np.radians(degrees)
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    matrix = np.eye(4)
    matrix[:3, :3] = np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k
    return matrix


def error(found, true) -> float:
    """Degrees between two directions."""
    return float(np.degrees(np.arccos(np.clip(found @ true, -1, 1))))


def handheld(poses, roll=3.0):
    """The poses, each rolled about its own axis by some degrees."""
    rng = np.random.default_rng(4)
    return [pose @ turned((0, 0, 1), rng.normal(0, roll)) for pose in poses]


@pytest.mark.parametrize("height", [0.0, 1.0, 6.0], ids=["level", "from above", "from high above"])
@pytest.mark.parametrize("turn", [2 * np.pi, 1.3], ids=["all round", "from one side"])
@pytest.mark.parametrize("frame", [((1, 0, 0), 160), ((1, 2, 3), 77), ((0, 1, 0), 90)], ids=["colmap", "askew", "x up"])
def test_up_is_found_however_the_capture_lies(height, turn, frame):
    """The mean of the cameras' own up directions would be 45 degrees off from one side and high above."""
    laid = turned(*frame)
    poses = [laid @ pose for pose in handheld(ring(24, height=height, turn=turn))]
    assert error(up_direction(poses), laid[:3, :3] @ UP) < 3.0


def test_cameras_side_by_side_tell_by_their_own_up():
    laid = turned((1, 0, 0), -100)
    poses = [laid @ look_at((0.2 * i, -5, 1), (0.2 * i, 0, 0)) for i in range(8)]
    assert error(up_direction(poses), laid[:3, :3] @ UP) < 15


def test_some_photos_held_sideways_do_not_matter():
    poses = [pose @ turned((0, 0, 1), 90 if i % 5 == 0 else 0) for i, pose in enumerate(ring(20))]
    assert error(up_direction(poses), UP) < 3


def test_a_capture_that_stands_keeps_its_axis_exactly():
    assert up_direction(handheld(ring(30), roll=1)).tolist() == [0, 0, 1]
    y_up = [turned((1, 0, 0), -90) @ pose for pose in ring(30)]
    assert up_direction(y_up).tolist() == [0, 1, 0]


def test_cameras_that_look_straight_down_to_and_fro_do_not_tell():
    assert up_direction([look_at((i, 0, 5), (i, 0, 0), up=(0, (-1) ** i, 0)) for i in range(8)]) is None
    assert up_direction(np.zeros((0, 4, 4))) is None
