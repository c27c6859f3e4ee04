"""A still life: a laid table in a walled courtyard, photographed from rings of cameras that look inwards."""

from __future__ import annotations

import math

import bmesh
import bpy  # noqa: F401  before bmesh and mathutils, which the bpy wheel holds inside itself
from mathutils import Matrix, Vector

from .builder import Bricks, Builder, Stripes, srgb, two_tone
from .captured_scene import CapturedScene, Shot, look_from
from .lighting import Lighting

LOOK_AT = Vector((0.0, 0.0, 0.78))
TABLE_TOP = 0.66
WALL = 4.1  # distance of the walls from the table

SURFACES = {
    "paving": two_tone(
        "a3927a",
        "c8b799",
        scale=1.6,
        pattern=Bricks(
            0.75, 0.75, 0.03, tones=((0.72, 0.70, 0.68), (1.12, 1.08, 1.02)), mortar_tone=(0.45, 0.42, 0.38)
        ),
    ),
    "lawn": two_tone("53782f", "86a04c", scale=0.7),
    "brick": two_tone(
        "8d4630",
        "b8694a",
        scale=1.3,
        pattern=Bricks(
            0.62, 0.28, 0.035, True, tones=((0.7, 0.68, 0.66), (1.25, 1.2, 1.15)), mortar_tone=(1.5, 2.2, 2.6)
        ),
    ),
    "plaster": two_tone("cf9d58", "e6bf80", scale=0.9),
    "stone": two_tone(
        "857e74",
        "b3aa9a",
        scale=1.8,
        pattern=Bricks(
            0.7, 0.3, 0.03, True, tones=((0.75, 0.75, 0.75), (1.15, 1.13, 1.1)), mortar_tone=(0.5, 0.48, 0.45)
        ),
    ),
    "coping": two_tone("8f3d22", "c0623a", scale=1.5, pattern=Bricks(0.3, 2.0, 0.03)),
    "timber": two_tone(
        "5a3820", "7f5531", scale=2.2, pattern=Bricks(0.22, 3.0, 0.015, True, tones=((0.7, 0.7, 0.7), (1.2, 1.15, 1.1)))
    ),
    "oak": two_tone("8a5c33", "b58350", scale=3.0),
    "door": two_tone(
        "1c5a63",
        "2f8086",
        scale=1.5,
        pattern=Bricks(0.2, 3.0, 0.015, True, tones=((0.75, 0.75, 0.75), (1.15, 1.15, 1.15))),
    ),
    "glass": two_tone("33475c", "5a7890", scale=0.8, roughness=0.5),
    "white": two_tone("d8d2c4", "ece7db", scale=2.0),
    "ivy": two_tone("2f5a2a", "63924a", scale=2.6),
    "leaves": two_tone("4e7a34", "8aae4c", scale=0.9),
    "conifer": two_tone("234f30", "3f7648", scale=1.2),
    "bark": two_tone("553822", "7a5535", scale=3.0),
    "cloth": two_tone("ece6da", "f7f3ea", scale=2.0, pattern=Stripes(srgb("b5262f"), 0.14, checks=True)),
    "terracotta": two_tone("b0562e", "d17a48", scale=2.5),
    "glaze": two_tone("1d4a92", "3a74bd", scale=1.6, roughness=0.4),
    "bread": two_tone("a8682e", "d8a45c", scale=3.0),
    "orange": two_tone("e0780f", "f59a26", scale=2.0, roughness=0.6),
    "lemon": two_tone("dcb81c", "f2d94a", scale=2.0, roughness=0.6),
    "melon": two_tone("3d7a3a", "8dbb5e", scale=1.2, roughness=0.6, pattern=Stripes(srgb("22502c"), 0.26)),
    "bottle": two_tone("1f4a34", "376b4c", scale=1.5, roughness=0.4),
    "label": two_tone("d9c9a0", "efe3c2", scale=2.0),
    "book_blue": two_tone("27477f", "3a60a0", scale=3.0),
    "book_green": two_tone("3b6b4a", "538a60", scale=3.0),
    "book_ochre": two_tone("bf8a2c", "d9a848", scale=3.0),
    "pages": two_tone("d9cfb4", "efe6d0", scale=5.0),
    "flower_red": two_tone("b3202c", "e2485a", scale=2.5),
    "flower_violet": two_tone("6a3f9c", "a274cf", scale=2.5),
    "cushion": two_tone("2a6f78", "4a9aa0", scale=2.0),
}

