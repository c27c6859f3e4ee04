"""The bundled demo capture's scene: a small round landscape with a house, photographed from a dome of cameras."""

from __future__ import annotations

import math
from dataclasses import replace

import bmesh
import bpy  # before bmesh and mathutils, which the bpy wheel holds inside itself
import numpy as np
from mathutils import Matrix, Vector, noise

from .builder import Bricks, Builder, Nodes, srgb, two_tone
from .captured_scene import CapturedScene, Shot, look_from
from .lighting import Lighting, apply_lighting

LOOK_AT = Vector((0.0, 0.0, 0.22))
ISLAND_RADIUS = 1.5

SURFACES = {
    "grass": two_tone("4d7a2c", "8fae50", scale=2.6),
    "path": two_tone("b08d5c", "d8bd8b", scale=5.0),
    "soil": two_tone("5b3d26", "8f6640", scale=3.5),
    "plaster": two_tone("e0cfa8", "f2e6c8", scale=3.0),
    "timber": two_tone("4a2c1a", "6a4327", scale=4.0),
    "tiles": two_tone("96371d", "d46a35", scale=1.0, pattern=Bricks(0.15, 0.125)),
    "stone": two_tone("6f6d6a", "aaa69d", scale=5.0),
    "rock": two_tone("6d6a66", "aaa59b", scale=0.9),
    "door": two_tone("1f5560", "2f7480", scale=4.0),
    "window": two_tone("2b3f55", "3e5a75", scale=2.0, roughness=0.5),
    "conifer": two_tone("1f4a2c", "3a7040", scale=5.0),
    "leaves": two_tone("54802a", "93b544", scale=1.2),
    "bark": two_tone("553822", "7a5535", scale=5.0),
    "fence": two_tone("c9b594", "e8dcc4", scale=5.0),
    "bronze": two_tone("8a5526", "c8924a", scale=1.0, roughness=0.6),
    "pumpkin": two_tone("d0600f", "f0922c", scale=0.9),
    "barrel": two_tone("7a4b25", "a46d38", scale=5.0, pattern=Bricks(0.09, 1.0)),
    "cloth_red": two_tone("b3202a", "c9323a", scale=2.0),
    "cloth_white": two_tone("e9e4da", "f6f2ea", scale=2.0),
}


def ground_height(x: float, y: float) -> float:
    """The height of the grass: low hills, flat under the house and the statue.

    Args:
        x: In scene units.
        y: In scene units.

    Returns:
        In scene units.
    """
    hills = 0.11 * noise.noise(Vector((x * 1.3 + 3.1, y * 1.3, 0.4)))
    rise = 0.16 * math.exp(-((x + 0.75) ** 2 + (y - 0.75) ** 2) / 0.18)
    flat = 1 - math.exp(-((x - 0.15) ** 2 + (y - 0.2) ** 2) / 0.35)
    rim = max(0.0, (math.hypot(x, y) - 1.25) / 0.25)
    return (hills + rise) * flat - 0.07 * rim * rim


def _island(build: Builder) -> None:
    mesh = bmesh.new()
    rings, segments = 40, 128
    grid = [
        [
            mesh.verts.new(
                (
                    ISLAND_RADIUS * r / rings * math.cos(2 * math.pi * s / segments),
                    ISLAND_RADIUS * r / rings * math.sin(2 * math.pi * s / segments),
                    0,
                )
            )
            for s in range(segments)
        ]
        for r in range(1, rings + 1)
    ]
    middle = mesh.verts.new((0, 0, 0))
    for s in range(segments):
        mesh.faces.new((middle, grid[0][s], grid[0][(s + 1) % segments]))
        for inner, outer in zip(grid, grid[1:]):
            mesh.faces.new((inner[s], outer[s], outer[(s + 1) % segments], inner[(s + 1) % segments]))
    for vertex in mesh.verts:
        vertex.co.z = ground_height(vertex.co.x, vertex.co.y)
    ground = build.part("grass", mesh, smooth=True)
    _paint_path(ground.data.materials[0])
    _soil(build)


