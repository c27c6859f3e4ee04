"""Gaussian splats: drawn as their twin draws them, made of a ball, refined to its pictures, written to files."""

import gzip
import json
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import warp

from in2n_blender.engine.nerf.dataset import SceneTransform
from in2n_blender.engine.output import splats as splats_module
from in2n_blender.engine.output.splats import as_columns, make_splats, psnr
from in2n_blender.engine.splats import rasterizer, twin
from in2n_blender.engine.splats.kernels import (
    adam_kernel,
    composite_kernels,
    depth_kernel,
    pairs_kernel,
    project_kernel,
    sum_kernel,
)
from in2n_blender.engine.splats.rasterizer import TILE, View
from in2n_blender.engine.splats.refinement import refine, similarity
from in2n_blender.engine.splats.seeding import Seen, confirmed, fitted_colors, seed
from in2n_blender.engine.splats.sources import render_sources, source_cameras
from in2n_blender.engine.splats.splat import (
    COLUMNS,
    MEAN,
    SCALE,
    harmonics,
    quaternions_towards,
    rotations,
)
from in2n_blender.engine.splats.targets import targets_of
from in2n_blender.link.requests import MakeSplats
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.region import Region
from in2n_blender.scene.reporting import Progress, Reporter
from in2n_blender.scene.splats import harmonics as written_harmonics
from in2n_blender.scene.splats import read_splats, splat_bytes
from in2n_blender.scene.spz import spz_bytes
from in2n_blender.workspace.files import write_json
from in2n_blender.workspace.layout import Workspace
from tests.benchmarks.splat_reference import picture, read_ply
from tests.engine.analytic_scene import CENTER, RADIUS, BallScene, camera_at

TRANSFORM = SceneTransform(tuple(map(float, CENTER)), 0.25)
VIEW = View(torch.eye(3), torch.tensor([0.1, 0.2, 0.0]), (40.0, 42.0, 20.0, 15.0), 41, 33)


def cloud(count=60):
    """Splats of all sizes, turns and opacities before VIEW; some opaque, some nearly transparent."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn((count, COLUMNS), generator=generator) * 0.3
    rows[:, MEAN] = torch.randn((count, 3), generator=generator) * 0.6 + torch.tensor([0.0, 0, 4])
    rows[:, SCALE] = torch.randn((count, 3), generator=generator) * 0.5 - 2
    rows[:, 10] = torch.randn(count, generator=generator) * 2 + 1
    return rows


class WholeBall(BallScene):
    """The ball as splats are made of it: seen from all around."""

    transform, model = TRANSFORM, SimpleNamespace(near=0.05)

    def __init__(self, has_alpha=True):
        super().__init__(has_alpha)
        views = [SimpleNamespace(camera=camera_at(angle)) for angle in np.arange(0, 2 * np.pi, np.pi / 4)]
        self.capture = SimpleNamespace(training_views=views, offset=self.capture.offset)


def sources_of(scene):
    of_views, between = source_cameras([view.camera for view in scene.capture.training_views])
    return render_sources(scene, [*of_views, *between], Reporter())


@pytest.fixture(scope="module")
def ball():
    """(the ball, its sources, splats of it)"""
    scene = WholeBall()
    sources = sources_of(scene)
    return scene, sources, seed(sources, TRANSFORM, 3000, Reporter(), has_alpha=True)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A workspace whose checkpoints are placeholders and whose scenes are balls."""
    workspace = Workspace(tmp_path / "workspace")
    for folder in (workspace.reconstruction, workspace.edit("gold")):
        folder.mkdir(parents=True)
        (folder / "checkpoint.safetensors").write_bytes(str(folder).encode())
    scenes = {None: WholeBall(has_alpha=False), "gold": WholeBall()}
    monkeypatch.setattr(splats_module, "load_scene", lambda workspace, edit, device: scenes[edit])
    return workspace


def request(workspace, **given):
    given = {"edit": "gold", "splats": 2000, "steps": 2, "device": "cpu", **given}
    return MakeSplats(workspace=str(workspace.root), **given)


def cancelled_at(unit):
    """A report that cancels its job at the second progress of a kind."""
    seen = []
    return Reporter(seen.append, lambda: any(isinstance(event, Progress) and event.unit == unit for event in seen))