DAYLIGHT = Lighting(
    sun_azimuth=math.radians(-52),
    sun_elevation=math.radians(46),
    sun_strength=2.7,
    sun_colour=(1.0, 0.92, 0.80),
    sun_angle=math.radians(5),
    horizon=srgb("bcdaf2"),
    zenith=srgb("5796dc"),
    sky_strength=0.85,
    clouds=0.6,
)


def build_courtyard(build: Builder) -> None:
    """Everything within the walls, and the lawn outside."""
    build.disc("lawn", (0, 0, -0.06), 60.0)
    build.box("paving", (0, 0, -0.05), (2 * WALL, 2 * WALL, 0.1))
    _high_walls(build)
    _low_walls(build)
    _garden(build)
    _table(build)
    _laid_on_the_table(build)
    for azimuth, surface in ((-8, "cushion"), (128, "flower_violet"), (232, "cushion")):
        _stool(build, 1.32 * math.cos(math.radians(azimuth)), 1.32 * math.sin(math.radians(azimuth)), surface)


def _high_walls(build: Builder) -> None:
    height = 2.3
    build.box("brick", (0, WALL + 0.15, height / 2), (2 * WALL + 0.6, 0.3, height))
    build.box("coping", (0, WALL + 0.15, height + 0.05), (2 * WALL + 0.7, 0.5, 0.12))
    build.box("plaster", (-WALL - 0.15, 0, height / 2), (0.3, 2 * WALL, height))
    build.box("stone", (-WALL - 0.13, 0, 0.25), (0.36, 2 * WALL, 0.5))
    build.box("coping", (-WALL - 0.15, 0, height + 0.05), (0.5, 2 * WALL + 0.2, 0.12), 0)
    build.box("stone", (0.4, WALL, 0.9), (1.5, 0.2, 1.8))
    build.box("door", (0.4, WALL - 0.06, 0.8), (1.1, 0.2, 1.6))
    build.box("white", (0.4, WALL - 0.22, 0.05), (1.6, 0.5, 0.12))
    for y in (-1.7, 1.6):
        build.box("white", (-WALL, y, 1.4), (0.12, 1.1, 1.1))
        build.box("glass", (-WALL + 0.04, y, 1.4), (0.12, 0.86, 0.86))
        build.box("white", (-WALL + 0.07, y, 1.4), (0.12, 0.09, 0.86))
        for side in (-1, 1):
            build.box("door", (-WALL + 0.05, y + side * 0.8, 1.4), (0.12, 0.46, 1.1))
        build.box("oak", (-WALL + 0.2, y, 0.76), (0.34, 1.2, 0.2))
        for i in range(5):
            build.blob(
                ("flower_red", "ivy", "flower_violet")[i % 3], (-WALL + 0.24, y - 0.48 + 0.24 * i, 0.92), 0.17, 0.9, 0.4
            )
    for i in range(13):  # ivy over the corner of the walls
        t = i / 12
        spread = 1.9 * math.sin(math.pi * (0.5 + 0.5 * t))
        z = 0.35 + 1.9 * t
        build.blob("ivy", (-WALL + 0.1 + spread * build.random.uniform(0.2, 1.0), WALL - 0.05, z), 0.38, 0.9, 0.45)
        build.blob("ivy", (-WALL + 0.05, WALL - 0.1 - spread * build.random.uniform(0.1, 0.7), z), 0.34, 0.9, 0.45)
    build.box("timber", (2.2, WALL - 0.5, 0.42), (1.6, 0.5, 0.1))  # a bench, and a pot beside it
    for x in (1.6, 2.8):
        build.box("timber", (x, WALL - 0.5, 0.2), (0.14, 0.44, 0.4))
    _pot(build, -1.0, WALL - 0.6, 0.42, "ivy")
    _pot(build, 3.45, WALL - 0.65, 0.48, "leaves")


