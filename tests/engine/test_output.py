import json
import os
from types import SimpleNamespace

import numpy as np
import OpenEXR
import pytest
import torch
import trimesh
from PIL import Image

from in2n_blender.engine.nerf.dataset import SceneTransform
from in2n_blender.engine.nerf.rendering import NerfModel
from in2n_blender.engine.nerf.scene import Scene
from in2n_blender.engine.output import frames as frames_module
from in2n_blender.engine.output import mesh as mesh_module
from in2n_blender.engine.output import sheets as sheets_module
from in2n_blender.engine.output.frames import render_path
from in2n_blender.engine.output.mesh import extract_mesh
from in2n_blender.engine.output.sheets import before_after_gif, contact_sheet, spread, summarise
from in2n_blender.engine.output.surface import (
    DensityGrid,
    marching_cubes,
    mesh_of_scene,
    sample_density,
    simplify,
    surface_threshold,
    vertex_normals,
    without_floaters,
)
from in2n_blender.engine.pictures import NOTHING, Picture, write_exr, write_png
from in2n_blender.link.requests import ExtractMesh, RenderPath, Summarise
from in2n_blender.scene.camera_path import CameraPath, PathFrame
from in2n_blender.scene.capture import PinholeCapture, View
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Artifact, Reporter
from in2n_blender.scene.srgb import srgb_to_linear
from in2n_blender.workspace.files import write_json
from in2n_blender.workspace.layout import Workspace
from tests.engine.analytic_scene import CENTER, OFFSET, RADIUS, BallScene, camera_at
from tests.engine.ball import TINY


def read_exr(path):
    with OpenEXR.File(str(path)) as file:
        assert len(file.parts) == 1
        return {name: channel.pixels.astype(np.float64) for name, channel in file.channels().items()}


# --- images


def test_srgb_to_linear_known_values():
    np.testing.assert_allclose(srgb_to_linear(np.array([0, 0.02, 0.5, 1])), [0, 0.02 / 12.92, 0.21404, 1], atol=1e-5)


def test_transparent_picture_takes_the_white_background_out_again():
    color, alpha = np.array([0.8, 0.4, 0.2]), np.array([[1.0, 0.5, 0.0]])
    over_white = color * alpha[..., None] + 1 - alpha[..., None]
    picture = Picture.of(_view(over_white, alpha, np.full((1, 3), 2.0)), transparent=True)
    np.testing.assert_allclose(picture.rgb_srgb[0, :2], [color, color], atol=1e-5)
    np.testing.assert_allclose(picture.over(), over_white, atol=1e-3)
    assert picture.depth[0, 0] == 2 and picture.depth[0, 2] == np.float32(NOTHING)


def test_opaque_picture_keeps_its_own_background():
    rgb = np.full((1, 2, 3), 0.3)
    picture = Picture.of(_view(rgb, np.array([[0.9, 0.0]]), np.ones((1, 2))), transparent=False)
    assert (picture.alpha == 1).all() and np.allclose(picture.rgb_srgb, 0.3)


