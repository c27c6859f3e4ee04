"""Meshes: of the density alone, of the surface that views agree on, closed, with a texture, as files."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from in2n_blender.engine.nerf.dataset import SceneTransform
from in2n_blender.engine.nerf.rendering import NerfModel
from in2n_blender.engine.nerf.scene import Scene
from in2n_blender.engine.output import mesh as mesh_module
from in2n_blender.engine.output import meshing
from in2n_blender.engine.output.fusion import DepthView, VoxelGrid, depth_bias, depth_views, fuse
from in2n_blender.engine.output.manifold import with_edges_of_two_faces
from in2n_blender.engine.output.mesh import extract_mesh
from in2n_blender.engine.output.meshing import MeshSettings, are_holes, is_solid, mesh_of_scene
from in2n_blender.engine.output.surface import (
    DensityGrid,
    Surface,
    marching_cubes,
    sample_density,
    simplify,
    surface_threshold,
    vertex_normals,
    without_floaters,
)
from in2n_blender.engine.output.texture import rasterised, textured, unwrap
from in2n_blender.link.requests import ExtractMesh
from in2n_blender.scene.camera import Camera, Intrinsics
from in2n_blender.scene.capture import PinholeCapture, View
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.region import Region
from in2n_blender.scene.reporting import Reporter
from in2n_blender.scene.srgb import srgb_to_linear
from in2n_blender.workspace.files import write_json
from in2n_blender.workspace.layout import Workspace
from tests.engine.analytic_scene import CENTER, OFFSET, RADIUS, BallScene, camera_at
from tests.engine.ball import TINY

RESOLUTION = 48
VOXEL = 3.0 / (RESOLUTION - 1)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A workspace whose checkpoint is a placeholder and whose scene is a ball that is seen from all sides."""
    workspace = Workspace(tmp_path / "workspace")
    folder = workspace.edit("gold")
    folder.mkdir(parents=True)
    (folder / "checkpoint.safetensors").write_bytes(b"trained")
    workspace.scene = SeenBall()
    monkeypatch.setattr(mesh_module, "load_scene", lambda workspace_, edit, device: workspace.scene)
    return workspace


def camera_from(direction, side=96, distance=4.0):
    """Looking at the ball's centre from a direction."""
    backward = np.asarray(direction, np.float64) / np.linalg.norm(direction)
    right = np.cross([0, 0, 1] if abs(backward[2]) < 0.9 else [1, 0, 0], backward)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(backward, right), backward], 1)
    pose[:3, 3] = CENTER + distance * backward
    return Camera(Intrinsics(side, side, 1.4 * side, 1.4 * side, side / 2, side / 2), pose)


class SeenBall(BallScene):
    """The ball, with views from all sides or from above."""

    def __init__(self, below=True, sheet=False, **more):
        super().__init__(**more)
        self.sheet = sheet
        steps = np.arange(24) + 0.5
        z = 1 - 2 * steps / 24 if below else 1 - steps / 24
        turn = np.pi * (1 + 5**0.5) * steps
        around = np.sqrt(1 - z**2)
        directions = np.stack([around * np.cos(turn), around * np.sin(turn), z], 1)
        self.capture.training_views = [SimpleNamespace(camera=camera_from(direction)) for direction in directions]

    def render(self, camera, report=None):
        """With `sheet`, the first view sees something in the air, as a NeRF puts sky somewhere."""
        seen = super().render(camera, report)
        if self.sheet and camera.camera_to_world[2, 3] == self.capture.training_views[0].camera.camera_to_world[2, 3]:
            seen.depth[seen.alpha == 0] = 3.4
        return seen


def density_mesh(scene, resolution):
    return mesh_of_scene(scene, MeshSettings(resolution, quick=True), Reporter()).mesh


def solid_of(mesh):
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


# --- the density alone


def ball_radius(threshold):
    """Where the analytic ball's density equals the threshold."""
    return RADIUS + 0.02 * np.log(200 / threshold - 1)


