"""Things that stand in random places: people, vehicles, plants, furniture, the fronts of houses.

Each function adds one thing to a `SceneBuilder`, its foot at the origin of the matrix `at` (4, 4).
"""

import math

from mathutils import Matrix

from .random_objects import SceneBuilder

UPRIGHT = Matrix.Rotation(math.pi / 2, 4, "X")


def moved(x: float, y: float, z: float, *size: float) -> Matrix:
    """A translation, and a scale where a size is given.

    Args:
        x: To where, in scene units.
        y: The same.
        z: The same.
        *size: None, or three factors along x, y and z.

    Returns:
        (4, 4).
    """
    return Matrix.Translation((x, y, z)) @ Matrix.Diagonal((*(size or (1, 1, 1)), 1))


def add_person(build: SceneBuilder, at: Matrix) -> None:
    """Somebody, 1.1 units tall, in clothes of any colour, with a hat or hair."""
    rng, skin = build.rng, build.natural("skin")
    trousers, shirt = build.natural("cloth"), build.natural("cloth")
    stride = rng.uniform(-0.4, 0.4)
    for side in (-1, 1):
        leg = at @ moved(side * 0.08, 0, 0.52) @ Matrix.Rotation(side * stride, 4, "X")
        build.add_primitive("cylinder", trousers, leg @ moved(0, 0, -0.25, 0.12, 0.12, 0.5))
        arm = at @ moved(side * 0.18, 0, 0.85) @ Matrix.Rotation(side * rng.uniform(0.1, 1.2), 4, "Y")
        build.add_primitive("cylinder", shirt, arm @ moved(0, 0, -0.2, 0.08, 0.08, 0.42))
    build.add_primitive("sphere", shirt, at @ moved(0, 0, 0.7, 0.36, 0.24, 0.5))
    build.add_primitive("sphere", skin, at @ moved(0, 0, 1.03, 0.2, 0.22, 0.25))
    hair = build.natural(rng.choice(("wood", "cloth")))
    build.add_primitive(rng.choice(("sphere", "cone")), hair, at @ moved(0, 0.02, 1.1, 0.24, 0.25, 0.18))


def add_vehicle(build: SceneBuilder, at: Matrix) -> None:
    """A car, a van or a lorry along x: a body, a cabin with panes, four wheels."""
    rng, paint = build.rng, build.natural("cloth")
    dark = build.plain("Rubber", (0.03, 0.03, 0.035), 0.8)
    length, height = rng.uniform(1.2, 1.8), rng.uniform(0.3, 0.6)
    build.add_primitive("cube", paint, at @ moved(0, 0, 0.18 + height / 2, length, 0.65, height))
    back, cabin = rng.uniform(-0.2, 0.2) * length, rng.uniform(0.45, 0.7) * length
    top = 0.18 + height + rng.uniform(0.2, 0.4)
    panes = build.plain("Panes", (0.06, 0.09, 0.12), 0.2)
    build.add_primitive("cube", panes, at @ moved(back, 0, (0.18 + height + top) / 2, cabin, 0.58, top - 0.18 - height))
    build.add_primitive("cube", paint, at @ moved(back, 0, top, cabin * 0.98, 0.6, 0.06))
    for x in (-0.32, 0.32):
        for y in (-0.32, 0.32):
            build.add_primitive(
                "cylinder", dark, at @ moved(x * length, y, 0.17) @ UPRIGHT @ moved(0, 0, 0, 0.34, 0.34, 0.12)
            )


def add_cart(build: SceneBuilder, at: Matrix) -> None:
    """A handcart with two wheels and goods in heaps."""
    rng, wood = build.rng, build.natural("wood")
    build.add_primitive("cube", wood, at @ moved(0, 0, 0.42, 1.0, 0.6, 0.06))
    for y in (-0.3, 0.3):
        build.add_primitive("cube", wood, at @ moved(0, y, 0.52, 1.0, 0.04, 0.2))
        build.add_primitive(
            "cylinder", wood, at @ moved(0.1, y * 1.15, 0.27) @ UPRIGHT @ moved(0, 0, 0, 0.54, 0.54, 0.05)
        )
    goods = [build.natural("fruit") for _ in range(2)]
    for _ in range(rng.randint(0, 14)):
        size = rng.uniform(0.1, 0.2)
        place = moved(rng.uniform(-0.4, 0.4), rng.uniform(-0.2, 0.2), 0.48 + size * 0.4, size, size, size)
        build.add_primitive("sphere", rng.choice(goods), at @ place)


