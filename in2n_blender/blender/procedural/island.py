"""The bundled demo capture: a small round landscape with a house, rendered with Cycles from a dome of cameras.

    python -m in2n_blender.blender.procedural.demo_capture --out DIR [--edit snow|sunset]

writes DIR/transforms.json (nerfstudio's form, with train and test filenames), DIR/images/*.png and DIR/points.ply.
With --edit the same cameras see the edited scene: the truth that the testbed measures an edit against.
Images that are there already are kept, so that a run that was stopped goes on.
Textures are no finer than about three pixels at 160 x 160, so that photos from different heights agree about them.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import bpy  # before bmesh and mathutils, which the bpy wheel holds inside itself
import bmesh
import numpy as np
from mathutils import Matrix, Vector, noise

from .. import compat
from .lighting import Lighting, add_snow_cover, apply_lighting, set_snow, sunset

SEED = 7
LOOK_AT = Vector((0.0, 0.0, 0.22))
LENS_MM, SENSOR_MM = 42.0, 36.0
ISLAND_RADIUS = 1.5
EDITS = ("snow", "sunset")


# --- materials -----------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Surface:
    """A procedural surface: two tones mixed by noise of the given scale (features per unit), and its roughness."""

    tones: tuple[tuple[float, float, float], tuple[float, float, float]]
    scale: float = 4.0
    roughness: float = 0.8
    pattern: str = "noise"  # "noise", "tiles" or "planks"


def srgb(code: str) -> tuple[float, float, float]:
    """Linear RGB of an sRGB hex code such as "c8502a"."""
    values = [int(code[i:i + 2], 16) / 255 for i in (0, 2, 4)]
    return tuple(v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values)


def two(dark: str, light: str, **settings) -> Surface:
    return Surface((srgb(dark), srgb(light)), **settings)


SURFACES = {
    "grass": two("4d7a2c", "8fae50", scale=2.6),
    "path": two("b08d5c", "d8bd8b", scale=5.0),
    "soil": two("5b3d26", "8f6640", scale=3.5),
    "plaster": two("e0cfa8", "f2e6c8", scale=3.0),
    "timber": two("4a2c1a", "6a4327", scale=4.0),
    "tiles": two("96371d", "d46a35", pattern="tiles", scale=1.0),
    "stone": two("6f6d6a", "aaa69d", scale=5.0),
    "rock": two("6d6a66", "aaa59b", scale=0.9),
    "door": two("1f5560", "2f7480", scale=4.0),
    "window": two("2b3f55", "3e5a75", scale=2.0, roughness=0.5),
    "conifer": two("1f4a2c", "3a7040", scale=5.0),
    "leaves": two("54802a", "93b544", scale=1.2),
    "bark": two("553822", "7a5535", scale=5.0),
    "fence": two("c9b594", "e8dcc4", scale=5.0),
    "bronze": two("8a5526", "c8924a", scale=1.0, roughness=0.6),
    "pumpkin": two("d0600f", "f0922c", scale=0.9),
    "barrel": two("7a4b25", "a46d38", scale=5.0, pattern="planks"),
    "cloth_red": two("b3202a", "c9323a", scale=2.0),
    "cloth_white": two("e9e4da", "f6f2ea", scale=2.0),
}


class Nodes:
    """Short names for building a material's node tree."""

    def __init__(self, tree):
        self.tree = tree

    def add(self, kind: str, inputs: dict | None = None, **properties):
        node = self.tree.nodes.new(kind)
        for name, value in properties.items():
            setattr(node, name, value)
        for name, value in (inputs or {}).items():
            socket = node.inputs[name]
            if isinstance(value, bpy.types.NodeSocket):
                self.tree.links.new(value, socket)
            else:
                socket.default_value = value
        return node

    def mix(self, factor, a, b):
        """Linear mix of two colours; sockets or values."""
        node = self.tree.nodes.new("ShaderNodeMix")
        node.data_type = "RGBA"
        for socket, value in ((node.inputs[0], factor), (node.inputs[6], a), (node.inputs[7], b)):
            if isinstance(value, bpy.types.NodeSocket):
                self.tree.links.new(value, socket)
            else:
                socket.default_value = value if np.isscalar(value) else (*value, 1.0)
        return node.outputs[2]

    def ramp(self, value, low: float, high: float):
        """Smooth step of `value` between low and high."""
        return self.add("ShaderNodeMapRange", {"Value": value, "From Min": low, "From Max": high},
                        interpolation_type="SMOOTHSTEP").outputs[0]

    def noise(self, scale: float, detail: float = 2.0, coordinates=None):
        inputs = {"Scale": scale, "Detail": detail, "Roughness": 0.55}
        if coordinates is not None:
            inputs["Vector"] = coordinates
        return self.add("ShaderNodeTexNoise", inputs).outputs[0]


