import json
import os
from types import SimpleNamespace

import numpy as np
import OpenEXR
import pytest
import torch
from PIL import Image

from in2n_blender.engine.output import frames as frames_module
from in2n_blender.engine.output import mesh as mesh_module
from in2n_blender.engine.output import sheets as sheets_module
from in2n_blender.engine.output.frames import render_path
from in2n_blender.engine.output.mesh import extract_mesh
from in2n_blender.engine.output.sheets import before_after_gif, contact_sheet, spread, summarise
from in2n_blender.engine.pictures import NOTHING, Picture, write_exr, write_png
from in2n_blender.link.requests import ExtractMesh, RenderPath, Summarise
from in2n_blender.scene.camera_path import CameraPath, PathFrame
from in2n_blender.scene.capture import PinholeCapture, View
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Artifact, Reporter
from in2n_blender.scene.srgb import srgb_to_linear
from in2n_blender.workspace.files import write_json
from in2n_blender.workspace.layout import Workspace
from tests.engine.analytic_scene import RADIUS, BallScene, camera_at


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
        ExtractMesh(workspace=str(workspace.root), edit="gold", resolution=24, texture=32, device="cpu"), Reporter()
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
    extract_mesh(
        ExtractMesh(workspace=str(workspace.root), edit="gold", resolution=16, texture=32, device="cpu"), Reporter()
    )
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