def _low_walls(build: Builder) -> None:
    for x in (-2.55, 2.55):
        build.box("stone", (x, -WALL, 0.24), (2 * WALL - 5.1, 0.34, 0.5))
        build.box("white", (x, -WALL, 0.53), (2 * WALL - 5.0, 0.46, 0.09))
    build.box("stone", (WALL, 0, 0.24), (0.34, 2 * WALL, 0.5))
    build.box("white", (WALL, 0, 0.53), (0.46, 2 * WALL + 0.1, 0.09))
    for x in (-1.0, 1.0):
        build.box("stone", (x, -WALL, 0.45), (0.5, 0.5, 0.9))
        build.box("white", (x, -WALL, 0.94), (0.6, 0.6, 0.1))
        _pot(build, x, -WALL, 0.26, "flower_red", 0.98)
    _pot(build, 3.4, -1.6, 0.44, "flower_violet")
    _pot(build, -3.3, -3.3, 0.5, "conifer")
    _pot(build, 3.4, 1.4, 0.4, "leaves")


def _pot(build: Builder, x: float, y: float, size: float, plant: str, z: float = 0.0) -> None:
    build.lathe(
        "terracotta",
        (x, y, z),
        [
            (0, 0),
            (0.6 * size, 0),
            (0.85 * size, 1.1 * size),
            (0.98 * size, 1.1 * size),
            (0.98 * size, 1.35 * size),
            (0.8 * size, 1.35 * size),
            (0.7 * size, 1.2 * size),
            (0, 1.2 * size),
        ],
    )
    if plant == "conifer":
        for level in range(3):
            build.cone(
                "conifer", (x, y, z + size * (1.2 + 1.1 * level)), size * (0.95 - 0.2 * level), 0.05, 1.7 * size, 24
            )
        return
    build.blob(plant if plant != "flower_red" else "ivy", (x, y, z + 1.75 * size), 0.95 * size, 0.8, 0.4, 2.0)
    for i in range(5):
        angle = 1.26 * i
        build.blob(
            plant,
            (x + 0.6 * size * math.cos(angle), y + 0.6 * size * math.sin(angle), z + 2.05 * size),
            0.42 * size,
            0.9,
            0.4,
        )


def _garden(build: Builder) -> None:
    """What is seen over the walls; the side from which the sun comes stays free."""
    for x, y, size in (
        (-6.6, 3.2, 4.6),
        (-7.5, -2.6, 4.2),
        (-3.2, 7.2, 4.8),
        (2.8, 7.6, 4.4),
        (7.6, 4.2, 3.4),
        (-5.5, -7.5, 3.2),
    ):
        build.round_tree((x, y, -0.06), size)
    for x, y, height in ((0.2, 8.2, 4.2), (6.2, 8.0, 4.6), (-8.5, 6.5, 4.8), (9.5, 1.0, 2.6), (-1.5, -10.0, 2.4)):
        build.conifer((x, y, -0.06), height)
    for i in range(16):  # wooded hills all around
        angle = 2 * math.pi * i / 16
        distance = 34 + 6 * math.sin(5 * angle)
        build.blob(
            "conifer" if i % 3 else "leaves",
            (distance * math.cos(angle), distance * math.sin(angle), -1.5),
            10 + 2.5 * math.cos(3.7 * i),
            0.34,
            0.3,
            2.2,
        )