def material(name: str, surface: Surface) -> bpy.types.Material:
    """The surface as a Principled material in the object's own coordinates."""
    made = bpy.data.materials.new(name)
    nodes = Nodes(compat.material_nodes(made))
    nodes.tree.nodes.clear()
    coordinates = nodes.add("ShaderNodeTexCoord").outputs["Object"]
    dark, light = surface.tones
    factor = nodes.ramp(nodes.noise(surface.scale, 2.0, coordinates), 0.32, 0.68)
    color = nodes.mix(factor, dark, light)
    if surface.pattern != "noise":
        color = _brick_pattern(nodes, surface, coordinates, color)
    shader = nodes.add("ShaderNodeBsdfPrincipled", {"Base Color": color, "Roughness": surface.roughness, "Specular IOR Level": 0.15})
    nodes.add("ShaderNodeOutputMaterial", {"Surface": shader.outputs[0]})
    return made


def _brick_pattern(nodes: Nodes, surface: Surface, coordinates, color):
    """Rows of tiles, or upright planks, of uneven tones over the surface's own noise."""
    tiles = surface.pattern == "tiles"
    brick = nodes.add("ShaderNodeTexBrick", {
        "Vector": coordinates, "Color1": (0.55, 0.55, 0.55, 1), "Color2": (1.25, 1.2, 1.15, 1), "Mortar": (0.28, 0.26, 0.25, 1),
        "Scale": 1.0, "Mortar Size": 0.012, "Mortar Smooth": 0.6, "Bias": 0.0,
        "Brick Width": 0.15 if tiles else 0.09, "Row Height": 0.125 if tiles else 1.0})
    return _multiply(nodes, color, brick.outputs[0])


def _multiply(nodes: Nodes, a, b):
    node = nodes.add("ShaderNodeMix", data_type="RGBA", blend_type="MULTIPLY")
    node.inputs[0].default_value = 1.0
    nodes.tree.links.new(a, node.inputs[6])
    nodes.tree.links.new(b, node.inputs[7])
    return node.outputs[2]


# --- the scene -------------------------------------------------------------------------------------------------------

class Builder:
    """Puts meshes with materials into a scene. Every part is placed by a matrix; nothing needs bpy.ops."""

    def __init__(self, scene: bpy.types.Scene):
        self.scene = scene
        self.materials = {name: material(name, surface) for name, surface in SURFACES.items()}
        self.random = np.random.default_rng(SEED)

    def part(self, surface: str, mesh: bmesh.types.BMesh, location=(0, 0, 0), turn: float = 0.0, scale=(1, 1, 1),
             tilt: Matrix | None = None, smooth: bool = False) -> bpy.types.Object:
        data = bpy.data.meshes.new(surface)
        if smooth:
            for face in mesh.faces:
                face.smooth = True
        mesh.to_mesh(data)
        mesh.free()
        data.materials.append(self.materials[surface])
        made = bpy.data.objects.new(surface, data)
        made.matrix_world = (Matrix.Translation(location) @ Matrix.Rotation(turn, 4, "Z") @ (tilt or Matrix.Identity(4))
                             @ Matrix.Diagonal((*scale, 1)))
        self.scene.collection.objects.link(made)
        return made

    def box(self, surface, center, size, turn=0.0, tilt=None):
        """A box of the given size; its texture coordinates are in scene units, whatever its size."""
        mesh = bmesh.new()
        bmesh.ops.create_cube(mesh, size=1.0)
        bmesh.ops.scale(mesh, vec=size, verts=mesh.verts)
        return self.part(surface, mesh, center, turn, tilt=tilt)

    def cone(self, surface, base, bottom, top, height, segments=24, turn=0.0, smooth=True, tilt=None):
        mesh = bmesh.new()
        bmesh.ops.create_cone(mesh, cap_ends=True, segments=segments, radius1=bottom, radius2=top, depth=height)
        bmesh.ops.translate(mesh, vec=(0, 0, height / 2), verts=mesh.verts)
        return self.part(surface, mesh, base, turn, smooth=smooth, tilt=tilt)

    def blob(self, surface, center, radius, squash=1.0, lumps=0.25, lump_scale=1.6, subdivisions=4):
        """A sphere pushed in and out by smooth noise."""
        mesh = bmesh.new()
        bmesh.ops.create_icosphere(mesh, subdivisions=subdivisions, radius=1.0)
        offset = Vector(self.random.uniform(-50, 50, 3))
        for vertex in mesh.verts:
            vertex.co *= 1 + lumps * noise.noise(vertex.co * lump_scale + offset)
        return self.part(surface, mesh, center, self.random.uniform(0, 6.3), (radius, radius, radius * squash), smooth=True)


