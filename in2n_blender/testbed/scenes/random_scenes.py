"""Random scenes: a place, objects, a sky and cameras, all from one seed."""

import math
import random
from dataclasses import replace

import bpy
from mathutils import Matrix, Vector

from .lighting import Lighting, add_snow_cover, apply_lighting, white_level
from .materials import random_colour
from .random_objects import SceneBuilder
from .random_places import Views, add_island, add_objects, add_street, add_yard

PLACES = {add_objects: 0.25, add_island: 0.2, add_street: 0.3, add_yard: 0.25}
# Of white that lies flat in the open: what a camera's exposure makes of it, as sRGB about 0.78 to 1.
WHITE_LEVELS = (0.58, 1.15)


def build_scene(seed: int, photographs=()) -> tuple[bpy.types.Scene, Lighting, Views]:
    """Empty the file and build a random scene.

    Args:
        seed: The scene's number, from which all of it follows.
        photographs: Image files that some textures may show.

    Returns:
        (The scene, its daylight, where it may be seen from).
    """
    rng = random.Random(seed)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    add_place = rng.choices(list(PLACES), list(PLACES.values()))[0]
    views = add_place(SceneBuilder(scene, rng, photographs))
    add_snow_cover(scene)
    lighting = random_daylight(rng)
    apply_lighting(scene, lighting)
    return scene, lighting, views


def random_daylight(rng: random.Random) -> Lighting:
    """Clear, hazy or overcast daylight, exposed as a camera would: flat white lies within WHITE_LEVELS.

    Without that, how bright snow is would be a guess, and a network that has to guess draws fog.

    Args:
        rng: Where the random numbers come from.
    """
    overcast = rng.choice((0.0, rng.random(), rng.random()))
    grey = rng.uniform(0.6, 0.9)
    blue = (rng.uniform(0.12, 0.35), rng.uniform(0.3, 0.55), rng.uniform(0.6, 0.95))
    haze = (rng.uniform(0.3, 0.9), rng.uniform(0.5, 0.9), rng.uniform(0.7, 0.95))
    if rng.random() < 0.12:
        haze = random_colour(rng, saturation=(0.0, 0.5), value=(0.2, 0.95))
    mixed = tuple(colour * (1 - overcast) + grey * overcast for colour in blue)
    lighting = Lighting(
        sun_azimuth=rng.uniform(0, 2 * math.pi),
        sun_elevation=math.radians(rng.uniform(28, 75)),
        sun_strength=rng.uniform(2.2, 3.6) * (1.1 - overcast),
        sun_colour=(1.0, rng.uniform(0.88, 0.98), rng.uniform(0.75, 0.95)),
        sun_angle=math.radians(rng.uniform(1, 15)),
        horizon=haze,
        zenith=mixed,
        sky_strength=rng.uniform(0.5, 1.0),
        clouds=rng.choice((0.0, rng.uniform(0.2, 0.9))),
    )
    exposure = rng.uniform(*WHITE_LEVELS) / white_level(lighting)
    return replace(
        lighting, sun_strength=lighting.sun_strength * exposure, sky_strength=lighting.sky_strength * exposure
    )


def random_camera(scene: bpy.types.Scene, rng: random.Random, views: Views, tries: int = 20) -> bpy.types.Object:
    """Place the scene's camera at random, close or far, with a free view if one is found.

    Args:
        scene: Its camera is made where it has none.
        rng: Where the random numbers come from.
        views: From where the place may be seen.
        tries: How many places are tried; the last one is kept where none has a free view.

    Returns:
        The camera object.
    """
    for _ in range(tries):
        camera = _place_camera(scene, rng, views)
        if _view_is_free(scene, camera, views.nearest):
            break
    return camera


def _view_is_free(scene: bpy.types.Scene, camera: bpy.types.Object, nearest: float) -> bool:
    """No surface closer than `nearest` in 5 x 5 directions, and not one surface filling the whole view."""
    bpy.context.view_layer.update()
    graph = bpy.context.evaluated_depsgraph_get()
    rotation, visible = camera.matrix_world.to_3x3(), set()
    half = camera.data.sensor_width / 2 / camera.data.lens
    for x in (-0.9, -0.45, 0.0, 0.45, 0.9):
        for y in (-0.9, -0.45, 0.0, 0.45, 0.9):
            direction = rotation @ Vector((x * half, y * half, -1.0)).normalized()
            hit, location, normal, _, thing, _ = scene.ray_cast(graph, camera.matrix_world.translation, direction)
            if hit and ((location - camera.matrix_world.translation).length < nearest or normal.dot(direction) > 0.0):
                return False
            visible.add(thing.name if hit else None)
    return len(visible) >= 3


def _place_camera(scene: bpy.types.Scene, rng: random.Random, views: Views) -> bpy.types.Object:
    camera = scene.camera
    if camera is None:
        camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
        scene.collection.objects.link(camera)
        scene.camera = camera
    camera.data.lens = rng.uniform(*views.lens_mm)
    target = Vector([rng.uniform(low, high) for low, high in views.target])
    distance = rng.uniform(*views.distance)
    low, high, usual = views.elevation
    elevation = math.radians(rng.triangular(low, high, usual))
    azimuth = rng.choice(views.azimuths) + rng.uniform(-1, 1) * views.azimuth_spread
    offset = Vector(
        (math.cos(azimuth) * math.cos(elevation), math.sin(azimuth) * math.cos(elevation), math.sin(elevation))
    )
    camera.location = target + offset * distance
    camera.location.x = max(-views.aside, min(views.aside, camera.location.x))
    camera.location.z = max(camera.location.z, 0.35)
    direction = target - camera.location
    roll = Matrix.Rotation(rng.gauss(0, 0.04), 4, "Z")
    look = direction.to_track_quat("-Z", "Y").to_matrix().to_4x4() @ roll
    camera.matrix_world = Matrix.Translation(camera.location) @ look
    return camera
