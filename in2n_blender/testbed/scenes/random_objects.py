"""Random objects with random materials, from one seed: what the random scenes are built of."""

import math
import random

import bmesh
import bpy
from mathutils import Matrix, Vector, noise

from .materials import foliage_colour, natural_material, plain_material, random_colour, textured_material

SHAPES = (
    "cube",
    "sphere",
    "cylinder",
    "cone",
    "torus",
    "suzanne",
    "rock",
    "house",
    "house",
    "tree",
    "fir",
    "table",
    "wall",
    "steps",
    "fence",
)


NATURAL_OF_A_KIND = 6


class SceneBuilder:
    """Adds objects with random shapes and materials to one scene."""

    def __init__(self, scene: bpy.types.Scene, rng: random.Random, photographs=()):
        self.scene, self.rng, self.photographs = scene, rng, tuple(photographs)
        self._natural: dict[str, list[bpy.types.Material]] = {}

    def material(self, green: bool = False) -> bpy.types.Material:
        """A random material, plain or textured.

        Args:
            green: Whether its colours are those of leaves.
        """
        rng = self.rng
        colour = foliage_colour if green else random_colour
        if rng.random() < 0.4:
            return plain_material(
                "Plain", colour(rng), roughness=rng.uniform(0.3, 1.0), metallic=float(rng.random() < 0.04)
            )
        return textured_material("Textured", rng, (colour(rng), colour(rng)), () if green else self.photographs)

    def natural(self, kind: str) -> bpy.types.Material:
        """A material of a kind that is seen outdoors, in its usual colours; now and then any material at all.

        A scene has a few of each kind, as places have, and so that a street is rendered as quickly as a field.

        Args:
            kind: One of `materials.NATURAL`.
        """
        made = self._natural.setdefault(kind, [])
        if len(made) == NATURAL_OF_A_KIND:
            return self.rng.choice(made)
        made.append(natural_material(kind, self.rng) if self.rng.random() < 0.9 else self.material())
        return made[-1]

    def plain(self, name: str, colour, roughness: float) -> bpy.types.Material:
        """A material of one colour, made once.

        Args:
            name: The material's.
            colour: Linear RGB.
            roughness: From 0 to 1.
        """
        return bpy.data.materials.get(name) or plain_material(name, colour, roughness)

    def random_place(self, spread: float) -> Matrix:
        """A place near the middle, turned anyhow.

        Args:
            spread: How far from the middle it may be, in scene units.

        Returns:
            (4, 4).
        """
        rng = self.rng
        radius, angle = spread * math.sqrt(rng.random()), rng.uniform(0, 2 * math.pi)
        turn = Matrix.Rotation(rng.uniform(0, 6.3), 4, "Z")
        return Matrix.Translation((math.cos(angle) * radius, math.sin(angle) * radius, 0)) @ turn

    def add_mesh(self, name: str, mesh: bmesh.types.BMesh, material, matrix: Matrix, smooth: bool = False):
        """Add an object.

        Args:
            name: Of the mesh and the object.
            mesh: Its shape, freed afterwards.
            material: What it is made of.
            matrix: Object to world, (4, 4).
            smooth: Whether its faces are shaded smoothly.

        Returns:
            The object.
        """
        data = bpy.data.meshes.new(name)
        mesh.to_mesh(data)
        mesh.free()
        data.materials.append(material)
        if smooth:
            data.polygons.foreach_set("use_smooth", [True] * len(data.polygons))
        mesh_object = bpy.data.objects.new(name, data)
        mesh_object.matrix_world = matrix
        self.scene.collection.objects.link(mesh_object)
        return mesh_object

    def add_primitive(self, kind: str, material, matrix: Matrix):
        """Add a shape about one unit large.

        Args:
            kind: "cube", "sphere", "rock", "cylinder", "cone", "roof", "gable", "suzanne" or "torus".
            material: What it is made of.
            matrix: Object to world, (4, 4).

        Returns:
            The object.
        """
        mesh = bmesh.new()
        if kind == "cube":
            bmesh.ops.create_cube(mesh, size=1.0)
        elif kind in ("sphere", "rock"):
            bmesh.ops.create_icosphere(mesh, subdivisions=4, radius=0.5)
        elif kind == "cylinder":
            bmesh.ops.create_cone(mesh, cap_ends=True, segments=32, radius1=0.5, radius2=0.5, depth=1.0)
        elif kind == "cone":
            bmesh.ops.create_cone(mesh, cap_ends=True, segments=32, radius1=0.5, radius2=0.0, depth=1.0)
        elif kind == "roof":
            bmesh.ops.create_cone(mesh, cap_ends=True, segments=4, radius1=0.85, radius2=0.0, depth=1.0)
            bmesh.ops.rotate(mesh, verts=mesh.verts, cent=(0, 0, 0), matrix=Matrix.Rotation(math.pi / 4, 3, "Z"))
        elif kind == "gable":
            bmesh.ops.create_cube(mesh, size=1.0)
            for vertex in mesh.verts:
                vertex.co.x *= 0.02 if vertex.co.z > 0 else 1.2
                vertex.co.y *= 1.15
        elif kind == "suzanne":
            bmesh.ops.create_monkey(mesh)
            bmesh.ops.scale(mesh, vec=(0.5, 0.5, 0.5), verts=mesh.verts)
        elif kind == "torus":
            mesh = _torus()
        if kind == "rock":
            _displace(mesh, 0.22, 1.6, Vector([self.rng.uniform(-50, 50) for _ in range(3)]))
        smooth = kind in ("sphere", "torus", "suzanne") or (kind in ("cylinder", "cone") and self.rng.random() < 0.3)
        return self.add_mesh(kind, mesh, material, matrix, smooth)

    def add_random_object(self, spread: float = 3.6) -> None:
        """Add one of SHAPES.

        Args:
            spread: How far from the middle it may be, in scene units.
        """
        rng = self.rng
        position = self.random_place(spread)
        kind = rng.choice(SHAPES)
        composite = {
            "house": self.add_house,
            "tree": self.add_tree,
            "fir": self.add_fir,
            "table": self.add_table,
            "wall": self.add_wall,
            "steps": self.add_steps,
            "fence": self.add_fence,
        }
        if kind in composite:
            composite[kind](position @ Matrix.Scale(rng.uniform(0.6, 1.5), 4))
            return
        size = Vector([rng.uniform(0.4, 1.6)] * 3)
        if rng.random() < 0.5:
            size = Vector([value * rng.uniform(0.5, 1.8) for value in size])
        lift = size.z * (0.25 if kind == "torus" else 0.5) + (rng.uniform(0.2, 1.6) if rng.random() < 0.15 else 0.0)
        tilt = (
            Matrix.Rotation(rng.uniform(-0.7, 0.7), 4, rng.choice("XY")) if rng.random() < 0.35 else Matrix.Identity(4)
        )
        self.add_primitive(
            kind, self.material(), position @ Matrix.Translation((0, 0, lift)) @ tilt @ Matrix.Diagonal((*size, 1))
        )

    def add_house(self, at: Matrix) -> None:
        """A house with a roof, a door and two windows.

        Args:
            at: Where it stands: (4, 4), its foot at the origin.
        """
        width, depth, height = self.rng.uniform(0.8, 1.6), self.rng.uniform(0.8, 1.6), self.rng.uniform(0.7, 1.4)
        roof = self.rng.uniform(0.4, 0.9)
        self.add_primitive(
            "cube",
            self.material(),
            at @ Matrix.Translation((0, 0, height / 2)) @ Matrix.Diagonal((width, depth, height, 1)),
        )
        self.add_primitive(
            self.rng.choice(("roof", "gable")),
            self.material(),
            at @ Matrix.Translation((0, 0, height + roof / 2)) @ Matrix.Diagonal((width, depth, roof, 1)),
        )
        dark = self.material()
        self.add_primitive(
            "cube",
            dark,
            at
            @ Matrix.Translation((0, depth / 2, height * 0.3))
            @ Matrix.Diagonal((width * 0.25, 0.05, height * 0.6, 1)),
        )
        for side in (-1, 1):
            self.add_primitive(
                "cube",
                dark,
                at
                @ Matrix.Translation((side * width / 2, 0, height * 0.55))
                @ Matrix.Diagonal((0.05, depth * 0.3, height * 0.3, 1)),
            )

    def add_tree(self, at: Matrix) -> None:
        """A trunk with a lumpy crown.

        Args:
            at: Where it stands: (4, 4), its foot at the origin.
        """
        trunk = plain_material("Bark", (0.12, 0.06, 0.03), 0.9)
        self.add_primitive(
            "cylinder", trunk, at @ Matrix.Translation((0, 0, 0.4)) @ Matrix.Diagonal((0.16, 0.16, 0.8, 1))
        )
        leaves = self.material(green=True)
        for _ in range(self.rng.randint(1, 4)):
            position = Vector((self.rng.uniform(-0.3, 0.3), self.rng.uniform(-0.3, 0.3), self.rng.uniform(0.9, 1.4)))
            self.add_primitive(
                "rock", leaves, at @ Matrix.Translation(position) @ Matrix.Scale(self.rng.uniform(0.6, 1.1), 4)
            )

    def add_fir(self, at: Matrix) -> None:
        """A fir of three tiers.

        Args:
            at: Where it stands: (4, 4), its foot at the origin.
        """
        self.add_primitive(
            "cylinder",
            plain_material("Bark", (0.12, 0.06, 0.03), 0.9),
            at @ Matrix.Translation((0, 0, 0.2)) @ Matrix.Diagonal((0.14, 0.14, 0.4, 1)),
        )
        needles = self.material(green=True)
        for layer in range(3):
            width = 1.0 - 0.25 * layer
            self.add_primitive(
                "cone",
                needles,
                at @ Matrix.Translation((0, 0, 0.6 + 0.4 * layer)) @ Matrix.Diagonal((width, width, 0.7, 1)),
            )

    def add_table(self, at: Matrix) -> None:
        """A table with up to three things on it.

        Args:
            at: Where it stands: (4, 4), its feet at the origin's height.
        """
        wood = self.material()
        self.add_primitive("cube", wood, at @ Matrix.Translation((0, 0, 0.75)) @ Matrix.Diagonal((1.5, 0.9, 0.08, 1)))
        for x in (-0.65, 0.65):
            for y in (-0.35, 0.35):
                self.add_primitive(
                    "cube", wood, at @ Matrix.Translation((x, y, 0.36)) @ Matrix.Diagonal((0.09, 0.09, 0.72, 1))
                )
        for _ in range(self.rng.randint(0, 3)):
            top = Vector((self.rng.uniform(-0.5, 0.5), self.rng.uniform(-0.3, 0.3), 0.94))
            kind = self.rng.choice(("cube", "sphere", "cylinder", "cone", "suzanne"))
            self.add_primitive(kind, self.material(), at @ Matrix.Translation(top) @ Matrix.Scale(0.3, 4))

    def add_wall(self, at: Matrix) -> None:
        """A piece of wall along x.

        Args:
            at: Where it stands: (4, 4), its foot at the origin.
        """
        height = self.rng.uniform(0.3, 1.5)
        self.add_primitive(
            "cube",
            self.material(),
            at @ Matrix.Translation((0, 0, height / 2)) @ Matrix.Diagonal((self.rng.uniform(1, 3), 0.2, height, 1)),
        )

    def add_fence(self, at: Matrix) -> None:
        """A fence of posts and two rails along x.

        Args:
            at: Where it stands: (4, 4), its foot at the origin.
        """
        wood, posts = self.material(), self.rng.randint(3, 9)
        for post in range(posts):
            self.add_primitive(
                "cube",
                wood,
                at @ Matrix.Translation((0.28 * (post - posts / 2), 0, 0.25)) @ Matrix.Diagonal((0.08, 0.05, 0.5, 1)),
            )
        for height in (0.18, 0.38):
            self.add_primitive(
                "cube",
                wood,
                at @ Matrix.Translation((-0.14, 0, height)) @ Matrix.Diagonal((0.28 * posts, 0.03, 0.06, 1)),
            )

    def add_steps(self, at: Matrix) -> None:
        """Three to six steps that rise along y.

        Args:
            at: Where they stand: (4, 4), the first one's foot at the origin.
        """
        stone = self.material()
        for step in range(self.rng.randint(3, 6)):
            height = 0.18 * (step + 1)
            self.add_primitive(
                "cube",
                stone,
                at @ Matrix.Translation((0, 0.3 * step, height / 2)) @ Matrix.Diagonal((1.2, 0.3, height, 1)),
            )


def _torus(major: float = 0.45, minor: float = 0.17, around: int = 32, across: int = 14) -> bmesh.types.BMesh:
    mesh = bmesh.new()
    rings = []
    for i in range(around):
        angle = 2 * math.pi * i / around
        ring = []
        for j in range(across):
            turn = 2 * math.pi * j / across
            distance = major + minor * math.cos(turn)
            ring.append(
                mesh.verts.new((distance * math.cos(angle), distance * math.sin(angle), minor * math.sin(turn)))
            )
        rings.append(ring)
    for i, ring in enumerate(rings):
        after = rings[(i + 1) % around]
        for j in range(across):
            k = (j + 1) % across
            mesh.faces.new((ring[j], after[j], after[k], ring[k]))
    bmesh.ops.recalc_face_normals(mesh, faces=mesh.faces)
    return mesh


def _displace(mesh: bmesh.types.BMesh, strength: float, frequency: float, origin: Vector) -> None:
    for vertex in mesh.verts:
        vertex.co *= 1.0 + strength * noise.noise(vertex.co * 2 * frequency + origin)