def ground_height(x: float, y: float) -> float:
    """Height of the grass at (x, y): low hills, flat under the house and the statue."""
    hills = 0.11 * noise.noise(Vector((x * 1.3 + 3.1, y * 1.3, 0.4)))
    rise = 0.16 * math.exp(-((x + 0.75) ** 2 + (y - 0.75) ** 2) / 0.18)
    flat = 1 - math.exp(-((x - 0.15) ** 2 + (y - 0.2) ** 2) / 0.35)
    rim = max(0.0, (math.hypot(x, y) - 1.25) / 0.25)
    return (hills + rise) * flat - 0.07 * rim * rim


def _island(build: Builder) -> None:
    mesh = bmesh.new()
    rings, segments = 40, 128
    grid = [[mesh.verts.new((ISLAND_RADIUS * r / rings * math.cos(2 * math.pi * s / segments),
                             ISLAND_RADIUS * r / rings * math.sin(2 * math.pi * s / segments), 0)) for s in range(segments)]
            for r in range(1, rings + 1)]
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
            radius = ISLAND_RADIUS * (1 - 0.6 * t ** 2.4) * (1 + 0.10 * min(1, 4 * t) * noise.noise(direction * 2.2 + Vector((0, 0, 2.5 * t))))
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
            nearest = distance if nearest is None else nodes.add("ShaderNodeMath", {0: nearest, 1: distance}, operation="MINIMUM").outputs[0]
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
    _gable(build, at(0, 0, top), width, depth, pitch, turn)
    slope = (depth / 2 + 0.12) / math.cos(pitch)
    for side in (-1, 1):
        tilt = Matrix.Rotation(-side * pitch, 4, "X")
        middle = at(0, side * (depth / 2 + 0.12) / 2, top + (depth / 2 - (depth / 2 + 0.12) / 2) * math.tan(pitch) + 0.035)
        build.box("tiles", middle, (width + 0.22, slope + 0.02, 0.07), turn, tilt)
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


def _gable(build: Builder, base: Vector, width: float, depth: float, pitch: float, turn: float) -> None:
    mesh = bmesh.new()
    rise = depth / 2 * math.tan(pitch)
    ends = [[mesh.verts.new((x, -depth / 2, 0)), mesh.verts.new((x, depth / 2, 0)), mesh.verts.new((x, 0, rise))] for x in (-width / 2, width / 2)]
    mesh.faces.new(ends[0])
    mesh.faces.new(reversed(ends[1]))
    for i in range(3):
        mesh.faces.new((ends[0][i], ends[1][i], ends[1][(i + 1) % 3], ends[0][(i + 1) % 3]))
    bmesh.ops.recalc_face_normals(mesh, faces=mesh.faces)
    build.part("plaster", mesh, base, turn)


def _conifer(build: Builder, x: float, y: float, height: float) -> None:
    z = ground_height(x, y)
    build.cone("bark", (x, y, z - 0.03), 0.05, 0.04, 0.2, 12)
    tiers = 4
    for tier in range(tiers):
        t = tier / tiers
        build.cone("conifer", (x, y, z + 0.13 + height * t * 0.8), height * 0.33 * (1 - 0.75 * t), 0.01, height * 0.42, 20)


