"""A scene with its light and its cameras, and how it becomes a capture: photos, transforms.json and points.

All edits act on the scene, so their truth is what the same cameras see afterwards.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import bpy  # before mathutils, which the bpy wheel holds inside itself
import numpy as np
from mathutils import Matrix, Vector

from . import lighting
from .builder import Builder, Surface
from .lighting import Lighting
from .reshaping import SHAPES, put_back, reshape, surface_tree

SEED = 7
SENSOR_MM = 36.0


@dataclass(frozen=True)
class Look:
    """An edit that changes no shape: another light, and how much snow lies, from 0 to 1."""

    light: Callable[[Lighting], Lighting] | None = None
    snow: float = 0.0


LOOKS = {
    "snow": Look(snow=1.0),
    "sunset": Look(lighting.sunset),
    "night": Look(lighting.night),
    "winter-night": Look(lighting.night, 1.0),
}
EDITS = (*LOOKS, *SHAPES)


@dataclass(frozen=True)
class Shot:
    """A photo's name, the pose it is taken from (camera-to-world, OpenGL axes), and whether no training sees it."""

    name: str
    camera_to_world: Matrix
    held_out: bool


@dataclass(frozen=True)
class CapturedScene:
    """What is built, how it is lit in daylight, and where its photos are taken from.

    Attributes:
        name: The scene's.
        surfaces: Name -> surface, for what is built.
        build: Puts everything into the scene.
        daylight: How it is lit as it is.
        shots: Makes the shots.
        lens_mm: The focal length for a sensor of SENSOR_MM.
        samples: A pixel, for a clean picture after denoising.
        light: Applies a Lighting to the scene, sky included.
        other_light: From the light of an edit to that of this scene's own sky.
    """

    name: str
    surfaces: dict[str, Surface]
    build: Callable[[Builder], None]
    daylight: Lighting
    shots: Callable[[], list[Shot]]
    lens_mm: float
    samples: int = 32
    light: Callable[[bpy.types.Scene, Lighting], None] = lighting.apply_lighting
    other_light: Callable[[Lighting], Lighting] = lambda light: light

    def focal_length(self, size: int) -> float:
        """The focal length of square photos: size * lens / sensor.

        Args:
            size: Pixels a side.

        Returns:
            In pixels.
        """
        return size * self.lens_mm / SENSOR_MM


def look_at(position, target) -> Matrix:
    """The pose of an upright camera that looks at a point.

    Args:
        position: (3,) where it is, in scene units.
        target: (3,) what it looks at.

    Returns:
        Camera-to-world, (4, 4), OpenGL axes.
    """
    position = Vector(position)
    return Matrix.Translation(position) @ (position - Vector(target)).to_track_quat("Z", "Y").to_matrix().to_4x4()


def look_from(target: Vector, azimuth: float, elevation: float, distance: float) -> Matrix:
    """`look_at` from a place on a sphere around the target.

    Args:
        target: What the camera looks at, in scene units.
        azimuth: From the x axis towards y, in degrees.
        elevation: Above the horizon, in degrees.
        distance: The sphere's radius, in scene units.

    Returns:
        Camera-to-world, (4, 4), OpenGL axes.
    """
    a, e = math.radians(azimuth), math.radians(elevation)
    return look_at(
        target + distance * Vector((math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e))), target
    )


def build_scene(captured: CapturedScene, edit: str | None = None) -> bpy.types.Scene:
    """A fresh Blender scene, as it is or edited.

    Args:
        captured: What is built.
        edit: One of EDITS; None: as it is.

    Raises:
        ValueError: For an edit that is not in EDITS.
    """
    scene = bpy.data.scenes.new(captured.name)
    captured.build(Builder(scene, captured.surfaces, SEED))
    lighting.add_snow_cover(scene)
    apply_edit(scene, captured, edit)
    return scene


