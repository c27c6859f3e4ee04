"""What the captured scenes are built of: procedural surfaces, and meshes placed by matrices without bpy.ops.

Textures are in the object's own coordinates and no finer than about three pixels of a photo, so that photos from
different places agree about them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import bmesh
import bpy  # before bmesh and mathutils, which the bpy wheel holds inside itself
import numpy as np
from mathutils import Matrix, Vector, noise

from ...blender import compat

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Bricks:
    """Rows of bricks, tiles, slabs or planks of uneven tones, multiplied onto a surface.

    Attributes:
        width: Of one, along x of the object, or along an upright wall; in scene units.
        height: Of one, along y of the object, or along z of an upright wall.
        mortar: The width of the joints, in scene units.
        upright: Whether the surface is a wall.
        offset: By which part of its width every second row is moved.
        tones: The darkest and the lightest one, factors of linear RGB.
        mortar_tone: The joints', the same.
    """

    width: float
    height: float
    mortar: float = 0.012
    upright: bool = False
    offset: float = 0.5
    tones: tuple[Color, Color] = ((0.55, 0.55, 0.55), (1.25, 1.2, 1.15))
    mortar_tone: Color = (0.28, 0.26, 0.25)


@dataclass(frozen=True)
class Stripes:
    """Stripes of a second colour, `width` wide, along x; as checks, along y too, where both meet the fuller."""

    color: Color
    width: float
    checks: bool = False


@dataclass(frozen=True)
class Surface:
    """A procedural surface.

    Attributes:
        tones: Two, linear RGB, mixed by noise.
        scale: Of the noise, in features per unit.
        roughness: From 0 to 1.
        pattern: What is laid on it, if anything.
    """

    tones: tuple[Color, Color]
    scale: float = 4.0
    roughness: float = 0.8
    pattern: Bricks | Stripes | None = None


def srgb(code: str) -> Color:
    """The linear RGB of an sRGB colour.

    Args:
        code: Six hexadecimal digits such as "c8502a".
    """
    values = [int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    return tuple(v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values)


def two_tone(dark: str, light: str, **settings) -> Surface:
    """A surface between two sRGB colours.

    Args:
        dark: Six hexadecimal digits.
        light: Six hexadecimal digits.
        **settings: The other attributes of `Surface`.
    """
    return Surface((srgb(dark), srgb(light)), **settings)


class Nodes:
    """Short names for building a material's node tree."""

    def __init__(self, tree):
        self.tree = tree

    def add(self, kind: str, inputs: dict | None = None, **properties):
        """Add a node.

        Args:
            kind: Its type, such as "ShaderNodeMath".
            inputs: Name or number of an input -> its value, or another node's output to be linked.
            **properties: Attributes of the node.

        Returns:
            The node.
        """
        node = self.tree.nodes.new(kind)
        for name, value in properties.items():
            setattr(node, name, value)
        for name, value in (inputs or {}).items():
            self._set(node.inputs[name], value)
        return node

    def mix(self, factor, a, b, blend: str = "MIX"):
        """Mix two colours.

        Args:
            factor: Number or socket; 0: the first alone, 1: the second blended in fully.
            a: The first colour, linear RGB or a socket.
            b: The second colour, linear RGB or a socket.
            blend: Blender's blend type.

        Returns:
            The output socket.
        """
        node = self.add("ShaderNodeMix", data_type="RGBA", blend_type=blend)
        for socket, value in ((node.inputs[0], factor), (node.inputs[6], a), (node.inputs[7], b)):
            self._set(socket, value if isinstance(value, bpy.types.NodeSocket) or np.isscalar(value) else (*value, 1.0))
        return node.outputs[2]

    def math(self, operation: str, *values):
        """Compute with a math node.

        Args:
            operation: Blender's name of it, such as "MULTIPLY".
            *values: Numbers or sockets.

        Returns:
            The output socket.
        """
        return self.add("ShaderNodeMath", dict(enumerate(values)), operation=operation).outputs[0]

    def ramp(self, value, low: float, high: float):
        """A smooth step from 0 to 1.

        Args:
            value: The socket.
            low: Where the step begins.
            high: Where it ends.

        Returns:
            The output socket.
        """
        return self.add(
            "ShaderNodeMapRange", {"Value": value, "From Min": low, "From Max": high}, interpolation_type="SMOOTHSTEP"
        ).outputs[0]

    def noise(self, scale: float, detail: float = 2.0, coordinates=None):
        """A noise texture.

        Args:
            scale: Features per unit.
            detail: How many finer octaves are added.
            coordinates: A socket; None: those that Blender takes by itself.

        Returns:
            The output socket, from 0 to 1.
        """
        inputs = {"Scale": scale, "Detail": detail, "Roughness": 0.55}
        if coordinates is not None:
            inputs["Vector"] = coordinates
        return self.add("ShaderNodeTexNoise", inputs).outputs[0]

    def _set(self, socket, value) -> None:
        if isinstance(value, bpy.types.NodeSocket):
            self.tree.links.new(value, socket)
        else:
            socket.default_value = value


