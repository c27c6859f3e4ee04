"""Dataset update by what reaches its parts: which render, photo, noise and scales the editor gets and when, and what
becomes of its answer."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from PIL import Image

from in2n_blender.engine.diffusion.editor import noise_generator
from in2n_blender.engine.editing import baselines, methods
from in2n_blender.engine.editing.baselines import OneTimeUpdate, ScoreDistillation, run_method
from in2n_blender.engine.editing.dataset_update import DatasetUpdate
from in2n_blender.engine.editing.schedule import Schedule
from in2n_blender.engine.nerf import settings as nerf_settings
from in2n_blender.engine.nerf.checkpoint import model_weights, read_checkpoint
from in2n_blender.engine.nerf.dataset import SceneTransform, camera_bundle
from in2n_blender.engine.nerf.reconstruction import reconstruct
from in2n_blender.engine.nerf.rendering import NerfModel
from in2n_blender.engine.nerf.scene import Scene, load_scene
from in2n_blender.link.requests import Edit, Reconstruct
from in2n_blender.models import catalogue
from in2n_blender.scene.camera import Camera
from in2n_blender.scene.capture import PinholeCapture, View
from in2n_blender.scene.errors import Cancelled, In2nError
from in2n_blender.scene.reporting import Artifact, Progress, Reporter
from in2n_blender.workspace.files import write_json
from in2n_blender.workspace.layout import Workspace
from tests.engine.ball import TINY, look_at, ring, sphere_image
from tests.engine.recording_editor import RecordingEditor

HELD_OUT = 1
SIZES = ((24, 16), (20, 18), (22, 14), (18, 18), (16, 20))
# An edit takes its rays, rates and rounds from its own preset, all else from the reconstruction.
SMALL = replace(TINY, rays=128, steps=40, edit_rate=3, edit_learning_rate=0.5, edit_rounds=2)
OTHER = replace(SMALL, rays=96, edit_rate=4, edit_learning_rate=0.25, edit_rounds=3, samples=6, levels=1)


def photographed(root, alpha=False):
    """A workspace with five photos of the ball, each of its own size, brightness and name; the second is held out."""
    (root / "images").mkdir(parents=True)
    views = []
    for index, camera in enumerate(ring(5)):
        camera = look_at(camera.position, size=SIZES[index])
        photo = sphere_image(camera) * (1 - 0.1 * index)
        if alpha:
            ball = photo[..., :1] > photo[..., 2:]
            photo = np.concatenate([photo, np.where(ball, 1.0, 0.2)], -1)
        Image.fromarray((photo * 255).round().astype(np.uint8)).save(root / "images" / f"{index}.png")
        views.append(View(f"photo {index}", f"images/{index}.png", camera, held_out=index == HELD_OUT))
    write_json(root / "capture.json", PinholeCapture("ball", "", "draft", tuple(views)).to_json())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(nerf_settings.CPU, "draft", SMALL)
        reconstruct(Reconstruct(workspace=str(root), preset="draft", device="cpu"), Reporter())
    return root


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return photographed(tmp_path_factory.mktemp("method") / "ws")


@pytest.fixture(scope="module")
def transparent(tmp_path_factory):
    return photographed(tmp_path_factory.mktemp("method") / "transparent", alpha=True)


@pytest.fixture
def editor(monkeypatch):
    made = RecordingEditor()
    for module in (methods, baselines):
        monkeypatch.setattr(module, "load_editor", lambda *_: made)
    for preset, settings in (("draft", SMALL), ("standard", OTHER)):
        monkeypatch.setitem(nerf_settings.CPU, preset, settings)
    return made


def request_for(workspace, name, **more):
    more = {"rounds": 2, "seed": 7, "preset": "draft", "noise_schedule": "uniform", **more}
    more = {"editing_method": "iterative", **more}
    return Edit(
        workspace=str(workspace), name=name, instruction="make it night", editor="recorded", device="cpu", **more
    )


@dataclass
class Moment:
    """Before and after an edit of one view."""

    step: int
    weights: dict
    before: list
    after: list | None = None


def watched(method):
    """The method, and in its `moments` what the scene and the dataset were round every edit; `last` is the run."""

    class Watched(method):
        moments: list = []
        last = None

        def edit_next_views(self, count=1):
            Watched.last = self
            images = lambda: [self.trainer.dataset.image(view) for view in range(len(self.trainer.dataset))]
            weights = {name: value.clone() for name, value in self.trainer.model.state_dict().items()}
            self.moments.append(Moment(self.trainer.step_count, weights, images()))
            super().edit_next_views(count)
            self.moments[-1].after = images()

        def step(self):
            Watched.last = self
            super().step()

    return Watched


def cameras():
    return [look_at(c.position, size=SIZES[i]) for i, c in enumerate(ring(5)) if i != HELD_OUT]


def names():
    return [f"photo {index}" for index in range(5) if index != HELD_OUT]


def photos_of(workspace):
    """The training views' photos (3, height, width) over white."""
    photos = []
    for index in range(5):
        pixels = torch.from_numpy(np.asarray(Image.open(workspace / "images" / f"{index}.png"), np.float32) / 255)
        color, alpha = pixels[..., :3], pixels[..., 3:] if pixels.shape[-1] == 4 else torch.ones(1)
        photos.append((color * alpha + 1 - alpha).permute(2, 0, 1))
    return [photo for index, photo in enumerate(photos) if index != HELD_OUT]


