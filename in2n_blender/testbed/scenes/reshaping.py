"""Edits that change a scene's shape: a thick cover lies on it, things are put there, others are gone.

Snowdrifts, dunes and heather cover what lies open to the sky; each comes with something new, and without something that
was there. All are right answers to one instruction, as far from each other as from the scene as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import bmesh
import bpy  # before bmesh and mathutils, which the bpy wheel holds inside itself
from mathutils import Matrix, Vector, noise
from mathutils.bvhtree import BVHTree

from .builder import Builder, two_tone

SEED = 11
MADE, HIDDEN = "testbed: made by an edit", "testbed: hidden by an edit"
# Steeper faces carry no cover: the least z of a unit normal.
COVERED = 0.5
# A cover is at most this share of how wide the thing is that it lies on.
COVER_SHARE = 0.35
# Wider things, such as a meadow up to the horizon, are cut into so many rows and columns; in thicknesses.
TOO_WIDE, ROWS = 220, 100
SURFACES = {
    "snowdrift": two_tone("ccd8e6", "fafcff", scale=2.0),
    "sand": two_tone("a8733c", "d9b477", scale=2.0),
    "heather": two_tone("5d2f73", "b679c9", scale=4.0),
    "carrot": two_tone("d8641a", "ee8a3c"),
    "coal": two_tone("1c1d20", "303236"),
    "felt": two_tone("23365e", "3a5590"),
    "ribbon": two_tone("c23a2c", "dd5a44"),
    "cactus": two_tone("2c6b3f", "559a5c", scale=6.0),
    "stalk": two_tone("e4d9bf", "f6efdd"),
    "cap": two_tone("a8231d", "d6453a", scale=3.0),
}


@dataclass(frozen=True)
class Shape:
    """What an edit does to a scene's shape.

    Attributes:
        cover: The surface that lies on everything.
        thickness: Of the cover, in scene units.
        gone: The surfaces of the things that are gone.
        new: What stands where: (a function of a builder, foot and size, (x, y), size in scene units) each.
    """

    cover: str
    thickness: float
    gone: tuple[str, ...]
    new: tuple[tuple[Callable[[Builder, Vector, float], None], tuple[float, float], float], ...]


def snowman(build: Builder, foot: Vector, size: float) -> None:
    """Three balls with a hat, `size` high.

    Args:
        build: What puts it into the scene.
        foot: Where it stands.
        size: In scene units.
    """
    for surface, height, radius in (
        ("snowdrift", 0.22, 0.27),
        ("snowdrift", 0.55, 0.19),
        ("snowdrift", 0.78, 0.13),
        ("coal", 0.60, 0.045),
    ):
        forward = Vector((0, -0.17, 0)) if surface == "coal" else Vector()
        build.blob(surface, foot + size * (forward + Vector((0, 0, height))), size * radius, lumps=0.04, subdivisions=3)
    nose = Matrix.Rotation(math.pi / 2, 4, "X")
    build.cone("carrot", foot + size * Vector((0, -0.1, 0.79)), 0.035 * size, 0.0, 0.16 * size, 12, tilt=nose)
    hat(build, foot + size * Vector((0, 0, 0.86)), 0.3 * size)


def hat(build: Builder, foot: Vector, size: float) -> None:
    """A hat with a brim and a ribbon, `size` wide.

    Args:
        build: What puts it into the scene.
        foot: The middle of the brim's lower side.
        size: In scene units.
    """
    build.lathe(
        "felt",
        foot,
        [(0, 0), (0.5 * size, 0), (0.5 * size, 0.05 * size), (0.3 * size, 0.07 * size), (0.26 * size, 0.5 * size),
         (0.2 * size, 0.56 * size), (0, 0.54 * size)],
    )  # fmt: skip
    build.cone("ribbon", foot + Vector((0, 0, 0.07 * size)), 0.315 * size, 0.3 * size, 0.13 * size, 32)


def cactus(build: Builder, foot: Vector, size: float) -> None:
    """A column with two arms, `size` high.

    Args:
        build: What puts it into the scene.
        foot: Where it stands.
        size: In scene units.
    """
    build.cone("cactus", foot - Vector((0, 0, 0.05 * size)), 0.13 * size, 0.11 * size, 0.92 * size, 20)
    build.blob("cactus", foot + Vector((0, 0, 0.87 * size)), 0.115 * size, 1.1, 0.02, subdivisions=3)
    for side, height in ((-1, 0.35), (1, 0.5)):
        elbow = foot + Vector((side * 0.3 * size, 0, height * size))
        lying = Matrix.Rotation(side * math.pi / 2, 4, "Y")
        build.cone("cactus", foot + Vector((0, 0, height * size)), 0.08 * size, 0.08 * size, 0.3 * size, 16, tilt=lying)
        build.blob("cactus", elbow, 0.085 * size, 1.0, 0.02, subdivisions=3)
        build.cone("cactus", elbow, 0.08 * size, 0.07 * size, 0.28 * size, 16)
        build.blob("cactus", elbow + Vector((0, 0, 0.28 * size)), 0.075 * size, 1.0, 0.02, subdivisions=3)


def mushroom(build: Builder, foot: Vector, size: float) -> None:
    """A mushroom under a wide red cap, `size` high.

    Args:
        build: What puts it into the scene.
        foot: Where it stands.
        size: In scene units.
    """
    build.lathe("stalk", foot, [(0.16 * size, -0.05 * size), (0.1 * size, 0.3 * size), (0.13 * size, 0.7 * size)])
    build.lathe(
        "cap",
        foot,
        [(0, 0.62 * size), (0.42 * size, 0.56 * size), (0.44 * size, 0.62 * size), (0.34 * size, 0.82 * size),
         (0.18 * size, 0.96 * size), (0, size)],
    )  # fmt: skip


def folded_parasol(build: Builder, foot: Vector, size: float) -> None:
    """The cloth of a parasol hanging down around its pole, `size` long.

    Args:
        build: What puts it into the scene.
        foot: Where its cloth ends below.
        size: In scene units.
    """
    build.lathe("ribbon", foot, [(0.13 * size, 0), (0.15 * size, 0.1 * size), (0.05 * size, 0.9 * size), (0, size)], 16)


SNOWDRIFTS, DUNES, HEATHER = SHAPES = ("snowdrifts", "dunes", "heather")
# By scene and edit. On the island the parasol is folded, and the statue wears a hat.
OF_SCENES = {
    "island": {
        SNOWDRIFTS: Shape(
            "snowdrift", 0.06, ("cloth_red", "cloth_white"),
            ((folded_parasol, (0.92, -0.52), 0.45), (snowman, (-0.55, -0.95), 0.5)),
        ),
        DUNES: Shape("sand", 0.05, ("pumpkin",), ((hat, (-0.72, -0.42), 0.5), (cactus, (0.35, -0.85), 0.5))),
        HEATHER: Shape("heather", 0.05, ("barrel",), ((mushroom, (-0.3, -0.75), 0.4), (mushroom, (0.65, -0.85), 0.3))),
    },
    "courtyard": {
        SNOWDRIFTS: Shape("snowdrift", 0.06, ("melon",), ((snowman, (-0.45, 0.3), 0.5),)),
        DUNES: Shape("sand", 0.045, ("bottle", "label"), ((cactus, (-0.2, 0.02), 0.5), (hat, (-0.42, 0.24), 0.36))),
        HEATHER: Shape(
            "heather", 0.045, ("bread", "orange", "lemon"),
            ((mushroom, (0.05, -0.5), 0.32), (mushroom, (0.45, -0.12), 0.4)),
        ),
    },
    "street": {
        SNOWDRIFTS: Shape("snowdrift", 0.2, ("awning_red", "awning_blue"), ((snowman, (-0.7, 1.2), 1.6),)),
        DUNES: Shape("sand", 0.16, ("barrel",), ((cactus, (0.9, -0.4), 1.7), (cactus, (-1.3, 4.2), 2.1))),
        HEATHER: Shape("heather", 0.16, ("lamp",), ((mushroom, (-0.5, 0.6), 1.3), (mushroom, (1.3, 3.6), 1.9))),
    },
}  # fmt: skip


def reshape(scene: bpy.types.Scene, name: str, edit: str) -> None:
    """Change the shape of a scene that is as it was built; `put_back` undoes it.

    Args:
        scene: What is changed.
        name: Which of OF_SCENES it is.
        edit: One of SHAPES.

    Raises:
        KeyError: There is no such scene or edit.
    """
    shape, before = OF_SCENES[name][edit], set(scene.objects)
    for thing in _meshes(scene):
        if thing.name.partition(".")[0] in shape.gone:
            thing.hide_render = thing[HIDDEN] = True
    build = Builder(scene, SURFACES, SEED)
    standing = surface_tree(scene)
    _lay_cover(build, list(_meshes(scene)), standing, shape)
    for put, (x, y), size in shape.new:
        put(build, _foot(standing, x, y), size)
    for thing in set(scene.objects) - before:
        thing[MADE] = True


def put_back(scene: bpy.types.Scene) -> None:
    """Undo what `reshape` did, if it did anything.

    Args:
        scene: What is as it was built afterwards.
    """
    for thing in list(scene.objects):
        if thing.get(HIDDEN):
            thing.hide_render = False
            del thing[HIDDEN]
        elif thing.get(MADE):
            mesh = thing.data
            bpy.data.objects.remove(thing)
            bpy.data.meshes.remove(mesh)


def surface_tree(scene: bpy.types.Scene) -> BVHTree:
    """All surfaces that are rendered, for rays.

    Args:
        scene: Of meshes without modifiers.

    Returns:
        A tree in scene units, of the faces of `surfaces`.
    """
    return BVHTree.FromPolygons(*surfaces(scene))


def surfaces(scene: bpy.types.Scene) -> tuple[list[Vector], list[list[int]]]:
    """All surfaces that are rendered.

    Args:
        scene: Of meshes without modifiers.

    Returns:
        Vertices in scene units, and the vertices' numbers of each face.
    """
    vertices, faces = [], []
    for thing in _meshes(scene):
        first = len(vertices)
        vertices += [thing.matrix_world @ vertex.co for vertex in thing.data.vertices]
        faces += [[first + index for index in face.vertices] for face in thing.data.polygons]
    return vertices, faces


def _meshes(scene: bpy.types.Scene) -> Iterator[bpy.types.Object]:
    return (thing for thing in scene.objects if thing.type == "MESH" and not thing.hide_render)


def _foot(standing: BVHTree, x: float, y: float) -> Vector:
    """Where something that falls from the sky comes to lie."""
    return standing.ray_cast(Vector((x, y, 1e3)), Vector((0, 0, -1)))[0]


def _lay_cover(build: Builder, things: list[bpy.types.Object], standing: BVHTree, shape: Shape) -> None:
    for thing in things:
        mesh = bmesh.new()
        mesh.from_mesh(thing.data)
        mesh.transform(thing.matrix_world)
        extent = max((max(v.co[axis] for v in mesh.verts) - min(v.co[axis] for v in mesh.verts)) for axis in (0, 1))
        thickness = min(shape.thickness, COVER_SHARE * extent)
        _keep_open_faces(mesh, standing, thickness, fine=extent < TOO_WIDE * shape.thickness)
        if mesh.faces:
            _thicken(mesh, thickness)
            build.part(shape.cover, mesh, smooth=True)
        else:
            mesh.free()


def _keep_open_faces(mesh: bmesh.types.BMesh, standing: BVHTree, thickness: float, fine: bool) -> None:
    """Leave the faces that look up and see the sky, cut to about the cover's thickness; where not `fine`, coarsely."""
    _delete_faces(mesh, lambda face: face.normal.z < COVERED)
    while fine:
        long = [edge for edge in mesh.edges if edge.calc_length() > 2 * thickness]
        if not long:
            break
        bmesh.ops.subdivide_edges(mesh, edges=long, cuts=1, use_grid_fill=True)
    if not fine and len(mesh.faces) < ROWS:
        _cut_into_rows(mesh)
    up = Vector((0, 0, 1))
    # From a little above, so that the face itself is not hit.
    _delete_faces(
        mesh, lambda face: standing.ray_cast(face.calc_center_median() + 0.02 * thickness * up, up)[0] is not None
    )