def add_lamp(build: SceneBuilder, at: Matrix) -> None:
    """A street lamp, 1.9 units tall."""
    iron = build.plain("Iron", (0.05, 0.06, 0.06), 0.6)
    build.add_primitive("cylinder", iron, at @ moved(0, 0, 0.8, 0.07, 0.07, 1.6))
    build.add_primitive("cube", build.plain("Lamp", (0.7, 0.65, 0.5), 0.4), at @ moved(0, 0, 1.7, 0.16, 0.16, 0.22))
    build.add_primitive("cone", iron, at @ moved(0, 0, 1.87, 0.28, 0.28, 0.14))


def add_barrel(build: SceneBuilder, at: Matrix) -> None:
    """A barrel, or a crate; sometimes full of fruit."""
    rng, wood = build.rng, build.natural("wood")
    size = rng.uniform(0.35, 0.6)
    build.add_primitive(
        rng.choice(("cylinder", "cube")), wood, at @ moved(0, 0, size / 2, size * 0.8, size * 0.8, size)
    )
    if rng.random() < 0.5:
        fruit = build.natural("fruit")
        for _ in range(rng.randint(3, 9)):
            x, y = rng.uniform(-0.25, 0.25) * size, rng.uniform(-0.25, 0.25) * size
            build.add_primitive("sphere", fruit, at @ moved(x, y, size, *(rng.uniform(0.1, 0.18),) * 3))


def add_plant(build: SceneBuilder, at: Matrix) -> None:
    """A pot with a bush, a little fir or flowers."""
    rng = build.rng
    size = rng.uniform(0.25, 0.5)
    build.add_primitive(
        "cylinder", build.natural("pot"), at @ moved(0, 0, size * 0.45, size * 0.8, size * 0.8, size * 0.9)
    )
    build.add_primitive(
        "cylinder", build.natural("pot"), at @ moved(0, 0, size * 0.9, size * 0.95, size * 0.95, size * 0.16)
    )
    if rng.random() < 0.3:
        build.add_fir(at @ moved(0, 0, size * 0.8) @ Matrix.Scale(size * 1.6, 4))
        return
    leaves = build.material(green=True)
    flowers = build.natural("fruit")
    for number in range(rng.randint(2, 6)):
        x, y, z = (rng.uniform(-0.3, 0.3) * size for _ in range(3))
        material = flowers if number % 2 and rng.random() < 0.6 else leaves
        kind = rng.choice(("rock", "sphere"))
        build.add_primitive(kind, material, at @ moved(x, y, size * 1.3 + z, *(size * rng.uniform(0.5, 1.0),) * 3))


def add_stool(build: SceneBuilder, at: Matrix) -> None:
    """A stool with a cushion, or a chair that looks along x."""
    rng, wood = build.rng, build.natural("wood")
    height = rng.uniform(0.4, 0.55)
    for x in (-0.14, 0.14):
        for y in (-0.14, 0.14):
            build.add_primitive("cylinder", wood, at @ moved(x, y, height / 2, 0.05, 0.05, height))
    seat = rng.choice(("cylinder", "sphere", "cube"))
    build.add_primitive(seat, build.natural("cloth"), at @ moved(0, 0, height, 0.45, 0.45, rng.uniform(0.06, 0.16)))
    if rng.random() < 0.4:
        build.add_primitive("cube", wood, at @ moved(0.2, 0, height + 0.25, 0.05, 0.4, 0.5))


def add_bench(build: SceneBuilder, at: Matrix) -> None:
    """A bench along x, with a back."""
    wood = build.natural("wood")
    build.add_primitive("cube", wood, at @ moved(0, 0, 0.38, 1.2, 0.4, 0.06))
    build.add_primitive("cube", wood, at @ moved(0, 0.2, 0.62, 1.2, 0.05, 0.3))
    for x in (-0.5, 0.5):
        build.add_primitive("cube", wood, at @ moved(x, 0, 0.19, 0.07, 0.36, 0.38))


def add_parasol(build: SceneBuilder, at: Matrix) -> None:
    """A parasol on a pole."""
    height, cloth = build.rng.uniform(1.1, 1.7), build.natural("cloth")
    build.add_primitive("cylinder", build.natural("wood"), at @ moved(0, 0, height / 2, 0.05, 0.05, height))
    build.add_primitive("cone", cloth, at @ moved(0, 0, height, 1.3, 1.3, build.rng.uniform(0.2, 0.5)))


def add_statue(build: SceneBuilder, at: Matrix) -> None:
    """A figure on a pedestal."""
    rng, stone = build.rng, build.natural("stone")
    build.add_primitive("cube", stone, at @ moved(0, 0, 0.3, 0.5, 0.5, 0.6))
    if rng.random() < 0.5:
        build.add_primitive(
            "suzanne", build.natural(rng.choice(("stone", "wood"))), at @ moved(0, 0, 0.85, 0.8, 0.8, 0.8)
        )
    else:
        add_person(build, at @ moved(0, 0, 0.6, 0.8, 0.8, 0.8))