def seen_by(workspace, weights, camera):
    """What a reconstruction with these weights shows a camera, (3, height, width), rendered plainly."""
    state = read_checkpoint(Workspace(workspace).reconstruction)[1]
    model = NerfModel(nerf_settings.NerfSettings.from_json(state["settings"]), near=state["near"])
    model.load_state_dict(weights)
    transform = SceneTransform(tuple(state["transform"]["center"]), state["transform"]["scale"])
    scene = Scene(model.eval(), transform, None, "cpu", state["has_alpha"])
    return scene.render(camera).rgb_srgb.permute(2, 0, 1)


def noise_of(seed, view, edit_round):
    return tuple(torch.randn(4, generator=noise_generator(seed, view, edit_round)).tolist())


def order_of(editor, workspace):
    """Which view each call was conditioned on, told by its photo."""
    photos = photos_of(workspace)
    found = []
    for call in editor.calls:
        matches = [
            view
            for view, photo in enumerate(photos)
            if photo.shape == call.original.shape and torch.allclose(photo, call.original, atol=1e-6)
        ]
        assert len(matches) == 1, "not conditioned on an original photo"
        found += matches
    return found


def test_an_edit_gets_the_render_of_the_moment_and_the_original_photo(workspace, editor):
    method = watched(DatasetUpdate)
    methods.edit(request_for(workspace, "moment"), Reporter(), method)
    order = order_of(editor, workspace)
    assert len(order) == 8 and sorted(order[:4]) == sorted(order[4:]) == [0, 1, 2, 3]
    assert editor.instruction == "make it night"
    renders = []
    for view, call, moment in zip(order, editor.calls, method.moments):
        expected = seen_by(workspace, moment.weights, cameras()[view])
        assert torch.allclose(call.render, expected, atol=1e-5), "the view's render from the weights as they are"
        renders.append(call.render)
    for first, second in zip(range(4), range(4, 8)):
        assert (renders[first] - renders[second]).abs().mean() > 0.01, "the weights change between two rounds"
    assert len(editor.encoded) == 4, "every photo is encoded once"


def test_the_answer_takes_the_place_of_its_view_alone_and_stays(workspace, editor):
    method = watched(DatasetUpdate)
    methods.edit(request_for(workspace, "place"), Reporter(), method)
    order = order_of(editor, workspace)
    for view, call, moment in zip(order, editor.calls, method.moments):
        for other in range(4):
            wanted = call.answer.permute(1, 2, 0) if other == view else moment.before[other]
            assert torch.allclose(moment.after[other], wanted, atol=1e-6)
    for before, after in zip(method.moments, method.moments[1:]):
        assert all(torch.equal(a, b) for a, b in zip(before.after, after.before)), "training changes no photo"
    folder = Workspace(workspace).edit("place")
    colors = read_checkpoint(folder)[0]["dataset"]
    assert torch.equal(colors, torch.cat([(image * 255).round().to(torch.uint8).view(-1, 3) for image in moment.after]))
    for view, call in zip(order[4:], editor.calls[4:]):
        saved = np.asarray(Image.open(folder / "dataset" / f"{names()[view]}.png"))
        assert np.array_equal(saved, (call.answer * 255).round().permute(1, 2, 0).numpy())
    shown = np.asarray(Image.open(folder / "preview.png"), np.float32) / 255
    call, width = editor.calls[-1], SIZES[[0, 2, 3, 4][order[-1]]][0]
    for place, picture in enumerate((call.original, call.render, call.answer)):
        part = shown[:, place * width : (place + 1) * width]
        assert np.abs(part - picture.permute(1, 2, 0).numpy()).max() < 0.51 / 255


