"""Shots of a small ball: the passes agree with `Scene.render` and with the ball, the matte is clean, blur is an
average."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ball import look_at, reconstructed_ball, ring, sphere_image

from in2n_blender.engine.nerf.dataset import SceneTransform
from in2n_blender.engine.nerf.rendering import render_rays
from in2n_blender.engine.nerf.scene import LocalScene, Scene
from in2n_blender.engine.nerf.settings import NerfSettings
from in2n_blender.engine.nerf.shot_rendering import NOTHING, ShotRenderer, ShotSettings, normals
from in2n_blender.engine.nerf.subject import Subject
from in2n_blender.engine.output import shots
from in2n_blender.link.requests import RenderShot, from_params
from in2n_blender.scene.camera import Camera, Intrinsics
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.region import Region
from in2n_blender.scene.reporting import Reporter
from in2n_blender.scene.shot import ORTHOGRAPHIC, PANORAMA, Shot
from in2n_blender.scene.srgb import srgb_to_linear

RADIUS = 0.6
ALL = ("Depth", "Normal", "Position")


class Ball(Scene):
    """A red ball of RADIUS at the origin before a blue sky: a field that is known everywhere, rendered as any other."""

    def __init__(self):
        settings = NerfSettings(proposal_samples=192, samples=96)
        model = SimpleNamespace(settings=settings, near=0.05, to=lambda device: model)
        super().__init__(model, SceneTransform((0.1, 0.2, 0.3), 0.3), None, "cpu", False)

    def rays(self, bundle):
        places = lambda samples: (
            bundle.origins[:, None] + bundle.directions[:, None] * (samples.starts + samples.ends)[..., None] / 2
        ).view(-1, 3)
        return render_rays(
            bundle,
            self.model.settings,
            self.model.near,
            lambda samples: self.proposal_at(places(samples)),
            lambda samples: self.field_at(places(samples), bundle.directions),
        )

    def proposal_at(self, places):
        return self.density_at(places)

    def density_at(self, places):
        away = (places / self.transform.scale + torch.tensor(self.transform.center)).norm(dim=-1)
        return 300 * torch.sigmoid((RADIUS - away) / 0.01) + 100.0 * (away > 20)

    def field_at(self, places, directions, views=None):
        density = self.density_at(places)
        is_sky = places.norm(dim=-1, keepdim=True) > 1
        return density, torch.where(is_sky, torch.tensor([0.1, 0.2, 0.8]), torch.tensor([0.8, 0.25, 0.2]))


@pytest.fixture(scope="module")
def scene():
    return Ball()


@pytest.fixture(scope="module")
def ball(scene):
    """The subject: a box round the ball."""
    return Subject(scene, Region.box(np.diag([1.5, 1.5, 1.5, 1.0])))


def rendered(renderer, shot, **settings):
    return ShotRenderer(*renderer).render(shot, ShotSettings(**settings), Reporter())


def test_a_pinhole_shows_what_the_scene_renders(scene):
    camera = look_at((2.4, 1.2, 1.1), size=(30, 20))
    known = scene.render(camera)
    passes = rendered((scene,), Shot((camera,)), passes=ALL)
    np.testing.assert_allclose(passes["Combined"][..., :3], srgb_to_linear(known.rgb_srgb.numpy()), atol=2e-4)
    assert (passes["Combined"][..., 3] == 1).all()
    solid = known.alpha.numpy() > 0.5
    np.testing.assert_allclose(passes["Depth"][solid, 0], known.depth.numpy()[solid], rtol=1e-4)
    bordered = rendered((scene,), Shot((camera,), border=(5, 3, 25, 15)), passes=ALL)
    for name in ("Combined", "Depth", "Position"):
        np.testing.assert_allclose(bordered[name], passes[name][3:15, 5:25], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lens", ["perspective", ORTHOGRAPHIC, PANORAMA])
def test_the_passes_are_of_the_ball_in_scene_units(scene, ball, lens):
    camera = look_at((3.0, 0.5, 1.0), size=(32, 32))
    if lens == ORTHOGRAPHIC:  # far away, where what is between would be the scene's sky
        far = look_at((30.0, 5.0, 10.0))
        camera = Camera(Intrinsics(32, 32, 20.0, 20.0, 16, 16), far.camera_to_world)
    span = (-0.4, 0.4, -0.4, 0.4)
    turn = np.array([[0, -1.0, 0], [1, 0, 0], [0, 0, 1]])
    to_scene = np.eye(4)
    to_scene[:3, :3], to_scene[:3, 3] = 10 * turn, (5, -3, 2)
    passes = rendered((scene, ball), Shot((camera,), lens, span), passes=ALL, to_scene=to_scene)
    solid = passes["Combined"][..., 3] > 0.95
    assert 0.05 < solid.mean() < 0.9
    center = to_scene[:3, 3]
    away = passes["Position"][solid] - center
    radius = np.linalg.norm(away, axis=-1)
    assert np.abs(np.median(radius) - 10 * RADIUS) < 0.1 and np.percentile(np.abs(radius - 10 * RADIUS), 95) < 0.3
    agreement = (passes["Normal"][solid] * away / radius[:, None]).sum(-1)
    assert np.percentile(agreement, 20) > 0.9
    from_camera = passes["Position"][solid] - (to_scene[:3, :3] @ camera.position + center)
    axis = to_scene[:3, :3] @ -camera.camera_to_world[:3, 2] / 10
    expected = np.linalg.norm(from_camera, axis=-1) if lens == PANORAMA else from_camera @ axis
    np.testing.assert_allclose(passes["Depth"][solid, 0], expected, rtol=1e-3)
    empty = passes["Combined"][..., 3] < 0.4
    assert (passes["Depth"][empty] == np.float32(NOTHING)).all() and not passes["Normal"][empty].any()


def test_an_orthographic_camera_sees_as_many_units_as_it_says(scene, ball):
    far = look_at((0.0, 40.0, 0.0))
    camera = Camera(Intrinsics(40, 40, 20.0, 20.0, 20, 20), far.camera_to_world)
    alpha = rendered((scene, ball), Shot((camera,), ORTHOGRAPHIC))["Combined"][..., 3]
    assert math.sqrt((alpha > 0.5).sum() / math.pi) == pytest.approx(RADIUS * 20, rel=0.12)


def test_the_matte_has_nothing_of_what_lies_behind(scene, ball):
    """Over red, the ball's edge must not turn towards the blue before which it was photographed."""
    camera = look_at((2.6, 0.4, 1.0), size=(48, 32))
    matte = rendered((scene, ball), Shot((camera,)), samples=4)["Combined"]
    alpha = matte[..., 3]
    is_sky = (sphere_image(camera) == np.float32([0.1, 0.2, 0.8])).all(-1)
    inner = lambda mask: mask & np.roll(mask, 2, 0) & np.roll(mask, -2, 0) & np.roll(mask, 2, 1) & np.roll(mask, -2, 1)
    assert alpha[inner(is_sky)].max() < 0.05 and alpha[inner(~is_sky)].min() > 0.95
    assert ((0.2 < alpha) & (alpha < 0.8)).any(), "an edge"
    over_red = matte[..., :3] + (1 - alpha)[..., None] * [1.0, 0, 0]
    assert over_red[..., 2].max() < srgb_to_linear(0.2) + 0.002
    assert (matte[..., :3] <= alpha[..., None] + 1e-5).all(), "premultiplied"


