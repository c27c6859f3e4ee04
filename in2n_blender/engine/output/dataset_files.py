"""The files that describe a dataset's cameras to other trainers: nerfstudio's transforms.json and a COLMAP model.

nerfstudio: https://docs.nerf.studio/quickstart/data_conventions.html. COLMAP: https://colmap.github.io/format.html.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...scene.camera import Camera, Intrinsics
from ...scene.splats import quaternion_of
from ...workspace.files import atomic_path, write_json

TRANSFORMS, POINTS, MODEL = "transforms.json", "points.ply", "sparse/0"
MODEL_FILES = tuple(f"{MODEL}/{part}.bin" for part in ("cameras", "images", "points3D"))
PINHOLE = 1  # among COLMAP's camera models
TEST_LIST = f"{MODEL}/test.txt"  # the held-out pictures, as gaussian-splatting reads them


@dataclass(frozen=True)
class DatasetPicture:
    """A picture of a dataset.

    Attributes:
        name: Of its file in images/.
        camera: In the capture's own coordinates, OpenGL axes.
        held_out: Whether it is kept from training.
        mask: Of its file in masks/, white where the picture counts; "" for none.
    """

    name: str
    camera: Camera
    held_out: bool = False
    mask: str = ""


def transforms_of(pictures: list[DatasetPicture], points: bool) -> dict:
    """What transforms.json says of a dataset.

    What all pictures share stands once, at the top: trainers take that for the lens of every picture.

    Args:
        pictures: At least one.
        points: Whether points.ply lies beside the file.

    Returns:
        JSON; the poses are camera-to-world with OpenGL's axes, as the file has them.
    """
    lenses = [_lens(picture.camera) for picture in pictures]
    shared = lenses[0] if all(lens == lenses[0] for lens in lenses) else {}
    frames = [
        {
            "file_path": f"images/{picture.name}",
            **({"mask_path": f"masks/{picture.mask}"} if picture.mask else {}),
            **({} if shared else lens),
            "transform_matrix": picture.camera.camera_to_world.tolist(),
        }
        for picture, lens in zip(pictures, lenses)
    ]
    table = {"camera_model": "PINHOLE", **shared, **({"ply_file_path": POINTS} if points else {}), "frames": frames}
    held_out = [f"images/{picture.name}" for picture in pictures if picture.held_out]
    if held_out:  # with one list nerfstudio wants all three
        trained = [f"images/{picture.name}" for picture in pictures if not picture.held_out]
        table |= {"train_filenames": trained, "val_filenames": held_out, "test_filenames": held_out}
    return table


def _lens(camera: Camera) -> dict:
    k = camera.intrinsics
    return {"w": k.width, "h": k.height, "fl_x": k.fx, "fl_y": k.fy, "cx": k.cx, "cy": k.cy}


def write_transforms(folder: Path, pictures: list[DatasetPicture], points: np.ndarray, colors: np.ndarray) -> None:
    """Write transforms.json, and points.ply where there are points.

    Args:
        folder: The dataset's.
        pictures: At least one.
        points: (P, 3) float64 in the capture's own coordinates.
        colors: (P, 3) uint8 sRGB.

    Raises:
        In2nError: "disk_full", "cannot_write".
    """
    if len(points):
        _write_points(folder / POINTS, points, colors)
    write_json(folder / TRANSFORMS, transforms_of(pictures, bool(len(points))))


def _write_points(path: Path, points: np.ndarray, colors: np.ndarray) -> None:
    """Binary PLY in float64: in float32 the points of a capture in map coordinates would fall into a grid."""
    rows = np.empty(len(points), [*((axis, "<f8") for axis in "xyz"), *((c, "u1") for c in ("red", "green", "blue"))])
    for axis, values in zip("xyz", points.T):
        rows[axis] = values
    for color, values in zip(("red", "green", "blue"), colors.T):
        rows[color] = values
    names = [f"property double {axis}" for axis in "xyz"] + [f"property uchar {c}" for c in ("red", "green", "blue")]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}", *names, "end_header", ""]
    with atomic_path(path) as temporary:
        temporary.write_bytes("\n".join(header).encode() + rows.tobytes())


def write_colmap(folder: Path, pictures: list[DatasetPicture], points: np.ndarray, colors: np.ndarray) -> None:
    """Write a COLMAP model as binary to sparse/0: one camera for every lens, points that were seen in no picture.

    Not by COLMAP itself, which cuts files short without a word where the disk is full.

    Args:
        folder: The dataset's.
        pictures: At least one.
        points: (P, 3) float64 in the capture's own coordinates.
        colors: (P, 3) uint8 sRGB.

    Raises:
        In2nError: "disk_full", "cannot_write".
    """
    lenses = {lens: number for number, lens in enumerate(dict.fromkeys(p.camera.intrinsics for p in pictures), 1)}
    contents = (
        [_camera(number, lens) for lens, number in lenses.items()],
        [_image(number, p, lenses[p.camera.intrinsics]) for number, p in enumerate(pictures, 1)],
        [_point(number, *p) for number, p in enumerate(zip(np.asarray(points, np.float64), colors), 1)],
    )
    for name, rows in zip(MODEL_FILES, contents):
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(struct.pack("<Q", len(rows)) + b"".join(rows))
    held_out = [picture.name for picture in pictures if picture.held_out]
    if held_out:
        with atomic_path(folder / TEST_LIST) as temporary:
            temporary.write_text("".join(f"{name}\n" for name in held_out), encoding="utf-8")


def _camera(number: int, k: Intrinsics) -> bytes:
    return struct.pack("<IiQQ4d", number, PINHOLE, k.width, k.height, k.fx, k.fy, k.cx, k.cy)


def _image(number: int, picture: DatasetPicture, camera: int) -> bytes:
    """Its pose is world-to-camera with OpenCV's axes; it has no 2D points."""
    rotation = (picture.camera.camera_to_world[:3, :3] @ np.diag([1.0, -1.0, -1.0])).T
    pose = *quaternion_of(rotation), *(-rotation @ picture.camera.position)
    return struct.pack("<I7dI", number, *pose, camera) + picture.name.encode() + b"\0" + struct.pack("<Q", 0)


def _point(number: int, place: np.ndarray, color: np.ndarray) -> bytes:
    return struct.pack("<Q3d3BdQ", number, *place, *color.tolist(), 0.0, 0)