def apply_edit(scene: bpy.types.Scene, captured: CapturedScene, edit: str | None) -> None:
    """Bring the scene to an edit, from whichever it is in.

    Args:
        scene: As `build_scene` made it.
        captured: What it was built from.
        edit: One of EDITS; None: as it is.

    Raises:
        ValueError: For an edit that is not in EDITS.
    """
    if edit is not None and edit not in EDITS:
        raise ValueError(f"edit must be one of {', '.join(EDITS)}, not {edit!r}")
    look = LOOKS.get(edit, Look())
    captured.light(scene, captured.other_light(look.light(captured.daylight)) if look.light else captured.daylight)
    lighting.set_snow(look.snow)
    put_back(scene)
    if edit in SHAPES:
        reshape(scene, captured.name, edit)


def set_up_render(
    scene: bpy.types.Scene, captured: CapturedScene, size: int, samples: int, threads: int = 0
) -> bpy.types.Object:
    """Give the scene Cycles' settings and a camera.

    Args:
        scene: As `build_scene` made it.
        captured: What it was built from; gives the lens.
        size: Pixels a side.
        samples: A pixel.
        threads: Of the renderer; 0: all.

    Returns:
        The camera object.
    """
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising = samples, True
    scene.cycles.use_adaptive_sampling = False
    scene.cycles.seed = SEED
    scene.cycles.max_bounces, scene.cycles.diffuse_bounces = 4, 2
    scene.render.threads_mode, scene.render.threads = ("FIXED", threads) if threads else ("AUTO", 1)
    scene.render.use_persistent_data = True
    scene.render.resolution_x = scene.render.resolution_y = size
    scene.render.resolution_percentage = 100
    scene.view_settings.view_transform, scene.view_settings.look = "Standard", "None"
    scene.render.image_settings.file_format, scene.render.image_settings.color_mode = "PNG", "RGB"
    scene.render.image_settings.compression = 100
    data = bpy.data.cameras.new("camera")
    data.lens, data.sensor_width, data.clip_end = captured.lens_mm, SENSOR_MM, 100.0
    camera = bpy.data.objects.new("camera", data)
    scene.collection.objects.link(camera)
    scene.camera = camera
    return camera