def test_an_edit_of_a_region_is_rendered_and_is_a_subject(scene):
    """Within the region the edited field is blue, beyond it the ball is as it was."""

    class Edited(LocalScene):
        def _density(self, places, before, after):
            return before(places)

        def field_at(self, places, directions, views=None):
            density, color = self.ground.field_at(places, directions, views)
            chosen, _share = self._inside(places)
            color[chosen] = torch.tensor([0.1, 0.1, 0.9])
            return density, color

    above = Region.from_json({"type": "box", "center": [0, 0, 0.5], "size": [3, 3, 1]})
    edited = Edited(scene.model, scene, above)
    camera = look_at((2.6, 0.4, 0.0), size=(24, 24))
    for renderer in ((edited,), (edited, Subject(edited, Region.box(np.diag([1.5, 1.5, 1.5, 1.0]))))):
        colors = rendered(renderer, Shot((camera,)))["Combined"]
        assert colors[8, 12, 2] > 5 * colors[8, 12, 0] and colors[16, 12, 0] > 5 * colors[16, 12, 2]


def test_film_transparent_leaves_out_what_lies_behind(scene):
    camera = look_at((2.6, 0.4, 1.0))
    passes = rendered((scene,), Shot((camera,)), transparent=True)
    assert passes["Combined"][..., 3].min() < 1
    np.testing.assert_allclose(passes["Combined"][..., 3], scene.render(camera).alpha.numpy(), atol=1e-4)


