"""Closed surfaces whose edges each belong to two faces, also after faces were merged.

Quadric decimation of a closed surface may let two of its sheets touch in an edge. Where they do, they are cut apart, as
in Guéziec et al. 2001, "Cutting and stitching: converting sets of polygons to manifold surfaces".
"""

from __future__ import annotations

import numpy as np

# Of the way to its neighbours a vertex is moved that was cut from another at its place: who reads the file may merge
# vertices at one place.
MOVED = 0.02


def with_edges_of_two_faces(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut a closed surface apart where its sheets touch.

    Args:
        vertices: (v, 3) float32.
        faces: (f, 3) int64, all in one orientation; as many run through each edge one way as the other.

    Returns:
        Vertices and faces of the same types; each edge belongs to two faces that run through it in opposite ways.

    Raises:
        ValueError: The surface is open.
    """
    faces = _without_folds(faces)
    corner = _fans(faces)
    origin = np.empty(int(corner.max()) + 1, np.int64)
    origin[corner] = faces.reshape(-1)
    faces = corner.reshape(-1, 3)
    return _with_edges_divided(_moved_apart(vertices, origin, faces), faces)


def _edges(faces: np.ndarray) -> np.ndarray:
    """(3 f, 2): each face's, in the order of the corners at which they begin."""
    return np.stack([faces, np.roll(faces, -1, axis=1)], -1).reshape(-1, 2)


def _without_folds(faces: np.ndarray) -> np.ndarray:
    """Without pairs of faces that lie on each other, back to back."""
    key = np.sort(faces, 1)
    _, group, count = np.unique(key, axis=0, return_inverse=True, return_counts=True)
    return faces[count[group.reshape(-1)] % 2 == 1]


def _fans(faces: np.ndarray) -> np.ndarray:
    """Which vertex each corner (3 f,) gets: one for each fan of faces that hang together round a vertex.

    Where more than two faces meet in an edge, each that runs through it one way is joined to one that runs the other.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = _edges(faces)
    forward = edges[:, 0] < edges[:, 1]
    key = np.sort(edges, 1)
    there, back = (np.flatnonzero(way)[np.lexsort(key[way].T)] for way in (forward, ~forward))
    if len(there) != len(back) or (key[there] != key[back]).any():
        raise ValueError("the surface is open")
    following = np.arange(len(edges)).reshape(-1, 3)[:, [1, 2, 0]].reshape(-1)  # the corner at which an edge ends
    pairs = np.concatenate([np.stack([there, following[back]], 1), np.stack([following[there], back], 1)])
    links = coo_array((np.ones(len(pairs), np.int8), pairs.T), shape=(len(edges),) * 2)
    return connected_components(links, directed=False)[1]


def _moved_apart(vertices: np.ndarray, origin: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The vertices that `origin` names; those that it names more than once a little towards their own neighbours."""
    found = vertices[origin].astype(np.float64)
    copied = np.bincount(origin, minlength=len(vertices))[origin] > 1
    sums, counts = np.zeros_like(found), np.zeros(len(found))
    for begin, end in ((0, 1), (1, 2), (2, 0)):
        np.add.at(sums, faces[:, begin], found[faces[:, end]])
        np.add.at(counts, faces[:, begin], 1)
    middle = sums / np.maximum(counts, 1)[:, None]
    order = np.argsort(origin, kind="stable")
    ordered = origin[order]
    rank = np.empty(len(origin))
    rank[order] = np.arange(len(origin)) - np.searchsorted(ordered, ordered)  # two may have the same neighbours
    found[copied] += (MOVED * (1 + rank / 2))[copied, None] * (middle - found)[copied]
    return found.astype(vertices.dtype)


def _with_edges_divided(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give each two faces at an edge of more than two a middle of their own: of a sheet that touches itself."""
    edges, uses = np.unique(np.sort(_edges(faces), 1), axis=0, return_counts=True)
    for begin, end in edges[uses > 2]:
        number, corner = np.nonzero((faces == begin) & (np.roll(faces, -1, axis=1) == end))
        other, across = np.nonzero((faces == end) & (np.roll(faces, -1, axis=1) == begin))
        for pair in zip(zip(number, corner), zip(other, across)):
            opposite = [faces[face, (at + 2) % 3] for face, at in pair]
            middle = vertices[[begin, end]].mean(0)
            middle = middle + MOVED * (vertices[opposite].mean(0) - middle)
            for face, at in pair:
                first, last = faces[face, at], faces[face, (at + 1) % 3]
                faces = np.append(faces, [[len(vertices), last, faces[face, (at + 2) % 3]]], 0)
                faces[face] = first, len(vertices), faces[face, (at + 2) % 3]
            vertices = np.append(vertices, middle[None].astype(vertices.dtype), 0)
    return vertices, faces