def render_shots(
    scene, camera, shots: list[Shot], folder: Path, report: Callable[[Shot], None] = lambda shot: None
) -> None:
    """Render one PNG a shot; a shot whose file is there is kept.

    Args:
        scene: As `set_up_render` left it.
        camera: Its camera object.
        shots: From where.
        folder: Where the files go, by the shots' names; made where it is missing.
        report: Called after each shot, kept ones included.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with bpy.context.temp_override(scene=scene):
        for shot in shots:
            target = folder / f"{shot.name}.png"
            if not target.exists():
                camera.matrix_world = shot.camera_to_world
                scene.render.filepath = str(target.with_suffix(".part.png"))
                bpy.ops.render.render(write_still=True, scene=scene.name)
                os.replace(target.with_suffix(".part.png"), target)
            report(shot)


def save_depths(
    scene, shots: list[Shot], folder: Path, size: int, focal: float, report: Callable[[Shot], None] = lambda shot: None
) -> None:
    """How far away what every pixel's middle shows is, as one .npy file a shot; a shot whose file is there is kept.

    Each is (size, size) float32, along the camera's axis in scene units; 0 where there is the sky.

    Args:
        scene: As `build_scene` or `apply_edit` left it.
        shots: From where.
        folder: Where the files go, by the shots' names; made where it is missing.
        size: Pixels a side.
        focal: The focal length in pixels.
        report: Called after each shot, kept ones included.
    """
    folder.mkdir(parents=True, exist_ok=True)
    surfaces = None
    for shot in shots:
        target = folder / f"{shot.name}.npy"
        if not target.exists():
            surfaces = surfaces or surface_tree(scene)
            with open(target.with_suffix(".part"), "wb") as file:
                np.save(file, _depth(surfaces, shot, size, focal), allow_pickle=False)
            os.replace(target.with_suffix(".part"), target)
        report(shot)


def _depth(surfaces, shot: Shot, size: int, focal: float) -> np.ndarray:
    origin, turn = shot.camera_to_world.translation, shot.camera_to_world.to_3x3()
    forward = turn @ Vector((0, 0, -1))
    depth = np.zeros((size, size), np.float32)
    for row in range(size):
        for column in range(size):
            ray = Vector(((column + 0.5 - size / 2) / focal, -(row + 0.5 - size / 2) / focal, -1.0))
            hit = surfaces.ray_cast(origin, turn @ ray)[0]
            if hit is not None:
                depth[row, column] = (hit - origin).dot(forward)
    return depth


def transforms(shots: list[Shot], size: int, focal: float) -> dict:
    """What nerfstudio's transforms.json says of the photos: square pixels, the principal point in the middle.

    Args:
        shots: The photos, in images/ by their names.
        size: Pixels a side.
        focal: The focal length in pixels.
    """
    path = {s.name: f"images/{s.name}.png" for s in shots}
    return {
        "camera_model": "PINHOLE",
        "w": size,
        "h": size,
        "fl_x": focal,
        "fl_y": focal,
        "cx": size / 2,
        "cy": size / 2,
        "ply_file_path": "points.ply",
        "train_filenames": [path[s.name] for s in shots if not s.held_out],
        "test_filenames": [path[s.name] for s in shots if s.held_out],
        "frames": [
            {"file_path": path[s.name], "transform_matrix": [[round(v, 8) for v in row] for row in s.camera_to_world]}
            for s in shots
        ],
    }


def sparse_points(
    scene, shots: list[Shot], folder: Path, size: int, focal: float, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where rays through random pixels of the training photos meet the scene, in the pixels' colours.

    It is what a photogrammetry program would hand over.

    Args:
        scene: As it was photographed.
        shots: From where; held-out ones are left out.
        folder: The photos, by the shots' names.
        size: Pixels a side.
        focal: The focal length in pixels.
        count: How many points.

    Returns:
        Positions (count, 3) float32 in scene units, and colours (count, 3) uint8, sRGB.
    """
    random = np.random.default_rng(SEED)
    training = [s for s in shots if not s.held_out]
    photos = {s.name: read_png(folder / f"{s.name}.png") for s in training}
    scene.view_layers[0].update()
    depsgraph = scene.view_layers[0].depsgraph
    points, colors = [], []
    while len(points) < count:
        shot = training[random.integers(len(training))]
        u, v = random.uniform(0, size, 2)
        ray = Vector(((u - size / 2) / focal, -(v - size / 2) / focal, -1.0))
        hit, location, *_ = scene.ray_cast(
            depsgraph, shot.camera_to_world.translation, shot.camera_to_world.to_3x3() @ ray
        )
        if hit:
            points.append(location[:])
            colors.append(photos[shot.name][int(v), int(u)])
    return np.array(points, np.float32), np.array(colors, np.uint8)


def read_png(path: Path) -> np.ndarray:
    """The pixels of a PNG file, as stored.

    Args:
        path: The file.

    Returns:
        (height, width, 3) uint8.
    """
    image = bpy.data.images.load(str(path))
    image.colorspace_settings.name = "Non-Color"
    width, height = image.size
    pixels = np.empty(width * height * image.channels, np.float32)
    image.pixels.foreach_get(pixels)
    rows = pixels.reshape(height, width, image.channels)[::-1, :, :3]
    bpy.data.images.remove(image)
    return np.round(rows * 255).astype(np.uint8)


def ply(points: np.ndarray, colors: np.ndarray) -> bytes:
    """A binary PLY file of coloured points.

    Args:
        points: (P, 3), in scene units; stored as float32.
        colors: (P, 3) uint8, sRGB.
    """
    header = (
        "ply\nformat binary_little_endian 1.0\n"
        f"element vertex {len(points)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\nend_header\n"
    )
    rows = np.empty(len(points), [("p", "<f4", 3), ("c", "u1", 3)])
    rows["p"], rows["c"] = points, colors
    return header.encode() + rows.tobytes()


def write(path: Path, content: bytes | dict) -> None:
    """Write a file at once or not at all.

    Args:
        path: The file; its folder is there.
        content: Bytes, or a dict to be written as JSON.
    """
    temporary = path.with_suffix(".part")
    temporary.write_bytes(content if isinstance(content, bytes) else json.dumps(content, indent=1).encode())
    os.replace(temporary, path)