def material(name: str, surface: Surface) -> bpy.types.Material:
    """A surface as a Principled material in the object's own coordinates.

    Args:
        name: The material's.
        surface: What it looks like.
    """
    made = bpy.data.materials.new(name)
    nodes = Nodes(compat.material_nodes(made))
    nodes.tree.nodes.clear()
    coordinates = nodes.add("ShaderNodeTexCoord").outputs["Object"]
    factor = nodes.ramp(nodes.noise(surface.scale, 2.0, coordinates), 0.32, 0.68)
    color = nodes.mix(factor, *surface.tones)
    if isinstance(surface.pattern, Bricks):
        color = _laid_bricks(nodes, surface.pattern, coordinates, color)
    elif isinstance(surface.pattern, Stripes):
        color = _striped(nodes, surface.pattern, coordinates, color)
    shader = nodes.add(
        "ShaderNodeBsdfPrincipled", {"Base Color": color, "Roughness": surface.roughness, "Specular IOR Level": 0.15}
    )
    nodes.add("ShaderNodeOutputMaterial", {"Surface": shader.outputs[0]})
    return made


def _laid_bricks(nodes: Nodes, bricks: Bricks, coordinates, color):
    if bricks.upright:
        x, y, z = nodes.add("ShaderNodeSeparateXYZ", {0: coordinates}).outputs
        # a box's sides have constant x or constant y: x + y runs along each of them
        coordinates = nodes.add("ShaderNodeCombineXYZ", {0: nodes.math("ADD", x, y), 1: z}).outputs[0]
    dark, light = bricks.tones
    laid = nodes.add(
        "ShaderNodeTexBrick",
        {
            "Vector": coordinates,
            "Color1": (*dark, 1),
            "Color2": (*light, 1),
            "Mortar": (*bricks.mortar_tone, 1),
            "Scale": 1.0,
            "Mortar Size": bricks.mortar,
            "Mortar Smooth": 0.6,
            "Bias": 0.0,
            "Brick Width": bricks.width,
            "Row Height": bricks.height,
        },
        offset=bricks.offset,
    )
    return nodes.mix(1.0, color, laid.outputs[0], "MULTIPLY")


def _striped(nodes: Nodes, stripes: Stripes, coordinates, color):
    axes = nodes.add("ShaderNodeSeparateXYZ", {0: coordinates}).outputs
    waves = [
        nodes.ramp(nodes.math("SINE", nodes.math("MULTIPLY", axes[axis], math.pi / stripes.width)), -0.2, 0.2)
        for axis in ((0, 1) if stripes.checks else (0,))
    ]
    cover = nodes.math("MULTIPLY", nodes.math("ADD", *waves), 0.5) if stripes.checks else waves[0]
    return nodes.mix(cover, color, stripes.color)