# --- drawn


def test_splats_are_drawn_as_the_twin_draws_them():
    drawn, (picture, transmittance) = rasterizer.draw(cloud(), VIEW), twin.draw(cloud(), VIEW)
    assert torch.allclose(drawn.picture, picture, atol=1e-5)
    assert torch.allclose(drawn.transmittance, transmittance, atol=1e-5)
    assert transmittance.min() < 0.01 and transmittance.max() > 0.9, "neither opaque nor open"
    assert torch.allclose(drawn.over(1.0), picture + transmittance[..., None], atol=1e-5)


def test_files_are_drawn_by_another_rasteriser_as_we_draw_the_splats(tmp_path):
    file, camera = tmp_path / "cloud.ply", camera_at(0.7)
    rows = cloud(300)
    rows[:, MEAN] += torch.tensor(CENTER).float() - torch.tensor([0.0, 0, 4])
    file.write_bytes(splat_bytes(as_columns(rows)))
    k, drawn = camera.intrinsics, rasterizer.draw(rows, View.of(camera))
    other = picture(read_ply(file), camera.camera_to_world, (k.fx, k.fy, k.cx, k.cy), k.width, k.height)
    np.testing.assert_allclose(other[..., :3], drawn.picture, atol=2e-3)
    np.testing.assert_allclose(1 - other[..., 3], drawn.transmittance, atol=2e-3)
    assert other[..., 3].max() > 0.99