def test_motion_blur_is_the_average_over_the_shutter(scene):
    start = look_at((2.6, 0.4, 1.0))
    sideways = np.eye(4)
    sideways[:3, 3] = 0.5 * start.camera_to_world[:3, 0]
    at = lambda t: Camera(start.intrinsics, (1 - t) * start.camera_to_world + t * (sideways @ start.camera_to_world))
    picture = lambda *cameras, samples: rendered((scene,), Shot(cameras), samples=samples)["Combined"]
    average = np.mean([picture(at(t), samples=4) for t in np.linspace(0.02, 0.98, 25)], 0)
    moving, still = picture(at(0), at(1), samples=64), picture(at(0.5), samples=4)
    assert np.abs(moving - average).mean() < 0.2 * np.abs(still - average).mean()


def test_depth_of_field_blurs_what_is_not_in_focus(scene, ball):
    camera = look_at((2.4, 0.0, 0.0), size=(32, 32))
    edge = lambda shot: np.abs(np.diff(rendered((scene, ball), shot, samples=32)["Combined"][16, :, 3])).max()
    sharp = edge(Shot((camera,)))
    assert edge(Shot((camera,), aperture=0.25, focus=2.35)) > 0.6 * sharp
    assert edge(Shot((camera,), aperture=0.25, focus=1.0)) < 0.5 * sharp
    passes = rendered((scene, ball), Shot((camera,), aperture=0.25, focus=1.0), samples=2, passes=ALL)
    still = rendered((scene, ball), Shot((camera,)), passes=ALL)
    for name in ALL:
        np.testing.assert_allclose(passes[name], still[name], rtol=1e-4, atol=1e-4)


def test_normals_of_a_plane_and_across_an_edge():
    y, x = np.mgrid[:12, :16].astype(float)
    plane = np.stack([x, y, 0.5 * x], -1)
    plane[:, 8:, 2] += 30
    towards = np.broadcast_to([0, 0, -1.0], plane.shape)
    found = normals(plane, np.ones(x.shape, bool), towards)
    np.testing.assert_allclose(found, np.broadcast_to(np.array([0.5, 0, -1]) / math.sqrt(1.25), plane.shape), atol=1e-9)
    alone = np.zeros(x.shape, bool)
    alone[4, 4] = True
    np.testing.assert_allclose(normals(plane, alone, towards)[4, 4], [0, 0, -1])


def test_a_cancelled_shot_stops_between_parts(scene):
    with pytest.raises(Cancelled):
        ShotRenderer(scene).render(Shot((look_at((3, 0, 1)),)), ShotSettings(), Reporter(cancelled=lambda: True))


# --- the job


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return reconstructed_ball(tmp_path_factory.mktemp("shots"), ring(8))


def request(workspace, out, shot=None, **fields):
    shot = shot or Shot((look_at((3.0, 0.5, 1.0)),))
    params = RenderShot(workspace=str(workspace), shot=shot.to_json(), out=str(out), device="cpu", **fields)
    return from_params("shot", json.loads(json.dumps(params.to_params())))


def test_the_job_writes_all_passes_to_one_file(workspace, tmp_path):
    result = shots.render_shot(request(workspace, tmp_path / "a.npy", passes=list(ALL)), Reporter())
    assert result["passes"] == {
        "Combined": [16, 24, 4],
        "Depth": [16, 24, 1],
        "Normal": [16, 24, 3],
        "Position": [16, 24, 3],
    }
    values = np.load(result["file"], allow_pickle=False)
    assert values.dtype == np.float32 and values.shape == (16 * 24 * 11,) and np.isfinite(values).all()


def test_a_scene_is_loaded_once_until_its_checkpoint_changes(workspace, tmp_path, monkeypatch):
    shots._kept.clear()
    loads = []
    load = shots.load_scene
    monkeypatch.setattr(shots, "load_scene", lambda *given: loads.append(given) or load(*given))
    for name in "ab":
        shots.render_shot(request(workspace, tmp_path / f"{name}.npy"), Reporter())
    assert len(loads) == 1
    checkpoint = workspace / "reconstruction" / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes())
    shots.render_shot(request(workspace, tmp_path / "c.npy"), Reporter())
    assert len(loads) == 2 and len(shots._kept) == 1


