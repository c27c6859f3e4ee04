"""Random places, each built by one function from a `SceneBuilder`'s seed: a ground with objects, an island, a street of
houses, a laid table in a yard.

They share nothing but their kind with the scenes of the testbed, which stay unseen.
"""

import math
from dataclasses import dataclass

import bmesh
from mathutils import Matrix, Vector, noise

from . import random_things as things
from .random_objects import SceneBuilder
from .random_things import moved


@dataclass(frozen=True)
class Views:
    """From where a place may be seen, in scene units.

    Attributes:
        target: (lowest, highest) along x, y and z of what a camera looks at.
        distance: Of the camera from it, (least, most).
        elevation: Of the camera over it in degrees, (lowest, highest, most usual).
        azimuths: Directions in which the camera stands, in radians.
        azimuth_spread: How far from those it may stand, in radians.
        lens_mm: (shortest, longest) focal length for a sensor of 36 mm.
        nearest: How close a surface may be.
        aside: How far from the middle a camera may stand along x.
    """

    target: tuple = ((-1, 1), (-1, 1), (0.3, 1.2))
    distance: tuple[float, float] = (2.2, 10.0)
    elevation: tuple[float, float, float] = (2, 65, 20)
    azimuths: tuple[float, ...] = (0.0,)
    azimuth_spread: float = math.pi
    lens_mm: tuple[float, float] = (22, 60)
    nearest: float = 0.9
    aside: float = math.inf


def add_objects(build: SceneBuilder) -> Views:
    """Anything at all on a ground.

    Args:
        build: Where it is built.

    Returns:
        From where it may be seen.
    """
    _add_ground(build)
    _add_anything(build, 3.6)
    return Views()


def add_island(build: SceneBuilder) -> Views:
    """Anything at all on a round piece of land with steep sides, floating in the sky.

    Args:
        build: Where it is built.

    Returns:
        From where it may be seen.
    """
    rng, mesh = build.rng, bmesh.new()
    radius, depth = rng.uniform(1.6, 3.4), rng.uniform(0.15, 0.8)
    bmesh.ops.create_icosphere(mesh, subdivisions=5, radius=1.0)
    origin = Vector([rng.uniform(-50, 50) for _ in range(3)])
    for vertex in mesh.verts:
        ragged = 1.0 + 0.2 * noise.noise(vertex.co * 2 + origin)
        flat = max(-1.0, min(0.0, vertex.co.z * 4))
        vertex.co = Vector((vertex.co.x * radius * ragged, vertex.co.y * radius * ragged, flat * depth * ragged))
    material = build.material(green=rng.random() < 0.6)
    build.add_mesh("Island", mesh, material, moved(0, 0, 0.02), smooth=rng.random() < 0.5)
    _add_anything(build, radius * 0.8)
    return Views()


def _add_anything(build: SceneBuilder, spread: float) -> None:
    for _ in range(build.rng.randint(4, 14)):
        if build.rng.random() < 0.6:
            build.add_random_object(spread)
        else:
            place = build.random_place(spread) @ Matrix.Scale(build.rng.uniform(0.6, 1.4), 4)
            build.rng.choice(things.OUTDOORS)(build, place)


def _add_ground(build: SceneBuilder) -> None:
    """A plane, sometimes hilly, sometimes with walls behind it."""
    rng, mesh = build.rng, bmesh.new()
    hilly = rng.random() < 0.4
    bmesh.ops.create_grid(mesh, x_segments=96 if hilly else 1, y_segments=96 if hilly else 1, size=22.0)
    if hilly:
        origin = Vector((rng.uniform(-50, 50), rng.uniform(-50, 50), 0))
        height = rng.uniform(0.5, 3.0)
        for vertex in mesh.verts:
            away = min(1.0, max(0.0, vertex.co.xy.length - 2.0) / 8.0)
            vertex.co.z = (noise.noise(vertex.co * 0.25 + origin) * height + 0.25) * away
    material = build.natural("stone") if rng.random() < 0.4 else build.material(green=rng.random() < 0.35)
    build.add_mesh("Ground", mesh, material, Matrix.Identity(4), smooth=hilly)
    if rng.random() < 0.25:
        for angle in rng.sample([0, math.pi / 2, math.pi, -math.pi / 2], rng.randint(1, 2)):
            wall = Matrix.Rotation(angle, 4, "Z") @ moved(0, rng.uniform(3, 6), 2, 14, 0.3, 6)
            build.add_primitive("cube", build.material(), wall)