@pytest.mark.parametrize("threads", [1, 2])
def test_gradients_are_the_twins(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        # Many in one place: what lies behind the opaque ones is never reached, and has no gradient.
        rows = torch.cat([cloud(), cloud(400) * torch.tensor([0.2, 0.2, 1.0, *[1.0] * (COLUMNS - 3)])]).contiguous()
        generator = torch.Generator().manual_seed(1)
        of_picture = torch.randn((VIEW.height, VIEW.width, 3), generator=generator)
        of_transmittance = torch.randn((VIEW.height, VIEW.width), generator=generator)
        numbers, found = rasterizer.draw(rows, VIEW).gradients(of_picture, of_transmittance)
        ours = torch.zeros_like(rows)
        ours[numbers] = found
        leaf = rows.clone().requires_grad_()
        picture, transmittance = twin.draw(leaf, VIEW)
        ((picture * of_picture).sum() + (transmittance * of_transmittance).sum()).backward()
        size = leaf.grad.abs().amax(0).clamp_min(1e-3)
        assert ((ours - leaf.grad).abs() / size).max() < 1e-4
        assert len(numbers) < len(rows)
    finally:
        torch.set_num_threads(before)


def test_nothing_is_drawn_of_what_lies_behind_the_camera():
    rows = cloud()
    rows[:, 2] -= 10
    drawn = rasterizer.draw(rows, VIEW)
    assert drawn.picture.abs().max() == 0 and drawn.transmittance.min() == 1
    numbers, found = drawn.gradients(drawn.picture, drawn.transmittance)
    assert len(numbers) == len(found) == 0


def test_the_kernels_compile_for_gpus(tmp_path):
    kernels = [
        depth_kernel(),
        project_kernel(),
        pairs_kernel(),
        *composite_kernels(TILE),
        sum_kernel(),
        adam_kernel(COLUMNS),
    ]
    for kernel in kernels:
        warp.compile_aot_module(kernel.module, device=None, arch=80, module_dir=str(tmp_path), use_ptx=True)
    assert len(list(tmp_path.glob("*.ptx"))) == len(kernels)


# --- made


def test_harmonics_are_those_that_files_hold():
    directions = torch.nn.functional.normalize(torch.randn(50, 3), dim=-1)
    ours = harmonics(directions)
    np.testing.assert_allclose(ours[:, 1:], written_harmonics(directions.numpy(), 2), atol=1e-6)
    assert torch.allclose(ours[:, 0], torch.full((50,), 0.28209479))


def test_directional_colors_are_fitted():
    directions = torch.nn.functional.normalize(torch.randn(4000, 3), dim=-1)
    truth = torch.randn(2, 9, 3) * 0.2
    cell = torch.arange(4000) % 2
    colors = (harmonics(directions)[..., None] * truth[cell]).sum(1) + 0.5
    none = torch.zeros(4000)
    seen = Seen(none, none, directions, colors, none, torch.ones(4000))
    assert torch.allclose(fitted_colors(seen, cell, 2, Reporter()).view(2, 9, 3), truth, atol=0.02)
    # Of one direction nothing is known of the others: they get its colour, too.
    once = fitted_colors(seen.chosen(torch.tensor([0])), torch.tensor([0]), 1, Reporter()).view(1, 9, 3)
    assert once[0, 1:].abs().max() < 0.3 * once[0, 0].abs().max()
    assert torch.allclose((harmonics(directions[:1])[..., None] * once).sum(1) + 0.5, colors[:1], atol=1e-3)


def test_rotations_lead_to_the_normals():
    normals = torch.nn.functional.normalize(torch.randn(100, 3), dim=-1)
    normals[0], normals[1] = torch.tensor([0.0, 0, -1]), torch.tensor([0.0, 0, 1])
    assert torch.allclose(rotations(quaternions_towards(normals))[:, :, 2], normals, atol=1e-5)


def test_seeds_lie_on_the_ball_flat_and_in_its_colors(ball):
    _, _, rows = ball
    away = rows[:, MEAN] - torch.tensor(CENTER).float()
    normal = away / away.norm(dim=1, keepdim=True)
    assert 1000 < len(rows) <= 3000
    assert (away.norm(dim=1) - RADIUS).abs().quantile(0.95) < 0.02
    thin = rotations(rows[:, 6:10])[:, :, 2]
    assert (thin * normal).sum(1).quantile(0.1) > 0.9 and (rows[:, 5] < rows[:, 3] - 1).all()
    color = 0.28209479 * rows[:, 11:14] + 0.5
    assert (color - (normal + 1) / 2).abs().mean() < 0.05


def test_a_point_before_the_ball_that_others_see_past_is_not_confirmed(ball):
    scene, sources, _ = ball
    on = torch.tensor(CENTER + [RADIUS, 0, 0]).float()
    before = torch.tensor(CENTER + [RADIUS + 0.5, 0, 0]).float()
    inside_camera = torch.tensor(camera_at(0.0).position + [0.01, 0, 0]).float()
    assert confirmed(torch.stack([on, before]), sources, Reporter()).tolist() == [True, False]
    assert not confirmed(inside_camera[None], sources, Reporter(), nearest=0.1).any()


def test_refining_brings_the_pictures_nearer(ball):
    _, sources, rows = ball
    rows = rows.clone()
    targets = targets_of(sources, rows, True, Reporter())
    told = []
    before = psnr(rows, targets, Reporter())
    refine(rows, targets, 40, Reporter(told.append))
    assert psnr(rows, targets, Reporter()) > before + 3 and torch.isfinite(rows).all()
    assert [event.done for event in told] == list(range(40)) and told[5].seconds_left is not None


def test_similarity_is_scikit_images():
    from skimage.metrics import structural_similarity

    one = torch.rand((40, 50, 3), generator=torch.Generator().manual_seed(0))
    other = (one + 0.1 * torch.randn(one.shape)).clamp(0, 1)
    _, found = structural_similarity(
        one.numpy(), other.numpy(), channel_axis=-1, data_range=1, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    whole = float(similarity(one[5:-5, 5:-5], other[5:-5, 5:-5]))
    assert similarity(one, one) == pytest.approx(1) and whole == pytest.approx(found[5:-5, 5:-5].mean(), abs=0.03)


def test_a_scene_without_alpha_has_no_holes_around_the_ball():
    scene = WholeBall(has_alpha=False)
    sources = sources_of(scene)
    rows = seed(sources, TRANSFORM, 6000, Reporter())
    drawn = rasterizer.draw(rows, View.of(sources[0].camera))
    assert drawn.transmittance.mean() < 0.05
    far = (rows[:, MEAN] - torch.tensor(CENTER).float()).norm(dim=1) > 50
    assert far.any() and torch.allclose(0.28209479 * rows[far, 11:14].mean(0) + 0.5, torch.full((3,), 0.25), atol=0.02)


# --- the job


def test_the_files_hold_what_importers_want(workspace):
    result = make_splats(request(workspace), Reporter())
    splats = read_splats(workspace.splats("gold", ".ply"))
    names = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *(f"f_rest_{i}" for i in range(24))]
    names += ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    assert list(splats.columns) == names  # in the order of 3D Gaussian Splatting's own files
    assert len(splats) == result["splats"] and result["psnr_db"] > 15
    assert np.allclose(np.linalg.norm(splats.means - CENTER, axis=1), RADIUS, atol=0.1)  # relative to the offset
    assert splats.scales.max() < RADIUS and np.log(splats.scales).max() < 0  # logarithms, not lengths
    turns = np.stack([splats.columns[f"rot_{i}"] for i in range(4)], 1)
    assert np.allclose(np.linalg.norm(turns, axis=1), 1, atol=1e-5)
    normal = (splats.means - CENTER) / np.linalg.norm(splats.means - CENTER, axis=1, keepdims=True)
    assert np.median(np.abs((splats.axes[:, :, 2] * normal).sum(1))) > 0.95  # the quaternion's w is first
    assert np.abs(splats.colors_srgb - (normal + 1) / 2).mean() < 0.06
    assert 0.5 < np.median(splats.opacities) < 1 and splats.columns["opacity"].max() > 1  # logits
    facts = json.loads(workspace.splats("gold", ".json").read_text())
    assert facts["splats"] == result["splats"] and facts["offset"] == [500_000.0, 5_000_000.0, 300.0]
    assert workspace.splats("gold", ".png").is_file()


def test_higher_harmonics_are_written_channel_by_channel():
    rows = cloud(5)
    columns = as_columns(rows).columns
    coefficients = rows[:, 11:].view(5, 9, 3)
    assert torch.equal(torch.from_numpy(columns["f_rest_0"]), coefficients[:, 1, 0])
    assert torch.equal(torch.from_numpy(columns["f_rest_8"]), coefficients[:, 1, 1])
    assert torch.equal(torch.from_numpy(columns["f_rest_23"]), coefficients[:, 8, 2])


def test_spz_holds_the_same_with_y_up():
    splats = as_columns(cloud(50))
    content = gzip.decompress(spz_bytes(splats))
    magic, version, count, degree, bits, flags, _ = struct.unpack("<IIIBBBB", content[:16])
    assert (magic.to_bytes(4, "little"), version, count, degree, flags) == (b"NGSP", 3, 50, 2, 0)
    body = np.frombuffer(content, np.uint8, offset=16)
    assert len(body) == count * (9 + 1 + 3 + 3 + 4 + 24)
    parts = np.split(body, np.cumsum([9 * count, count, 3 * count, 3 * count, 4 * count]))
    places = np.pad(parts[0].reshape(count, 3, 3), ((0, 0), (0, 0), (0, 1)))
    places = (places.copy().view("<i4")[..., 0] << 8 >> 8) / 2**bits
    x, y, z = splats.means.T
    np.testing.assert_allclose(places, np.stack([x, z, -y], 1), atol=1e-4)
    np.testing.assert_allclose(parts[1] / 255, splats.opacities, atol=0.003)
    np.testing.assert_allclose((parts[2].reshape(-1, 3) / 255 - 0.5) / 0.15 * 0.28209479 + 0.5,
                               0.5 + 0.28209479 * np.stack([splats.columns[f"f_dc_{i}"] for i in range(3)], 1),
                               atol=0.005)  # fmt: skip
    np.testing.assert_allclose(np.exp(parts[3].reshape(-1, 3) / 16 - 10.0), splats.scales, rtol=0.04)
    np.testing.assert_allclose(_turned_back(parts[4].view("<u4")), splats.axes, atol=0.01)
    # Colours seen from a direction are those of the turned direction there.
    direction = np.random.default_rng(0).normal(size=(1, 3))
    direction /= np.linalg.norm(direction)
    rest = (parts[5].reshape(count, 8, 3) - 128.0) / 128
    before = np.stack([splats.columns[f"f_rest_{i}"] for i in range(24)], 1).reshape(count, 3, 8)
    clipped = np.abs(before).max((1, 2)) < 0.6
    seen = np.einsum("nkc,k->nc", rest, written_harmonics(direction[:, [0, 2, 1]] * [1, 1, -1], 2)[0])
    expected = np.einsum("nck,k->nc", before, written_harmonics(direction, 2)[0])
    np.testing.assert_allclose(seen[clipped], expected[clipped], atol=0.03)


def _turned_back(packed):
    """Axes (n, 3, 3) with z up again of quaternions in 32 bits, by the format's own description."""
    packed, found = packed.astype(np.int64), np.zeros((len(packed), 4))
    largest = packed >> 30
    for axis in (3, 2, 1, 0):
        stored = largest != axis
        value = (packed & 511) / 511 / np.sqrt(2) * np.where(packed >> 9 & 1, -1, 1)
        found[stored, axis] = value[stored]
        packed = np.where(stored, packed >> 10, packed)
    found[np.arange(len(found)), largest] = np.sqrt(np.maximum(0, 1 - (found**2).sum(1)))
    turned = rotations(torch.from_numpy(found[:, [3, 0, 1, 2]])).numpy()
    return np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]) @ turned


