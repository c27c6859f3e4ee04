"""A mesh's picture: what rays meet, from which camera, lit from where."""

import numpy as np
from PIL import Image

from in2n_blender.engine.output import mesh as mesh_module
from in2n_blender.engine.output.mesh import extract_mesh
from in2n_blender.engine.output.mesh_picture import LONGEST_SIDE, first_hits, picture_of_mesh
from in2n_blender.engine.output.surface import ColoredMesh, vertex_normals
from in2n_blender.link.requests import ExtractMesh
from in2n_blender.scene.camera import Camera, Intrinsics
from in2n_blender.scene.reporting import Reporter
from in2n_blender.workspace.layout import Workspace
from tests.engine.test_mesh import SeenBall

RED, BLUE = (1.0, 0.2, 0.2), (0.2, 0.2, 1.0)


def colored(vertices, faces, colors):
    vertices, faces = np.asarray(vertices, np.float32), np.asarray(faces)
    return ColoredMesh(vertices, faces, vertex_normals(vertices, faces), np.asarray(colors, np.float32))


def square(depth, side, color):
    """Four vertices of a square before a camera at the origin, two faces, colours."""
    corners = [[x, y, -depth] for x, y in ((-side, -side), (side, -side), (side, side), (-side, side))]
    return corners, [[0, 1, 2], [0, 2, 3]], [color] * 4


def camera(width=80, height=40, shift=0.0):
    pose = np.eye(4)
    pose[0, 3] = shift
    return Camera(Intrinsics(width, height, 40.0, 40.0, width / 2, height / 2), pose)


def test_rays_meet_what_the_formula_says():
    random = np.random.default_rng(0)
    vertices, faces = random.normal(size=(30, 3)), random.permutation(30).reshape(10, 3)
    origins = random.normal(size=(200, 3)) * 3
    directions = random.normal(size=(200, 3)) / 2 - origins
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    nearest, met = np.full(200, np.inf), np.full(200, -1)
    for number in range(10):  # solve origin + t direction = a + u (b - a) + v (c - a)
        for ray in range(200):
            matrix = np.stack([-directions[ray], (b - a)[number], (c - a)[number]], 1)
            t, u, v = np.linalg.solve(matrix, origins[ray] - a[number])
            if t > 0 and u >= 0 and v >= 0 and u + v <= 1 and t < nearest[ray]:
                nearest[ray], met[ray] = t, number
    face, weights = first_hits(vertices, faces, origins, directions)
    np.testing.assert_array_equal(face, met)
    hit = met >= 0
    assert 20 < hit.sum() < 180
    places = (vertices[faces[met[hit]]] * weights[hit, :, None]).sum(1)
    np.testing.assert_allclose(places, origins[hit] + nearest[hit, None] * directions[hit], atol=1e-4)


def test_what_is_nearer_hides_what_is_behind_and_nothing_is_white():
    far, near = square(4.0, 2.0, BLUE), square(2.0, 0.5, RED)
    mesh = colored(far[0] + near[0], far[1] + [[4 + i for i in face] for face in near[1]], far[2] + near[2])
    picture = picture_of_mesh(mesh, [camera()])
    assert picture.shape == (LONGEST_SIDE // 2, LONGEST_SIDE, 3)
    middle = picture[LONGEST_SIDE // 4]
    np.testing.assert_allclose(middle[LONGEST_SIDE // 2], RED, atol=0.01)  # seen squarely, so not darkened
    np.testing.assert_allclose(middle[0], 1.0)
    beside = int(LONGEST_SIDE * 0.7)  # 16 of 40 pixels from the middle: 0.4 to 1 across, past the near square
    across = np.linalg.norm([16 / 40, 0, 1])
    np.testing.assert_allclose(middle[beside], np.multiply(BLUE, 0.5 + 0.5 / across), atol=0.01)


def test_the_camera_that_sees_most_of_it_is_chosen():
    mesh = colored(*square(4.0, 0.5, RED))
    away, before = camera(shift=50.0), camera()
    np.testing.assert_array_equal(picture_of_mesh(mesh, [away, before]), picture_of_mesh(mesh, [before]))


def test_a_mesh_has_a_picture_beside_it_and_a_quick_one_has_none(tmp_path, monkeypatch):
    workspace = Workspace(tmp_path / "workspace")
    folder = workspace.edit("gold")
    folder.mkdir(parents=True)
    (folder / "checkpoint.safetensors").write_bytes(b"trained")
    monkeypatch.setattr(mesh_module, "load_scene", lambda workspace_, edit, device: SeenBall())
    for quick in (True, False):
        request = ExtractMesh(
            workspace=str(workspace.root), edit="gold", resolution=32, texture=32, quick=quick, device="cpu"
        )
        extract_mesh(request, Reporter())
        assert workspace.mesh("gold", ".png").is_file() is not quick
    assert not workspace.mesh("gold", ".png", quick=True).exists()
    picture = np.asarray(Image.open(workspace.mesh("gold", ".png")), np.float64) / 255
    white = (picture == 1).all(-1)
    assert 0.3 < white.mean() < 0.8  # round the ball
    assert picture[~white].std() > 0.1  # whose colours are those of its normals