def test_the_scenes_bounds_are_a_subject(workspace, tmp_path):
    for name, subject in (("all", {}), ("bounds", {"type": "bounds"})):
        out = tmp_path / f"{name}.npy"
        shots.render_shot(request(workspace, out, subject=subject, transparent=True), Reporter())
    alphas = [np.load(tmp_path / f"{name}.npy").reshape(16, 24, 4)[..., 3] for name in ("all", "bounds")]
    assert 0 < alphas[1].max() <= alphas[0].max() + 0.02 and alphas[1].mean() < 0.7 * alphas[0].mean()


GOOD = Shot((look_at((3.0, 0.5, 1.0)),)).to_json()
WRONG = {
    "no cameras": GOOD | {"cameras": []},
    "no lens": GOOD | {"lens": "fisheye"},
    "border outside": GOOD | {"border": [0, 0, 999, 5]},
    "border turned over": GOOD | {"border": [8, 0, 4, 5]},
    "no numbers": GOOD | {"aperture": "wide"},
    "not finite": GOOD | {"focus": math.inf},
    "two sizes": GOOD | {"cameras": [*GOOD["cameras"], GOOD["cameras"][0] | {"width": 5}]},
    "empty": {},
    "a list": [],
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG)
def test_what_is_no_shot_is_said(data):
    with pytest.raises(In2nError) as refused:
        Shot.from_json(data)
    assert refused.value.code == "bad_shot"


def test_a_shot_survives_the_wire():
    shot = Shot((look_at((3, 0, 1)), look_at((3, 1, 1))), PANORAMA, (-1.0, 1.0, -0.5, 0.5), (1, 2, 9, 8), 0.1, 2.0)
    again = Shot.from_json(json.loads(json.dumps(shot.to_json())))
    assert replace(again, cameras=()) == replace(shot, cameras=())
    for one, other in zip(again.cameras, shot.cameras):
        assert one.intrinsics == other.intrinsics
        np.testing.assert_array_equal(one.camera_to_world, other.camera_to_world)


@pytest.mark.parametrize("wrong", [{"passes": ["Mist"]}, {"to_scene": [1.0] * 3}, {"to_scene": [0.0] * 16}])
def test_a_wrong_request_is_said(workspace, tmp_path, wrong):
    with pytest.raises(In2nError) as refused:
        shots.render_shot(request(workspace, tmp_path / "a.npy", **wrong), Reporter())
    assert refused.value.code == "bad_shot" and not (tmp_path / "a.npy").exists()


def test_a_subject_passed_by_all_rays_is_empty(scene):
    far = Subject(scene, Region.from_json({"type": "box", "center": [0, 0, 50], "size": [1, 1, 1]}))
    passes = rendered((scene, far), Shot((look_at((3, 0, 0)),)), passes=ALL)
    assert not passes["Combined"].any() and torch.isfinite(torch.from_numpy(passes["Depth"])).all()


def test_seen_from_outside_of_where_the_photos_were_taken_the_sky_hides_nothing(scene):
    camera = look_at((150.0, 20.0, 60.0))
    narrow = Camera(Intrinsics(24, 16, 1200.0, 1200.0, 12, 8), camera.camera_to_world)
    passes = rendered((scene,), Shot((narrow,)), passes=("Depth",), transparent=True)
    assert passes["Combined"][8, 12, 0] > 5 * passes["Combined"][8, 12, 2], "the red ball before the blue sky"
    assert passes["Depth"][8, 12, 0] == pytest.approx(np.linalg.norm(camera.position) - RADIUS, rel=0.01)
    away = Camera(narrow.intrinsics, camera.camera_to_world @ np.diag([-1.0, 1, -1, 1]))
    passes = rendered((scene,), Shot((away,)), passes=("Depth",))
    assert (passes["Depth"] == np.float32(NOTHING)).all()
    np.testing.assert_allclose(passes["Combined"][..., :3].mean((0, 1)), srgb_to_linear([0.1, 0.2, 0.8]), atol=0.01)