def test_quick_mesh_of_a_ball(workspace):
    result = extract_mesh(
        ExtractMesh(workspace=str(workspace.root), edit="gold", resolution=48, quick=True, device="cpu"), Reporter()
    )
    ply = trimesh.load(result["ply"], process=False)
    assert (len(ply.vertices), len(ply.faces)) == (result["vertices"], result["faces"])
    radius = np.linalg.norm(ply.vertices - CENTER, axis=1)
    np.testing.assert_allclose(radius, ball_radius(result["threshold"]), atol=0.15 * 3.0 / 47)  # a fraction of a voxel
    assert ply.is_watertight
    assert ply.volume == pytest.approx(
        4 / 3 * np.pi * ball_radius(result["threshold"]) ** 3, rel=0.02
    )  # positive: the faces look outwards
    normal = (ply.vertices - CENTER) / radius[:, None]
    np.testing.assert_allclose(ply.visual.vertex_colors[:, :3] / 255, (normal + 1) / 2, atol=0.08)
    np.testing.assert_allclose(ply.vertex_normals, normal, atol=0.15)
    facts = json.loads(workspace.mesh("gold", ".json", quick=True).read_text())
    assert facts["vertices"] == result["vertices"] and facts["faces"] == result["faces"]
    assert facts["offset"] == result["offset"] == OFFSET.tolist()


def test_a_quick_mesh_lies_beside_the_one_that_was_extracted(workspace):
    chosen = {"workspace": str(workspace.root), "edit": "gold", "device": "cpu"}
    own = extract_mesh(ExtractMesh(**chosen, resolution=40, texture=32), Reporter())
    before = {kind: workspace.mesh("gold", f".{kind}").read_bytes() for kind in ("ply", "glb", "json")}
    quick = extract_mesh(ExtractMesh(**chosen, resolution=24, quick=True), Reporter())
    assert {kind: workspace.mesh("gold", f".{kind}").read_bytes() for kind in before} == before
    assert quick["ply"] == str(workspace.mesh("gold", ".ply", quick=True)) != own["ply"] and "glb" not in quick
    assert len(trimesh.load(quick["ply"], process=False).vertices) == quick["vertices"] < own["vertices"]
    written = workspace.mesh("gold", ".ply", quick=True).stat().st_mtime_ns
    again = extract_mesh(ExtractMesh(**chosen, resolution=24, quick=True), Reporter())
    assert again == quick and workspace.mesh("gold", ".ply", quick=True).stat().st_mtime_ns == written


def test_glb_has_y_up_and_linear_colors(workspace):
    result = extract_mesh(
        ExtractMesh(workspace=str(workspace.root), edit="gold", resolution=32, texture=0, device="cpu"), Reporter()
    )
    ply = trimesh.load(result["ply"], process=False)
    glb = trimesh.load(result["glb"], process=False, force="mesh")
    x, y, z = glb.vertices.T
    np.testing.assert_allclose(np.stack([x, -z, y], 1), ply.vertices, atol=1e-5)  # what Blender's importer does
    np.testing.assert_array_equal(glb.faces, ply.faces)
    header, document, binary = split_glb(open(result["glb"], "rb").read())
    accessor = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]]
    view = document["bufferViews"][accessor["bufferView"]]
    colors = np.frombuffer(binary, "<u2", view["byteLength"] // 2, view["byteOffset"]).reshape(-1, 4) / 65535
    assert accessor["normalized"] and accessor["componentType"] == 5123
    np.testing.assert_allclose(colors[:, :3], srgb_to_linear(ply.visual.vertex_colors[:, :3] / 255), atol=0.01)


def split_glb(data):
    magic, version, length = data[:4], int.from_bytes(data[4:8], "little"), int.from_bytes(data[8:12], "little")
    assert magic == b"glTF" and version == 2 and length == len(data)
    size = int.from_bytes(data[12:16], "little")
    assert data[16:20] == b"JSON" and data[24 + size : 28 + size] == b"BIN\0"
    return data[:12], json.loads(data[20 : 20 + size]), data[28 + size :]


def test_floaters_are_removed():
    clean = density_mesh(BallScene(), 40)
    cleaned = density_mesh(BallScene(floaters=True), 40)
    assert len(cleaned.vertices) == len(clean.vertices)
    grid = sample_density(BallScene(floaters=True), 40, Reporter())
    vertices, faces = marching_cubes(grid, surface_threshold(BallScene(), grid, Reporter()))
    assert len(vertices) > len(clean.vertices)
    assert len(without_floaters(vertices, faces, share=0.0)[0]) == len(vertices)


def test_mesh_stays_inside_the_bounds_and_is_open_where_cut():
    class Cut(BallScene):
        def bounds(self):
            return np.stack([CENTER - 1.4, CENTER + [1.4, 1.4, 0.0]])

    mesh = density_mesh(Cut(), 40)
    assert mesh.vertices[:, 2].max() <= CENTER[2] + 1e-4
    assert not trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).is_watertight


