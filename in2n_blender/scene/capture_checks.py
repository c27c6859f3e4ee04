"""What may stand in a capture.json. It may be a stranger's, so nothing of it is believed."""

from __future__ import annotations

import numpy as np

from .camera import Camera
from .names import is_plain

LONGEST_SIDE = 1 << 16  # of a view, in pixels: more is a mistake
# Of focal lengths and centres, in pixels: beyond, float32 computes with them no more.
MOST_LENS, LEAST_FOCAL = 1e9, 1e-6


def check_texts(data: dict) -> None:
    """Check that the names and lists of a capture are text and lists.

    Args:
        data: What a capture.json holds.

    Raises:
        ValueError: Where one is of another kind, or there are no views.
        KeyError: Where one is not there.
    """
    for key, kind, called in (
        ("name", str, "text"),
        ("source", str, "text"),
        ("preset", str, "text"),
        ("views", list, "a list"),
        ("missing", list, "a list"),
    ):
        if not isinstance(data[key], kind):
            raise ValueError(f"its {key} is not {called}")
    if not all(isinstance(name, str) for name in data["missing"]):
        raise ValueError("its missing names are not text")
    notes = data.get("notes", [])
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        raise ValueError("its notes are not a list of text")
    if not data["views"]:
        raise ValueError("it has no views")


def check_unique(names: list[str]) -> None:
    """Check that no two names are one where case does not count.

    Args:
        names: The views' names.

    Raises:
        ValueError: For the first name that is taken already.
    """
    taken: set[str] = set()
    for name in names:
        if name.lower() in taken:
            raise ValueError(f"two of its views are named “{name}”")
        taken.add(name.lower())


def checked_view(number: int, data: object) -> tuple[str, str, Camera, bool, str]:
    """One view of a capture, checked.

    Args:
        number: Which view it is, for messages.
        data: What the capture lists.

    Returns:
        (Name, image relative to the workspace, camera, whether it is held out, mask relative to the workspace or "").

    Raises:
        ValueError: A name that is not plain, an image outside the workspace, a number that is not finite, a size that
            is not positive, a pose that is not rigid.
        KeyError: Something that is not there.
    """
    if not isinstance(data, dict):
        raise ValueError(f"view {number} is not an object")
    name, image = data["name"], data["image"]
    if not is_plain(name):
        raise ValueError(f"view {number} is named {name!r}, which is not a plain file name")
    if not _stays_inside(image):
        raise ValueError(f"the image of {name} is {image!r}, which is not a path inside the workspace")
    mask = data.get("mask", "")
    if mask != "" and not _stays_inside(mask):
        raise ValueError(f"the mask of {name} is {mask!r}, which is not a path inside the workspace")
    if not isinstance(data["held_out"], bool):
        raise ValueError(f"held_out of {name} is neither true nor false")
    for key in ("width", "height"):
        if type(data[key]) is not int or not 1 <= data[key] <= LONGEST_SIDE:
            raise ValueError(f"the {key} of {name} is {data[key]!r:.40}")
    try:
        camera = Camera.from_json(data)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"the camera of {name} is not made of numbers") from None
    k = camera.intrinsics
    if not np.less([k.fx, k.fy, abs(k.cx), abs(k.cy)], MOST_LENS).all() or min(k.fx, k.fy) < LEAST_FOCAL:
        raise ValueError(
            f"the lens of {name} has the focal lengths {k.fx:g}, {k.fy:g} and the centre {k.cx:g}, {k.cy:g}"
        )
    if not _is_rigid(camera.camera_to_world):
        raise ValueError(f"the pose of {name} is not a rotation and a position")
    return name, image, camera, data["held_out"], mask


def _stays_inside(image: object) -> bool:
    """Whether an image is a relative path of plain names, which leads nowhere but down on every platform."""
    if not isinstance(image, str) or {"\\", ":", "\0"} & set(image):
        return False
    return all(map(is_plain, image.split("/")))


def _is_rigid(pose: np.ndarray) -> bool:
    rotation = pose[:3, :3]
    return bool(
        np.isfinite(pose).all()
        and np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-4)
        and np.linalg.det(rotation) > 0
        and (pose[3] == [0, 0, 0, 1]).all()
    )


def rows_of_three(rows: object, what: str) -> np.ndarray:
    """Rows of three numbers as an array.

    Args:
        rows: What the capture lists.
        what: What it is called in messages.

    Returns:
        (n, 3) float64, finite.

    Raises:
        ValueError: For anything else.
    """
    try:
        array = np.array(rows, np.float64).reshape(-1, 3)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"its {what} are not rows of three numbers") from None
    if not np.isfinite(array).all():
        raise ValueError(f"its {what} have a number that is not finite")
    return array
