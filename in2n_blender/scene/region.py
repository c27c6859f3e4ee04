"""A region: the closed surface within which an edit acts.

It lies in the capture's coordinates, relative to its offset, as cameras, points and extracted meshes do. Whatever it is
made of (a box, an ellipsoid, an object of Blender's, a file) it is kept as triangles.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from .errors import In2nError

MOST_FACES = 100_000
THINNEST = 1e-9  # the volume of the thinnest region, as a share of the cube over its largest extent
ROUNDNESS = 3  # how often an icosahedron's faces are divided into four to make an ellipsoid


@dataclass(frozen=True, eq=False)
class Region:
    """A closed surface with a soft edge inside of it. Made by `of`, which checks it.

    Attributes:
        vertices: (n, 3) float64 in capture units, relative to the capture's offset.
        faces: (m, 3) int32, counter-clockwise seen from outside.
        soft_edge: Width of the soft edge in capture units: an edit acts fully from so far inside the surface on, less
            and less towards it, and nowhere outside.
    """

    vertices: np.ndarray
    faces: np.ndarray
    soft_edge: float = 0.0

    @staticmethod
    def of(vertices: object, faces: object, soft_edge: object = 0.0) -> Region:
        """A region of triangles, checked.

        Vertices at one place become one, as files often have a vertex several times. Where the surface is inside out,
        it is turned.

        Args:
            vertices: Anything; (n, 3) numbers in capture units.
            faces: Anything; (m, 3) whole numbers, the corners of the triangles.
            soft_edge: Anything; a number from 0 upwards, in capture units.

        Returns:
            The region.

        Raises:
            In2nError: "bad_region" for what is not finite, too large, empty or flat, has holes, or has faces that point
                in different directions.
        """
        vertices, faces = _welded(*_checked_arrays(vertices, faces))
        faces = faces[(faces != np.roll(faces, 1, axis=1)).all(1)]  # slivers whose corners fell together
        if not len(faces):
            raise bad_region("is empty", "Give it some volume.")
        used = np.unique(faces)
        vertices, faces = vertices[used], np.searchsorted(used, faces).astype(np.int32)
        _check_closed(faces)
        volume = signed_volume(vertices, faces)
        if abs(volume) <= THINNEST * np.ptp(vertices, axis=0).max() ** 3:
            raise bad_region("is flat: it encloses nothing", "Give it some thickness.")
        faces = faces if volume > 0 else np.ascontiguousarray(faces[:, ::-1])
        return Region(vertices, faces, _checked_edge(soft_edge))

    @staticmethod
    def box(matrix: object, soft_edge: object = 0.0) -> Region:
        """A box: the cube from -1/2 to 1/2 along each axis, placed by a matrix.

        Args:
            matrix: (4, 4) affine, to capture coordinates.
            soft_edge: In capture units.

        Returns:
            12 triangles.

        Raises:
            In2nError: "bad_region".
        """
        corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) - 0.5
        sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
        return Region.of(_placed(corners, matrix), triangulated(sides), soft_edge)

    @staticmethod
    def around(bounds: np.ndarray) -> Region:
        """The box between two corners.

        Args:
            bounds: (2, 3) the lowest and the highest corner, in capture coordinates.

        Raises:
            In2nError: "bad_region" for a box without volume.
        """
        low, high = np.asarray(bounds, np.float64)
        matrix = np.diag([*(high - low), 1.0])
        matrix[:3, 3] = (low + high) / 2
        return Region.box(matrix)

    @staticmethod
    def ellipsoid(matrix: object, soft_edge: object = 0.0) -> Region:
        """An ellipsoid: the ball of radius 1/2 round the origin, placed by a matrix.

        Args:
            matrix: (4, 4) affine, to capture coordinates.
            soft_edge: In capture units.

        Returns:
            1,280 triangles.

        Raises:
            In2nError: "bad_region".
        """
        vertices, faces = _icosahedron()
        for _ in range(ROUNDNESS):
            vertices, faces = _welded(*_divided(vertices, faces))
        return Region.of(_placed(vertices / 2, matrix), faces, soft_edge)

    @property
    def bounds(self) -> np.ndarray:
        """(2, 3) the lowest and the highest corner of the box around it, in capture coordinates."""
        return np.stack([self.vertices.min(0), self.vertices.max(0)])

    @property
    def hash(self) -> str:
        """40 hexadecimal digits, the same for the same surface with the same soft edge."""
        digest = hashlib.blake2b(digest_size=20)
        for array in (self.vertices.astype("<f8"), self.faces.astype("<i4"), np.array([self.soft_edge], "<f8")):
            digest.update(array.tobytes())
        return digest.hexdigest()

    def transformed(self, matrix: np.ndarray) -> Region:
        """The region in other coordinates.

        Args:
            matrix: (4, 4) affine, from these coordinates to the others; its mean scale is the soft edge's.

        Returns:
            The region there.

        Raises:
            In2nError: "bad_region" where nothing is left of it.
        """
        matrix = np.asarray(matrix, np.float64)
        scale = abs(np.linalg.det(matrix[:3, :3])) ** (1 / 3)
        return Region.of(_placed(self.vertices, matrix), self.faces, self.soft_edge * scale)

    def with_edge(self, soft_edge: object) -> Region:
        """The same surface with another soft edge.

        Args:
            soft_edge: In capture units.

        Raises:
            In2nError: "bad_region" for what is no width.
        """
        return Region(self.vertices, self.faces, _checked_edge(soft_edge))

    def to_json(self) -> dict:
        return {
            "type": "mesh",
            "vertices": self.vertices.tolist(),
            "faces": self.faces.tolist(),
            "soft_edge": self.soft_edge,
        }

    @staticmethod
    def from_json(data: object) -> Region:
        """What `to_json` gave, or what a user wrote.

        Args:
            data: {"type": "mesh", "vertices": [[x, y, z], …], "faces": [[i, j, k, …], …]}, or {"type": "box"} or
                {"type": "ellipsoid"} with "center": [x, y, z] and "size": [x, y, z] (from end to end), or with
                "matrix": 4 rows of 4 numbers, which places the cube or ball of size 1 round the origin; all with a
                "soft_edge" or none. Lengths in capture units.

        Returns:
            The region.

        Raises:
            In2nError: "bad_region".
        """
        if not isinstance(data, dict):
            raise bad_region("is no JSON object", FORMS)
        kind, soft_edge = data.get("type"), data.get("soft_edge", 0.0)
        if kind == "mesh":
            return Region.of(data.get("vertices"), triangulated(data.get("faces")), soft_edge)
        if kind not in ("box", "ellipsoid"):
            raise bad_region(f"has the type {str(kind)[:40]!r}", FORMS)
        shape = Region.box if kind == "box" else Region.ellipsoid
        if "matrix" in data:
            return shape(data["matrix"], soft_edge)
        center, size = (_numbers(data.get(name), (3,), f"its {name}") for name in ("center", "size"))
        matrix = np.diag([*size, 1.0])
        matrix[:3, 3] = center
        return shape(matrix, soft_edge)


FORMS = (
    'Write for example {"type": "box", "center": [0, 0, 1], "size": [2, 2, 2]}; other types are ellipsoid and mesh, '
    "the last with vertices and faces."
)


def triangulated(faces: object) -> list:
    """Polygons cut into triangles, each from its first corner.

    Args:
        faces: Anything; a sequence of sequences of three or more whole numbers.

    Returns:
        Of three numbers each.

    Raises:
        In2nError: "bad_region" for anything else.
    """
    try:
        if any(len(face) < 3 for face in faces):
            raise bad_region("has a face of fewer than three corners", "Remove loose edges and export it again.")
        return [(face[0], face[i], face[i + 1]) for face in faces for i in range(1, len(face) - 1)]
    except (TypeError, KeyError):
        raise bad_region("has faces that are none", FORMS) from None


def signed_volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    """The volume that a closed surface encloses, negative where it is inside out.

    Args:
        vertices: (n, 3).
        faces: (m, 3) int.

    Returns:
        In cubed units of the vertices.
    """
    a, b, c = (vertices[faces[:, corner]] - vertices.mean(0) for corner in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


def bad_region(reason: str, hint: str) -> In2nError:
    """What to say of a region that cannot be used.

    Args:
        reason: What is wrong, as the end of a sentence: "is not closed".
        hint: What to do.

    Returns:
        In2nError "bad_region", to be raised.
    """
    return In2nError("bad_region", f"The region {reason}.", hint)


def _numbers(value: object, shape: tuple[int | None, ...], what: str) -> np.ndarray:
    """The value as float64 of a shape, None standing for any length. Raises In2nError("bad_region")."""
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.empty(())
    fits = array.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, array.shape))
    if not fits:
        wanted = " x ".join("n" if length is None else str(length) for length in shape)
        raise bad_region(f"is wrong: {what} must be {wanted} numbers", FORMS)
    if not np.isfinite(array).all() or np.abs(array).max(initial=0) > 1e12:
        raise bad_region("has a number that is not finite", "Export it again.")
    return array


def _checked_arrays(vertices: object, faces: object) -> tuple[np.ndarray, np.ndarray]:
    if np.size(np.array(faces, object)) == 0:
        raise bad_region("is empty: it has no faces", "Choose an object with a surface.")
    points, corners = _numbers(vertices, (None, 3), "its vertices"), _numbers(faces, (None, 3), "its triangles")
    if len(corners) > MOST_FACES:
        raise bad_region(
            f"has {len(corners):,} triangles, {MOST_FACES:,} are the most",
            "Simplify it, for example by a Decimate modifier.",
        )
    if (corners != np.round(corners)).any() or corners.min() < 0 or corners.max() >= len(points):
        raise bad_region("has a face with a corner that is not there", "Export it again.")
    return points, corners.astype(np.int64)


def _welded(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same surface with every vertex once."""
    vertices, places = np.unique(vertices + 0.0, axis=0, return_inverse=True)  # + 0.0: there is one zero
    return vertices, places.reshape(-1)[faces]