def add_window(build: SceneBuilder, at: Matrix, width: float, height: float) -> None:
    """A window in a wall whose front looks along -y: panes, a frame, a sill, sometimes shutters or a flower box.

    Args:
        build: Where it is built.
        at: The middle of the window on the wall's front, (4, 4).
        width: Of the panes, in scene units.
        height: The same.
    """
    rng, frame = build.rng, build.natural(build.rng.choice(("plaster", "wood")))
    build.add_primitive("cube", frame, at @ moved(0, 0, 0, width * 1.2, 0.06, height * 1.15))
    panes = build.plain("Panes", (0.04, 0.06, 0.09), 0.2)
    for side in (-1, 1):
        build.add_primitive("cube", panes, at @ moved(side * width * 0.26, -0.03, 0, width * 0.42, 0.03, height * 0.9))
    build.add_primitive("cube", frame, at @ moved(0, -0.06, -height * 0.6, width * 1.3, 0.16, 0.05))
    if rng.random() < 0.5:
        shutter = build.natural("cloth")
        for side in (-1, 1):
            place = moved(side * width * 0.85, -0.03, 0, width * 0.45, 0.04, height * 1.1)
            build.add_primitive("cube", shutter, at @ place)
    if rng.random() < 0.3:
        flowers = build.natural("fruit")
        for x in (-0.4, -0.13, 0.13, 0.4):
            build.add_primitive("rock", flowers, at @ moved(x * width, -0.1, -height * 0.5, *(width * 0.4,) * 3))


def add_town_house(build: SceneBuilder, at: Matrix, width: float) -> None:
    """A house that stands wall to wall with others: its front along x, looking along -y.

    Args:
        build: Where it is built.
        at: The middle of the front's foot, (4, 4).
        width: Of the front, in scene units.
    """
    rng = build.rng
    storeys, storey, depth = rng.randint(1, 3), rng.uniform(0.9, 1.2), rng.uniform(1.5, 3)
    height, roof = storeys * storey, rng.uniform(0.6, 1.4)
    wall = build.natural(rng.choice(("brick", "plaster", "plaster", "wood")))
    build.add_primitive("cube", wall, at @ moved(0, depth / 2, height / 2, width, depth, height))
    add_gable(build, at @ moved(0, depth / 2, height), width, depth, roof, wall)
    door = rng.uniform(-0.25, 0.25) * width
    build.add_primitive("cube", build.natural("cloth"), at @ moved(door, -0.02, 0.4, 0.42, 0.08, 0.8))
    count = max(1, round(width / 0.9))
    for floor in range(storeys):
        for number in range(count):
            x = (number + 0.5 - count / 2) * width / count
            if floor or abs(x - door) > 0.5:
                add_window(build, at @ moved(x, 0, (floor + 0.58) * storey), 0.36, 0.48)
    if rng.random() < 0.35:
        awning = at @ moved(door, -0.3, storey * 0.92) @ Matrix.Rotation(rng.uniform(0.2, 0.6), 4, "X")
        build.add_primitive("cube", build.natural("cloth"), awning @ moved(0, 0, 0, width * 0.7, 0.7, 0.03))
    if rng.random() < 0.6:
        chimney = moved(rng.uniform(-0.3, 0.3) * width, depth / 2, height + roof * 0.9, 0.25, 0.25, 0.7)
        build.add_primitive("cube", build.natural("brick"), at @ chimney)


def add_gable(build: SceneBuilder, at: Matrix, width: float, depth: float, rise: float, wall) -> None:
    """A gable and its two roof slabs, the ridge along the front or across it.

    Args:
        build: Where it is built.
        at: The middle of its foot, (4, 4).
        width: Along x, in scene units.
        depth: Along y.
        rise: Of the ridge over the foot.
        wall: The gable's material.
    """
    if build.rng.random() < 0.4:
        at, width, depth = at @ Matrix.Rotation(math.pi / 2, 4, "Z"), depth, width
    # The primitive's ridge runs along y and its foot reaches beyond the unit square: here along x, just as wide.
    turned = Matrix.Rotation(math.pi / 2, 4, "Z")
    build.add_primitive(
        "gable", wall, at @ moved(0, 0, rise / 2) @ turned @ moved(0, 0, 0, depth / 1.2, width / 1.15, rise)
    )
    tiles, slope = build.natural(build.rng.choice(("tiles", "tiles", "stone"))), math.atan2(rise, depth / 2)
    slab = depth / 2 / math.cos(slope) + 0.15
    for side in (-1, 1):
        face = Matrix.Rotation(-side * slope, 4, "X")
        middle = moved(0, side * (depth / 4 + 0.05), rise / 2 - 0.02)
        build.add_primitive("cube", tiles, at @ middle @ face @ moved(0, 0, 0.04, width + 0.14, slab, 0.07))