class Builder:
    """Puts meshes with materials into a scene. Every part is placed by a matrix; nothing needs bpy.ops."""

    def __init__(self, scene: bpy.types.Scene, surfaces: dict[str, Surface], seed: int):
        self.scene = scene
        self.materials = {name: material(name, surface) for name, surface in surfaces.items()}
        self.random = np.random.default_rng(seed)

    def part(
        self,
        surface: str,
        mesh: bmesh.types.BMesh,
        location=(0, 0, 0),
        turn: float = 0.0,
        scale=(1, 1, 1),
        tilt: Matrix | None = None,
        smooth: bool = False,
    ) -> bpy.types.Object:
        """Put a mesh into the scene.

        Args:
            surface: The name of its surface, and of the object.
            mesh: Its shape, freed afterwards.
            location: Where its origin is, in scene units.
            turn: About the z axis, in radians, after the tilt.
            scale: Along its own axes.
            tilt: A rotation, (4, 4).
            smooth: Whether its faces are shaded smoothly.

        Returns:
            The object.
        """
        data = bpy.data.meshes.new(surface)
        if smooth:
            for face in mesh.faces:
                face.smooth = True
        mesh.to_mesh(data)
        mesh.free()
        data.materials.append(self.materials[surface])
        made = bpy.data.objects.new(surface, data)
        made.matrix_world = (
            Matrix.Translation(location)
            @ Matrix.Rotation(turn, 4, "Z")
            @ (tilt or Matrix.Identity(4))
            @ Matrix.Diagonal((*scale, 1))
        )
        self.scene.collection.objects.link(made)
        return made

    def box(self, surface, center, size, turn=0.0, tilt=None):
        """A box; its texture coordinates are in scene units, whatever its size.

        Args:
            surface: The name of its surface.
            center: Where its middle is.
            size: Along x, y and z, in scene units.
            turn: About the z axis, in radians.
            tilt: A rotation before that, (4, 4).
        """
        mesh = bmesh.new()
        bmesh.ops.create_cube(mesh, size=1.0)
        bmesh.ops.scale(mesh, vec=size, verts=mesh.verts)
        return self.part(surface, mesh, center, turn, tilt=tilt)

    def cone(self, surface, base, bottom, top, height, segments=24, turn=0.0, smooth=True, tilt=None):
        """A cone or cylinder.

        Args:
            surface: The name of its surface.
            base: Where the middle of its foot is.
            bottom: Its radius there, in scene units.
            top: Its radius at the upper end.
            height: In scene units.
            segments: Faces around it.
            turn: About the z axis, in radians.
            smooth: Whether its faces are shaded smoothly.
            tilt: A rotation before the turn, (4, 4).
        """
        mesh = bmesh.new()
        bmesh.ops.create_cone(mesh, cap_ends=True, segments=segments, radius1=bottom, radius2=top, depth=height)
        bmesh.ops.translate(mesh, vec=(0, 0, height / 2), verts=mesh.verts)
        return self.part(surface, mesh, base, turn, smooth=smooth, tilt=tilt)

    def blob(self, surface, center, radius, squash=1.0, lumps=0.25, lump_scale=1.6, subdivisions=4):
        """A sphere pushed in and out by smooth noise, turned at random.

        Args:
            surface: The name of its surface.
            center: Where its middle is.
            radius: In scene units.
            squash: Its height as a part of its width.
            lumps: How far it is pushed at most, as a part of the radius.
            lump_scale: How fine the noise is, in features per radius.
            subdivisions: Of the icosphere.
        """
        mesh = bmesh.new()
        bmesh.ops.create_icosphere(mesh, subdivisions=subdivisions, radius=1.0)
        offset = Vector(self.random.uniform(-50, 50, 3))
        for vertex in mesh.verts:
            vertex.co *= 1 + lumps * noise.noise(vertex.co * lump_scale + offset)
        return self.part(
            surface, mesh, center, self.random.uniform(0, 6.3), (radius, radius, radius * squash), smooth=True
        )

    def lathe(self, surface, base, profile, segments=48, tilt=None):
        """A turned body: a profile, joined by smooth walls around the z axis.

        Args:
            surface: The name of its surface.
            base: Where its origin is.
            profile: Points (radius, height) in scene units, from below.
            segments: Faces around it.
            tilt: A rotation, (4, 4).
        """
        mesh = bmesh.new()
        rows = [
            [
                mesh.verts.new((r * math.cos(a), r * math.sin(a), z))
                for a in np.arange(segments) * 2 * math.pi / segments
            ]
            for r, z in profile
        ]
        for lower, upper in zip(rows, rows[1:]):
            for s in range(segments):
                n = (s + 1) % segments
                mesh.faces.new((lower[s], lower[n], upper[n], upper[s]))
        bmesh.ops.remove_doubles(mesh, verts=mesh.verts, dist=1e-6)
        return self.part(surface, mesh, base, smooth=True, tilt=tilt)

    def gable(self, surface, base, width, depth, pitch, turn=0.0):
        """The triangular body under a ridge along x.

        Args:
            surface: The name of its surface.
            base: Where the middle of its foot is.
            width: Along the ridge, in scene units.
            depth: Across it.
            pitch: Of the roof's slopes, in radians.
            turn: About the z axis, in radians.
        """
        mesh = bmesh.new()
        rise = depth / 2 * math.tan(pitch)
        ends = [
            [mesh.verts.new((x, -depth / 2, 0)), mesh.verts.new((x, depth / 2, 0)), mesh.verts.new((x, 0, rise))]
            for x in (-width / 2, width / 2)
        ]
        mesh.faces.new(ends[0])
        mesh.faces.new(reversed(ends[1]))
        for i in range(3):
            mesh.faces.new((ends[0][i], ends[1][i], ends[1][(i + 1) % 3], ends[0][(i + 1) % 3]))
        bmesh.ops.recalc_face_normals(mesh, faces=mesh.faces)
        return self.part(surface, mesh, base, turn)

    def gable_roof(self, surface, base, width, depth, pitch, turn=0.0, eaves=0.12, overhang=0.11, thickness=0.07):
        """Two roof slabs over a `gable`.

        Args:
            surface: The name of their surface.
            base: As of the gable.
            width: As of the gable.
            depth: As of the gable.
            pitch: As of the gable.
            turn: As of the gable.
            eaves: How far they reach beyond its sides, in scene units.
            overhang: How far they reach beyond its ends.
            thickness: Of the slabs.
        """
        spin = Matrix.Rotation(turn, 4, "Z")
        reach = depth / 2 + eaves
        slope = reach / math.cos(pitch)
        for side in (-1, 1):
            middle = Vector((0, side * reach / 2, (depth / 2 - reach / 2) * math.tan(pitch) + thickness / 2))
            self.box(
                surface,
                Vector(base) + spin @ middle,
                (width + 2 * overhang, slope + 0.02, thickness),
                turn,
                Matrix.Rotation(-side * pitch, 4, "X"),
            )

    def conifer(self, base, height, bark="bark", needles="conifer"):
        """A fir of four tiers, a little higher than `height`.

        Args:
            base: Where it stands.
            height: In scene units.
            bark: The name of the trunk's surface.
            needles: The name of the tiers' surface.
        """
        x, y, z = base
        self.cone(bark, (x, y, z - 0.03), 0.05, 0.04, 0.2, 12)
        tiers = 4
        for tier in range(tiers):
            t = tier / tiers
            self.cone(
                needles, (x, y, z + 0.13 + height * t * 0.8), height * 0.33 * (1 - 0.75 * t), 0.01, height * 0.42, 20
            )

    def round_tree(self, base, size, bark="bark", leaves="leaves"):
        """A trunk with a crown of five lumps, about 0.8 * `size` high.

        Args:
            base: Where it stands.
            size: In scene units.
            bark: The name of the trunk's surface.
            leaves: The name of the crown's surface.
        """
        x, y, z = base
        self.cone(bark, (x, y, z - 0.03), 0.06 * size + 0.02, 0.04, 0.36 * size + 0.1, 12)
        crown = z + 0.5 * size + 0.08
        self.blob(leaves, (x, y, crown), 0.27 * size, 0.9, 0.3)
        for i in range(4):
            angle = 1.57 * i + self.random.uniform(-0.4, 0.4)
            self.blob(
                leaves,
                (
                    x + 0.17 * size * math.cos(angle),
                    y + 0.17 * size * math.sin(angle),
                    crown + self.random.uniform(-0.08, 0.1) * size,
                ),
                0.18 * size,
                0.9,
                0.3,
            )

    def disc(self, surface, center, radius, segments=64):
        """A flat disc, facing up.

        Args:
            surface: The name of its surface.
            center: Where its middle is.
            radius: In scene units.
            segments: Corners of its edge.
        """
        mesh = bmesh.new()
        bmesh.ops.create_circle(mesh, cap_ends=True, segments=segments, radius=radius)
        return self.part(surface, mesh, center)