def _checked_edge(soft_edge: object) -> float:
    if isinstance(soft_edge, bool) or not isinstance(soft_edge, int | float) or not 0 <= soft_edge < 1e12:
        raise bad_region("has a soft edge that is no width", "Give a number from 0 upwards.")
    return float(soft_edge)


def _check_closed(faces: np.ndarray) -> None:
    """Every edge is run through as often one way as the other. Raises In2nError("bad_region")."""
    edges = np.concatenate([faces, np.roll(faces, -1, axis=1)]).reshape(2, -1).T.astype(np.int64)
    count = int(faces.max()) + 1
    ways = edges[:, 0] * count + edges[:, 1], edges[:, 1] * count + edges[:, 0]
    if np.array_equal(*(np.sort(way) for way in ways)):
        return
    _, uses = np.unique(np.minimum(*ways), return_counts=True)
    if (uses % 2).any():
        raise bad_region(
            f"is not closed: {int((uses % 2).sum()):,} of its edges border on a hole",
            "Fill the holes, or choose a closed object such as a box.",
        )
    raise bad_region(
        "has faces that point in different directions",
        "In Edit Mode, select all and choose Mesh > Normals > Recalculate Outside.",
    )


def _placed(points: np.ndarray, matrix: object) -> np.ndarray:
    matrix = _numbers(matrix, (4, 4), "its matrix")
    if not np.allclose(matrix[3], [0, 0, 0, 1], atol=1e-6):
        raise bad_region("has a matrix that is not affine", "Its last row must be 0, 0, 0, 1.")
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _icosahedron() -> tuple[np.ndarray, np.ndarray]:
    """Its 12 vertices on the unit ball and its 20 faces."""
    g = (1 + 5**0.5) / 2
    vertices = np.array(
        [[-1, g, 0], [1, g, 0], [-1, -g, 0], [1, -g, 0], [0, -1, g], [0, 1, g]]
        + [[0, -1, -g], [0, 1, -g], [g, 0, -1], [g, 0, 1], [-g, 0, -1], [-g, 0, 1]]
    ) / np.hypot(1, g)
    faces = "0,11,5 0,5,1 0,1,7 0,7,10 0,10,11 1,5,9 5,11,4 11,10,2 10,7,6 7,1,8"
    faces += " 3,9,4 3,4,2 3,2,6 3,6,8 3,8,9 4,9,5 2,4,11 6,2,10 8,6,7 9,8,1"
    return vertices, np.array([[int(i) for i in face.split(",")] for face in faces.split()])


def _divided(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every face of a surface in the unit ball in four, with the new vertices on the ball; some come twice."""
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    middles = [(x + y) / np.linalg.norm(x + y, axis=1, keepdims=True) for x, y in ((a, b), (b, c), (c, a))]
    count = len(faces)
    i, j, k, ij, jk, ki = (np.arange(count) + n * count for n in range(6))
    parts = [(i, ij, ki), (ij, j, jk), (ki, jk, k), (ij, jk, ki)]
    return np.concatenate([a, b, c, *middles]), np.concatenate([np.stack(part, 1) for part in parts])