def unseen(scene):
    scene.capture.training_views = []
    return scene


def test_threshold_is_half_the_density_of_seen_surfaces():
    grid = sample_density(BallScene(), 20, Reporter())
    assert surface_threshold(BallScene(), grid, Reporter()) == pytest.approx(50, rel=0.01)  # 100 at the rendered depth


def test_threshold_without_views_hides_half_over_two_voxels_and_falls_back_for_soft_surfaces():
    hard = np.zeros((10, 10, 10), np.float32)
    hard[4:, :, :] = 1000
    threshold = surface_threshold(unseen(BallScene()), DensityGrid(hard, np.zeros(3), 0.1), Reporter())
    assert np.exp(-threshold * 0.2) == pytest.approx(0.5)
    assert surface_threshold(
        unseen(BallScene()), DensityGrid(hard / 500, np.zeros(3), 0.1), Reporter()
    ) == pytest.approx(1.0)


@pytest.mark.parametrize("density", [0.0, np.nan])
def test_nothing_dense_is_a_clear_error(density):
    with pytest.raises(In2nError) as error:
        surface_threshold(
            unseen(BallScene()), DensityGrid(np.full((4, 4, 4), density, np.float32), np.zeros(3), 0.1), Reporter()
        )
    assert error.value.code == "empty_mesh"


class NothingScene(Scene):
    """A scene without density, in which every ray goes on for ever."""

    def render(self, camera, report=None):
        size = camera.intrinsics.height, camera.intrinsics.width
        return SimpleNamespace(rgb_srgb=torch.ones(*size, 3), alpha=torch.zeros(size), depth=torch.full(size, 9.0))

    def density(self, points):
        return torch.zeros(len(points))


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("points", [0, 200], ids=["no points", "points far away"])
def test_a_scene_in_which_nothing_is_seen_has_an_empty_mesh(points, quick):
    far = np.random.default_rng(0).normal(1e3, 1, (points, 3)).astype(np.float32)
    views = tuple(View(str(angle), "x", camera_at(angle)) for angle in (0.0, 2.0, 4.0))
    capture = PinholeCapture("nothing", "", "draft", views, far, np.zeros((points, 3), np.uint8))
    scene = NothingScene(NerfModel(TINY), SceneTransform(tuple(CENTER), 0.25), capture, torch.device("cpu"), True)
    with pytest.raises(In2nError) as error:
        mesh_of_scene(scene, MeshSettings(16, quick=quick), Reporter())
    assert error.value.code == "empty_mesh"


def test_simplify_keeps_the_shape():
    made = mesh_of_scene(BallScene(), MeshSettings(48, quick=True), Reporter())
    mesh, threshold = made.mesh, made.threshold
    vertices, faces = simplify(mesh.vertices, mesh.faces, most_faces=2000)
    assert len(faces) <= 2200 < len(mesh.faces)
    np.testing.assert_allclose(np.linalg.norm(vertices - CENTER, axis=1), ball_radius(threshold), atol=0.01)
    assert ((vertices - CENTER) * vertex_normals(vertices, faces)).sum(1).min() > 0.8


def test_mesh_can_be_cancelled(workspace):
    with pytest.raises(Cancelled):
        extract_mesh(
            ExtractMesh(workspace=str(workspace.root), edit="gold", resolution=40, texture=32, device="cpu"),
            Reporter(cancelled=lambda: True),
        )
    assert not workspace.mesh("gold", ".ply").exists()


def test_a_mesh_of_the_same_scene_is_not_made_again(workspace, monkeypatch):
    request = ExtractMesh(workspace=str(workspace.root), edit="gold", resolution=24, texture=32, device="cpu")
    made = []
    whole = mesh_module.mesh_of_scene
    monkeypatch.setattr(mesh_module, "mesh_of_scene", lambda *given: made.append(given[1].resolution) or whole(*given))
    first = extract_mesh(request, Reporter())
    assert extract_mesh(request, Reporter()) == first and made == [24]
    extract_mesh(ExtractMesh(**{**request.to_params(), "resolution": 32}), Reporter())
    (workspace.edit("gold") / "checkpoint.safetensors").write_bytes(b"trained on")
    extract_mesh(ExtractMesh(**{**request.to_params(), "resolution": 32}), Reporter())
    assert made == [24, 32, 32]
    workspace.mesh("gold", ".glb").unlink()
    extract_mesh(ExtractMesh(**{**request.to_params(), "resolution": 32}), Reporter())
    write_json(workspace.capture_json, {"views": [], "points": [], "offset": [4e5, 5e6, 0.0]})
    extract_mesh(ExtractMesh(**{**request.to_params(), "resolution": 32}), Reporter())
    assert made == [24, 32, 32, 32, 32] and workspace.mesh("gold", ".glb").is_file()