def test_files_hold_the_picture(tmp_path):
    random = np.random.default_rng(0)
    picture = Picture(
        random.random((9, 13, 3), np.float32),
        random.random((9, 13), np.float32),
        random.random((9, 13), np.float32) * 100,
    )
    write_png(tmp_path / "a.png", picture)
    write_exr(tmp_path / "a.exr", picture)
    png = np.asarray(Image.open(tmp_path / "a.png")) / 255
    np.testing.assert_allclose(png[..., :3], picture.rgb_srgb, atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(png[..., 3], picture.alpha, atol=0.5 / 255 + 1e-6)
    exr = read_exr(tmp_path / "a.exr")
    assert set(exr) == {"RGBA", "Depth.Z"}
    np.testing.assert_allclose(
        exr["RGBA"][..., :3], srgb_to_linear(picture.rgb_srgb) * picture.alpha[..., None], atol=1e-3
    )
    np.testing.assert_allclose(exr["RGBA"][..., 3], picture.alpha, atol=1e-3)
    np.testing.assert_array_equal(exr["Depth.Z"].astype(np.float32), picture.depth)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.exr", "a.png"]


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_files_may_be_read_by_whom_the_umask_lets(tmp_path):
    (tmp_path / "plain").touch()
    write_png(
        tmp_path / "a.png",
        Picture(np.zeros((2, 2, 3), np.float32), np.ones((2, 2), np.float32), np.ones((2, 2), np.float32)),
    )
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_opaque_png_has_no_alpha(tmp_path):
    write_png(
        tmp_path / "a.png",
        Picture(np.zeros((2, 2, 3), np.float32), np.ones((2, 2), np.float32), np.ones((2, 2), np.float32)),
    )
    assert Image.open(tmp_path / "a.png").mode == "RGB"


# --- frames


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A workspace whose checkpoints are placeholders and whose scenes are balls."""
    workspace = Workspace(tmp_path / "workspace")
    for folder in (workspace.reconstruction, workspace.edit("gold")):
        folder.mkdir(parents=True)
        (folder / "checkpoint.safetensors").write_bytes(str(folder).encode())
    scenes = {None: BallScene(has_alpha=False), "gold": BallScene()}
    for module in (frames_module, mesh_module, sheets_module):
        monkeypatch.setattr(module, "load_scene", lambda workspace, edit, device: scenes[edit])
    workspace.scenes = scenes
    return workspace


def path_file(workspace, frames=3, first=1, name="turn"):
    path = CameraPath(name, 24.0, tuple(PathFrame(first + i, camera_at(0.4 * i)) for i in range(frames)))
    write_json(workspace.camera_path(name), path.to_json())
    return str(workspace.camera_path(name))


def test_render_path_writes_every_frame_and_skips_those_that_are_there(workspace):
    events = []
    request = RenderPath(workspace=str(workspace.root), camera_path=path_file(workspace), edit="gold", device="cpu")
    result = render_path(request, Reporter(events.append))
    folder = workspace.renders("gold", "turn")
    assert result["count"] == result["rendered"] == 3 and result["folder"] == str(folder)
    assert sorted(path.name for path in folder.glob("0*")) == sorted(
        f"000{i}.{kind}" for i in (1, 2, 3) for kind in ("exr", "png")
    )
    assert [event.path for event in events if isinstance(event, Artifact)] == [
        str(folder / f"000{i}.png") for i in (1, 2, 3)
    ]
    depth = read_exr(folder / "0001.exr")["Depth.Z"]
    assert depth[15, 20] == pytest.approx(4.0 - RADIUS, abs=0.01)  # the ball's nearest point, along the camera's z axis
    assert depth[0, 0] == pytest.approx(NOTHING)
    assert json.loads((folder / "render.json").read_text())["count"] == 3

    (folder / "0002.exr").unlink()
    assert render_path(request, Reporter())["rendered"] == 1
    assert workspace.scenes["gold"].rendered == 4


def pixels_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".png", ".exr")}


def render(workspace, camera_path, edit="gold"):
    request = RenderPath(workspace=str(workspace.root), camera_path=camera_path, edit=edit, device="cpu")
    return render_path(request, Reporter())["rendered"]


def test_frames_of_another_camera_or_another_model_are_rendered_anew_and_the_others_kept(workspace):
    assert render(workspace, path_file(workspace, frames=3)) == 3
    before = pixels_of(workspace.renders("gold", "turn"))
    assert render(workspace, path_file(workspace, frames=2, first=2)) == 2
    after = pixels_of(workspace.renders("gold", "turn"))
    assert after.keys() == before.keys() and after["0001.png"] == before["0001.png"]
    assert after["0002.png"] == before["0001.png"] and after["0003.png"] == before["0002.png"], (
        "cameras moved on by one"
    )
    (workspace.edit("gold") / "checkpoint.safetensors").write_bytes(b"trained on")
    assert render(workspace, path_file(workspace, frames=2, first=2)) == 2


def test_every_frame_is_known_by_itself(workspace):
    """Frames 1 to 6, then the third alone, then 1 to 7: one is computed."""
    assert render(workspace, path_file(workspace, frames=6)) == 6
    third = CameraPath("turn", 24.0, (PathFrame(3, camera_at(0.8)),))
    write_json(workspace.camera_path("turn"), third.to_json())
    assert render(workspace, str(workspace.camera_path("turn"))) == 0
    assert len(pixels_of(workspace.renders("gold", "turn"))) == 12
    assert render(workspace, path_file(workspace, frames=7)) == 1
    assert len(pixels_of(workspace.renders("gold", "turn"))) == 14


def test_a_changed_camera_redoes_its_frame_alone(workspace):
    path_file(workspace, frames=4)
    path = CameraPath.load(workspace.camera_path("turn"))
    render(workspace, str(workspace.camera_path("turn")))
    frames = [*path.frames[:2], PathFrame(3, camera_at(2.0)), path.frames[3]]
    write_json(workspace.camera_path("turn"), CameraPath("turn", 30.0, tuple(frames)).to_json())
    before = pixels_of(workspace.renders("gold", "turn"))
    assert render(workspace, str(workspace.camera_path("turn"))) == 1
    after = pixels_of(workspace.renders("gold", "turn"))
    assert {name for name in after if after[name] != before[name]} == {"0003.png", "0003.exr"}


def test_two_jobs_with_two_ranges_keep_each_others_frames(workspace):
    """The second job starts while the first is half done, as in another process."""
    whole = tuple(PathFrame(number, camera_at(0.4 * number)) for number in range(1, 7))
    files = []
    for name, part in (("first", whole[:3]), ("second", whole[3:])):
        files.append(workspace.root / f"{name}.json")
        write_json(files[-1], CameraPath("turn", 24.0, part).to_json())
    seen = []

    def emit(event):
        if isinstance(event, Artifact) and not seen:
            seen.append(event)
            assert render(workspace, str(files[1])) == 3

    request = RenderPath(workspace=str(workspace.root), camera_path=str(files[0]), edit="gold", device="cpu")
    assert render_path(request, Reporter(emit))["rendered"] == 3
    assert len(pixels_of(workspace.renders("gold", "turn"))) == 12
    assert [render(workspace, str(file)) for file in files] == [0, 0]


def test_a_picture_that_is_not_ours_is_not_overwritten(workspace):
    file = workspace.renders("gold", "turn") / "0002.png"
    file.parent.mkdir(parents=True)
    Image.new("RGB", (4, 4), (9, 9, 9)).save(file)
    before = file.read_bytes()
    with pytest.raises(In2nError) as refused:
        render(workspace, path_file(workspace, frames=3))
    assert refused.value.code == "not_ours" and file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["0002.png"], "refused before anything was written"


def test_frames_of_the_last_version_are_replaced_one_by_one(workspace):
    folder = workspace.renders("gold", "turn")
    for number in (1, 9):
        picture = Picture.of(BallScene().render(camera_at(3.0)), True)
        write_png(folder / f"{number:04d}.png", picture)
        write_exr(folder / f"{number:04d}.exr", picture)
    write_json(folder / "render.json", {"fingerprint": "0" * 64, "seconds": 4.0, "count": 2, "edit": "gold"})
    before = pixels_of(folder)
    assert render(workspace, path_file(workspace, frames=2)) == 2
    after = pixels_of(folder)
    assert after["0009.png"] == before["0009.png"] and after["0001.png"] != before["0001.png"]


def test_depth_is_in_the_units_of_the_scene(workspace):
    """An Empty of scale 2: Blender's own depth is twice that in capture units; where nothing is it stays."""
    path = CameraPath("turn", 24.0, (PathFrame(1, camera_at(0.4)),), unit_scale=2.0)
    write_json(workspace.camera_path("turn"), path.to_json())
    render(workspace, str(workspace.camera_path("turn")))
    depth = read_exr(workspace.renders("gold", "turn") / "0001.exr")["Depth.Z"]
    assert depth[15, 20] == pytest.approx(2 * (4.0 - RADIUS), abs=0.02) and depth[0, 0] == pytest.approx(NOTHING)
    assert render(workspace, path_file(workspace, frames=2)) == 2, "the same camera in other units is another frame"


def test_a_cancelled_render_goes_on_where_it_stopped(workspace):
    request = RenderPath(
        workspace=str(workspace.root), camera_path=path_file(workspace, frames=4), edit=None, device="cpu"
    )
    scene = workspace.scenes[None]
    with pytest.raises(Cancelled):
        render_path(request, Reporter(cancelled=lambda: scene.rendered >= 2))
    folder = workspace.renders(None, "turn")
    assert len(list(folder.glob("*.png"))) == 2 and not list(folder.glob(".writing*"))
    assert render_path(request, Reporter())["rendered"] == 2


@pytest.mark.parametrize(
    "content, code",
    [
        (None, "missing_file"),
        ("{", "bad_camera_path"),
        ("{}", "bad_camera_path"),
        ('{"name": "a", "fps": 24, "frames": []}', "bad_camera_path"),
        ("[]", "bad_camera_path"),
    ],
)
def test_bad_camera_paths(workspace, tmp_path, content, code):
    file = tmp_path / "path.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(In2nError) as error:
        render_path(
            RenderPath(workspace=str(workspace.root), camera_path=str(file), edit=None, device="cpu"), Reporter()
        )
    assert error.value.code == code


# --- mesh


def ball_radius(threshold):
    """Where the analytic ball's density equals the threshold."""
    return RADIUS + 0.02 * np.log(200 / threshold - 1)


def test_mesh_of_a_ball(workspace):
    result = extract_mesh(
        ExtractMesh(workspace=str(workspace.root), edit="gold", resolution=48, device="cpu"), Reporter()
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
    facts = json.loads(workspace.mesh("gold", ".json").read_text())
    assert facts["vertices"] == result["vertices"] and facts["faces"] == result["faces"]
    assert facts["offset"] == result["offset"] == OFFSET.tolist()


def test_a_quick_mesh_lies_beside_the_one_that_was_extracted(workspace):
    chosen = {"workspace": str(workspace.root), "edit": "gold", "device": "cpu"}
    own = extract_mesh(ExtractMesh(**chosen, resolution=40), Reporter())
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
        ExtractMesh(workspace=str(workspace.root), edit="gold", resolution=32, device="cpu"), Reporter()
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
    clean, _ = mesh_of_scene(BallScene(), 40, Reporter())
    cleaned, _ = mesh_of_scene(BallScene(floaters=True), 40, Reporter())
    assert len(cleaned.vertices) == len(clean.vertices)
    grid = sample_density(BallScene(floaters=True), 40, Reporter())
    vertices, faces = marching_cubes(grid, surface_threshold(BallScene(), grid, Reporter()))
    assert len(vertices) > len(clean.vertices)
    assert len(without_floaters(vertices, faces, share=0.0)[0]) == len(vertices)


def test_mesh_stays_inside_the_bounds_and_is_open_where_cut():
    class Cut(BallScene):
        def bounds(self):
            return np.stack([CENTER - 1.4, CENTER + [1.4, 1.4, 0.0]])

    mesh, _ = mesh_of_scene(Cut(), 40, Reporter())
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


@pytest.mark.parametrize("points", [0, 200], ids=["no points", "points far away"])
def test_a_scene_in_which_nothing_is_seen_has_an_empty_mesh(points):
    far = np.random.default_rng(0).normal(1e3, 1, (points, 3)).astype(np.float32)
    views = tuple(View(str(angle), "x", camera_at(angle)) for angle in (0.0, 2.0, 4.0))
    capture = PinholeCapture("nothing", "", "draft", views, far, np.zeros((points, 3), np.uint8))
    scene = NothingScene(NerfModel(TINY), SceneTransform(tuple(CENTER), 0.25), capture, torch.device("cpu"), True)
    with pytest.raises(In2nError) as error:
        mesh_of_scene(scene, 16, Reporter())
    assert error.value.code == "empty_mesh"


def test_a_view_with_values_that_are_no_numbers_is_an_error(workspace):
    scene = workspace.scenes["gold"]
    whole = scene.render

    def spoilt(camera, report=None):
        view = whole(camera, report)
        view.rgb_srgb[3, 4] = torch.nan
        return view

    scene.render = spoilt
    with pytest.raises(In2nError) as error:
        render(workspace, path_file(workspace, frames=1))
    assert error.value.code == "not_finite" and not list(workspace.renders("gold", "turn").glob("*.png"))


def test_simplify_keeps_the_shape():
    mesh, threshold = mesh_of_scene(BallScene(), 48, Reporter())
    vertices, faces = simplify(mesh.vertices, mesh.faces, most_faces=2000)
    assert len(faces) <= 2200 < len(mesh.faces)
    np.testing.assert_allclose(np.linalg.norm(vertices - CENTER, axis=1), ball_radius(threshold), atol=0.01)
    assert ((vertices - CENTER) * vertex_normals(vertices, faces)).sum(1).min() > 0.8


def test_mesh_can_be_cancelled(workspace):
    with pytest.raises(Cancelled):
        extract_mesh(
            ExtractMesh(workspace=str(workspace.root), edit="gold", resolution=40, device="cpu"),
            Reporter(cancelled=lambda: True),
        )
    assert not workspace.mesh("gold", ".ply").exists()


def test_a_mesh_of_the_same_scene_is_not_made_again(workspace, monkeypatch):
    request = ExtractMesh(workspace=str(workspace.root), edit="gold", resolution=24, device="cpu")
    made = []
    whole = mesh_module.mesh_of_scene
    monkeypatch.setattr(mesh_module, "mesh_of_scene", lambda *given: made.append(given[1]) or whole(*given))
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
        extract_mesh(ExtractMesh(workspace=str(workspace.root), edit="gold", resolution=24, device="cpu"), Reporter())
    assert refused.value.code == "not_ours" and workspace.mesh("gold", ".ply").read_text() == "mine"
    assert not workspace.mesh("gold", ".glb").exists()


# --- sheets


def test_contact_sheet_shows_every_picture_in_its_place():
    red, green = np.zeros((20, 40, 3)), np.zeros((20, 40, 3), np.uint8)
    red[..., 0], green[..., 1] = 1.0, 255
    sheet = np.asarray(contact_sheet([("first", [red, green]), ("second", [green, red])], cell=80))
    places = {
        (row, column): tuple(sheet[26 + row * (26 + 40 + 6) + 20, 6 + column * 86 + 40])
        for row in (0, 1)
        for column in (0, 1)
    }
    assert places == {(0, 0): (255, 0, 0), (0, 1): (0, 255, 0), (1, 0): (0, 255, 0), (1, 1): (255, 0, 0)}
    assert sheet[:26].max() > 150  # the label


def test_gif_plays_both_side_by_side(tmp_path):
    before = [np.full((20, 30, 3), 0.2)] * 4
    after = [np.full((20, 30, 3), level) for level in (0.4, 0.6, 0.8, 1.0)]
    before_after_gif(tmp_path / "a.gif", before, after, fps=10)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 4 and gif.info["loop"] == 0 and gif.info["duration"] == 100
        for index, level in enumerate((0.4, 0.6, 0.8, 1.0)):
            gif.seek(index)
            pixels = np.asarray(gif.convert("RGB")).astype(float)[150:, :, 0]
            middle = pixels.shape[1] // 2
            assert pixels[:, 10 : middle - 10].mean() == pytest.approx(51, abs=8)
            assert pixels[:, middle + 10 :].mean() == pytest.approx(255 * level, abs=8)


@pytest.mark.parametrize("count, wanted, expected", [(0, 4, []), (1, 4, [0]), (3, 4, [0, 1, 2]), (10, 4, [0, 3, 6, 9])])
def test_spread(count, wanted, expected):
    assert spread(count, wanted) == expected


def test_summary_gathers_everything(workspace, tmp_path):
    views = []
    for index in range(5):
        camera = camera_at(0.3 * index)
        image = BallScene(has_alpha=False).render(camera).rgb_srgb.numpy()
        views.append(View(f"v{index}", f"images/v{index}.png", camera, held_out=index > 0))
        workspace.images.mkdir(exist_ok=True)
        Image.fromarray((image * 255).astype(np.uint8)).save(workspace.images / f"v{index}.png")
    write_json(workspace.capture_json, PinholeCapture("ball", "", "draft", tuple(views)).to_json())
    write_json(workspace.reconstruction / "state.json", {"psnr_db": 31.5, "seconds": 12.0, "device": "cpu"})
    write_json(workspace.edit("gold") / "edit.json", {"instruction": "make it gold"})
    state = {
        "instruction": "make it gold",
        "rounds": 2,
        "unet_evaluations": 600,
        "seconds": 40.0,
        "editor": "miniature",
        "device": "cpu",
    }
    write_json(workspace.edit("gold") / "state.json", state)
    request = Summarise(
        workspace=str(workspace.root), edit="gold", camera_path="turn", out=str(tmp_path / "out"), device="cpu"
    )
    with pytest.raises(In2nError) as error:
        summarise(request, Reporter())
    assert error.value.code == "missing_result"

    render_path(
        RenderPath(
            workspace=str(workspace.root), camera_path=path_file(workspace, frames=3), edit="gold", device="cpu"
        ),
        Reporter(),
    )
    mesh = extract_mesh(
        ExtractMesh(workspace=str(workspace.root), edit="gold", resolution=24, device="cpu"), Reporter()
    )
    facts = summarise(request, Reporter())
    out = tmp_path / "out"
    assert json.loads((out / "report.json").read_text()) == facts
    assert facts["reconstruction"]["psnr_db"] == 31.5 and facts["reconstruction"]["seconds"] == 12.0
    assert {key: facts["edit"][key] for key in ("instruction", "editor", "rounds", "unet_evaluations", "seconds")} == {
        key: state[key] for key in ("instruction", "editor", "rounds", "unet_evaluations", "seconds")
    }
    assert facts["frames"]["count"] == 3 and facts["mesh"]["faces"] == mesh["faces"] and facts["device"] == "cpu"
    assert facts["versions"]["torch"] == torch.__version__.split("+")[0]
    assert sorted(path.name for path in (out / "frames" / "edited").iterdir()) == sorted(
        f"000{i}.{k}" for i in (1, 2, 3) for k in ("exr", "png")
    )
    assert (out / "mesh.glb").read_bytes() == workspace.mesh("gold", ".glb").read_bytes()
    with Image.open(out / "before_after.gif") as gif:
        assert gif.n_frames == 3
    assert Image.open(out / "contact_sheet.png").width > 4 * 200

    render_path(
        RenderPath(
            workspace=str(workspace.root), camera_path=str(workspace.camera_path("turn")), edit=None, device="cpu"
        ),
        Reporter(),
    )
    rendered = workspace.scenes[None].rendered
    summarise(request, Reporter())
    assert sorted(path.name for path in out.iterdir() if path.name[0] != ".") == [
        "before_after.gif",
        "contact_sheet.png",
        "frames",
        "mesh.glb",
        "report.json",
    ]
    assert (
        workspace.scenes[None].rendered == rendered + 4
    )  # the sheet's views; the animation takes the frames that are there


@pytest.fixture
def summarised(workspace, tmp_path):
    """(request of a summary that was made once, its folder)"""
    camera = camera_at(0.3)
    workspace.images.mkdir()
    Image.new("RGB", (40, 30)).save(workspace.images / "v.png")
    views = (View("v", "images/v.png", camera), View("w", "images/v.png", camera), View("x", "images/v.png", camera))
    write_json(workspace.capture_json, PinholeCapture("ball", "", "draft", views).to_json())
    write_json(workspace.edit("gold") / "edit.json", {"instruction": "make it gold"})
    render(workspace, path_file(workspace, frames=3))
    extract_mesh(ExtractMesh(workspace=str(workspace.root), edit="gold", resolution=16, device="cpu"), Reporter())
    out = tmp_path / "out"
    request = Summarise(workspace=str(workspace.root), edit="gold", camera_path="turn", out=str(out), device="cpu")
    summarise(request, Reporter())
    return request, out


def test_a_summary_takes_its_own_frames_away_and_nothing_else(workspace, summarised):
    request, out = summarised
    frames = out / "frames" / "edited"
    (out / "frames" / "mine.txt").write_text("precious")
    (frames / "0009.png").write_text("mine")
    (frames / "0003.png").write_text("retouched")
    render(workspace, path_file(workspace, frames=1))
    summarise(request, Reporter())
    assert sorted(path.name for path in frames.iterdir()) == ["0001.exr", "0001.png", "0003.png", "0009.png"]
    assert (frames / "0003.png").read_text() == "retouched" and (out / "frames" / "mine.txt").read_text() == "precious"


@pytest.mark.parametrize("name", ["mesh.glb", "report.json", "frames/edited/0002.png"])
def test_a_summary_overwrites_nothing_that_is_not_ours(summarised, name):
    request, out = summarised
    (out / name).write_text("mine")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(In2nError) as refused:
        summarise(request, Reporter())
    assert refused.value.code == "not_ours"
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def _view(rgb, alpha, depth):
    return SimpleNamespace(rgb_srgb=torch.tensor(rgb), alpha=torch.tensor(alpha), depth=torch.tensor(depth))
