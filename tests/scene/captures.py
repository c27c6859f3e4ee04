"""Small captures written on the spot."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np


def png_bytes(width, height, orientation=None, rgba=False):
    """A valid PNG of noise, without an image library."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    channels = 4 if rgba else 3
    pixels = np.random.default_rng(0).integers(0, 256, (height, 1 + width * channels), np.uint8)
    pixels[:, 0] = 0
    exif = (
        b""
        if orientation is None
        else chunk(
            b"eXIf", b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0) + b"\0\0\0\0"
        )
    )
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6 if rgba else 2, 0, 0, 0))
        + exif
        + chunk(b"IDAT", zlib.compress(pixels.tobytes()))
        + chunk(b"IEND", b"")
    )


def write_png(path: Path, width=12, height=8, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_bytes(width, height, **options))


def look_at(position, target=(0, 0, 0), up=(0, 0, 1)):
    """(4, 4) camera-to-world, OpenGL axes."""
    position = np.array(position, np.float64)
    back = position - target
    back /= np.linalg.norm(back)
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, position], -1)
    return pose


def ring(count, radius=4.0, height=1.0, turn=2 * np.pi):
    angles = np.arange(count) * turn / count
    return [look_at((radius * np.cos(a), radius * np.sin(a), height)) for a in angles]


def write_transforms(
    folder: Path, poses=None, name="transforms.json", size=(12, 8), photos=True, extension=".png", **table
):
    """A transforms file with photos images/000.png …; keyword arguments are added to the file."""
    poses = ring(5) if poses is None else poses
    width, height = size
    frames = [
        {"file_path": f"images/{i:03d}.png", "transform_matrix": np.asarray(p).tolist()} for i, p in enumerate(poses)
    ]
    table = {
        "w": width,
        "h": height,
        "fl_x": 10.0,
        "fl_y": 10.0,
        "cx": width / 2,
        "cy": height / 2,
        "frames": frames,
        **table,
    }
    table = {key: value for key, value in table.items() if value is not None}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(table))
    if photos:
        for i in range(len(poses)):
            write_png(folder / f"images/{i:03d}{extension}", *size)
    return folder / name


def write_surveyed(folder, at, count=12):
    """A ring of cameras of radius 4 and points that differ by centimetres, moved by `at`. Returns points and poses."""
    poses = np.array(ring(count))
    poses[:, :3, 3] += at
    points = np.random.default_rng(3).integers(-80, 80, (60, 3)) / 100 + at
    rows = "\n".join(" ".join(map(repr, point)) + " 200 100 50" for point in points.tolist())
    head = ["ply", "format ascii 1.0", f"element vertex {len(points)}"]
    head += [f"property double {axis}" for axis in "xyz"] + [f"property uchar {c}" for c in ("red", "green", "blue")]
    write_transforms(folder, poses, ply_file_path="points.ply")
    (folder / "points.ply").write_text("\n".join([*head, "end_header", rows, ""]))
    return points, poses
