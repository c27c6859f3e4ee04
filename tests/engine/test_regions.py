"""Regions in the engine: the inside test against its twin and against geometry, what of a view is edited, and the field
that is the edited one inside and the unedited one outside."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from in2n_blender.engine.editing import baselines, methods
from in2n_blender.engine.editing.agreement import Agreement
from in2n_blender.engine.editing.baselines import run_method
from in2n_blender.engine.editing.dataset_update import DatasetUpdate
from in2n_blender.engine.editing.regions import Limit
from in2n_blender.engine.nerf import settings as nerf_settings
from in2n_blender.engine.nerf.checkpoint import read_checkpoint, save_checkpoint
from in2n_blender.engine.nerf.dataset import SceneTransform, camera_bundle
from in2n_blender.engine.nerf.regions import InsideTest, signed_distance_torch, soft
from in2n_blender.engine.nerf.rendering import NerfModel, RayBundle
from in2n_blender.engine.nerf.scene import LocalScene, RenderedView, Scene, load_scene
from in2n_blender.scene.camera import Camera, Intrinsics
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.readers.regions import read_region
from in2n_blender.scene.region import Region
from in2n_blender.scene.reporting import Progress, Reporter
from in2n_blender.workspace.layout import Workspace
from tests.engine.ball import TINY, look_at, ring
from tests.engine.recording_editor import RecordingEditor
from tests.engine.test_method import SMALL, cameras, names, order_of, photographed, photos_of, request_for

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]


def placed(center=(0, 0, 0), size=(1, 1, 1)):
    matrix = np.diag([*size, 1.0])
    matrix[:3, 3] = center
    return matrix


def turned_box(soft_edge=0.0):
    turn = np.eye(4)
    turn[:3, :3] = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    return Region.box(turn @ placed((0.2, 0, 0.1), (1.2, 0.7, 0.4)), soft_edge)


def torus(soft_edge=0.0, sides=24, around=12):
    u, v = (2 * np.pi * np.arange(n) / n for n in (sides, around))
    ring = 0.6 + 0.2 * np.cos(v)
    vertices = np.stack(
        [np.outer(np.cos(u), ring), np.outer(np.sin(u), ring), np.outer(np.ones(sides), 0.2 * np.sin(v))], -1
    ).reshape(-1, 3)
    at = lambda i, j: (i % sides) * around + j % around
    faces = [[at(i, j), at(i + 1, j), at(i + 1, j + 1)] for i in range(sides) for j in range(around)]
    faces += [[at(i, j), at(i + 1, j + 1), at(i, j + 1)] for i in range(sides) for j in range(around)]
    return Region.of(vertices, faces, soft_edge)


def some_points(count=1000, reach=1.2, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(-reach, reach, (count, 3)).astype(np.float32))


REGIONS = {
    "box": turned_box,
    "ball": lambda soft_edge=0.0: Region.ellipsoid(placed((0.1, 0.1, 0), (1, 1.4, 0.8)), soft_edge),
    "torus": torus,
    "pancake": lambda soft_edge=0.0: Region.box(placed((0, 0, 0.1), (2, 2, 0.004)), soft_edge),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", REGIONS)
def test_the_signed_distance_is_its_twins(shape, device):
    region, points = REGIONS[shape](), some_points()
    test = InsideTest(region, device)
    twin = signed_distance_torch(points.double(), test.vertices.cpu().double(), test.faces.cpu()).float()
    found = test.signed_distance(points.to(device)).cpu()
    assert torch.allclose(found.abs(), twin.abs(), atol=1e-5)
    sure = twin.abs() > 1e-5
    assert torch.equal(found[sure] < 0, twin[sure] < 0)
    assert (twin < 0).any() or shape == "pancake"


def test_the_signed_distance_of_a_box_is_the_formulas():
    points = some_points(reach=2)
    q = points.abs() - torch.tensor([0.5, 1.0, 0.25])
    formula = q.clamp_min(0).norm(dim=-1) + q.amax(-1).clamp_max(0)
    region = Region.box(placed(size=(1, 2, 0.5)))
    assert torch.allclose(InsideTest(region, "cpu").signed_distance(points), formula, atol=1e-5)
    vertices, faces = torch.tensor(region.vertices), torch.tensor(region.faces)
    assert torch.allclose(signed_distance_torch(points.double(), vertices, faces).float(), formula, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("soft_edge", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("shape", REGIONS)
def test_membership_is_the_soft_distance_though_asked_near_the_surface_alone(shape, soft_edge, device):
    test, points = InsideTest(REGIONS[shape](soft_edge), device), some_points(4000)
    points[:1000, 2] = 0.1 + points[:1000, 2] * 2e-3  # many in the pancake
    points = points.to(device)
    asked, query = [], test.signed_distance
    test.signed_distance = lambda chosen: asked.append(len(chosen)) or query(chosen)
    found = test.membership(points)
    distance = query(points)
    assert torch.equal(found, soft(-distance, soft_edge))
    assert found.min() == 0 and (found.max() == 1 or soft_edge)
    assert sum(asked) < len(points) / (1.5 if shape == "pancake" else 2)


def test_a_soft_edge_rises_smoothly_from_the_surface_to_its_width():
    test = InsideTest(Region.box(placed(size=(2, 2, 2)), 0.4), "cpu")
    depth = torch.tensor([-0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.9])
    points = torch.stack([1 - depth, 0 * depth, 0 * depth], -1)
    assert test.membership(points).tolist() == pytest.approx([0, 0, 0.15625, 0.5, 0.84375, 1, 1], abs=1e-5)


def test_rays_that_enter_the_region_are_among_those_that_may_meet_it():
    test = InsideTest(turned_box(), "cpu")
    origins, targets = some_points(500, 3, 1), some_points(500, 3, 2)
    directions = torch.nn.functional.normalize(targets - origins, dim=-1)
    directions[:100, 0] = 0
    along = torch.linspace(0, 8, 200)
    inside = test.membership((origins[:, None] + along[:, None] * directions[:, None]).view(-1, 3)).view(500, 200)
    meets, may = inside.amax(1) > 0, test.may_meet(origins, directions)
    assert meets.any() and may[meets].all() and not may.all()


# --- a scene that is edited within a region


def ground_and_edited():
    """Two models that differ everywhere, and their common transform."""
    models = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = NerfModel(replace(TINY, samples=32, proposal_samples=48))
        for encoding in (model.field.encoding, model.proposal.encoding):
            torch.nn.init.normal_(encoding.table, -0.5, 1.0)
        with torch.no_grad():
            model.field.color[-1].bias.copy_(torch.tensor([3.0, -3.0, 0.0]) * (-1) ** seed)
        models.append(model.eval())
    return models, SceneTransform.of(ring())


def scenes_with(region):
    (before, after), transform = ground_and_edited()
    ground = Scene(before, transform, None, "cpu", False)
    return ground, Scene(after, transform, None, "cpu", False), LocalScene(after, ground, region)


def in_capture(box_size, center=(0, 0, 0), soft_edge=0.0):
    return Region.box(placed(center, (box_size,) * 3), soft_edge)


def test_rays_that_pass_the_region_show_what_they_showed():
    ground, edited, local = scenes_with(in_capture(0.5))
    camera = look_at((2.2, 2.2, 0.6), size=(48, 32))
    before, after = ground.render(camera), local.render(camera)
    bundle, _ = camera_bundle(camera, ground.transform, "cpu")
    meets = local.inside.may_meet(bundle.origins, bundle.directions).view(32, 48)
    assert 0.02 < meets.float().mean() < 0.5
    for name in ("rgb_srgb", "alpha", "depth"):
        assert torch.allclose(getattr(before, name)[~meets], getattr(after, name)[~meets], atol=1e-6), name
    assert (before.rgb_srgb - after.rgb_srgb)[meets].abs().mean() > 0.003
    away = look_at((2.2, 2.2, 0.6), target=(4, 4, 1), size=(8, 8))
    assert torch.equal(ground.render(away).rgb_srgb, local.render(away).rgb_srgb)


def test_a_region_round_everything_shows_the_edited_scene():
    ground, edited, local = scenes_with(in_capture(1e5))
    camera = look_at((2.2, 2.2, 0.6), size=(48, 32))
    assert (edited.render(camera).rgb_srgb - local.render(camera).rgb_srgb).abs().max() < 4e-3
    points, directions = some_points(200), torch.nn.functional.normalize(some_points(200, seed=1), dim=-1)
    assert torch.allclose(edited.density(points), local.density(points))
    assert torch.allclose(edited.color(points, directions), local.color(points, directions), atol=1e-6)


def test_fields_are_blended_by_how_far_inside_a_place_is():
    ground, edited, local = scenes_with(in_capture(2.0, soft_edge=0.4))
    depth = torch.tensor([-0.3, 0.1, 0.2, 0.5])
    points = torch.stack([1 - depth, 0.1 + 0 * depth, 0 * depth], -1)
    share = torch.tensor([0.0, 0.15625, 0.5, 1.0])
    directions = torch.tensor([[1.0, 0, 0]]).expand(4, -1)
    d0, d1, d = (scene.density(points) for scene in (ground, edited, local))
    assert torch.allclose(d, d0 * (1 - share) + d1 * share, rtol=1e-3)
    c0, c1, c = (scene.color(points, directions) for scene in (ground, edited, local))
    assert torch.allclose(
        c * d[:, None], c0 * (d0 * (1 - share))[:, None] + c1 * (d1 * share)[:, None], rtol=1e-3, atol=1e-3
    )


def test_what_stands_before_the_region_hides_it():
    """A wall of the unedited scene between the camera and the region."""
    (before, after), transform = ground_and_edited()

    class Wall(Scene):
        def proposal_at(self, places):
            return self.density_at(places)

        def density_at(self, places):
            return torch.where((places[:, 0] > 0.3) & (places[:, 0] < 0.5), 1e4, 0.0)

        def field_at(self, places, directions, views=None):
            return self.density_at(places), torch.tensor([[0.0, 1.0, 0.0]]).expand(len(places), -1).clone()

    local = LocalScene(after, Wall(before, transform, None, "cpu", False), in_capture(1.0))
    with torch.no_grad():
        after.field.encoding.table.fill_(20.0)
    origins = torch.tensor([[1.0, 0.0, -transform.center[2] * transform.scale], [-1.0, 0.0, 0.0]])
    origins[1, 2] = origins[0, 2]
    rendered = local.rays(RayBundle(origins, torch.tensor([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])))
    assert torch.allclose(rendered.color[0], torch.tensor([0.0, 1.0, 0.0]), atol=1e-3), "seen from before the wall"
    assert (rendered.color[1] - torch.tensor([0.0, 1.0, 0.0])).abs().max() > 0.1, "and from behind it"


# --- what of a view is edited


class Shown:
    """A scene that shows a wall at one depth, over white where it is not opaque."""

    def __init__(self, depth, alpha=1.0):
        self.depth, self.alpha, self.rendered = depth, alpha, 0

    def render(self, camera, report=None):
        self.rendered += 1
        shape = camera.intrinsics.height, camera.intrinsics.width
        return RenderedView(torch.zeros(*shape, 3), torch.full(shape, self.alpha), torch.full(shape, self.depth))


def limit_of(ground, region):
    camera = Camera(Intrinsics(9, 9, 9.0, 9.0, 4.5, 4.5), np.eye(4))  # at the origin, looks along -z
    return Limit(region, SimpleNamespace(ground=ground, device=torch.device("cpu")), [camera], Reporter()), camera


def test_a_pixel_is_edited_by_the_surface_that_it_shows():
    region = Region.box(placed((0, 0, -4), (2, 2, 2)), 0.5)  # from 3 to 5 before the camera, 1 to each side
    for depth, middle in ((2.9, 0), (3.25, 0.5), (4.0, 1), (5.1, 0)):
        limit, _ = limit_of(Shown(depth), region)
        mask = limit.mask(0)
        assert mask[4, 4] == pytest.approx(middle, abs=1e-5), "what stands before the region or behind it is kept"
        assert mask[0].max() == mask[:, 0].max() == 0, "what lies beside it too"
        edited, photo = torch.full((9, 9, 3), 1.0), torch.full((9, 9, 3), 0.25)
        assert torch.allclose(limit.applied(0, edited, photo), 0.25 + 0.75 * mask[..., None].expand(-1, -1, 3))
    assert limit_of(Shown(4.0, alpha=0.4), region)[0].mask(0).max() == 0, "nothing is seen there"


def test_what_the_edit_adds_in_the_region_and_what_it_takes_away_are_edited():
    region = Region.box(placed((0, 0, -4), (2, 2, 2)))
    behind, within = Shown(8.0), Shown(4.0)
    for before, now in ((behind, within), (within, behind)):
        limit, camera = limit_of(before, region)
        limit.start(0, now.render(camera))
        assert limit.mask(0)[4, 4] == 1 and limit.mask(0)[0, 0] == 0
        assert before.rendered == 1 + (before is within), "the unedited view is rendered once"
    limit, camera = limit_of(behind, region)
    for seen, wanted in ((within, 1), (behind, 0)):
        limit.start(0, seen.render(camera))
        assert limit.mask(0)[4, 4] == wanted, "the last look counts"


def test_the_editor_is_given_a_picture_that_is_edited_throughout():
    region = Region.box(placed((0, 0, -4), (2, 2, 2)), 0.5)
    limit, camera = limit_of(Shown(4.0), region)
    rendered = Shown(4.0).render(camera)  # black
    assert torch.equal(limit.start(0, rendered), rendered.rgb_srgb), "before its first edit the render alone"
    limit.note(0, torch.full((9, 9, 3), 0.6))
    mask = limit.mask(0)[..., None].expand(-1, -1, 3)
    assert 0 < mask.mean() < 1 and torch.allclose(limit.start(0, rendered), 0.6 * (1 - mask))
    method = object.__new__(DatasetUpdate)
    method.limit = limit
    assert torch.allclose(method.latest(0), torch.full((9, 9, 3), 0.6)), "its last edit, beside the region too"
    again, _ = limit_of(Shown(4.0), region)
    again.restore({**limit.tensors(), "dataset": torch.zeros(3)})
    assert torch.equal(again.start(0, rendered), limit.start(0, rendered))
    for name, picture in (("whole.1", limit.whole[0]), ("whole.x", limit.whole[0]), ("whole.0", torch.zeros(9, 9, 3))):
        with pytest.raises(In2nError) as refused:
            again.restore({name: picture})
        assert refused.value.code == "bad_checkpoint"


# --- edits that are limited to one

HALF = {"type": "box", "center": [0, 0, 0.5], "size": [1.4, 1.4, 1], "soft_edge": 0.05}  # the upper half of the ball


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return photographed(tmp_path_factory.mktemp("regions") / "ws")


@pytest.fixture
def region(tmp_path):
    return written(tmp_path / "half.json", HALF)


def written(file, data):
    file.write_text(json.dumps(data))
    return str(file)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(nerf_settings.CPU, "draft", SMALL)


@pytest.fixture
def editor(monkeypatch):
    made = RecordingEditor()
    for module in (methods, baselines):
        monkeypatch.setattr(module, "load_editor", lambda *_: made)
    return made


def masks_of(workspace, region):
    """How much of each training view's pixels shows the region, by the reconstruction's depth."""
    scene = load_scene(str(workspace), None, "cpu")
    test = InsideTest(read_region(region), "cpu")
    found = []
    for camera in cameras():
        origins, directions = (torch.from_numpy(array) for array in camera.rays())
        view = scene.render(camera)
        members = test.membership(origins + directions * view.depth.view(-1, 1)).view(view.depth.shape)
        found.append(torch.where(view.alpha >= 0.5, members, 0.0))
    return found


def dataset_of_edit(workspace, name):
    colors, starts = read_checkpoint(Workspace(workspace).edit(name))[0]["dataset"], 0
    found = []
    for camera in cameras():
        k = camera.intrinsics
        found.append(colors[starts : starts + k.width * k.height].view(k.height, k.width, -1).float() / 255)
        starts += k.width * k.height
    return found


@pytest.mark.parametrize("method", ["one-time", "iterative", "faithful"])
def test_photos_change_within_the_region_alone(workspace, editor, region, method):
    run_method(method, request_for(workspace, f"limited-{method}", rounds=1, region=region), Reporter())
    order, masks, photos = order_of(editor, workspace), masks_of(workspace, region), photos_of(workspace)
    found = dataset_of_edit(workspace, f"limited-{method}")
    for view, call in zip(order, editor.calls):
        mask = masks[view][..., None]
        assert 0.02 < mask.mean() < 0.8
        before, answer = photos[view].permute(1, 2, 0), call.answer.permute(1, 2, 0)
        if method == "one-time":  # nothing but the unedited scene was seen
            assert torch.allclose(found[view], before * (1 - mask) + answer * mask, atol=0.02)
        whole = (mask == 1)[..., 0]
        assert whole.any() and torch.allclose(found[view][whole], answer[whole], atol=0.51 / 255)
        saved = np.asarray(
            Image.open(Workspace(workspace).edit(f"limited-{method}") / "dataset" / f"{names()[view]}.png")
        )
        assert np.array_equal(saved, (found[view] * 255).round().byte().numpy()), "what is kept is what is trained on"


def test_the_second_edit_of_a_view_begins_with_the_first_outside(workspace, editor, region):
    run_method("iterative", request_for(workspace, "twice", rounds=2, region=region), Reporter())
    order = order_of(editor, workspace)
    # Where nothing of the region is seen the second start is the first answer; the render is another everywhere.
    for first, second in ((a, b) for a in range(4) for b in range(4, 8) if order[a] == order[b]):
        kept = (editor.calls[second].render - editor.calls[first].answer).abs().amax(0) < 1 / 255
        assert 0.02 < kept.float().mean() < 0.98
        assert (masks_of(workspace, region)[order[first]][kept] < 0.2).all()


def test_the_edited_scene_is_the_unedited_one_outside_though_all_else_is_gone(workspace, editor, region, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(workspace, copy)
    request = request_for(copy, "limited", rounds=1, region=region)
    run_method("iterative", request, Reporter())
    before = load_scene(str(copy), None, "cpu")
    shutil.rmtree(copy / "reconstruction")
    Path(region).unlink()
    local = load_scene(str(copy), "limited", "cpu")
    inside = InsideTest(Region.from_json(HALF), "cpu")
    assert isinstance(local, LocalScene)
    points = some_points(500, reach=1.0)
    members = inside.membership(points)
    assert torch.allclose(local.density(points)[members == 0], before.density(points)[members == 0])
    assert (local.density(points) - before.density(points))[members == 1].abs().max() > 0
    kept = read_region(Workspace(copy).edit("limited") / "region.json")
    record = json.loads((Workspace(copy).edit("limited") / "edit.json").read_text())
    assert record["region"] == {"file": "region.json", "hash": kept.hash, "soft_edge": 0.05}


def test_the_same_region_goes_on_and_another_is_refused(workspace, editor, region, tmp_path):
    request = request_for(workspace, "again", rounds=1, region=region)
    first = methods.edit(request, Reporter())
    calls = len(editor.calls)
    kept = str(Workspace(workspace).edit("again") / "region.json")
    for same in (region, kept):
        assert methods.edit(replace(request, region=same), Reporter())["weights"] == first["weights"]
    assert len(editor.calls) == calls, "done is done"
    moved = written(tmp_path / "moved.json", {**HALF, "center": [0, 0, 0.6]})
    for other in ({"region": moved}, {"soft_edge": 0.1}, {"region": None}):
        with pytest.raises(In2nError) as refused:
            methods.edit(replace(request, **other), Reporter())
        assert refused.value.code == "edit_exists" and "another region" in str(refused.value)


def test_a_region_is_checked_before_anything_is_made(workspace, editor, tmp_path):
    for content, code in (({**HALF, "size": [1, 1, 0]}, "bad_region"), (None, "missing_file")):
        file = tmp_path / "region.json"
        file.unlink(missing_ok=True)
        if content:
            written(file, content)
        with pytest.raises(In2nError) as refused:
            methods.edit(request_for(workspace, "unmade", region=str(file)), Reporter())
        assert refused.value.code == code
    assert not Workspace(workspace).edit("unmade").exists()


@pytest.mark.parametrize("method", [DatasetUpdate, Agreement], ids=lambda method: method.name)
def test_stopped_and_gone_on_with_it_is_the_same(workspace, region, method):
    def request(name):
        return replace(request_for(workspace, name, rounds=1, region=region), editor="exact:K=4,s=0.05")

    whole = methods.edit(request(f"whole-{method.name}"), Reporter(), method)
    for stop in (4, 4) if method is Agreement else (2, 2):
        seen = set()
        emit = lambda event, seen=seen: seen.add(event.message) if isinstance(event, Progress) else None
        with pytest.raises(Cancelled):
            methods.edit(request(f"halved-{method.name}"), Reporter(emit, lambda s=seen, n=stop: len(s) > n), method)
        saved = read_checkpoint(Workspace(workspace).edit(f"halved-{method.name}"))
        assert saved[1]["edits_done"] == sum(name.startswith("whole.") for name in saved[0]) > 0
    resumed = methods.edit(request(f"halved-{method.name}"), Reporter(), method)
    assert resumed["weights"] == whole["weights"] and resumed["step"] == whole["step"]


def test_an_edit_may_build_on_a_limited_one(workspace, editor, region, tmp_path):
    lower = written(tmp_path / "lower.json", {**HALF, "center": [0, 0, -0.5]})
    methods.edit(request_for(workspace, "upper", rounds=1, region=region), Reporter())
    methods.edit(request_for(workspace, "both", rounds=1, region=lower, parent="upper"), Reporter())
    methods.edit(request_for(workspace, "all", rounds=1, parent="upper"), Reporter())
    upper, both, everywhere = (load_scene(str(workspace), name, "cpu") for name in ("upper", "both", "all"))
    above = InsideTest(Region.from_json({**HALF, "center": [0, 0, 0.501]}), "cpu").membership(some_points()) == 1
    assert torch.allclose(both.density(some_points())[above], upper.density(some_points())[above])
    assert (both.density(some_points()) - upper.density(some_points()))[~above].abs().max() > 0
    assert isinstance(both.ground, LocalScene) and not isinstance(everywhere, LocalScene)
    photos = dataset_of_edit(workspace, "upper")
    assert all(
        any(call.original.shape[1:] == p.shape[:2] and torch.equal(call.original.permute(1, 2, 0), p) for p in photos)
        for call in editor.calls[4:]
    ), "the photos of the edit that it builds on are its originals"


def test_distillation_and_frames_are_limited_too(workspace, editor, region):
    request = request_for(workspace, "distilled", rounds=1, region=region)
    assert isinstance(run_method("score-distillation", request, Reporter()).scene, LocalScene)
    frames = run_method("per-frame", request, Reporter())
    camera, mask = cameras()[0], masks_of(workspace, region)[0][..., None]
    unedited = load_scene(str(workspace), None, "cpu").render(camera).rgb_srgb
    shown = frames.render(camera).rgb_srgb
    answer = editor.calls[-1].answer.permute(1, 2, 0)
    assert torch.allclose(shown, unedited * (1 - mask) + answer * mask, atol=1e-5)


def test_a_damaged_region_in_a_checkpoint_is_named(workspace, editor, region):
    methods.edit(request_for(workspace, "damaged", rounds=1, region=region), Reporter())
    folder = Workspace(workspace).edit("damaged")
    tensors, state = read_checkpoint(folder)
    open_surface = {"region.faces": tensors["region.faces"][1:]}
    for change in (open_surface, {"region.soft_edge": torch.tensor(-1.0)}, {"region.vertices": torch.zeros(3)}):
        save_checkpoint(folder, {**tensors, **change}, state)
        with pytest.raises(In2nError) as refused:
            read_checkpoint(folder)
        assert refused.value.code == "bad_checkpoint"
    for missing in ("region.faces", "ground.model.field.encoding.table"):
        save_checkpoint(folder, {name: value for name, value in tensors.items() if name != missing}, state)
        with pytest.raises(In2nError) as refused:
            read_checkpoint(folder)
        assert refused.value.code == "bad_checkpoint"