def _round_tree(build: Builder, x: float, y: float, size: float) -> None:
    z = ground_height(x, y)
    build.cone("bark", (x, y, z - 0.03), 0.06 * size + 0.02, 0.04, 0.36 * size + 0.1, 12)
    crown = z + 0.5 * size + 0.08
    build.blob("leaves", (x, y, crown), 0.27 * size, 0.9, 0.3)
    for i in range(4):
        angle = 1.57 * i + build.random.uniform(-0.4, 0.4)
        build.blob("leaves", (x + 0.17 * size * math.cos(angle), y + 0.17 * size * math.sin(angle), crown + build.random.uniform(-0.08, 0.1) * size),
                   0.18 * size, 0.9, 0.3)


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
            build.box("fence", (a + b) / 2 + Vector((0, 0, z)), (along.length, 0.032, 0.045), math.atan2(along.y, along.x))


def _statue(build: Builder) -> None:
    x, y = -0.72, -0.42
    z = ground_height(x, y)
    build.cone("stone", (x, y, z - 0.05), 0.26, 0.24, 0.12, 32)
    build.cone("stone", (x, y, z + 0.05), 0.17, 0.15, 0.26, 32)
    mesh = bmesh.new()
    bmesh.ops.create_monkey(mesh)
    bmesh.ops.subdivide_edges(mesh, edges=mesh.edges, cuts=1, smooth=1.0, use_grid_fill=True)
    build.part("bronze", mesh, (x, y, z + 0.48), math.radians(-38), (0.23, 0.23, 0.23), Matrix.Rotation(math.radians(-8), 4, "X"), smooth=True)


def _parasol(build: Builder) -> None:
    x, y = 0.92, -0.52
    z = ground_height(x, y)
    build.cone("fence", (x, y, z - 0.02), 0.022, 0.022, 0.66, 10)
    for stripe in range(8):
        mesh = bmesh.new()
        tip = mesh.verts.new((0, 0, 0.17))
        arc = [mesh.verts.new((0.36 * math.cos(a), 0.36 * math.sin(a), 0)) for a in np.linspace(stripe, stripe + 1, 5) * math.pi / 4]
        for a, b in zip(arc, arc[1:]):
            mesh.faces.new((tip, a, b))
        bmesh.ops.recalc_face_normals(mesh, faces=mesh.faces)
        build.part(("cloth_red", "cloth_white")[stripe % 2], mesh, (x, y, z + 0.52))
    build.cone("timber", (x, y, z + 0.16), 0.17, 0.17, 0.03, 24)


def _small_things(build: Builder) -> None:
    for x, y, r in ((-1.12, 0.1, 0.15), (-1.02, -0.06, 0.09), (0.55, -1.1, 0.13), (0.70, -1.16, 0.08), (0.95, 0.95, 0.17), (-0.35, 1.2, 0.12)):
        build.blob("rock", (x, y, ground_height(x, y) + 0.03), r, 0.75, 0.45, 1.1)
    for x, y, r in ((-0.30, -0.38, 0.085), (-0.19, -0.45, 0.065), (-0.36, -0.50, 0.06)):
        build.blob("pumpkin", (x, y, ground_height(x, y) + 0.8 * r), r, 0.8, 0.08)
    x, y = 0.76, -0.12
    z = ground_height(x, y)
    build.cone("barrel", (x, y, z - 0.02), 0.085, 0.105, 0.12, 24)
    build.cone("barrel", (x, y, z + 0.10), 0.105, 0.085, 0.12, 24)
    for x, y, r in ((-0.45, 0.0, 0.12), (-0.48, 0.16, 0.10), (0.80, 0.32, 0.13), (0.38, 0.78, 0.11)):
        build.blob("leaves", (x, y, ground_height(x, y) + 0.05), r, 0.85, 0.3)


def build_scene(edit: str | None = None) -> bpy.types.Scene:
    """A fresh scene of the landscape, as it is or edited. Raises ValueError for an edit that is not in EDITS."""
    if edit is not None and edit not in EDITS:
        raise ValueError(f"edit must be one of {', '.join(EDITS)}, not {edit!r}")
    scene = bpy.data.scenes.new("demo capture")
    build = Builder(scene)
    _island(build)
    _house(build)
    for x, y, height in ((-0.92, 0.82, 0.85), (-0.55, 1.02, 0.65), (-1.12, 0.42, 0.58)):
        _conifer(build, x, y, height)
    _round_tree(build, 1.05, 0.42, 0.85)
    _round_tree(build, 0.42, 1.05, 0.72)
    _statue(build)
    _parasol(build)
    _small_things(build)
    _fence(build, -72, 2, 8)
    _fence(build, 170, 250, 8)
    _light(scene, _sunset() if edit == "sunset" else DAYLIGHT)
    if edit == "snow":
        add_snow_cover(scene)
        set_snow(1.0)
    return scene


