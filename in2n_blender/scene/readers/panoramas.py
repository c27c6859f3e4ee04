"""Equirectangular photos of a capture, each listed as the six faces that it is cut into."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np

from ..camera import Intrinsics
from ..lens import EQUIRECTANGULAR, Lens
from ..panorama import FACES, face_rotation
from .listing import ListedPhoto


def faces(entry: ListedPhoto) -> list[ListedPhoto]:
    """The faces of an equirectangular photo.

    Args:
        entry: The photo, with the pose of a camera that looks at its middle, OpenGL's axes.

    Returns:
        One entry a face, named after the photo and the face.
    """
    label, flip = PurePosixPath(entry.label), np.diag([1.0, -1.0, -1.0, 1.0])
    cut = []
    for name, (yaw, pitch) in FACES.items():
        turn = np.eye(4)
        turn[:3, :3] = face_rotation(yaw, pitch)
        cut.append(
            replace(
                entry,
                label=str(label.with_name(f"{label.stem}_{name}{label.suffix}")),
                camera_to_world=_turned(entry.camera_to_world, flip @ turn @ flip),
                lens=lambda width, height, angles=(yaw, pitch): Lens(
                    EQUIRECTANGULAR, Intrinsics(width, height, 1.0, 1.0, width / 2, height / 2), angles
                ),
            )
        )
    return cut


def _turned(camera_to_world: object, turn: np.ndarray) -> object:
    """What is no matrix stays what it is: the check of the pose tells."""
    try:
        pose = np.array(camera_to_world, np.float64)
        return (pose if pose.shape == (4, 4) else np.vstack([pose, [0, 0, 0, 1]])) @ turn
    except (TypeError, ValueError, OverflowError):
        return camera_to_world