def _table(build: Builder) -> None:
    """A round table under a cloth whose hem hangs in folds."""
    build.cone("oak", (0, 0, 0), 0.34, 0.3, 0.06, 32)
    build.cone("oak", (0, 0, 0.05), 0.11, 0.11, TABLE_TOP - 0.08, 24)
    mesh = bmesh.new()
    segments, radius, drop = 192, 0.86, 0.27
    azimuths = [2 * math.pi * s / segments for s in range(segments)]
    rows = [[(radius * ring / 12, 0.0) for _ in azimuths] for ring in range(1, 13)]
    for t in (level / 8 for level in range(1, 9)):
        rows.append([(radius + 0.035 * t + 0.045 * t * math.sin(13 * azimuth), -drop * t**1.2) for azimuth in azimuths])
    grid = [
        [mesh.verts.new((r * math.cos(azimuth), r * math.sin(azimuth), z)) for azimuth, (r, z) in zip(azimuths, row)]
        for row in rows
    ]
    middle = mesh.verts.new((0, 0, 0))
    for s in range(segments):
        n = (s + 1) % segments
        mesh.faces.new((middle, grid[0][s], grid[0][n]))
        for inner, outer in zip(grid, grid[1:]):
            mesh.faces.new((inner[s], outer[s], outer[n], inner[n]))
    build.part("cloth", mesh, (0, 0, TABLE_TOP), math.radians(20), smooth=True)


def _laid_on_the_table(build: Builder) -> None:
    top = TABLE_TOP
    build.lathe(
        "glaze",
        (0.10, 0.34, top),
        [
            (0, 0),
            (0.12, 0),
            (0.19, 0.12),
            (0.185, 0.22),
            (0.11, 0.36),
            (0.10, 0.42),
            (0.135, 0.50),
            (0.11, 0.50),
            (0.08, 0.42),
            (0, 0.40),
        ],
    )
    build.lathe("white", (0.10, 0.34, top), [(0.19, 0.115), (0.196, 0.13), (0.193, 0.19), (0.186, 0.205)])
    for i, (x, y, z, r) in enumerate(
        (
            (0, 0, 0.45, 0.15),
            (0.11, 0.05, 0.58, 0.11),
            (-0.09, 0.07, 0.60, 0.11),
            (0.01, -0.11, 0.58, 0.11),
            (0.0, 0.02, 0.68, 0.10),
        )
    ):
        build.blob(
            "ivy" if i == 0 else ("flower_red", "flower_violet")[i % 2],
            (0.10 + x, 0.34 + y, top + z + 0.08),
            r,
            0.95,
            0.4,
        )
    build.lathe(
        "terracotta",
        (0.42, -0.16, top),
        [(0, 0), (0.13, 0), (0.15, 0.03), (0.25, 0.13), (0.27, 0.17), (0.23, 0.17), (0.15, 0.07), (0, 0.06)],
    )
    for x, y, z, surface in (
        (-0.09, -0.06, 0.16, "orange"),
        (0.09, -0.07, 0.16, "orange"),
        (0.0, 0.1, 0.16, "lemon"),
        (0.0, -0.01, 0.28, "orange"),
        (-0.12, 0.08, 0.17, "lemon"),
        (0.12, 0.07, 0.17, "orange"),
    ):
        build.blob(surface, (0.42 + x, -0.16 + y, top + z), 0.098, 0.97, 0.06)
    build.blob("melon", (-0.42, 0.24, top + 0.21), 0.235, 0.92, 0.05)
    for z, size, turn, surface in (
        (0.04, (0.46, 0.33, 0.08), 24, "book_blue"),
        (0.115, (0.42, 0.30, 0.07), 8, "book_ochre"),
        (0.18, (0.36, 0.27, 0.06), 40, "book_green"),
    ):
        _book(build, Vector((-0.36, -0.32, top + z)), size, math.radians(turn), surface)
    build.lathe(
        "white",
        (-0.34, -0.32, top + 0.21),
        [(0, 0), (0.085, 0), (0.10, 0.03), (0.105, 0.16), (0.09, 0.16), (0.085, 0.05), (0, 0.04)],
    )
    build.box("oak", (0.08, -0.52, top + 0.02), (0.52, 0.27, 0.04), math.radians(-12))
    build.part("bread", _loaf(), (0.06, -0.52, top + 0.11), math.radians(-16), smooth=True)
    build.lathe(
        "bottle",
        (-0.14, 0.02, top),
        [(0, 0), (0.085, 0), (0.09, 0.02), (0.09, 0.30), (0.04, 0.40), (0.04, 0.50), (0, 0.50)],
    )
    build.lathe("label", (-0.14, 0.02, top), [(0.09, 0.09), (0.094, 0.10), (0.094, 0.23), (0.09, 0.24)])
    build.blob("lemon", (0.16, -0.02, top + 0.07), 0.075, 0.9, 0.08)