DAYLIGHT = Lighting(sun_azimuth=math.radians(-125), sun_elevation=math.radians(48), sun_strength=3.0, sun_colour=(1.0, 0.90, 0.76),
                    sun_angle=math.radians(4), horizon=srgb("8ab9e0"), zenith=srgb("a9cbe2"), sky_strength=0.75)


def _light(scene: bpy.types.Scene, lighting: Lighting) -> None:
    """The sun, and a sky all around without a horizon: `horizon` at eye level and above, `zenith` straight below.

    Soft clouds give the sky something to be seen by from everywhere: a plain one could as well be a wall just behind the island.
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
    strength = nodes.add("ShaderNodeMapRange", {"Value": nodes.add("ShaderNodeLightPath").outputs["Is Camera Ray"], "To Min": lighting.sky_strength})
    background = nodes.add("ShaderNodeBackground", {"Color": seen, "Strength": strength.outputs[0]})
    nodes.add("ShaderNodeOutputWorld", {"Surface": background.outputs[0]})
    scene.world = world


def _sunset() -> Lighting:
    """Sunset as in the miniature's scenes; the backdrop's camera-facing colours are as bright as its sky."""
    low = sunset(DAYLIGHT)
    dimmed = [tuple(low.sky_strength * c for c in colour) for colour in (low.horizon, low.zenith)]
    return replace(low, horizon=dimmed[0], zenith=dimmed[1], sky_strength=1.0)


# --- cameras ---------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Shot:
    name: str
    camera_to_world: Matrix
    held_out: bool


def look_from(azimuth: float, elevation: float, distance: float) -> Matrix:
    """Camera-to-world, OpenGL axes, on a sphere around LOOK_AT (angles in degrees)."""
    a, e = math.radians(azimuth), math.radians(elevation)
    backwards = Vector((math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)))
    rotation = backwards.to_track_quat("Z", "Y").to_matrix().to_4x4()
    return Matrix.Translation(LOOK_AT + distance * backwards) @ rotation


def shots() -> list[Shot]:
    """40 training shots on three rings and 8 held-out ones between them."""
    rings = ((16, 14.0, 4.15), (14, 32.0, 4.0), (10, 52.0, 3.9))  # shots, elevation, distance
    made = []
    for ring, (count, elevation, distance) in enumerate(rings):
        for i in range(count):
            wave = 4.0 * math.sin(2.4 * i + ring)
            pose = look_from(360 * (i + 0.37 * ring) / count, elevation + wave, distance + 0.12 * math.cos(1.7 * i))
            made.append(Shot(f"train_{len(made):03d}", pose, False))
    for i in range(8):
        pose = look_from(45 * i + 17, (20.0, 40.0, 27.0, 46.0)[i % 4], 4.05)
        made.append(Shot(f"test_{i:03d}", pose, True))
    return made


# --- rendering -------------------------------------------------------------------------------------------------------

def set_up_render(scene: bpy.types.Scene, size: int, samples: int) -> bpy.types.Object:
    """Cycles settings and a camera; returns the camera object."""
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising = samples, True
    scene.cycles.use_adaptive_sampling = False
    scene.cycles.seed = SEED
    scene.cycles.max_bounces, scene.cycles.diffuse_bounces = 4, 2
    scene.render.use_persistent_data = True
    scene.render.resolution_x = scene.render.resolution_y = size
    scene.render.resolution_percentage = 100
    scene.view_settings.view_transform, scene.view_settings.look = "Standard", "None"
    scene.render.image_settings.file_format, scene.render.image_settings.color_mode = "PNG", "RGB"
    scene.render.image_settings.compression = 100
    data = bpy.data.cameras.new("camera")
    data.lens, data.sensor_width, data.clip_end = LENS_MM, SENSOR_MM, 100.0
    camera = bpy.data.objects.new("camera", data)
    scene.collection.objects.link(camera)
    scene.camera = camera
    return camera


def render_shots(scene, camera, wanted: list[Shot], folder: Path, say=print) -> None:
    """One PNG a shot; a shot whose file is there is kept."""
    with bpy.context.temp_override(scene=scene):
        for number, shot in enumerate(wanted, 1):
            target = folder / f"{shot.name}.png"
            if target.exists():
                continue
            camera.matrix_world = shot.camera_to_world
            scene.render.filepath = str(target.with_suffix(".part.png"))
            bpy.ops.render.render(write_still=True, scene=scene.name)
            target.with_suffix(".part.png").replace(target)
            say(f"{number}/{len(wanted)} {target.name}")


def transforms(wanted: list[Shot], size: int) -> dict:
    """nerfstudio's transforms.json. fl = size * lens / sensor; square pixels, centred principal point."""
    focal = size * LENS_MM / SENSOR_MM
    path = {s.name: f"images/{s.name}.png" for s in wanted}
    return {
        "camera_model": "PINHOLE", "w": size, "h": size, "fl_x": focal, "fl_y": focal, "cx": size / 2, "cy": size / 2,
        "ply_file_path": "points.ply",
        "train_filenames": [path[s.name] for s in wanted if not s.held_out],
        "test_filenames": [path[s.name] for s in wanted if s.held_out],
        "frames": [{"file_path": path[s.name], "transform_matrix": [[round(v, 8) for v in row] for row in s.camera_to_world]} for s in wanted],
    }