def test_a_mesh_that_is_not_ours_is_not_overwritten(workspace):
    workspace.mesh("gold", ".ply").parent.mkdir(parents=True)
    workspace.mesh("gold", ".ply").write_text("mine")
    with pytest.raises(In2nError) as refused:
        extract_mesh(
            ExtractMesh(workspace=str(workspace.root), edit="gold", resolution=24, texture=32, device="cpu"), Reporter()
        )
    assert refused.value.code == "not_ours" and workspace.mesh("gold", ".ply").read_text() == "mine"
    assert not workspace.mesh("gold", ".glb").exists()


# --- the surface that views agree on


def test_fused_depths_are_distances_to_the_ball():
    scene = SeenBall()
    grid = VoxelGrid(CENTER - 1.5, VOXEL, (RESOLUTION,) * 3)
    fused = fuse(depth_views(scene, Reporter()), grid, "cpu", Reporter())
    index = np.stack(np.meshgrid(*[np.arange(RESOLUTION)] * 3, indexing="ij"), -1).reshape(-1, 3)
    outside = (np.linalg.norm(grid.places(index) - CENTER, axis=1) - RADIUS).reshape(grid.shape)
    near, band = np.abs(outside) < 0.5 * VOXEL, np.abs(outside) < 3 * VOXEL
    assert fused.seen[near].all()
    # Along rays that see the ball slantingly it is farther than along its normal, but not where it is.
    error = np.abs(fused.distance[near] * 4 * VOXEL - outside[near]) / VOXEL
    assert error.mean() < 0.5 and error.max() < 1.5
    clear = band & (np.abs(outside) > VOXEL) & fused.seen
    assert (np.sign(fused.distance[clear]) == np.sign(outside[clear])).all()
    assert not fused.seen[outside < -8 * VOXEL].any()  # nobody looks into the ball
    surface = fused.is_surface(24)
    assert surface[np.abs(outside) < 0.5 * VOXEL].all() and not surface[outside > 6 * VOXEL].any()


def test_mesh_of_a_ball(workspace):
    result = extract_mesh(
        ExtractMesh(workspace=str(workspace.root), edit="gold", resolution=RESOLUTION, texture=64, device="cpu"),
        Reporter(),
    )
    ply = trimesh.load(result["ply"], process=False)
    radius = np.linalg.norm(ply.vertices - CENTER, axis=1)
    np.testing.assert_allclose(radius, RADIUS, atol=0.5 * VOXEL)
    assert ply.volume == pytest.approx(4 / 3 * np.pi, rel=0.05)  # positive: the faces look outwards
    normal = (ply.vertices - CENTER) / radius[:, None]
    np.testing.assert_allclose(ply.visual.vertex_colors[:, :3] / 255, (normal + 1) / 2, atol=0.12)
    assert (ply.vertex_normals * normal).sum(1).min() > 0.9
    assert result["faces"] == len(ply.faces) and result["finished"] is not None


def test_what_one_view_alone_sees_in_the_air_is_no_surface():
    mesh = mesh_of_scene(SeenBall(sheet=True), MeshSettings(RESOLUTION), Reporter()).mesh
    assert np.linalg.norm(mesh.vertices - CENTER, axis=1).max() < RADIUS + 2 * VOXEL


def test_a_patch_that_is_enclosed_is_a_hole_and_one_with_an_edge_of_its_own_is_none(monkeypatch):
    grid = np.arange(36).reshape(6, 6)
    corners = [grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]]
    a, b, c, d = (corner.reshape(-1) for corner in corners)
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])  # 25 squares, twice
    square = np.tile(np.arange(25), 2)
    middle, side = np.isin(square, [12, 13]), np.isin(square, [0, 1])
    monkeypatch.setattr(meshing, "LARGEST_HOLE", 0.2)
    assert (are_holes(faces, ~(middle | side)) == middle).all()
    monkeypatch.setattr(meshing, "LARGEST_HOLE", 0.05)
    assert not are_holes(faces, ~(middle | side)).any()
    assert not are_holes(faces, np.ones(50, bool)).any() and not are_holes(faces, np.zeros(50, bool)).any()