def test_splats_of_the_same_scene_and_settings_are_not_made_again(workspace, monkeypatch):
    made, whole = [], splats_module.splats_of_scene
    monkeypatch.setattr(splats_module, "splats_of_scene", lambda *given: made.append(given[1].splats) or whole(*given))
    first = make_splats(request(workspace), Reporter())
    assert make_splats(request(workspace), Reporter()) == first and made == [2000]
    make_splats(request(workspace, splats=1500), Reporter())
    (workspace.edit("gold") / "checkpoint.safetensors").write_bytes(b"trained on")
    make_splats(request(workspace, splats=1500), Reporter())
    workspace.splats("gold", ".spz").unlink()
    make_splats(request(workspace, splats=1500), Reporter())
    assert made == [2000, 1500, 1500, 1500] and workspace.splats("gold", ".spz").is_file()


def test_splats_that_we_did_not_make_are_not_overwritten(workspace):
    file = workspace.splats("gold", ".ply")
    file.parent.mkdir()
    file.write_text("mine")
    with pytest.raises(In2nError) as refused:
        make_splats(request(workspace), Reporter())
    assert refused.value.code == "not_ours" and file.read_text() == "mine"


def test_cancelled_splats_leave_earlier_ones(workspace):
    make_splats(request(workspace), Reporter())
    before = {kind: workspace.splats("gold", kind).read_bytes() for kind in (".ply", ".spz", ".json")}
    for unit in ("view", "part", "step"):
        with pytest.raises(Cancelled):
            make_splats(request(workspace, splats=1500), cancelled_at(unit))
    assert {kind: workspace.splats("gold", kind).read_bytes() for kind in before} == before