def _soil(build: Builder) -> None:
    """The island's underside: a lumpy bowl of soil that meets the grass at the rim."""
    mesh = bmesh.new()
    levels, segments = 14, 128
    rows = []
    for level in range(levels + 1):
        t = level / levels
        row = []
        for s in range(segments):
            angle = 2 * math.pi * s / segments
            direction = Vector((math.cos(angle), math.sin(angle), 0))
            radius = (
                ISLAND_RADIUS
                * (1 - 0.6 * t**2.4)
                * (1 + 0.10 * min(1, 4 * t) * noise.noise(direction * 2.2 + Vector((0, 0, 2.5 * t))))
            )
            rim = ground_height(*(direction * ISLAND_RADIUS).xy)
            row.append(mesh.verts.new((direction * radius) + Vector((0, 0, rim * (1 - t) - 0.55 * t))))
        rows.append(row)
    for upper, lower in zip(rows, rows[1:]):
        for s in range(segments):
            n = (s + 1) % segments
            mesh.faces.new((upper[s], lower[s], lower[n], upper[n]))
    mesh.faces.new(list(reversed(rows[-1])))
    bmesh.ops.recalc_face_normals(mesh, faces=mesh.faces)
    build.part("soil", mesh, smooth=True)


PATH = [(0.15, -0.28), (0.10, -0.6), (-0.12, -0.9), (-0.10, -1.2), (0.05, -1.6)]


def _paint_path(grass: bpy.types.Material) -> None:
    """A sandy path in the grass's material, where the distance to the path's line is small."""
    tree = grass.node_tree
    nodes = Nodes(tree)
    position = nodes.add("ShaderNodeTexCoord").outputs["Object"]
    flat = nodes.add("ShaderNodeVectorMath", {0: position, 1: (1, 1, 0)}, operation="MULTIPLY").outputs[0]
    nearest = None
    for a, b in zip(PATH, PATH[1:]):
        for t in np.linspace(0, 1, 6):
            point = (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, 0)
            distance = nodes.add("ShaderNodeVectorMath", {0: flat, 1: point}, operation="DISTANCE").outputs[1]
            nearest = (
                distance
                if nearest is None
                else nodes.add("ShaderNodeMath", {0: nearest, 1: distance}, operation="MINIMUM").outputs[0]
            )
    wobble = nodes.add("ShaderNodeMath", {0: nodes.noise(4.0, 1.0, position), 1: 0.10}, operation="MULTIPLY").outputs[0]
    edge = nodes.ramp(nodes.add("ShaderNodeMath", {0: nearest, 1: wobble}, operation="ADD").outputs[0], 0.15, 0.20)
    color = next(n for n in tree.nodes if n.type == "BSDF_PRINCIPLED").inputs["Base Color"]
    sand = nodes.mix(nodes.ramp(nodes.noise(5.0, 2.0, position), 0.3, 0.7), *SURFACES["path"].tones)
    tree.links.new(nodes.mix(edge, sand, color.links[0].from_socket), color)


def _house(build: Builder) -> None:
    turn = math.radians(-14)
    spin = Matrix.Rotation(turn, 4, "Z")
    origin = Vector((0.15, 0.2, 0.0))

    def at(x, y, z):
        return origin + spin @ Vector((x, y, z))

    width, depth, wall, pitch = 1.0, 0.72, 0.46, math.radians(43)
    build.box("stone", at(0, 0, 0.02), (width + 0.08, depth + 0.08, 0.20), turn)
    build.box("plaster", at(0, 0, 0.12 + wall / 2), (width, depth, wall), turn)
    top = 0.12 + wall
    build.gable("plaster", at(0, 0, top), width, depth, pitch, turn)
    build.gable_roof("tiles", at(0, 0, top), width, depth, pitch, turn)
    build.box("stone", at(0.28, 0.16, top + 0.36), (0.17, 0.17, 0.5), turn)
    build.box("timber", at(0.28, 0.16, top + 0.62), (0.21, 0.21, 0.045), turn)
    for x in (-0.49, -0.17, 0.17, 0.49):
        for side in (-1, 1):
            build.box("timber", at(x, side * depth / 2, 0.12 + wall / 2), (0.06, 0.04, wall), turn)
    for z in (0.14, top - 0.02):
        for side in (-1, 1):
            build.box("timber", at(0, side * depth / 2, z), (width + 0.03, 0.045, 0.06), turn)
            build.box("timber", at(side * width / 2, 0, z), (0.045, depth + 0.03, 0.06), turn)
    for side in (-1, 1):
        build.box("timber", at(side * width / 2, 0, top + 0.12), (0.04, 0.06, 0.36), turn)
        build.box("window", at(side * width / 2, 0, 0.37), (0.03, 0.24, 0.22), turn)
        build.box("fence", at(side * width / 2, 0, 0.25), (0.07, 0.30, 0.035), turn)
    build.box("door", at(0, -depth / 2, 0.29), (0.22, 0.05, 0.36), turn)
    build.box("stone", at(0, -depth / 2 - 0.08, 0.07), (0.30, 0.14, 0.08), turn)
    for x in (-0.33, 0.33):
        for side in (-1, 1):
            build.box("window", at(x, side * depth / 2, 0.37), (0.19, 0.03, 0.20), turn)
            build.box("fence", at(x, side * depth / 2, 0.26), (0.24, 0.07, 0.035), turn)
    build.box("window", at(0, depth / 2, 0.37), (0.19, 0.03, 0.20), turn)


