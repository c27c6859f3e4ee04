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


def write_colmap(
    folder, names, poses=None, form="bin", camera=("PINHOLE", 12, 8, (10.0, 10.0, 6.0, 4.0)), encoding="utf-8"
):
    """A COLMAP model with one camera and no points, as the files of the format say it, without COLMAP."""
    poses = ring(len(names)) if poses is None else poses
    folder.mkdir(parents=True, exist_ok=True)
    model, width, height, parameters = camera
    if form == "txt":
        (folder / "cameras.txt").write_text(f"1 {model} {width} {height} {' '.join(map(str, parameters))}\n")
        lines = [
            f"{i} {' '.join(map(repr, colmap_pose(pose)))} 1 {name}\n\n"
            for i, (name, pose) in enumerate(zip(names, poses), 1)
        ]
        (folder / "images.txt").write_text("".join(lines), encoding=encoding)
        return
    number = {"SIMPLE_PINHOLE": 0, "PINHOLE": 1, "SIMPLE_RADIAL": 2, "OPENCV": 4}[model]
    head = struct.pack("<QIiQQ", 1, 1, number, width, height)
    (folder / "cameras.bin").write_bytes(head + struct.pack(f"<{len(parameters)}d", *parameters))
    data = struct.pack("<Q", len(names))
    for i, (name, pose) in enumerate(zip(names, poses), 1):
        data += struct.pack("<I7dI", i, *colmap_pose(pose), 1) + name.encode(encoding) + b"\0" + struct.pack("<Q", 0)
    (folder / "images.bin").write_bytes(data)


def colmap_pose(camera_to_world):
    """World-to-camera in OpenCV's axes as quaternion (w, x, y, z) and translation: 7 numbers."""
    inverse = np.linalg.inv(np.asarray(camera_to_world) @ np.diag([1.0, -1.0, -1.0, 1.0]))
    return [*quaternion(inverse[:3, :3]), *inverse[:3, 3].tolist()]


def quaternion(rotation):
    """(w, x, y, z) of a rotation matrix (Shepperd's method, through the largest of the four)."""
    r = np.asarray(rotation)
    trace = np.r_[np.trace(r), np.diag(r)]
    largest = int(trace.argmax())
    if largest == 0:
        q = np.array([1 + trace[0], r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]])
    else:
        i, j, k = largest - 1, largest % 3, (largest + 1) % 3
        q = np.zeros(4)
        q[0], q[1 + i] = r[k, j] - r[j, k], 1 + 2 * r[i, i] - np.trace(r)
        q[1 + j], q[1 + k] = r[j, i] + r[i, j], r[k, i] + r[i, k]
    return (q / np.linalg.norm(q)).tolist()