def add_street(build: SceneBuilder) -> Views:
    """Two rows of houses along y, with pavements, and people, carts, lamps and trees between them.

    Args:
        build: Where it is built.

    Returns:
        From within the street.
    """
    rng = build.rng
    half = rng.uniform(1.5, 3.0)
    build.add_primitive("cube", build.natural("stone"), moved(0, 0, -0.5, 60, 80, 1.0))
    for side in (-1, 1):
        pavement = rng.uniform(0.4, 0.8)
        place = moved(side * (half - pavement / 2), 0, 0.04, pavement, 60, 0.08)
        build.add_primitive("cube", build.natural("stone"), place)
        along = rng.uniform(-13, -11)
        while along < 12:
            width = rng.uniform(1.4, 3.0)
            if rng.random() < 0.9:
                at = moved(side * half, along + width / 2, 0) @ Matrix.Rotation(-side * math.pi / 2, 4, "Z")
                things.add_town_house(build, at, width)
            along += width + rng.choice((0.0, 0.0, rng.uniform(0.1, 0.6)))
    for _ in range(rng.randint(5, 16)):
        across = rng.choice((-1, 1)) * half * rng.uniform(0.45, 0.9)
        place = moved(across, rng.uniform(-6, 6), 0) @ Matrix.Rotation(rng.uniform(0, 6.3), 4, "Z")
        rng.choice(things.STREET)(build, place @ Matrix.Scale(rng.uniform(0.7, 1.1), 4))
    if rng.random() < 0.6:  # something ends the street
        end = rng.choice((-1, 1)) * rng.uniform(10, 13)
        things.add_town_house(build, moved(0, end, 0) @ Matrix.Rotation(0 if end > 0 else math.pi, 4, "Z"), 2.4)
        for _ in range(4):
            build.add_fir(moved(rng.uniform(-half, half), end * 1.3, 0) @ Matrix.Scale(rng.uniform(1.5, 3), 4))
    return Views(
        target=((-half * 0.6, half * 0.6), (-2, 2), (0.5, 1.6)),
        distance=(1.5, 7.0),
        elevation=(-4, 24, 2),
        azimuths=(math.pi / 2, -math.pi / 2),
        azimuth_spread=0.5,
        lens_mm=(20, 40),
        nearest=0.5,
        aside=half * 0.6,
    )


def add_yard(build: SceneBuilder) -> Views:
    """A laid table with stools round it, between walls and plants.

    Args:
        build: Where it is built.

    Returns:
        From close to the table to the walls.
    """
    rng = build.rng
    build.add_primitive("cube", build.natural("stone"), moved(0, 0, -0.5, 60, 60, 1.0))
    top = things.add_laid_table(build, moved(0, 0, 0))
    for number in range(rng.randint(0, 5)):
        angle = number * 1.3 + rng.uniform(-0.3, 0.3)
        at = moved(math.cos(angle) * rng.uniform(1.0, 1.4), math.sin(angle) * rng.uniform(1.0, 1.4), 0)
        rng.choice((things.add_stool, things.add_stool, things.add_person))(build, at @ Matrix.Rotation(angle, 4, "Z"))
    for angle in rng.sample([0, math.pi / 2, math.pi, -math.pi / 2], rng.randint(1, 3)):
        height, away = rng.choice((0.5, 0.8, rng.uniform(1.5, 3))), rng.uniform(2.2, 4)
        wall = Matrix.Rotation(angle, 4, "Z") @ moved(0, away, 0)
        build.add_primitive(
            "cube",
            build.natural(rng.choice(("brick", "plaster", "stone"))),
            wall @ moved(0, 0, height / 2, 9, 0.25, height),
        )
        build.add_primitive("cube", build.natural("stone"), wall @ moved(0, 0, height, 9.1, 0.35, 0.08))
        for _ in range(rng.randint(0, 4)):
            things.add_window(
                build, wall @ moved(rng.uniform(-3, 3), -0.125, height * 0.6), 0.6, min(0.8, height * 0.6)
            )
        for _ in range(rng.randint(1, 5)):
            at = wall @ moved(rng.uniform(-3, 3), rng.uniform(-0.9, -0.4), 0)
            rng.choice(things.YARD)(build, at)
    for _ in range(rng.randint(0, 6)):
        at = moved(rng.uniform(-9, 9), rng.choice((-1, 1)) * rng.uniform(5, 9), 0)
        rng.choice((build.add_tree, build.add_fir))(at @ Matrix.Scale(rng.uniform(1, 2.2), 4))
    return Views(
        target=((-0.5, 0.5), (-0.5, 0.5), (top - 0.3, top + 0.3)),
        distance=(1.4, 4.5),
        elevation=(5, 55, 25),
        lens_mm=(22, 50),
        nearest=0.5,
    )
