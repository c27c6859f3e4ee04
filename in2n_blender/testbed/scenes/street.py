"""A village street with a market: photographed from cameras that move forward along it, two walking and one above."""

from __future__ import annotations

import math
from dataclasses import dataclass

import bpy  # noqa: F401  before bmesh and mathutils, which the bpy wheel holds inside itself
from mathutils import Matrix, Vector

from .builder import Bricks, Builder, Stripes, srgb, two_tone
from .captured_scene import CapturedScene, Shot, look_at
from .lighting import Lighting

FRONT = 3.3  # distance of the house fronts from the middle of the street

SLATE_TONES = ((0.6, 0.6, 0.62), (1.25, 1.22, 1.2))
WALL_STONES = Bricks(
    0.7, 0.32, 0.035, True, tones=((0.72, 0.72, 0.72), (1.18, 1.15, 1.12)), mortar_tone=(0.5, 0.48, 0.46)
)

SURFACES = {
    "cobbles": two_tone(
        "8d7f6c",
        "b8a78c",
        scale=0.5,
        pattern=Bricks(
            0.42, 0.34, 0.035, tones=((0.62, 0.60, 0.60), (1.25, 1.2, 1.12)), mortar_tone=(0.46, 0.43, 0.40)
        ),
    ),
    "pavement": two_tone(
        "a89c88",
        "c9bda6",
        scale=0.9,
        pattern=Bricks(
            0.8, 0.8, 0.03, offset=0.0, tones=((0.85, 0.85, 0.85), (1.1, 1.08, 1.05)), mortar_tone=(0.55, 0.52, 0.5)
        ),
    ),
    "meadow": two_tone("5a8136", "8fa850", scale=0.35),
    "hill": two_tone("41683c", "7c9a54", scale=0.5),
    "ochre": two_tone("d39f4e", "e6bd78", scale=0.8),
    "rose": two_tone("c67a66", "dd9f8a", scale=0.8),
    "blue": two_tone("6f9cb4", "9dc0cf", scale=0.8),
    "cream": two_tone("dccfae", "efe6cc", scale=0.8),
    "sage": two_tone("8da37c", "b4c4a0", scale=0.8),
    "brick": two_tone(
        "8d4632",
        "b4684c",
        scale=0.8,
        pattern=Bricks(
            0.6, 0.26, 0.035, True, tones=((0.72, 0.7, 0.68), (1.22, 1.18, 1.15)), mortar_tone=(1.5, 2.2, 2.6)
        ),
    ),
    "stone": two_tone("8a8378", "b5ab9a", scale=1.2, pattern=WALL_STONES),
    "pale_stone": two_tone("b9ad95", "d8cdb5", scale=1.0, pattern=WALL_STONES),
    "red_tiles": two_tone("96371d", "cd6536", scale=0.8, pattern=Bricks(0.45, 0.34, 0.03)),
    "brown_tiles": two_tone("70422c", "a06a48", scale=0.8, pattern=Bricks(0.45, 0.34, 0.03)),
    "slate": two_tone("4a5666", "73808f", scale=0.8, pattern=Bricks(0.45, 0.34, 0.03, tones=SLATE_TONES)),
    "spire": two_tone("3f6b62", "6b9a8c", scale=1.0),
    "timber": two_tone("52331f", "75492c", scale=1.5),
    "oak": two_tone("86592f", "b07f4c", scale=1.8),
    "white": two_tone("dcd6c8", "efeadf", scale=1.5),
    "glass": two_tone("2c3f54", "4d6982", scale=0.5, roughness=0.5),
    "green_paint": two_tone("1f5a45", "35785e", scale=1.5),
    "blue_paint": two_tone("23486f", "386a98", scale=1.5),
    "red_paint": two_tone("8f2a26", "b5453c", scale=1.5),
    "iron": two_tone("2a2d30", "44484c", scale=2.0, roughness=0.6),
    "lamp": two_tone("ecdfae", "f7efcf", scale=2.0),
    "water": two_tone("3f86a8", "79b8cc", scale=1.4, roughness=0.4),
    "leaves": two_tone("4e7c32", "8eb348", scale=0.6),
    "conifer": two_tone("224c2e", "3d7446", scale=0.8),
    "bark": two_tone("553822", "7a5535", scale=2.0),
    "flower_red": two_tone("b3202c", "e2485a", scale=2.0),
    "flower_yellow": two_tone("d9a91c", "f4d35a", scale=2.0),
    "awning_red": two_tone("ece6da", "f7f3ea", scale=1.0, pattern=Stripes(srgb("b82a30"), 0.28)),
    "awning_blue": two_tone("ece6da", "f7f3ea", scale=1.0, pattern=Stripes(srgb("2a5f96"), 0.28)),
    "orange": two_tone("dd780f", "f59c28", scale=1.5, roughness=0.6),
    "apple": two_tone("a81f1f", "d8483a", scale=1.5, roughness=0.6),
    "cabbage": two_tone("5f9440", "a5cc70", scale=2.0),
    "barrel": two_tone("7a4b25", "a46d38", scale=1.5, pattern=Bricks(0.16, 2.0, 0.015, True)),
}