def add_laid_table(build: SceneBuilder, at: Matrix) -> float:
    """A round or square table, with a cloth or bare, laid with dishes, fruit, flowers, books.

    Args:
        build: Where it is built.
        at: Its foot, (4, 4).

    Returns:
        The height of its top, in scene units.
    """
    rng = build.rng
    height, radius = rng.uniform(0.6, 0.85), rng.uniform(0.55, 0.9)
    shape = rng.choice(("cylinder", "cylinder", "cube"))
    cloth = build.natural(rng.choice(("cloth", "cloth", "wood")))
    build.add_primitive(shape, cloth, at @ moved(0, 0, height - 0.02, 2 * radius, 2 * radius, 0.04))
    if rng.random() < 0.6:
        drop = rng.uniform(0.15, 0.4)
        build.add_primitive(
            shape, cloth, at @ moved(0, 0, height - drop / 2 - 0.02, 1.99 * radius, 1.99 * radius, drop)
        )
    build.add_primitive("cylinder", build.natural("wood"), at @ moved(0, 0, height / 2, 0.2, 0.2, height - 0.04))
    for _ in range(rng.randint(4, 11)):
        angle, away = rng.uniform(0, 6.3), radius * 0.8 * math.sqrt(rng.random())
        place = at @ moved(away * math.cos(angle), away * math.sin(angle), height)
        rng.choice(TABLEWARE)(build, place @ Matrix.Rotation(angle * 2, 4, "Z"))
    return height


def _add_fruit(build: SceneBuilder, at: Matrix) -> None:
    size = build.rng.uniform(0.08, 0.32)
    squash = build.rng.uniform(0.8, 1.2)
    build.add_primitive(
        "sphere", build.natural("fruit"), at @ moved(0, 0, size * squash / 2, size, size, size * squash)
    )


def _add_bowl(build: SceneBuilder, at: Matrix) -> None:
    build.add_primitive("cylinder", build.natural("pot"), at @ moved(0, 0, 0.05, 0.36, 0.36, 0.1))
    fruit = build.natural("fruit")
    for number in range(build.rng.randint(4, 7)):
        x, y = 0.1 * math.cos(number * 1.2), 0.1 * math.sin(number * 1.2)
        build.add_primitive("sphere", fruit, at @ moved(x, y, 0.13 + 0.01 * number, 0.13, 0.13, 0.13))


def _add_vase(build: SceneBuilder, at: Matrix) -> None:
    rng = build.rng
    build.add_primitive(
        rng.choice(("cylinder", "sphere")), build.natural("pot"), at @ moved(0, 0, 0.15, 0.16, 0.16, 0.3)
    )
    for _ in range(rng.randint(0, 9)):
        x, y, z = rng.uniform(-0.12, 0.12), rng.uniform(-0.12, 0.12), rng.uniform(0.32, 0.5)
        material = build.material(green=True) if rng.random() < 0.3 else build.natural("fruit")
        build.add_primitive("rock", material, at @ moved(x, y, z, 0.14, 0.14, 0.13))


def _add_cup(build: SceneBuilder, at: Matrix) -> None:
    height = build.rng.uniform(0.08, 0.3)
    kind = build.rng.choice(("cylinder", "cylinder", "cone"))
    build.add_primitive(kind, build.natural("pot"), at @ moved(0, 0, height / 2, 0.11, 0.11, height))


def _add_books(build: SceneBuilder, at: Matrix) -> None:
    for number in range(build.rng.randint(1, 4)):
        book = Matrix.Rotation(build.rng.uniform(-0.4, 0.4), 4, "Z") @ moved(
            0, 0, 0.025 + 0.05 * number, 0.3, 0.22, 0.05
        )
        build.add_primitive("cube", build.natural("cloth"), at @ book)


def _add_loaf(build: SceneBuilder, at: Matrix) -> None:
    build.add_primitive("cube", build.natural("wood"), at @ moved(0, 0, 0.015, 0.4, 0.25, 0.03))
    build.add_primitive("sphere", build.natural("bread"), at @ moved(0, 0, 0.08, 0.3, 0.16, 0.13))


TABLEWARE = (_add_fruit, _add_fruit, _add_bowl, _add_vase, _add_cup, _add_books, _add_loaf)
YARD = (add_plant, add_plant, add_bench, add_barrel, add_stool, add_statue)
STREET = (add_person, add_person, add_vehicle, add_cart, add_lamp, add_barrel, add_plant, add_bench, add_parasol)
OUTDOORS = (add_person, add_vehicle, add_cart, add_barrel, add_plant, add_bench, add_parasol, add_statue)