def sparse_points(scene, wanted: list[Shot], folder: Path, size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points where rays through random pixels of the training photos meet the scene, in the pixels' colours.

    Returns (count, 3) float32 and (count, 3) uint8: what a photogrammetry program would hand over.
    """
    random = np.random.default_rng(SEED)
    training = [s for s in wanted if not s.held_out]
    photos = {s.name: read_png(folder / f"{s.name}.png") for s in training}
    scene.view_layers[0].update()
    depsgraph = scene.view_layers[0].depsgraph
    focal = size * LENS_MM / SENSOR_MM
    points, colors = [], []
    while len(points) < count:
        shot = training[random.integers(len(training))]
        u, v = random.uniform(0, size, 2)
        ray = Vector(((u - size / 2) / focal, -(v - size / 2) / focal, -1.0))
        hit, place, *_ = scene.ray_cast(depsgraph, shot.camera_to_world.translation, shot.camera_to_world.to_3x3() @ ray)
        if hit:
            points.append(place[:])
            colors.append(photos[shot.name][int(v), int(u)])
    return np.array(points, np.float32), np.array(colors, np.uint8)


def read_png(path: Path) -> np.ndarray:
    """(height, width, 3) uint8, as stored."""
    image = bpy.data.images.load(str(path))
    image.colorspace_settings.name = "Non-Color"
    width, height = image.size
    pixels = np.empty(width * height * image.channels, np.float32)
    image.pixels.foreach_get(pixels)
    rows = pixels.reshape(height, width, image.channels)[::-1, :, :3]
    bpy.data.images.remove(image)
    return np.round(rows * 255).astype(np.uint8)


def write_ply(path: Path, points: np.ndarray, colors: np.ndarray) -> None:
    header = ("ply\nformat binary_little_endian 1.0\n" f"element vertex {len(points)}\n"
              "property float x\nproperty float y\nproperty float z\n"
              "property uchar red\nproperty uchar green\nproperty uchar blue\nend_header\n")
    rows = np.empty(len(points), [("p", "<f4", 3), ("c", "u1", 3)])
    rows["p"], rows["c"] = points, colors
    path.write_bytes(header.encode() + rows.tobytes())


def make(out: Path, edit: str | None = None, size: int = 160, samples: int = 64, points: int = 2000, only: int | None = None, say=print) -> None:
    """Render the whole capture, or its first `only` held-out shots for a look."""
    images = out / "images"
    images.mkdir(parents=True, exist_ok=True)
    scene = build_scene(edit)
    camera = set_up_render(scene, size, samples)
    everything = shots()
    if only is not None:
        render_shots(scene, camera, [s for s in everything if s.held_out][:only], images, say)
        return
    render_shots(scene, camera, everything, images, say)
    write_ply(out / "points.ply", *sparse_points(scene, everything, images, size, points))
    (out / "transforms.json").write_text(json.dumps(transforms(everything, size), indent=1), encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--edit", choices=EDITS, help="render the truth of this edit instead of the scene as it is")
    parser.add_argument("--size", type=int, default=160, help="pixels a side (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=64, help="Cycles samples a pixel (default: %(default)s)")
    parser.add_argument("--only", type=int, help="render only this many held-out shots, to look at")
    given = parser.parse_args(arguments)
    make(given.out, given.edit, given.size, given.samples, only=given.only)


if __name__ == "__main__":
    main()