DAYLIGHT = Lighting(
    sun_azimuth=math.radians(-64),
    sun_elevation=math.radians(44),
    sun_strength=2.7,
    sun_colour=(1.0, 0.92, 0.80),
    sun_angle=math.radians(5),
    horizon=srgb("c2def4"),
    zenith=srgb("4f90da"),
    sky_strength=0.85,
    clouds=0.6,
)


@dataclass(frozen=True)
class House:
    """A house at a side of the street (-1 left, 1 right), its front's middle at y; lengths in scene units."""

    side: int
    y: float
    width: float
    depth: float
    floors: int
    wall: str
    roof: str
    paint: str
    pitch: float = 42.0
    gable_to_street: bool = False


HOUSES = (
    House(-1, -5.2, 4.2, 3.6, 2, "ochre", "red_tiles", "green_paint"),
    House(-1, -1.0, 3.6, 4.0, 2, "brick", "slate", "white", 48, True),
    House(-1, 3.1, 4.0, 3.4, 2, "blue", "brown_tiles", "red_paint"),
    House(-1, 9.6, 4.2, 3.6, 2, "cream", "red_tiles", "blue_paint"),
    House(1, -4.6, 3.8, 3.6, 1, "cream", "brown_tiles", "blue_paint", 46),
    House(1, -0.4, 3.8, 3.6, 2, "rose", "slate", "green_paint", 42),
    House(1, 4.3, 3.8, 4.0, 1, "sage", "red_tiles", "white", 50, True),
    House(1, 9.0, 4.4, 3.6, 2, "ochre", "brown_tiles", "red_paint"),
)
STOREY = 1.55


def build_street(build: Builder) -> None:
    """The houses, the church at its end, and what stands in between."""
    build.disc("meadow", (0, 0, -0.02), 90.0)
    build.box("cobbles", (0, 4, -0.04), (2 * FRONT + 0.2, 36, 0.1))
    for side in (-1, 1):
        build.box("pavement", (side * (FRONT - 0.45), 2, 0.02), (0.9, 24, 0.14))
    for house in HOUSES:
        _house(build, house)
    _church(build, Vector((1.2, 17.5, 0)))
    _fountain(build, Vector((-0.35, 8.0, 0)))
    _stall(build, Vector((-2.05, 2.3, 0)), 90, "awning_red", ("orange", "apple", "cabbage"))
    _stall(build, Vector((1.95, 5.0, 0)), -90, "awning_blue", ("cabbage", "flower_yellow", "apple"))
    _street_furniture(build)
    _green(build)


