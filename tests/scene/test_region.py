"""Regions: what is a closed surface and what is not, from arrays, PLY and JSON."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from in2n_blender.scene.errors import In2nError
from in2n_blender.scene.readers import ply
from in2n_blender.scene.readers.regions import read_region
from in2n_blender.scene.region import Region, signed_volume, triangulated

TETRAHEDRON = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
ITS_FACES = [[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]
QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
CUBE = np.array([[x, y, z] for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)])


def placed(center=(0, 0, 0), size=(1, 1, 1)):
    matrix = np.diag([*size, 1.0])
    matrix[:3, 3] = center
    return matrix


def refused(function, *arguments) -> str:
    with pytest.raises(In2nError) as raised:
        function(*arguments)
    error = raised.value
    assert error.code in ("bad_region", "bad_mesh_file", "missing_file") and error.hint and "\n" not in str(error)
    return error.message


def test_a_box_and_an_ellipsoid_have_their_size_place_and_volume():
    box = Region.box(placed((1, 2, 3), (2, 4, 6)), 0.25)
    assert np.allclose(box.bounds, [[0, 0, 0], [2, 4, 6]]) and box.soft_edge == 0.25
    assert signed_volume(box.vertices, box.faces) == pytest.approx(48)
    ball = Region.ellipsoid(placed((1, 2, 3), (2, 4, 6)))
    assert np.allclose(ball.bounds, [[0, 0, 0], [2, 4, 6]], atol=0.02)
    assert signed_volume(ball.vertices, ball.faces) == pytest.approx(4 / 3 * np.pi * 6, rel=0.02)
    assert len(ball.faces) == 1280 and np.allclose((((ball.vertices - [1, 2, 3]) / [1, 2, 3]) ** 2).sum(1), 1)


def test_vertices_that_come_twice_are_one_and_unused_ones_go():
    corners = np.array(TETRAHEDRON, float)[np.array(ITS_FACES).ravel()]
    region = Region.of(np.concatenate([corners, [[9, 9, 9]]]), np.arange(12).reshape(4, 3))
    assert len(region.vertices) == 4 and len(region.faces) == 4
    assert region.hash == Region.of(TETRAHEDRON, ITS_FACES).hash


def test_a_surface_that_is_inside_out_is_turned():
    inside_out = [face[::-1] for face in ITS_FACES]
    for faces in (ITS_FACES, inside_out):
        region = Region.of(TETRAHEDRON, faces)
        assert signed_volume(region.vertices, region.faces) == pytest.approx(1 / 6)


def test_two_boxes_that_touch_are_closed():
    two = np.concatenate([CUBE, CUBE + [1, 0, 0]])
    faces = triangulated(QUADS + [tuple(8 + i for i in face) for face in QUADS])
    assert signed_volume(*(lambda r: (r.vertices, r.faces))(Region.of(two, faces))) == pytest.approx(2)


@pytest.mark.parametrize(
    "vertices, faces, said",
    [
        (TETRAHEDRON, ITS_FACES[:3], "3 of its edges border on a hole"),
        (TETRAHEDRON, [*ITS_FACES[:3], ITS_FACES[3][::-1]], "point in different directions"),
        (TETRAHEDRON, [], "is empty"),
        (TETRAHEDRON, [[0, 0, 1]], "is empty"),
        (TETRAHEDRON, None, "triangles must be n x 3"),
        (None, ITS_FACES, "vertices must be n x 3"),
        ([[0, 0], [1, 0]], ITS_FACES, "vertices must be n x 3"),
        (TETRAHEDRON, [[0, 1, 4]], "a corner that is not there"),
        (TETRAHEDRON, [[0, 1, -1]], "a corner that is not there"),
        (TETRAHEDRON, [[0, 1, 0.5]], "a corner that is not there"),
        ([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, float("nan")]], ITS_FACES, "not finite"),
        ([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], ITS_FACES, "is flat"),
        (TETRAHEDRON, np.tile(ITS_FACES, (30_000, 1)), "120,000 triangles"),
    ],
)
def test_what_is_no_closed_surface_is_told_in_a_sentence(vertices, faces, said):
    assert said in refused(Region.of, vertices, faces)


@pytest.mark.parametrize("edge", [-0.1, float("nan"), float("inf"), "wide", None, True])
def test_a_soft_edge_is_a_width(edge):
    assert "soft edge" in refused(Region.of, TETRAHEDRON, ITS_FACES, edge)
    assert "soft edge" in refused(Region.of(TETRAHEDRON, ITS_FACES).with_edge, edge)


def test_the_hash_tells_surface_and_edge_apart():
    box = Region.box(placed())
    assert len({box.hash, box.with_edge(0.1).hash, Region.box(placed((0, 0, 1e-9))).hash}) == 3
    assert Region.from_json(json.loads(json.dumps(box.with_edge(0.1).to_json()))).hash == box.with_edge(0.1).hash


def test_a_region_in_other_coordinates():
    turned = np.eye(4)
    turned[:3, :3] = 2 * np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    turned[:3, 3] = [10, 0, 0]
    box = Region.box(placed((1, 0, 0), (2, 1, 1)), 0.5).transformed(turned)
    assert np.allclose(box.bounds, [[9, 0, -1], [11, 4, 1]]) and box.soft_edge == pytest.approx(1)
    mirrored = Region.of(TETRAHEDRON, ITS_FACES).transformed(np.diag([-1.0, 1, 1, 1]))
    assert signed_volume(mirrored.vertices, mirrored.faces) == pytest.approx(1 / 6)
    assert "is flat" in refused(box.transformed, np.diag([1.0, 1, 0, 1]))


# --- files


def header(form, faces, vertex="float", more=""):
    lines = ["ply", f"format {form} 1.0", "comment by hand", f"element vertex {len(CUBE)}"]
    lines += [f"property {vertex} {axis}" for axis in "xyz"] + ["property uchar red"]
    lines += [
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        *more.split(";")[bool(more) - 1 :],
    ]
    return "\n".join([line for line in lines if line] + ["end_header", ""]).encode()


def as_ascii(faces):
    rows = [" ".join(map(str, [*vertex, 7])) for vertex in CUBE]
    rows += [" ".join(map(str, [len(face), *face])) for face in faces]
    return header("ascii", faces) + "\n".join(rows).encode() + b"\n"


def as_binary(faces, order="<", vertex="float"):
    kind = {"float": "f", "double": "d"}[vertex]
    body = b"".join(struct.pack(f"{order}3{kind}B", *corner, 7) for corner in CUBE)
    body += b"".join(struct.pack(f"{order}B{len(face)}if", len(face), *face, 0.5) for face in faces)
    form = "binary_little_endian" if order == "<" else "binary_big_endian"
    return header(form, faces, vertex, more="property float quality") + body


@pytest.mark.parametrize(
    "content",
    [as_ascii(QUADS), as_binary(QUADS), as_binary(QUADS, ">"), as_binary(QUADS, "<", "double")],
    ids=["ascii", "little", "big", "double"],
)
def test_a_ply_of_quads_is_read(tmp_path, content):
    (tmp_path / "box.ply").write_bytes(content)
    region = read_region(tmp_path / "box.ply", 0.125)
    assert len(region.faces) == 12 and region.soft_edge == 0.125
    assert region.hash == Region.box(placed((0.5,) * 3), 0.125).hash


def test_a_mesh_of_trimesh_is_read(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    ball = trimesh.creation.icosphere(2)
    ball.visual.vertex_colors = np.full((len(ball.vertices), 4), 9, np.uint8)
    (tmp_path / "ball.ply").write_bytes(ball.export(file_type="ply", vertex_normal=True))
    region = read_region(tmp_path / "ball.ply")
    assert signed_volume(region.vertices, region.faces) == pytest.approx(ball.volume, rel=1e-5)


def test_a_json_of_each_kind_is_read(tmp_path):
    file = tmp_path / "region.json"
    box = {"type": "box", "center": [1, 2, 3], "size": [2, 2, 2], "soft_edge": 0.5}
    ellipsoid = {"type": "ellipsoid", "matrix": placed((1, 2, 3), (2, 2, 2)).tolist()}
    mesh = {"type": "mesh", "vertices": CUBE.tolist(), "faces": [list(face) for face in QUADS]}
    for written, wanted in (
        (box, Region.box(placed((1, 2, 3), (2, 2, 2)), 0.5)),
        (ellipsoid, Region.ellipsoid(placed((1, 2, 3), (2, 2, 2)))),
        (mesh, Region.box(placed((0.5,) * 3))),
    ):
        file.write_text(json.dumps(written))
        assert read_region(file).hash == wanted.hash


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"ply",
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n0\n",
        as_ascii(QUADS)[:-9],
        as_binary(QUADS)[:-9],
        as_binary([(0, 1, 99), *QUADS[1:]]),
        as_binary(QUADS).replace(b"face 6", b"face 9999999999"),
        as_binary(QUADS).replace(b"vertex 8", b"vertex 9999999999"),
        as_ascii(QUADS).replace(b"format ascii", b"format smoke"),
        b"{",
        b"[1, 2]",
        b'{"type": "cone"}',
        b'{"type": "box"}',
        b'{"type": "box", "center": [0, 0, 0], "size": [1, 1]}',
        b'{"type": "box", "center": [0, 0, 0], "size": [1, 1, 0]}',
        b'{"type": "box", "center": [0, 0, 0], "size": [1, 1, NaN]}',
        b'{"type": "box", "matrix": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]}',
        b'{"type": "mesh", "vertices": [[0, 0, 0]], "faces": 7}',
        b'{"type": "mesh", "vertices": [[0, 0, 0]], "faces": [[0, 0]]}',
        b'{"type": "mesh", "vertices": [[0, 0, 0]], "faces": [["a", "b", "c"]]}',
        b'{"type": "mesh", "vertices": {"a": 1}, "faces": [{"b": 1, "c": 1, "d": 1}]}',
        b"\xff\xfe" + b"[" * 100_000,
    ],
)
def test_a_file_that_is_no_region_is_refused_in_a_sentence(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    refused(read_region, tmp_path / "file")


def test_a_file_that_is_not_there_or_too_large(tmp_path, monkeypatch):
    assert "does not exist" in refused(read_region, tmp_path / "nothing.ply")
    monkeypatch.setattr("in2n_blender.scene.readers.regions.MOST_BYTES", 10)
    (tmp_path / "box.ply").write_bytes(as_binary(QUADS))
    assert "larger than" in refused(read_region, tmp_path / "box.ply")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_ply_is_refused_or_read_never_worse(tmp_path_factory, data):
    content = bytearray(data.draw(st.sampled_from([as_ascii(QUADS), as_binary(QUADS)])))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.mktemp("damaged") / "box.ply"
    file.write_bytes(content)
    try:
        read_region(file)
    except In2nError:
        pass


def test_points_are_still_read(tmp_path):
    (tmp_path / "points.ply").write_bytes(as_ascii(QUADS).replace(b"red", b"nx"))
    points, colors = ply.read_points(tmp_path / "points.ply")
    assert np.allclose(points, CUBE) and (colors == 128).all()