def _fence(build: Builder, start: float, end: float, posts: int) -> None:
    """Posts along the rim from one azimuth to another (degrees) with two rails between neighbours."""
    corners = []
    for azimuth in np.radians(np.linspace(start, end, posts)):
        x, y = 1.32 * math.cos(azimuth), 1.32 * math.sin(azimuth)
        corners.append(Vector((x, y, ground_height(x, y))))
        build.box("fence", corners[-1] + Vector((0, 0, 0.12)), (0.065, 0.065, 0.30), azimuth)
    for a, b in zip(corners, corners[1:]):
        for z in (0.11, 0.21):
            along = b - a
            build.box(
                "fence", (a + b) / 2 + Vector((0, 0, z)), (along.length, 0.032, 0.045), math.atan2(along.y, along.x)
            )


def _statue(build: Builder) -> None:
    x, y = -0.72, -0.42
    z = ground_height(x, y)
    build.cone("stone", (x, y, z - 0.05), 0.26, 0.24, 0.12, 32)
    build.cone("stone", (x, y, z + 0.05), 0.17, 0.15, 0.26, 32)
    mesh = bmesh.new()
    bmesh.ops.create_monkey(mesh)
    bmesh.ops.subdivide_edges(mesh, edges=mesh.edges, cuts=1, smooth=1.0, use_grid_fill=True)
    build.part(
        "bronze",
        mesh,
        (x, y, z + 0.48),
        math.radians(-38),
        (0.23, 0.23, 0.23),
        Matrix.Rotation(math.radians(-8), 4, "X"),
        smooth=True,
    )


def _parasol(build: Builder) -> None:
    x, y = 0.92, -0.52
    z = ground_height(x, y)
    build.cone("fence", (x, y, z - 0.02), 0.022, 0.022, 0.66, 10)
    for stripe in range(8):
        mesh = bmesh.new()
        tip = mesh.verts.new((0, 0, 0.17))
        arc = [
            mesh.verts.new((0.36 * math.cos(a), 0.36 * math.sin(a), 0))
            for a in np.linspace(stripe, stripe + 1, 5) * math.pi / 4
        ]
        for a, b in zip(arc, arc[1:]):
            mesh.faces.new((tip, a, b))
        bmesh.ops.recalc_face_normals(mesh, faces=mesh.faces)
        build.part(("cloth_red", "cloth_white")[stripe % 2], mesh, (x, y, z + 0.52))
    build.cone("timber", (x, y, z + 0.16), 0.17, 0.17, 0.03, 24)


def _small_things(build: Builder) -> None:
    for x, y, r in (
        (-1.12, 0.1, 0.15),
        (-1.02, -0.06, 0.09),
        (0.55, -1.1, 0.13),
        (0.70, -1.16, 0.08),
        (0.95, 0.95, 0.17),
        (-0.35, 1.2, 0.12),
    ):
        build.blob("rock", (x, y, ground_height(x, y) + 0.03), r, 0.75, 0.45, 1.1)
    for x, y, r in ((-0.30, -0.38, 0.085), (-0.19, -0.45, 0.065), (-0.36, -0.50, 0.06)):
        build.blob("pumpkin", (x, y, ground_height(x, y) + 0.8 * r), r, 0.8, 0.08)
    x, y = 0.76, -0.12
    z = ground_height(x, y)
    build.cone("barrel", (x, y, z - 0.02), 0.085, 0.105, 0.12, 24)
    build.cone("barrel", (x, y, z + 0.10), 0.105, 0.085, 0.12, 24)
    for x, y, r in ((-0.45, 0.0, 0.12), (-0.48, 0.16, 0.10), (0.80, 0.32, 0.13), (0.38, 0.78, 0.11)):
        build.blob("leaves", (x, y, ground_height(x, y) + 0.05), r, 0.85, 0.3)