def test_only_what_is_kept_is_made(workspace, tmp_path):
    half = np.diag([4.0, 4.0, 4.0, 1.0])
    half[:3, 3] = CENTER + [2.0, 0, 0]
    keep = tmp_path / "keep.json"
    write_json(keep, Region.box(half).to_json())
    made = make_splats(request(workspace, edit=None, keep=str(keep), steps=20), Reporter())
    means = read_splats(workspace.splats(None, ".ply")).means
    assert made["splats"] > 200 and means[:, 0].min() > CENTER[0] - 0.1 and means[:, 0].max() < CENTER[0] + 1.1


def test_without_the_background_nothing_lies_around_the_scene(workspace):
    make_splats(request(workspace, edit=None, background=False), Reporter())
    means = read_splats(workspace.splats(None, ".ply")).means
    assert np.linalg.norm(means - CENTER, axis=1).max() < RADIUS + 0.1
    make_splats(request(workspace, edit=None, splats=5000), Reporter())
    assert np.linalg.norm(read_splats(workspace.splats(None, ".ply")).means - CENTER, axis=1).max() > 50


def test_where_nothing_is_kept_there_are_no_splats(workspace, tmp_path):
    keep = tmp_path / "keep.json"
    elsewhere = np.eye(4)
    elsewhere[:3, 3] = CENTER + [100.0, 0, 0]
    write_json(keep, Region.box(elsewhere).to_json())
    with pytest.raises(In2nError) as refused:
        make_splats(request(workspace, keep=str(keep)), Reporter())
    assert refused.value.code == "empty_splats" and not workspace.splats("gold", ".ply").exists()