def test_depths_are_corrected_by_what_sparse_points_tell():
    scene = SeenBall()
    views = depth_views(scene, Reporter())
    spread = np.random.default_rng(0).normal(size=(400, 3))
    points = CENTER + RADIUS * spread / np.linalg.norm(spread, axis=1, keepdims=True)
    too_deep = [DepthView(view.camera, view.color_srgb, view.depth * 1.01) for view in views]
    assert depth_bias(views, points) == pytest.approx(0, abs=2e-3)
    assert depth_bias(too_deep, points) == pytest.approx(0.01, abs=2e-3)
    assert depth_bias(too_deep, points[:3]) == 0  # too few to tell
    scene.capture.points = CENTER + (points - CENTER) * 1.02  # they lie before the depths
    nearer = depth_views(scene, Reporter())[0].depth.min()
    assert nearer < views[0].depth.min() - 0.01


def test_a_watertight_mesh_is_closed_though_half_of_the_ball_was_never_seen(workspace):
    scene = SeenBall(below=False)
    opened = solid_of(mesh_of_scene(scene, MeshSettings(RESOLUTION), Reporter()).mesh)
    closed = solid_of(mesh_of_scene(scene, MeshSettings(RESOLUTION, watertight=True), Reporter()).mesh)
    assert not opened.is_watertight
    assert closed.is_watertight and closed.is_winding_consistent and closed.volume > 0.5 * 4 / 3 * np.pi
    above = closed.vertices[:, 2] > CENTER[2]
    np.testing.assert_allclose(np.linalg.norm(closed.vertices[above] - CENTER, axis=1), RADIUS, atol=VOXEL)


@pytest.mark.parametrize("watertight", [False, True])
def test_what_lies_outside_of_the_kept_region_is_cut_off(watertight):
    turn = np.eye(4)
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    half = turn @ np.diag([3.0, 3.0, 1.6, 1.0])
    half[:3, 3] = CENTER + [0, 0, 0.8]  # from the middle upwards
    settings = MeshSettings(RESOLUTION, watertight=watertight, keep=Region.box(half))
    mesh = mesh_of_scene(SeenBall(), settings, Reporter()).mesh
    assert mesh.vertices[:, 2].min() > CENTER[2] - VOXEL and mesh.vertices[:, 2].max() > CENTER[2] + RADIUS - VOXEL
    assert solid_of(mesh).is_watertight == watertight
    if watertight:
        assert solid_of(mesh).volume == pytest.approx(2 / 3 * np.pi, rel=0.1)


def test_an_unknown_point_is_solid_where_most_directions_meet_an_inside_first():
    known, inside = np.ones((7, 7, 7), bool), np.zeros((7, 7, 7), bool)
    inside[1:6, 1:6, 1:6] = True
    known[2:5, 2:5, 2:5] = False  # within the solid
    known[:, :, 6] = False  # a border behind what is outside
    solid = is_solid(inside, known)
    assert solid[2:5, 2:5, 2:5].all() and not solid[:, :, 6][[0, 6]].any()
    assert (solid[known] == inside[known]).all()


def test_fewer_faces_of_a_closed_mesh_stay_closed(workspace):
    request = ExtractMesh(
        workspace=str(workspace.root), edit="gold", resolution=RESOLUTION, watertight=True, faces=900, texture=0,
        collision_faces=200, device="cpu",
    )  # fmt: skip
    result = extract_mesh(request, Reporter())
    for file, most in (("ply", 900), ("collision", 200)):
        mesh = trimesh.load(result[file], force="mesh")
        assert mesh.is_watertight and len(mesh.faces) <= 1.1 * most
        assert mesh.volume == pytest.approx(4 / 3 * np.pi, rel=0.1)


def two_boxes_that_touch_in_an_edge():
    one, other = trimesh.creation.box(), trimesh.creation.box()
    other.apply_translation([1, 1, 0])
    both = trimesh.util.concatenate([one, other])
    both.merge_vertices()
    return both