def build_island(build: Builder) -> None:
    """Everything that stands on the island."""
    _island(build)
    _house(build)
    for x, y, height in ((-0.92, 0.82, 0.85), (-0.55, 1.02, 0.65), (-1.12, 0.42, 0.58)):
        build.conifer((x, y, ground_height(x, y)), height)
    for x, y, size in ((1.05, 0.42, 0.85), (0.42, 1.05, 0.72)):
        build.round_tree((x, y, ground_height(x, y)), size)
    _statue(build)
    _parasol(build)
    _small_things(build)
    _fence(build, -72, 2, 8)
    _fence(build, 170, 250, 8)


DAYLIGHT = Lighting(
    sun_azimuth=math.radians(-125),
    sun_elevation=math.radians(48),
    sun_strength=3.0,
    sun_colour=(1.0, 0.90, 0.76),
    sun_angle=math.radians(4),
    horizon=srgb("8ab9e0"),
    zenith=srgb("a9cbe2"),
    sky_strength=0.75,
)


def _light(scene: bpy.types.Scene, lighting: Lighting) -> None:
    """The sun, and a sky all around without a horizon: `horizon` at eye level and above, `zenith` straight below.

    Soft clouds give the sky something to be seen by from everywhere: a plain one could as well be a wall just behind
    the island.
    """
    apply_lighting(scene, lighting)
    world = bpy.data.worlds.new("backdrop")
    world.use_nodes = True
    world.node_tree.nodes.clear()
    nodes = Nodes(world.node_tree)
    direction = nodes.add("ShaderNodeTexCoord").outputs["Generated"]
    z = nodes.add("ShaderNodeSeparateXYZ", {"Vector": direction}).outputs[2]
    sky = nodes.mix(nodes.ramp(z, -0.85, 0.15), lighting.zenith, lighting.horizon)
    cloud = tuple((a + b) / 2 for a, b in zip(lighting.horizon, lighting.sun_colour))
    seen = nodes.mix(nodes.ramp(nodes.noise(2.6, 3.0, direction), 0.42, 0.72), sky, cloud)
    # The camera sees the backdrop as bright in every light; surfaces are lit by it at the sky's strength.
    strength = nodes.add(
        "ShaderNodeMapRange",
        {"Value": nodes.add("ShaderNodeLightPath").outputs["Is Camera Ray"], "To Min": lighting.sky_strength},
    )
    background = nodes.add("ShaderNodeBackground", {"Color": seen, "Strength": strength.outputs[0]})
    nodes.add("ShaderNodeOutputWorld", {"Surface": background.outputs[0]})
    scene.world = world


def _backdrop(light: Lighting) -> Lighting:
    """Another light than daylight; the backdrop's camera-facing colours are as bright as its sky."""
    dimmed = [tuple(light.sky_strength * c for c in colour) for colour in (light.horizon, light.zenith)]
    return replace(light, horizon=dimmed[0], zenith=dimmed[1], sky_strength=1.0)


def shots() -> list[Shot]:
    """40 training shots on three rings and 8 held-out ones between them."""
    rings = ((16, 14.0, 4.15), (14, 32.0, 4.0), (10, 52.0, 3.9))  # shots, elevation, distance
    made = []
    for ring, (count, elevation, distance) in enumerate(rings):
        for i in range(count):
            wave = 4.0 * math.sin(2.4 * i + ring)
            pose = look_from(
                LOOK_AT, 360 * (i + 0.37 * ring) / count, elevation + wave, distance + 0.12 * math.cos(1.7 * i)
            )
            made.append(Shot(f"train_{len(made):03d}", pose, False))
    for i in range(8):
        pose = look_from(LOOK_AT, 45 * i + 17, (20.0, 40.0, 27.0, 46.0)[i % 4], 4.05)
        made.append(Shot(f"test_{i:03d}", pose, True))
    return made


ISLAND = CapturedScene(
    "island", SURFACES, build_island, DAYLIGHT, shots, lens_mm=42.0, samples=64, light=_light, other_light=_backdrop
)