@pytest.mark.parametrize("noise", ["uniform", "falling"])
def test_every_edit_has_noise_of_its_own_and_the_level_of_the_schedule(workspace, editor, noise):
    methods.edit(request_for(workspace, f"noise-{noise}", noise_schedule=noise), Reporter(), DatasetUpdate)
    order, schedule = order_of(editor, workspace), Schedule(4, 2, 3, 7, noise)
    assert order == [schedule.view(number) for number in range(8)]
    assert [call.noise_level for call in editor.calls] == [schedule.noise_level(number) for number in range(8)]
    assert [call.noise for call in editor.calls] == [
        noise_of(7, view, number // 4) for number, view in enumerate(order)
    ]
    assert len({call.noise for call in editor.calls}) == 8


def test_a_view_is_edited_every_edit_rate_steps_and_then_all_settle(workspace, editor):
    method = watched(DatasetUpdate)
    state = methods.edit(request_for(workspace, "rate"), Reporter(), method)
    assert [moment.step for moment in method.moments] == [0, 3, 6, 9, 12, 15, 18, 21]
    assert state["step"] == state["total_steps"] == 30, "a fifth of all steps is left when all is edited"
    other = watched(DatasetUpdate)
    state = methods.edit(request_for(workspace, "other-rate", preset="standard", rounds=None), Reporter(), other)
    assert [moment.step for moment in other.moments] == list(range(0, 48, 4)) and state["step"] == 60


def told(request, method):
    """What an edit says while it is made, without repetitions, and its (done, total, unit) in the order told."""
    events = []
    methods.edit(request, Reporter(lambda event: events.append(event) if isinstance(event, Progress) else None), method)
    return list(dict.fromkeys(event.message for event in events)), [(e.done, e.total, e.unit) for e in events]


def test_what_an_edit_says_of_itself(workspace, editor):
    levels = [Schedule(4, 2, 3, 7, "uniform").noise_level(number) for number in range(8)]
    messages, steps = told(request_for(workspace, "telling"), DatasetUpdate)
    expected = [f"Edit {number + 1} of 8, noise {level:.2f}" for number, level in enumerate(levels)]
    assert messages == [*expected, "Settling"]
    assert steps == [(step, 30, "step") for step in range(30)]
    messages, _ = told(request_for(workspace, "telling once", rounds=1), OneTimeUpdate)
    assert messages == [*(f"Edit {number} of 4, noise 1.00" for number in range(1, 5)), "Settling"]


@pytest.mark.parametrize("method", ["iterative", "per-frame"])
def test_the_requests_negative_prompt_reaches_the_editor_and_is_noted(workspace, editor, method):
    editor.model = catalogue.INSTRUCT_PIX2PIX
    run_method(method, request_for(workspace, "avoiding", rounds=1, negative_prompt=" fog "), Reporter())
    assert editor.negative_prompt.strip() == "fog"
    if method != "per-frame":
        record = json.loads((Workspace(workspace).edit("avoiding") / "edit.json").read_text())
        assert record["negative_prompt"] == record["provenance"]["settings"]["negative_prompt"] == "fog"
    run_method(method, request_for(workspace, "plain", rounds=1), Reporter())
    assert editor.negative_prompt == ""
    if method != "per-frame":  # what edits of before said of themselves
        assert "negative_prompt" not in json.loads((Workspace(workspace).edit("plain") / "edit.json").read_text())


def test_a_model_that_takes_no_negative_prompt_says_so_before_anything_is_made(workspace, editor):
    with pytest.raises(In2nError) as refused:
        run_method("iterative", request_for(workspace, "refused", negative_prompt="fog"), Reporter())
    assert refused.value.code == "no_negative_prompt" and not editor.calls
    assert not Workspace(workspace).edit("refused").exists()


@pytest.mark.parametrize("scales", [(4.5, 1.75), (None, None), (None, 2.0), (0.0, 0.0)])
@pytest.mark.parametrize("method", ["iterative", "one-time", "score-distillation", "per-frame"])
def test_the_requests_guidance_reaches_the_editor(workspace, editor, method, scales):
    text, image = scales
    name = f"{method}-{text}-{image}"
    request = request_for(workspace, name, rounds=1, guidance_text=text, guidance_image=image)
    scene = run_method(method, request, Reporter())
    if method == "per-frame":
        scene.render(cameras()[0])
    calls = editor.calls + editor.distilled
    chosen = lambda given, default: (given,) if given is not None else (None, default)
    assert calls
    for call in calls:
        assert call.guidance_text in chosen(text, editor.guidance_text)
        assert call.guidance_image in chosen(image, editor.guidance_image)
        assert getattr(call, "steps", None) is None, "as many denoising steps as the editor itself takes"
    if method != "per-frame":
        record = json.loads((Workspace(workspace).edit(name) / "edit.json").read_text())
        assert record["guidance_text"] == (6.0 if text is None else text)
        assert record["guidance_image"] == (1.25 if image is None else image)


def test_editing_trains_by_l1_from_the_reconstruction_with_the_presets_sizes(workspace, editor):
    method = watched(DatasetUpdate)
    methods.edit(request_for(workspace, "sizes", preset="standard"), Reporter(), method)
    tensors, state = read_checkpoint(Workspace(workspace).reconstruction)
    weights = model_weights(tensors)
    assert all(torch.equal(weights[name], value) for name, value in method.moments[0].weights.items())
    trainer = method.last.trainer
    assert (trainer.loss, trainer.learning_rate, trainer.generator.initial_seed()) == ("l1", 0.25, 7)
    assert trainer.settings == replace(SMALL, rays=96, edit_rate=4, edit_learning_rate=0.25, edit_rounds=3)
    assert trainer.model.near == state["near"] and trainer.total_steps == 40
    photos = photos_of(workspace)
    for view, image in enumerate(method.moments[0].before):
        assert torch.allclose(image.permute(2, 0, 1), photos[view], atol=1e-6)


def test_what_an_edit_costs_is_counted_over_all_sittings(workspace, editor):
    asked = iter(range(10**6))
    stopping = Reporter(cancelled=lambda: len(editor.calls) == 3 and next(asked) > 0)
    with pytest.raises(Cancelled):
        methods.edit(request_for(workspace, "sittings"), stopping, DatasetUpdate)
    assert len(editor.calls) == 3
    half = read_checkpoint(Workspace(workspace).edit("sittings"))[1]
    assert half["edits_done"] == 3 and half["unet_evaluations"] == 9 and not half["done"]
    editor.unet_evaluations = 0
    state = methods.edit(request_for(workspace, "sittings"), Reporter(), DatasetUpdate)
    assert state["unet_evaluations"] == 24 and len(editor.calls) == 8 and state["edits_done"] == 8
    assert state["seconds"] >= half["seconds"] and state["cpu_seconds"] >= half["cpu_seconds"] > 0
    assert [call.noise for call in editor.calls] == [
        noise_of(7, view, number // 4) for number, view in enumerate(order_of(editor, workspace))
    ]


def test_an_edit_of_an_edit_begins_with_its_scene_and_is_conditioned_on_its_photos(workspace, editor):
    methods.edit(request_for(workspace, "parent", rounds=1), Reporter(), DatasetUpdate)
    tensors, _ = read_checkpoint(Workspace(workspace).edit("parent"))
    edited = {call.original.shape: call.answer for call in editor.calls}
    editor.calls.clear(), editor.encoded.clear()
    method = watched(DatasetUpdate)
    methods.edit(request_for(workspace, "child", parent="parent"), Reporter(), method)
    assert len(editor.calls) == 8 and len(editor.encoded) == 4
    for call in editor.calls:
        assert torch.allclose(call.original, edited[call.original.shape], atol=1e-6)
    first = method.moments[0]
    assert all(torch.equal(model_weights(tensors)[name], value) for name, value in first.weights.items())
    assert torch.equal(torch.cat([(i * 255).round().byte().view(-1, 3) for i in first.before]), tensors["dataset"])


def test_photos_with_alpha_are_edited_over_white_and_keep_their_alpha(transparent, editor):
    method = watched(DatasetUpdate)
    methods.edit(request_for(transparent, "alpha"), Reporter(), method)
    order = order_of(editor, transparent)
    for view, call, moment in zip(order, editor.calls, method.moments):
        expected = seen_by(transparent, moment.weights, cameras()[view])
        assert torch.allclose(call.render, expected, atol=1e-5)
        color, alpha = moment.after[view].split([3, 1], -1)
        assert torch.equal(alpha, moment.before[view][..., 3:])
        over_white, answer = color * alpha + 1 - alpha, call.answer.permute(1, 2, 0)
        reachable = torch.maximum(answer, 1 - alpha)  # over white nothing is darker than what alpha lets through
        assert (over_white - reachable).abs().max() < 1 / 255
    assert (alpha < 0.5).any() and (alpha == 1).any()


def test_one_time_edits_from_pure_noise_before_all_training(workspace, editor):
    method = watched(OneTimeUpdate)
    methods.edit(request_for(workspace, "one-time"), Reporter(), method)
    order = order_of(editor, workspace)
    assert sorted(order) == [0, 1, 2, 3] and [moment.step for moment in method.moments] == [0] * 4
    assert [call.noise_level for call in editor.calls] == [1.0] * 4
    assert [call.noise for call in editor.calls] == [noise_of(7, view, 0) for view in order]


def test_per_frame_edits_the_unedited_render_from_pure_noise(workspace, editor):
    scene = run_method("per-frame", request_for(workspace, "frames"), Reporter())
    weights = model_weights(read_checkpoint(Workspace(workspace).reconstruction)[0])
    for frame, camera in enumerate(cameras()[:2]):
        view = scene.render(camera)
        call, expected = editor.calls[frame], seen_by(workspace, weights, camera)
        assert torch.allclose(call.render, expected, atol=1e-5) and torch.equal(call.original, call.render)
        assert call.noise_level == 1.0 and call.noise == noise_of(7, frame, 0)
        assert torch.equal(view.rgb_srgb.permute(2, 0, 1), call.answer)
        assert torch.equal(view.alpha, load_scene(str(workspace), None, "cpu").render(camera).alpha)
    assert scene.unet_evaluations == 6


def test_score_distillation_descends_the_editors_loss_on_whole_views(workspace, editor, monkeypatch):
    monkeypatch.setattr(baselines, "DISTILLATION_RAYS", 1)  # 128 rays: about a third of each view
    method, seen, expected = watched(ScoreDistillation), [], []
    distil = ScoreDistillation._distil

    def recorded(self):
        trainer, generator = self.trainer, torch.Generator()
        generator.set_state(trainer.generator.get_state())
        with pytest.MonkeyPatch.context() as patch, torch.no_grad():
            descend, regularisers = trainer.descend, trainer.regularisers
            patch.setattr(trainer, "descend", lambda loss: seen.append(float(loss.detach())) or descend(loss))
            patch.setattr(trainer, "regularisers", lambda rendered: 0 * regularisers(rendered) + 7.0)
            small = [Camera(c.intrinsics.scaled_to(*size_of(c)), c.camera_to_world) for c in cameras()]
            camera = small[self.schedule.view(trainer.step_count)]
            bundle, _ = camera_bundle(camera, trainer.dataset.transform, "cpu")
            rendered = trainer.model(bundle, generator)
            expected.append(rendered.color + (1 - rendered.alpha)[:, None] * rendered.last_color)
            with torch.enable_grad():
                distil(self)

    def size_of(camera):
        width, height = camera.intrinsics.width, camera.intrinsics.height
        shrink = (128 / (width * height)) ** 0.5
        return round(width * shrink), round(height * shrink)

    monkeypatch.setattr(ScoreDistillation, "_distil", recorded)
    told = []
    methods.edit(request_for(workspace, "distilled", rounds=4), Reporter(told.append), method)
    schedule = Schedule(4, 4, 3, 7, "uniform")
    shown = [event.view for event in told if isinstance(event, Artifact) and event.kind == "image"]
    assert shown == [names()[schedule.view(number)] for number in range(0, 60, 3)], "as often as views are else edited"
    assert len(editor.distilled) == schedule.steps == 60 and not editor.calls
    photos = photos_of(workspace)
    for number, call in enumerate(editor.distilled):
        view = schedule.view(number)
        height, width = call.render.shape[-2:]
        assert 100 < height * width < 160 and call.has_gradient
        assert torch.allclose(call.render.flatten(1).T, expected[number], atol=1e-5)
        photo = torch.nn.functional.interpolate(photos[view][None], (height, width), mode="bilinear", antialias=True)
        assert torch.allclose(call.original, photo[0], atol=1e-5)
        assert call.noise == noise_of(7, view, number) and call.noise_level == schedule.uniform_level(number)
        red = (call.render - torch.tensor([1.0, 0.0, 0.0])[:, None, None]).square().mean()
        assert seen[number] == pytest.approx(float(red) + 7, abs=1e-5)
    red = [float(call.render[0].mean()) for call in editor.distilled]
    assert np.mean(red[-4:]) > np.mean(red[:4]) + 0.1, "the scene turns red"


def test_a_reconstruction_is_measured_on_the_held_out_view(workspace):
    camera = look_at(ring(5)[HELD_OUT].position, size=SIZES[HELD_OUT])
    photo = np.asarray(Image.open(workspace / "images" / f"{HELD_OUT}.png"), np.float64) / 255
    tensors, state = read_checkpoint(Workspace(workspace).reconstruction)
    shown = seen_by(workspace, model_weights(tensors), camera).permute(1, 2, 0).numpy()
    assert state["psnr_db"] == pytest.approx(-10 * np.log10(((shown - photo) ** 2).mean()), abs=0.01)
    assert state["step"] == SMALL.steps and state["settings"] == SMALL.to_json()