def _book(build: Builder, center: Vector, size, turn: float, surface: str) -> None:
    width, depth, height = size
    for z in (-1, 1):
        build.box(surface, center + Vector((0, 0, z * (height / 2 - 0.009))), (width, depth, 0.018), turn)
    build.box("pages", center, (width - 0.04, depth - 0.04, height - 0.03), turn)
    spine = Matrix.Rotation(turn, 4, "Z") @ Vector((0, -depth / 2 + 0.012, 0))
    build.box(surface, center + spine, (width, 0.024, height), turn)


def _loaf() -> bmesh.types.BMesh:
    """A loaf with three cuts across its back."""
    mesh = bmesh.new()
    bmesh.ops.create_uvsphere(mesh, u_segments=48, v_segments=32, radius=1.0)
    for vertex in mesh.verts:
        x, y, z = vertex.co
        cut = 0.16 * max(0.0, z) * sum(math.exp(-(((x + 0.35 * y - c) / 0.08) ** 2)) for c in (-0.45, 0.0, 0.45))
        vertex.co = (0.23 * x, 0.115 * y, 0.105 * (z - cut) * (0.7 if z < 0 else 1.0))
    return mesh


def _stool(build: Builder, x: float, y: float, cushion: str) -> None:
    build.cone("oak", (x, y, 0.36), 0.25, 0.27, 0.06, 32)
    for i in range(4):
        angle = math.pi / 4 + math.pi / 2 * i
        build.cone("oak", (x + 0.19 * math.cos(angle), y + 0.19 * math.sin(angle), 0), 0.045, 0.045, 0.37, 12)
    build.lathe(cushion, (x, y, 0.42), [(0, 0), (0.2, 0), (0.25, 0.04), (0.2, 0.085), (0, 0.1)])


def shots() -> list[Shot]:
    """40 training shots on three rings and 8 held-out ones between them."""
    rings = ((15, 11.0, 3.05), (14, 27.0, 2.95), (11, 46.0, 2.85))  # shots, elevation, distance
    made = []
    for ring, (count, elevation, distance) in enumerate(rings):
        for i in range(count):
            wave = 3.0 * math.sin(2.1 * i + ring)
            made.append(
                Shot(
                    f"train_{len(made):03d}",
                    look_from(
                        LOOK_AT,
                        360 * (i + 0.4 * ring) / count + 5,
                        elevation + wave,
                        distance + 0.1 * math.cos(1.9 * i),
                    ),
                    False,
                )
            )
    for i in range(8):
        made.append(Shot(f"test_{i:03d}", look_from(LOOK_AT, 45 * i + 26, (16.0, 36.0, 22.0, 41.0)[i % 4], 2.95), True))
    return made


COURTYARD = CapturedScene("courtyard", SURFACES, build_courtyard, DAYLIGHT, shots, lens_mm=40.0)