def _house(build: Builder, house: House) -> None:
    turn = math.radians(-90 * house.side)
    spin = Matrix.Rotation(turn, 4, "Z")
    middle = Vector((house.side * (FRONT + house.depth / 2), house.y, 0))

    def at(x, y, z):  # x along the front, y inwards from it
        return middle + spin @ Vector((x, y - house.depth / 2, z))

    def front(surface, x, z, width, height, out=0.05):
        build.box(surface, at(x, -out / 2 + 0.04, z), (width, out + 0.08, height), turn)

    top = 0.3 + STOREY * house.floors
    build.box("stone", at(0, house.depth / 2, 0.15), (house.width + 0.1, house.depth + 0.1, 0.4), turn)
    build.box(house.wall, at(0, house.depth / 2, (top + 0.3) / 2), (house.width, house.depth, top - 0.3), turn)
    ridge = turn + math.pi / 2 if house.gable_to_street else turn
    length, across = (house.depth, house.width) if house.gable_to_street else (house.width, house.depth)
    build.gable(house.wall, at(0, house.depth / 2, top), length, across, math.radians(house.pitch), ridge)
    build.gable_roof(
        house.roof,
        at(0, house.depth / 2, top),
        length,
        across,
        math.radians(house.pitch),
        ridge,
        eaves=0.28,
        overhang=0.2,
        thickness=0.14,
    )
    rise = across / 2 * math.tan(math.radians(house.pitch))
    build.box("brick", at(house.width * 0.27, house.depth * 0.55, top + 0.75 * rise + 0.2), (0.5, 0.5, 1.3), turn)
    front(house.paint if house.paint != "white" else "oak", -house.width * 0.3, 0.85, 0.75, 1.3, 0.06)
    front("white", -house.width * 0.3, 1.56, 0.95, 0.14, 0.12)
    front("stone", -house.width * 0.3, 0.14, 1.1, 0.2, 0.4)
    for floor in range(house.floors):
        z = 1.2 + STOREY * floor
        for i, x in enumerate((-0.3, 0.05, 0.33) if house.width > 3.7 else (-0.28, 0.22)):
            if floor or i:
                _window(build, front, at, turn, house, x * house.width, z, boxes=floor == 1)
    if house.gable_to_street:
        front("white", 0, top + 0.32 * rise, 0.75, 0.8, 0.06)
        front("glass", 0, top + 0.32 * rise, 0.55, 0.6, 0.09)


def _window(build: Builder, front, at, turn: float, house: House, x: float, z: float, boxes: bool) -> None:
    front("white", x, z, 0.72, 0.92, 0.05)
    front("glass", x, z, 0.54, 0.74, 0.08)
    front("white", x, z, 0.08, 0.74, 0.1)
    for side in (-1, 1):
        front(house.paint if house.paint != "white" else "green_paint", x + side * 0.53, z, 0.3, 0.92, 0.07)
    if boxes:
        build.box("oak", at(x, -0.16, z - 0.52), (0.8, 0.26, 0.16), turn)
        for i in range(4):
            build.blob(
                ("flower_red", "leaves", "flower_yellow", "flower_red")[i],
                at(x - 0.3 + 0.2 * i, -0.18, z - 0.4),
                0.15,
                0.9,
                0.4,
                subdivisions=3,
            )
    else:
        front("stone", x, z - 0.5, 0.86, 0.1, 0.14)


def _church(build: Builder, base: Vector) -> None:
    build.box("pale_stone", base + Vector((0, 0, 2.9)), (2.5, 2.5, 5.8))
    build.box("stone", base + Vector((0, 0, 0.3)), (2.7, 2.7, 0.8))
    for z in (3.7, 5.85):
        build.box("white", base + Vector((0, 0, z)), (2.75, 2.75, 0.2))
    build.cone("spire", base + Vector((0, 0, 5.95)), 1.85, 0.02, 3.2, 4, math.pi / 4, smooth=False)
    build.box("oak", base + Vector((0, -1.22, 1.15)), (1.0, 0.14, 1.7))
    build.box("white", base + Vector((0, -1.2, 2.1)), (1.3, 0.16, 0.25))
    for x in (-0.55, 0.55):
        build.box("glass", base + Vector((x, -1.22, 4.8)), (0.55, 0.12, 1.2))
    build.cone("white", base + Vector((0, -1.22, 2.95)), 0.5, 0.5, 0.12, 32, tilt=Matrix.Rotation(math.pi / 2, 4, "X"))
    build.cone(
        "blue_paint", base + Vector((0, -1.30, 2.95)), 0.4, 0.4, 0.08, 32, tilt=Matrix.Rotation(math.pi / 2, 4, "X")
    )
    nave = base + Vector((0, 4.2, 0))
    build.box("pale_stone", nave + Vector((0, 0, 1.6)), (4.6, 6.0, 3.2))
    build.gable("pale_stone", nave + Vector((0, 0, 3.2)), 6.0, 4.6, math.radians(48), math.pi / 2)
    build.gable_roof(
        "red_tiles",
        nave + Vector((0, 0, 3.2)),
        6.0,
        4.6,
        math.radians(48),
        math.pi / 2,
        eaves=0.3,
        overhang=0.15,
        thickness=0.16,
    )