def _cut_into_rows(mesh: bmesh.types.BMesh) -> None:
    for axis in (0, 1):
        places = [vertex.co[axis] for vertex in mesh.verts]
        normal = Vector((axis == 0, axis == 1, 0))
        for row in range(1, ROWS):
            place = min(places) + (max(places) - min(places)) * row / ROWS
            parts = [*mesh.verts, *mesh.edges, *mesh.faces]
            bmesh.ops.bisect_plane(mesh, geom=parts, plane_co=place * normal, plane_no=normal)


def _delete_faces(mesh: bmesh.types.BMesh, unwanted: Callable[[bmesh.types.BMFace], bool]) -> None:
    mesh.normal_update()
    bmesh.ops.delete(mesh, geom=[face for face in mesh.faces if unwanted(face)], context="FACES")


def _thicken(mesh: bmesh.types.BMesh, thickness: float) -> None:
    """Faces that look up become the top of a body: low above their edge, uneven and higher inside."""
    raised = bmesh.ops.extrude_face_region(mesh, geom=mesh.faces[:])["geom"]
    top = {part for part in raised if isinstance(part, bmesh.types.BMVert)}
    edge = {vertex for vertex in top if any(other not in top for face in vertex.link_faces for other in face.verts)}
    for vertex in top:
        height = 0.5 if vertex in edge and edge != top else 1 + 0.4 * noise.noise(vertex.co / (4 * thickness))
        vertex.co.z += thickness * height
    mesh.normal_update()