def test_sheets_that_touch_are_cut_apart():
    both = two_boxes_that_touch_in_an_edge()
    assert not both.is_watertight and both.is_winding_consistent is not None
    vertices, faces = with_edges_of_two_faces(both.vertices.astype(np.float32), both.faces.astype(np.int64))
    cut = trimesh.load(io.BytesIO(trimesh.Trimesh(vertices, faces, process=False).export(file_type="ply")), "ply")
    assert cut.is_watertight and cut.is_winding_consistent and cut.volume == pytest.approx(2, rel=0.05)
    with pytest.raises(ValueError):
        with_edges_of_two_faces(vertices, faces[1:])


# --- the texture


def test_texels_lie_in_their_faces_and_are_covered_once():
    uvs = np.array([[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    texels = rasterised(uvs, faces, 40, Reporter())
    assert len(np.unique(texels.row * 40 + texels.column)) == len(texels.row) == 32 * 32
    at = (uvs[faces[texels.face]] * texels.weights[..., None]).sum(1)
    np.testing.assert_allclose(at[:, 0] * 40, texels.column + 0.5, atol=1e-3)
    np.testing.assert_allclose((1 - at[:, 1]) * 40, texels.row + 0.5, atol=1e-3)


def test_a_textured_ball_has_the_balls_colors(workspace):
    request = ExtractMesh(
        workspace=str(workspace.root), edit="gold", resolution=32, texture=128, textured_faces=800, device="cpu"
    )
    result = extract_mesh(request, Reporter())
    _, document, binary = split_glb(open(result["glb"], "rb").read())
    assert document["materials"][0]["extensions"] == {"KHR_materials_unlit": {}}
    view = document["bufferViews"][document["images"][0]["bufferView"]]
    picture = Image.open(io.BytesIO(binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]))
    assert picture.size == (128, 128) and picture.mode == "RGB"
    mesh = trimesh.load(result["glb"], process=False, force="mesh")
    assert len(mesh.faces) <= 1.1 * 800
    x, y, z = mesh.triangles_center.T
    place = np.stack([x, -z, y], 1)
    normal = (place - CENTER) / np.linalg.norm(place - CENTER, axis=1, keepdims=True)
    # trimesh turns v upwards when it reads glTF.
    across, down = (mesh.visual.uv[mesh.faces].mean(1) * [1, -1] + [0, 1]).T * 128
    pixels = np.asarray(picture)[down.astype(int).clip(0, 127), across.astype(int).clip(0, 127)] / 255
    np.testing.assert_allclose(np.abs(pixels - (normal + 1) / 2).mean(), 0, atol=0.03)


def test_what_no_view_sees_is_asked_of_the_field():
    scene = SeenBall(below=False)
    scene.capture.training_views = scene.capture.training_views[:1]  # from above
    ball = trimesh.creation.icosphere(3, RADIUS)
    surface = Surface.of((ball.vertices + CENTER).astype(np.float32), np.asarray(ball.faces, np.int64))
    painted = textured(scene, surface, 128, 0.05, depth_views(scene, Reporter()), Reporter())
    centers = painted.surface.vertices[painted.surface.faces].mean(1) - CENTER
    across, down = (painted.uvs[painted.surface.faces].mean(1) * [1, -1] + [0, 1]).T * 128
    pixels = painted.texture_srgb[down.astype(int).clip(0, 127), across.astype(int).clip(0, 127)]
    wanted = (centers / np.linalg.norm(centers, axis=1, keepdims=True) + 1) / 2
    assert np.abs(pixels - wanted).mean() < 0.03
    assert np.abs(pixels - wanted)[centers[:, 2] < -0.5].mean() < 0.03


def test_painting_can_be_cancelled():
    ball = trimesh.creation.icosphere(2, RADIUS)
    surface = Surface.of((ball.vertices + CENTER).astype(np.float32), np.asarray(ball.faces, np.int64))
    views = depth_views(SeenBall(), Reporter())
    with pytest.raises(Cancelled):
        textured(SeenBall(), surface, 64, 0.05, views, Reporter(cancelled=lambda: True))


def test_charts_do_not_overlap():
    ball = trimesh.creation.icosphere(3)
    origin, faces, uvs = unwrap(ball.vertices, ball.faces, 256)
    assert (ball.faces == origin[faces]).all() and uvs.min() >= 0 and uvs.max() <= 1
    a, b, c = (uvs[faces[:, corner]].astype(np.float64) * 256 for corner in range(3))
    area = np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]).sum() / 2
    covered = len(rasterised(uvs, faces, 256, Reporter()).row)
    assert covered == pytest.approx(area, rel=0.03)