def _fountain(build: Builder, base: Vector) -> None:
    build.lathe(
        "pale_stone",
        base,
        [
            (0, 0.1),
            (1.25, 0.1),
            (1.25, 0.0),
            (1.25, 0.12),
            (1.05, 0.14),
            (1.05, 0.62),
            (1.12, 0.66),
            (1.12, 0.74),
            (0.9, 0.74),
            (0.88, 0.55),
            (0, 0.55),
        ],
    )
    build.disc("water", base + Vector((0, 0, 0.64)), 0.9)
    build.lathe(
        "pale_stone", base, [(0.3, 0.55), (0.2, 0.8), (0.16, 1.2), (0.5, 1.42), (0.56, 1.5), (0.48, 1.5), (0, 1.42)]
    )
    build.disc("water", base + Vector((0, 0, 1.47)), 0.47)
    build.lathe("pale_stone", base, [(0.14, 1.4), (0.1, 1.75), (0.2, 1.85), (0.22, 1.95), (0, 2.1)])


def _stall(build: Builder, base: Vector, turn_degrees: float, awning: str, goods: tuple[str, ...]) -> None:
    """A market stall, its counter towards local -y, under a slanted striped awning."""
    turn = math.radians(turn_degrees)
    spin = Matrix.Rotation(turn, 4, "Z")

    def at(x, y, z):
        return base + spin @ Vector((x, y, z))

    build.box("oak", at(0, 0, 0.38), (2.1, 0.8, 0.72), turn)
    build.box("timber", at(0, 0, 0.77), (2.25, 0.95, 0.07), turn)
    for x in (-1.05, 1.05):
        for y, height in ((-0.45, 1.75), (0.45, 2.1)):
            build.box("timber", at(x, y, height / 2), (0.1, 0.1, height), turn)
    build.box(awning, at(0, -0.1, 1.95), (2.5, 1.45, 0.06), turn, Matrix.Rotation(math.radians(20), 4, "X"))
    build.box(awning, at(0, -0.79, 1.6), (2.5, 0.05, 0.25), turn)
    for i, kind in enumerate(goods):
        x = -0.7 + 0.7 * i
        build.box("barrel", at(x, -0.1, 0.87), (0.6, 0.62, 0.14), turn)
        for j in range(9):
            position = at(x - 0.18 + 0.18 * (j % 3), -0.28 + 0.18 * (j // 3), 0.98 + build.random.uniform(0, 0.03))
            build.blob(kind, position, 0.12 if kind != "cabbage" else 0.13, 0.95, 0.12, subdivisions=3)


def _street_furniture(build: Builder) -> None:
    for x, y in ((-2.45, -3.0), (2.45, 1.8), (-2.45, 6.4)):
        build.cone("iron", (x, y, 0), 0.16, 0.12, 0.35, 16)
        build.cone("iron", (x, y, 0.3), 0.065, 0.065, 2.1, 12)
        build.box("lamp", (x, y, 2.55), (0.3, 0.3, 0.36))
        build.cone("iron", (x, y, 2.72), 0.3, 0.05, 0.22, 4, math.pi / 4, smooth=False)
    for x, y, size in (
        (2.6, -6.3, 0.5),
        (2.6, -2.6, 0.42),
        (-2.65, -6.9, 0.45),
        (-2.6, 5.3, 0.45),
        (2.6, 6.9, 0.45),
        (2.6, 3.1, 0.4),
        (-2.65, -3.6, 0.4),
    ):
        build.lathe(
            "red_paint" if x > 0 else "blue_paint",
            (x, y, 0.08),
            [
                (0, 0),
                (0.6 * size, 0),
                (0.9 * size, 0.9 * size),
                (0.95 * size, size),
                (0.75 * size, size),
                (0, 0.85 * size),
            ],
        )
        build.blob("leaves", (x, y, 0.08 + 1.35 * size), 0.85 * size, 0.9, 0.4)
        for i in range(4):
            build.blob(
                "flower_red" if y < 3 else "flower_yellow",
                (x + 0.5 * size * math.cos(1.6 * i), y + 0.5 * size * math.sin(1.6 * i), 0.08 + 1.75 * size),
                0.4 * size,
                0.9,
                0.35,
                subdivisions=3,
            )
    for x, y in ((2.35, -1.3), (2.5, -0.72), (-1.75, 0.55)):
        build.lathe(
            "barrel",
            (x, y, 0.05),
            [
                (0, 0),
                (0.24, 0),
                (0.31, 0.2),
                (0.33, 0.36),
                (0.31, 0.52),
                (0.25, 0.72),
                (0.22, 0.72),
                (0.21, 0.66),
                (0, 0.66),
            ],
        )
    for y in (-5.0, 9.6):  # benches along the right pavement
        build.box("oak", (2.75, y, 0.5), (0.5, 1.7, 0.09))
        build.box("oak", (2.97, y, 0.82), (0.09, 1.7, 0.4))
        for end in (-0.7, 0.7):
            build.box("iron", (2.75, y + end, 0.28), (0.42, 0.12, 0.4))
    _cart(build, Vector((0.7, 2.6, 0)), math.radians(25))


def _cart(build: Builder, base: Vector, turn: float) -> None:
    spin = Matrix.Rotation(turn, 4, "Z")
    build.box("oak", base + Vector((0, 0, 0.52)), (0.9, 1.3, 0.12), turn)
    for x, y, size in (
        (-0.42, 0, (0.08, 1.3, 0.3)),
        (0.42, 0, (0.08, 1.3, 0.3)),
        (0, -0.62, (0.9, 0.08, 0.3)),
        (0, 0.62, (0.9, 0.08, 0.3)),
    ):
        build.box("green_paint", base + spin @ Vector((x, y, 0.68)), size, turn)
    for side in (-1, 1):
        wheel = Matrix.Rotation(math.pi / 2, 4, "Y")
        build.cone("timber", base + spin @ Vector((side * 0.55 - 0.05, 0, 0.36)), 0.36, 0.36, 0.1, 32, turn, tilt=wheel)
        build.cone("oak", base + spin @ Vector((side * 0.55 - 0.07, 0, 0.36)), 0.12, 0.12, 0.14, 16, turn, tilt=wheel)
    for i in range(7):
        position = base + spin @ Vector(
            (0.24 * math.cos(2.4 * i) * (i > 0), 0.42 * math.sin(2.4 * i) * (i > 0), 0.8 + 0.12 * (i == 0))
        )
        build.blob("orange" if i % 2 else "flower_yellow", position, 0.23, 0.8, 0.12)


def _green(build: Builder) -> None:
    for x, y, size in (
        (-4.6, 6.2, 4.2),
        (4.8, 6.7, 3.4),
        (5.2, 2.0, 4.0),
        (-3.6, 13.6, 4.6),
        (4.8, 13.2, 4.4),
        (-7.5, 12.0, 5.0),
        (8.6, 12.5, 5.0),
        (5.0, -7.6, 3.4),
        (-4.9, -8.6, 3.8),
    ):
        build.round_tree((x, y, 0), size)
    for x, y, height in (
        (-2.6, 20.5, 5.0),
        (-4.8, 18.5, 4.2),
        (6.6, 19.0, 5.2),
        (-8.5, 5.5, 5.5),
        (9.0, 7.0, 5.5),
        (9.4, 1.0, 5.5),
    ):
        build.conifer((x, y, 0), height)
    for i in range(13):
        angle = math.radians(-10 + 200 * i / 12)
        distance = 52 + 8 * math.sin(2.3 * i)
        build.blob(
            "hill" if i % 2 else "conifer",
            (distance * math.cos(angle), distance * math.sin(angle), -2),
            15 + 4 * math.cos(1.9 * i),
            0.42,
            0.25,
            2.0,
        )


def shots() -> list[Shot]:
    """Three passes of 16 along the street: left, right and above the middle.

    The held-out shots have training ones before and behind.
    """
    # x and height of the camera, x of what it looks at, which are held out
    passes = ((-1.25, 1.55, 0.55, (3, 9, 14)), (1.3, 1.95, -0.5, (1, 7, 13)), (0.05, 3.1, 0.0, (5, 11)))
    made, counts = [], {False: 0, True: 0}
    for number, (x, height, aim, apart) in enumerate(passes):
        for i in range(16):
            t = i / 15
            sway = 0.35 * math.sin(2.2 * i + 2 * number)
            position = Vector((x + 0.6 * sway, -9.6 + 7.8 * t, height + 0.25 * math.cos(1.7 * i + number)))
            target = position + Vector((aim - x + 1.6 * sway, 6.0, -0.35 - 0.3 * (height - 1.5)))
            held_out = i in apart
            name = f"{'test' if held_out else 'train'}_{counts[held_out]:03d}"
            counts[held_out] += 1
            made.append(Shot(name, look_at(position, target), held_out))
    return sorted(made, key=lambda shot: shot.held_out)


STREET = CapturedScene("street", SURFACES, build_street, DAYLIGHT, shots, lens_mm=26.0)
